//! Which of the topics that had a name, one after the other, a position belongs to.
//!
//! An offset says nothing in another topic of the same name. A partition keeps what its topic was known as from the moment its position is
//! asked for until it is given up: a topic can be replaced while the committed offset is on its way, or is being validated, as well as
//! while it is read.

use super::TopicView;
use crate::{model::TopicId, wire::ErrorCode};

/// What a topic was last known as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Metadata have not told of it yet.
    Unseen,
    /// It is there; brokers before Kafka 2.8 have no ids to tell it from another by.
    Seen(Option<TopicId>),
}

impl Identity {
    /// As what `topic` is known now.
    pub(crate) fn of(topic: Option<&TopicView>) -> Self {
        let mut identity = Self::Unseen;
        identity.is_over(topic);
        identity
    }

    /// Takes in newer metadata, and says whether that topic is gone for certain.
    ///
    /// What has an id is, when another id has its name. What has none is already when brokers have said for long enough that there is no
    /// such topic (see `cluster::metadata`): the next one would look just like it.
    pub(crate) fn is_over(&mut self, topic: Option<&TopicView>) -> bool {
        let Some(topic) = topic else { return false };
        match (*self, topic.error) {
            (Self::Seen(Some(known)), ErrorCode::NONE) => topic.id.is_some_and(|id| id != known),
            (Self::Unseen | Self::Seen(None), ErrorCode::NONE) => {
                *self = Self::Seen(topic.id);
                false
            }
            (Self::Seen(None), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(id: Option<u8>) -> Option<TopicView> {
        Some(TopicView { error: ErrorCode::NONE, id: id.map(|id| TopicId([id; 16])), partitions: Vec::new() })
    }

    fn error(error: ErrorCode) -> Option<TopicView> {
        Some(TopicView { error, id: None, partitions: Vec::new() })
    }

    /// Which of these looks says that the topic is gone, if one does.
    fn gone_at(looks: &[Option<TopicView>]) -> Option<usize> {
        let mut identity = Identity::of(looks[0].as_ref());
        (1..looks.len()).find(|&at| identity.is_over(looks[at].as_ref()))
    }

    #[test]
    fn another_id_is_another_topic_whatever_was_said_in_between() {
        assert_eq!(gone_at(&[there(Some(1)), there(Some(2))]), Some(1));
        assert_eq!(gone_at(&[there(Some(1)), None, there(None), there(Some(2))]), Some(3));
        assert_eq!(gone_at(&[None, there(None), there(Some(1)), there(Some(2))]), Some(3));
        let missing = error(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(gone_at(&[there(Some(1)), missing.clone(), there(Some(2))]), Some(2));
        assert_eq!(gone_at(&[there(Some(1)), missing, there(Some(1))]), None, "it was only not to be seen");
    }

    #[test]
    fn without_an_id_a_topic_is_gone_when_there_is_none() {
        let missing = error(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(gone_at(&[there(None), missing.clone()]), Some(1));
        assert_eq!(gone_at(&[missing.clone(), missing.clone(), there(None)]), None, "it was not there before");
        assert_eq!(gone_at(&[there(None), None, there(None)]), None);
        for passing in [ErrorCode::LEADER_NOT_AVAILABLE, ErrorCode::TOPIC_AUTHORIZATION_FAILED] {
            assert_eq!(gone_at(&[there(None), error(passing), there(None)]), None, "{passing}");
        }
    }
}
