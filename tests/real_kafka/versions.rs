//! The oldest and the newest Kafka that start.

use std::{collections::BTreeSet, time::Duration};

use kafka_harness::{Options, Produce};
use ottla::{ConsumeErrorKind, GroupProtocol};

use crate::{
    member::{Member, all_places, builder, settled},
    support::{DEADLINE, Kafka, eventually_async},
};

/// One member says nothing of protocols, another lets ottla choose: the same is chosen where the broker has no other.
async fn the_main_job_works_on(version: &str) {
    let Some(kafka) = Kafka::start(Options { version: version.into(), ..Options::default() }) else { return };
    let (topic, group) = (kafka.topic("version", 4), kafka.group("version"));
    kafka.produce(&topic, 4, 50);
    let mut members = vec![Member::join(builder(kafka.bootstrap(), &group, &topic)).await];
    eventually_async("all is read", DEADLINE, || members[0].seen().len() == 200).await;
    members.push(Member::join(builder(kafka.bootstrap(), &group, &topic).group_protocol(GroupProtocol::Auto)).await);
    settled(&members, 4).await;
    kafka.produce(&topic, 4, 10);
    eventually_async("all is read by two", DEADLINE, || {
        members.iter().flat_map(Member::seen).collect::<BTreeSet<_>>() == all_places(4, 60)
    })
    .await;
    members.remove(0).leave().await;
    settled(&members, 4).await;
    members.remove(0).leave().await;
    assert_eq!(kafka.committed(&group, &topic).into_values().collect::<Vec<_>>(), [60; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_broker_that_starts() {
    the_main_job_works_on("0.11.0.3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_of_the_middle_ages() {
    the_main_job_works_on("2.8.2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_broker() {
    the_main_job_works_on("4.4.0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_from_before_kafka_0_11_are_refused_by_place() {
    let Some(kafka) = Kafka::start(Options { version: "2.8.2".into(), ..Options::default() }) else { return };
    let topic = format!("{}-legacy", kafka.topic("legacy", 1));
    kafka.admin.create_topic(&topic, 1, 1, &[("message.format.version", "0.10.0")]).unwrap();
    eventually_async("it can be written", DEADLINE, || kafka.admin.leaders(&topic).is_ok_and(|all| all.len() == 1)).await;
    let plain = [("enable.idempotence", "false")];
    kafka.admin.produce(&Produce { topic: &topic, count: 3, configs: &plain, ..Produce::default() }).unwrap();
    let mut records = builder(kafka.bootstrap(), &kafka.group("legacy"), &topic).connect().await.unwrap().at_least_once();
    let error = tokio::time::timeout(DEADLINE, records.next()).await.expect("said in time").unwrap().unwrap_err();
    assert_eq!(error.kind(), ConsumeErrorKind::LegacyFormat);
    assert!(error.to_string().contains(&topic) && error.to_string().contains("offset 0"), "{error}");
    assert!(tokio::time::timeout(Duration::from_secs(2), records.next()).await.is_err(), "said once, and no busy loop");
}
