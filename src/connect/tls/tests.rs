//! Connections to a TLS server in the same process: whom they trust, and how they say that they do not.

use std::{io, time::Duration};

use rustls::{
    ServerConfig,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use test_certificates::{Authority, Identity};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    Consumer, Sasl,
    net::NetConfig,
    proto::{BrokerAddr, ConnId, Disconnect},
};

type Versions = &'static [&'static rustls::SupportedProtocolVersion];

const EITHER_VERSION: [Versions; 2] = [&[&rustls::version::TLS12], &[&rustls::version::TLS13]];

/// What a server of a test does to who connects.
#[derive(Clone)]
struct Server {
    identity: Identity,
    /// Whose certificates its clients must have.
    clients: Option<String>,
    versions: Versions,
}

impl Server {
    fn of(authority: &Authority) -> Self {
        let identity = authority.issue("broker", &["localhost", "127.0.0.1"]);
        Self { identity, clients: None, versions: rustls::ALL_VERSIONS }
    }

    fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(provider().unwrap());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(self.versions).unwrap();
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let chain = CertificateDer::pem_slice_iter(self.identity.certificates.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(self.identity.key.as_bytes()).unwrap();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        TlsAcceptor::from(Arc::new(config))
    }

    /// Answers one frame on each connection with the host's name that the client sent (SNI), and returns the address.
    async fn start(self) -> BrokerAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = self.acceptor();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await?;
                    assert_eq!(stream.get_ref().1.alpn_protocol(), None);
                    let mut frame = [0; 6];
                    stream.read_exact(&mut frame).await?;
                    let name = stream.get_ref().1.server_name().unwrap_or("(none)").to_owned();
                    stream.write_all(&[&(name.len() as u32).to_be_bytes()[..], name.as_bytes()].concat()).await?;
                    stream.shutdown().await?;
                    Ok::<_, io::Error>(())
                });
            }
        });
        BrokerAddr { host: "localhost".into(), port }
    }
}

/// Sends a frame, and returns the one that comes back, or how the connection ended.
async fn name_sent(tls: &Tls, addr: &BrokerAddr) -> Result<String, Disconnect> {
    let config = NetConfig { tls: Some(tls.client().unwrap()), ..NetConfig::of_tests() };
    crate::net::one_frame(ConnId(1), addr.clone(), config, b"\0\0\0\x02hi").await
}

/// The words that a refused connection ends with.
async fn refused(tls: &Tls, addr: &BrokerAddr) -> String {
    match name_sent(tls, addr).await {
        Err(Disconnect::Tls(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn frames_go_through_tls_of_either_version() {
    let ca = Authority::new("ca");
    for versions in EITHER_VERSION {
        let addr = Server { versions, ..Server::of(&ca) }.start().await;
        assert_eq!(name_sent(&Tls::new().ca_pem(ca.pem()), &addr).await.unwrap(), "localhost");
        let by_number = BrokerAddr { host: "127.0.0.1".into(), ..addr };
        assert_eq!(name_sent(&Tls::new().bundled_roots().ca_pem(ca.pem()), &by_number).await.unwrap(), "(none)");
    }
}

#[tokio::test]
async fn a_broker_that_is_not_to_be_trusted_is_not() {
    let (ca, other) = (Authority::new("ca"), Authority::new("another"));
    let tls = Tls::new().ca_pem(ca.pem());
    let addr = Server::of(&other).start().await;
    assert!(refused(&tls, &addr).await.contains("none of the trusted CAs has signed it"));
    assert!(refused(&Tls::new().bundled_roots(), &addr).await.contains("none of the trusted CAs has signed it"));
    let expired = Server { identity: ca.issue_expired("broker", &["localhost"]), ..Server::of(&ca) };
    assert!(refused(&tls, &expired.start().await).await.contains("it has expired"));
    let elsewhere = Server { identity: ca.issue("broker", &["kafka.example.com"]), ..Server::of(&ca) }.start().await;
    let why = refused(&tls, &elsewhere).await;
    assert!(why.contains("another host") && why.contains("kafka.example.com") && why.contains("localhost"), "{why}");
    assert_eq!(name_sent(&tls.clone().server_name("kafka.example.com"), &elsewhere).await.unwrap(), "kafka.example.com");
}

#[tokio::test]
async fn a_broker_may_want_a_certificate_and_says_why_it_refuses_one() {
    let (ca, other) = (Authority::new("ca"), Authority::new("another"));
    let (me, stranger) = (ca.issue("me", &[]), other.issue("stranger", &[]));
    for versions in EITHER_VERSION {
        let addr = Server { clients: Some(ca.pem().to_owned()), versions, ..Server::of(&ca) }.start().await;
        let tls = Tls::new().ca_pem(ca.pem());
        let mine = tls.clone().client_certificate_pem(me.certificates.clone(), me.key.clone());
        assert_eq!(name_sent(&mine, &addr).await.unwrap(), "localhost");
        let why = refused(&tls, &addr).await;
        assert!(why.contains("it wants a client certificate"), "{why}");
        let strange = tls.clone().client_certificate_pem(stranger.certificates.clone(), stranger.key.clone());
        let why = refused(&strange, &addr).await;
        assert!(why.contains("it does not trust the client certificate"), "{why}");
    }
}

#[tokio::test]
async fn who_does_not_speak_tls_is_told_from_who_does() {
    for (answer, expected) in
        [(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "what came is not TLS"), (b"", "as a listener without TLS")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = BrokerAddr { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() };
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(answer).await.unwrap();
        });
        let why = name_sent(&Tls::new().bundled_roots(), &addr).await.unwrap_err().to_string();
        assert!(why.contains(expected), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_is_not_answered_ends_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = BrokerAddr { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() };
    let config = NetConfig {
        connect_timeout: Duration::from_secs(7),
        tls: Some(Tls::new().bundled_roots().client().unwrap()),
        ..NetConfig::of_tests()
    };
    let ended = crate::net::one_frame(ConnId(1), addr, config, b"").await.unwrap_err().to_string();
    assert_eq!(ended, "no TLS handshake within 7s; does the listener speak TLS?");
}

#[track_caller]
fn invalid(tls: &Tls, expected: &str) {
    match tls.client() {
        Err(BuildError::InvalidSetting { setting: "tls", why }) => assert!(why.contains(expected), "{why}"),
        other => panic!("{expected}: {other:?}"),
    }
}

#[test]
fn settings_that_cannot_work_are_refused_with_what_to_do() {
    let ca = Authority::new("ca");
    let (me, other) = (ca.issue("me", &[]), ca.issue("other", &[]));
    invalid(&Tls::new().ca_file("no/such/file.pem"), "no/such/file.pem");
    invalid(&Tls::new().ca_pem("hello"), "BEGIN CERTIFICATE");
    invalid(&Tls::new().ca_pem(me.key.clone()), "BEGIN CERTIFICATE");
    let bundled = Tls::new().bundled_roots();
    invalid(&bundled.clone().server_name("not a name"), "not a name");
    invalid(&bundled.clone().client_certificate_pem(me.certificates.clone(), other.key), "cannot be used");
    invalid(&bundled.clone().client_certificate_pem(me.certificates.clone(), "hello"), "must be in PEM");
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    invalid(&bundled.clone().client_certificate_pem(me.certificates.clone(), encrypted), "decrypt it");
    let config = bundled.config().unwrap();
    invalid(&Tls::from_config(config.clone()).ca_pem(ca.pem()), "ClientConfig");
    assert!(Tls::from_config(config).server_name("kafka").client().is_ok());
}

/// The same program once more, where the platform's store is another one.
#[tokio::test]
async fn the_platforms_cas_are_trusted_when_none_is_named() {
    const PORT: &str = "OTTLA_TEST_PLATFORM";
    if let Ok(port) = std::env::var(PORT) {
        let addr = BrokerAddr { host: "localhost".into(), port: port.parse().unwrap() };
        assert_eq!(name_sent(&Tls::new(), &addr).await.unwrap(), "localhost");
        assert_eq!(name_sent(&Tls::new().platform_roots().bundled_roots(), &addr).await.unwrap(), "localhost");
        assert!(refused(&Tls::new().bundled_roots(), &addr).await.contains("none of the trusted CAs"));
        return;
    }
    let ca = Authority::new("ca");
    let addr = Server::of(&ca).start().await;
    let store = std::env::temp_dir().join(format!("ottla-store-{}.pem", std::process::id()));
    fs::write(&store, ca.pem()).unwrap();
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "connect::tls::tests::the_platforms_cas_are_trusted_when_none_is_named"]);
    again.env(PORT, addr.port.to_string()).env("SSL_CERT_FILE", &store);
    let output = tokio::task::spawn_blocking(move || again.output()).await.unwrap().unwrap();
    fs::remove_file(&store).unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}

#[tokio::test]
async fn files_hold_what_bytes_may() {
    let ca = Authority::new("ca");
    let me = ca.issue("me", &[]);
    let folder = std::env::temp_dir().join(format!("ottla-tls-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("ca.pem"), ca.pem()).unwrap();
    fs::write(folder.join("me.pem"), me.keystore()).unwrap();
    let both = folder.join("me.pem");
    let tls = Tls::new().ca_file(folder.join("ca.pem")).client_certificate_files(&both, &both);
    let addr = Server { clients: Some(ca.pem().to_owned()), ..Server::of(&ca) }.start().await;
    let sent = name_sent(&tls, &addr).await;
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(sent.unwrap(), "localhost");
}

#[test]
fn a_cpu_that_cannot_do_it_is_named_with_what_can() {
    assert!(check_cpu(&[("AVX2", true), ("ADX", true)]).is_ok());
    let why = check_cpu(&[("AVX2", true), ("ADX", false), ("BMI2", false)]).unwrap_err();
    assert!(why.starts_with("this CPU lacks ADX, BMI2, which") && why.contains("`ring`"), "{why}");
}

#[test]
fn no_key_is_printed() {
    let me = Authority::new("ca").issue("me", &[]);
    let printed = format!("{:?}", Tls::new().client_certificate_pem(me.certificates, me.key.clone()));
    assert!(!printed.contains(me.key.lines().nth(1).unwrap()) && printed.contains("PEM of"), "{printed}");
}

#[tokio::test]
async fn with_tls_a_password_needs_no_permission_to_be_sent() {
    let builder = || Consumer::builder("g", ["127.0.0.1:1"]).subscribe(["t"]).connect_timeout(Duration::from_millis(1));
    let plain = || Sasl::plain("alice", "secret");
    let refused = builder().sasl(plain()).connect().await.map(drop).unwrap_err();
    assert!(matches!(&refused, BuildError::InvalidSetting { setting: "sasl", .. }), "{refused:?}");
    assert!(refused.to_string().contains("send_credentials_unencrypted"), "{refused}");
    for allowed in
        [builder().sasl(plain()).tls(Tls::new().bundled_roots()), builder().sasl(plain().send_credentials_unencrypted())]
    {
        let error = allowed.connect().await.map(drop).unwrap_err();
        assert!(!matches!(error, BuildError::InvalidSetting { .. }), "{error:?}");
    }
}
