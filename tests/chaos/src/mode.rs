//! The ways to consume, each with a group and a topic of its own.

use std::{fmt, str::FromStr};

use delivery_contract as contract;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    AtLeastOnce,
    Batches,
    AtMostOnce,
    Manual,
    Partitions,
}

impl Mode {
    pub(crate) const ALL: [Self; 5] = [Self::AtLeastOnce, Self::Batches, Self::AtMostOnce, Self::Manual, Self::Partitions];

    /// What the group promises.
    pub(crate) fn promise(self) -> contract::Mode {
        if self == Self::AtMostOnce { contract::Mode::AtMostOnce } else { contract::Mode::AtLeastOnce }
    }

    fn name(self) -> &'static str {
        match self {
            Self::AtLeastOnce => "at-least-once",
            Self::Batches => "batches",
            Self::AtMostOnce => "at-most-once",
            Self::Manual => "manual",
            Self::Partitions => "partitions",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|mode| mode.name() == name).ok_or_else(|| format!("there is no mode {name}"))
    }
}
