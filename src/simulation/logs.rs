//! What is done to topics and their logs, with the truth of it told to the judges.

use ottla_mock::{Outcome, Record};

use super::{story::Who, world::World, world::orders};
use crate::model::TopicPartition;

impl World {
    /// Creates a topic, its partitions led by the brokers in turn.
    pub(super) fn create(&mut self, name: &str, partitions: i32) {
        self.tell(Who::Operator, || format!("creates {name} with {partitions} partitions"));
        self.kafka.create_topic(name, partitions as usize);
        let at = self.elapsed();
        for number in 0..partitions {
            let of = TopicPartition::new(name, number);
            if let Some(end) = self.former_ends.get(&of).filter(|_| !self.topics_have_ids) {
                self.judges.values_mut().for_each(|judge| judge.excuse(at, &of, *end));
            }
            self.truth.insert(of, Default::default());
        }
        self.drain_kafka();
    }

    pub(super) fn delete(&mut self, name: &str) {
        self.tell(Who::Operator, || format!("deletes {name}"));
        let gone: Vec<_> = self.truth.keys().filter(|of| of.topic() == name).cloned().collect();
        for of in &gone {
            let end = self.end(of).max(self.former_ends.get(of).copied().unwrap_or(0));
            self.former_ends.insert(of.clone(), end);
        }
        self.kafka.delete_topic(name);
        for of in gone {
            self.truth.remove(&of);
            self.markers.remove(&of);
            self.open.retain(|(open, _)| *open != of);
            let at = self.elapsed();
            self.judges.values_mut().for_each(|judge| judge.remade(at, &of));
        }
        self.drain_kafka();
    }

    /// Gives a topic more partitions.
    pub(super) fn grow(&mut self, name: &str, partitions: i32) {
        self.tell(Who::Operator, || format!("gives {name} {partitions} partitions"));
        let count = self.truth.keys().filter(|of| of.topic() == name).count();
        self.kafka.add_partitions(name, (partitions as usize).saturating_sub(count));
        for number in 0..partitions {
            self.truth.entry(TopicPartition::new(name, number)).or_default();
        }
        self.drain_kafka();
    }

    /// Appends records to a partition of the topic that most scenarios read, each with its own offset in its value.
    pub(super) fn produce(&mut self, partition: i32, count: i32) {
        self.produce_to(&orders(partition), count);
    }

    pub(super) fn produce_to(&mut self, of: &TopicPartition, count: i32) {
        self.tell(Who::Operator, || format!("appends {count} records to {of}"));
        self.append(of, count, |offset| format!("v{offset}"));
    }

    /// Appends records with keys, so that compaction has something to do.
    pub(super) fn produce_keyed(&mut self, of: &TopicPartition, count: i32, keys: i32) {
        self.tell(Who::Operator, || format!("appends {count} records with {keys} keys to {of}"));
        self.append(of, count, |offset| (format!("k{}", offset % i64::from(keys)), format!("v{offset}")));
    }

    fn append<R: Into<Record>>(&mut self, of: &TopicPartition, count: i32, record: impl Fn(i64) -> R) {
        let first = self.end(of);
        let offsets = first..first + i64::from(count);
        self.kafka.append(of.topic(), of.partition(), offsets.clone().map(record));
        self.became_visible(of, offsets);
        self.drain_kafka();
    }

    /// Appends a transaction; what is aborted nobody is to see.
    pub(super) fn produce_transaction(&mut self, of: &TopicPartition, count: i32, outcome: Outcome) {
        self.tell(Who::Operator, || format!("appends a transaction of {count} records to {of}: {outcome:?}"));
        let first = self.end(of);
        let values = (first..).take(count as usize).map(|offset| format!("v{offset}"));
        self.kafka.append_transaction(of.topic(), of.partition(), values, outcome);
        let offsets = first..first + i64::from(count);
        match outcome {
            Outcome::Commit => self.became_visible(of, offsets.clone()),
            Outcome::Abort => self.stays_invisible(of, offsets.clone()),
            Outcome::Open => self.open.push((of.clone(), offsets.clone())),
        }
        self.stays_invisible(of, offsets.end..self.end(of));
        self.markers.insert(of.clone(), self.end(of));
        self.drain_kafka();
    }

    /// Ends the transactions that are open in a partition.
    pub(super) fn end_transactions(&mut self, of: &TopicPartition, outcome: Outcome) {
        let (ended, open): (Vec<_>, _) = std::mem::take(&mut self.open).into_iter().partition(|(open, _)| open == of);
        self.open = open;
        if ended.is_empty() {
            return;
        }
        self.tell(Who::Operator, || format!("ends the transactions of {of}: {outcome:?}"));
        let end = self.end(of);
        self.kafka.end_open_transactions(of.topic(), of.partition(), outcome);
        self.stays_invisible(of, end..self.end(of));
        self.markers.insert(of.clone(), self.end(of));
        for (of, offsets) in ended {
            match outcome {
                Outcome::Commit => self.became_visible(&of, offsets),
                _ => self.stays_invisible(&of, offsets),
            }
        }
        self.drain_kafka();
    }

    /// Makes another broker the leader of a partition of the topic that most scenarios read.
    pub(super) fn elect(&mut self, partition: i32, leader: i32) {
        self.elect_in(&orders(partition), leader);
    }

    pub(super) fn elect_in(&mut self, of: &TopicPartition, leader: i32) {
        self.tell(Who::Operator, || format!("lets broker {leader} lead {of}"));
        self.kafka.elect(of.topic(), of.partition(), Some(leader));
        self.drain_kafka();
    }

    /// Deletes what is before an offset.
    pub(super) fn delete_before(&mut self, of: &TopicPartition, offset: i64) {
        self.tell(Who::Operator, || format!("deletes what is before {offset} of {of}"));
        self.kafka.delete_records(of.topic(), of.partition(), offset);
        let visible = self.truth.entry(of.clone()).or_default();
        *visible = visible.split_off(&offset);
        let at = self.elapsed();
        self.judges.values_mut().for_each(|judge| judge.log_starts(at, of, offset));
        self.drain_kafka();
    }

    /// Loses what is at and after `end`, as an unclean election does.
    pub(super) fn truncate(&mut self, of: &TopicPartition, end: i64) {
        self.tell(Who::Operator, || format!("loses what is from {end} on of {of}"));
        // A batch is lost as a whole.
        let end = self.kafka.truncate(of.topic(), of.partition(), end);
        self.truth.entry(of.clone()).or_default().split_off(&end);
        let at = self.elapsed();
        self.judges.values_mut().for_each(|judge| judge.truncated(at, of, end));
        self.drain_kafka();
    }

    /// Keeps only the last record of each key.
    pub(super) fn compact(&mut self, of: &TopicPartition) {
        self.tell(Who::Operator, || format!("compacts {of}"));
        self.kafka.compact(of.topic(), of.partition(), false);
        let left = self.kafka.records(of.topic(), of.partition()).into_iter().map(|record| record.offset).collect();
        let visible = self.truth.entry(of.clone()).or_default();
        let gone: Vec<_> = visible.difference(&left).copied().collect();
        *visible = left;
        let at = self.elapsed();
        for judge in self.judges.values_mut() {
            gone.iter().for_each(|offset| judge.compacted(at, of, *offset));
        }
        self.drain_kafka();
    }

    /// All partitions that there are.
    pub(super) fn partitions(&self) -> Vec<TopicPartition> {
        self.truth.keys().cloned().collect()
    }

    pub(super) fn end(&self, of: &TopicPartition) -> i64 {
        self.kafka.offsets(of.topic(), of.partition()).end
    }

    /// Tells the judge of a group that is new what there is.
    pub(super) fn show_logs(&mut self, group: &str) {
        let at = self.elapsed();
        let judge = self.judges.get_mut(group).expect("made by the caller");
        for (of, visible) in &self.truth {
            visible.iter().for_each(|offset| judge.visible(at, of, *offset));
        }
    }

    /// These records are to be seen.
    pub(super) fn became_visible(&mut self, of: &TopicPartition, offsets: std::ops::Range<i64>) {
        let at = self.elapsed();
        self.truth.entry(of.clone()).or_default().extend(offsets.clone());
        for judge in self.judges.values_mut() {
            offsets.clone().for_each(|offset| judge.visible(at, of, offset));
        }
    }

    /// Nobody is to see these.
    fn stays_invisible(&mut self, of: &TopicPartition, offsets: std::ops::Range<i64>) {
        let at = self.elapsed();
        for judge in self.judges.values_mut() {
            offsets.clone().for_each(|offset| judge.invisible(at, of, offset));
        }
    }
}
