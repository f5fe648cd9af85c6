//! Sends records one by one, at a steady pace, each with the time at which it was sent.

use std::{
    io, thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ottla_bench::leaders;

use crate::{
    batch::batch,
    fill::{Load, Pipe, now_ms},
    values::value,
};

/// Sends so many records a second to all partitions in turn, and waits for each to be acknowledged. A value's first eight bytes are the
/// nanoseconds since 1970.
pub(crate) fn pace(bootstrap: &str, topic: &str, load: Load, per_second: u32) -> io::Result<()> {
    let mut pipes = Vec::new();
    for (address, partitions) in leaders(bootstrap, topic)? {
        pipes.push((Pipe::open(&address, topic)?, partitions));
    }
    let since = Instant::now();
    for n in 0..load.records {
        let due = since + Duration::from_secs(1) * n as u32 / per_second;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let leaders = pipes.len() as u64;
        let (pipe, partitions) = &mut pipes[(n % leaders) as usize];
        let partition = partitions[(n / leaders) as usize % partitions.len()];
        let mut value = value(n, load.value_bytes);
        let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        value[..8].copy_from_slice(&now_ns.to_be_bytes());
        pipe.send(vec![(partition, batch([value].into_iter(), now_ms(), load.codec))])?;
        pipe.drain(0)?;
    }
    Ok(())
}
