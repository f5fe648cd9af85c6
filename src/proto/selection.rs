//! What a consumer wants: some topics by name, all that match a pattern, of its own or of the coordinator's matching, or partitions one by
//! one.

use std::{collections::BTreeSet, fmt, sync::Arc};

use regex::bytes::{RegexSet, RegexSetBuilder};

use crate::model::TopicPartition;

/// What a consumer wants to read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    pub(crate) topics: BTreeSet<Arc<str>>,
    pub(crate) pattern: Option<Arc<TopicPattern>>,
    /// A regular expression for the group's coordinator to match, in its own syntax.
    pub(crate) server_pattern: Option<Arc<str>>,
    /// Of whoever does not have a group deal out the partitions.
    pub(crate) partitions: BTreeSet<TopicPartition>,
}

impl Selection {
    /// The topics that are named, with all their partitions or with some.
    pub(crate) fn named(&self) -> impl Iterator<Item = &Arc<str>> {
        self.topics.iter().chain(self.partitions.iter().map(TopicPartition::shared_topic))
    }
}

/// Regular expressions for the names of topics.
#[derive(Debug)]
pub(crate) struct TopicPattern {
    included: RegexSet,
    excluded: RegexSet,
    /// Whether Kafka's own topics may match, too.
    internal: bool,
}

/// A regular expression that is none, and why.
#[derive(Debug)]
pub(crate) struct BadPattern {
    pub(crate) pattern: String,
    pub(crate) is_of_excluded: bool,
    pub(crate) why: String,
}

impl TopicPattern {
    /// Matches what one of `included` matches as a whole, and none of `excluded` does.
    ///
    /// # Errors
    ///
    /// The first that is no regular expression.
    pub(crate) fn new(included: &[String], excluded: &[String], internal: bool) -> Result<Self, BadPattern> {
        let bad = |is_of_excluded| move |(pattern, why)| BadPattern { pattern, is_of_excluded, why };
        Ok(Self { included: whole(included).map_err(bad(false))?, excluded: whole(excluded).map_err(bad(true))?, internal })
    }

    /// Says whether a topic of this name is wanted.
    pub(crate) fn matches(&self, topic: &str, is_internal: bool) -> bool {
        let name = topic.as_bytes();
        (self.internal || !is_internal) && self.included.is_match(name) && !self.excluded.is_match(name)
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = |set: &RegexSet| set.patterns().iter().map(|pattern| format!("{:?}", stripped(pattern))).collect::<Vec<_>>();
        write!(f, "{}", bare(&self.included).join(" or "))?;
        match bare(&self.excluded) {
            none if none.is_empty() => Ok(()),
            excluded => write!(f, " but not {}", excluded.join(" or ")),
        }
    }
}

const BEGIN: &str = r"\A(?:";
const END: &str = r")\z";

/// Makes expressions that match a whole name or nothing. Names of topics are ASCII, so that no tables of Unicode are needed.
///
/// # Errors
///
/// The first that is none, and why.
fn whole(patterns: &[String]) -> Result<RegexSet, (String, String)> {
    let set = |patterns: &[String]| RegexSetBuilder::new(patterns).unicode(false).build();
    let mut anchored = Vec::new();
    for pattern in patterns {
        // By itself first, so that what is said of it is said of what the user wrote.
        for alone in [pattern.clone(), format!("{BEGIN}{pattern}{END}")] {
            set(std::slice::from_ref(&alone)).map_err(|error| (pattern.clone(), error.to_string()))?;
        }
        anchored.push(format!("{BEGIN}{pattern}{END}"));
    }
    set(&anchored).map_err(|error| (patterns.join(" | "), error.to_string()))
}

fn stripped(anchored: &str) -> &str {
    anchored.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END)).unwrap_or(anchored)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(included: &[&str], excluded: &[&str], internal: bool) -> Result<TopicPattern, BadPattern> {
        let owned = |patterns: &[&str]| patterns.iter().map(|pattern| (*pattern).to_owned()).collect::<Vec<_>>();
        TopicPattern::new(&owned(included), &owned(excluded), internal)
    }

    #[track_caller]
    fn check(included: &[&str], excluded: &[&str], topic: &str, wanted: bool) {
        let pattern = pattern(included, excluded, false).unwrap();
        assert_eq!(pattern.matches(topic, false), wanted, "{pattern} and {topic}");
    }

    #[test]
    fn a_name_matches_as_a_whole_or_not_at_all() {
        check(&["orders"], &[], "orders", true);
        check(&["orders"], &[], "orders.eu", false);
        check(&["orders"], &[], "old-orders", false);
        check(&[r"orders\..*"], &[], "orders.eu", true);
        // Without brackets around it, one would begin and the other would end with it.
        check(&["a|b"], &[], "a1", false);
        check(&["a|b"], &[], "1b", false);
        check(&["^orders$"], &[], "orders", true);
        check(&["(?i)ORDERS"], &[], "orders", true);
    }

    #[test]
    fn one_of_several_is_enough_and_one_that_excludes_too() {
        check(&["a.*", "b.*"], &[], "bee", true);
        check(&["a.*", "b.*"], &["bee", "x"], "bee", false);
        check(&["a.*", "b.*"], &["be"], "bee", true);
    }

    #[test]
    fn topics_of_kafkas_own_match_only_where_they_are_asked_for() {
        for internal in [false, true] {
            let pattern = pattern(&[".*"], &[], internal).unwrap();
            assert_eq!(pattern.matches("__consumer_offsets", true), internal);
            assert!(pattern.matches("__looks_like_one", false));
        }
    }

    #[test]
    fn it_is_told_as_it_was_written() {
        assert_eq!(pattern(&["a.*", r"b\d"], &["ab"], false).unwrap().to_string(), r#""a.*" or "b\\d" but not "ab""#);
    }

    #[test]
    fn what_is_no_expression_is_named() {
        for (included, excluded) in [(["a", "or(ders"].as_slice(), [].as_slice()), (&["a"], &["or(ders"])] {
            let error = pattern(included, excluded, false).unwrap_err();
            assert_eq!(error.pattern, "or(ders");
            assert!(error.why.contains("unclosed group"), "{}", error.why);
        }
        // What would end the brackets that are put around it is none either.
        assert_eq!(pattern(&["a)|(?:b"], &[], false).unwrap_err().pattern, "a)|(?:b");
    }
}
