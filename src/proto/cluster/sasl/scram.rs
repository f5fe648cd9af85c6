//! SCRAM (RFC 5802, RFC 7677) without channel binding, which Kafka does not know.
//!
//! ```text
//! client                                        broker
//!   n,,n=USER,r=NONCE          ──────────►
//!                              ◄──────────   r=NONCE+THEIRS,s=SALT,i=ITERATIONS
//!   c=biws,r=NONCE+THEIRS,p=PROOF  ──────►
//!                              ◄──────────   v=SIGNATURE
//! ```
//!
//! The password is never sent, and a broker that does not know it (or what Kafka keeps in its place) cannot sign: this client ends the
//! connection then. As in Java, names and passwords are taken as they are, without the preparation of RFC 4013.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use hmac::{EagerHash, Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::Next;
use crate::secret::Secret;

/// Fewer are forbidden (RFC 7677): a broker that asks for less would learn what helps to guess the password.
const ITERATIONS_MIN: u32 = 4096;
/// More would keep this client busy for longer than an honest broker can want: Kafka's own limit is 16,384.
const ITERATIONS_MAX: u32 = 131_072;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScramHash {
    Sha256,
    Sha512,
}

/// One exchange, and how far it has got.
#[derive(Debug)]
pub(in crate::proto::cluster) struct Scram(State);

#[derive(Debug)]
enum State {
    /// The first message is sent.
    Begun { hash: ScramHash, password: Secret, nonce: String, bare: String },
    /// The proof is sent, and this is what the broker has to sign with.
    Proved { signature: Secret },
    /// Nothing more is expected.
    Over,
}

impl Scram {
    /// Starts, with the first message.
    pub(super) fn begin(hash: ScramHash, user: &str, password: Secret, nonce: &str) -> (Self, Secret) {
        // These two have a meaning of their own in the messages.
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={user},r={nonce}");
        let first = Secret::new(format!("n,,{bare}"));
        (Self(State::Begun { hash, password, nonce: nonce.to_owned(), bare }), first)
    }

    pub(super) fn handle(&mut self, message: &[u8]) -> Result<Next, String> {
        let text = str::from_utf8(message).map_err(|_| "its SCRAM message is no text".to_owned())?;
        match std::mem::replace(&mut self.0, State::Over) {
            State::Begun { hash, password, nonce, bare } => {
                let challenge = Challenge::parse(text, &nonce)?;
                let without_proof = format!("c={},r={}", BASE64.encode("n,,"), challenge.nonce);
                let signed = format!("{bare},{text},{without_proof}");
                let (proof, signature) = match hash {
                    ScramHash::Sha256 => prove::<Sha256>(&password, &challenge, signed.as_bytes()),
                    ScramHash::Sha512 => prove::<Sha512>(&password, &challenge, signed.as_bytes()),
                };
                self.0 = State::Proved { signature };
                Ok(Next::Send(Secret::new(format!("{without_proof},p={}", *Zeroizing::new(BASE64.encode(&*proof))))))
            }
            State::Proved { signature } => {
                if let Some(why) = attribute(text, 'e') {
                    return Err(format!("it says {why:?}"));
                }
                let theirs = attribute(text, 'v').and_then(|theirs| BASE64.decode(theirs).ok());
                let theirs = theirs.ok_or_else(|| "its last SCRAM message has no signature".to_owned())?;
                if bool::from(theirs.ct_eq(signature.expose())) {
                    Ok(Next::Done)
                } else {
                    Err("it cannot prove that it knows the password: it is not the broker that it says it is".to_owned())
                }
            }
            State::Over => Err("it sent one SCRAM message too many".to_owned()),
        }
    }
}

/// What the broker's first message asks for.
struct Challenge {
    nonce: String,
    salt: Vec<u8>,
    iterations: u32,
}

impl Challenge {
    fn parse(text: &str, ours: &str) -> Result<Self, String> {
        if let Some(why) = attribute(text, 'e') {
            return Err(format!("it says {why:?}"));
        }
        let mut parts = text.split(',');
        let mut next = |name: char| {
            let value = parts.next().and_then(|part| part.strip_prefix(name)?.strip_prefix('='));
            value.ok_or_else(|| format!("its first SCRAM message has no {name:?} where one must be"))
        };
        let (nonce, salt, iterations) = (next('r')?, next('s')?, next('i')?);
        if nonce.len() <= ours.len() || !nonce.starts_with(ours) {
            return Err("it answers with a nonce that does not begin with ours: to somebody else's message".to_owned());
        }
        let salt = BASE64.decode(salt).ok().filter(|salt| !salt.is_empty());
        let salt = salt.ok_or_else(|| "its salt is not in base 64".to_owned())?;
        match iterations.parse() {
            Ok(iterations @ ITERATIONS_MIN..=ITERATIONS_MAX) => Ok(Self { nonce: nonce.to_owned(), salt, iterations }),
            _ => Err(format!("it asks for {iterations:?} iterations, which must be {ITERATIONS_MIN} to {ITERATIONS_MAX}")),
        }
    }
}

/// The client's proof, and the signature by which the broker will prove itself.
fn prove<D: EagerHash + Digest>(password: &Secret, challenge: &Challenge, signed: &[u8]) -> (Zeroizing<Vec<u8>>, Secret) {
    let mut salted = Zeroizing::new(vec![0; <D as Digest>::output_size()]);
    pbkdf2::pbkdf2_hmac::<D>(password.expose(), &challenge.salt, challenge.iterations, &mut salted);
    let client_key = mac::<D>(&salted, b"Client Key");
    let stored_key = Zeroizing::new(<D as Digest>::digest(&*client_key).to_vec());
    let mut proof = mac::<D>(&stored_key, signed);
    proof.iter_mut().zip(&*client_key).for_each(|(byte, key)| *byte ^= key);
    let server_key = mac::<D>(&salted, b"Server Key");
    let signature = Secret::new(&**mac::<D>(&server_key, signed));
    (proof, signature)
}

fn mac<D: EagerHash>(key: &[u8], text: &[u8]) -> Zeroizing<Vec<u8>> {
    let mac = Hmac::<D>::new_from_slice(key).expect("HMAC takes a key of any length");
    Zeroizing::new(mac.chain_update(text).finalize().into_bytes().to_vec())
}

fn attribute(text: &str, name: char) -> Option<&str> {
    text.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}
