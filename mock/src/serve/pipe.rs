//! Connections that never leave the process.

use std::sync::Arc;

use tokio::io::DuplexStream;

use super::{Shared, Tasks};

const BUFFER_BYTES: usize = 1 << 20;

/// Connects to a broker through memory.
pub(crate) fn connect(shared: &Arc<Shared>, tasks: &mut Tasks, broker: i32) -> DuplexStream {
    let (client, server) = tokio::io::duplex(BUFFER_BYTES);
    tasks.spawn(Arc::clone(shared).serve(broker, server));
    client
}
