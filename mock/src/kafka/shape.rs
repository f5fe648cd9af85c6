//! The shapes of requests, walked over before a request is decoded.
//!
//! `kafka_protocol` takes the memory for a list by the count that stands before it, and nine bytes ask for 400 GB, at which the process ends.
//! So each request is walked over first, without building anything: whatever is counted must be there.

use bytes::Buf;
use kafka_protocol::messages::ApiKey;

/// How many entries of lists, and unknown tagged fields, a request may have in all: in memory they are many times what they are here.
const ENTRIES_MAX: usize = 1_000_000;

/// One field, and the versions that have it.
struct Field {
    first: i16,
    last: i16,
    kind: Kind,
}

enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A text, or bytes in an old version's text: its length in 16 bits, or compact.
    Text,
    /// Bytes: their length in 32 bits, or compact.
    Blob,
    /// A list of texts.
    Texts,
    /// A list of numbers of 32 bits.
    Numbers,
    /// A list of structures.
    List(&'static [Field]),
    /// A tagged field of this number and so many bytes: the codec does not look at the length that stands before it.
    Tagged(u32, usize),
}

use Kind::{Blob, Fixed, List, Numbers, Tagged, Text, Texts};

const BOOL: Kind = Fixed(1);
const I8: Kind = Fixed(1);
const I16: Kind = Fixed(2);
const I32: Kind = Fixed(4);
const I64: Kind = Fixed(8);
const UUID: Kind = Fixed(16);

const fn all(kind: Kind) -> Field {
    within(0, i16::MAX, kind)
}

const fn since(first: i16, kind: Kind) -> Field {
    within(first, i16::MAX, kind)
}

const fn until(last: i16, kind: Kind) -> Field {
    within(0, last, kind)
}

const fn within(first: i16, last: i16, kind: Kind) -> Field {
    Field { first, last, kind }
}

/// A request's fields, and its first version with compact lengths and tagged fields.
fn shape(api: ApiKey) -> Option<(&'static [Field], i16)> {
    const NEVER: i16 = i16::MAX;

    Some(match api {
        ApiKey::Produce => (PRODUCE, 9),
        ApiKey::Fetch => (FETCH, 12),
        ApiKey::ListOffsets => (LIST_OFFSETS, 6),
        ApiKey::Metadata => (METADATA, 9),
        ApiKey::OffsetCommit => (OFFSET_COMMIT, 8),
        ApiKey::OffsetFetch => (OFFSET_FETCH, 6),
        ApiKey::FindCoordinator => (const { &[until(3, Text), since(1, I8), since(4, Texts)] }, 3),
        ApiKey::JoinGroup => (JOIN_GROUP, 6),
        ApiKey::Heartbeat => (const { &[all(Text), all(I32), all(Text), since(3, Text)] }, 4),
        ApiKey::LeaveGroup => (LEAVE_GROUP, 4),
        ApiKey::SyncGroup => (SYNC_GROUP, 4),
        ApiKey::DescribeGroups => (const { &[all(Texts), since(3, BOOL)] }, 5),
        ApiKey::ListGroups => (const { &[since(4, Texts), since(5, Texts)] }, 3),
        ApiKey::SaslHandshake => (const { &[all(Text)] }, NEVER),
        ApiKey::ApiVersions => (const { &[since(3, Text), since(3, Text)] }, 3),
        ApiKey::CreateTopics => (CREATE_TOPICS, 5),
        ApiKey::DeleteTopics => (DELETE_TOPICS, 4),
        ApiKey::DeleteRecords => (DELETE_RECORDS, 2),
        ApiKey::InitProducerId => (const { &[all(Text), all(I32), since(3, I64), since(3, I16)] }, 2),
        ApiKey::OffsetForLeaderEpoch => (OFFSET_FOR_LEADER_EPOCH, 4),
        ApiKey::AddPartitionsToTxn => (ADD_PARTITIONS_TO_TXN, 3),
        ApiKey::AddOffsetsToTxn => (const { &[all(Text), all(I64), all(I16), all(Text)] }, 3),
        ApiKey::EndTxn => (const { &[all(Text), all(I64), all(I16), all(BOOL)] }, 3),
        ApiKey::TxnOffsetCommit => (TXN_OFFSET_COMMIT, 3),
        ApiKey::SaslAuthenticate => (const { &[all(Blob)] }, 2),
        ApiKey::CreatePartitions => (CREATE_PARTITIONS, 2),
        ApiKey::DeleteGroups => (const { &[all(Texts)] }, 2),
        ApiKey::OffsetDelete => (OFFSET_DELETE, NEVER),
        ApiKey::DescribeCluster => (const { &[all(BOOL), since(1, I8), since(2, BOOL)] }, 0),
        ApiKey::ConsumerGroupHeartbeat => (CONSUMER_GROUP_HEARTBEAT, 0),
        ApiKey::ConsumerGroupDescribe => (const { &[all(Texts), all(BOOL)] }, 0),
        _ => return None,
    })
}

const PRODUCE: &[Field] =
    &[since(3, Text), all(I16), all(I32), all(List(&[until(12, Text), since(13, UUID), all(List(&[all(I32), all(Blob)]))]))];

const FETCH: &[Field] = &[
    until(14, I32),
    all(Fixed(4 + 4)),
    since(3, I32),
    since(4, I8),
    since(7, Fixed(4 + 4)),
    all(List(&[
        until(12, Text),
        since(13, UUID),
        all(List(&[
            all(I32),
            since(9, I32),
            all(I64),
            since(12, I32),
            since(5, I64),
            all(I32),
            since(17, Tagged(0, 16)),
            since(18, Tagged(1, 8)),
        ])),
    ])),
    since(7, List(&[until(12, Text), since(13, UUID), all(Numbers)])),
    since(11, Text),
];

const LIST_OFFSETS: &[Field] = &[
    all(I32),
    since(2, I8),
    all(List(&[all(Text), all(List(&[all(I32), since(4, I32), all(I64), until(0, I32)]))])),
    since(10, I32),
];

const METADATA: &[Field] = &[all(List(&[since(10, UUID), all(Text)])), since(4, BOOL), within(8, 10, BOOL), since(8, BOOL)];

const OFFSET_COMMIT: &[Field] = &[
    all(Text),
    since(1, I32),
    since(1, Text),
    since(7, Text),
    within(2, 4, I64),
    all(List(&[until(9, Text), since(10, UUID), all(List(&[all(I32), all(I64), since(6, I32), within(1, 1, I64), all(Text)]))])),
];

const OFFSET_FETCH: &[Field] = &[
    until(7, Text),
    until(7, List(&[all(Text), all(Numbers)])),
    since(8, List(&[all(Text), since(9, Text), since(9, I32), all(List(&[until(9, Text), since(10, UUID), all(Numbers)]))])),
    since(7, BOOL),
];

const JOIN_GROUP: &[Field] = &[
    all(Text),
    all(I32),
    since(1, I32),
    all(Text),
    since(5, Text),
    all(Text),
    all(List(&[all(Text), all(Blob)])),
    since(8, Text),
];

const LEAVE_GROUP: &[Field] = &[all(Text), until(2, Text), since(3, List(&[all(Text), all(Text), since(5, Text)]))];

const SYNC_GROUP: &[Field] =
    &[all(Text), all(I32), all(Text), since(3, Text), since(5, Text), since(5, Text), all(List(&[all(Text), all(Blob)]))];

const CREATE_TOPICS: &[Field] = &[
    all(List(&[all(Text), all(Fixed(4 + 2)), all(List(&[all(I32), all(Numbers)])), all(List(&[all(Text), all(Text)]))])),
    all(I32),
    since(1, BOOL),
];

const DELETE_TOPICS: &[Field] = &[until(5, Texts), since(6, List(&[all(Text), all(UUID)])), all(I32)];

const DELETE_RECORDS: &[Field] = &[all(List(&[all(Text), all(List(&[all(I32), all(I64)]))])), all(I32)];

const OFFSET_FOR_LEADER_EPOCH: &[Field] =
    &[since(3, I32), all(List(&[all(Text), all(List(&[all(I32), since(2, I32), all(I32)]))]))];

const ADD_PARTITIONS_TO_TXN: &[Field] = &[
    until(3, Text),
    until(3, Fixed(8 + 2)),
    until(3, List(&[all(Text), all(Numbers)])),
    since(4, List(&[all(Text), all(Fixed(8 + 2 + 1)), all(List(&[all(Text), all(Numbers)]))])),
];

const TXN_OFFSET_COMMIT: &[Field] = &[
    all(Text),
    all(Text),
    all(Fixed(8 + 2)),
    since(3, I32),
    since(3, Text),
    since(3, Text),
    all(List(&[all(Text), all(List(&[all(I32), all(I64), since(2, I32), all(Text)]))])),
];

const CREATE_PARTITIONS: &[Field] = &[all(List(&[all(Text), all(I32), all(List(&[all(Numbers)]))])), all(I32), all(BOOL)];

const OFFSET_DELETE: &[Field] = &[all(Text), all(List(&[all(Text), all(List(&[all(I32)]))]))];

const CONSUMER_GROUP_HEARTBEAT: &[Field] = &[
    all(Text),
    all(Text),
    all(I32),
    all(Text),
    all(Text),
    all(I32),
    all(Texts),
    since(1, Text),
    all(Text),
    all(List(&[all(UUID), all(Numbers)])),
];

/// Checks that a request's header is as long as its lengths say.
pub(super) fn check_header(header_version: i16, frame: &[u8]) -> Result<(), String> {
    Walk::new(frame).header(header_version).map(drop)
}

/// Checks that a whole request is as long as its counts and lengths say, and no longer.
pub(super) fn check(api: ApiKey, version: i16, frame: &[u8]) -> Result<(), String> {
    let Some((fields, flexible_from)) = shape(api) else { return Err(format!("{api:?} is not served")) };
    let mut walk = Walk::new(frame).header(api.request_header_version(version))?;
    (walk.version, walk.is_flexible) = (version, version >= flexible_from);
    walk.structure(fields)?;
    if walk.body.is_empty() { Ok(()) } else { Err(format!("{} bytes too many", walk.body.len())) }
}

/// Checks what a member of a classic group says of itself, as far as this version goes: a newer one may go on behind it.
pub(super) fn check_subscription(blob: &[u8], version: i16) -> bool {
    const OWNED: Kind = List(&[all(Text), all(Numbers)]);
    const SUBSCRIPTION: &[Field] = &[all(Texts), all(Blob), since(1, OWNED), since(2, I32), since(3, Text)];
    check_start(SUBSCRIPTION, blob, version)
}

/// Checks what a group's leader gives to a member, likewise; all versions have the same.
pub(super) fn check_assignment(blob: &[u8]) -> bool {
    const ASSIGNMENT: &[Field] = &[all(List(&[all(Text), all(Numbers)])), all(Blob)];
    check_start(ASSIGNMENT, blob, 0)
}

fn check_start(fields: &'static [Field], blob: &[u8], version: i16) -> bool {
    Walk { version, ..Walk::new(blob) }.structure(fields).is_ok()
}

struct Walk<'a> {
    version: i16,
    is_flexible: bool,
    body: &'a [u8],
    entries_left: usize,
}

impl<'a> Walk<'a> {
    fn new(body: &'a [u8]) -> Self {
        Self { version: 0, is_flexible: false, body, entries_left: ENTRIES_MAX }
    }

    /// Walks over the header, whose one text was never made compact.
    fn header(mut self, version: i16) -> Result<Self, String> {
        const API_VERSION_AND_CORRELATION_ID: usize = 8;

        self.skip(API_VERSION_AND_CORRELATION_ID)?;
        if version >= 1 {
            self.text()?;
        }
        if version >= 2 {
            self.tagged_fields(&[])?;
        }
        Ok(self)
    }

    fn structure(&mut self, fields: &[Field]) -> Result<(), String> {
        let version = self.version;
        for field in fields.iter().filter(|field| field.is_in(version)) {
            self.field(&field.kind)?;
        }
        if self.is_flexible { self.tagged_fields(fields) } else { Ok(()) }
    }

    fn tagged_fields(&mut self, fields: &[Field]) -> Result<(), String> {
        for _ in 0..self.varint()? {
            self.count_entries(1)?;
            let tag = self.varint()?;
            let length = self.varint()? as usize;
            let known = fields.iter().filter(|field| field.is_in(self.version)).find_map(|field| match field.kind {
                Tagged(of, length) if of == tag => Some(length),
                _ => None,
            });
            if known.is_some_and(|known| known != length) {
                return Err(format!("tagged field {tag} of {length} bytes"));
            }
            self.skip(length)?;
        }
        Ok(())
    }

    fn field(&mut self, kind: &Kind) -> Result<(), String> {
        match kind {
            Fixed(length) => self.skip(*length),
            Text => self.text(),
            Blob => {
                let length = self.length()?;
                self.skip(length)
            }
            Texts => {
                let count = self.count()?;
                (0..count).try_for_each(|_| self.text())
            }
            Numbers => {
                let count = self.length()?;
                self.skip(count.saturating_mul(4))
            }
            List(fields) => {
                let count = self.count()?;
                (0..count).try_for_each(|_| self.structure(fields))
            }
            // It stands behind the others.
            Tagged(..) => Ok(()),
        }
    }

    fn text(&mut self) -> Result<(), String> {
        let length = if self.is_flexible {
            self.length()?
        } else {
            let length = self.body.try_get_i16().map_err(cut_short)?;
            usize::try_from(length).unwrap_or(0)
        };
        self.skip(length)
    }

    /// The count of a list, once that many entries may still come.
    fn count(&mut self) -> Result<usize, String> {
        let count = self.length()?;
        if count > self.body.len() {
            return Err(format!("a list of {count} entries in {} bytes", self.body.len()));
        }
        self.count_entries(count)?;
        Ok(count)
    }

    fn count_entries(&mut self, count: usize) -> Result<(), String> {
        let left = self.entries_left.checked_sub(count);
        self.entries_left = left.ok_or_else(|| format!("more than {ENTRIES_MAX} entries"))?;
        Ok(())
    }

    /// A length of bytes or of a list; what is null has none. That a length is negative, or null where it must not be, is the codec's to say.
    fn length(&mut self) -> Result<usize, String> {
        if self.is_flexible {
            return Ok((self.varint()? as usize).saturating_sub(1));
        }
        let length = self.body.try_get_i32().map_err(cut_short)?;
        Ok(usize::try_from(length).unwrap_or(0))
    }

    fn varint(&mut self) -> Result<u32, String> {
        let mut value = 0;
        for shift in (0..u32::BITS).step_by(7) {
            let byte = self.body.try_get_u8().map_err(cut_short)?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number of more than 32 bits".to_owned())
    }

    fn skip(&mut self, length: usize) -> Result<(), String> {
        self.body = self.body.get(length..).ok_or_else(|| format!("{length} bytes where {} are left", self.body.len()))?;
        Ok(())
    }
}

impl Field {
    fn is_in(&self, version: i16) -> bool {
        (self.first..=self.last).contains(&version)
    }
}

fn cut_short(_: bytes::TryGetError) -> String {
    "cut short".to_owned()
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, Bytes, BytesMut};

    use super::{
        super::{
            Input, Settings,
            api::{self, Release},
            message::ConnId,
            random::Random,
            request,
            tester::Tester,
        },
        *,
    };

    /// Writes what a shape describes, with chance for all that it leaves open.
    struct Writer {
        random: Random,
        version: i16,
        is_flexible: bool,
        out: BytesMut,
    }

    impl Writer {
        fn below(&mut self, end: u64) -> usize {
            (self.random.next_u64() % end) as usize
        }

        fn structure(&mut self, fields: &[Field]) {
            let mut tagged = Vec::new();
            let version = self.version;
            for field in fields.iter().filter(|field| field.is_in(version)) {
                match &field.kind {
                    Tagged(tag, length) => tagged.push((*tag, *length)),
                    kind => self.field(kind),
                }
            }
            if self.is_flexible {
                tagged.push((77, 3));
                self.varint(tagged.len());
                for (tag, length) in tagged {
                    self.varint(tag as usize);
                    self.varint(length);
                    self.out.put_bytes(1, length);
                }
            }
        }

        fn field(&mut self, kind: &Kind) {
            let count = self.below(3) + usize::from(self.below(50) == 0) * 200;
            match kind {
                Fixed(length) => (0..*length).for_each(|_| {
                    let byte = self.below(3) as u8;
                    self.out.put_u8(byte);
                }),
                Text => self.text(count),
                Blob => {
                    self.length(count);
                    self.out.put_bytes(b'b', count);
                }
                Texts => {
                    self.length(count);
                    (0..count).for_each(|n| self.text(n));
                }
                Numbers => {
                    self.length(count);
                    self.out.put_bytes(0, 4 * count);
                }
                List(fields) => {
                    self.length(count);
                    (0..count).for_each(|_| self.structure(fields));
                }
                Tagged(..) => unreachable!("written last"),
            }
        }

        fn text(&mut self, length: usize) {
            if self.is_flexible {
                self.length(length)
            } else {
                self.out.put_i16(length as i16)
            }
            self.out.put_bytes(b't', length);
        }

        fn length(&mut self, length: usize) {
            if self.is_flexible { self.varint(length + 1) } else { self.out.put_i32(length as i32) }
        }

        fn varint(&mut self, value: usize) {
            let mut rest = value;
            while rest >= 0x80 {
                self.out.put_u8((rest & 0x7f) as u8 | 0x80);
                rest >>= 7;
            }
            self.out.put_u8(rest as u8);
        }
    }

    fn header(api: ApiKey, version: i16) -> BytesMut {
        let mut frame = BytesMut::new();
        frame.put_i16(api as i16);
        frame.put_i16(version);
        frame.put_i32(7);
        frame.put_i16(-1);
        if api.request_header_version(version) == 2 {
            frame.put_u8(0);
        }
        frame
    }

    fn read(frame: BytesMut) -> Result<(), String> {
        request::read(ConnId(1), 1, Release::NEWEST, frame.freeze()).map(drop)
    }

    /// What has a shape is what the codec reads, to the last byte: so what the codec would read has been walked over.
    #[test]
    fn the_codec_reads_whatever_has_the_shape_of_each_request_at_each_version() {
        for (api, oldest, newest) in api::announced(Release::NEWEST) {
            for version in oldest..=newest {
                let (fields, flexible_from) = shape(api).unwrap_or_else(|| panic!("{api:?} has no shape"));
                for seed in 0..40 {
                    let (random, is_flexible) = (Random::new(seed), version >= flexible_from);
                    let mut writer = Writer { random, version, is_flexible, out: header(api, version) };
                    writer.structure(fields);
                    read(writer.out.clone()).unwrap_or_else(|error| panic!("{api:?} {version}: {error}"));
                    writer.out.put_u8(0);
                    assert!(read(writer.out).is_err(), "{api:?} {version}: a byte too many");
                }
            }
        }
    }

    #[test]
    fn a_list_that_promises_more_than_there_is_costs_the_connection_and_nothing_else() {
        for (version, count) in [(8, &b"\x7f\xff\xff\xff"[..]), (12, b"\xff\xff\xff\xff\x0f")] {
            let mut tester = Tester::new(Settings::default());
            let conn = tester.connect(1);
            let mut frame = header(ApiKey::Metadata, version);
            frame.put_slice(count);
            let whole = [&(frame.len() as u32).to_be_bytes()[..], &frame].concat();
            tester.input(Input::Received(conn, Bytes::from(whole)));
            assert!(tester.is_closed(conn));
            let [why] = tester.kafka.malformed() else { panic!("{:?}", tester.kafka.malformed()) };
            assert!(why.starts_with(&format!("Metadata version {version}: a list of")), "{why}");
        }
    }

    #[test]
    fn a_million_entries_are_walked_over_and_one_more_is_not() {
        let groups = |count: i32| {
            let mut frame = header(ApiKey::DeleteGroups, 1);
            frame.put_i32(count);
            frame.put_bytes(0, 2 * count as usize);
            check(ApiKey::DeleteGroups, 1, &frame)
        };
        assert_eq!(groups(1_000_000), Ok(()));
        assert_eq!(groups(1_000_001), Err("more than 1000000 entries".to_owned()));
    }

    #[test]
    fn a_known_tagged_field_has_its_own_length() {
        let fetch = |length: u8| {
            let mut frame = header(ApiKey::Fetch, 17);
            frame.put_bytes(0, 4 + 4 + 4 + 1 + 4 + 4);
            frame.put_u8(2);
            frame.put_bytes(0, 16);
            frame.put_u8(2);
            frame.put_bytes(0, 4 + 4 + 8 + 4 + 8 + 4);
            frame.put_slice(&[1, 0, length]);
            frame.put_bytes(0, length.into());
            frame.put_slice(&[0, 1, 1, 0]);
            read(frame)
        };
        assert_eq!(fetch(16), Ok(()));
        assert_eq!(fetch(15), Err("Fetch version 17: tagged field 0 of 15 bytes".to_owned()));
    }

    #[test]
    fn blobs_of_members_are_walked_over_too() {
        assert!(check_subscription(b"\0\0\0\x01\0\x01t\xff\xff\xff\xff and what newer versions have", 0));
        assert!(!check_subscription(b"\x7f\xff\xff\xff\0\x01t\xff\xff\xff\xff", 0));
        assert!(check_subscription(b"\0\0\0\x01\0\x01t\xff\xff\xff\xff\0\0\0\0\0\0\0\x05\xff\xff", 3));
        assert!(!check_subscription(b"\0\0\0\x01\0\x01t\xff\xff\xff\xff\x7f\xff\xff\xff", 1));
        assert!(check_assignment(b"\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x07\0\0\0\0"));
        assert!(!check_assignment(b"\0\0\0\x01\0\x01t\x7f\xff\xff\xff\0\0\0\x07\0\0\0\0"));
    }
}
