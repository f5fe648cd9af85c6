//! Where each leader's records begin.

/// The leader epochs of a log, oldest first: both numbers only go up.
#[derive(Clone, Debug, Default)]
pub(super) struct Epochs(Vec<Epoch>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Epoch {
    epoch: i32,
    start: i64,
}

impl Epochs {
    pub(super) fn latest(&self) -> Option<i32> {
        self.0.last().map(|last| last.epoch)
    }

    /// Begins an epoch; those before it that have written nothing are forgotten.
    pub(super) fn begin(&mut self, epoch: i32, start: i64) {
        while self.0.pop_if(|last| last.epoch >= epoch || last.start >= start).is_some() {}
        self.0.push(Epoch { epoch, start });
    }

    /// Says where an epoch ended, as the greatest epoch up to it that is known, and the first offset that is not its own.
    pub(super) fn end_of(&self, epoch: i32, log_end: i64) -> Option<(i32, i64)> {
        if self.latest()? == epoch {
            return Some((epoch, log_end));
        }
        let higher = self.0.partition_point(|known| known.epoch <= epoch);
        let end = self.0.get(higher)?.start;
        let floor = higher.checked_sub(1).map_or(epoch, |floor| self.0[floor].epoch);
        Some((floor, end))
    }

    /// Says in which epoch the first record of a log that starts here was written.
    pub(super) fn earliest(&self, log_start: i64) -> Option<i32> {
        self.0.first().filter(|first| first.start <= log_start).map(|first| first.epoch)
    }

    pub(super) fn forget_before(&mut self, log_start: i64) {
        let kept = self.0.partition_point(|known| known.start <= log_start).saturating_sub(1);
        self.0.drain(..kept);
        if let Some(first) = self.0.first_mut().filter(|first| first.start < log_start) {
            first.start = log_start;
        }
    }

    pub(super) fn forget_from(&mut self, log_end: i64) {
        while self.0.pop_if(|last| last.start >= log_end).is_some() {}
    }
}
