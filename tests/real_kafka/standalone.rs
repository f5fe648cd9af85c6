//! Consumers that join no group, and what real brokers make of their commits beside one.

use std::time::Duration;

use kafka_harness::{Options, Produce};
use ottla::{CommitError, ConsumeErrorKind, Consumer, ConsumerBuilder, GroupProtocol, OffsetReset, SeekTo};

use crate::{
    member::{Member, Place, Process, all_places, builder, builder_of_nothing, counts, parse, role, setting, tell},
    support::{DEADLINE, Kafka, eventually_async},
};

const KILLED: &str = "standalone::ten_kills_beside_a_group_lose_nothing";
const PARTITIONS: i32 = 4;

fn standalone(kafka: &Kafka) -> ConsumerBuilder {
    Consumer::standalone(kafka.bootstrap().split(',')).metadata_max_age(Duration::from_secs(1))
}

/// What was read, whatever the order of the partitions.
fn sorted(member: &Member) -> Vec<Place> {
    let mut seen = member.seen();
    seen.sort_unstable();
    seen
}

fn places(partitions: i32, count: i64) -> Vec<Place> {
    all_places(partitions, count).into_iter().collect()
}

/// Each reads all of it, also what is added; and no group comes of it.
async fn each_reads_all(kafka: &Kafka, may_grow: bool) {
    let topic = kafka.topic("all-of-it", PARTITIONS);
    kafka.produce(&topic, PARTITIONS, 50);
    let members = [
        Member::join(standalone(kafka).subscribe([&topic])).await,
        Member::join(standalone(kafka).subscribe_pattern(format!("{topic}|no-such-topic"))).await,
        Member::join(standalone(kafka).assign((0..PARTITIONS + 1).map(|number| (topic.as_str(), number)))).await,
    ];
    let all_have = |partitions, count| members.iter().all(|member| sorted(member) == places(partitions, count));
    eventually_async("each has read all", DEADLINE, || all_have(PARTITIONS, 50)).await;
    if may_grow {
        kafka.admin.add_partitions(&topic, PARTITIONS + 1).unwrap();
        eventually_async("it can be written", DEADLINE, || {
            kafka.admin.leaders(&topic).is_ok_and(|all| all.len() == PARTITIONS as usize + 1)
        })
        .await;
        kafka.produce(&topic, PARTITIONS + 1, 10);
        kafka
            .admin
            .produce(&Produce { topic: &topic, partition: PARTITIONS, count: 50, first: 10, ..Produce::default() })
            .unwrap();
        eventually_async("and what is added", DEADLINE, || all_have(PARTITIONS + 1, 60)).await;
    }
    for (number, member) in members.into_iter().enumerate() {
        let errors = member.errors();
        // One was told of a partition that was not there yet.
        assert!(errors.iter().all(|error| number == 2 && error.contains("does not exist")), "{errors:?}");
        assert_eq!(member.leave().await.len(), if may_grow { 300 } else { 200 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_reads_all_of_a_topic_without_a_group() {
    let Some(kafka) = Kafka::shared() else { return };
    each_reads_all(kafka, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_reads_all_of_a_topic_on_old_brokers() {
    // Before Kafka 1.0, partitions could only be added behind the brokers' back.
    for (version, may_grow) in [("0.11.0.3", false), ("2.8.2", true)] {
        let Some(kafka) = Kafka::start(Options { version: version.into(), ..Options::default() }) else { return };
        each_reads_all(&kafka, may_grow).await;
        commits_are_taken_while_there_are_no_members(&kafka, GroupProtocol::Classic).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_does_not_exist_yet_is_read_when_it_does() {
    let Some(kafka) = Kafka::shared() else { return };
    let name = kafka.topic("base", 1);
    let late = format!("{name}-late");
    let named = Member::join(standalone(kafka).subscribe([&late])).await;
    let assigned = Member::join(standalone(kafka).assign([(late.as_str(), 1)])).await;
    eventually_async("both are told", DEADLINE, || {
        [&named, &assigned].iter().all(|member| member.errors().iter().any(|error| error.contains("does not exist")))
    })
    .await;
    kafka.admin.create_topic(&late, 2, 1, &[]).unwrap();
    eventually_async("it can be written", DEADLINE, || kafka.admin.leaders(&late).is_ok_and(|all| all.len() == 2)).await;
    kafka.produce(&late, 2, 10);
    eventually_async("it is read", DEADLINE, || named.seen().len() == 20 && assigned.seen().len() == 10).await;
    // Deleted and made anew, it begins anew.
    kafka.admin.delete_topic(&late).unwrap();
    eventually_async("it is gone", DEADLINE, || kafka.admin.end_offsets(&late).is_err()).await;
    kafka.admin.create_topic(&late, 2, 1, &[]).unwrap();
    eventually_async("it can be written again", DEADLINE, || kafka.admin.leaders(&late).is_ok_and(|all| all.len() == 2)).await;
    kafka.produce(&late, 2, 5);
    eventually_async("the new one is read", DEADLINE, || named.seen().len() == 30 && assigned.seen().len() == 15).await;
    assert_eq!(assigned.leave().await, (0..10).chain(0..5).map(|offset| (1, offset)).collect::<Vec<_>>());
    named.leave().await;
}

/// A worker with partitions of its own is killed again and again; each goes on at the group's offsets.
#[tokio::test(flavor = "multi_thread")]
async fn ten_kills_beside_a_group_lose_nothing() {
    if role().is_some() {
        return work().await;
    }
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("beside", PARTITIONS), kafka.group("beside"));
    kafka.produce(&topic, PARTITIONS, 2000);
    let settings = [("BOOT", kafka.bootstrap()), ("GROUP", group.as_str()), ("TOPIC", topic.as_str())];
    let mut seen: Vec<Place> = Vec::new();
    for kill in 0..10 {
        let process = Process::start(KILLED, "worker", &settings);
        eventually_async("the worker works", DEADLINE, || process.lines("did").len() >= 50 + kill * 37 % 90).await;
        seen.extend(parse(&process.kill(), "did").iter().map(|line| (line[0] as i32, line[1])));
    }
    let process = Process::start(KILLED, "worker", &settings);
    let is_committed = || [1, 3].iter().all(|partition| kafka.committed(&group, &topic).get(partition) == Some(&2000));
    eventually_async("the last one reaches the end", DEADLINE, is_committed).await;
    let last = parse(&process.kill(), "did");
    assert!(last.len() < 4000, "it begins where the others have got to");
    seen.extend(last.iter().map(|line| (line[0] as i32, line[1])));
    assert_eq!(counts(seen).into_keys().filter(|(partition, _)| [1, 3].contains(partition)).count(), 4000, "all are there");
    assert_eq!(kafka.committed(&group, &topic).into_keys().collect::<Vec<_>>(), [1, 3], "and of nothing else");
}

async fn work() {
    let topic = setting("TOPIC");
    let settings = builder_of_nothing(&setting("BOOT"), &setting("GROUP")).assign([(topic.as_str(), 1), (topic.as_str(), 3)]);
    let mut records = settings.connect().await.unwrap().at_least_once();
    while let Some(delivery) = records.next().await {
        let delivery = delivery.unwrap();
        tokio::time::sleep(Duration::from_micros(500)).await;
        tell("did", &[i64::from(delivery.partition()), delivery.offset()]);
        delivery.ack();
    }
}

/// The brokers of every kind of group take commits of no member when there is none, and refuse them while there is one.
async fn commits_are_taken_while_there_are_no_members(kafka: &Kafka, protocol: GroupProtocol) {
    let (topic, other, group) = (kafka.topic("refused", 1), kafka.topic("other", 1), kafka.group("refused"));
    kafka.produce(&topic, 1, 10);
    let joined = Member::join(builder(kafka.bootstrap(), &group, &other).group_protocol(protocol)).await;
    eventually_async("there is a member", DEADLINE, || joined.partitions() == [0]).await;

    let mut batches = builder_of_nothing(kafka.bootstrap(), &group).assign([(&*topic, 0)]).connect().await.unwrap().manual();
    let batch = batches.next_batch().await.unwrap().unwrap();
    let refused = batch.commit().await.unwrap_err();
    assert!(matches!(&refused, CommitError::Broker { .. }), "{refused:?}");
    assert!(refused.to_string().contains("UNKNOWN_MEMBER_ID"), "{refused}");
    let told = batches.next_batch().await.unwrap().unwrap_err();
    assert_eq!((told.kind(), told.is_fatal()), (ConsumeErrorKind::CommitRefused, false));
    assert!(told.to_string().contains(&group) && told.to_string().contains("it has members"), "{told}");
    assert!(kafka.committed(&group, &topic).is_empty());

    joined.leave().await;
    // It takes commits when it has noticed, and ottla tries again every five seconds.
    let end = tokio::time::Instant::now() + DEADLINE;
    while let Err(refused) = batch.commit().await {
        assert!(tokio::time::Instant::now() < end, "{refused}");
    }
    assert_eq!(kafka.committed(&group, &topic)[&0], batch.next_offset());
    drop(batch);
    batches.close(DEADLINE).await.unwrap();
    // What it has committed, a member finds.
    let member = Member::join(builder(kafka.bootstrap(), &group, &topic).group_protocol(protocol)).await;
    kafka.produce(&topic, 1, 5);
    eventually_async("the member goes on there", DEADLINE, || member.seen().len() == 5).await;
    assert_eq!(member.leave().await, (10..15).map(|offset| (0, offset)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_into_a_living_group_are_refused_with_what_to_do() {
    let Some(kafka) = Kafka::shared() else { return };
    commits_are_taken_while_there_are_no_members(kafka, GroupProtocol::Classic).await;
    commits_are_taken_while_there_are_no_members(kafka, GroupProtocol::Consumer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_group_nothing_is_committed_and_everything_else_is_there() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = kafka.topic("modes", 2);
    kafka.produce(&topic, 2, 10);
    let mut records = standalone(kafka).subscribe([&topic]).connect().await.unwrap().at_most_once();
    let error = records.next().await.unwrap().unwrap_err();
    assert!(error.kind() == ConsumeErrorKind::NoGroup && error.is_fatal(), "{error}");
    assert!(records.next().await.is_none());
    records.close(DEADLINE).await.unwrap();

    let mut batches = standalone(kafka).assign([(&*topic, 1)]).connect().await.unwrap().manual();
    let batch = batches.next_batch().await.unwrap().unwrap();
    assert!(matches!(batch.commit().await, Err(CommitError::NoGroup { partition }) if partition.topic() == topic));
    drop(batch);
    batches.close(Duration::ZERO).await.unwrap();

    let consumer = standalone(kafka).assign([(&*topic, 0)]).offset_reset(OffsetReset::Latest).connect().await.unwrap();
    let handle = consumer.handle();
    // Nobody has to be asked for partitions: they are assigned as soon as the mode is chosen.
    let mut events = handle.events();
    let mut records = consumer.at_least_once();
    let next = tokio::spawn(async move { (records.next().await.unwrap().unwrap(), records) });
    let assigned = tokio::time::timeout(DEADLINE, events.next()).await.unwrap().unwrap();
    assert!(
        matches!(&assigned, ottla::GroupEvent::Assigned { generation: -1, member_id, .. } if member_id.is_empty()),
        "{assigned:?}"
    );
    let partition = handle.assignment().remove(0);
    handle.seek(&partition, SeekTo::Offset(7));
    let (delivery, records) = next.await.unwrap();
    assert_eq!((delivery.partition(), delivery.offset()), (0, 7));
    assert_eq!(handle.stats().assigned_partitions, 1);
    eventually_async("the lag is known", DEADLINE, || {
        handle.lag().first().is_some_and(|lag| (lag.end, lag.committed, lag.oldest_unacked) == (Some(10), None, Some(7)))
    })
    .await;
    // It is in work, and nobody waits for it.
    records.close(Duration::ZERO).await.unwrap();
    drop(delivery);
}
