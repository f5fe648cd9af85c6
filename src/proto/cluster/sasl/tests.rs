//! The mechanisms, against the examples that the standards print, and against a broker's side that is made here.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::proto::backoff::Rng;

fn said(next: Result<Next, String>) -> String {
    match next {
        Ok(Next::Send(secret)) => String::from_utf8(secret.expose().to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// The exchange up to where the client has given its proof, and the proof.
fn proved(hash: ScramHash, user: &str, password: &str, nonce: &str, challenge: &str) -> (Scram, String) {
    let (mut scram, first) = Scram::begin(hash, user, Secret::new(password), nonce);
    assert_eq!(first.expose(), format!("n,,n={user},r={nonce}").as_bytes());
    let proof = said(scram.handle(challenge.as_bytes()));
    (scram, proof)
}

const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const CHALLENGE: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const SIGNATURE: &[u8] = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

/// RFC 7677, section 3.
#[test]
fn the_exchange_that_the_standard_prints() {
    let (mut scram, proof) = proved(ScramHash::Sha256, "user", "pencil", NONCE, CHALLENGE);
    assert_eq!(
        proof,
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    );
    assert_eq!(scram.handle(SIGNATURE), Ok(Next::Done));
    assert!(scram.handle(SIGNATURE).is_err(), "it is over");
}

/// Computed with Python's hashlib and hmac.
#[test]
fn the_same_exchange_with_the_longer_hash() {
    let (mut scram, proof) = proved(ScramHash::Sha512, "user", "pencil", NONCE, CHALLENGE);
    assert_eq!(
        proof,
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ=="
    );
    assert_eq!(
        scram.handle(b"v=ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw=="),
        Ok(Next::Done)
    );
}

#[test]
fn a_broker_that_does_not_know_the_password_is_not_believed() {
    for signature in ["v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=", "v=", "v=AAAA", "x=", "", "v=%", "e=other-error"] {
        let (mut scram, _) = proved(ScramHash::Sha256, "user", "pencil", NONCE, CHALLENGE);
        assert!(scram.handle(signature.as_bytes()).is_err(), "{signature}");
        assert!(scram.handle(SIGNATURE).is_err(), "no second try");
    }
}

#[test]
fn a_challenge_that_no_broker_should_send_is_refused_with_its_reason() {
    for (challenge, word) in [
        ("r=an-answer-to-somebody-else,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "nonce"),
        ("r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "nonce"),
        ("r=rOprNGfwEbeRWgbNEkqO1,s=%,i=4096", "salt"),
        ("r=rOprNGfwEbeRWgbNEkqO1,s=,i=4096", "salt"),
        ("r=rOprNGfwEbeRWgbNEkqO1,s=W22Z,i=4095", "iterations"),
        ("r=rOprNGfwEbeRWgbNEkqO1,s=W22Z,i=131073", "iterations"),
        ("r=rOprNGfwEbeRWgbNEkqO1,s=W22Z,i=4294967296", "iterations"),
        ("r=rOprNGfwEbeRWgbNEkqO1,s=W22Z,i=-1", "iterations"),
        ("r=rOprNGfwEbeRWgbNEkqO1,s=W22Z", "'i'"),
        ("m=must-be-known,r=rOprNGfwEbeRWgbNEkqO1,s=W22Z,i=4096", "'r'"),
        ("e=unknown-user", "unknown-user"),
        ("", "'r'"),
    ] {
        let (mut scram, _) = Scram::begin(ScramHash::Sha256, "user", Secret::new("pencil"), NONCE);
        let why = scram.handle(challenge.as_bytes()).unwrap_err();
        assert!(why.contains(word), "{challenge}: {why}");
    }
    let (mut scram, _) = Scram::begin(ScramHash::Sha256, "user", Secret::new("pencil"), NONCE);
    assert!(scram.handle(b"r=\xff").is_err());
}

#[test]
fn signs_with_a_meaning_are_written_otherwise_in_names() {
    let (_, first) = Scram::begin(ScramHash::Sha256, "a=b,c", Secret::new("pencil"), "n");
    assert_eq!(&first.expose()[..], b"n,,n=a=3Db=2Cc,r=n");
}

proptest! {
    /// Whatever a broker sends is an error or an answer, never a panic.
    #[test]
    fn no_message_breaks_it(messages in proptest::collection::vec("[rsivec=,+/0-9A-Za-z]{0,40}", 1..4)) {
        let (mut scram, _) = Scram::begin(ScramHash::Sha512, "user", Secret::new("pencil"), "r");
        for message in messages {
            prop_assert!(scram.handle(message.as_bytes()) != Ok(Next::Done), "believed without a signature");
        }
    }
}

fn sasl(credentials: Credentials) -> Sasl {
    Sasl::new(SaslConfig { credentials, nonce_key: Secret::new("key") })
}

#[expect(clippy::disallowed_methods, reason = "virtual time begins at some instant")]
fn start() -> Instant {
    Instant::now()
}

#[test]
fn plain_says_name_and_password() {
    let sasl = sasl(Credentials::Plain { user: "alice".into(), password: Secret::new("open sesame") });
    let (mut exchange, first) = sasl.begin(start(), ConnId(1), 0).unwrap();
    assert_eq!(&first.expose()[..], b"\0alice\0open sesame");
    assert_eq!(exchange.handle(b""), Ok(Next::Done));
}

#[test]
fn a_nonce_is_new_for_each_exchange_and_each_client() {
    let scram = Credentials::Scram { hash: ScramHash::Sha256, user: "alice".into(), password: Secret::new("p") };
    let one = sasl(scram.clone());
    let other = Sasl::new(SaslConfig { credentials: scram, nonce_key: Secret::new("another key") });
    let mut nonces: Vec<_> = [(1, 0), (1, 1), (2, 0)].map(|(conn, number)| one.nonce(ConnId(conn), number)).into();
    nonces.push(other.nonce(ConnId(1), 0));
    assert!(nonces.iter().all(|nonce| nonce.len() >= 32 && !nonce.contains(',')), "{nonces:?}");
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), 4);
}

#[test]
fn nothing_secret_is_printed() {
    let credentials = [
        Credentials::Plain { user: "alice".into(), password: Secret::new("open sesame") },
        Credentials::Scram { hash: ScramHash::Sha256, user: "alice".into(), password: Secret::new("open sesame") },
    ];
    for credentials in credentials {
        let sasl = sasl(credentials);
        let (mut exchange, first) = sasl.begin(start(), ConnId(1), 0).unwrap();
        let nonce = String::from_utf8_lossy(first.expose()).rsplit("r=").next().unwrap().to_owned();
        let next = exchange.handle(format!("r={nonce}x,s=W22Z,i=4096").as_bytes());
        for printed in [format!("{:?}", sasl.credentials()), format!("{exchange:?}"), format!("{first:?} {next:?}")] {
            assert!(!printed.contains("sesame") && !printed.contains("p="), "{printed}");
        }
    }
}

// ---- OAUTHBEARER ----

fn token(value: &str, lifetime_s: u64) -> Token {
    Token::new(value, &[], Duration::from_secs(lifetime_s)).unwrap()
}

#[test]
fn a_token_is_said_with_its_extensions() {
    let extensions = [("logicalCluster".to_owned(), "lkc-1".to_owned()), ("pool".to_owned(), "a b".to_owned())];
    let token = Token::new("abc.def", &extensions, Duration::from_secs(60)).unwrap();
    assert_eq!(&token.message().expose()[..], b"n,,\x01auth=Bearer abc.def\x01logicalCluster=lkc-1\x01pool=a b\x01\x01");
}

#[test]
fn a_token_that_cannot_be_said_is_refused() {
    let with = |name: &str, value: &str| Token::new("t", &[(name.to_owned(), value.to_owned())], Duration::from_secs(60));
    for (token, word) in [
        (Token::new("", &[], Duration::ZERO), "empty"),
        (Token::new("a\x01b", &[], Duration::ZERO), "visible"),
        (with("auth", "x"), "auth"),
        (with("", "x"), "extension"),
        (with("a-b", "x"), "a-b"),
        (with("name", "x\x01auth=y"), "name"),
    ] {
        let why = token.unwrap_err();
        assert!(why.contains(word), "{why}");
    }
}

#[test]
fn a_broker_that_does_not_take_the_token_is_let_say_why() {
    let mut taken = Exchange::Bearer(Bearer::default());
    assert_eq!(taken.handle(b""), Ok(Next::Done));
    let mut refused = Exchange::Bearer(Bearer::default());
    assert_eq!(said(refused.handle(br#"{"status":"invalid_token"}"#)), "\x01");
    assert_eq!(refused.complaint(), Some(r#"{"status":"invalid_token"}"#));
    assert!(refused.handle(b"").is_err(), "it is never believed after that");
}

#[test]
fn a_token_is_asked_for_when_it_is_needed_and_again_before_it_expires() {
    let (start, mut rng, mut tokens) = (start(), Rng::new(1), Tokens::default());
    let at = |seconds| start + Duration::from_secs(seconds);
    assert!(!tokens.poll_request(at(0)) && tokens.poll_timeout().is_none(), "nobody needs one");
    tokens.want(at(0));
    assert!(tokens.poll_request(at(0)));
    tokens.want(at(1));
    assert!(!tokens.poll_request(at(1)), "asked once");
    tokens.handle(at(2), Ok(token("a", 100)), &mut rng).unwrap();
    assert!(tokens.is_usable(at(101)) && !tokens.is_usable(at(102)));
    assert_eq!(tokens.poll_timeout().unwrap().0, at(82));
    assert!(tokens.poll_request(at(82)));
    tokens.handle(at(83), Ok(token("b", 100)), &mut rng).unwrap();
    assert!(tokens.is_usable(at(182)));
}

#[test]
fn a_failure_is_an_error_only_without_a_valid_token_and_is_not_repeated_at_once() {
    let (start, mut rng, mut tokens) = (start(), Rng::new(1), Tokens::default());
    let at = |seconds| start + Duration::from_secs(seconds);
    tokens.want(at(0));
    assert!(tokens.poll_request(at(0)));
    assert!(tokens.handle(at(0), Err("no".to_owned()), &mut rng).is_err());
    assert!(!tokens.poll_request(at(0)), "not at once");
    let mut waits = Vec::new();
    let mut now = at(0);
    for _ in 0..8 {
        let due = tokens.poll_timeout().unwrap().0;
        waits.push((due - now).as_secs_f32());
        now = due;
        assert!(tokens.poll_request(now));
        let _ = tokens.handle(now, Err("no".to_owned()), &mut rng);
    }
    assert!(waits[0] < 1.3 && (24.0..37.0).contains(&waits[7]), "{waits:?}");
    tokens.handle(now, Ok(token("a", 100)), &mut rng).unwrap();
    let refresh = tokens.poll_timeout().unwrap().0;
    assert!(tokens.poll_request(refresh));
    assert!(tokens.handle(refresh, Err("no".to_owned()), &mut rng).is_ok(), "the old one still serves");
    assert!(tokens.is_usable(refresh));
    assert!(tokens.handle(refresh, Ok(token("expired", 0)), &mut rng).is_ok());
    tokens.discard(refresh);
    assert!(tokens.poll_request(refresh), "a broker refused it");
    assert!(tokens.handle(refresh, Ok(token("expired", 0)), &mut rng).unwrap_err().contains("expired"));
}
