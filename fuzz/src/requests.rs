//! What a client may send to the mock. The mock's own tests replay the seeds of it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_mock::{ConnId, Input, Kafka, Output, Settings};

/// How many bytes the mock may hold for each byte that was sent (a group, say), and besides: 100,000 partitions.
const BYTES_MAX: (usize, usize) = (1 << 10, 96 << 20);
/// How often the mock may want something without anything happening to it.
const OUTPUTS_MAX: usize = 10_000;

/// Sends an input to a broker, and panics where the mock takes more memory than it may. Each frame that it is cut into begins with its
/// length (two bytes); 0 lets a second pass, and what is left over is sent as it is.
pub(crate) fn check(input: &[u8], measure: impl FnOnce(&mut dyn FnMut()) -> u64) {
    let held = measure(&mut || feed(input));
    let (for_each, besides) = BYTES_MAX;
    let allowed = input.len() * for_each + besides;
    assert!(held <= allowed as u64, "{} bytes of requests took {held} bytes of memory, not {allowed} at most", input.len());
}

#[allow(clippy::disallowed_methods, reason = "some moment to begin with: only differences are looked at")]
fn feed(input: &[u8]) {
    let start = Instant::now();
    let mut settings = Settings::default();
    (settings.brokers, settings.request_bytes_max) = (2, 1 << 20);
    let mut kafka = Kafka::new(settings, start, 1_767_225_600_000);
    kafka.create_topic("orders", 2);
    kafka.append("orders", 0, ["one", "two"]);
    let (mut now, mut conn) = (start, ConnId(1));
    kafka.handle(now, Input::Connected(conn, 1));
    let mut rest = input;
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        let (frame, after) = after.split_at(length.min(after.len()));
        rest = after;
        if length == 0 {
            now += Duration::from_secs(1);
            kafka.handle(now, Input::Tick);
        } else {
            let sent = [&(frame.len() as u32).to_be_bytes(), frame].concat();
            kafka.handle(now, Input::Received(conn, Bytes::from(sent)));
        }
        let mut outputs = 0;
        loop {
            match kafka.poll() {
                Output::Wait(_) => break,
                Output::Disconnect(of) if of == conn => {
                    conn = ConnId(conn.0 + 1);
                    kafka.handle(now, Input::Connected(conn, 1));
                }
                _ => {}
            }
            outputs += 1;
            assert!(outputs < OUTPUTS_MAX, "a busy loop");
        }
    }
    kafka.handle(now, Input::Received(conn, Bytes::copy_from_slice(rest)));
}
