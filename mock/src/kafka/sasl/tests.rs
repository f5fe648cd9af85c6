//! Who is let in, and who is not.

use std::time::Duration;

use kafka_protocol::messages::{MetadataRequest, SaslAuthenticateRequest, SaslHandshakeRequest};

use super::*;
use crate::kafka::{ConnId, Settings, tester::Tester};

fn tester(max_reauth: Option<Duration>) -> (Tester, ConnId) {
    let users = vec![("alice".to_owned(), "secret".to_owned())];
    let sasl = SaslSettings { users, mechanisms: vec![SaslMechanism::Plain, SaslMechanism::ScramSha512], max_reauth };
    let mut tester = Tester::new(Settings { sasl: Some(sasl), ..Settings::default() });
    let conn = tester.connect(1);
    (tester, conn)
}

fn handshake(tester: &mut Tester, conn: ConnId, mechanism: &'static str) -> i16 {
    tester.ask(conn, 1, &SaslHandshakeRequest::default().with_mechanism(mechanism.into())).error_code
}

fn authenticate(tester: &mut Tester, conn: ConnId, message: &'static [u8]) -> SaslAuthenticateResponse {
    tester.ask(conn, 2, &SaslAuthenticateRequest::default().with_auth_bytes(message.into()))
}

#[test]
fn who_does_not_authenticate_is_hung_up_on() {
    let (mut tester, conn) = tester(None);
    tester.send(conn, 9, &MetadataRequest::default());
    assert!(tester.is_closed(conn));
}

#[test]
fn a_password_lets_in_and_a_wrong_one_does_not() {
    let (mut tester, conn) = tester(None);
    assert_eq!(handshake(&mut tester, conn, "PLAIN"), 0);
    assert_eq!(authenticate(&mut tester, conn, b"\0alice\0wrong").error_code, 58);
    let other = tester.connect(1);
    assert_eq!(handshake(&mut tester, other, "PLAIN"), 0);
    assert_eq!(authenticate(&mut tester, other, b"\0alice\0secret").error_code, 0);
    tester.ask(other, 9, &MetadataRequest::default());
}

#[test]
fn a_mechanism_that_is_not_enabled_is_refused_with_those_that_are() {
    let (mut tester, conn) = tester(None);
    let answer = tester.ask(conn, 1, &SaslHandshakeRequest::default().with_mechanism("SCRAM-SHA-256".into()));
    assert_eq!(answer.error_code, 33);
    let names: Vec<_> = answer.mechanisms.iter().map(|name| name.as_str()).collect();
    assert_eq!(names, ["PLAIN", "SCRAM-SHA-512"]);
}

#[test]
fn a_connection_is_known_until_its_session_ends_and_then_only_for_authenticating_anew() {
    let (mut tester, conn) = tester(Some(Duration::from_secs(4)));
    for _ in 0..2 {
        handshake(&mut tester, conn, "PLAIN");
        assert_eq!(authenticate(&mut tester, conn, b"\0alice\0secret").session_lifetime_ms, 4000);
        tester.pass(Duration::from_secs(3));
        tester.ask(conn, 9, &MetadataRequest::default());
    }
    tester.pass(Duration::from_secs(2));
    tester.send(conn, 9, &MetadataRequest::default());
    assert!(tester.is_closed(conn));
}
