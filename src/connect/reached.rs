//! Who waits until a first broker has answered.

use tokio::sync::oneshot;

use crate::{
    error::BuildError,
    proto::{Problem, ProblemKind},
};

/// Tells whoever connects what came of it: once, whatever happens first.
#[derive(Default)]
pub(crate) struct Reached {
    waiting: Option<oneshot::Sender<Result<(), BuildError>>>,
    /// Something answered that is no Kafka.
    incompatible: bool,
}

impl Reached {
    /// Resolves when the first broker has answered, or with the first problem there is.
    pub(crate) fn wait(&mut self) -> oneshot::Receiver<Result<(), BuildError>> {
        let (sender, receiver) = oneshot::channel();
        self.waiting = Some(sender);
        receiver
    }

    pub(crate) fn handle_reached(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            // Whoever connects may have given it up.
            let _ = waiting.send(Ok(()));
        }
    }

    /// Says whether somebody waited, who has heard of it now.
    pub(crate) fn handle_problem(&mut self, problem: &Problem) -> bool {
        let message = problem.what.clone();
        let error = match problem.kind {
            // Another of the addresses may still lead somewhere.
            ProblemKind::Incompatible if !problem.fatal && self.waiting.is_some() => {
                self.incompatible = true;
                return true;
            }
            _ if self.incompatible => BuildError::Incompatible { message },
            ProblemKind::Incompatible => BuildError::Incompatible { message },
            ProblemKind::Unauthenticated => BuildError::Unauthenticated { message },
            ProblemKind::Untrusted => BuildError::Untrusted { message },
            _ => BuildError::Unreachable { message },
        };
        self.fail(error)
    }

    /// Says whether somebody waited.
    pub(crate) fn fail(&mut self, error: BuildError) -> bool {
        match self.waiting.take() {
            Some(waiting) => {
                let _ = waiting.send(Err(error));
                true
            }
            None => false,
        }
    }
}
