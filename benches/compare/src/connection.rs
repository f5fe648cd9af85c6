//! A blocking connection to one broker, and the question who leads what.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::TcpStream,
};

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    messages::{MetadataRequest, RequestHeader, ResponseHeader, TopicName, metadata_request::MetadataRequestTopic},
    protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes},
};

/// The address of each broker, with the partitions it leads.
pub type Leaders = BTreeMap<String, Vec<i32>>;

const METADATA_VERSION: i16 = 8;

/// A blocking connection to one broker. Answers come in the order of the requests.
pub struct Connection {
    stream: TcpStream,
    request: BytesMut,
    answer: Vec<u8>,
}

impl Connection {
    /// Connects to `HOST:PORT`.
    ///
    /// # Errors
    ///
    /// If nobody listens there.
    pub fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, request: BytesMut::new(), answer: Vec::new() })
    }

    /// Sends a request; there may be others that were not answered yet.
    ///
    /// # Errors
    ///
    /// If it cannot be encoded, or the connection is gone.
    pub fn send<R: Request>(&mut self, request: &R, version: i16) -> io::Result<()> {
        self.request.clear();
        self.request.extend_from_slice(&[0; 4]);
        let header = RequestHeader::default().with_request_api_key(R::KEY).with_request_api_version(version);
        let header = header.with_client_id(Some(StrBytes::from_static_str("bench")));
        header.encode(&mut self.request, R::header_version(version)).map_err(io::Error::other)?;
        request.encode(&mut self.request, version).map_err(io::Error::other)?;
        let len = u32::try_from(self.request.len() - 4).map_err(io::Error::other)?;
        self.request[..4].copy_from_slice(&len.to_be_bytes());
        self.stream.write_all(&self.request)
    }

    /// Waits for the next answer and returns what follows its length: header and body. The next call writes over it.
    ///
    /// # Errors
    ///
    /// If the connection is gone.
    pub fn receive_raw(&mut self) -> io::Result<&[u8]> {
        let mut len = [0; 4];
        self.stream.read_exact(&mut len)?;
        self.answer.resize(u32::from_be_bytes(len) as usize, 0);
        self.stream.read_exact(&mut self.answer)?;
        Ok(&self.answer)
    }

    /// Waits for the answer to a request of this kind and version.
    ///
    /// # Errors
    ///
    /// If the connection is gone, or the answer makes no sense.
    pub fn receive<R: Request>(&mut self, version: i16) -> io::Result<R::Response> {
        let mut answer = Bytes::copy_from_slice(self.receive_raw()?);
        ResponseHeader::decode(&mut answer, R::Response::header_version(version)).map_err(io::Error::other)?;
        R::Response::decode(&mut answer, version).map_err(io::Error::other)
    }
}

/// Asks who leads the partitions of a topic.
///
/// # Errors
///
/// If no broker says so, or a partition has no leader.
pub fn leaders(bootstrap: &str, topic: &str) -> io::Result<Leaders> {
    let mut connection = Connection::open(bootstrap.split(',').next().unwrap_or_default())?;
    let wanted = MetadataRequestTopic::default().with_name(Some(name(topic)));
    connection.send(&MetadataRequest::default().with_topics(Some(vec![wanted])), METADATA_VERSION)?;
    let answer = connection.receive::<MetadataRequest>(METADATA_VERSION)?;
    let brokers: BTreeMap<_, _> =
        answer.brokers.iter().map(|broker| (broker.node_id, format!("{}:{}", broker.host, broker.port))).collect();
    let mut leaders = Leaders::new();
    for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
        let address = brokers.get(&partition.leader_id);
        let address = address.ok_or_else(|| io::Error::other(format!("{topic}/{}: no leader", partition.partition_index)))?;
        leaders.entry(address.clone()).or_default().push(partition.partition_index);
    }
    if leaders.is_empty() { Err(io::Error::other(format!("no broker knows {topic}"))) } else { Ok(leaders) }
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}
