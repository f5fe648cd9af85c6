//! What can be seen of a request or an answer on its way, for the judge and the story.

use std::{collections::BTreeMap, fmt::Write};

use bytes::{Buf, Bytes};
use kafka_protocol::{
    ResponseError,
    messages::{
        FetchRequest, FetchResponse, ListOffsetsRequest, MetadataResponse, OffsetCommitRequest, OffsetCommitResponse,
        OffsetFetchResponse, OffsetForLeaderEpochResponse,
    },
    protocol::{Decodable, HeaderVersion, decode_request_header_from_buffer},
};
use ottla_mock::Api;

use super::network::Asked;
use crate::model::TopicPartition;

/// Topics by the ids under which newer requests speak of them.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<[u8; 16], String>);

/// What a request says.
pub(super) struct Sent {
    pub(super) correlation: i32,
    pub(super) api: Api,
    pub(super) version: i16,
    pub(super) commits: Vec<(TopicPartition, i64)>,
    pub(super) fetched: Vec<(TopicPartition, i64)>,
    /// Where somebody asks for the beginning or the end of a log.
    pub(super) resets: Vec<TopicPartition>,
}

/// What an answer says.
#[derive(Default)]
pub(super) struct Told {
    pub(super) stored: Vec<(TopicPartition, i64)>,
    /// Reasons to use the reset policy, and what ends them.
    pub(super) doors: Vec<TopicPartition>,
    pub(super) doors_closed: Vec<TopicPartition>,
    /// Who leads, and since which epoch.
    pub(super) leaders: Vec<(TopicPartition, i32, i32)>,
    /// Of what this broker says that the position is out of range: a reason if it leads.
    pub(super) out_of_range: Vec<TopicPartition>,
    /// What is worth telling.
    pub(super) words: String,
}

/// Looks at a request, with its length.
pub(super) fn sent(frame: &Bytes, names: &Names) -> Sent {
    let mut body = frame.slice(4..);
    let header = decode_request_header_from_buffer(&mut body).expect("ottla writes requests that can be read");
    let version = header.request_api_version;
    let api = Api::try_from(header.request_api_key).expect("ottla asks for what there is");
    let correlation = header.correlation_id;
    let mut sent = Sent { correlation, api, version, commits: Vec::new(), fetched: Vec::new(), resets: Vec::new() };
    match api {
        Api::OffsetCommit => {
            let request: OffsetCommitRequest = decode(&mut body, version);
            for topic in &request.topics {
                let offsets = topic.partitions.iter();
                let of = |number| TopicPartition::new(topic.name.0.as_str(), number);
                sent.commits.extend(offsets.map(|partition| (of(partition.partition_index), partition.committed_offset)));
            }
        }
        Api::Fetch => {
            let request: FetchRequest = decode(&mut body, version);
            for topic in &request.topics {
                let name = if version >= 13 {
                    names.0.get(topic.topic_id.as_bytes()).map(String::as_str)
                } else {
                    Some(topic.topic.0.as_str())
                };
                // A topic that is gone has no name.
                let Some(name) = name else { continue };
                let offsets = topic.partitions.iter();
                sent.fetched.extend(offsets.map(|asked| (TopicPartition::new(name, asked.partition), asked.fetch_offset)));
            }
        }
        Api::ListOffsets => {
            let request: ListOffsetsRequest = decode(&mut body, version);
            for topic in &request.topics {
                let of = |number| TopicPartition::new(topic.name.0.as_str(), number);
                sent.resets.extend(topic.partitions.iter().map(|partition| of(partition.partition_index)));
            }
        }
        _ => {}
    }
    sent
}

/// Tells of a request in words.
pub(super) fn words(sent: &Sent) -> String {
    let mut words = format!("asks {:?}", sent.api);
    for (of, offset) in sent.fetched.iter().chain(&sent.commits) {
        let _ = write!(words, " {of}@{offset}");
    }
    for of in &sent.resets {
        let _ = write!(words, " {of}");
    }
    words
}

/// Looks at an answer, without its length. What cannot be read is nonsense that a fault has put in its place.
pub(super) fn answered(asked: &Asked, frame: &Bytes, names: &mut Names) -> Told {
    let (mut body, version) = (frame.clone(), asked.version);
    match asked.api {
        Api::Metadata => try_decode::<MetadataResponse>(&mut body, version).map_or_else(Told::default, |answer| {
            let mut told = Told::default();
            for topic in answer.topics {
                let Some(name) = topic.name else { continue };
                let led = topic.partitions.iter().map(|partition| {
                    let of = TopicPartition::new(name.0.as_str(), partition.partition_index);
                    (of, partition.leader_id.0, partition.leader_epoch)
                });
                told.leaders.extend(led);
                if !topic.topic_id.is_nil() {
                    names.0.insert(topic.topic_id.into_bytes(), name.0.to_string());
                }
            }
            told
        }),
        Api::OffsetCommit => {
            try_decode::<OffsetCommitResponse>(&mut body, version).map_or_else(Told::default, |answer| stored(asked, &answer))
        }
        Api::OffsetFetch => {
            try_decode::<OffsetFetchResponse>(&mut body, version).map_or_else(Told::default, |answer| committed(&answer))
        }
        Api::OffsetForLeaderEpoch => {
            try_decode::<OffsetForLeaderEpochResponse>(&mut body, version).map_or_else(Told::default, |answer| ends(&answer))
        }
        Api::Fetch => {
            try_decode::<FetchResponse>(&mut body, version).map_or_else(Told::default, |answer| fetched(&answer, version, names))
        }
        _ => Told::default(),
    }
}

fn stored(asked: &Asked, answer: &OffsetCommitResponse) -> Told {
    let mut told = Told::default();
    for topic in &answer.topics {
        for partition in &topic.partitions {
            let of = TopicPartition::new(topic.name.0.as_str(), partition.partition_index);
            let _ = write!(told.words, " {of}: {}", code(partition.error_code));
            if partition.error_code == 0 {
                told.stored.extend(asked.commits.iter().filter(|(asked, _)| *asked == of).cloned());
            }
        }
    }
    told
}

fn committed(answer: &OffsetFetchResponse) -> Told {
    let mut told = Told::default();
    let newer = answer.groups.iter().flat_map(|group| &group.topics).flat_map(|topic| {
        let of = |number| TopicPartition::new(topic.name.0.as_str(), number);
        topic.partitions.iter().map(move |found| (of(found.partition_index), found.committed_offset, found.error_code))
    });
    let older = answer.topics.iter().flat_map(|topic| {
        let of = |number| TopicPartition::new(topic.name.0.as_str(), number);
        topic.partitions.iter().map(move |found| (of(found.partition_index), found.committed_offset, found.error_code))
    });
    for (of, offset, error) in newer.chain(older) {
        let _ = write!(told.words, " {of}: {offset} {}", code(error));
        if error == 0 {
            let doors = if offset < 0 { &mut told.doors } else { &mut told.doors_closed };
            doors.push(of);
        }
    }
    told
}

fn ends(answer: &OffsetForLeaderEpochResponse) -> Told {
    let mut told = Told::default();
    for topic in &answer.topics {
        for partition in &topic.partitions {
            let of = TopicPartition::new(topic.topic.0.as_str(), partition.partition);
            let _ = write!(
                told.words,
                " {of}: epoch {} ends at {} {}",
                partition.leader_epoch,
                partition.end_offset,
                code(partition.error_code)
            );
            if partition.error_code == 0 && (partition.end_offset < 0 || partition.leader_epoch < 0) {
                told.doors.push(of);
            }
        }
    }
    told
}

fn fetched(answer: &FetchResponse, version: i16, names: &Names) -> Told {
    let mut told = Told::default();
    for topic in &answer.responses {
        let name =
            if version >= 13 { names.0.get(topic.topic_id.as_bytes()).map(String::as_str) } else { Some(topic.topic.0.as_str()) };
        let Some(name) = name else { continue };
        for partition in &topic.partitions {
            let of = TopicPartition::new(name, partition.partition_index);
            let bytes = partition.records.as_ref().map_or(0, Bytes::len);
            if bytes > 0 || partition.error_code != 0 {
                let _ = write!(told.words, " {of}: {bytes} bytes {}", code(partition.error_code));
            }
            if partition.error_code == ResponseError::OffsetOutOfRange.code() {
                told.out_of_range.push(of);
            } else if partition.current_leader.leader_id.0 >= 0 {
                told.leaders.push((of, partition.current_leader.leader_id.0, partition.current_leader.leader_epoch));
            }
        }
    }
    told
}

fn code(code: i16) -> String {
    match ResponseError::try_from_code(code) {
        None => "ok".to_owned(),
        Some(error) => format!("{error:?}"),
    }
}

fn decode<T: Decodable>(body: &mut Bytes, version: i16) -> T {
    T::decode(body, version).expect("ottla writes requests that can be read")
}

fn try_decode<T: Decodable + HeaderVersion>(body: &mut Bytes, version: i16) -> Option<T> {
    let header = if T::header_version(version) > 0 { 5 } else { 4 };
    if body.len() < header || (body.len() > 8 && body[4..].iter().all(|byte| *byte == 0xff)) {
        return None;
    }
    body.advance(header);
    T::decode(body, version).ok()
}
