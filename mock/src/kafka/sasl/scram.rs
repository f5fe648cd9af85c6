//! SCRAM (RFC 5802, RFC 7677) without channel binding.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256, Sha512};

use super::{SaslMechanism, nonce};
use crate::kafka::random::Random;

const ITERATIONS: u32 = 4096;

/// What the client was asked, and what it has to answer.
#[derive(Debug)]
pub(crate) struct Challenge {
    mechanism: SaslMechanism,
    nonce: String,
    salted_password: Vec<u8>,
    /// The first part of what is signed: both sides' first messages.
    so_far: String,
}

/// Answers the client's first message.
pub(super) fn challenge<'a>(
    mechanism: SaslMechanism,
    message: &[u8],
    password: impl Fn(&str) -> Result<&'a str, String>,
    random: &mut Random,
) -> Result<(Vec<u8>, Challenge), String> {
    let salt = random.next_u64().to_be_bytes();
    let ours = nonce(random);
    begin(mechanism, message, password, &ours, &salt)
}

pub(super) fn begin<'a>(
    mechanism: SaslMechanism,
    message: &[u8],
    password: impl Fn(&str) -> Result<&'a str, String>,
    ours: &str,
    salt: &[u8],
) -> Result<(Vec<u8>, Challenge), String> {
    let text = std::str::from_utf8(message).map_err(|_| "the first message is no text".to_owned())?;
    let bare = text.splitn(3, ',').nth(2).ok_or_else(|| "the first message has no name".to_owned())?;
    let name = attribute(bare, 'n').ok_or_else(|| "the first message has no name".to_owned())?;
    let name = name.replace("=2C", ",").replace("=3D", "=");
    let theirs = attribute(bare, 'r').ok_or_else(|| "the first message has no nonce".to_owned())?;
    let nonce = format!("{theirs}{ours}");
    let first = format!("r={nonce},s={},i={ITERATIONS}", BASE64.encode(salt));
    let salted_password = salted(mechanism, password(&name)?.as_bytes(), salt);
    let challenge = Challenge { mechanism, nonce, salted_password, so_far: format!("{bare},{first}") };
    Ok((first.into_bytes(), challenge))
}

impl Challenge {
    /// Checks the client's proof; returns the broker's own.
    pub(super) fn verify(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let text = std::str::from_utf8(message).map_err(|_| "the final message is no text".to_owned())?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or_else(|| "the final message has no proof".to_owned())?;
        if attribute(without_proof, 'r') != Some(self.nonce.as_str()) {
            return Err("the final message has another nonce".to_owned());
        }
        let proof = BASE64.decode(proof).map_err(|_| "the proof is not in base 64".to_owned())?;
        let signed = format!("{},{without_proof}", self.so_far);
        let client_key = self.mac(&self.salted_password, b"Client Key");
        let stored_key = hash(self.mechanism, &client_key);
        let signature = self.mac(&stored_key, signed.as_bytes());
        let expected: Vec<_> = client_key.iter().zip(&signature).map(|(key, signature)| key ^ signature).collect();
        if proof != expected {
            return Err("Authentication failed: Invalid user credentials".to_owned());
        }
        let server_key = self.mac(&self.salted_password, b"Server Key");
        Ok(format!("v={}", BASE64.encode(self.mac(&server_key, signed.as_bytes()))).into_bytes())
    }

    fn mac(&self, key: &[u8], text: &[u8]) -> Vec<u8> {
        mac(self.mechanism, key, text)
    }
}

fn attribute(text: &str, name: char) -> Option<&str> {
    text.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

fn salted(mechanism: SaslMechanism, password: &[u8], salt: &[u8]) -> Vec<u8> {
    let mut last = mac(mechanism, password, &[salt, &1_u32.to_be_bytes()].concat());
    let mut sum = last.clone();
    for _ in 1..ITERATIONS {
        last = mac(mechanism, password, &last);
        sum.iter_mut().zip(&last).for_each(|(sum, byte)| *sum ^= byte);
    }
    sum
}

fn hash(mechanism: SaslMechanism, text: &[u8]) -> Vec<u8> {
    match mechanism {
        SaslMechanism::ScramSha512 => Sha512::digest(text).to_vec(),
        _ => Sha256::digest(text).to_vec(),
    }
}

fn mac(mechanism: SaslMechanism, key: &[u8], text: &[u8]) -> Vec<u8> {
    const ANY_LENGTH: &str = "a key of any length will do";
    match mechanism {
        SaslMechanism::ScramSha512 => {
            Hmac::<Sha512>::new_from_slice(key).expect(ANY_LENGTH).chain_update(text).finalize().into_bytes().to_vec()
        }
        _ => Hmac::<Sha256>::new_from_slice(key).expect(ANY_LENGTH).chain_update(text).finalize().into_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange that RFC 7677 prints.
    #[test]
    fn the_example_of_the_standard_is_verified() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let first = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
        let ours = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let (answer, challenge) = begin(SaslMechanism::ScramSha256, first, |_| Ok("pencil"), ours, &salt).unwrap();
        assert_eq!(answer, b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(challenge.verify(last.as_bytes()).unwrap(), b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        let wrong = last.replace("p=dHzb", "p=aHzb");
        assert!(challenge.verify(wrong.as_bytes()).is_err());
    }
}
