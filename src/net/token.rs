//! Where tokens of OAUTHBEARER come from: the user's program, whose code runs here, in time.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::timeout};

use crate::proto::cluster::Token;

/// A function of the user's program that gets a token.
#[derive(Clone)]
pub(crate) struct TokenSource(Arc<dyn Fn() -> Asking + Send + Sync>);

type Asking = Pin<Box<dyn Future<Output = Result<Token, String>> + Send>>;

impl TokenSource {
    pub(crate) fn new<F>(ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Token, String>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(ask())))
    }

    pub(crate) fn ask(&self) -> impl Future<Output = Result<Token, String>> + Send + use<> {
        (self.0)()
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource")
    }
}

/// Asks for tokens, each in a task of its own: a program that blocks or panics there does not take the driver along.
pub(super) struct Tokens {
    source: Option<TokenSource>,
    limit: Duration,
    /// Aborts what is left when it is dropped.
    asking: JoinSet<Result<Token, String>>,
}

impl Tokens {
    pub(super) fn new(source: Option<TokenSource>, limit: Duration) -> Self {
        Self { source, limit, asking: JoinSet::new() }
    }

    pub(super) fn ask(&mut self) {
        let Some(source) = self.source.clone() else { return };
        let limit = self.limit;
        self.asking.spawn(async move {
            let asked = timeout(limit, source.ask()).await;
            asked.unwrap_or_else(|_| Err(format!("the token provider did not answer within {limit:?}")))
        });
    }

    /// The next token, or why there is none; never, while nobody asked. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Token, String> {
        match self.asking.join_next().await {
            Some(Ok(asked)) => asked,
            Some(Err(_)) => Err("the token provider panicked".to_owned()),
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(ask: impl Fn() -> Asking + Send + Sync + 'static) -> Tokens {
        let mut tokens = Tokens::new(Some(TokenSource::new(ask)), Duration::from_secs(30));
        tokens.ask();
        tokens
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_hangs_or_panics_has_an_answer_in_time() {
        let mut hangs = tokens(|| Box::pin(std::future::pending()));
        assert_eq!(hangs.next().await, Err("the token provider did not answer within 30s".to_owned()));
        let mut panics = tokens(|| Box::pin(async { panic!("of the program") }));
        assert_eq!(panics.next().await, Err("the token provider panicked".to_owned()));
        let mut panics_early = tokens(|| panic!("of the program"));
        assert_eq!(panics_early.next().await, Err("the token provider panicked".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_comes_when_nobody_asked() {
        let mut tokens = Tokens::new(None, Duration::from_secs(30));
        tokens.ask();
        assert!(timeout(Duration::from_secs(3600), tokens.next()).await.is_err());
    }
}
