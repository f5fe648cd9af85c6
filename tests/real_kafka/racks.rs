//! Reading from the nearest replica (KIP-392). Each broker of the three is in a rack of its own.

use crate::{
    member::{Member, builder, counts},
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
