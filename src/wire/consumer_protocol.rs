//! The blobs that members of a group hand each other through the coordinator: subscriptions (in JoinGroup) and assignments (in SyncGroup).
//!
//! Both begin with a version, and a newer version only appends: a reader takes what it knows and leaves the rest. They come from other
//! members, of any client and make, so the decoders are bounded by the bytes that are there, like those of answers.

use std::{collections::BTreeMap, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};

use crate::model::{Generation, TopicPartition};

/// The protocol type by which consumers' groups differ from other groups.
pub(crate) const PROTOCOL_TYPE: &str = "consumer";

/// How many partitions, or topics, one blob may name. A partition that is owned takes hundreds of times the memory of the four bytes that
/// name it here.
pub(super) const NAMED_MAX: usize = 100_000;

/// What a member tells the group's leader about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) topics: Vec<Arc<str>>,
    /// What the assignor of this name wants to tell its counterpart at the leader.
    pub(crate) user_data: Option<Bytes>,
    /// What the member holds on to while it joins. From version 1 on; empty for eager members.
    pub(crate) owned: Vec<TopicPartition>,
    /// The generation of `owned`. From version 2 on.
    pub(crate) generation: Option<Generation>,
    /// From version 3 on.
    pub(crate) rack: Option<Arc<str>>,
}

/// A blob that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub(crate) struct BlobError {
    pub(crate) at: usize,
    pub(crate) what: &'static str,
}

/// The newest version of the subscription, and the one written: readers of older ones stop where their knowledge ends.
const SUBSCRIPTION_VERSION: i16 = 3;

/// The version of the assignment that is written. Versions 0 to 3 have the same fields, so the oldest says everything, and there is no
/// reader that could object to it.
const ASSIGNMENT_VERSION: i16 = 0;

impl Subscription {
    /// Encodes at the newest version, topics and partitions sorted: the coordinator compares the bytes of two joins to see whether a
    /// member has changed.
    pub(crate) fn encode(&self) -> Bytes {
        let mut topics = self.topics.clone();
        topics.sort_unstable();
        let mut out = BytesMut::new();
        out.put_i16(SUBSCRIPTION_VERSION);
        put_length(&mut out, topics.len());
        for topic in &topics {
            put_string(&mut out, topic);
        }
        put_user_data(&mut out, self.user_data.as_ref());
        put_partitions(&mut out, &self.owned);
        out.put_i32(self.generation.unwrap_or(Generation::NONE).0);
        match &self.rack {
            Some(rack) => put_string(&mut out, rack),
            None => out.put_i16(-1),
        }
        out.freeze()
    }

    /// Decodes any version. What the version lacks is absent; what a newer one appends is not read.
    pub(crate) fn decode(blob: &[u8]) -> Result<Self, BlobError> {
        let mut input = Reader { blob, at: 0 };
        let version = input.version()?;
        // Each topic takes at least its length's two bytes.
        let topics = input.array(2)?;
        if topics > NAMED_MAX {
            return input.fail("more than 100000 topics");
        }
        let mut subscription = Self { topics: Vec::with_capacity(topics), ..Self::default() };
        for _ in 0..topics {
            subscription.topics.push(input.string()?);
        }
        subscription.user_data = input.user_data()?;
        if version >= 1 {
            subscription.owned = input.partitions()?;
        }
        if version >= 2 {
            subscription.generation = Some(Generation(input.i32()?)).filter(|generation| generation.0 >= 0);
        }
        if version >= 3 {
            subscription.rack = input.nullable_string()?;
        }
        Ok(subscription)
    }
}

/// What a member of the eager sticky assignor had in its last generation: the user data that it sends (KIP-54, KIP-341). They have no version:
/// the generation was appended later, and may be missing.
pub(crate) fn encode_sticky(partitions: &[TopicPartition], generation: Generation) -> Bytes {
    let mut out = BytesMut::new();
    put_partitions(&mut out, partitions);
    out.put_i32(generation.0);
    out.freeze()
}

/// Decodes what `encode_sticky` encodes, here or in another client.
pub(crate) fn decode_sticky(data: &[u8]) -> Result<(Vec<TopicPartition>, Option<Generation>), BlobError> {
    let mut input = Reader { blob: data, at: 0 };
    let partitions = input.partitions()?;
    let generation = if input.at < data.len() { Some(Generation(input.i32()?)) } else { None };
    Ok((partitions, generation.filter(|generation| generation.0 >= 0)))
}

/// The generation in which a cooperative member got what it holds, as user data: for readers who know no newer way to be told.
pub(crate) fn encode_cooperative(generation: Generation) -> Bytes {
    Bytes::copy_from_slice(&generation.0.to_be_bytes())
}

/// Decodes what `encode_cooperative` encodes, here or in another client.
pub(crate) fn decode_cooperative(data: &[u8]) -> Result<Option<Generation>, BlobError> {
    let generation = Generation(Reader { blob: data, at: 0 }.i32()?);
    Ok(Some(generation).filter(|generation| generation.0 >= 0))
}

/// Encodes what the leader gives to one member.
pub(crate) fn encode_assignment(partitions: &[TopicPartition], user_data: Option<&Bytes>) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(ASSIGNMENT_VERSION);
    put_partitions(&mut out, partitions);
    put_user_data(&mut out, user_data);
    out.freeze()
}

/// Decodes what the leader gave to this member, sorted and each partition once, and the assignor's own data.
///
/// The empty blob, which the coordinator hands to a member that the leader left out, is not an assignment: the caller decides.
pub(crate) fn decode_assignment(blob: &[u8]) -> Result<(Vec<TopicPartition>, Option<Bytes>), BlobError> {
    let mut input = Reader { blob, at: 0 };
    input.version()?;
    let mut partitions = input.partitions()?;
    partitions.sort_unstable();
    partitions.dedup();
    Ok((partitions, input.user_data()?))
}

fn put_length(out: &mut BytesMut, length: usize) {
    out.put_i32(i32::try_from(length).expect("a list held in memory for a request has fewer than 2^31 entries"));
}

fn put_string(out: &mut BytesMut, string: &str) {
    out.put_i16(i16::try_from(string.len()).expect("names are checked to be short where they enter the client"));
    out.put_slice(string.as_bytes());
}

fn put_user_data(out: &mut BytesMut, data: Option<&Bytes>) {
    match data {
        Some(data) => {
            put_length(out, data.len());
            out.put_slice(data);
        }
        None => out.put_i32(-1),
    }
}

fn put_partitions(out: &mut BytesMut, partitions: &[TopicPartition]) {
    let mut by_topic = BTreeMap::<&str, Vec<i32>>::new();
    for partition in partitions {
        by_topic.entry(partition.topic()).or_default().push(partition.partition());
    }
    put_length(out, by_topic.len());
    for (topic, mut numbers) in by_topic {
        numbers.sort_unstable();
        put_string(out, topic);
        put_length(out, numbers.len());
        for number in numbers {
            out.put_i32(number);
        }
    }
}

struct Reader<'a> {
    blob: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn fail<T>(&self, what: &'static str) -> Result<T, BlobError> {
        Err(BlobError { at: self.at, what })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], BlobError> {
        match self.blob[self.at..].get(..length) {
            Some(bytes) => {
                self.at += length;
                Ok(bytes)
            }
            None => self.fail("the blob ends early"),
        }
    }

    fn i16(&mut self) -> Result<i16, BlobError> {
        Ok(i16::from_be_bytes(self.take(2)?.try_into().expect("took two bytes")))
    }

    fn i32(&mut self) -> Result<i32, BlobError> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into().expect("took four bytes")))
    }

    fn version(&mut self) -> Result<i16, BlobError> {
        match self.i16()? {
            version @ 0.. => Ok(version),
            _ => self.fail("a negative version"),
        }
    }

    /// The length of an array, once as many entries of `entry_min` bytes can still follow.
    fn array(&mut self, entry_min: usize) -> Result<usize, BlobError> {
        match usize::try_from(self.i32()?) {
            Ok(length) if length <= (self.blob.len() - self.at) / entry_min => Ok(length),
            Ok(_) => self.fail("an array longer than the blob"),
            Err(_) => self.fail("a negative array length"),
        }
    }

    fn nullable_string(&mut self) -> Result<Option<Arc<str>>, BlobError> {
        let length = match self.i16()? {
            -1 => return Ok(None),
            length => length,
        };
        let Ok(length) = usize::try_from(length) else { return self.fail("a negative string length") };
        match std::str::from_utf8(self.take(length)?) {
            Ok(string) => Ok(Some(string.into())),
            Err(_) => self.fail("a string that is not UTF-8"),
        }
    }

    fn string(&mut self) -> Result<Arc<str>, BlobError> {
        match self.nullable_string()? {
            Some(string) => Ok(string),
            None => self.fail("a null where a string must be"),
        }
    }

    fn user_data(&mut self) -> Result<Option<Bytes>, BlobError> {
        let length = match self.i32()? {
            -1 => return Ok(None),
            length => length,
        };
        let Ok(length) = usize::try_from(length) else { return self.fail("a negative length of user data") };
        Ok(Some(Bytes::copy_from_slice(self.take(length)?)))
    }

    fn partitions(&mut self) -> Result<Vec<TopicPartition>, BlobError> {
        let mut partitions = Vec::new();
        // A topic takes at least two bytes of name and four of array length.
        for _ in 0..self.array(6)? {
            let topic = self.string()?;
            let count = self.array(4)?;
            if count > NAMED_MAX - partitions.len() {
                return self.fail("more than 100000 partitions");
            }
            partitions.reserve(count);
            for _ in 0..count {
                match self.i32()? {
                    number @ 0.. => partitions.push(TopicPartition::new(Arc::clone(&topic), number)),
                    _ => return self.fail("a negative partition number"),
                }
            }
        }
        Ok(partitions)
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::{
        messages::{
            ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicName,
            consumer_protocol_assignment::TopicPartition as AssignedTopic,
            consumer_protocol_subscription::TopicPartition as OwnedTopic,
        },
        protocol::{Decodable, Encodable, StrBytes},
    };
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    fn topic_name() -> impl Strategy<Value = String> {
        "[a-z0-9._-]{1,8}"
    }

    fn partitions() -> impl Strategy<Value = Vec<TopicPartition>> {
        vec((topic_name(), 0..50i32), 0..12).prop_map(|pairs| {
            let mut partitions: Vec<_> = pairs.into_iter().map(|(topic, n)| TopicPartition::new(topic, n)).collect();
            partitions.sort_unstable();
            partitions.dedup();
            partitions
        })
    }

    prop_compose! {
        fn subscription()(
            mut topics in vec(topic_name().prop_map(Arc::<str>::from), 0..6),
            user_data in option::of(vec(any::<u8>(), 0..20).prop_map(Bytes::from)),
            owned in partitions(),
            generation in option::of((0..i32::MAX).prop_map(Generation)),
            rack in option::of("[a-zé]{0,6}".prop_map(Arc::<str>::from)),
        ) -> Subscription {
            topics.sort_unstable();
            Subscription { topics, user_data, owned, generation, rack }
        }
    }

    fn grouped(partitions: &[TopicPartition]) -> BTreeMap<String, Vec<i32>> {
        let mut by_topic = BTreeMap::<String, Vec<i32>>::new();
        for p in partitions {
            by_topic.entry(p.topic().to_owned()).or_default().push(p.partition());
        }
        by_topic
    }

    fn reference(subscription: &Subscription, version: i16) -> Bytes {
        let topics = subscription.topics.iter().map(|t| StrBytes::from_string(t.to_string())).collect();
        let mut message =
            ConsumerProtocolSubscription::default().with_topics(topics).with_user_data(subscription.user_data.clone());
        if version >= 1 {
            message = message.with_owned_partitions(
                grouped(&subscription.owned)
                    .into_iter()
                    .map(|(topic, partitions)| {
                        OwnedTopic::default().with_topic(TopicName(StrBytes::from_string(topic))).with_partitions(partitions)
                    })
                    .collect(),
            );
        }
        if version >= 2 {
            message = message.with_generation_id(subscription.generation.unwrap_or(Generation::NONE).0);
        }
        if version >= 3 {
            message = message.with_rack_id(subscription.rack.as_ref().map(|r| StrBytes::from_string(r.to_string())));
        }
        let mut out = BytesMut::new();
        out.put_i16(version);
        message.encode(&mut out, version).expect("encodes");
        out.freeze()
    }

    #[test]
    fn a_hundred_thousand_partitions_or_topics_are_read_and_one_more_is_not() {
        let partitions = |count: i32| (0..count).map(|n| TopicPartition::new("t", n)).collect::<Vec<_>>();
        let most = partitions(100_000);
        assert_eq!(decode_assignment(&encode_assignment(&most, None)), Ok((most.clone(), None)));
        let what = "more than 100000 partitions";
        let (mut other, more) = (most, TopicPartition::new("u", 0));
        other.push(more);
        for too_many in [partitions(100_001), other] {
            assert_eq!(decode_assignment(&encode_assignment(&too_many, None)).map_err(|error| error.what), Err(what));
        }
        let wanted = |count| Subscription { topics: vec!["t".into(); count], ..Subscription::default() }.encode();
        assert!(Subscription::decode(&wanted(100_000)).is_ok());
        assert_eq!(Subscription::decode(&wanted(100_001)).map_err(|error| error.what), Err("more than 100000 topics"));
    }

    proptest! {
        #[test]
        fn a_subscription_is_written_as_the_reference_writes_it(subscription in subscription()) {
            prop_assert_eq!(subscription.encode(), reference(&subscription, 3));
        }

        #[test]
        fn a_subscription_of_each_version_is_read_and_older_ones_lack_the_newer_fields(
            subscription in subscription(), version in 0..=3i16,
        ) {
            let mut expected = subscription.clone();
            if version < 1 { expected.owned = vec![]; }
            if version < 2 { expected.generation = None; }
            if version < 3 { expected.rack = None; }
            prop_assert_eq!(Subscription::decode(&reference(&subscription, version)), Ok(expected));
        }

        #[test]
        fn a_newer_subscription_is_read_as_the_newest_known(subscription in subscription(), version in 4..i16::MAX, more in vec(any::<u8>(), 0..9)) {
            let mut blob = version.to_be_bytes().to_vec();
            blob.extend_from_slice(&subscription.encode()[2..]);
            blob.extend(more);
            prop_assert_eq!(Subscription::decode(&blob), Ok(subscription));
        }

        #[test]
        fn a_subscription_cut_short_anywhere_is_an_error(subscription in subscription()) {
            let blob = subscription.encode();
            for end in 0..blob.len() {
                prop_assert!(Subscription::decode(&blob[..end]).is_err(), "cut at {}", end);
            }
        }

        #[test]
        fn an_assignment_is_read_by_the_reference_at_every_version(partitions in partitions(), data in option::of(vec(any::<u8>(), 0..9).prop_map(Bytes::from))) {
            let blob = encode_assignment(&partitions, data.as_ref());
            for version in 0..=3 {
                let mut body = blob.slice(2..);
                let read = ConsumerProtocolAssignment::decode(&mut body, version).expect("decodes");
                prop_assert!(body.is_empty());
                let topics: BTreeMap<_, _> = read.assigned_partitions.into_iter().map(|t| (t.topic.0.to_string(), t.partitions)).collect();
                prop_assert_eq!(topics, grouped(&partitions));
                prop_assert_eq!(read.user_data, data.clone());
            }
        }

        #[test]
        fn an_assignment_of_each_version_is_read(partitions in partitions(), version in 0..9i16) {
            let assigned = grouped(&partitions)
                .into_iter()
                .map(|(topic, n)| AssignedTopic::default().with_topic(TopicName(StrBytes::from_string(topic))).with_partitions(n))
                .collect();
            let mut out = BytesMut::new();
            out.put_i16(version);
            ConsumerProtocolAssignment::default().with_assigned_partitions(assigned).encode(&mut out, version.min(3)).expect("encodes");
            prop_assert_eq!(decode_assignment(&out), Ok((partitions, None)));
        }

        #[test]
        fn an_assignment_cut_short_anywhere_is_an_error(partitions in partitions()) {
            let blob = encode_assignment(&partitions, None);
            for end in 0..blob.len() {
                prop_assert!(decode_assignment(&blob[..end]).is_err(), "cut at {}", end);
            }
        }

        #[test]
        fn no_bytes_make_a_decoder_panic(blob in vec(any::<u8>(), 0..64)) {
            let _ = Subscription::decode(&blob);
            let _ = decode_assignment(&blob);
        }
    }

    #[track_caller]
    fn check_hostile(blob: &[u8], what: &str) {
        assert_eq!(Subscription::decode(blob).expect_err("refused").what, what);
    }

    #[test]
    fn a_length_is_compared_with_the_bytes_before_it_is_used() {
        check_hostile(&[0, 3, 0x7f, 0xff, 0xff, 0xff, 0, 0], "an array longer than the blob");
        check_hostile(&[0, 3, 0xff, 0xff, 0xff, 0xff], "a negative array length");
        check_hostile(&[0, 3, 0, 0, 0, 1, 0x7f, 0xff], "the blob ends early");
        check_hostile(&[0, 3, 0, 0, 0, 1, 0xff, 0xff], "a null where a string must be");
        check_hostile(&[0, 3, 0, 0, 0, 1, 0xff, 0xfe], "a negative string length");
        check_hostile(&[0, 3, 0, 0, 0, 1, 0, 1, 0xff], "a string that is not UTF-8");
        check_hostile(&[0, 3, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff], "the blob ends early");
        check_hostile(&[0, 3, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe], "a negative length of user data");
        check_hostile(&[0xff, 0xff, 0, 0, 0, 0], "a negative version");
        check_hostile(&[0, 3, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff], "an array longer than the blob");
    }

    #[test]
    fn an_assignment_with_a_negative_partition_is_refused() {
        let blob = [0, 0, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(decode_assignment(&blob).expect_err("refused").what, "a negative partition number");
    }

    #[test]
    fn a_partition_that_stands_twice_in_an_assignment_is_held_once() {
        let twice = [TopicPartition::new("t", 1), TopicPartition::new("t", 1)];
        let (partitions, _) = decode_assignment(&encode_assignment(&twice, None)).expect("reads");
        assert_eq!(partitions, [TopicPartition::new("t", 1)]);
    }

    #[test]
    fn the_order_in_which_topics_were_named_does_not_show() {
        let named = |topics: [&str; 2]| Subscription { topics: topics.map(Arc::from).to_vec(), ..Subscription::default() };
        assert_eq!(named(["b", "a"]).encode(), named(["a", "b"]).encode());
    }
}
