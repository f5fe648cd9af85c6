//! Static members (KIP-345): who comes back under its name has its place, and nobody else is disturbed.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kafka_harness::{DEFAULT_VERSION, Options, Produce};
use ottla::{Assignment, Assignor, Events, GroupEvent, GroupProtocol, GroupView, Range};

use crate::{
    member::{Member, all_places, builder, settled},
    support::{DEADLINE, Kafka, eventually_async},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_comes_back_without_a_rebalance_and_a_usurper_fences() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (kafka.topic("static", 4), kafka.group("static"));
    kafka.produce(&topic, 4, 10);
    let settings = |name: &str| {
        let settings = builder(kafka.bootstrap(), &group, &topic).group_instance_id(name);
        settings.group_protocol(GroupProtocol::Classic)
    };
    let (a, b) = (Member::join(settings("a")).await, Member::join(settings("b")).await);
    let both = [a, b];
    settled(&both, 4).await;
    let [a, b] = both;
    let mut events = a.handle.events();
    let held = b.partitions();
    b.leave().await;
    let b = Member::join(settings("b")).await;
    eventually_async("b has what it had", DEADLINE, || b.partitions() == held).await;
    let noticed = tokio::time::timeout(Duration::from_millis(500), events.next()).await;
    assert!(noticed.is_err(), "a noticed {noticed:?}");

    let usurper = Member::join(settings("b")).await;
    eventually_async("the usurper has b's partitions", DEADLINE, || usurper.partitions() == held).await;
    eventually_async("b is told", DEADLINE, || b.errors().iter().any(|error| error.contains("group.instance.id"))).await;
    usurper.leave().await;
    a.leave().await;
}

/// Range, and a count of how often a member was asked to assign: only who leads is.
#[derive(Debug, Default)]
struct Counted(AtomicUsize);

impl Counted {
    fn times(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Assignor for Counted {
    fn name(&self) -> &str {
        "range"
    }

    fn assign(&self, group: &GroupView) -> Assignment {
        self.0.fetch_add(1, Ordering::Relaxed);
        Range.assign(group)
    }
}

/// The next generation of which the member becomes a part; nothing else may happen before.
async fn next_generation(events: &mut Events) -> i32 {
    loop {
        match tokio::time::timeout(DEADLINE, events.next()).await.expect("a generation").expect("the member lives") {
            GroupEvent::Assigned { generation, .. } => return generation,
            GroupEvent::Rejoining { .. } | GroupEvent::Revoked { .. } | GroupEvent::CoordinatorFound { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// With KIP-814 and before it: a leader that comes back must not assign, and still is the one who has to watch the topics.
async fn a_leader_comes_back(version: &str) {
    let Some(kafka) = Kafka::start(Options { version: version.into(), ..Options::default() }) else { return };
    let (topic, group) = (kafka.topic("static-leader", 4), kafka.group("static-leader"));
    let join = async |name: &str, metadata_max_age| {
        let counted = Arc::new(Counted::default());
        let settings = builder(kafka.bootstrap(), &group, &topic).group_instance_id(name).metadata_max_age(metadata_max_age);
        let settings = settings.session_timeout(Duration::from_secs(30)).assignors([Arc::clone(&counted) as _]);
        let consumer = settings.connect().await.expect("connect");
        let events = consumer.handle().events();
        (Member::start(consumer, |delivery| async { delivery.ack() }), events, counted)
    };
    // Whoever comes first leads; the other does not look after topics within the time of the test.
    let (leader, _, leads) = join("leader", Duration::from_secs(1)).await;
    eventually_async("it has all", DEADLINE, || leader.partitions().len() == 4).await;
    let (other, mut heard, follows) = join("other", Duration::from_secs(3600)).await;
    let generation = next_generation(&mut heard).await;
    let both = [leader, other];
    settled(&both, 4).await;
    let [leader, other] = both;
    assert!(leads.times() > 0 && follows.times() == 0, "the first leads");
    let held = leader.partitions();

    leader.leave().await;
    let (leader, mut heard_again, leads) = join("leader", Duration::from_secs(1)).await;
    assert_eq!(next_generation(&mut heard_again).await, generation, "the group is what it was");
    eventually_async("it has what it had", DEADLINE, || leader.partitions() == held).await;

    kafka.admin.add_partitions(&topic, 6).unwrap();
    assert_eq!(next_generation(&mut heard).await, generation + 1, "the first that the other hears of");
    let both = [leader, other];
    settled(&both, 6).await;
    assert!(leads.times() > 0 && follows.times() == 0, "who came back leads");
    for partition in 0..6 {
        kafka.admin.produce(&Produce { topic: &topic, partition, count: 10, ..Produce::default() }).unwrap();
    }
    eventually_async("all six are read", DEADLINE, || {
        both.iter().flat_map(Member::seen).collect::<BTreeSet<_>>() == all_places(6, 10)
    })
    .await;
    for member in both {
        assert_eq!(member.errors(), Vec::<String>::new());
        member.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_comes_back_is_told_to_skip_the_assignment() {
    a_leader_comes_back(DEFAULT_VERSION).await;
}

/// Before Kafka 3.2 it is told its former member id as the leader's, and has to know it for its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_comes_back_to_an_old_broker_is_told_nothing() {
    a_leader_comes_back("2.8.2").await;
}
