//! Groups that change their protocol while they have members (KIP-848).
//!
//! The first member that speaks the consumer protocol makes a consumer group of a classic one, and once the last of them is gone, those who
//! are left are a classic group again. In between `consumer::classic` answers who speaks the classic protocol. Offsets stay what they are.

use kafka_protocol::{ResponseError, protocol::StrBytes};

use super::{
    Context, Group, Members,
    classic::{self, ClassicGroup},
    consumer::{self, Classic, ConsumerGroup, by_topic_id},
    embedded::{CONSUMER_PROTOCOL, decode_assignment, decode_subscription, encode_assignment, partitions_of},
};

type Refused = (ResponseError, Option<&'static str>);

impl ConsumerGroup {
    /// Makes a consumer group of a classic one; the generation becomes the epoch, and everybody keeps what it has.
    pub(super) fn from_classic(cx: &Context<'_>, id: &str, group: &ClassicGroup) -> Result<Self, Refused> {
        let refused = |message| (ResponseError::GroupIdNotFound, Some(message));
        if !cx.settings.consumer_group_migration {
            return Err(refused("Cannot upgrade the group: online upgrade is disabled."));
        }
        if !group.uses_consumer_protocol() {
            return Err(refused("Cannot upgrade the group: it does not use the consumer protocol."));
        }
        // Whoever comes while the very first members are still being waited for finds a hole in Kafka.
        let protocol = group.protocol().ok_or((ResponseError::UnknownServerError, None))?;
        let mut members = Vec::new();
        for of in group.members() {
            let malformed = refused("Cannot upgrade the group: the embedded consumer protocol is malformed.");
            let subscription = decode_subscription(of.metadata(protocol)).ok_or(malformed)?;
            let assignment = match of.assignment.is_empty() {
                true => Default::default(),
                false => decode_assignment(of.assignment.clone()).ok_or(malformed)?,
            };
            if assignment.user_data.as_ref().is_some_and(|data| !data.is_empty()) {
                return Err(refused("Cannot upgrade the group: an unsupported custom assignor is in use."));
            }
            let mut member = consumer::Member::new(of.id.clone());
            member.instance_id = of.instance_id.clone();
            member.client_id = of.client_id.clone();
            member.rack_id = subscription.rack_id.clone();
            member.rebalance_timeout = of.rebalance_timeout;
            member.names = subscription.topics.iter().map(|name| name.to_string()).collect();
            member.classic = Some(Classic { session_timeout: of.session_timeout, protocols: of.protocols.clone() });
            member.settle(group.generation(), &by_topic_id(cx.topics, partitions_of(&assignment)));
            members.push(member);
        }
        Ok(Self::of_members(cx, id, group.generation(), members.into_iter()))
    }
}

impl ClassicGroup {
    /// Makes a classic group of a consumer group in which all speak the classic protocol; each has what it was to have.
    fn from_consumer(cx: &Context<'_>, group: &ConsumerGroup) -> Self {
        let members = group.members().filter_map(|of| Some((of, of.classic.as_ref()?))).map(|(of, classic)| classic::Member {
            id: of.id.clone(),
            instance_id: of.instance_id.clone(),
            client_id: of.client_id.clone(),
            session_timeout: classic.session_timeout,
            rebalance_timeout: of.rebalance_timeout,
            protocol_type: StrBytes::from_static_str(CONSUMER_PROTOCOL),
            protocols: classic.protocols.clone(),
            assignment: Default::default(),
            joining: None,
            syncing: None,
            is_new: false,
        });
        let mut made = Self::of_members(cx, group.id(), group.epoch(), members);
        made.give_out(|protocol, member| {
            let target = group.target(&member.id).into_iter();
            let topics = target.map(|(topic, numbers)| (group.name_of(topic), numbers.into_iter().collect()));
            encode_assignment(&member.metadata(protocol), topics)
        });
        made
    }
}

impl Group {
    /// A consumer group in which nobody speaks the consumer protocol any more becomes a classic one, in which all have to join again.
    pub(super) fn turn_classic_if_all_are(&mut self, cx: &mut Context<'_>) {
        self.turn_classic(cx, |_| true);
    }

    /// Likewise where a static member has come back as a classic one: if all know what they have, nobody has to join again.
    pub(super) fn turn_classic_by_replacement(&mut self, cx: &mut Context<'_>) {
        self.turn_classic(cx, |group| !group.is_assigned());
    }

    fn turn_classic(&mut self, cx: &mut Context<'_>, has_to_rebalance: impl Fn(&ConsumerGroup) -> bool) {
        let Members::Consumer(group) = &self.members else { return };
        if !group.is_all_classic() {
            return;
        }
        let mut classic = ClassicGroup::from_consumer(cx, group);
        if has_to_rebalance(group) {
            classic.prepare_rebalance(cx);
        }
        self.members = Members::Classic(Box::new(classic));
    }
}
