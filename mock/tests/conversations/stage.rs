//! Where conversations take place: the mock, or a real Kafka.

use std::{collections::BTreeMap, env, fmt::Debug, fs, path::Path, sync::OnceLock, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_harness::{Cluster, Options};
use ottla_mock::{
    Api, MockCluster,
    kafka_protocol::{
        messages::*,
        protocol::{Decodable, HeaderVersion, Request, StrBytes, encode_request_header_into_buffer},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::{
    logs::list,
    notes::{Names, difference},
};

/// What takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a coordinator says while it begins: 14 to 16.
const BEGINNING: std::ops::RangeInclusive<i16> = 14..=16;

/// Plays a conversation, and compares what was heard with what is expected: with the real Kafka, if one is wanted, then with the mock.
pub(crate) async fn play(name: &str, script: impl AsyncFn(&mut Stage), expected: &str) {
    let mut wrong = Vec::new();
    if let Some(bootstrap) = real() {
        wrong.extend(act("real", name, &script, Stage::new(bootstrap.to_owned(), None), expected).await);
    }
    let mock = MockCluster::start().await;
    wrong.extend(act("mock", name, &script, Stage::new(mock.bootstrap_servers(), Some(mock)), expected).await);
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Plays a conversation once; says how it differs from what is expected.
pub(crate) async fn act(
    who: &str,
    name: &str,
    script: &impl AsyncFn(&mut Stage),
    mut stage: Stage,
    expected: &str,
) -> Option<String> {
    let expected: Vec<_> = expected.trim().lines().map(str::trim).collect();
    let expected = expected.join("\n");
    script(&mut stage).await;
    let heard = stage.notes.trim();
    if let Some(folder) = env::var_os("KAFKA_TRANSCRIPTS") {
        fs::write(Path::new(&folder).join(format!("{name}.{who}")), heard).expect("write the transcript");
    }
    (heard != expected).then(|| format!("{name}, {who} (+) against what is expected (-):\n{}", difference(&expected, heard)))
}

/// The one broker that all conversations share, if they are to be had with a real Kafka.
fn real() -> Option<&'static str> {
    static REAL: OnceLock<(Cluster, String)> = OnceLock::new();
    env::var_os("OTTLA_REAL_KAFKA")?;
    let (_, bootstrap) = REAL.get_or_init(|| {
        // Kafka 4.3 may assign in the background, and not more often than once in a while: then no answer can be foretold.
        let at_once = [("group.consumer.assignor.offload.enable", "false"), ("group.consumer.assignment.interval.ms", "0")];
        let extra_conf = at_once.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let cluster = Cluster::start(Options { extra_conf, ..Options::default() }).expect("a real Kafka");
        let bootstrap = cluster.bootstrap();
        (cluster, bootstrap)
    });
    Some(bootstrap)
}

/// A connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line(usize);

/// One performance of a conversation.
pub(crate) struct Stage {
    bootstrap: String,
    /// Kept alive.
    _mock: Option<MockCluster>,
    lines: Vec<TcpStream>,
    topics: BTreeMap<String, uuid::Uuid>,
    pub(crate) names: Names,
    notes: String,
}

impl Stage {
    pub(crate) fn new(bootstrap: String, mock: Option<MockCluster>) -> Self {
        let (lines, topics) = (Vec::new(), BTreeMap::new());
        Self { bootstrap, _mock: mock, lines, topics, names: Names::default(), notes: String::new() }
    }

    pub(crate) async fn connect(&mut self) -> Line {
        let first = self.bootstrap.split(',').next().expect("there is a broker").to_owned();
        self.connect_at(&first).await
    }

    pub(crate) async fn connect_to(&mut self, broker: i32) -> Line {
        let line = self.connect().await;
        let is_there = |answer: &MetadataResponse| answer.brokers.iter().any(|one| one.node_id.0 == broker);
        let answer = self.until(line, 12, &MetadataRequest::default().with_topics(Some(vec![])), is_there).await;
        let found = answer.brokers.iter().find(|one| one.node_id.0 == broker).expect("it is there");
        self.connect_at(&format!("{}:{}", found.host, found.port)).await
    }

    async fn connect_at(&mut self, address: &str) -> Line {
        let stream = TcpStream::connect(address).await.expect("the broker listens");
        stream.set_nodelay(true).expect("a socket");
        self.lines.push(stream);
        Line(self.lines.len() - 1)
    }

    /// Heads what follows.
    pub(crate) fn says(&mut self, what: &str) {
        self.notes.push_str(&format!("# {what}\n"));
    }

    pub(crate) fn notes(&mut self, what: &str, heard: &impl Debug) {
        let heard = self.names.render(heard);
        self.notes.push_str(&format!("{what}: {heard}\n"));
    }

    /// Asks, and notes the answer.
    pub(crate) async fn ask<R>(&mut self, line: Line, version: i16, request: &R) -> R::Response
    where
        R: Request,
        R::Response: Debug,
    {
        self.send(line, version, request).await;
        self.hear::<R>(line, version).await
    }

    /// Asks, and notes nothing.
    pub(crate) async fn quietly<R: Request>(&mut self, line: Line, version: i16, request: &R) -> R::Response {
        self.send(line, version, request).await;
        self.receive::<R>(line, version).await
    }

    /// Sends a request whose answer is to be heard later.
    pub(crate) async fn send<R: Request>(&mut self, line: Line, version: i16, request: &R) {
        let header = RequestHeader::default().with_request_api_key(R::KEY).with_request_api_version(version);
        let header = header.with_client_id(Some(StrBytes::from_static_str("tester")));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        encode_request_header_into_buffer(&mut frame, &header).expect("a header");
        request.encode(&mut frame, version).expect("a request of this version");
        self.send_frame(line, frame).await;
    }

    pub(crate) async fn send_frame(&mut self, line: Line, mut frame: BytesMut) {
        let length = frame.len() as u32 - 4;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.lines[line.0].write_all(&frame).await.expect("the broker reads");
    }

    /// Waits for the answer to what was sent, and notes it.
    pub(crate) async fn hear<R>(&mut self, line: Line, version: i16) -> R::Response
    where
        R: Request,
        R::Response: Debug,
    {
        let answer = self.receive::<R>(line, version).await;
        self.notes(&format!("{:?} v{version}", Api::try_from(R::KEY).expect("a key")), &answer);
        answer
    }

    pub(crate) async fn receive<R: Request>(&mut self, line: Line, version: i16) -> R::Response {
        let mut frame = self.frame(line).await;
        ResponseHeader::decode(&mut frame, R::Response::header_version(version)).expect("a header");
        let answer = R::Response::decode(&mut frame, version).expect("an answer of this version");
        assert!(!frame.has_remaining(), "{} bytes too many", frame.len());
        answer
    }

    pub(crate) async fn frame(&mut self, line: Line) -> Bytes {
        let stream = &mut self.lines[line.0];
        let read = async {
            let length = stream.read_u32().await?;
            let mut frame = vec![0; length as usize];
            stream.read_exact(&mut frame).await?;
            Ok::<_, std::io::Error>(frame)
        };
        timeout(PATIENCE, read)
            .await
            .unwrap_or_else(|_| panic!("no answer; until then:\n{}", self.notes))
            .expect("an answer")
            .into()
    }

    // ---------------------------------------------------------------- what conversations need to begin

    /// Creates a topic, and waits until the broker leads it.
    pub(crate) async fn topic(&mut self, name: &'static str, partitions: i32) -> uuid::Uuid {
        let line = self.connect().await;
        let topic = create_topics_request::CreatableTopic::default().with_name(TopicName(StrBytes::from_static_str(name)));
        let topic = topic.with_num_partitions(partitions).with_replication_factor(1);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        let answer = self.quietly(line, 7, &request).await;
        assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
        let id = answer.topics[0].topic_id;
        self.names.set(id, format!("id of {name}"));
        self.topics.insert(name.into(), id);
        self.until_led(name, partitions).await;
        id
    }

    /// Waits until all partitions of a topic have leaders.
    pub(crate) async fn until_led(&mut self, name: &'static str, partitions: i32) {
        let line = self.connect().await;
        let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_static_str(name))));
        let request = MetadataRequest::default().with_topics(Some(vec![topic]));
        self.until(line, 12, &request, |answer| {
            let found = &answer.topics[0].partitions;
            found.len() == partitions as usize && found.iter().all(|partition| partition.leader_id.0 >= 0)
        })
        .await;
        // A real broker knows that it leads a partition a moment before it does.
        let mut request = list(name, -1);
        let one = request.topics[0].partitions[0].clone();
        request.topics[0].partitions = (0..partitions).map(|number| one.clone().with_partition_index(number)).collect();
        let serves = |answer: &ListOffsetsResponse| answer.topics[0].partitions.iter().all(|partition| partition.error_code == 0);
        self.until(line, 10, &request, serves).await;
    }

    pub(crate) fn id(&self, topic: &str) -> uuid::Uuid {
        self.topics[topic]
    }

    /// Waits until a group has its coordinator.
    pub(crate) async fn group(&mut self, group: &'static str) {
        self.until_coordinated(group, 0).await;
        let line = self.connect().await;
        let asked =
            offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(GroupId(StrBytes::from_static_str(group)));
        let request = OffsetFetchRequest::default().with_groups(vec![asked]);
        self.until(line, 8, &request, |answer| !BEGINNING.contains(&answer.groups[0].error_code)).await;
    }

    /// Waits until a transactional id has its coordinator, and makes it a producer; the answer is noted.
    pub(crate) async fn producer(&mut self, line: Line, id: &'static str) -> InitProducerIdResponse {
        self.until_coordinated(id, 1).await;
        let request =
            InitProducerIdRequest::default().with_transactional_id(Some(TransactionalId(StrBytes::from_static_str(id))));
        let request = request.with_transaction_timeout_ms(60_000);
        let answer = self.until(line, 4, &request, |answer| !BEGINNING.contains(&answer.error_code)).await;
        self.notes("InitProducerId v4", &answer);
        answer
    }

    async fn until_coordinated(&mut self, key: &'static str, key_type: i8) {
        let line = self.connect().await;
        let request = FindCoordinatorRequest::default().with_key(StrBytes::from_static_str(key)).with_key_type(key_type);
        self.until(line, 3, &request, |answer| answer.error_code == 0).await;
    }

    /// Waits until a classic group is in a state.
    pub(crate) async fn until_state(&mut self, group: &'static str, state: &str, members: usize) {
        let line = self.connect().await;
        let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(StrBytes::from_static_str(group))]);
        self.until(line, 5, &request, |answer| {
            let group = &answer.groups[0];
            group.group_state.as_str() == state && group.members.len() == members
        })
        .await;
    }

    /// Asks again and again, without a note, until the answer is as it should be.
    pub(crate) async fn until<R>(
        &mut self,
        line: Line,
        version: i16,
        request: &R,
        is_so: impl Fn(&R::Response) -> bool,
    ) -> R::Response
    where
        R: Request,
        R::Response: Debug,
    {
        let begun = Instant::now();
        loop {
            let answer = self.quietly(line, version, request).await;
            if is_so(&answer) {
                return answer;
            }
            assert!(begun.elapsed() < PATIENCE, "still {answer:?}; until then:\n{}", self.notes);
            // The broker tells nobody when it gets there.
            sleep(Duration::from_millis(10)).await;
        }
    }
}

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
