use proptest::test_runner::{Config, TestRunner};

use super::{super::*, answers::answer, every_version, peer};

/// Random answers per API and version.
const CASES: u32 = 32;

#[test]
fn reads_every_answer_at_every_version_as_it_was_meant() {
    for (api, version) in every_version() {
        let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
        runner
            .run(&answer(api, version), |meant| {
                assert_eq!(Response::decode(api, version, peer::encode(&meant, version)), Ok(meant));
                Ok(())
            })
            .unwrap_or_else(|failure| panic!("{api:?} {version}: {failure}"));
    }
}
