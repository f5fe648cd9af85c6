//! Reading from the nearest replica (KIP-392), and what is assigned to whom (KIP-881). Each broker of the three is in a rack of its own.

use crate::{
    member::{Member, builder, counts, settled},
    ownership::assignor,
    support::{DEADLINE, Kafka, eventually_async},
};

#[tokio::test(flavor = "multi_thread")]
async fn nearly_all_bytes_come_from_the_own_rack_and_a_dead_replica_holds_nothing_up() {
    let Some(kafka) = Kafka::three_nodes() else { return };
    let (topic, group) = (kafka.topic("racks", 6), kafka.group("racks"));
    let produce = |count| {
        for partition in 0..6 {
            let records = kafka_harness::Produce { topic: &topic, partition, count, size: 1_000, ..Default::default() };
            kafka.admin.produce(&records).unwrap();
        }
    };
    produce(500);
    let member = Member::join(builder(kafka.bootstrap(), &group, &topic).client_rack("rack2")).await;
    eventually_async("all is read", DEADLINE, || member.seen().len() == 6 * 500).await;
    produce(100);
    eventually_async("what comes later is, too", DEADLINE, || member.seen().len() == 6 * 600).await;
    let sent = [1, 2, 3].map(|id| {
        let process = kafka.cluster().process_id(id).unwrap();
        kafka.admin.bytes_out(process, &topic).unwrap()
    });
    let all: u64 = sent.iter().sum();
    println!("sent to the consumer by brokers 1, 2 and 3: {sent:?} bytes");
    assert!(all > 6 * 600 * 1_000, "{sent:?}");
    assert!(sent[1] * 100 >= all * 95, "{sent:?}");

    kafka.cluster().kill_broker(2).unwrap();
    produce(100);
    eventually_async("the leaders are read", DEADLINE, || member.seen().len() == 6 * 700).await;
    kafka.cluster().start_broker(2).unwrap();
    produce(100);
    eventually_async("and go on being read", DEADLINE, || member.seen().len() == 6 * 800).await;
    assert!(counts(member.leave().await).into_values().all(|count| count == 1), "nothing twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_get_what_is_in_their_rack() {
    let Some(kafka) = Kafka::three_nodes() else { return };
    for name in ["range", "sticky", "cooperative-sticky"] {
        let (topic, group) = (kafka.group("near"), kafka.group("near"));
        kafka.admin.create_topic_on(&topic, &[&[1], &[1], &[2], &[2], &[3], &[3]], &[]).unwrap();
        eventually_async("each has a leader", DEADLINE, || {
            kafka.admin.leaders(&topic).is_ok_and(|all| all.len() == 6 && all.values().all(|one| one.leader > 0))
        })
        .await;
        let mut members = Vec::new();
        // None of them would get its own by the order in which they join, nor by the order of the partitions.
        for rack in [3, 1, 2] {
            let settings = builder(kafka.bootstrap(), &group, &topic).assignors([assignor(name)]);
            members.push(Member::join(settings.client_id(format!("{}", 9 - rack)).client_rack(format!("rack{rack}"))).await);
            settled(&members, 6).await;
        }
        let held: Vec<_> = members.iter().map(Member::partitions).collect();
        println!("{name} gives members in racks 3, 1 and 2 {held:?}");
        assert_eq!(held, [[4, 5], [0, 1], [2, 3]], "{name}");
        for member in members {
            member.leave().await;
        }
    }
}
