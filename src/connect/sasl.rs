//! Settings of SASL: who a client is to the brokers, and how it proves that.

use std::{error::Error, fmt, future::Future, sync::Arc, time::Duration};

use crate::{
    net::TokenSource,
    proto::cluster::{Credentials, SaslConfig, ScramHash, Token},
    secret::Secret,
};

/// Who this client is, and how it proves that to brokers (Java: `sasl.mechanism`, `sasl.jaas.config`).
///
/// | mechanism | what a broker learns | what who listens learns, without TLS |
/// |---|---|---|
/// | [`scram_sha_256`](Self::scram_sha_256), [`scram_sha_512`](Self::scram_sha_512) | a proof, good once | what a guess at the password can be checked with |
/// | [`plain`](Self::plain) | the password | the password |
/// | [`oauth_bearer`](Self::oauth_bearer) | a token, good until it expires | the token |
///
/// Credentials that are refused end [`connect`](crate::ConsumerBuilder::connect) at once, with
/// [`BuildError::Unauthenticated`](crate::BuildError::Unauthenticated). Should they be refused later, the stream says so
/// ([`ConsumeErrorKind::Unauthenticated`](crate::ConsumeErrorKind::Unauthenticated)); they are tried again every 15 s at most, and after
/// 5 minutes of that the stream ends.
///
/// Where a broker limits how long a connection may last (`connections.max.reauth.ms`), each one authenticates anew at about 90 % of that
/// time, and a second before its end at the latest (KIP-368): requests in flight are answered first, and those that come meanwhile wait.
///
/// Passwords and tokens appear in no log, no error and no `Debug`, and ottla overwrites its copies of them when it drops them.
///
/// ```no_run
/// # async fn example() -> Result<(), ottla::BuildError> {
/// use ottla::{Consumer, Sasl, Tls};
///
/// let consumer = Consumer::builder("orders-worker", ["kafka.example.com:9093"])
///     .tls(Tls::new())
///     .sasl(Sasl::scram_sha_512("alice", std::env::var("KAFKA_PASSWORD").unwrap_or_default()))
///     .subscribe(["orders"])
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Sasl {
    mechanism: Mechanism,
    allows_unencrypted: bool,
}

#[derive(Clone, Debug)]
enum Mechanism {
    Plain { user: Arc<str>, password: Secret },
    Scram { hash: ScramHash, user: Arc<str>, password: Secret },
    Bearer(TokenSource),
}

/// A token, as an OAuth 2 server or the like gave it.
#[derive(Clone)]
pub struct OauthToken {
    value: Secret,
    lifetime: Duration,
    extensions: Vec<(String, String)>,
}

impl Sasl {
    /// Name and password, as they are (`PLAIN`). Needs [TLS](crate::ConsumerBuilder::tls), unless
    /// [`send_credentials_unencrypted`](Self::send_credentials_unencrypted) is called.
    #[must_use]
    pub fn plain(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self::of(Mechanism::Plain { user: user.into().into(), password: secret(password) })
    }

    /// Name and password, of which only a proof is sent (`SCRAM-SHA-256`, RFC 7677). The broker must prove that it knows the password,
    /// too.
    #[must_use]
    pub fn scram_sha_256(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self::of(Mechanism::Scram { hash: ScramHash::Sha256, user: user.into().into(), password: secret(password) })
    }

    /// As [`scram_sha_256`](Self::scram_sha_256), with the other hash (`SCRAM-SHA-512`).
    #[must_use]
    pub fn scram_sha_512(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self::of(Mechanism::Scram { hash: ScramHash::Sha512, user: user.into().into(), password: secret(password) })
    }

    /// Tokens (`OAUTHBEARER`, KIP-255, KIP-768), which `provider` gets: from an OAuth 2 server, a file, a cloud's SDK. Needs
    /// [TLS](crate::ConsumerBuilder::tls), unless [`send_credentials_unencrypted`](Self::send_credentials_unencrypted) is called.
    ///
    /// It is called when the first connection needs a token, when 80 % of a token's lifetime have passed, and when a broker refuses one;
    /// after a failure again, at first after 1 s, later every 30 s. It runs in a task of its own, and has `request_timeout` to answer. It
    /// is an error of the stream only when there is no valid token left.
    ///
    /// ```no_run
    /// # async fn fetch() -> Result<String, std::io::Error> { Ok(String::new()) }
    /// use std::time::Duration;
    /// use ottla::{OauthToken, Sasl};
    ///
    /// let sasl = Sasl::oauth_bearer(|| async {
    ///     let value = fetch().await?;
    ///     Ok::<_, std::io::Error>(OauthToken::new(value, Duration::from_secs(3600)))
    /// });
    /// ```
    #[must_use]
    pub fn oauth_bearer<P, F, E>(provider: P) -> Self
    where
        P: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<OauthToken, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        Self::of(Mechanism::Bearer(TokenSource::new(move || {
            let asked = provider();
            async move {
                match asked.await {
                    Ok(token) => token.token(),
                    Err(error) => Err(format!("the token provider failed: {}", error.into())),
                }
            }
        })))
    }

    /// Lets `PLAIN` send its password, and `OAUTHBEARER` its token, over connections that are not encrypted: whoever can listen to the
    /// network has them then. SCRAM needs no such permission.
    #[must_use]
    pub fn send_credentials_unencrypted(mut self) -> Self {
        self.allows_unencrypted = true;
        self
    }

    fn of(mechanism: Mechanism) -> Self {
        Self { mechanism, allows_unencrypted: false }
    }

    /// Says what is wrong with it.
    pub(super) fn check(&self, is_encrypted: bool) -> Result<(), String> {
        let name = match &self.mechanism {
            Mechanism::Plain { user, .. } | Mechanism::Scram { user, .. } if user.is_empty() => {
                return Err("an empty name is nobody's".into());
            }
            Mechanism::Plain { password, .. } | Mechanism::Scram { password, .. } if password.expose().is_empty() => {
                return Err("the password is empty".into());
            }
            Mechanism::Plain { user, password } => {
                if user.contains('\0') || password.expose().contains(&0) {
                    return Err("PLAIN cannot say a name or a password with a NUL in it".into());
                }
                "PLAIN"
            }
            Mechanism::Scram { .. } => return Ok(()),
            Mechanism::Bearer(_) => "OAUTHBEARER",
        };
        if is_encrypted || self.allows_unencrypted {
            return Ok(());
        }
        Err(format!(
            "{name} would send its secret where everybody on the network can read it: encrypt with `tls`, use SCRAM, or, if that is \
             what you want, call `Sasl::send_credentials_unencrypted`"
        ))
    }

    /// What the core needs of it. `nonce_key` is what nobody can guess.
    pub(super) fn config(&self, nonce_key: Secret) -> SaslConfig {
        let credentials = match &self.mechanism {
            Mechanism::Plain { user, password } => Credentials::Plain { user: Arc::clone(user), password: password.clone() },
            Mechanism::Scram { hash, user, password } => {
                Credentials::Scram { hash: *hash, user: Arc::clone(user), password: password.clone() }
            }
            Mechanism::Bearer(_) => Credentials::Bearer,
        };
        SaslConfig { credentials, nonce_key }
    }

    /// What `net` needs of it.
    pub(super) fn tokens(&self) -> Option<TokenSource> {
        match &self.mechanism {
            Mechanism::Bearer(source) => Some(source.clone()),
            Mechanism::Plain { .. } | Mechanism::Scram { .. } => None,
        }
    }
}

impl OauthToken {
    /// A token that is valid for `lifetime` from now on, such as `expires_in` of an OAuth 2 server's answer. It is visible ASCII characters.
    #[must_use]
    pub fn new(value: impl Into<String>, lifetime: Duration) -> Self {
        Self { value: secret(value), lifetime, extensions: Vec::new() }
    }

    /// Adds an extension (KIP-342), such as `logicalCluster`: a name of letters, and a value of visible ASCII characters and spaces.
    #[must_use]
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extensions.push((name.into(), value.into()));
        self
    }

    fn token(&self) -> Result<Token, String> {
        let value = str::from_utf8(self.value.expose()).map_err(|_| "the token is no text".to_owned())?;
        Token::new(value, &self.extensions, self.lifetime)
    }
}

/// Shows everything but the token itself.
impl fmt::Debug for OauthToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.extensions.iter().map(|(name, _)| name).collect();
        f.debug_struct("OauthToken").field("lifetime", &self.lifetime).field("extensions", &names).finish_non_exhaustive()
    }
}

fn secret(text: impl Into<String>) -> Secret {
    Secret::new(text.into())
}

#[cfg(test)]
mod tests;
