//! Brokers that want TLS and SASL, and ottla as their client.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ottla::{BuildError, Consumer, ConsumerBuilder, Sasl, Tls};
use ottla_mock::{Api, MockCluster, SaslMechanism, SaslSettings, Verdict, kafka_protocol::messages::RequestKind};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use test_certificates::Authority;

/// A cluster with TLS, where alice may connect by any mechanism, for a second at a time.
async fn cluster(ca: &Authority) -> MockCluster {
    let broker = ca.issue("broker", &["127.0.0.1"]);
    let chain = CertificateDer::pem_slice_iter(broker.certificates.as_bytes()).map(|one| one.expect("PEM")).collect();
    let key = PrivateKeyDer::from_pem_slice(broker.key.as_bytes()).expect("PEM");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("it has cipher suites")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a key and its certificate");
    let mut sasl = SaslSettings::default();
    sasl.users = vec![("alice".to_owned(), "open sesame".to_owned())];
    sasl.mechanisms = vec![SaslMechanism::Plain, SaslMechanism::ScramSha256, SaslMechanism::ScramSha512];
    sasl.max_reauth = Some(Duration::from_secs(2));
    MockCluster::builder().topic("orders", 1).settings(|settings| settings.sasl = Some(sasl)).tls(config).start().await
}

fn consumer(kafka: &MockCluster, ca: &Authority, group: &str) -> ConsumerBuilder {
    Consumer::builder(group, [kafka.bootstrap_servers()]).subscribe(["orders"]).tls(Tls::new().ca_pem(ca.pem()))
}

/// Counts the requests to an API from now on.
fn counts(kafka: &MockCluster, api: Api) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    kafka.intercept(api, move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        Verdict::Pass
    });
    count
}

/// Collects how SCRAM's exchanges begin from now on, in order.
fn beginnings(kafka: &MockCluster) -> Arc<Mutex<Vec<Vec<u8>>>> {
    let all = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&all);
    kafka.intercept(Api::SaslAuthenticate, move |request| {
        if let RequestKind::SaslAuthenticate(message) = request.body
            && message.auth_bytes.starts_with(b"n,,")
        {
            seen.lock().expect("no panic").push(message.auth_bytes.to_vec());
        }
        Verdict::Pass
    });
    all
}

/// Over several sessions, by each mechanism: the same connections, and every record once.
#[tokio::test]
async fn records_come_through_tls_while_sessions_end_and_begin() {
    let ca = Authority::new("ca");
    let kafka = cluster(&ca).await;
    for (group, sasl) in [
        ("plain", Sasl::plain("alice", "open sesame")),
        ("scram-256", Sasl::scram_sha_256("alice", "open sesame")),
        ("scram-512", Sasl::scram_sha_512("alice", "open sesame")),
    ] {
        let settings = consumer(&kafka, &ca, group).sasl(sasl).commit_interval(Duration::from_millis(50));
        let mut records = settings.connect().await.expect("alice may").at_least_once();
        let end = kafka.append("orders", 0, ["first"]) + 1;
        for _ in 0..end {
            records.next().await.expect("it goes on").expect("a record").ack();
        }
        let scram = beginnings(&kafka);
        let (connections, sessions) = (counts(&kafka, Api::ApiVersions), counts(&kafka, Api::SaslHandshake));
        kafka.wait_until("sessions were renewed", |_| sessions.load(Ordering::Relaxed) >= 6).await;
        kafka.append("orders", 0, ["after"]);
        records.next().await.expect("it goes on").expect("a record").ack();
        assert_eq!(connections.load(Ordering::Relaxed), 0, "{group}: no connection was made anew");
        // Otherwise a recorded answer of a broker could be played again.
        let scram = scram.lock().expect("no panic").clone();
        let is_scram = group.starts_with("scram");
        assert_eq!(scram.iter().collect::<BTreeSet<_>>().len(), scram.len(), "{group}: no nonce is used twice");
        assert!(scram.is_empty() != is_scram && (!is_scram || scram.len() >= 5), "{group}: {scram:?}");
        records.close(Duration::from_secs(5)).await.expect("all is committed");
    }
}

#[tokio::test]
async fn a_wrong_password_and_a_wrong_ca_are_refused() {
    let ca = Authority::new("ca");
    let kafka = cluster(&ca).await;
    let wrong = consumer(&kafka, &ca, "g").sasl(Sasl::scram_sha_256("alice", "open barley")).connect().await.map(drop);
    assert!(matches!(wrong, Err(BuildError::Unauthenticated { .. })), "{wrong:?}");
    let distrusted = consumer(&kafka, &Authority::new("ca"), "g").sasl(Sasl::scram_sha_256("alice", "open sesame"));
    let distrusted = distrusted.connect().await.map(drop);
    assert!(matches!(distrusted, Err(BuildError::Untrusted { .. })), "{distrusted:?}");
}
