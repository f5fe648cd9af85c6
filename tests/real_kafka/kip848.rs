//! Members by the consumer protocol (KIP-848): the coordinator assigns.

use std::{collections::BTreeSet, sync::Arc};

use kafka_harness::JavaMember;
use ottla::{ConsumeErrorKind, ConsumerBuilder, CooperativeSticky, GroupProtocol, OffsetReset};

use crate::{
    member::{Member, all_places, builder, counts, settled},
    ownership::members_come_and_go,
    support::{DEADLINE, Kafka, eventually_async},
};

fn by_consumer_protocol(builder: ConsumerBuilder) -> ConsumerBuilder {
    builder.group_protocol(GroupProtocol::Consumer)
}

/// A member of a group that goes from protocol to protocol: as a classic one, it is cooperative.
async fn join_by(protocol: GroupProtocol, builder: ConsumerBuilder) -> Member {
    Member::join(builder.assignors([Arc::new(CooperativeSticky) as _]).group_protocol(protocol)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_partition_has_one_owner_with_uniform() {
    members_come_and_go("uniform", by_consumer_protocol).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_partition_has_one_owner_with_range_of_the_server() {
    members_come_and_go("range", |builder| by_consumer_protocol(builder).server_assignor("range")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn java_and_ottla_share_a_group() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("mixed-848", 6), kafka.group("mixed-848"));
    let join = || Member::join(by_consumer_protocol(builder(kafka.bootstrap(), &group, &topic)));
    let first = join().await;
    let java = kafka.admin.join("java-848", &group, &[&topic], "range", &[("group.protocol", "consumer")]).unwrap();
    let second = join().await;
    let of_java = |java: &JavaMember<'_>| java.status().unwrap().assigned.len();
    eventually_async("two partitions each", DEADLINE, || {
        [first.partitions().len(), of_java(&java), second.partitions().len()] == [2, 2, 2]
    })
    .await;
    kafka.produce(&topic, 6, 50);
    eventually_async("each reads its own", DEADLINE, || {
        (first.seen().len(), java.status().unwrap().records(), second.seen().len()) == (100, 100, 100)
    })
    .await;
    let mut seen = first.leave().await;
    eventually_async("the others take over", DEADLINE, || (of_java(&java), second.partitions().len()) == (3, 3)).await;
    java.stop().unwrap();
    let alone = [second];
    settled(&alone, 6).await;
    kafka.produce(&topic, 6, 10);
    let [second] = alone;
    eventually_async("all is committed", DEADLINE, || kafka.committed(&group, &topic).into_values().eq([60; 6])).await;
    seen.extend(second.leave().await);
    assert!(counts(seen).into_values().all(|count| count == 1), "nothing twice");
}

/// Restart by restart, a group goes from the classic protocol to the new one and back, reading all the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_rolled_to_the_consumer_protocol_and_back() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("rolled-848", 6), kafka.group("rolled-848"));
    let join = |protocol| join_by(protocol, builder(kafka.bootstrap(), &group, &topic));
    let mut members = vec![join(GroupProtocol::Classic).await, join(GroupProtocol::Classic).await];
    let mut seen = Vec::new();
    let rounds = [
        (GroupProtocol::Consumer, "uniform"),
        (GroupProtocol::Classic, "cooperative-sticky"),
        // Where a group has members, it stays what it is, or becomes what it can.
        (GroupProtocol::Auto, "uniform"),
    ];
    for (round, (protocol, selected)) in (1..).zip(rounds) {
        for _ in 0..2 {
            kafka.produce(&topic, 6, 50);
            // The group never is without members: it is converted while it works.
            members.push(join(protocol).await);
            settled(&members, 6).await;
            seen.extend(members.remove(0).leave().await);
        }
        settled(&members, 6).await;
        eventually_async("all is read", DEADLINE, || {
            seen.iter().copied().chain(members.iter().flat_map(Member::seen)).collect::<BTreeSet<_>>()
                == all_places(6, round * 100)
        })
        .await;
        assert_eq!(kafka.admin.group(&group).unwrap().assignor, selected, "round {round}");
        assert!(members.iter().all(|member| member.errors().is_empty()));
    }
    for member in members {
        seen.extend(member.leave().await);
    }
    let twice: Vec<_> = counts(seen).into_iter().filter(|(_, count)| *count > 1).collect();
    assert!(twice.is_empty(), "nothing twice on clean leaves: {twice:?}");
    assert_eq!(kafka.committed(&group, &topic).into_values().collect::<Vec<_>>(), [300; 6]);
}

/// A group becomes another while a Java client is in it, of either protocol; and, both ways, while nobody is.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_converted_with_java_in_it_and_without_members() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("converted", 6), kafka.group("converted"));
    let join = |protocol| join_by(protocol, builder(kafka.bootstrap(), &group, &topic));
    let java_joins =
        |name, configs: &[_]| kafka.admin.join(name, &group, &[&topic], "cooperative-sticky", configs).expect("Java joins");
    let three_each = async |java: &JavaMember<'_>, member: &Member| {
        let held = || (java.status().unwrap().assigned.len(), member.partitions().len());
        eventually_async("three partitions each", DEADLINE, || held() == (3, 3)).await;
    };
    let all_is_committed = async |count| {
        let committed = || kafka.committed(&group, &topic).into_values();
        eventually_async("all is read, and committed", DEADLINE, || committed().eq([count; 6])).await;
    };

    let java = java_joins("java-classic", &[]);
    let first = join(GroupProtocol::Classic).await;
    three_each(&java, &first).await;
    kafka.produce(&topic, 6, 50);
    let second = join(GroupProtocol::Consumer).await;
    let mut seen = first.leave().await;
    three_each(&java, &second).await;
    kafka.produce(&topic, 6, 50);
    all_is_committed(100).await;
    assert_eq!(kafka.admin.group(&group).unwrap().assignor, "uniform", "the coordinator assigns, to Java's classic member, too");
    let mut by_java = java.stop().unwrap().records();
    let java = java_joins("java-consumer", &[("group.protocol", "consumer")]);
    three_each(&java, &second).await;
    kafka.produce(&topic, 6, 50);
    all_is_committed(150).await;
    seen.extend(second.leave().await);
    by_java += java.stop().unwrap().records();

    for (produced, protocol, selected) in
        [(200, GroupProtocol::Classic, "cooperative-sticky"), (250, GroupProtocol::Consumer, "uniform")]
    {
        kafka.produce(&topic, 6, 50);
        let alone = [join(protocol).await];
        settled(&alone, 6).await;
        all_is_committed(produced).await;
        assert_eq!(kafka.admin.group(&group).unwrap().assignor, selected);
        let [alone] = alone;
        seen.extend(alone.leave().await);
    }
    assert_eq!(seen.len() + by_java, 6 * 250, "nothing is lost, and nothing comes twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_comes_back_to_what_it_had_and_a_usurper_waits() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("static-848", 4), kafka.group("static-848"));
    kafka.produce(&topic, 4, 10);
    let settings = |name: &str| by_consumer_protocol(builder(kafka.bootstrap(), &group, &topic)).group_instance_id(name);
    let both = [Member::join(settings("a")).await, Member::join(settings("b")).await];
    settled(&both, 4).await;
    let [a, b] = both;
    let (held, others) = (b.partitions(), a.partitions());
    b.leave().await;
    let b = Member::join(settings("b")).await;
    eventually_async("b has what it had", DEADLINE, || b.partitions() == held).await;
    assert_eq!(a.partitions(), others, "b left its place open");

    let usurper = Member::join(settings("b")).await;
    eventually_async("the usurper is told", DEADLINE, || {
        usurper.errors().iter().any(|error| error.contains("group.instance.id b"))
    })
    .await;
    assert_eq!((b.partitions(), usurper.partitions().len()), (held.clone(), 0), "who is there stays");
    b.leave().await;
    eventually_async("the usurper gets the place when it is free", DEADLINE, || usurper.partitions() == held).await;
    usurper.leave().await;
    a.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignor_that_the_server_does_not_have_is_refused_by_name() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("assignor-848", 1), kafka.group("assignor-848"));
    let settings = by_consumer_protocol(builder(kafka.bootstrap(), &group, &topic)).server_assignor("nonesuch");
    let mut records = settings.offset_reset(OffsetReset::Earliest).connect().await.unwrap().at_least_once();
    let error = tokio::time::timeout(DEADLINE, records.next()).await.expect("said in time").unwrap().unwrap_err();
    assert!(error.is_fatal());
    assert_eq!(error.kind(), ConsumeErrorKind::GroupRefused);
    assert!(error.to_string().contains("nonesuch") && error.to_string().contains(&group), "{error}");
}
