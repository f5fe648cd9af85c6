//! What was taken out of the buffer, and is not told to the core yet.

use crate::{
    proto::{PartitionHandle, message::Command},
    records::Chunk,
};

/// With so many bytes the core is told, whatever else there is to take.
const BYTES_MAX: usize = 1 << 20;
/// But never with more than this part of the buffer.
const PART_OF_BUFFER: usize = 8;

/// Chunks that were taken: the core may fetch others in their place.
///
/// The core looks at every partition when it is told something, and with a thousand partitions a Fetch brings a thousand small chunks. So it
/// is told of several at a time, as long as there are more to take.
pub(super) struct Taken {
    chunks: Vec<(PartitionHandle, usize)>,
    bytes: usize,
    bytes_max: usize,
}

impl Taken {
    pub(super) fn new(buffer_bytes_max: usize) -> Self {
        Self { chunks: Vec::new(), bytes: 0, bytes_max: BYTES_MAX.min(buffer_bytes_max / PART_OF_BUFFER) }
    }

    pub(super) fn add(&mut self, handle: &PartitionHandle, chunk: &Chunk) {
        self.chunks.push((handle.clone(), chunk.data.len()));
        self.bytes = self.bytes.saturating_add(chunk.data.len());
    }

    /// Whether it is time to tell, also if there are more to take.
    pub(super) fn is_much(&self) -> bool {
        self.bytes >= self.bytes_max
    }

    /// What to tell, if there is anything.
    pub(super) fn tell(&mut self) -> Option<Command> {
        self.bytes = 0;
        told(std::mem::take(&mut self.chunks))
    }
}

/// What to tell of chunks that are thrown away.
pub(super) fn thrown_away(handle: &PartitionHandle, chunks: impl Iterator<Item = Chunk>) -> Option<Command> {
    told(chunks.map(|chunk| (handle.clone(), chunk.data.len())).collect())
}

fn told(chunks: Vec<(PartitionHandle, usize)>) -> Option<Command> {
    (!chunks.is_empty()).then_some(Command::Taken { chunks })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Offset, TopicPartition};

    fn chunk(bytes: usize) -> Chunk {
        let data = vec![0; bytes].into();
        Chunk { data, heads: Vec::new(), aborted: Vec::new(), from: Offset(0), next_offset: Offset(1) }
    }

    #[test]
    fn it_is_told_when_it_is_much_and_each_chunk_once() {
        let handle = PartitionHandle { partition: TopicPartition::new("orders", 0), assignment: 1 };
        let mut taken = Taken::new(8000);
        taken.add(&handle, &chunk(999));
        assert!(!taken.is_much());
        taken.add(&handle, &chunk(1));
        assert!(taken.is_much());
        let Some(Command::Taken { chunks }) = taken.tell() else { panic!("nothing to tell") };
        assert_eq!(chunks, [(handle.clone(), 999), (handle.clone(), 1)]);
        assert!(!taken.is_much() && taken.tell().is_none());
        assert!(!Taken::new(usize::MAX).is_much());
        assert!(thrown_away(&handle, std::iter::empty()).is_none());
    }
}
