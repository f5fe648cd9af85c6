//! What is committed, as an admin client reads it again and again.

use std::{
    sync::mpsc::Sender,
    thread::sleep,
    time::{Duration, Instant},
};

use delivery_contract::{Event, Partition};

use crate::{court::Told, stage::Stage};

const INTERVAL: Duration = Duration::from_secs(1);

/// Tells the court what is committed, every second until all is over.
pub(crate) fn watch(stage: &Stage, group: &str, court: &Sender<(Duration, Told)>) {
    while !stage.is(&stage.is_over) {
        sleep(INTERVAL);
        let asked = Instant::now();
        let tell =
            |event| court.send((stage.clock().now(), Told::Event(event))).expect("the court sits until everybody has spoken");
        tell(Event::CommitsAsked);
        // A broker that does not answer is none of the group's faults.
        let Ok(committed) = stage.admin.committed(group) else { continue };
        let fresh = stage.was_calm(asked);
        for ((topic, number), lag) in committed {
            let (partition, offset) = (Partition::new(topic, number), lag.offset);
            tell(Event::CommitRead { partition, offset, fresh });
        }
    }
}
