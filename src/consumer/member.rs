//! What every stream holds to end its membership: politely through `close`, or as well as it can when it is dropped.

use std::{sync::Arc, time::Duration};

use super::{Handle, inbox::Inbox};
use crate::{error::CloseError, proto::message::Command};

/// How long the background waits, after a stream was dropped without `close`, for deliveries that are still out.
const DROP_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct Member {
    inbox: Arc<Inbox>,
    handle: Handle,
    closed: bool,
}

impl Member {
    pub(crate) fn new(inbox: Arc<Inbox>, handle: Handle) -> Self {
        Self { inbox, handle, closed: false }
    }

    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    pub(crate) async fn close(mut self, timeout: Duration) -> Result<(), CloseError> {
        self.closed = true;
        let closed = self.inbox.closed();
        self.inbox.command(Command::Close { timeout });
        // The sender goes away unheard only with the runtime, and then there is nobody left to commit anything.
        let unfinished = closed.await.unwrap_or_default();
        if unfinished.in_work.is_empty() && unfinished.uncommitted.is_empty() {
            return Ok(());
        }
        Err(CloseError { in_work: unfinished.in_work, uncommitted: unfinished.uncommitted })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if !self.closed {
            self.inbox.command(Command::Close { timeout: DROP_TIMEOUT });
        }
    }
}
