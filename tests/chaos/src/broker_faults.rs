//! What happens to the brokers: one at a time, so that what is acknowledged is never lost.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use kafka_harness::Result;

use crate::{lot::Lot, stage::Stage};

const IN_SYNC_TIMEOUT: Duration = Duration::from_secs(60);

/// Disturbs a broker now and then until it is time to heal; returns how often. All brokers are whole then.
pub(crate) fn disturb(stage: &Stage, topics: &[String], mut lot: Lot) -> Result<usize> {
    let mut faults = 0;
    wait(stage, lot.ms(4000..9000));
    while !stage.is(&stage.heals) {
        stage.trouble(true);
        let broker = 1 + lot.below(stage.cluster.nodes());
        match lot.below(10) {
            0..3 => {
                say(stage, &format!("broker {broker} is killed"));
                stage.cluster.kill_broker(broker)?;
                wait(stage, lot.ms(500..8000));
                stage.cluster.start_broker(broker)?;
            }
            3..6 => {
                say(stage, &format!("broker {broker} is stopped"));
                stage.cluster.pause_broker(broker)?;
                wait(stage, lot.ms(500..12_000));
                stage.cluster.resume_broker(broker)?;
            }
            6..8 => {
                say(stage, &format!("broker {broker} is restarted in order"));
                stage.cluster.stop_broker(broker)?;
                stage.cluster.start_broker(broker)?;
            }
            8 => {
                say(stage, "a rolling restart");
                for broker in 1..=stage.cluster.nodes() {
                    stage.cluster.stop_broker(broker)?;
                    stage.cluster.start_broker(broker)?;
                    await_in_sync(stage, topics);
                }
            }
            _ => {
                say(stage, "the preferred leaders lead again");
                for topic in topics {
                    for (partition, leader) in stage.admin.leaders(topic).unwrap_or_default() {
                        if leader.replicas.first() != Some(&leader.leader) {
                            // It may have become so by itself.
                            let _ = stage.admin.elect_preferred(topic, partition);
                        }
                    }
                }
            }
        }
        faults += 1;
        await_in_sync(stage, topics);
        stage.trouble(false);
        wait(stage, lot.ms(3000..20_000));
    }
    Ok(faults)
}

fn say(stage: &Stage, what: &str) {
    println!("{:7.1} s: {what}", stage.clock().now().as_secs_f64());
}

/// All replicas have all records: the next broker may go. Looks no longer than a while: two of three are enough to go on.
fn await_in_sync(stage: &Stage, topics: &[String]) {
    let whole = |topic: &String| {
        let leaders = stage.admin.leaders(topic).unwrap_or_default();
        !leaders.is_empty() && leaders.values().all(|leader| leader.leader > 0 && leader.in_sync.len() == leader.replicas.len())
    };
    let is_whole = || ["__consumer_offsets".to_owned(), "__transaction_state".to_owned()].iter().chain(topics).all(whole);
    if !kafka_harness::eventually(IN_SYNC_TIMEOUT, is_whole) {
        say(stage, "the replicas are not in sync; on it goes");
    }
}

/// Waits, but not into the time of healing.
fn wait(stage: &Stage, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end && !stage.is(&stage.heals) {
        sleep(Duration::from_millis(50));
    }
}
