//! What every stream is made of: takes chunks from the inbox, opens them on the user's task, and gives out runs.
//!
//! Checksums, decompression and decoding happen here, one batch at a time, and only for what the user really takes.

use std::{
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
};

use super::{
    acks::Assigned,
    delivery::Batch,
    inbox::Inbox,
    redelivery::Redelivery,
    run::{Run, RunCursor},
};
use crate::{
    error::ConsumeError,
    model::Position,
    proto::PartitionHandle,
    records::{ChunkReader, Codecs, RecordError},
};

/// How to read what was fetched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadSettings {
    pub(crate) read_committed: bool,
    pub(crate) verify_crc: bool,
    pub(crate) decompressed_bytes_max: usize,
}

pub(crate) struct Feed {
    inbox: Arc<Inbox>,
    /// The one partition to read; `None` for all.
    only: Option<PartitionHandle>,
    open: Option<(Arc<Assigned>, ChunkReader)>,
    /// What was handed out as a batch last: perhaps nobody has gone through all of its records yet.
    unchecked: Option<(Arc<Assigned>, Weak<Run>)>,
    codecs: Codecs,
    settings: ReadSettings,
}

/// What comes next.
pub(crate) enum Next {
    Run(Arc<Run>),
    Redelivery(Redelivery),
}

impl Feed {
    pub(crate) fn new(inbox: Arc<Inbox>, only: Option<PartitionHandle>, settings: ReadSettings) -> Self {
        Self { inbox, only, open: None, unchecked: None, codecs: Codecs::new(settings.decompressed_bytes_max), settings }
    }

    pub(crate) fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Gives the next run of records. Nothing is lost when the caller stops polling: a chunk leaves the inbox only in the step that
    /// stores it here.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Next, ConsumeError>>> {
        // Once per run, not per record: a stream that always has something must still let other tasks run.
        let coop = ready!(tokio::task::coop::poll_proceed(cx));
        self.check_last_batch();
        loop {
            if let Some((assigned, _)) = &self.open
                && assigned.is_fenced()
            {
                self.open = None;
            }
            if let Some(urgent) = self.take_urgent() {
                coop.made_progress();
                return Poll::Ready(Some(urgent.map(Next::Redelivery)));
            }
            if self.open.is_none() {
                match ready!(self.inbox.poll_take(cx, self.only.as_ref())) {
                    Some((assigned, chunk)) => {
                        let reader = ChunkReader::new(chunk, self.settings.read_committed, self.settings.verify_crc);
                        self.open = Some((assigned, reader));
                    }
                    // What ended it may have left a last word.
                    None => return Poll::Ready(self.take_urgent().map(|urgent| urgent.map(Next::Redelivery))),
                }
            }
            let Some((assigned, reader)) = &mut self.open else { continue };
            match reader.next_segment(&mut self.codecs) {
                Some(Ok(segment)) => {
                    let run = assigned.open(segment);
                    // Registered first, then looked at the fence: a drain that did not see the run is one whose fence is seen here.
                    if run.is_empty() || assigned.is_fenced() {
                        continue;
                    }
                    coop.made_progress();
                    return Poll::Ready(Some(Ok(Next::Run(run))));
                }
                Some(Err(error)) => {
                    let assigned = Arc::clone(assigned);
                    self.give_up(&assigned, &error);
                }
                None => self.open = None,
            }
        }
    }

    /// Where the chunk ends that a run came from; the run's own end, if it was the chunk's last.
    pub(crate) fn end_of_chunk(&self, run: &Run) -> Position {
        let open = self.open.as_ref().filter(|(assigned, _)| std::ptr::eq(&**assigned, &**run.assigned()));
        open.map_or(run.next(), |(_, reader)| reader.chunk().end())
    }

    /// Takes what must not wait for the end of the current run: an error, a record to deliver again.
    pub(crate) fn take_urgent(&mut self) -> Option<Result<Redelivery, ConsumeError>> {
        if self.inbox.is_urgent() { self.inbox.take_urgent(self.only.as_ref()) } else { None }
    }

    /// Lets go of a run that is at its end, or at a record that cannot be decoded: that is as bad as a batch that cannot.
    pub(crate) fn finish(&mut self, mut cursor: RunCursor) {
        if let Some(error) = cursor.take_error() {
            self.give_up(cursor.run().assigned(), &error);
        }
    }

    /// Makes one batch of a run.
    pub(crate) fn whole_batch(&mut self, run: &Arc<Run>) -> Option<Batch> {
        match run.whole_batch() {
            Ok(batch) => {
                self.unchecked = Some((Arc::clone(run.assigned()), Arc::downgrade(run)));
                Some(batch)
            }
            Err(error) => {
                self.give_up(run.assigned(), &error);
                None
            }
        }
    }

    /// Nothing is handed out behind a record that cannot be decoded. One of the last batch is found here, if nobody has found it before.
    fn check_last_batch(&mut self) {
        let Some((assigned, run)) = self.unchecked.take() else { return };
        if let Some(run) = run.upgrade() {
            run.readable_end();
        }
        if let Some(error) = assigned.take_unreadable() {
            self.give_up(&assigned, &error);
        }
    }

    /// Throws away what comes after something that cannot be read.
    fn give_up(&mut self, assigned: &Assigned, error: &RecordError) {
        self.open = None;
        self.inbox.corrupt(assigned.handle(), error);
    }
}
