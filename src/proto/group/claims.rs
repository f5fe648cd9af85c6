//! What the members of a group say they hold, and whom the leader believes.
//!
//! A member that missed a generation may still name what others have got since. So a claim counts only if no other is from a newer
//! generation; and if two members claim the same from the same generation, neither has it (KIP-792, KAFKA-12984).

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    assignor::{Assignor, RebalanceProtocol},
    model::{Generation, TopicPartition},
    wire::{BlobError, Subscription, decode_cooperative, decode_sticky},
};

/// How many partitions all members together may claim. A group that holds more is not balanced by what it holds.
const CLAIMS_MAX: usize = 1_000_000;

#[derive(Debug, Default)]
pub(super) struct Claims(BTreeMap<TopicPartition, Claim>);

#[derive(Debug)]
struct Claim {
    generation: Generation,
    /// `None`: several, in the same generation.
    member_id: Option<Arc<str>>,
}

impl Claims {
    /// Takes in what a member's subscription says, as members of the assignor say it.
    pub(super) fn hear(
        &mut self,
        member_id: &Arc<str>,
        subscription: &Subscription,
        assignor: &dyn Assignor,
    ) -> Result<(), BlobError> {
        let data = subscription.user_data.as_ref().filter(|data| !data.is_empty());
        let (partitions, generation) = match (assignor.protocol(), data) {
            (RebalanceProtocol::Cooperative, Some(data)) if subscription.generation.is_none() => {
                (subscription.owned.clone(), decode_cooperative(data)?)
            }
            (RebalanceProtocol::Cooperative, _) => (subscription.owned.clone(), subscription.generation),
            (RebalanceProtocol::Eager, Some(data)) if assignor.is_sticky() => decode_sticky(data)?,
            (RebalanceProtocol::Eager, _) => return Ok(()),
        };
        let generation = generation.unwrap_or(Generation::NONE);
        for partition in partitions {
            if self.0.len() < CLAIMS_MAX || self.0.contains_key(&partition) {
                self.claim(partition, generation, member_id);
            }
        }
        Ok(())
    }

    fn claim(&mut self, partition: TopicPartition, generation: Generation, member_id: &Arc<str>) {
        let new = Claim { generation, member_id: Some(Arc::clone(member_id)) };
        let claim = self.0.entry(partition).or_insert(Claim { generation, member_id: new.member_id.clone() });
        if claim.generation < generation || planted!(BelieveStaleClaims) {
            *claim = new;
        } else if claim.generation == generation && claim.member_id.as_ref() != Some(member_id) {
            claim.member_id = None;
        }
    }

    /// Every partition that a member holds without a doubt, in order.
    pub(super) fn undisputed(&self) -> impl Iterator<Item = (&TopicPartition, &Arc<str>)> {
        self.0.iter().filter_map(|(partition, claim)| Some((partition, claim.member_id.as_ref()?)))
    }

    /// Whether somebody else than this member may hold a partition.
    pub(super) fn is_held_by_others(&self, partition: &TopicPartition, member_id: &str) -> bool {
        self.0.get(partition).is_some_and(|claim| claim.member_id.as_deref() != Some(member_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares who is believed to hold `t-0`, and whether `a` may be given it, after these claims of `(member, generation)`.
    #[track_caller]
    fn check(claims: &[(&str, i32)], holder: Option<&str>, may_be_given_to_a: bool) {
        let partition = TopicPartition::new("t", 0);
        for order in [claims.to_vec(), claims.iter().rev().copied().collect()] {
            let mut heard = Claims::default();
            for (member_id, generation) in order {
                heard.claim(partition.clone(), Generation(generation), &member_id.into());
            }
            assert_eq!(heard.undisputed().next().map(|(_, member_id)| &**member_id), holder, "{claims:?}");
            assert_eq!(!heard.is_held_by_others(&partition, "a"), may_be_given_to_a, "{claims:?}");
        }
    }

    #[test]
    fn the_newest_generation_is_believed_and_of_two_in_one_neither() {
        check(&[], None, true);
        check(&[("a", 3)], Some("a"), true);
        check(&[("b", 3)], Some("b"), false);
        check(&[("a", 3), ("b", 4)], Some("b"), false);
        check(&[("a", 4), ("b", 3)], Some("a"), true);
        check(&[("a", 4), ("b", 4)], None, false);
        check(&[("a", 4), ("b", 4), ("c", 5)], Some("c"), false);
        check(&[("a", 5), ("b", 4), ("c", 4)], Some("a"), true);
        check(&[("a", -1), ("b", -1)], None, false);
        check(&[("a", 4), ("a", 4)], Some("a"), true);
    }
}
