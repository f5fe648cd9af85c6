//! Who gets in: before anything is asked, again before a session ends, and what becomes of who does not.

use std::time::Duration;

use bytes::Bytes;

use super::world::{Mode, World, addr, config, ms, names, secs, topic};
use crate::{
    model::{BrokerId, Generation},
    proto::{
        Disconnect, Owner, ProblemKind, Target,
        cluster::{ClusterConfig, ClusterEvent, Credentials, SaslConfig, Token},
    },
    secret::Secret,
    wire::{Api, ApiRange, ErrorCode, MemberRequest, Request, Response, SaslAuthenticateResponse},
};

fn with(credentials: Credentials) -> ClusterConfig {
    let sasl = SaslConfig { credentials, nonce_key: Secret::new("key") };
    ClusterConfig { sasl: Some(sasl), ..config(&["b1", "b2"]) }
}

fn plain() -> ClusterConfig {
    with(Credentials::Plain { user: "alice".into(), password: Secret::new("open sesame") })
}

fn heartbeat() -> Request {
    Request::Heartbeat(MemberRequest { group: "g".into(), generation: Generation(1), member_id: "m".into(), instance_id: None })
}

/// A client that knows two brokers and a topic, if they let it in.
fn world(config: ClusterConfig) -> World {
    let mut world = World::new(2, config);
    world.topics.insert("t".into(), topic("t", Some(1), &[(1, 1), (2, 1)]));
    world.with(|cluster, now| cluster.want_topics(now, names(["t"])));
    world.with(|cluster, now| cluster.want_coordinator(now));
    world
}

fn token(seconds: u64) -> Result<Token, String> {
    Token::new("t", &[], secs(seconds))
}

#[test]
fn nothing_is_asked_before_a_connection_is_authenticated() {
    let mut world = world(plain());
    world.run(secs(1));
    assert!(world.problems().is_empty(), "{:?}", world.problems());
    assert_eq!(world.coordinator(), Some(BrokerId(1)));
    let asked: Vec<_> = world.requests.iter().map(|(_, _, _, request)| request.api()).take(4).collect();
    assert_eq!(asked, [Api::ApiVersions, Api::SaslHandshake, Api::SaslAuthenticate, Api::Metadata]);
    let count = |api| world.sent(api).len();
    assert_eq!(count(Api::SaslAuthenticate), world.connects.len(), "each connection for itself");
    assert_eq!(count(Api::SaslHandshake), world.connects.len());
    assert_eq!(world.tokens_asked, 0);
}

/// Kafka 0.11 takes the mechanism's messages as they are, and says no by hanging up.
#[test]
fn the_oldest_brokers_are_spoken_to_without_headers() {
    let old = |world: &mut World| {
        for host in ["b1", "b2"] {
            world
                .sim(host)
                .apis
                .retain(|range| range.key != Api::SaslAuthenticate as i16 && range.key != Api::SaslHandshake as i16);
            world.sim(host).apis.push(ApiRange { key: Api::SaslHandshake as i16, min: 0, max: 0 });
        }
    };
    let mut good = World::new(2, plain());
    old(&mut good);
    good.with(|cluster, now| cluster.want_coordinator(now));
    good.run(secs(1));
    assert_eq!(good.coordinator(), Some(BrokerId(1)));
    assert!(good.bare.iter().all(|message| &message[..] == b"\0alice\0open sesame") && good.bare.len() == good.connects.len());
    let mut bad = World::new(2, plain());
    old(&mut bad);
    bad.sim("b1").refuses = Some("no");
    bad.sim("b2").refuses = Some("no");
    bad.with(|cluster, now| cluster.want_coordinator(now));
    bad.run(secs(1));
    assert_eq!(bad.problem_kinds(), [ProblemKind::Unauthenticated]);
    let problem = bad.problems()[0].1;
    assert!(problem.fatal && problem.what.contains("before Kafka 1.0") && !problem.what.contains("TLS"), "{}", problem.what);
}

#[test]
fn credentials_that_were_never_good_are_fatal_at_once_and_not_tried_in_a_loop() {
    let mut world = World::new(2, plain());
    world.sim("b1").refuses = Some("Invalid username or password");
    world.sim("b2").refuses = Some("Invalid username or password");
    world.with(|cluster, now| cluster.want_topics(now, names(["t"])));
    world.run(ms(100));
    let problems = world.problems();
    let (at, problem) = problems[0];
    assert!(at < ms(50) && problem.fatal && problem.kind == ProblemKind::Unauthenticated, "{at:?} {problem:?}");
    for words in ["b1", "user \"alice\"", "PLAIN", "Invalid username or password", "SASL_AUTHENTICATION_FAILED"] {
        assert!(problem.what.contains(words) || words == "b1" && problem.what.contains("b2"), "{}", problem.what);
    }
    assert!(!problem.what.contains("sesame"));
    world.run(secs(60));
    assert!(world.connects.len() <= 16, "{} attempts in a minute", world.connects.len());
}

#[test]
fn credentials_that_were_good_are_waited_for_and_given_up_in_the_end() {
    let mut world = world(plain());
    world.run(secs(1));
    for host in ["b1", "b2"] {
        world.sim(host).refuses = Some("no");
        world.fail(host, Mode::Up);
    }
    world.run(secs(60));
    let told: Vec<_> =
        world.problems().iter().filter(|(_, p)| p.kind == ProblemKind::Unauthenticated).map(|(at, p)| (*at, p.fatal)).collect();
    assert!(told[0].0 < secs(2) && told.len() <= 2 && told.iter().all(|(_, fatal)| !fatal), "{told:?}");
    for host in ["b1", "b2"] {
        world.sim(host).refuses = None;
    }
    world.run(secs(40));
    assert!(world.coordinator().is_some(), "given back, and picked up");
    for host in ["b1", "b2"] {
        world.sim(host).refuses = Some("no");
        world.fail(host, Mode::Up);
    }
    world.run(secs(290));
    let fatal = |world: &World| world.problems().iter().any(|(_, p)| p.fatal && p.kind == ProblemKind::Unauthenticated);
    assert!(!fatal(&world));
    world.run(secs(40));
    assert!(fatal(&world), "never an endless reconnect");
}

/// The connections' sessions end over and over; whatever is in flight, or asked for just then, gets its answer.
#[test]
fn a_session_is_renewed_before_it_ends_and_no_request_is_lost() {
    let mut world = World::new(2, plain());
    for host in ["b1", "b2"] {
        world.sim(host).session_lifetime = Some(secs(60));
    }
    world.topics.insert("t".into(), topic("t", Some(1), &[(1, 1), (2, 1)]));
    world.with(|cluster, now| cluster.want_topics(now, names(["t"])));
    world.with(|cluster, now| cluster.want_coordinator(now));
    world.run(secs(1));
    let authenticated = |world: &World| world.sent(Api::SaslAuthenticate).len();
    // Held by the broker while the session comes to its end.
    world.sim("b1").holds.insert(Api::Fetch);
    let fetch = |call| Owner::Fetch(call);
    let held = Request::ListOffsets { isolation: crate::wire::Isolation::ReadCommitted, partitions: Vec::new() };
    world.sim("b1").holds.insert(Api::ListOffsets);
    world.ask(fetch(1), Target::Broker(BrokerId(1)), held, secs(100));
    world.run(secs(1));
    let (before, connects) = (authenticated(&world), world.connects.len());
    world.run(secs(47));
    assert_eq!(authenticated(&world), before, "not yet");
    world.run(secs(10));
    assert!(authenticated(&world) > before, "before the 60 s are over");
    world.ask(fetch(2), Target::Broker(BrokerId(1)), heartbeat(), secs(30));
    // Longer than a broker may take to answer a handshake that it has read.
    world.run(secs(15));
    assert!(!world.answers.iter().any(|(owner, _)| *owner == fetch(2)), "it waits behind what is held");
    world.sim("b1").holds.clear();
    world.release("b1", Response::Heartbeat(ErrorCode::NONE));
    world.release(
        "b1",
        Response::SaslHandshake(crate::wire::SaslHandshakeResponse { error: ErrorCode::NONE, mechanisms: Vec::new() }),
    );
    world.run(secs(1));
    for call in [1, 2] {
        assert_eq!(world.answer_to(fetch(call)), &Ok(Response::Heartbeat(ErrorCode::NONE)), "{call}");
    }
    world.run(secs(600));
    let again = authenticated(&world) - before;
    assert!((20..=60).contains(&again), "{again} in ten minutes");
    assert_eq!(world.connects.len(), connects, "nothing was opened anew");
    assert!(world.problems().is_empty(), "{:?}", world.problems());
    assert!(matches!(world.coordinator_events()[..], [ClusterEvent::CoordinatorKnown(_)]), "{:?}", world.coordinator_events());
}

/// A busy machine: the answer that begins a session of 4 s comes late, and what is asked next takes as long to get there.
#[test]
fn a_short_session_is_counted_from_the_question_and_renewed_a_second_before_its_end() {
    let mut world = World::new(1, ClusterConfig { sasl: plain().sasl, ..config(&["b1"]) });
    world.with(|cluster, now| cluster.want_topics(now, names(["t"])));
    world.sim("b1").holds.insert(Api::SaslAuthenticate);
    world.run(secs(1));
    let [asked] = world.sent(Api::SaslAuthenticate)[..] else { panic!("one connection") };
    world.sim("b1").holds.clear();
    let session_lifetime = Some(secs(4));
    let answer = SaslAuthenticateResponse { error: ErrorCode::NONE, message: None, challenge: Bytes::new(), session_lifetime };
    world.release("b1", Response::SaslAuthenticate(answer));
    world.run(secs(3));
    let renewed = world.sent(Api::SaslHandshake)[1];
    assert!(renewed <= asked + secs(3) + ms(2), "asked at {asked:?}, renewed at {renewed:?}");
    assert!(renewed >= secs(2), "no sooner than the broker takes it: {renewed:?}");
}

#[test]
fn one_token_serves_all_connections_and_is_renewed_before_it_expires() {
    let mut world = world(with(Credentials::Bearer));
    world.run(secs(9));
    assert_eq!((world.tokens_asked, world.sent(Api::SaslHandshake).len()), (1, 0));
    assert!(world.problems().is_empty(), "no broker is to blame: {:?}", world.problems());
    world.with(|cluster, now| cluster.handle_token(now, token(100)));
    world.run(secs(1));
    assert_eq!(world.coordinator(), Some(BrokerId(1)));
    assert!(world.sent(Api::SaslAuthenticate).len() >= 2);
    world.run(secs(77));
    assert_eq!(world.tokens_asked, 1);
    world.run(secs(2));
    assert_eq!(world.tokens_asked, 2, "at 80 % of its life");
}

#[test]
fn a_token_that_cannot_be_had_is_said_and_asked_for_again() {
    let mut world = world(with(Credentials::Bearer));
    world.run(ms(10));
    world.with(|cluster, now| cluster.handle_token(now, Err("down".to_owned())));
    world.run(ms(10));
    let problems = world.problems();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].1.kind == ProblemKind::Unauthenticated && !problems[0].1.fatal && problems[0].1.what.contains("down"));
    world.run(secs(2));
    assert_eq!(world.tokens_asked, 2);
    world.with(|cluster, now| cluster.handle_token(now, token(100)));
    world.run(secs(5));
    assert_eq!(world.coordinator(), Some(BrokerId(1)));
}

#[test]
fn a_refused_token_is_not_shown_again() {
    let mut world = world(with(Credentials::Bearer));
    world.run(ms(10));
    world.with(|cluster, now| cluster.handle_token(now, token(1000)));
    world.run(secs(1));
    for host in ["b1", "b2"] {
        world.sim(host).refuses = Some("revoked");
        world.fail(host, Mode::Up);
    }
    world.run(secs(3));
    assert_eq!(world.tokens_asked, 2);
}

#[test]
fn distrust_is_told_when_no_address_is_left_or_at_once_when_others_are_fine() {
    let mut none = World::new(2, config(&["b1", "b2"]));
    none.fail("b1", Mode::Untrusted);
    none.fail("b2", Mode::Untrusted);
    none.with(|cluster, now| cluster.want_topics(now, names(["t"])));
    none.run(ms(100));
    assert_eq!(none.problem_kinds(), [ProblemKind::Untrusted]);
    let (at, problem) = none.problems()[0];
    assert!(at < ms(50) && !problem.fatal, "{at:?}");
    assert!(problem.what.contains("b1:9092 (not trusted)") && problem.what.contains("b2:9092 (not trusted)"), "{}", problem.what);

    for seed in 0..4 {
        let mut one = World::new(2, ClusterConfig { seed, ..config(&["b1", "b2"]) });
        one.topics.insert("t".into(), topic("t", Some(1), &[(2, 1)]));
        one.fail("b1", Mode::Untrusted);
        one.coordinator = Ok(2);
        one.with(|cluster, now| cluster.want_topics(now, names(["t"])));
        one.with(|cluster, now| cluster.want_coordinator(now));
        one.run(ms(500));
        assert_eq!(one.coordinator(), Some(BrokerId(2)), "seed {seed}");
        assert!(one.problems().is_empty(), "{:?}", one.problems());
        one.sim("b1").id = 1;
        one.sim("b1").mode = Mode::Up;
        one.with(|cluster, now| cluster.refresh_metadata(now, "test"));
        one.run(secs(5));
        one.fail("b1", Mode::Untrusted);
        one.ask(Owner::Fetch(1), Target::Broker(BrokerId(1)), heartbeat(), Duration::from_secs(5));
        one.run(ms(500));
        assert_eq!(one.problem_kinds(), [ProblemKind::Untrusted], "seed {seed}");
        assert!(one.problems()[0].1.what.starts_with(&addr("b1").to_string()), "{:?}", one.problems());
    }
}

/// A TLS connection that breaks after it was of use is no matter of trust.
#[test]
fn a_connection_that_was_fine_may_break_in_tls() {
    let mut world = World::new(1, config(&["b1"]));
    world.with(|cluster, now| cluster.want_coordinator(now));
    world.run(secs(1));
    world.ask(Owner::Group(1), Target::Coordinator, heartbeat(), secs(5));
    world.run(ms(10));
    world.drop_all("b1", &Disconnect::Tls("the broker sent the alert InternalError".to_owned()));
    world.run(secs(3));
    assert!(world.problems().is_empty(), "{:?}", world.problems());
    assert_eq!(world.coordinator(), Some(BrokerId(1)));
}
