//! A consumer that is far behind reads over several connections: each record once, in order, and all are committed.

#![allow(clippy::disallowed_methods, reason = "a client and a server live in real time")]

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use ottla::{Consumer, OffsetReset};
use ottla_mock::{Api, MockCluster, Verdict};

const PARTITIONS: i32 = 4;
const BATCHES: i64 = 40;
const RECORDS: i64 = 100;

#[tokio::test]
async fn what_lies_unread_is_read_over_as_many_connections_as_are_allowed() {
    for connections in [0, 2] {
        let kafka = MockCluster::builder().topic("orders", PARTITIONS as usize).start().await;
        for partition in 0..PARTITIONS {
            for _ in 0..BATCHES {
                kafka.append("orders", partition, (0..RECORDS).map(|_| vec![b'o'; 1024]));
            }
        }
        let lines = Arc::new(Mutex::new(BTreeSet::new()));
        let seen = Arc::clone(&lines);
        kafka.intercept(Api::Fetch, move |request| {
            seen.lock().expect("no panic").insert(request.conn);
            Verdict::Pass
        });
        let builder = Consumer::builder("workers", [kafka.bootstrap_servers()]).subscribe(["orders"]);
        let builder = builder.offset_reset(OffsetReset::Earliest).catch_up_connections(connections);
        let mut orders = builder.connect().await.expect("a cluster").at_least_once();
        let mut next = [0; PARTITIONS as usize];
        while next.iter().sum::<i64>() < i64::from(PARTITIONS) * BATCHES * RECORDS {
            let order = orders.next().await.expect("open").expect("good");
            let next = &mut next[order.partition() as usize];
            assert_eq!(order.offset(), *next, "in partition {}, with {connections} connections", order.partition());
            *next += 1;
            order.ack();
        }
        orders.close(Duration::from_secs(10)).await.expect("all acknowledged");
        assert!(kafka.committed("workers").values().all(|&offset| offset == BATCHES * RECORDS));
        assert_eq!(lines.lock().expect("no panic").len(), 1 + connections, "one waits, so many read");
    }
}
