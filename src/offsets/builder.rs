//! The settings of [`Offsets`], and the way from them to its connected driver.

use std::{
    sync::atomic::AtomicU64,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{Offsets, Ticket};
use crate::{
    connect::{Connecting, Reached, check_times, connection_settings, seed},
    consumer::Isolation,
    error::BuildError,
    net,
    proto::{
        offsets::LookupConfig,
        onlooker::{Event, Onlooker},
    },
};

/// Answers are small and rare.
const POOL_BYTES_MAX: usize = 1 << 20;

/// Describes an [`Offsets`]; [`connect`](Self::connect) makes it.
///
/// Every setting has a default that suits most programs.
#[derive(Debug)]
pub struct OffsetsBuilder {
    connecting: Connecting,
    isolation: Isolation,
    timeout: Duration,
}

impl OffsetsBuilder {
    pub(super) fn new(bootstrap: Vec<String>) -> Self {
        Self { connecting: Connecting::new(bootstrap), isolation: Isolation::default(), timeout: Duration::from_secs(60) }
    }

    connection_settings!();

    /// Chooses where a partition ends while transactions are open in it: at the last stable offset, or at the high watermark. Default:
    /// `ReadCommitted`, as for a [`Consumer`](crate::Consumer). Java: `isolation.level`.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// How long a question may take, with whatever is tried again for it. Default: 60 s. Java: `default.api.timeout.ms`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Connects to the cluster.
    ///
    /// Starts a background task on the current tokio runtime, which ends when what comes back is dropped.
    ///
    /// # Errors
    ///
    /// [`BuildError::InvalidSetting`] at once; [`BuildError::Unauthenticated`] as soon as a broker refuses the credentials, and
    /// [`BuildError::Untrusted`] as soon as no address has a broker that is trusted; the others when no broker answers within
    /// `connect_timeout`.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the connection up.
    pub async fn connect(self) -> Result<Offsets, BuildError> {
        let bootstrap = self.connecting.check()?;
        check_times(&[("timeout", self.timeout)])?;
        let net = self.connecting.net_config(POOL_BYTES_MAX)?;
        let seed = seed();
        let lookup = LookupConfig {
            isolation: self.isolation.into(),
            request_timeout: self.connecting.request_timeout,
            retry_backoff: self.connecting.retry_backoff,
            retry_backoff_max: self.connecting.retry_backoff_max,
            seed: seed ^ 1,
        };
        let core = Onlooker::<Ticket>::new(now(), self.connecting.cluster_config(bootstrap, None, seed), lookup);
        let mut reached = Reached::default();
        let connected = reached.wait();
        let (commands, receiver) = mpsc::unbounded_channel();
        let driver = tokio::spawn(net::drive(core, net, receiver, move |event| {
            match event {
                Event::Reached => reached.handle_reached(),
                // Whoever asks later hears of it with the answer.
                Event::Problem(problem) => drop(reached.handle_problem(&problem)),
                // Whoever asked may have given it up.
                Event::Answered { ticket, outcome } => drop(ticket.send(outcome)),
            }
            None
        }));
        // From here on it ends the driver when it is dropped.
        let driver = driver.abort_handle();
        let offsets = Offsets { commands, timeout: self.timeout, questions: AtomicU64::new(0), driver };
        self.connecting.reached(connected).await?;
        Ok(offsets)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the core has no clock: it is told when it began, and by the driver what time it is"
)]
fn now() -> Instant {
    Instant::now()
}
