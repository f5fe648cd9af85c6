//! A member of a classic group.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{JoinGroupRequest, JoinGroupResponse, SyncGroupResponse, join_group_request::JoinGroupRequestProtocol},
    protocol::StrBytes,
};

use crate::kafka::{Context, call::Call, clock::ms};

#[derive(Clone, Debug)]
pub(in super::super) struct Member {
    pub(in super::super) id: StrBytes,
    pub(in super::super) instance_id: Option<StrBytes>,
    pub(in super::super) client_id: StrBytes,
    pub(in super::super) session_timeout: Duration,
    pub(in super::super) rebalance_timeout: Duration,
    pub(in super::super) protocol_type: StrBytes,
    /// What it speaks, the best first.
    pub(in super::super) protocols: Vec<(StrBytes, Bytes)>,
    pub(in super::super) assignment: Bytes,
    /// The join that waits for the others.
    pub(in super::super) joining: Option<Call>,
    /// The sync that waits for the leader's.
    pub(in super::super) syncing: Option<Call>,
    /// It has not seen a generation yet: unlike others it cannot wait for ever in a join.
    pub(in super::super) is_new: bool,
}

impl Member {
    pub(super) fn new(id: StrBytes, call: Call, request: &JoinGroupRequest) -> Self {
        let mut member = Self {
            id,
            instance_id: request.group_instance_id.clone(),
            client_id: call.client_id.clone().unwrap_or_default(),
            session_timeout: Duration::ZERO,
            rebalance_timeout: Duration::ZERO,
            protocol_type: request.protocol_type.clone(),
            protocols: Vec::new(),
            assignment: Bytes::new(),
            joining: None,
            syncing: None,
            is_new: true,
        };
        member.update(call, request);
        member
    }

    /// Takes over what a join says, and keeps the call: of two the newer one counts.
    pub(super) fn update(&mut self, call: Call, request: &JoinGroupRequest) {
        self.session_timeout = ms(request.session_timeout_ms);
        // Version 0 has one timeout for both.
        let rebalance = if call.version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms };
        self.rebalance_timeout = ms(rebalance);
        self.protocols = read_protocols(&request.protocols);
        self.joining = Some(call);
    }

    pub(super) fn matches(&self, request: &JoinGroupRequest) -> bool {
        self.protocols == read_protocols(&request.protocols)
    }

    pub(super) fn supports(&self, protocol: &StrBytes) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    pub(in super::super) fn metadata(&self, protocol: &StrBytes) -> Bytes {
        self.protocols.iter().find(|(name, _)| name == protocol).map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    /// What is left of it in the log: of its protocols, the one in use.
    pub(super) fn stored_as(&self, protocol: Option<&StrBytes>) -> Self {
        let protocols = protocol.map(|name| (name.clone(), self.metadata(name)));
        Self { joining: None, syncing: None, is_new: false, protocols: protocols.into_iter().collect(), ..self.clone() }
    }

    pub(super) fn refuse_join(&mut self, cx: &mut Context<'_>, error: ResponseError) {
        if let Some(call) = self.joining.take() {
            refuse_join(cx, call, error, &self.id);
        }
    }

    pub(super) fn refuse_sync(&mut self, cx: &mut Context<'_>, error: ResponseError) {
        if let Some(call) = self.syncing.take() {
            let body = SyncGroupResponse::default().with_throttle_time_ms(call.throttle_time_ms);
            cx.out.answer(call, &body.with_error_code(error.code()));
        }
    }
}

pub(in super::super) fn refuse_join(cx: &mut Context<'_>, call: Call, error: ResponseError, member_id: &StrBytes) {
    let body = JoinGroupResponse::default()
        .with_throttle_time_ms(call.throttle_time_ms)
        .with_error_code(error.code())
        .with_generation_id(-1)
        .with_protocol_name((call.version < 7).then(StrBytes::default))
        .with_member_id(member_id.clone());
    cx.out.answer(call, &body);
}

pub(in super::super) fn read_protocols(protocols: &[JoinGroupRequestProtocol]) -> Vec<(StrBytes, Bytes)> {
    protocols.iter().map(|protocol| (protocol.name.clone(), protocol.metadata.clone())).collect()
}
