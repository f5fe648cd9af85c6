//! TLS, SASL and permissions, on one broker that has a listener of every kind: who gets in, and what is said to who does not.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use kafka_harness::{Listener, Options};
use ottla::{BuildError, ConsumeErrorKind, ConsumerBuilder, OauthToken, Offsets, OffsetsErrorKind, Sasl, Tls};
use test_certificates::{Authority, Identity};

use crate::{
    member::{Member, builder},
    support::{DEADLINE, Kafka, eventually_async},
};

/// Longer than any of these errors may take.
const CLEAR_WITHIN: Duration = Duration::from_secs(10);
const PASSWORD: &str = "alice-secret, with = and ,";

/// A broker with every kind of listener, and who signed what.
struct Fortress {
    kafka: Kafka,
    ca: Authority,
}

impl Fortress {
    /// The one that all these tests share.
    fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Fortress>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[])).as_ref()
    }

    fn start(extra_conf: &[(&str, &str)]) -> Option<Self> {
        let ca = Authority::new("test-ca");
        let broker = ca.issue("broker", &["localhost", "127.0.0.1"]);
        let tls = |name, protocol, identity: &Identity, more: &[(&str, &str)]| Listener {
            name,
            protocol,
            conf: conf(&[
                ("ssl.keystore.type", "PEM"),
                ("ssl.keystore.certificate.chain", &identity.certificates),
                ("ssl.keystore.key", &identity.key),
                ("ssl.truststore.type", "PEM"),
                ("ssl.truststore.certificates", ca.pem()),
            ])
            .into_iter()
            .chain(conf(more))
            .collect(),
        };
        let plain = format!(
            "org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"{PASSWORD}\" user_bob=\"bob-secret\";"
        );
        let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
        let passwords = [
            ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"),
            ("plain.sasl.jaas.config", &plain),
            ("scram-sha-256.sasl.jaas.config", scram),
            ("scram-sha-512.sasl.jaas.config", scram),
        ];
        let oauth = [
            ("sasl.enabled.mechanisms", "OAUTHBEARER"),
            (
                "oauthbearer.sasl.jaas.config",
                "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"admin\";",
            ),
        ];
        let listeners = vec![
            Listener { name: "SASL", protocol: "SASL_PLAINTEXT", conf: conf(&passwords) },
            Listener { name: "OAUTH", protocol: "SASL_PLAINTEXT", conf: conf(&oauth) },
            tls("TLS", "SSL", &broker, &[]),
            tls("MTLS", "SSL", &broker, &[("ssl.client.auth", "required")]),
            tls("MTLS12", "SSL", &broker, &[("ssl.client.auth", "required"), ("ssl.enabled.protocols", "TLSv1.2")]),
            tls("SASLTLS", "SASL_SSL", &broker, &passwords),
            tls("EXPIRED", "SSL", &ca.issue_expired("broker", &["127.0.0.1"]), &[]),
            tls("ELSEWHERE", "SSL", &ca.issue("broker", &["kafka.example.com"]), &[]),
        ];
        let mut extra_conf = conf(extra_conf);
        extra_conf.extend(conf(&[
            ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
            ("allow.everyone.if.no.acl.found", "true"),
        ]));
        let kafka = Kafka::start(Options { listeners, extra_conf, ..Options::default() })?;
        kafka.admin.set_password("alice", Some(PASSWORD)).unwrap();
        Some(Self { kafka, ca })
    }

    fn at(&self, listener: &str) -> String {
        self.kafka.cluster().bootstrap_of(listener)
    }

    /// TLS that trusts the broker.
    fn tls(&self) -> Tls {
        Tls::new().ca_pem(self.ca.pem())
    }

    fn tls_as(&self, identity: Identity) -> Tls {
        self.tls().client_certificate_pem(identity.certificates, identity.key)
    }

    /// Settings to go in by a listener.
    fn by(&self, listener: &str) -> ConsumerBuilder {
        builder(&self.at(listener), "g", "t")
    }
}

fn conf(lines: &[(&str, &str)]) -> Vec<(String, String)> {
    lines.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn plain(user: &str, password: &str) -> Sasl {
    Sasl::plain(user, password).send_credentials_unencrypted()
}

/// Tokens that nobody has signed, which the broker takes all the same; counts how many were asked for.
fn tokens(lifetime: Duration) -> (Sasl, Arc<AtomicU32>) {
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    let sasl = Sasl::oauth_bearer(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
            let claims = format!(r#"{{"sub":"alice","iat":{now},"exp":{}}}"#, now + lifetime.as_secs_f64());
            let [head, claims] = [r#"{"alg":"none"}"#, &claims].map(|part| URL_SAFE_NO_PAD.encode(part));
            Ok::<_, std::time::SystemTimeError>(OauthToken::new(format!("{head}.{claims}."), lifetime))
        }
    });
    (sasl.send_credentials_unencrypted(), asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_the_right_credentials_reads_by_every_listener() {
    let Some(fortress) = Fortress::shared() else { return };
    let kafka = &fortress.kafka;
    let topic = kafka.topic("listeners", 2);
    kafka.produce(&topic, 2, 10);
    let me = || fortress.tls_as(fortress.ca.issue("me", &[]));
    let to = |listener: &str| builder(&fortress.at(listener), &kafka.group(&format!("by-{listener}")), &topic);
    let ways = [
        ("plaintext", builder(kafka.bootstrap(), &kafka.group("by-plaintext"), &topic)),
        ("PLAIN", to("SASL").sasl(plain("alice", PASSWORD))),
        ("SCRAM-SHA-256", to("SASL").sasl(Sasl::scram_sha_256("alice", PASSWORD))),
        ("SCRAM-SHA-512", to("SASL").sasl(Sasl::scram_sha_512("alice", PASSWORD))),
        ("OAUTHBEARER", to("OAUTH").sasl(tokens(Duration::from_secs(3600)).0)),
        ("TLS", to("TLS").tls(fortress.tls())),
        ("client certificate", to("MTLS").tls(me())),
        ("client certificate, TLS 1.2", to("MTLS12").tls(me())),
        ("PLAIN over TLS", to("SASLTLS").tls(fortress.tls()).sasl(Sasl::plain("alice", PASSWORD))),
        ("SCRAM-SHA-256 over TLS", to("SASLTLS").tls(fortress.tls()).sasl(Sasl::scram_sha_256("alice", PASSWORD))),
        ("SCRAM-SHA-512 over TLS", to("SASLTLS").tls(fortress.tls()).sasl(Sasl::scram_sha_512("alice", PASSWORD))),
        ("another name", to("ELSEWHERE").tls(fortress.tls().server_name("kafka.example.com"))),
    ];
    for (way, settings) in ways {
        let member = Member::join(settings).await;
        eventually_async(&format!("all is read by {way}"), DEADLINE, || member.seen().len() == 20).await;
        assert_eq!(member.errors(), [""; 0], "{way}");
        member.leave().await;
    }
}

/// What connecting ends in, which is an error in time.
async fn refused(settings: ConsumerBuilder) -> BuildError {
    let started = Instant::now();
    let error = settings.connect().await.map(drop).unwrap_err();
    assert!(started.elapsed() < CLEAR_WITHIN, "{:?}: {error}", started.elapsed());
    error
}

#[track_caller]
fn says(error: &BuildError, words: &[&str]) {
    let text = error.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{error:?} does not say {words:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_prove_who_it_is_is_told_so_at_once() {
    let Some(fortress) = Fortress::shared() else { return };
    let at = fortress.at("SASL");
    for (sasl, mechanism) in [
        (plain("alice", "wrong"), "PLAIN"),
        (Sasl::scram_sha_256("alice", "wrong"), "SCRAM-SHA-256"),
        (Sasl::scram_sha_512("alice", "wrong"), "SCRAM-SHA-512"),
        (Sasl::scram_sha_512("alicia", PASSWORD), "SCRAM-SHA-512"),
    ] {
        let started = Instant::now();
        let error = refused(fortress.by("SASL").sasl(sasl)).await;
        assert!(matches!(error, BuildError::Unauthenticated { .. }), "{error:?}");
        says(&error, &[&at, "user \"alic", mechanism, "SASL_AUTHENTICATION_FAILED", "check the credentials"]);
        assert!(!error.to_string().contains("wrong"), "the password is not shown: {error}");
        assert!(started.elapsed() < Duration::from_secs(2), "at once, not after {:?}", started.elapsed());
    }
    let over_tls = refused(fortress.by("SASLTLS").tls(fortress.tls()).sasl(Sasl::plain("alice", "wrong"))).await;
    assert!(matches!(over_tls, BuildError::Unauthenticated { .. }), "{over_tls:?}");
    let other_mechanism = refused(fortress.by("OAUTH").sasl(Sasl::scram_sha_256("alice", PASSWORD))).await;
    assert!(matches!(other_mechanism, BuildError::Unauthenticated { .. }), "{other_mechanism:?}");
    says(&other_mechanism, &["SCRAM-SHA-256", "but OAUTHBEARER"]);
    let no_sasl = refused(builder(fortress.kafka.bootstrap(), "g", "t").sasl(Sasl::scram_sha_256("alice", PASSWORD))).await;
    assert!(matches!(no_sasl, BuildError::Unauthenticated { .. }), "{no_sasl:?}");
    says(&no_sasl, &["a", "without SASL"]);
    let silent = refused(fortress.by("SASL")).await;
    says(&silent, &[&at, "as a listener that wants SASL does"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_or_missing_is_an_error_at_once() {
    let Some(fortress) = Fortress::shared() else { return };
    let garbage = Sasl::oauth_bearer(|| async { Ok::<_, std::io::Error>(OauthToken::new("garbage", Duration::from_secs(60))) });
    let error = refused(fortress.by("OAUTH").sasl(garbage.send_credentials_unencrypted())).await;
    assert!(matches!(error, BuildError::Unauthenticated { .. }), "{error:?}");
    says(&error, &["OAUTHBEARER", "invalid_token"]);
    assert!(!error.to_string().contains("garbage"), "{error}");
    let none = Sasl::oauth_bearer(|| async { Err::<OauthToken, _>("the identity provider is down") });
    let error = refused(fortress.by("OAUTH").sasl(none.send_credentials_unencrypted())).await;
    assert!(matches!(error, BuildError::Unauthenticated { .. }), "{error:?}");
    says(&error, &["the identity provider is down"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_trusted_and_one_that_does_not_trust_are_told_apart() {
    let Some(fortress) = Fortress::shared() else { return };
    let stranger = || Authority::new("stranger").issue("stranger", &[]);
    let cases = [
        (
            fortress.by("TLS").tls(Tls::new().ca_pem(Authority::new("test-ca").pem())),
            "TLS",
            "its signature is not that of the trusted CA",
        ),
        (fortress.by("TLS").tls(Tls::new().bundled_roots()), "TLS", "none of the trusted CAs has signed it"),
        (fortress.by("EXPIRED").tls(fortress.tls()), "EXPIRED", "it has expired"),
        (fortress.by("ELSEWHERE").tls(fortress.tls()), "ELSEWHERE", "it is for another host"),
        (fortress.by("MTLS").tls(fortress.tls()), "MTLS", "it wants a client certificate"),
        (fortress.by("MTLS12").tls(fortress.tls()), "MTLS12", "it wants a client certificate"),
        (fortress.by("MTLS").tls(fortress.tls_as(stranger())), "MTLS", "does not trust the client certificate"),
        (fortress.by("MTLS12").tls(fortress.tls_as(stranger())), "MTLS12", "does not trust the client certificate"),
    ];
    for (settings, listener, words) in cases {
        let started = Instant::now();
        let error = refused(settings).await;
        assert!(matches!(error, BuildError::Untrusted { .. }), "{listener}: {error:?}");
        says(&error, &[&fortress.at(listener), words]);
        assert!(started.elapsed() < Duration::from_secs(2), "at once, not after {:?}", started.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_protocol_for_a_port_is_named() {
    let Some(fortress) = Fortress::shared() else { return };
    let plain_to_tls = refused(fortress.by("TLS")).await;
    says(&plain_to_tls, &[&fortress.at("TLS"), "TLS"]);
    let tls_to_plain = refused(builder(fortress.kafka.bootstrap(), "g", "t").tls(fortress.tls())).await;
    says(&tls_to_plain, &[fortress.kafka.bootstrap(), "as a listener without TLS ends it"]);
    let sasl_to_tls = refused(fortress.by("SASLTLS").sasl(Sasl::scram_sha_256("alice", PASSWORD))).await;
    says(&sasl_to_tls, &[&fortress.at("SASLTLS"), "TLS"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trusted_broker_among_others_is_enough() {
    let Some(fortress) = Fortress::shared() else { return };
    let bootstrap = format!("{},{},{}", fortress.at("EXPIRED"), fortress.at("ELSEWHERE"), fortress.at("TLS"));
    let consumer = builder(&bootstrap, "g", "t").tls(fortress.tls()).connect().await;
    assert!(consumer.is_ok(), "{:?}", consumer.err());
}

/// Sessions of four seconds, over and over, while records come: none is lost, none comes twice, and no connection is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn connections_authenticate_anew_before_their_session_ends() {
    let Some(fortress) = Fortress::start(&[("connections.max.reauth.ms", "4000")]) else { return };
    let kafka = &fortress.kafka;
    let topic = kafka.topic("reauth", 2);
    // A session ends with its token at the latest: what is left of one that is still used (2.4 s) is more than a busy machine needs.
    let (oauth, asked) = tokens(Duration::from_secs(12));
    let ways = [
        ("SCRAM", fortress.at("SASL"), Sasl::scram_sha_512("alice", PASSWORD)),
        ("PLAIN", fortress.at("SASL"), plain("alice", PASSWORD)),
        ("OAUTHBEARER", fortress.at("OAUTH"), oauth),
    ];
    let mut members = Vec::new();
    for (way, at, sasl) in ways {
        members.push(Member::join(builder(&at, &kafka.group(way), &topic).sasl(sasl)).await);
    }
    let mut produced = 5;
    kafka.produce(&topic, 2, 5);
    eventually_async("all members read", DEADLINE, || members.iter().all(|member| member.seen().len() == 10)).await;
    let mut events: Vec<_> = members.iter().map(|member| member.handle.events()).collect();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(15) {
        kafka.produce(&topic, 2, 5);
        produced += 5;
        eventually_async("all is read at once", Duration::from_secs(5), || {
            members.iter().all(|member| member.seen().len() == 2 * produced)
        })
        .await;
    }
    for (member, events) in members.iter().zip(&mut events) {
        assert_eq!(member.errors(), [""; 0]);
        while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(20), events.next()).await {
            assert!(!format!("{event:?}").contains("Lost"), "{event:?}");
        }
    }
    let asked = asked.load(Ordering::Relaxed);
    assert!((2..=6).contains(&asked), "a token is renewed before it expires, and not more often: {asked}");
    for member in members {
        let seen = member.leave().await;
        assert_eq!(seen.len(), 2 * produced);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_taken_away_is_reported_and_waited_for() {
    let Some(fortress) = Fortress::start(&[("connections.max.reauth.ms", "3000")]) else { return };
    let kafka = &fortress.kafka;
    let topic = kafka.topic("withdrawn", 1);
    kafka.produce(&topic, 1, 5);
    let settings = builder(&fortress.at("SASL"), &kafka.group("withdrawn"), &topic).sasl(Sasl::scram_sha_256("alice", PASSWORD));
    let mut records = settings.connect().await.unwrap().at_least_once();
    for _ in 0..5 {
        records.next().await.unwrap().unwrap().ack();
    }
    kafka.admin.set_password("alice", None).unwrap();
    let error = tokio::time::timeout(CLEAR_WITHIN, records.next()).await.expect("said in time").unwrap().unwrap_err();
    assert_eq!(error.kind(), ConsumeErrorKind::Unauthenticated, "{error}");
    assert!(!error.is_fatal() && error.to_string().contains("\"alice\""), "{error}");
    kafka.admin.set_password("alice", Some(PASSWORD)).unwrap();
    kafka.produce(&topic, 1, 5);
    let picked_up = async {
        loop {
            match records.next().await.unwrap() {
                Ok(delivery) if delivery.offset() == 9 => return delivery.ack(),
                Ok(delivery) => delivery.ack(),
                Err(error) => assert!(!error.is_fatal(), "{error}"),
            }
        }
    };
    tokio::time::timeout(DEADLINE, picked_up).await.expect("picked up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_topic_and_a_refused_group_are_named_and_access_given_back_is_picked_up() {
    let Some(fortress) = Fortress::shared() else { return };
    let kafka = &fortress.kafka;
    for kind in ["topic", "group"] {
        let (topic, group) = (kafka.topic("acl", 1), kafka.group("acl"));
        kafka.produce(&topic, 1, 5);
        let name = if kind == "topic" { &topic } else { &group };
        let settings = builder(&fortress.at("SASLTLS"), &group, &topic);
        let settings = settings.tls(fortress.tls()).sasl(Sasl::scram_sha_512("alice", PASSWORD));
        let mut records = settings.connect().await.unwrap().at_least_once();
        records.next().await.unwrap().unwrap().ack();
        kafka.admin.deny(kind, name, "READ").unwrap();
        let reported = async {
            loop {
                kafka.produce(&topic, 1, 1);
                match records.next().await.unwrap() {
                    Ok(delivery) => delivery.ack(),
                    Err(error) => return error,
                }
            }
        };
        let error = tokio::time::timeout(CLEAR_WITHIN, reported).await.expect("said in time");
        assert_eq!(error.kind(), ConsumeErrorKind::Unauthorized, "{kind}: {error}");
        assert!(error.to_string().contains(name) && !error.is_fatal(), "{kind}: {error}");
        kafka.admin.undeny(kind, name).unwrap();
        kafka.produce(&topic, 1, 1);
        let last = kafka.end_offset(&topic, 0) - 1;
        let picked_up = async {
            loop {
                match records.next().await.unwrap() {
                    Ok(delivery) if delivery.offset() == last => return delivery.ack(),
                    Ok(delivery) => delivery.ack(),
                    Err(error) => assert!(!error.is_fatal(), "{kind}: {error}"),
                }
            }
        };
        tokio::time::timeout(DEADLINE, picked_up).await.expect("picked up");
        eventually_async("and committed", DEADLINE, || kafka.committed(&group, &topic).get(&0) == Some(&(last + 1))).await;
        records.close(DEADLINE).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_topics_and_groups_that_may_not_be_described_are_refused_by_name() {
    let Some(fortress) = Fortress::shared() else { return };
    let kafka = &fortress.kafka;
    let (open, closed, group) = (kafka.topic("open", 1), kafka.topic("closed", 1), kafka.group("closed"));
    for topic in [&open, &closed] {
        kafka.produce(topic, 1, 5);
        kafka.admin.alter_offset(&group, topic, 0, 3).unwrap();
    }
    let at = |password| {
        let settings = Offsets::builder(fortress.at("SASLTLS").split(',')).tls(fortress.tls());
        settings.sasl(Sasl::scram_sha_512("alice", password))
    };
    let error = at("wrong").connect().await.expect_err("refused");
    assert!(matches!(error, BuildError::Unauthenticated { .. }), "{error:?}");
    let offsets = at(PASSWORD).connect().await.unwrap();
    assert_eq!(offsets.lag(&group).await.unwrap().total().records, 4);

    kafka.admin.deny("topic", &closed, "DESCRIBE").unwrap();
    let found = offsets.end([&open, &closed]).await.unwrap();
    assert_eq!((found.found.len(), found.errors.len()), (1, 1));
    assert_eq!((found.errors[0].kind(), found.errors[0].topic()), (OffsetsErrorKind::Unauthorized, Some(closed.as_str())));
    println!("{}", found.errors[0]);
    // The coordinator says nothing of it.
    assert_eq!(offsets.lag(&group).await.unwrap().all().unwrap().len(), 1);
    kafka.admin.undeny("topic", &closed).unwrap();

    kafka.admin.deny("group", &group, "DESCRIBE").unwrap();
    let error = offsets.committed(&group).await.expect_err("refused");
    assert_eq!(error.kind(), OffsetsErrorKind::Unauthorized, "{error}");
    assert!(error.to_string().contains(&group), "{error}");
    println!("{error}");
    kafka.admin.undeny("group", &group).unwrap();
    assert_eq!(offsets.committed(&group).await.unwrap().all().unwrap().len(), 2);
}

/// Kafka 0.11 has no SaslAuthenticate: the messages go without headers, and who is refused is hung up on.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_takes_the_messages_of_sasl_without_headers_is_understood() {
    let jaas = std::env::temp_dir().join(format!("ottla-jaas-{}.conf", std::process::id()));
    let module = "org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"alice-secret\";";
    std::fs::write(&jaas, format!("KafkaServer {{ {module} }};")).unwrap();
    let started = Kafka::start(Options {
        version: "0.11.0.3".into(),
        listeners: vec![Listener { name: "SASL", protocol: "SASL_PLAINTEXT", conf: Vec::new() }],
        extra_conf: conf(&[("sasl.enabled.mechanisms", "PLAIN")]),
        jvm_args: vec![format!("-Djava.security.auth.login.config={}", jaas.display())],
        ..Options::default()
    });
    std::fs::remove_file(&jaas).unwrap();
    let Some(kafka) = started else { return };
    let (topic, group, at) = (kafka.topic("old", 1), kafka.group("old"), kafka.cluster().bootstrap_of("SASL"));
    kafka.produce(&topic, 1, 10);
    let member = Member::join(builder(&at, &group, &topic).sasl(plain("alice", "alice-secret"))).await;
    eventually_async("all is read", DEADLINE, || member.seen().len() == 10).await;
    assert_eq!(member.errors(), [""; 0]);
    member.leave().await;
    let error = refused(builder(&at, &group, &topic).sasl(plain("alice", "wrong"))).await;
    assert!(matches!(error, BuildError::Unauthenticated { .. }), "{error:?}");
    says(&error, &["user \"alice\"", "PLAIN", "before Kafka 1.0"]);
}
