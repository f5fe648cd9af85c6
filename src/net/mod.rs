//! Sockets and the clock: moves frames between brokers and the sans-IO core, and understands none of them.
//!
//! | file | what it does |
//! |---|---|
//! | [`driver`] | owns the core; the only place that waits for more than one thing |
//! | [`connection`] | one task per connection: resolves, connects, reads and writes frames |
//! | [`pool`] | buffers that frames are read into, used again when the last reader of a frame is done |

mod connection;
mod driver;
mod pool;

use std::time::Duration;

#[cfg(any(fuzzing, test))]
pub(crate) use connection::read_all_frames;
pub(crate) use driver::drive;

/// What the I/O side must be told once.
#[derive(Clone, Debug)]
pub(crate) struct NetConfig {
    /// How long resolving a name may take, and how long each of its addresses may take to accept a connection.
    pub(crate) connect_timeout: Duration,
    /// The longest frame that is read; a longer one ends its connection.
    pub(crate) frame_bytes_max: usize,
    /// How many bytes of buffers are kept for later frames while no frame uses them.
    pub(crate) pool_bytes_max: usize,
}
