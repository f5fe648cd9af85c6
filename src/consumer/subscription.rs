//! What a program wants to read.

use std::sync::Arc;

use crate::{
    error::BuildError,
    model::{TOPIC_NAME_RULE, is_topic_name},
    proto::selection::{Selection, TopicPattern},
};

/// What to read: topics by their names, all whose names match a regular expression, or both.
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
    pub(crate) fn select(&self) -> Result<Selection, BuildError> {
        let invalid = |setting, why| BuildError::InvalidSetting { setting, why };
        if self.topics.is_empty() && self.patterns.is_empty() {
            return Err(invalid("subscribe", "name at least one topic, or a pattern for their names".into()));
        }
        if let Some(topic) = self.topics.iter().find(|topic| !is_topic_name(topic)) {
            let hint = if topic.contains(['*', '^', '$', '|']) { "; for a pattern there is subscribe_pattern" } else { "" };
            let why = format!("{topic:?} is no topic name: {TOPIC_NAME_RULE}{hint}");
            return Err(invalid("subscribe", why));
        }
        let topics = self.topics.iter().map(|topic| topic.as_str().into()).collect();
        let pattern = TopicPattern::new(&self.patterns, &self.excluded, self.internal).map_err(|error| {
            let setting = if error.is_of_excluded { "exclude_pattern" } else { "subscribe_pattern" };
            invalid(setting, format!("{:?} is no regular expression: {}", error.pattern, error.why))
        })?;
        Ok(Selection { topics, pattern: (!self.patterns.is_empty()).then(|| Arc::new(pattern)) })
    }
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

    #[track_caller]
    fn check(subscription: Subscription, named: &str, hint: &str) {
        match subscription.select() {
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
    }

    #[test]
    fn names_and_patterns_add_up() {
        let both = Subscription::from(["lamps"]).topics(["lamps", "books"]).pattern("o.*").exclude_pattern("old");
        let selection = both.select().unwrap();
        assert_eq!(selection.topics.iter().map(|topic| &**topic).collect::<Vec<_>>(), ["books", "lamps"]);
        let pattern = selection.pattern.unwrap();
        assert_eq!(["orders", "old", "books"].map(|topic| pattern.matches(topic, false)), [true, false, false]);
    }
}
