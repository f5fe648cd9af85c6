//! Brokers that never come to their senses: whatever they answer, for ever, nobody asks them again and again.

use ottla_mock::{Api, ResponseError, Verdict};

use super::{
    user::Records,
    world::{World, builder, secs},
};
use crate::GroupProtocol;

/// What a consumer asks in its life.
const APIS: [Api; 10] = [
    Api::ApiVersions,
    Api::Metadata,
    Api::FindCoordinator,
    Api::JoinGroup,
    Api::SyncGroup,
    Api::Heartbeat,
    Api::OffsetFetch,
    Api::ListOffsets,
    Api::Fetch,
    Api::OffsetCommit,
];
/// What another consumer asks in its life, which is a member by the consumer protocol.
const APIS_OF_KIP_848: [Api; 3] = [Api::ConsumerGroupHeartbeat, Api::OffsetFetch, Api::OffsetCommit];
const SECONDS: u64 = 12;
/// In all, and for each second. Where all is well there are some four requests a second, most of them Fetches that wait for records; what is
/// tried again is so after 80 ms at first, and then more and more rarely, up to a second or so; to join anew takes six requests.
const REQUESTS_MAX: (usize, usize) = (60, 15);

/// Plays a while in which every request to one API has this fate, and looks at how much is asked.
fn check(api: Api, verdict: &Verdict) {
    if APIS.contains(&api) {
        check_by(GroupProtocol::Classic, api, verdict);
    }
    if APIS_OF_KIP_848.contains(&api) {
        check_by(GroupProtocol::Consumer, api, verdict);
    }
}

fn check_by(protocol: GroupProtocol, api: Api, verdict: &Verdict) {
    let mut world = World::new(2);
    (0..10).for_each(|n| world.produce(n % 2, 1));
    let always = verdict.clone();
    world.kafka.intercept(api, move |_| always.clone());
    world.join(builder().group_protocol(protocol), |consumer| Records::AtLeastOnce(consumer.at_least_once()));
    world.run(secs(SECONDS));
    let (at_all, a_second) = REQUESTS_MAX;
    let asked = world.requests.len();
    assert!(
        asked <= at_all + a_second * SECONDS as usize,
        "{asked} requests in {SECONDS} s: {api:?} is always {verdict:?}, {protocol:?}"
    );
}

#[test]
fn no_error_is_asked_about_again_and_again_however_long_it_lasts() {
    for api in APIS.into_iter().chain([Api::ConsumerGroupHeartbeat]) {
        for error in (1..=i16::from(u8::MAX)).filter_map(ResponseError::try_from_code) {
            check(api, &Verdict::Error(error));
        }
        check(api, &Verdict::Error(ResponseError::UnknownServerError));
    }
}

#[test]
fn no_broken_answer_is_asked_for_again_and_again_however_often_it_comes() {
    for api in APIS.into_iter().chain([Api::ConsumerGroupHeartbeat]) {
        for verdict in [
            Verdict::Garbage,
            Verdict::NoReply,
            Verdict::CloseBefore,
            Verdict::CloseAfterApplying,
            Verdict::SilentAfterApplying,
            Verdict::Delay(secs(1)),
        ] {
            check(api, &verdict);
        }
    }
}
