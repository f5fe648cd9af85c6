//! A Kafka cluster inside your process, for tests.
//!
//! It speaks Kafka's binary protocol on loopback, so any client can use it: brokers, topics with leaders and epochs, consumer groups of
//! both protocols, committed offsets, producers, transactions, SASL. Nothing is installed, nothing is waited for: a cluster starts in a
//! millisecond, and a test does to it, in a line, what takes an evening with real brokers: lose the answer to a commit, kill a
//! coordinator, cut the network.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use ottla::{Consumer, OffsetReset};
//! use ottla_mock::MockCluster;
//!
//! let kafka = MockCluster::start().await;
//! kafka.create_topic("orders", 3);
//! kafka.append("orders", 0, ["one", "two"]);
//!
//! let mut records = Consumer::builder("workers", kafka.bootstrap_servers().split(','))
//!     .subscribe(["orders"])
//!     .connect()
//!     .await?
//!     .at_least_once();
//! let delivery = records.next().await.expect("the stream goes on")?;
//! assert_eq!(delivery.value(), Some(b"one".as_slice()));
//! # Ok(())
//! # }
//! ```
//!
//! What a test does to the cluster is done when the call returns. Only waits are asynchronous ([`MockCluster::wait_until`] and its
//! relatives); they end as soon as what they wait for is so, and fail the test with what the groups look like if it never is. The few
//! things that most tests need are on [`MockCluster`]; everything else is on [`Kafka`], by way of [`MockCluster::with`].
//!
//! | to do | call |
//! |---|---|
//! | several brokers, an older Kafka, a seed | [`MockCluster::builder`] |
//! | records, with keys, headers, timestamps | [`append`](MockCluster::append) of anything that is [`Into<Record>`](Record) |
//! | transactions, open, committed or aborted | [`Kafka::append_transaction`], [`Kafka::end_open_transactions`] |
//! | a batch with a wrong checksum, any bytes | [`Kafka::append_corrupt`], [`Kafka::append_raw`] |
//! | retention, compaction, an unclean election | [`Kafka::delete_records`], [`Kafka::compact`], [`Kafka::truncate`] |
//! | another leader, another coordinator | [`Kafka::elect`], [`Kafka::move_coordinator`] |
//! | a broker that dies, and comes back without its last writes | [`MockCluster::kill_broker`], [`Kafka::restart_broker_without`] |
//! | the next requests fail, or their answers are lost, late or nonsense | [`fail_next`](MockCluster::fail_next) with a [`Verdict`] |
//! | decide request by request | [`intercept`](MockCluster::intercept) |
//! | a slow broker, a network that comes apart, garbage | [`Kafka::slow_broker`], [`Kafka::isolate`], [`Kafka::disconnect`], [`Kafka::send_garbage`] |
//! | quotas | [`Kafka::throttle`] |
//! | who is in a group, what it has committed | [`members`](MockCluster::members), [`committed`](MockCluster::committed) |
//! | a rebalance, a member whose session ends | [`Kafka::rebalance`], [`Kafka::expel`] |
//! | who may connect | [`Settings::sasl`], and with the feature `tls` `MockClusterBuilder::tls` |
//!
//! # Recipes
//!
//! ## A service's consumer, from end to end
//!
//! The service is given the cluster's address, as it would be given that of any other; the test waits for what it has committed.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use std::sync::{Arc, Mutex};
//! use ottla::Consumer;
//! use ottla_mock::{MockCluster, Record};
//!
//! /// What is to be tested.
//! async fn service(bootstrap: String, shipped: Arc<Mutex<Vec<String>>>) -> Result<(), ottla::ConsumeError> {
//!     let builder = Consumer::builder("shipping", bootstrap.split(',')).subscribe(["orders"]);
//!     let mut records = builder.connect().await.expect("the cluster is there").at_least_once();
//!     while let Some(delivery) = records.next().await {
//!         let delivery = delivery?;
//!         shipped.lock().unwrap().push(String::from_utf8_lossy(delivery.value().unwrap_or_default()).into_owned());
//!         delivery.ack();
//!     }
//!     Ok(())
//! }
//!
//! let kafka = MockCluster::builder().topic("orders", 1).start().await;
//! let shipped = Arc::new(Mutex::new(Vec::new()));
//! tokio::spawn(service(kafka.bootstrap_servers(), Arc::clone(&shipped)));
//!
//! kafka.append("orders", 0, [Record::new("a book").key("customer 7"), Record::new("a lamp").header("gift", "yes")]);
//! kafka.wait_for_committed("shipping", "orders", 0, 2).await;
//! assert_eq!(*shipped.lock().unwrap(), ["a book", "a lamp"]);
//! # Ok(())
//! # }
//! ```
//!
//! ## A rebalance in the middle of the work
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use ottla::{AtLeastOnce, Consumer, GroupProtocol};
//! use ottla_mock::MockCluster;
//!
//! async fn join(kafka: &MockCluster) -> AtLeastOnce {
//!     let builder = Consumer::builder("workers", kafka.bootstrap_servers().split(',')).subscribe(["orders"]);
//!     // By the new protocol it is the brokers that say how often they want heartbeats.
//!     let builder = builder.group_protocol(GroupProtocol::Classic);
//!     let builder = builder.heartbeat_interval(Duration::from_millis(20)); // how soon a member hears of others
//!     builder.connect().await.expect("the cluster is there").at_least_once()
//! }
//!
//! let kafka = MockCluster::builder().topic("orders", 2).start().await;
//! kafka.append("orders", 0, ["one"]);
//! let mut first = join(&kafka).await;
//! let in_work = first.next().await.expect("a record")?;
//!
//! let second = join(&kafka).await;
//! // The first gives nothing away before its work is done.
//! kafka.wait_until("a rebalance", |kafka| kafka.group_state("workers") == Some("PreparingRebalance")).await;
//! in_work.ack();
//! let polled = tokio::spawn(async move { while first.next().await.is_some() {} });
//! kafka.wait_for_members("workers", 2).await;
//! assert_eq!(kafka.committed("workers")[&("orders".to_owned(), 0)], 1);
//! # drop((second, polled));
//! # Ok(())
//! # }
//! ```
//!
//! ## A poisoned record
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use ottla::{ConsumeErrorKind, Consumer, SeekTo};
//! use ottla_mock::MockCluster;
//!
//! let kafka = MockCluster::builder().topic("orders", 1).start().await;
//! kafka.append("orders", 0, ["good"]);
//! kafka.with(|kafka| kafka.append_corrupt("orders", 0, ["its checksum is wrong"]));
//! kafka.append("orders", 0, ["good again"]);
//!
//! let builder = Consumer::builder("workers", kafka.bootstrap_servers().split(',')).subscribe(["orders"]);
//! let mut records = builder.connect().await?.at_least_once();
//! records.next().await.expect("the first")?.ack();
//! let error = records.next().await.expect("an error").expect_err("that cannot be read");
//! assert_eq!(error.kind(), ConsumeErrorKind::Corrupt);
//! // It says where it is; the program decides to go on behind it.
//! let handle = records.handle();
//! handle.seek(&handle.assignment()[0], SeekTo::Offset(2));
//! let delivery = records.next().await.expect("the third")?;
//! assert_eq!(delivery.value(), Some(b"good again".as_slice()));
//! # Ok(())
//! # }
//! ```
//!
//! ## A commit whose answer is lost
//!
//! The case that is hardest to make by hand: the broker did it, and the client cannot know.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use ottla::Consumer;
//! use ottla_mock::{Api, Event, MockCluster, Verdict};
//!
//! let kafka = MockCluster::builder().topic("orders", 1).start().await;
//! kafka.append("orders", 0, ["one"]);
//! kafka.fail_next(Api::OffsetCommit, 1, Verdict::CloseAfterApplying);
//!
//! let builder = Consumer::builder("workers", kafka.bootstrap_servers().split(',')).subscribe(["orders"]);
//! let mut records = builder.connect().await?.at_least_once();
//! records.next().await.expect("a record")?.ack();
//! records.close(std::time::Duration::from_secs(5)).await?;
//! // It was stored, and as nobody could know, stored once more.
//! let commits = kafka.take_events().into_iter().filter(|event| matches!(event, Event::Committed { offset: 1, .. }));
//! assert_eq!(commits.count(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! ## A slow broker
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::{Duration, Instant};
//!
//! use ottla::Consumer;
//! use ottla_mock::MockCluster;
//!
//! let kafka = MockCluster::builder().brokers(2).topic("orders", 2).start().await;
//! kafka.append("orders", 0, ["slow"]);
//! kafka.append("orders", 1, ["quick"]);
//! let slow = kafka.with(|kafka| kafka.leader("orders", 0)).expect("every partition is led");
//! kafka.with(|kafka| kafka.slow_broker(slow, Duration::from_millis(300)));
//!
//! let bootstrap = kafka.bootstrap_servers();
//! let mut records = Consumer::builder("workers", bootstrap.split(',')).subscribe(["orders"]).connect().await?.at_least_once();
//! // Whatever is slow holds up nothing else.
//! let first = records.next().await.expect("a record")?;
//! assert_eq!(first.value(), Some(b"quick".as_slice()));
//! # Ok(())
//! # }
//! ```
//!
//! # In virtual time
//!
//! [`Kafka`] is the cluster without sockets, clocks and tasks: bytes and moments go in by [`Kafka::handle`], bytes and the next moment
//! come out by [`Kafka::poll`]. The same seed and inputs give the same outputs, so that whole clusters can be driven through weeks of
//! faults in a second. `MockCluster` also obeys tokio's clock, where clients connect by [`MockCluster::connect`]: with
//! `#[tokio::test(start_paused = true)]` nothing waits for real.
//!
//! # What it is not
//!
//! Nothing is stored on disk, nothing is replicated (each partition has one log, whoever leads it), and there are no ACLs.
//! Classic and consumer groups (KIP-848) are both served, and a group goes from one to the other while it has members, as by Kafka's default
//! (`group.consumer.migration.policy=bidirectional`). It is compared, conversation by conversation, with a real Kafka 4.3.

#![forbid(unsafe_code)]

mod cluster;
mod kafka;
mod record;
mod serve;

pub use cluster::{MockCluster, MockClusterBuilder};
pub use kafka::{
    ConnId, Event, Input, Kafka, MemberView, Offsets, Outcome, Output, Release, Request, SaslMechanism, SaslSettings, Settings,
    Verdict,
};
pub use kafka_protocol::{self, ResponseError, messages::ApiKey as Api};
pub use record::{Record, StoredRecord};
