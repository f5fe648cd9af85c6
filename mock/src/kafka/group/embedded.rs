//! What members and leaders of classic groups tell each other through the coordinator: Kafka's "consumer protocol", embedded in JoinGroup
//! and SyncGroup. The coordinator itself reads and writes it only for consumers' offsets, and where a group changes its protocol.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription, consumer_protocol_assignment::TopicPartition},
    protocol::{Decodable, Encodable},
};

use super::text;
use crate::kafka::shape;

pub(super) const CONSUMER_PROTOCOL: &str = "consumer";

/// What newer versions have is left alone.
const NEWEST: i16 = 3;

/// Reads what a member wants, and what it says it has.
pub(super) fn decode_subscription(mut blob: Bytes) -> Option<ConsumerProtocolSubscription> {
    let version = blob.try_get_i16().ok().filter(|version| *version >= 0)?.min(NEWEST);
    shape::check_subscription(&blob, version).then(|| ConsumerProtocolSubscription::decode(&mut blob, version).ok()).flatten()
}

/// Reads what a leader gives to a member.
pub(super) fn decode_assignment(mut blob: Bytes) -> Option<ConsumerProtocolAssignment> {
    let is_sound = blob.try_get_i16().is_ok_and(|version| version >= 0) && shape::check_assignment(&blob);
    is_sound.then(|| ConsumerProtocolAssignment::decode(&mut blob, 0).ok()).flatten()
}

/// Lists the partitions of an assignment.
pub(super) fn partitions_of(assignment: &ConsumerProtocolAssignment) -> impl Iterator<Item = (&str, i32)> {
    let topics = assignment.assigned_partitions.iter();
    topics.flat_map(|topic| topic.partitions.iter().map(|number| (topic.topic.as_str(), *number)))
}

/// Writes an assignment in the version of the member's own subscription.
pub(super) fn encode_assignment(subscription: &Bytes, topics: impl IntoIterator<Item = (String, Vec<i32>)>) -> Bytes {
    let version = subscription.clone().try_get_i16().unwrap_or(0).clamp(0, NEWEST);
    let topic =
        |(name, numbers): (String, Vec<i32>)| TopicPartition::default().with_topic(text(&name).into()).with_partitions(numbers);
    let assigned = topics.into_iter().map(topic).collect();
    let body = ConsumerProtocolAssignment::default().with_assigned_partitions(assigned).with_user_data(None);
    let mut blob = BytesMut::new();
    blob.put_i16(version);
    body.encode(&mut blob, version).expect("topics and numbers can be encoded");
    blob.freeze()
}
