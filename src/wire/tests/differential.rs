use std::time::Duration;

use proptest::test_runner::{Config, TestRunner};

use super::{super::*, answers::answer, every_version, peer};

/// Random answers per API and version.
const CASES: u32 = 32;

fn check_answers(check: impl Fn(Api, i16, Response)) {
    for (api, version) in every_version() {
        let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
        runner
            .run(&answer(api, version), |meant| {
                check(api, version, meant);
                Ok(())
            })
            .unwrap_or_else(|failure| panic!("{api:?} {version}: {failure}"));
    }
}

#[test]
fn reads_every_answer_at_every_version_as_it_was_meant() {
    check_answers(|api, version, meant| {
        assert_eq!(Response::decode(api, version, peer::encode(&meant, version)), Ok(meant));
    });
}

/// What else is written into each answer here is a week and more.
#[test]
fn reads_from_every_answer_how_long_its_broker_does_not_listen_but_waits_no_longer_than_a_window() {
    check_answers(|api, version, meant| {
        let expected = match (api.throttles_from(), &meant) {
            (Some(_), Response::Fetch(fetched)) => fetched.throttle,
            (Some(from), _) if version >= from => Duration::from_secs(30),
            _ => Duration::ZERO,
        };
        assert_eq!(Response::throttle(api, version, &peer::encode(&meant, version)), expected);
    });
}
