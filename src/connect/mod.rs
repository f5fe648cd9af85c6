//! How a client finds its cluster and gets in: the settings that every builder has, each with its default, its unit and its name in Java.

mod reached;
mod sasl;
#[cfg(feature = "__rustls")]
mod tls;

pub(crate) use reached::Reached;
pub use sasl::{OauthToken, Sasl};
#[cfg(feature = "__rustls")]
pub use tls::Tls;

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{
    error::BuildError,
    net::NetConfig,
    proto::{BrokerAddr, cluster::ClusterConfig},
    secret::Secret,
};

/// A request or an answer larger than this is refused, whatever else is set.
const FRAME_BYTES_MAX: usize = 256 << 20;

/// What a client needs to know of its cluster before it knows anything of it. The builders' methods for it are
/// [`connection_settings`](connection_settings!).
#[derive(Debug)]
pub(crate) struct Connecting {
    pub(crate) bootstrap: Vec<String>,
    pub(crate) client_id: String,
    #[cfg(feature = "__rustls")]
    pub(crate) tls: Option<Tls>,
    pub(crate) sasl: Option<Sasl>,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) metadata_max_age: Duration,
    pub(crate) rebootstrap_trigger: Duration,
    pub(crate) reconnect_backoff: Duration,
    pub(crate) reconnect_backoff_max: Duration,
    pub(crate) retry_backoff: Duration,
    pub(crate) retry_backoff_max: Duration,
}

/// The methods by which a builder with a field `connecting` has [`Connecting`] set.
macro_rules! connection_settings {
    () => {
        /// Names this program in the brokers' logs and quotas. Default: `ottla`. Java: `client.id`.
        pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
            self.connecting.client_id = client_id.into();
            self
        }

        /// Encrypts all connections. Default: they are not. Java: `security.protocol` `SSL`, or `SASL_SSL` together with
        /// [`sasl`](Self::sasl).
        #[cfg(feature = "__rustls")]
        pub fn tls(mut self, tls: $crate::connect::Tls) -> Self {
            self.connecting.tls = Some(tls);
            self
        }

        /// Authenticates every connection. Default: none is, but by a client certificate where TLS has one. Java:
        /// `security.protocol` `SASL_SSL`, or `SASL_PLAINTEXT` without TLS.
        pub fn sasl(mut self, sasl: $crate::connect::Sasl) -> Self {
            self.connecting.sasl = Some(sasl);
            self
        }

        /// How long to wait for a connection, then for the TLS handshake, then for each answer of authentication; also bounds
        /// [`connect`](Self::connect). Default: 10 s. Java: `socket.connection.setup.timeout.ms`.
        pub fn connect_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.connecting.connect_timeout = timeout;
            self
        }

        /// How long to wait for an answer before the connection is given up. Default: 30 s. Java: `request.timeout.ms`.
        pub fn request_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.connecting.request_timeout = timeout;
            self
        }

        /// How long to wait before connecting again to a broker that could not be reached: doubled after each failure, from `first` to
        /// `max`. Default: 50 ms and 1 s. Java: `reconnect.backoff.ms`, `reconnect.backoff.max.ms`.
        pub fn reconnect_backoff(mut self, first: std::time::Duration, max: std::time::Duration) -> Self {
            self.connecting.reconnect_backoff = first;
            self.connecting.reconnect_backoff_max = max;
            self
        }

        /// After how long without an answer of use about the cluster, though brokers can be reached, to forget those that are known, and to begin
        /// again at the bootstrap addresses (KIP-1102), which may lead to others by now. Connections are opened anew; what the group has assigned
        /// stays. A broker, from Kafka 4.0 on, may ask for it at once. Where no known broker can be reached, none is forgotten, and the bootstrap
        /// addresses are tried beside them. Default: 5 min. Java: `metadata.recovery.rebootstrap.trigger.ms`.
        pub fn rebootstrap_trigger(mut self, after: std::time::Duration) -> Self {
            self.connecting.rebootstrap_trigger = after;
            self
        }

        /// How long to wait before a refused request is sent again: doubled after each failure, from `first` to `max`. Default: 100 ms
        /// and 1 s. Java: `retry.backoff.ms`, `retry.backoff.max.ms`.
        pub fn retry_backoff(mut self, first: std::time::Duration, max: std::time::Duration) -> Self {
            self.connecting.retry_backoff = first;
            self.connecting.retry_backoff_max = max;
            self
        }
    };
}
pub(crate) use connection_settings;

impl Connecting {
    pub(crate) fn new(bootstrap: Vec<String>) -> Self {
        Self {
            bootstrap,
            client_id: "ottla".into(),
            #[cfg(feature = "__rustls")]
            tls: None,
            sasl: None,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            metadata_max_age: Duration::from_secs(300),
            rebootstrap_trigger: Duration::from_secs(300),
            reconnect_backoff: Duration::from_millis(50),
            reconnect_backoff_max: Duration::from_secs(1),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
        }
    }

    /// Refuses what makes no sense, by name, and hands out where to begin.
    pub(crate) fn check(&self) -> Result<Vec<BrokerAddr>, BuildError> {
        let invalid = |setting, why: String| Err(BuildError::InvalidSetting { setting, why });
        if self.bootstrap.is_empty() {
            return invalid("builder(bootstrap)", "name at least one address, such as \"localhost:9092\"".into());
        }
        if let Some(Err(why)) = self.sasl.as_ref().map(|sasl| sasl.check(self.is_encrypted())) {
            return invalid("sasl", why);
        }
        check_times(&[
            ("connect_timeout", self.connect_timeout),
            ("request_timeout", self.request_timeout),
            ("metadata_max_age", self.metadata_max_age),
            ("rebootstrap_trigger", self.rebootstrap_trigger),
            ("reconnect_backoff", self.reconnect_backoff),
            ("retry_backoff", self.retry_backoff),
        ])?;
        self.bootstrap.iter().flat_map(|addrs| addrs.split(',')).map(parse_addr).collect()
    }

    /// What the core has to know of it. `seed` is all that it has of chance.
    pub(crate) fn cluster_config(&self, bootstrap: Vec<BrokerAddr>, group: Option<Arc<str>>, seed: u64) -> ClusterConfig {
        ClusterConfig {
            bootstrap,
            client_id: self.client_id.as_str().into(),
            group,
            request_timeout: self.request_timeout,
            connect_timeout: self.connect_timeout,
            metadata_max_age: self.metadata_max_age,
            rebootstrap_trigger: self.rebootstrap_trigger,
            reconnect_backoff: self.reconnect_backoff,
            reconnect_backoff_max: self.reconnect_backoff_max,
            retry_backoff: self.retry_backoff,
            retry_backoff_max: self.retry_backoff_max,
            idle_timeout: Duration::from_secs(540),
            encrypted: self.is_encrypted(),
            sasl: self.sasl.as_ref().map(|sasl| sasl.config(nonce_key())),
            seed,
        }
    }

    /// What the side that does I/O has to know of it; `pool_bytes_max`: how much memory it may keep for later frames.
    pub(crate) fn net_config(&self, pool_bytes_max: usize) -> Result<NetConfig, BuildError> {
        Ok(NetConfig {
            connect_timeout: self.connect_timeout,
            #[cfg(feature = "__rustls")]
            tls: self.tls.as_ref().map(Tls::client).transpose()?,
            tokens: self.sasl.as_ref().and_then(Sasl::tokens),
            token_timeout: self.request_timeout,
            frame_bytes_max: FRAME_BYTES_MAX,
            pool_bytes_max,
        })
    }

    /// Waits until a first broker has answered, but not for ever.
    pub(crate) async fn reached(&self, reached: oneshot::Receiver<Result<(), BuildError>>) -> Result<(), BuildError> {
        match tokio::time::timeout(self.connect_timeout, reached).await {
            Ok(Ok(reached)) => reached,
            Ok(Err(_)) | Err(_) => {
                Err(BuildError::TimedOut { after: self.connect_timeout, bootstrap: self.bootstrap.join(", ") })
            }
        }
    }

    fn is_encrypted(&self) -> bool {
        #[cfg(feature = "__rustls")]
        return self.tls.is_some();
        #[cfg(not(feature = "__rustls"))]
        return false;
    }
}

/// Refuses a time that the protocol cannot say, and one that is none.
pub(crate) fn check_times(times: &[(&'static str, Duration)]) -> Result<(), BuildError> {
    let is_none = |time: &Duration| time.as_millis() == 0 || i32::try_from(time.as_millis()).is_err();
    match times.iter().find(|(_, time)| is_none(time)) {
        None => Ok(()),
        Some((setting, time)) => {
            let why = format!("{time:?} must be at least 1 ms and at most {} ms", i32::MAX);
            Err(BuildError::InvalidSetting { setting, why })
        }
    }
}

/// The core itself has no source of chance: what jitter it needs grows from this.
pub(crate) fn seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// What nobody can guess, of which nonces are made.
fn nonce_key() -> Secret {
    let mut key = vec![0; 32];
    getrandom::fill(&mut key).expect("the system has random bytes: even the keys of hash maps are made of them");
    Secret::new(key)
}

fn parse_addr(addr: &str) -> Result<BrokerAddr, BuildError> {
    let invalid = |why: &str| BuildError::InvalidSetting {
        setting: "builder(bootstrap)",
        why: format!("{addr:?} {why}: write \"host:port\""),
    };
    let (host, port) = addr.trim().rsplit_once(':').ok_or_else(|| invalid("has no port"))?;
    if host.contains("://") {
        return Err(invalid("is a URL"));
    }
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(|| invalid("has no valid port"))?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() {
        return Err(invalid("has no host"));
    }
    Ok(BrokerAddr { host: host.into(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_addresses_may_come_as_one_string() {
        let connecting = Connecting::new(vec!["a:1, b:2".into(), "c:3".into()]);
        let ports: Vec<_> = connecting.check().expect("three addresses").iter().map(|addr| addr.port).collect();
        assert_eq!(ports, [1, 2, 3]);
    }

    #[test]
    fn addresses_are_host_and_port() {
        let parsed = |addr| parse_addr(addr).map(|addr| (addr.host.to_string(), addr.port)).ok();
        assert_eq!(parsed("localhost:9092"), Some(("localhost".into(), 9092)));
        assert_eq!(parsed("[::1]:9092"), Some(("::1".into(), 9092)));
        for wrong in ["localhost", "localhost:", "localhost:0", "localhost:70000", ":9092", "http://localhost:9092", ""] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
