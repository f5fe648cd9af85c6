//! Topics that change under a running consumer.

use std::{collections::BTreeSet, time::Duration};

use ottla::{ConsumeErrorKind, Consumer};

use crate::{
    member::{Member, all_places, builder, settled},
    support::{DEADLINE, Kafka, eventually_async},
};

#[tokio::test(flavor = "multi_thread")]
async fn more_partitions_are_picked_up() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("growing", 2), kafka.group("growing"));
    kafka.produce(&topic, 2, 10);
    let members = [
        Member::join(builder(kafka.bootstrap(), &group, &topic)).await,
        Member::join(builder(kafka.bootstrap(), &group, &topic)).await,
    ];
    settled(&members, 2).await;
    kafka.admin.add_partitions(&topic, 5).unwrap();
    settled(&members, 5).await;
    eventually_async("the new partitions can be written", DEADLINE, || kafka.admin.leaders(&topic).unwrap().len() == 5).await;
    for partition in 2..5 {
        kafka.admin.produce(&kafka_harness::Produce { topic: &topic, partition, count: 10, ..Default::default() }).unwrap();
    }
    eventually_async("the new partitions are read from their beginning", DEADLINE, || {
        members.iter().flat_map(Member::seen).collect::<BTreeSet<_>>() == all_places(5, 10)
    })
    .await;
    for member in members {
        member.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_created_after_the_subscription_is_said_to_be_missing_and_then_read() {
    let Some(kafka) = Kafka::shared() else { return };
    let (other, group) = (kafka.topic("present", 1), kafka.group("late"));
    let topic = format!("{other}-late");
    let settings = Consumer::builder(group.as_str(), kafka.bootstrap().split(',')).subscribe([topic.as_str(), other.as_str()]);
    let mut records = settings.connect().await.unwrap().at_least_once();
    let error =
        tokio::time::timeout(Duration::from_secs(5), records.next()).await.expect("said within 5 s").unwrap().unwrap_err();
    assert_eq!(error.kind(), ConsumeErrorKind::UnknownTopic);
    assert!(error.to_string().contains(&topic) && !error.is_fatal(), "{error}");
    assert!(tokio::time::timeout(Duration::from_secs(3), records.next()).await.is_err(), "said once");
    kafka.admin.create_topic(&topic, 2, 1, &[]).unwrap();
    eventually_async("it can be written", DEADLINE, || kafka.admin.leaders(&topic).is_ok_and(|all| all.len() == 2)).await;
    kafka.produce(&topic, 2, 3);
    // The default metadata age of five minutes must not stand in the way.
    for _ in 0..6 {
        let delivery = tokio::time::timeout(Duration::from_secs(20), records.next()).await.expect("read soon").unwrap().unwrap();
        assert_eq!(delivery.topic(), topic);
        delivery.ack();
    }
    records.close(DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_deleted_and_made_anew_is_read_from_its_new_beginning() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("phoenix", 2), kafka.group("phoenix"));
    kafka.produce(&topic, 2, 100);
    let member = Member::join(builder(kafka.bootstrap(), &group, &topic)).await;
    eventually_async("the first life is read", DEADLINE, || member.seen().len() == 200).await;
    for life in 2..4 {
        kafka.admin.delete_topic(&topic).unwrap();
        eventually_async("it is made anew", DEADLINE, || kafka.admin.create_topic(&topic, 2, 1, &[]).is_ok()).await;
        eventually_async("it can be written", DEADLINE, || {
            kafka.admin.leaders(&topic).is_ok_and(|all| all.len() == 2 && all.values().all(|one| one.leader >= 0))
        })
        .await;
        // Fewer, or more, than the life before: an old offset would show.
        let count = 60 * life;
        kafka.produce(&topic, 2, count);
        let read = |from: usize| member.seen()[from..].iter().copied().collect::<BTreeSet<_>>();
        let before = 200 + if life == 3 { 240 } else { 0 };
        eventually_async("the new life is read, whole", DEADLINE, || read(before) == all_places(2, count as i64)).await;
        eventually_async("and committed", DEADLINE, || kafka.committed(&group, &topic).into_values().eq([count as i64; 2])).await;
    }
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_deleted_from_under_a_reader_are_stepped_over() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("retention", 1), kafka.group("retention"));
    kafka.produce(&topic, 1, 100);
    kafka.admin.alter_offset(&group, &topic, 0, 10).unwrap();
    kafka.admin.delete_records(&topic, 0, 50).unwrap();
    let member = Member::join(builder(kafka.bootstrap(), &group, &topic)).await;
    eventually_async("what there still is, is read", DEADLINE, || member.seen().last() == Some(&(0, 99))).await;
    assert_eq!(member.seen()[0], (0, 50));
    member.leave().await;
    assert_eq!(kafka.committed(&group, &topic)[&0], 100);
}
