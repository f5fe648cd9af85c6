//! Subscriptions by pattern, and such that change while the member runs.

use std::{collections::BTreeSet, time::Duration};

use kafka_harness::Options;
use ottla::{ConsumeErrorKind, ConsumerBuilder, GroupProtocol, Subscription, TopicPartition};

use crate::{
    member::{Member, builder, builder_of_nothing},
    support::{DEADLINE, Kafka, eventually_async},
};

/// Reads what matches, in place of a topic that is named.
fn by_pattern(kafka: &Kafka, group: &str, pattern: &str) -> ConsumerBuilder {
    builder_of_nothing(kafka.bootstrap(), group).subscribe_pattern(pattern)
}

async fn created(kafka: &Kafka, topic: &str, partitions: i32) {
    kafka.admin.create_topic(topic, partitions, 1, &[]).unwrap();
    eventually_async("it can be written", DEADLINE, || {
        kafka.admin.leaders(topic).is_ok_and(|all| all.len() == partitions as usize)
    })
    .await;
}

fn held(members: &[&Member]) -> Vec<String> {
    let mut held: Vec<_> = members.iter().flat_map(|member| member.handle.assignment()).map(|of| of.to_string()).collect();
    held.sort();
    held
}

fn partitions(topics: &[(&str, i32)]) -> Vec<String> {
    let of = |(topic, count): &(&str, i32)| {
        let topic = (*topic).to_owned();
        (0..*count).map(move |number| TopicPartition::new(topic.as_str(), number).to_string())
    };
    let mut all: Vec<_> = topics.iter().flat_map(of).collect();
    all.sort();
    all
}

fn seen(members: &[&Member]) -> usize {
    members.iter().map(|member| member.seen().len()).sum()
}

/// Two members share the topic that matches, with 10 records in each of its 2 partitions, and so they do with another as long as there is one.
async fn a_match_comes_and_goes(kafka: &Kafka, base: &str, members: [&Member; 2]) {
    let late = format!("{base}-late");
    eventually_async("both share what matches", DEADLINE, || {
        held(&members) == partitions(&[(base, 2)]) && members.iter().all(|member| member.handle.assignment().len() == 1)
    })
    .await;
    created(kafka, &late, 2).await;
    kafka.produce(&late, 2, 10);
    eventually_async("what comes later is read", DEADLINE, || {
        held(&members) == partitions(&[(base, 2), (&late, 2)]) && seen(&members) == 40
    })
    .await;
    kafka.admin.delete_topic(&late).unwrap();
    eventually_async("what goes is let go of", DEADLINE, || held(&members) == partitions(&[(base, 2)])).await;
}

/// Two members by pattern: topics come and go, excluded ones and Kafka's own are never read, and nothing is read twice.
async fn what_matches_is_read(kafka: &Kafka, protocol: GroupProtocol) {
    let (base, group) = (kafka.topic("pattern", 2), kafka.group("pattern"));
    kafka.produce(&base, 2, 10);
    let name = |suffix: &str| format!("{base}{suffix}");
    created(kafka, &name("-excluded"), 1).await;
    let settings = || {
        let pattern = format!("{base}.*|__consumer.*");
        by_pattern(kafka, &group, &pattern).exclude_pattern(".*-excluded").group_protocol(protocol)
    };
    let (one, other) = (Member::join(settings()).await, Member::join(settings()).await);
    let members = [&one, &other];
    a_match_comes_and_goes(kafka, &base, members).await;
    kafka.produce(&base, 2, 10);
    eventually_async("and the rest is read on", DEADLINE, || seen(&members) == 60).await;
    assert_eq!([one.errors(), other.errors()], [[""; 0]; 2]);
    one.leave().await;
    other.leave().await;
    assert_eq!(kafka.committed(&group, &base).into_values().collect::<Vec<_>>(), [20; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_match_come_and_go() {
    let Some(kafka) = Kafka::shared() else { return };
    what_matches_is_read(kafka, GroupProtocol::Classic).await;
    what_matches_is_read(kafka, GroupProtocol::Consumer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_match_come_and_go_on_old_brokers() {
    for version in ["0.11.0.3", "2.8.2"] {
        let Some(kafka) = Kafka::start(Options { version: version.into(), ..Options::default() }) else { return };
        what_matches_is_read(&kafka, GroupProtocol::Classic).await;
    }
}

fn by_server_pattern(kafka: &Kafka, group: &str, pattern: &str) -> ConsumerBuilder {
    builder_of_nothing(kafka.bootstrap(), group).subscribe_server_pattern(pattern).group_protocol(GroupProtocol::Consumer)
}

/// Two members whose coordinator matches: what Java's client creates later begins to match, what it deletes is let go of, and the pattern changes.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_coordinator_finds_to_match_is_read() {
    let Some(kafka) = Kafka::shared() else { return };
    let (base, group) = (kafka.topic("re2j", 2), kafka.group("re2j"));
    kafka.produce(&base, 2, 10);
    let name = |suffix: &str| format!("{base}{suffix}");
    // It matches in part, and a pattern is for whole names.
    created(kafka, &name("-not-this-one"), 1).await;
    // A class of Unicode is RE2's; look-around, which Java's own patterns have, is not.
    let settings =
        || by_server_pattern(kafka, &group, &format!(r"{base}(-\p{{Ll}}{{1,4}})?")).metadata_max_age(Duration::from_secs(3600));
    let (one, other) = (Member::join(settings()).await, Member::join(settings()).await);
    let members = [&one, &other];
    a_match_comes_and_goes(kafka, &base, members).await;
    created(kafka, &name("-another"), 1).await;
    kafka.produce(&name("-another"), 1, 10);
    for member in members {
        member.handle.subscribe(Subscription::new().server_pattern(format!("{base}-an.*"))).unwrap();
    }
    eventually_async("another pattern has others match", DEADLINE, || {
        held(&members) == partitions(&[(&name("-another"), 1)]) && seen(&members) == 50
    })
    .await;
    assert_eq!(kafka.committed(&group, &base).into_values().collect::<Vec<_>>(), [10; 2], "what went was committed");
    // Topics that are named add up with those that match.
    one.handle.subscribe(Subscription::from([base.as_str()]).server_pattern(format!("{base}-an.*"))).unwrap();
    other.leave().await;
    eventually_async("both are read", DEADLINE, || held(&[&one]) == partitions(&[(&base, 2), (&name("-another"), 1)])).await;
    one.handle.subscribe([base.as_str()]).unwrap();
    eventually_async("without a pattern nothing matches", DEADLINE, || held(&[&one]) == partitions(&[(&base, 2)])).await;
    assert_eq!(one.errors(), [""; 0]);
    one.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_that_is_none_to_the_coordinator_ends_the_stream() {
    let Some(kafka) = Kafka::shared() else { return };
    // It is one to Java, and to other programs.
    let pattern = "re2j(?!-excluded).*";
    let settings = by_server_pattern(kafka, &kafka.group("no-regex"), pattern);
    let mut records = settings.connect().await.unwrap().at_least_once();
    let error = tokio::time::timeout(DEADLINE, records.next()).await.expect("told in time").unwrap().unwrap_err();
    assert_eq!(error.kind(), ConsumeErrorKind::GroupRefused, "{error}");
    assert!(error.to_string().contains(pattern), "{error}");
    assert!(records.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_for_the_coordinator_is_an_error_on_old_brokers() {
    let Some(kafka) = Kafka::start(Options { version: "2.8.2".into(), ..Options::default() }) else { return };
    for protocol in [GroupProtocol::Consumer, GroupProtocol::Auto] {
        let settings = by_server_pattern(&kafka, &kafka.group("too-old"), "a.*").group_protocol(protocol);
        let mut records = settings.connect().await.unwrap().at_least_once();
        let error = tokio::time::timeout(DEADLINE, records.next()).await.expect("told in time").unwrap().unwrap_err();
        assert_eq!(error.kind(), ConsumeErrorKind::Incompatible, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kafkas_own_topics_match_where_that_is_asked_for() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("internal", 1), kafka.group("internal"));
    kafka.produce(&topic, 1, 1);
    // A commit, so that there is a topic for commits.
    let member = Member::join(builder(kafka.bootstrap(), &group, &topic)).await;
    eventually_async("something is committed", DEADLINE, || kafka.committed(&group, &topic).get(&0) == Some(&1)).await;
    member.leave().await;
    let settings = by_pattern(kafka, &kafka.group("insider"), "__consumer_offsets").exclude_internal_topics(false);
    let mut records = settings.connect().await.unwrap().at_least_once();
    let delivery = tokio::time::timeout(DEADLINE, records.next()).await.expect("read in time").unwrap().unwrap();
    assert_eq!(delivery.topic(), "__consumer_offsets");
    drop(delivery);
    records.close(DEADLINE).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_changes_ends_and_begins_again() {
    let Some(kafka) = Kafka::shared() else { return };
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        let (first, second, group) = (kafka.topic("first", 2), kafka.topic("second", 2), kafka.group("changing"));
        kafka.produce(&first, 2, 10);
        kafka.produce(&second, 2, 10);
        let member = Member::join(builder(kafka.bootstrap(), &group, &first).group_protocol(protocol)).await;
        eventually_async("the first is read", DEADLINE, || member.seen().len() == 20).await;
        member.handle.subscribe([first.as_str(), second.as_str()]).unwrap();
        eventually_async("both are read", DEADLINE, || member.seen().len() == 40).await;
        member.handle.subscribe(Subscription::new().pattern(&second)).unwrap();
        eventually_async("only the second is held", DEADLINE, || held(&[&member]) == partitions(&[(&second, 2)])).await;
        assert_eq!(kafka.committed(&group, &first).into_values().collect::<Vec<_>>(), [10; 2], "what went was committed");
        member.handle.unsubscribe();
        eventually_async("nothing is held", DEADLINE, || {
            held(&[&member]).is_empty() && kafka.admin.group(&group).is_ok_and(|group| group.members.is_empty())
        })
        .await;
        kafka.produce(&first, 2, 10);
        member.handle.subscribe([first.as_str(), second.as_str()]).unwrap();
        eventually_async("it goes on where it was", DEADLINE, || member.seen().len() == 60).await;
        let seen: BTreeSet<_> = member.seen().into_iter().collect();
        assert_eq!(seen.len(), 40, "offsets 0 to 9 of both topics, 10 to 19 of the first, in two partitions");
        assert_eq!(member.errors(), [""; 0]);
        member.leave().await;
    }
}
