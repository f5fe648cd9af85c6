//! The oldest and the newest Kafka that start.

use std::collections::BTreeSet;

use kafka_harness::Options;

use crate::{
    member::{Member, all_places, builder, settled},
    support::{DEADLINE, Kafka, eventually_async},
};

async fn the_main_job_works_on(version: &str) {
    let Some(kafka) = Kafka::start(Options { version: version.into(), ..Options::default() }) else { return };
    let (topic, group) = (kafka.topic("version", 4), kafka.group("version"));
    kafka.produce(&topic, 4, 50);
    let mut members = vec![Member::join(builder(kafka.bootstrap(), &group, &topic)).await];
    eventually_async("all is read", DEADLINE, || members[0].seen().len() == 200).await;
    members.push(Member::join(builder(kafka.bootstrap(), &group, &topic)).await);
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
