//! Requests that wait for their answers, and the answers that were found.

use std::{collections::VecDeque, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{ApiKey, ResponseHeader, ResponseKind},
    protocol::{Encodable, HeaderVersion, StrBytes},
};

use super::message::{ConnId, Event};

/// A request on its way through a broker: whoever parks it keeps this, and gives it back with the answer.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) conn: ConnId,
    /// The broker that was asked.
    pub(crate) broker: i32,
    pub(crate) api: ApiKey,
    pub(crate) version: i16,
    pub(crate) client_id: Option<StrBytes>,
    /// What the answer is to say; every answer says it that can.
    pub(crate) throttle_time_ms: i32,
    pub(super) correlation_id: i32,
    pub(super) fate: Fate,
}

/// What becomes of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Sent,
    SentAfter(Duration),
    /// The request was served, and the connection ends before the answer is out.
    Lost,
    /// The request was served, and the answer never comes.
    Kept,
    /// Something else is sent, of the right length for the connection to stay in step.
    Garbled,
}

/// Where the machines leave what they have found.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(super) answers: VecDeque<(Call, Bytes)>,
    pub(super) events: VecDeque<Event>,
    /// Why a request was refused as no broker would ever have understood it.
    pub(super) malformed: Vec<String>,
}

impl Outbox {
    /// Answers a call.
    pub(crate) fn answer<T: Encodable + HeaderVersion>(&mut self, call: Call, body: &T) {
        let header_version = T::header_version(call.version);
        self.push(call, header_version, |frame, version| body.encode(frame, version).map_err(|error| format!("{error:#}")));
    }

    /// Answers a call with what a test has made.
    pub(crate) fn answer_any(&mut self, call: Call, body: &ResponseKind) {
        let header_version = body.header_version(call.version);
        self.push(call, header_version, |frame, version| body.encode(frame, version).map_err(|error| format!("{error:#}")));
    }

    /// Ends a call that no answer is expected to: the connection goes on with what follows.
    pub(crate) fn no_answer(&mut self, call: Call) {
        self.answers.push_back((call, Bytes::new()));
    }

    /// Ends a call by ending its connection.
    pub(crate) fn hang_up(&mut self, mut call: Call) {
        call.fate = Fate::Lost;
        self.no_answer(call);
    }

    fn push(&mut self, call: Call, header_version: i16, encode: impl FnOnce(&mut BytesMut, i16) -> Result<(), String>) {
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        let header = ResponseHeader::default().with_correlation_id(call.correlation_id);
        header.encode(&mut frame, header_version).expect("a header always fits");
        if let Err(error) = encode(&mut frame, call.version) {
            panic!("the answer to {:?} version {} sets what that version lacks: {error}", call.api, call.version);
        }
        let length = u32::try_from(frame.len() - 4).expect("an answer is shorter than 4 GiB");
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.answers.push_back((call, frame.freeze()));
    }

    /// Tells what was done to whoever wants to know.
    pub(crate) fn event(&mut self, event: Event) {
        self.events.push_back(event);
    }
}
