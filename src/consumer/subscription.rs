//! What a program wants to read.

use std::sync::Arc;

use crate::{
    error::BuildError,
    model::{GroupProtocol, TopicPartition, is_topic_name, no_topic_name},
    proto::selection::{Selection, TopicPattern},
};

/// What to read: topics by their names, all whose names match a regular expression, or both together.
///
/// For a consumer that is running already, see [`Handle::subscribe`](super::Handle::subscribe); before it does, the builder has the same
/// methods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Subscription {
    topics: Vec<String>,
    patterns: Vec<String>,
    excluded: Vec<String>,
    internal: bool,
    server_pattern: Option<String>,
}

impl Subscription {
    /// Begins with nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds topics by name. One that does not exist yet is read as soon as it does; the stream says meanwhile that it is missing.
    pub fn topics<S: Into<String>>(mut self, topics: impl IntoIterator<Item = S>) -> Self {
        self.topics.extend(topics.into_iter().map(Into::into));
        self
    }

    /// Adds every topic whose whole name matches this regular expression, also those that are yet to be created: they are found within
    /// [`metadata_max_age`](super::ConsumerBuilder::metadata_max_age), and when the group rebalances (by the new protocol: when this member is
    /// assigned something).
    ///
    /// The syntax is that of the crate [`regex`](https://docs.rs/regex). The member itself compares: it asks for all topics that this user may
    /// describe. Java: `subscribe(Pattern)`.
    pub fn pattern(mut self, pattern: impl Into<String>) -> Self {
        self.patterns.push(pattern.into());
        self
    }

    /// Leaves out every topic whose whole name matches this regular expression, unless it was added by name.
    pub fn exclude_pattern(mut self, pattern: impl Into<String>) -> Self {
        self.excluded.push(pattern.into());
        self
    }

    /// Adds every topic whose whole name matches this regular expression, and lets the group's coordinator match, in place of the member; there is
    /// one at most, the last that is given. Java: `subscribe(SubscriptionPattern)` (KIP-848).
    ///
    /// The syntax is that of [RE2](https://github.com/google/re2/wiki/Syntax), as the broker's library (RE2/J) reads it: it has neither
    /// back-references nor look-around. The coordinator matches against whole names, as if the pattern began with `^` and ended with `$`, so
    /// that `orders` does not match `orders.eu`. Topics of Kafka's own, such as `__consumer_offsets`, match like any other:
    /// [`exclude_pattern`](Self::exclude_pattern) and [`exclude_internal_topics`](Self::exclude_internal_topics) say nothing to the coordinator. What
    /// the user of the member may not describe whose heartbeat makes the coordinator look is left out for all members of the pattern.
    ///
    /// A new topic is found within some ten seconds, whatever [`metadata_max_age`](super::ConsumerBuilder::metadata_max_age) is; no member asks for
    /// all topics, and however many there are in the cluster, each learns only of those that it is assigned. Where nothing matches, nothing is
    /// assigned, and nothing is said.
    ///
    /// Needs the consumer protocol, and Kafka 4.0: see [`group_protocol`](super::ConsumerBuilder::group_protocol). With
    /// [`GroupProtocol::Classic`] this is refused at once. With the others the stream ends with an error of the kind `Incompatible` where the
    /// brokers do not speak it, or the group is one of classic members that cannot be converted; so it does where a group was joined by the
    /// classic protocol before, as [`GroupProtocol::Auto`] allows, and the pattern came later. A pattern that is none to the broker ends the
    /// stream, too: with the kind `GroupRefused`.
    pub fn server_pattern(mut self, pattern: impl Into<String>) -> Self {
        self.server_pattern = Some(pattern.into());
        self
    }

    /// Whether patterns match no topic in which Kafka keeps something of its own, such as `__consumer_offsets`. Default: yes. Java:
    /// `exclude.internal.topics`.
    pub fn exclude_internal_topics(mut self, exclude: bool) -> Self {
        self.internal = !exclude;
        self
    }

    /// What the core is told.
    ///
    /// # Errors
    ///
    /// [`BuildError::InvalidSetting`], which names the method of the builder.
    pub(crate) fn select(&self, standing: Standing) -> Result<Selection, BuildError> {
        let invalid = |setting, why| BuildError::InvalidSetting { setting, why };
        if self.topics.is_empty() && self.patterns.is_empty() && self.server_pattern.is_none() {
            return Err(invalid("subscribe", "name at least one topic, or a pattern for their names".into()));
        }
        match self.server_pattern.as_deref() {
            Some("") => return Err(invalid("subscribe_server_pattern", "an empty pattern is none: leave it out".into())),
            Some(_) if !standing.is_member() => {
                let why = "it is the coordinator of a group that matches, and this consumer joins none: let ottla match (subscribe_pattern)";
                return Err(invalid("subscribe_server_pattern", why.into()));
            }
            Some(_) if standing == Standing::Member(GroupProtocol::Classic) => {
                let why = "by the classic protocol no broker matches: choose another group_protocol, or let ottla match (subscribe_pattern)";
                return Err(invalid("subscribe_server_pattern", why.into()));
            }
            _ => {}
        }
        if let Some(topic) = self.topics.iter().find(|topic| !is_topic_name(topic)) {
            let hint = if topic.contains(['*', '^', '$', '|']) { "; for a pattern there is subscribe_pattern" } else { "" };
            return Err(invalid("subscribe", no_topic_name(topic) + hint));
        }
        let topics = self.topics.iter().map(|topic| topic.as_str().into()).collect();
        let pattern = TopicPattern::new(&self.patterns, &self.excluded, self.internal).map_err(|error| {
            let setting = if error.is_of_excluded { "exclude_pattern" } else { "subscribe_pattern" };
            invalid(setting, format!("{:?} is no regular expression: {}", error.pattern, error.why))
        })?;
        let pattern = (!self.patterns.is_empty()).then(|| Arc::new(pattern));
        let server_pattern = self.server_pattern.as_deref().map(Arc::from);
        Ok(Selection { topics, pattern, server_pattern, ..Selection::default() })
    }
}

/// Who says which partitions a consumer reads, and where it commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A member of its group, by this protocol: the group says.
    Member(GroupProtocol),
    /// No member, and goes by the group's offsets: the program says.
    Beside,
    /// Without a group: the program says, and nothing is committed.
    Standalone,
}

impl Standing {
    pub(super) fn is_member(self) -> bool {
        matches!(self, Self::Member(_))
    }

    /// # Errors
    ///
    /// [`BuildError::InvalidSetting`] where it is no business of the program's which partitions it reads, or which topics.
    pub(super) fn check(self, setting: &'static str) -> Result<(), BuildError> {
        let why = match (self, setting) {
            (Self::Member(_), "assign") => {
                "this consumer is a member of its group, which deals out the partitions; whoever is to choose them is built with `assign`, or \
                 without a group (`Consumer::standalone`)"
            }
            (Self::Beside, "subscribe") => {
                "this consumer was built with `assign`, and is no member of its group; `Handle::assign` changes what it reads"
            }
            _ => return Ok(()),
        };
        Err(BuildError::InvalidSetting { setting, why: why.to_owned() })
    }
}

/// What the core is told where a program names partitions.
///
/// # Errors
///
/// [`BuildError::InvalidSetting`], which names the method of the builder.
pub(super) fn select_partitions(partitions: &[TopicPartition]) -> Result<Selection, BuildError> {
    let invalid = |why| Err(BuildError::InvalidSetting { setting: "assign", why });
    if partitions.is_empty() {
        return invalid("name at least one partition".into());
    }
    if let Some(partition) = partitions.iter().find(|partition| !is_topic_name(partition.topic())) {
        return invalid(no_topic_name(partition.topic()));
    }
    if let Some(partition) = partitions.iter().find(|partition| partition.partition() < 0) {
        return invalid(format!("{partition:?} is no partition: they are counted from 0"));
    }
    Ok(Selection { partitions: partitions.iter().cloned().collect(), ..Selection::default() })
}

/// Topics by name.
impl<S: Into<String>, const N: usize> From<[S; N]> for Subscription {
    fn from(topics: [S; N]) -> Self {
        Self::new().topics(topics)
    }
}

/// Topics by name.
impl<S: Into<String>> From<Vec<S>> for Subscription {
    fn from(topics: Vec<S>) -> Self {
        Self::new().topics(topics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSIC: Standing = Standing::Member(GroupProtocol::Classic);

    #[track_caller]
    fn check(subscription: Subscription, named: &str, hint: &str) {
        match subscription.select(CLASSIC) {
            Err(BuildError::InvalidSetting { setting, why }) => {
                assert_eq!(setting, named);
                assert!(why.contains(hint), "{why}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        check(Subscription::new(), "subscribe", "at least one topic");
        check(Subscription::new().exclude_pattern("a"), "subscribe", "at least one topic");
        check(["no spaces"].into(), "subscribe", "\"no spaces\" is no topic name");
        check(["orders.*"].into(), "subscribe", "subscribe_pattern");
        check(Subscription::new().pattern("or(ders"), "subscribe_pattern", "\"or(ders\" is no regular expression");
        check(Subscription::from(["orders"]).exclude_pattern("[x"), "exclude_pattern", "\"[x\" is no regular expression");
        // Each is one by itself, and not between the brackets that are put around it.
        check(Subscription::new().pattern("o.*").exclude_pattern("(?x)o #o"), "exclude_pattern", "(?x)o #o");
        check(Subscription::new().pattern("o.*").exclude_pattern("[x"), "exclude_pattern", "\"[x\" is no regular expression");
        check(Subscription::new().server_pattern(""), "subscribe_server_pattern", "an empty pattern");
        check(Subscription::from(["orders"]).server_pattern("a"), "subscribe_server_pattern", "classic protocol");
    }

    #[test]
    fn what_the_coordinator_is_to_match_is_for_it_to_judge() {
        for protocol in [GroupProtocol::Consumer, GroupProtocol::Auto] {
            let selection =
                Subscription::new().server_pattern("a").server_pattern("or(ders").select(Standing::Member(protocol)).unwrap();
            assert_eq!((selection.server_pattern.as_deref(), selection.topics.len()), (Some("or(ders"), 0));
            assert!(selection.pattern.is_none());
        }
        for standing in [Standing::Beside, Standing::Standalone] {
            let refused = Subscription::new().server_pattern("a").select(standing);
            assert!(
                matches!(refused, Err(BuildError::InvalidSetting { setting: "subscribe_server_pattern", .. })),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn names_and_patterns_add_up() {
        let both = Subscription::from(["lamps"]).topics(["lamps", "books"]).pattern("o.*").exclude_pattern("old");
        let selection = both.select(CLASSIC).unwrap();
        assert_eq!(selection.topics.iter().map(|topic| &**topic).collect::<Vec<_>>(), ["books", "lamps"]);
        let pattern = selection.pattern.unwrap();
        assert_eq!(["orders", "old", "books"].map(|topic| pattern.matches(topic, false)), [true, false, false]);
    }
}
