//! Two members of one group: the second comes, each gets its share, the first leaves, the second gets everything.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bench_meter::{Meter, Task};
use ottla::{Assignor, AtLeastOnce, ConsumerBuilder, CooperativeSticky, GroupProtocol, Handle};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::{CLOSE_TIMEOUT, Error, builder};

/// What is measured is the hand-over, not the wait for the heartbeat by which a member hears of it.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(100);
/// How exactly the times are measured.
const POLL: Duration = Duration::from_millis(1);
const LIMIT: Duration = Duration::from_secs(120);

/// How the group rebalances.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Protocol {
    Eager,
    Cooperative,
    /// KIP-848: the broker says how often it wants heartbeats.
    Consumer,
}

impl Protocol {
    /// The protocol of a mode, if it is one of a pair's.
    pub(crate) fn of(mode: &str) -> Option<Self> {
        match mode {
            "pair" => Some(Self::Eager),
            "pair-cooperative" => Some(Self::Cooperative),
            "pair-consumer" => Some(Self::Consumer),
            _ => None,
        }
    }

    fn chosen(self, builder: ConsumerBuilder) -> ConsumerBuilder {
        match self {
            Self::Eager => builder,
            Self::Cooperative => builder.assignors([Arc::new(CooperativeSticky) as Arc<dyn Assignor>]),
            Self::Consumer => builder.group_protocol(GroupProtocol::Consumer),
        }
    }
}

struct Member {
    handle: Handle,
    records: Arc<AtomicU64>,
    task: JoinHandle<Result<(), Error>>,
}

/// Lets two members share what one had, and one of them take over what both had.
pub(crate) async fn measure(task: &Task, protocol: Protocol, mut meter: Meter) -> Result<(), Error> {
    let first = Member::join(protocol.chosen(builder(task)?.0)).await?;
    until("the first has read what it is to read alone", || first.records.load(Ordering::Relaxed) >= task.records).await?;
    meter.count(task.records, 0);
    let partitions = first.holds();

    let second_joins = Instant::now();
    let second = Member::join(protocol.chosen(builder(task)?.0)).await?;
    until("both have their share", || first.holds() + second.holds() == partitions && second.holds() == partitions / 2).await?;
    meter.tell("shared_s", second_joins.elapsed().as_secs_f64());

    let first_leaves = Instant::now();
    first.handle.shutdown(CLOSE_TIMEOUT);
    until("the second has everything", || second.holds() == partitions).await?;
    meter.tell("taken_over_s", first_leaves.elapsed().as_secs_f64());

    first.task.await??;
    second.handle.shutdown(CLOSE_TIMEOUT);
    second.task.await??;
    meter.print("ottla, two members", &format!("{protocol:?}, heartbeat_interval={HEARTBEAT_INTERVAL:?}"));
    Ok(())
}

impl Member {
    async fn join(builder: ConsumerBuilder) -> Result<Self, Error> {
        let records = builder.heartbeat_interval(HEARTBEAT_INTERVAL).connect().await?.at_least_once();
        let (handle, count) = (records.handle(), Arc::new(AtomicU64::new(0)));
        let task = tokio::spawn(read(records, Arc::clone(&count)));
        Ok(Self { handle, records: count, task })
    }

    fn holds(&self) -> usize {
        self.handle.assignment().len()
    }
}

async fn read(mut records: AtLeastOnce, count: Arc<AtomicU64>) -> Result<(), Error> {
    while let Some(delivery) = records.next().await {
        delivery?.ack();
        count.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

async fn until(what: &str, condition: impl Fn() -> bool) -> Result<(), Error> {
    let holds = async {
        while !condition() {
            sleep(POLL).await;
        }
    };
    timeout(LIMIT, holds).await.map_err(|_| format!("not within {LIMIT:?}: {what}").into())
}
