//! By which protocol members take part in their group.

use std::{fmt, str::FromStr};

use ottla::GroupProtocol;

use crate::lot::Lot;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    All(GroupProtocol),
    /// Each member by another, so that groups are converted all the time.
    Mixed,
}

impl Protocol {
    const NAMES: [(Self, &str); 4] = [
        (Self::All(GroupProtocol::Classic), "classic"),
        (Self::All(GroupProtocol::Consumer), "consumer"),
        (Self::All(GroupProtocol::Auto), "auto"),
        (Self::Mixed, "mixed"),
    ];

    /// That of one member.
    pub(crate) fn draw(self, lot: &mut Lot) -> GroupProtocol {
        match self {
            Self::All(protocol) => protocol,
            Self::Mixed => [GroupProtocol::Classic, GroupProtocol::Consumer, GroupProtocol::Auto][lot.below(3)],
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(protocol, _)| protocol == self).map_or("?", |(_, name)| name);
        f.pad(name)
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::NAMES.iter().find(|(_, its)| *its == name);
        found.map(|(protocol, _)| *protocol).ok_or_else(|| format!("there is no protocol {name}"))
    }
}
