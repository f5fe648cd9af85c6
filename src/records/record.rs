//! Records within one buffer: the cursor that walks them, and what is read from a record's place when asked for.

use bytes::Bytes;

use super::{Headers, RecordError, RecordErrorKind, headers, varint::varint};
use crate::model::{LeaderEpoch, Offset, Position};

/// Seven fields of at least one byte each: what no record can be shorter than.
pub(super) const RECORD_LEN_MIN: u64 = 7;

/// Records of one partition in one buffer: all uncompressed batches of a chunk, or one that was decompressed.
///
/// Batches that hold nothing to deliver are left out of `heads`, yet count for `next`.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) data: Bytes,
    /// The batches, each with at least one record.
    pub(crate) heads: Box<[Head]>,
    /// Records in all of `heads`.
    pub(crate) count: u32,
    /// Records at the start that lie before the fetched offset, and are done: a batch is always sent whole.
    pub(crate) skip: u32,
    /// Where to go on after the segment and all that was stepped over up to the next; with the epoch of the batch before that offset.
    pub(crate) next: Position,
    /// At the first record after those to skip.
    pub(super) start: Cursor,
}

/// One batch within a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Where the first record begins.
    pub(crate) at: u32,
    /// Where the last record must end.
    pub(crate) end: u32,
    /// The number, within the segment, of the batch's first record.
    pub(crate) first_idx: u32,
    pub(crate) count: u32,
    pub(crate) base: Offset,
    pub(crate) last_delta: i32,
    pub(crate) leader_epoch: Option<LeaderEpoch>,
    /// What a record's own timestamp counts from; with `log_append_time`, the timestamp of every record.
    pub(crate) timestamp: i64,
    pub(crate) log_append_time: bool,
}

/// Where a record and its fields stand. Belongs to the segment whose cursor gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawRecord {
    pub(crate) offset: Offset,
    /// The record's number within its segment.
    pub(crate) idx: u32,
    /// Where the record begins.
    pub(crate) at: u32,
    pub(crate) key: u32,
    /// -1 is null.
    pub(crate) key_len: i32,
    pub(crate) value: u32,
    /// -1 is null.
    pub(crate) value_len: i32,
}

/// A place between two records of a segment. Copy it to look ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// How many heads were entered: the current one's number, plus one.
    entered: u32,
    /// Records left in the current batch.
    left: u32,
    /// The next record's number within the segment.
    idx: u32,
    /// Where the next record begins.
    at: u32,
    /// The offset, less the batch's base, of the record before; -1 at a batch's start.
    delta: i32,
}

impl Segment {
    /// Puts a segment together; records before `from` are to be skipped.
    pub(super) fn new(data: Bytes, heads: Box<[Head]>, next: Position, from: Offset) -> Self {
        let count = heads.iter().map(|head| head.count).sum();
        let mut segment = Self { data, heads, count, skip: 0, next, start: Cursor::START };
        if segment.heads.first().is_some_and(|head| head.base < from) {
            let mut ahead = segment.start;
            // A record that cannot be decoded is left to whoever walks the segment.
            while ahead.next(&segment).is_ok_and(|record| record.is_some_and(|record| record.offset < from)) {
                segment.start = ahead;
            }
            segment.skip = segment.start.idx;
        }
        segment
    }

    /// A cursor at the first record that is not to be skipped.
    pub(crate) fn cursor(&self) -> Cursor {
        self.start
    }

    /// The batch that holds record `idx`.
    pub(crate) fn head_of(&self, idx: u32) -> &Head {
        &self.heads[self.head_number(idx)]
    }

    /// Record number `idx`, decoded anew; `None` if it cannot be.
    pub(crate) fn record(&self, idx: u32) -> Option<RawRecord> {
        self.cursor_before(idx).next(self).ok().flatten()
    }

    /// The offset of record `idx`; of one that cannot be decoded, the lowest it could have.
    pub(crate) fn offset_of(&self, idx: u32) -> Offset {
        let number = self.head_number(idx);
        let head = &self.heads[number];
        let nth = idx - head.first_idx;
        // Ascending offsets leave no choice in a batch without gaps.
        if i64::from(head.count) == i64::from(head.last_delta) + 1 {
            return Offset(head.base.0 + i64::from(nth));
        }
        let cursor = self.cursor_before(idx);
        let mut ahead = cursor;
        match ahead.next(self) {
            Ok(Some(record)) => record.offset,
            _ => cursor.offset_min(head),
        }
    }

    /// The position that says: everything before record `idx` is finished, and that record is not.
    ///
    /// `None` where nothing of this segment is finished then. Offset and epoch come from the same batch, so that a leader asked for the
    /// end of that epoch (KIP-320) cannot take a gap between batches for a truncated log.
    pub(crate) fn position_before(&self, idx: u32) -> Option<Position> {
        if idx <= self.skip {
            return None;
        }
        let number = self.head_number(idx);
        let head = &self.heads[number];
        let offset = self.offset_of(idx);
        if offset > head.base {
            return Some(Position { offset, leader_epoch: head.leader_epoch });
        }
        let before = &self.heads[number.checked_sub(1)?];
        Some(Position { offset: before.next_offset(), leader_epoch: before.leader_epoch })
    }

    /// A record's time in milliseconds since 1970.
    pub(crate) fn timestamp(&self, record: &RawRecord) -> i64 {
        let head = self.head_of(record.idx);
        if head.log_append_time {
            return head.timestamp;
        }
        let mut at = record.at as usize;
        let delta = varint(&self.data, &mut at).and_then(|_len| {
            at += 1; // attributes, of which none is in use
            varint(&self.data, &mut at)
        });
        head.timestamp.saturating_add(delta.unwrap_or(0))
    }

    #[inline]
    pub(crate) fn key(&self, record: &RawRecord) -> Option<&[u8]> {
        field(&self.data, record.key, record.key_len)
    }

    #[inline]
    pub(crate) fn value(&self, record: &RawRecord) -> Option<&[u8]> {
        field(&self.data, record.value, record.value_len)
    }

    pub(crate) fn headers(&self, record: &RawRecord) -> Headers<'_> {
        Headers::new(&self.data[record.headers_at()..])
    }

    /// The record's bytes, from its key to its end, and where in the segment they begin.
    pub(crate) fn body(&self, record: &RawRecord) -> (usize, &[u8]) {
        let end = headers::end(&self.data, record.headers_at()).unwrap_or(record.headers_at());
        (record.key as usize, &self.data[record.key as usize..end])
    }

    /// A cursor before record number `idx`; at the end of all, if one before it in its batch cannot be decoded.
    fn cursor_before(&self, idx: u32) -> Cursor {
        let number = self.head_number(idx);
        let head = &self.heads[number];
        let mut cursor = Cursor::at_head(number, head);
        // An error leaves it at the end.
        let _ = cursor.walk(self, idx - head.first_idx, |_| {});
        cursor
    }

    fn head_number(&self, idx: u32) -> usize {
        self.heads.partition_point(|head| head.first_idx <= idx) - 1
    }
}

impl Head {
    /// Where to go on after this batch.
    pub(crate) fn next_offset(&self) -> Offset {
        Offset(self.base.0.saturating_add(self.last_delta.into()).saturating_add(1))
    }
}

impl RawRecord {
    /// Of no segment.
    pub(super) const NONE: Self = Self { offset: Offset(0), idx: u32::MAX, at: 0, key: 0, key_len: -1, value: 0, value_len: -1 };

    /// Where the headers begin, with their count.
    pub(crate) fn headers_at(&self) -> usize {
        self.value as usize + usize::try_from(self.value_len).unwrap_or(0)
    }
}

#[inline]
fn field(data: &[u8], at: u32, len: i32) -> Option<&[u8]> {
    let len = usize::try_from(len).ok()?;
    Some(&data[at as usize..][..len])
}

impl Cursor {
    /// Before the first record of a segment.
    pub(super) const START: Self = Self { entered: 0, left: 0, idx: 0, at: 0, delta: -1 };
    /// After an error: nothing more comes.
    const END: Self = Self { entered: u32::MAX, left: 0, idx: u32::MAX, at: 0, delta: -1 };

    fn at_head(number: usize, head: &Head) -> Self {
        // More heads than a u32 counts would not fit into a u32's worth of bytes.
        Self { entered: number as u32 + 1, left: head.count, idx: head.first_idx, at: head.at, delta: -1 }
    }

    /// The next record's number within the segment.
    #[inline]
    pub(crate) fn idx(&self) -> u32 {
        self.idx
    }

    /// Decodes the next record. `Ok(None)` at the segment's end, and for ever after an error.
    ///
    /// Every field is checked against the bytes, the headers too: what reads them later cannot fail.
    pub(crate) fn next(&mut self, segment: &Segment) -> Result<Option<RawRecord>, RecordError> {
        let mut next = None;
        self.walk(segment, 1, |record| next = Some(record))?;
        Ok(next)
    }

    /// Decodes the next records, `limit` at most; likewise. What was decoded before an error is good.
    // Everything that changes from record to record is a local: kept in the cursor, each record would wait for the stores of the last.
    #[inline(always)]
    pub(crate) fn walk(&mut self, segment: &Segment, mut limit: u32, mut each: impl FnMut(RawRecord)) -> Result<(), RecordError> {
        while limit > 0 && (self.left > 0 || self.enter(segment)) {
            let head = &segment.heads[self.entered as usize - 1];
            let bytes = &segment.data[..head.end as usize];
            let Self { mut left, mut idx, mut at, mut delta, .. } = *self;
            let left_after = left.saturating_sub(limit);
            let mut end = Ok(());
            while left > left_after {
                let found = match decode_short(bytes, at as usize) {
                    Some(found) => found,
                    None => match decode(bytes, at as usize) {
                        Ok(found) => found,
                        Err(what) => {
                            end = Err(what);
                            break;
                        }
                    },
                };
                left -= 1;
                // Those after it need room, too. So an error always comes at an offset within its batch: whoever fetches from there gets
                // that batch again, not the one behind it.
                if found.delta <= i64::from(delta) || found.delta > i64::from(head.last_delta) - i64::from(left) {
                    end = Err("record offsets out of order or beyond the batch's last");
                    break;
                }
                // A count that is too low would lose what is behind it.
                if left == 0 && found.end != head.end as usize {
                    end = Err("bytes left after the last record");
                    break;
                }
                each(RawRecord {
                    offset: Offset(head.base.0 + found.delta),
                    idx,
                    at,
                    key: found.key as u32,
                    key_len: found.key_len,
                    value: found.value as u32,
                    value_len: found.value_len,
                });
                idx += 1;
                at = found.end as u32;
                delta = found.delta as i32;
            }
            limit -= idx - self.idx;
            *self = Self { entered: self.entered, left, idx, at, delta };
            end.map_err(|what| self.fail(head, what))?;
        }
        Ok(())
    }

    /// Goes to the next batch; `false` when there is none.
    #[inline(never)]
    fn enter(&mut self, segment: &Segment) -> bool {
        let Some(head) = segment.heads.get(self.entered as usize) else { return false };
        *self = Self::at_head(self.entered as usize, head);
        true
    }

    /// The lowest offset that the next record of batch `head` could have.
    fn offset_min(&self, head: &Head) -> Offset {
        Offset(head.base.0.saturating_add(self.delta.into()).saturating_add(1))
    }

    #[cold]
    fn fail(&mut self, head: &Head, what: &'static str) -> RecordError {
        let offset = self.offset_min(head);
        *self = Self::END;
        RecordError { offset, next_offset: head.next_offset(), kind: RecordErrorKind::Malformed(what) }
    }
}

/// The type of a control batch's first record: 0 aborts a transaction, 1 commits it.
pub(super) fn control_type(records: &[u8]) -> Option<i16> {
    let found = decode(records, 0).ok()?;
    let key = records.get(found.key..)?.get(..usize::try_from(found.key_len).ok()?)?;
    // Its version comes first.
    key.get(2..)?.first_chunk().copied().map(i16::from_be_bytes)
}

#[derive(Debug, PartialEq)]
struct Found {
    delta: i64,
    key: usize,
    key_len: i32,
    value: usize,
    value_len: i32,
    end: usize,
}

/// Decodes the record at `at` if it is like almost all: no number in it needs more than three bytes, it has no headers, and more bytes
/// follow its fixed part than that can take. `None` leaves it, good or bad, to [`decode`].
///
/// One look at the bytes is compared with their end here, and not each number: that saves a third of what decoding costs.
#[inline(always)]
fn decode_short(bytes: &[u8], start: usize) -> Option<Found> {
    /// Length, attributes, timestamp, offset, and the lengths of key and value take 16 bytes at most.
    const WINDOW: usize = 16;

    let window: &[u8; WINDOW] = bytes.get(start..)?.first_chunk()?;
    let mut at = 0;
    let mut number = || {
        // The masks say to the compiler what is so anyway.
        let first = u32::from(window[at % WINDOW]);
        let second = u32::from(window[(at + 1) % WINDOW]);
        if first < 0x80 {
            at += 1;
            return Some((first, at));
        }
        if second < 0x80 {
            at += 2;
            return Some((first & 0x7f | second << 7, at));
        }
        let third = u32::from(window[(at + 2) % WINDOW]);
        at += 3;
        (third < 0x80).then_some((first & 0x7f | (second & 0x7f) << 7 | third << 14, at))
    };
    let (len, len_end) = number()?;
    // The attributes, of which none is in use, are stepped over as if they were a number.
    let (attributes, _) = number()?;
    number()?; // the timestamp's delta: read when asked for
    let (delta, _) = number()?;
    let (key_len, key_at) = number()?;
    let key = start + key_at;
    let (value_len, value) = if key_len == NULL {
        let (value_len, value_at) = number()?;
        (i64::from(value_len >> 1) ^ -i64::from(value_len & 1), start + value_at)
    } else {
        let mut at = key + (key_len >> 1) as usize;
        (varint(bytes, &mut at)?, at)
    };
    let end = start + len_end + (len >> 1) as usize;
    let value_end = value + usize::try_from(value_len).ok()?;
    // Where the record ends by what its fields say, it must end by its own length; so nothing else has to be compared with the bytes.
    let fits = value_end + 1 == end && end <= bytes.len() && bytes[value_end] == 0;
    let is_plain = (len | delta) & 1 == 0 && (key_len & 1 == 0 || key_len == NULL) && attributes < 0x80;
    (fits && is_plain).then(|| Found {
        delta: i64::from(delta >> 1),
        key,
        key_len: if key_len == NULL { -1 } else { (key_len >> 1) as i32 },
        value,
        value_len: value_len as i32,
        end,
    })
}

/// A length of -1, as it stands in the bytes.
const NULL: u32 = 1;

/// Decodes the record at `at`; `bytes` ends where its batch does.
fn decode(bytes: &[u8], mut at: usize) -> Result<Found, &'static str> {
    const CUT: &str = "record longer than its batch";
    const OVERRUN: &str = "record's fields longer than the record";

    let len = varint(bytes, &mut at).ok_or(CUT)?;
    let end = usize::try_from(len).ok().and_then(|len| at.checked_add(len)).ok_or(CUT)?;
    let bytes = bytes.get(..end).ok_or(CUT)?;

    at += 1; // attributes, of which none is in use
    varint(bytes, &mut at).ok_or(OVERRUN)?; // the timestamp's delta: read when asked for
    let delta = varint(bytes, &mut at).ok_or(OVERRUN)?;
    let (key, key_len) = span(bytes, &mut at).ok_or(OVERRUN)?;
    let (value, value_len) = span(bytes, &mut at).ok_or(OVERRUN)?;
    // Most records have no headers: one zero byte.
    let headers_end = if bytes.get(at) == Some(&0) { Some(at + 1) } else { headers::end(bytes, at) };
    match headers_end {
        Some(at) if at == end => Ok(Found { delta, key, key_len, value, value_len, end }),
        Some(_) => Err("bytes left at the end of a record"),
        None => Err("headers that do not fit their record"),
    }
}

/// Steps over a key or a value: where it begins, and its length, -1 for null.
#[inline(always)]
fn span(bytes: &[u8], at: &mut usize) -> Option<(usize, i32)> {
    let len = varint(bytes, at)?;
    let start = *at;
    if len < 0 {
        return Some((start, -1));
    }
    let len = i32::try_from(len).ok()?;
    let end = start.checked_add(len as usize)?;
    if end > bytes.len() {
        return None;
    }
    *at = end;
    Some((start, len))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::records::encode::put_varint;

    /// A record as `numbers` say, right or wrong: length, attributes, timestamp, offset, key's and value's lengths, number of headers.
    fn record(numbers: [i64; 7], key: &[u8], value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let [len, attributes, timestamp, delta, key_len, value_len, headers] = numbers;
        put_varint(&mut bytes, len);
        bytes.push(attributes as u8);
        put_varint(&mut bytes, timestamp);
        put_varint(&mut bytes, delta);
        put_varint(&mut bytes, key_len);
        bytes.extend(key);
        put_varint(&mut bytes, value_len);
        bytes.extend(value);
        put_varint(&mut bytes, headers);
        bytes
    }

    /// What the short way takes, the long way takes too, and finds the same in it.
    fn check(bytes: &[u8]) -> bool {
        let short = decode_short(bytes, 0);
        let is_short = short.is_some();
        if let Some(found) = short {
            assert_eq!(decode(bytes, 0), Ok(found), "{bytes:?}");
        }
        is_short
    }

    fn number() -> impl Strategy<Value = i64> {
        prop_oneof![Just(-1), 0..4i64, 60..70i64, 8_100..8_300i64, any::<i32>().prop_map(i64::from), any::<i64>()]
    }

    proptest! {
        #[test]
        fn the_short_way_agrees_with_the_long_one(
            numbers: [u8; 2], at in prop::array::uniform2(number()), key in prop::option::of(0..90usize), value in prop::option::of(0..90usize),
            len_off in prop_oneof![8 => Just(0i64), 1 => -3..3i64, 1 => number()], lens in prop::option::weighted(0.2, prop::array::uniform2(number())),
            behind in prop::collection::vec(any::<u8>(), 0..40), noise in prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let len_of = |field: Option<usize>| field.map_or(-1, |len| len as i64);
            let [key_len, value_len] = lens.unwrap_or([len_of(key), len_of(value)]);
            let (key, value) = (vec![7; key.unwrap_or(0)], vec![9; value.unwrap_or(0)]);
            let headers = i64::from(numbers[1] % 16 == 0);
            let fields = [0, i64::from(numbers[0]), at[0], at[1], key_len, value_len, headers];
            let len = record(fields, &key, &value).len() as i64 - 1 + len_off % (1 << 40);
            let mut bytes = record([len, fields[1], fields[2], fields[3], key_len, value_len, headers], &key, &value);
            bytes.extend(behind);
            if let Some((at, byte)) = noise {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            check(&bytes);
        }
    }

    #[test]
    fn an_ordinary_record_goes_the_short_way() {
        for (key, value) in [(None, 100), (None, 8_000), (Some(0), 1), (Some(36), 100), (None, 1_000_000)] {
            let (key_len, key) = (key.map_or(-1, |len| len as i64), vec![1; key.unwrap_or(0)]);
            let fields = [0, 0, 4_000, 600, key_len, value as i64, 0];
            let value = vec![2; value];
            let len = record(fields, &key, &value).len() as i64 - 1;
            let mut bytes = record([len, 0, 4_000, 600, key_len, fields[5], 0], &key, &value);
            // Another record follows.
            bytes.extend([0; 16]);
            assert!(check(&bytes), "{key_len} {}", value.len());
        }
    }
}
