//! A broker that says what it likes.

use super::{Bearer, Exchange, Next, Scram, ScramHash};
use crate::secret::Secret;

const PASSWORD: &str = "pencil";
/// What seeds can answer to.
const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";

/// Hears messages, each with a zero behind it, in an exchange that has begun, until it is over: then a connection lets go of it. The first
/// byte says which mechanism it is.
pub(crate) fn feed(input: &[u8]) {
    let [mechanism, messages @ ..] = input else { return };
    let scram = |hash| Exchange::Scram(Scram::begin(hash, "user", Secret::new(PASSWORD), NONCE).0);
    let (mut exchange, has_proof) = match mechanism % 3 {
        0 => (scram(ScramHash::Sha256), true),
        1 => (scram(ScramHash::Sha512), true),
        _ => (Exchange::Bearer(Bearer::default()), false),
    };
    let mut sent = 0;
    for message in messages.split(|byte| *byte == 0) {
        match exchange.handle(message) {
            Ok(Next::Send(_)) => {
                sent += 1;
                assert!(sent <= 1, "no mechanism has a third message of the client's");
            }
            Ok(Next::Done) => {
                assert!(!has_proof || sent == 1, "it is over only after the proof");
                return;
            }
            Err(why) => {
                let is_known = messages.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes());
                assert!(is_known || !why.contains(PASSWORD), "a broker's own words may be told, and not the password");
                return;
            }
        }
    }
}
