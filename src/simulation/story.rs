//! What happened, told in virtual time for a person to read, and kept only when somebody wants to.

use std::{fmt, time::Duration};

/// Who wants to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Telling {
    #[default]
    Nobody,
    /// A test, afterwards.
    Kept,
    /// A person, at once: what ends in a panic is told up to there.
    Printed,
}

#[derive(Debug, Default)]
pub(super) struct Story {
    telling: Telling,
    lines: Vec<String>,
}

impl Story {
    pub(super) fn new(telling: Telling) -> Self {
        Self { telling, lines: Vec::new() }
    }

    /// Adds a line; the words are made only if somebody listens.
    pub(super) fn tell(&mut self, at: Duration, who: impl fmt::Display, what: impl FnOnce() -> String) {
        if self.telling == Telling::Nobody {
            return;
        }
        let line = format!("{:>10.3} s  {who:<9} {}", at.as_secs_f64(), what());
        match self.telling {
            Telling::Printed => println!("{line}"),
            _ => self.lines.push(line),
        }
    }

    pub(super) fn lines(&self) -> &[String] {
        &self.lines
    }
}

/// Who did something.
#[derive(Clone, Copy, Debug)]
pub(super) enum Who {
    Client(usize),
    Kafka,
    Operator,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(number) => f.pad(&format!("client {number}")),
            Self::Kafka => f.pad("kafka"),
            Self::Operator => f.pad("operator"),
        }
    }
}
