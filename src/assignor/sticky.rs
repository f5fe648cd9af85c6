//! The sticky assignors: as even as can be, and whoever has a partition keeps it.

use super::{Assignment, Assignor, GroupView, RebalanceProtocol, balance::balance};

/// Evens out with as few moves as possible, among members that hand everything back first (Java: `StickyAssignor`, KIP-54, KIP-341).
///
/// No two subscribers of a topic differ by more than one partition, as far as a single move could change that; where all members subscribe
/// to the same topics, no two members do. A member that goes moves only what it had, and one that comes takes only its share.
///
/// Understands the Java client's and librdkafka's members of this name, and is understood by them. Another leader of theirs may choose
/// otherwise, with the same properties.
///
/// Where members say in which rack they are (Java: `client.rack`, KIP-881), what nobody has, or what has to move, goes to a member in whose
/// rack it has a replica, as far as shares stay even; and a member that has to give something away gives what is not in its own rack, but in
/// that of who gets it. Nothing else moves because of a rack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sticky;

/// As [`Sticky`], among members that hand back only what goes to another (Java: `CooperativeStickyAssignor`, KIP-429): what a member keeps is
/// read on while the group rebalances.
///
/// A partition that moves is given to nobody in the first of two rebalances, and to its new member in the second, when the old one has
/// finished and committed what it had in work.
///
/// Every member of the group must offer it alone (or beside other cooperative assignors): a member that also offers an eager one hands
/// everything back, as in Java. So a group is brought over in two rounds of restarts: first all members offer the old assignor and this
/// one, then this one alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CooperativeSticky;

impl Assignor for Sticky {
    fn name(&self) -> &str {
        "sticky"
    }

    fn is_sticky(&self) -> bool {
        true
    }

    fn assign(&self, group: &GroupView) -> Assignment {
        balance(group)
    }
}

impl Assignor for CooperativeSticky {
    fn name(&self) -> &str {
        "cooperative-sticky"
    }

    fn protocol(&self) -> RebalanceProtocol {
        RebalanceProtocol::Cooperative
    }

    fn is_sticky(&self) -> bool {
        true
    }

    fn assign(&self, group: &GroupView) -> Assignment {
        balance(group)
    }
}
