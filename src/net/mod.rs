//! Sockets and the clock: moves frames between brokers and the sans-IO core, and understands none of them.
//!
//! | file | what it does |
//! |---|---|
//! | [`driver`] | owns the core; the only place that waits for more than one thing |
//! | [`connection`] | one task per connection: resolves, connects, reads and writes frames |
//! | [`pool`] | buffers that frames are read into, used again when the last reader of a frame is done |
//! | [`tls`] | the TLS handshake, and its failures in words |
//! | [`token`] | asks the user's program for tokens |

mod connection;
mod driver;
mod pool;
#[cfg(feature = "__rustls")]
mod tls;
mod token;

use std::time::Duration;

#[cfg(any(fuzzing, test))]
pub(crate) use connection::read_all_frames;
pub(crate) use driver::drive;
#[cfg(feature = "__rustls")]
pub(crate) use tls::TlsClient;
pub(crate) use token::TokenSource;

/// What the I/O side must be told once.
#[derive(Clone, Debug)]
pub(crate) struct NetConfig {
    /// How long resolving a name may take, how long each of its addresses may take to accept a connection, and how long the TLS handshake.
    pub(crate) connect_timeout: Duration,
    /// `None`: connections are not encrypted.
    #[cfg(feature = "__rustls")]
    pub(crate) tls: Option<TlsClient>,
    /// Where tokens come from, if there are any.
    pub(crate) tokens: Option<TokenSource>,
    /// How long one may take to come.
    pub(crate) token_timeout: Duration,
    /// The longest frame that is read; a longer one ends its connection.
    pub(crate) frame_bytes_max: usize,
    /// How many bytes of buffers are kept for later frames while no frame uses them.
    pub(crate) pool_bytes_max: usize,
}

#[cfg(test)]
impl NetConfig {
    pub(crate) fn of_tests() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            #[cfg(feature = "__rustls")]
            tls: None,
            tokens: None,
            token_timeout: Duration::from_secs(5),
            frame_bytes_max: 1000,
            pool_bytes_max: 1000,
        }
    }
}

/// Sends one frame over a connection of its own, and returns the one that comes back, or how the connection ended.
#[cfg(all(test, feature = "__rustls"))]
pub(crate) async fn one_frame(
    id: crate::proto::ConnId,
    addr: crate::proto::BrokerAddr,
    config: NetConfig,
    frame: &'static [u8],
) -> Result<String, crate::proto::Disconnect> {
    use connection::Report;

    let (outgoing, frames) = tokio::sync::mpsc::unbounded_channel();
    let (reports, mut reported) = tokio::sync::mpsc::channel(1);
    tokio::spawn(connection::run(id, addr, config, pool::Pool::new(0), frames, reports));
    loop {
        match reported.recv().await.expect("a connection says how it ends").1 {
            Report::Connected => outgoing.send(frame.into()).expect("it is connected"),
            Report::Frame(frame) => return Ok(String::from_utf8_lossy(&frame).into_owned()),
            Report::Disconnected(why) => return Err(why),
        }
    }
}
