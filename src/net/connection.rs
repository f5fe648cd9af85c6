//! One connection: resolves the broker's name, connects to one of its addresses, shakes hands if that is to be encrypted, and moves frames.

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, time::Duration};

use bytes::{BufMut, Bytes};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, lookup_host},
    sync::mpsc,
    time::timeout,
};

use super::{
    NetConfig,
    pool::{Pool, room_for},
};
use crate::proto::{BrokerAddr, ConnId, Disconnect};

/// How many addresses of one name are tried.
const ADDRESSES_MAX: usize = 8;
/// How much memory an announced length gets before any byte of it has come.
const AHEAD_MAX: usize = 1024 * 1024;
/// How long to read on when nothing can be written any more: who hangs up may have said why.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What the driver hears of a connection. After `Disconnected` nothing more comes.
#[derive(Debug, PartialEq)]
pub(super) enum Report {
    Connected,
    Frame(Bytes),
    Disconnected(Disconnect),
}

/// Lives as long as the connection; stopped by dropping it.
pub(super) async fn run(
    id: ConnId,
    addr: BrokerAddr,
    config: NetConfig,
    pool: Pool,
    outgoing: mpsc::UnboundedReceiver<Bytes>,
    reports: mpsc::Sender<(ConnId, Report)>,
) {
    let talk = Talk { id, frame_bytes_max: config.frame_bytes_max, pool, reports: &reports };
    let ended = match connect(&addr, &config).await {
        Ok(stream) => talk.over(stream, &addr, &config, outgoing).await,
        Err(why) => Disconnect::Unreachable(why),
    };
    // A driver that is gone needs no reports.
    let _ = reports.send((id, Report::Disconnected(ended))).await;
}

/// What the two halves of a connection need.
struct Talk<'a> {
    id: ConnId,
    frame_bytes_max: usize,
    pool: Pool,
    reports: &'a mpsc::Sender<(ConnId, Report)>,
}

impl Talk<'_> {
    #[cfg(feature = "__rustls")]
    async fn over(
        self,
        stream: TcpStream,
        addr: &BrokerAddr,
        config: &NetConfig,
        outgoing: mpsc::UnboundedReceiver<Bytes>,
    ) -> Disconnect {
        let Some(tls) = &config.tls else { return self.over_tcp(stream, outgoing).await };
        match tls.shake_hands(&addr.host, stream, config.connect_timeout).await {
            Ok(stream) => {
                let (reader, writer) = tokio::io::split(stream);
                let words = |error: io::Error| tls.explain(&error).map_or_else(|| closed(error), Disconnect::Tls);
                self.both_ways(reader, writer, outgoing, words).await
            }
            Err(why) => why,
        }
    }

    #[cfg(not(feature = "__rustls"))]
    async fn over(
        self,
        stream: TcpStream,
        _addr: &BrokerAddr,
        _config: &NetConfig,
        outgoing: mpsc::UnboundedReceiver<Bytes>,
    ) -> Disconnect {
        self.over_tcp(stream, outgoing).await
    }

    async fn over_tcp(self, mut stream: TcpStream, outgoing: mpsc::UnboundedReceiver<Bytes>) -> Disconnect {
        let (reader, writer) = stream.split();
        self.both_ways(reader, writer, outgoing, closed).await
    }

    /// Moves frames until one way ends, and says why it did.
    async fn both_ways(
        self,
        reader: impl AsyncRead + Unpin,
        writer: impl AsyncWrite + Unpin,
        outgoing: mpsc::UnboundedReceiver<Bytes>,
        words: impl Fn(io::Error) -> Disconnect,
    ) -> Disconnect {
        let _ = self.reports.send((self.id, Report::Connected)).await;
        let mut read = pin!(self.read_frames(reader, &words));
        let why = tokio::select! {
            Err(why) = &mut read => return why,
            written = write_frames(writer, outgoing, &words) => match written {
                Ok(()) => return Disconnect::Closed("closed here".to_owned()),
                Err(why) => why,
            },
        };
        match timeout(LAST_WORDS, read).await {
            Ok(Err(last)) => last,
            Err(_) => why,
        }
    }

    async fn read_frames(
        &self,
        mut reader: impl AsyncRead + Unpin,
        words: &impl Fn(io::Error) -> Disconnect,
    ) -> Result<Infallible, Disconnect> {
        loop {
            let frame = read_frame(&mut reader, self.frame_bytes_max, &self.pool, words).await?;
            if self.reports.send((self.id, Report::Frame(frame))).await.is_err() {
                return Err(Disconnect::Closed("closed here".to_owned()));
            }
        }
    }
}

async fn connect(addr: &BrokerAddr, config: &NetConfig) -> Result<TcpStream, String> {
    let limit = config.connect_timeout;
    let resolved = timeout(limit, lookup_host((&*addr.host, addr.port))).await;
    let resolved = resolved.map_err(|_| format!("its name was not resolved within {limit:?}"))?;
    let mut addresses: Vec<SocketAddr> = resolved.map_err(|error| format!("its name does not resolve: {error}"))?.collect();
    addresses.dedup();
    addresses.truncate(ADDRESSES_MAX);
    let mut errors = Vec::new();
    for address in addresses {
        match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Requests are small, and each is waited for. A socket without this is slower, but works.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => errors.push(format!("{address}: {error}")),
            Err(_) => errors.push(format!("{address}: no connection within {limit:?}")),
        }
    }
    Err(if errors.is_empty() { "its name has no address".to_owned() } else { errors.join("; ") })
}

/// Writes what comes, until nothing more will: then the connection is to be closed here.
async fn write_frames(
    mut writer: impl AsyncWrite + Unpin,
    mut outgoing: mpsc::UnboundedReceiver<Bytes>,
    words: &impl Fn(io::Error) -> Disconnect,
) -> Result<(), Disconnect> {
    while let Some(frame) = outgoing.recv().await {
        writer.write_all(&frame).await.map_err(words)?;
        // TLS keeps what the socket does not take at once.
        writer.flush().await.map_err(words)?;
    }
    Ok(())
}

/// Reads the next frame, without its length, and no byte beyond it.
async fn read_frame(
    reader: &mut (impl AsyncRead + Unpin),
    frame_bytes_max: usize,
    pool: &Pool,
    words: &impl Fn(io::Error) -> Disconnect,
) -> Result<Bytes, Disconnect> {
    let mut head = [0; 4];
    let mut got = 0;
    while got < head.len() {
        match reader.read(&mut head[got..]).await.map_err(words)? {
            0 if got == 0 => return Err(Disconnect::Closed("closed by the broker".to_owned())),
            0 => return Err(Disconnect::Closed(format!("closed by the broker after {got} bytes of a frame's length"))),
            more => got += more,
        }
    }
    let length = i32::from_be_bytes(head);
    let length = match usize::try_from(length) {
        Ok(length) if length <= frame_bytes_max => length,
        _ => return Err(Disconnect::BadFrame(what_it_looks_like(head, frame_bytes_max))),
    };
    let mut buffer = pool.take(length);
    while buffer.len() < length {
        let missing = length - buffer.len();
        if buffer.capacity() < length && buffer.capacity() == buffer.len() {
            // At most as much again as has come: a length is only a claim.
            buffer.reserve_exact((room_for(length) - buffer.len()).min(buffer.len().max(AHEAD_MAX)));
        }
        if reader.read_buf(&mut (&mut buffer).limit(missing)).await.map_err(words)? == 0 {
            let got = buffer.len();
            return Err(Disconnect::Closed(format!("closed by the broker after {got} of a frame's {length} bytes")));
        }
    }
    Ok(pool.freeze(buffer))
}

/// Says what speaks there, when its first bytes are no length of a frame.
fn what_it_looks_like(head: [u8; 4], frame_bytes_max: usize) -> String {
    match head {
        [b'H', b'T', b'T', b'P'] => "it answers in HTTP".to_owned(),
        // A TLS record: alert or handshake, version 3.x.
        [0x15 | 0x16, 0x03, ..] => "it answers in TLS: the listener wants TLS".to_owned(),
        [b'S', b'S', b'H', b'-'] => "it is an SSH server".to_owned(),
        _ => {
            let length = i32::from_be_bytes(head);
            format!(
                "it announces a frame of {length} bytes (at most {frame_bytes_max} are read); its first bytes are \"{}\"",
                head.escape_ascii()
            )
        }
    }
}

fn closed(error: io::Error) -> Disconnect {
    Disconnect::Closed(match error.kind() {
        // TLS tells an end in order from one that may have been an attacker's; in Kafka's protocol frames do.
        io::ErrorKind::UnexpectedEof => "closed by the broker".to_owned(),
        _ => error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use tokio::io::{ReadBuf, duplex};

    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        [&(body.len() as i32).to_be_bytes()[..], body].concat()
    }

    /// Reads frames from `bytes` until the end, with frames of at most 1000 bytes.
    async fn read_all(mut reader: impl AsyncRead + Unpin) -> (Vec<Bytes>, Disconnect) {
        let pool = Pool::new(1 << 20);
        let mut frames = Vec::new();
        loop {
            match read_frame(&mut reader, 1000, &pool, &closed).await {
                Ok(frame) => frames.push(frame),
                Err(end) => return (frames, end),
            }
        }
    }

    #[track_caller]
    fn assert_end(end: &Disconnect, expected: &str) {
        assert_eq!(format!("{end:?}"), expected);
    }

    #[tokio::test]
    async fn a_frame_may_come_byte_by_byte() {
        let (mut broker, client) = duplex(1);
        let written = async move {
            for byte in [frame(b"hello"), frame(b""), frame(&[9; 1000])].concat() {
                broker.write_all(&[byte]).await.unwrap();
            }
        };
        let ((frames, end), ()) = tokio::join!(read_all(client), written);
        assert_eq!(frames, [&b"hello"[..], b"", &[9; 1000]]);
        assert_end(&end, r#"Closed("closed by the broker")"#);
    }

    #[tokio::test]
    async fn two_frames_may_come_at_once() {
        let bytes = [frame(b"one"), frame(b"two")].concat();
        let (frames, _) = read_all(&bytes[..]).await;
        assert_eq!(frames, ["one", "two"]);
    }

    #[tokio::test]
    async fn what_is_no_frame_is_named() {
        for (bytes, expected) in [
            (&b"HTTP/1.1 400 Bad Request"[..], "it answers in HTTP"),
            (b"\x15\x03\x03\0\x02\x02\x46", "it answers in TLS: the listener wants TLS"),
            (b"SSH-2.0-OpenSSH", "it is an SSH server"),
            (
                b"\0\0\x03\xe9",
                r#"it announces a frame of 1001 bytes (at most 1000 are read); its first bytes are "\x00\x00\x03\xe9""#,
            ),
            (
                b"\xff\xff\xff\xff",
                r#"it announces a frame of -1 bytes (at most 1000 are read); its first bytes are "\xff\xff\xff\xff""#,
            ),
        ] {
            let (frames, end) = read_all(bytes).await;
            assert!(frames.is_empty());
            assert_eq!(end, Disconnect::BadFrame(expected.to_owned()));
        }
    }

    #[tokio::test]
    async fn an_end_within_a_frame_is_told_from_one_between_frames() {
        for (bytes, expected) in [
            (&b""[..], r#"Closed("closed by the broker")"#),
            (b"\0\0", r#"Closed("closed by the broker after 2 bytes of a frame's length")"#),
            (b"\0\0\0\x05abc", r#"Closed("closed by the broker after 3 of a frame's 5 bytes")"#),
        ] {
            assert_end(&read_all(bytes).await.1, expected);
        }
    }

    /// Gives the bytes it has and then nothing, and remembers the largest room that was offered.
    struct Greedy {
        bytes: Vec<u8>,
        given: usize,
        offered_max: usize,
    }

    impl AsyncRead for Greedy {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            self.offered_max = self.offered_max.max(room.remaining());
            let end = self.bytes.len().min(self.given + room.remaining());
            room.put_slice(&self.bytes[self.given..end]);
            self.given = end;
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn an_announced_length_gets_little_memory_before_its_bytes_come() {
        const MIB: usize = 1 << 20;
        for (sent, offered) in [(10, MIB), (MIB + 1, MIB), (5 * MIB, 4 * MIB)] {
            let bytes = [&(1_i32 << 30).to_be_bytes()[..], &vec![1; sent]].concat();
            let mut reader = Greedy { bytes, given: 0, offered_max: 0 };
            let end = read_frame(&mut reader, 1 << 30, &Pool::new(0), &closed).await.unwrap_err();
            assert!(end.to_string().contains(&format!("after {sent} of")), "{end}");
            assert!(reader.offered_max <= offered, "{} bytes offered after {sent}", reader.offered_max);
        }
    }

    #[tokio::test]
    async fn a_large_frame_comes_whole_and_its_buffer_serves_the_next() {
        let body: Vec<u8> = (0..5_000_000u32).map(|i| i as u8).collect();
        let pool = Pool::new(1 << 24);
        let bytes = [frame(&body), frame(&body), frame(b"next")].concat();
        let mut reader = &bytes[..];
        let first = read_frame(&mut reader, 1 << 24, &pool, &closed).await.unwrap();
        assert!(first == body);
        let place = first.as_ptr();
        drop(first);
        let second = read_frame(&mut reader, 1 << 24, &pool, &closed).await.unwrap();
        assert!(second == body);
        assert_eq!(second.as_ptr(), place);
        assert_eq!(read_frame(&mut reader, 1 << 24, &pool, &closed).await.unwrap(), "next", "no byte too many was read");
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_is_unreachable() {
        let config = NetConfig { pool_bytes_max: 0, ..NetConfig::of_tests() };
        let addr = BrokerAddr { host: "no\0name".into(), port: 9092 };
        let error = connect(&addr, &config).await.unwrap_err();
        assert!(error.contains("its name does not resolve"), "{error}");
    }
}
