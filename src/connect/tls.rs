//! Settings of TLS, and the way from them to what rustls wants.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use zeroize::Zeroizing;

use crate::{error::BuildError, net::TlsClient};

/// How connections are encrypted, and which brokers are trusted: TLS 1.2 or 1.3, with [rustls].
///
/// A broker must show a certificate that a trusted CA has signed, and that is for the host by which the broker is addressed: in the
/// bootstrap list, and in the cluster's `advertised.listeners`. There is no switch to leave a check out; who must, passes a whole
/// `rustls::ClientConfig` to [`from_config`](Self::from_config).
///
/// Which CAs are trusted: those that are named here, or, when none is, those of the platform. Files are read by
/// [`connect`](crate::ConsumerBuilder::connect), each time.
///
/// ```no_run
/// # async fn example() -> Result<(), ottla::BuildError> {
/// use ottla::{Consumer, Tls};
///
/// let consumer = Consumer::builder("orders-worker", ["kafka.example.com:9093"])
///     .tls(Tls::new().ca_file("ca.pem").client_certificate_files("me.pem", "me.key"))
///     .subscribe(["orders"])
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
///
/// The cryptography is [graviola](https://docs.rs/graviola), which is Rust and needs no C compiler, but a CPU from about 2015 on: with AVX2,
/// ADX and BMI2 (x86-64), or AES and SHA2 (aarch64). On others `connect` says so; there the features `aws-lc` or `ring` take its place.
///
/// No ALPN protocol is offered. The name of the host is sent (SNI), unless it is an IP address.
///
/// [rustls]: https://docs.rs/rustls
#[derive(Clone, Debug, Default)]
pub struct Tls {
    trust: Vec<Trust>,
    identity: Option<(Pem, Pem)>,
    server_name: Option<String>,
    given: Option<Arc<ClientConfig>>,
}

/// Who says which certificates are good.
#[derive(Clone, Debug)]
enum Trust {
    Platform,
    Bundled,
    Pem(Pem),
}

/// Something in PEM: base 64 between `-----BEGIN …-----` and `-----END …-----`.
#[derive(Clone)]
enum Pem {
    File(PathBuf),
    Bytes(Arc<Zeroizing<Vec<u8>>>),
}

impl Tls {
    /// TLS with the platform's CAs, unless others are named.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// TLS with a configuration of the user's own, whatever it says; only [`server_name`](Self::server_name) may be added. It brings its
    /// crypto provider along, so it needs none of the features that choose one. Its type is that of rustls 0.23.
    #[must_use]
    pub fn from_config(config: impl Into<Arc<ClientConfig>>) -> Self {
        Self { given: Some(config.into()), ..Self::default() }
    }

    /// Trusts the CAs in this file, in PEM; more than one call adds up. Java: `ssl.truststore.location`, with `ssl.truststore.type=PEM`
    /// (KIP-651).
    #[must_use]
    pub fn ca_file(mut self, path: impl AsRef<Path>) -> Self {
        self.trust.push(Trust::Pem(Pem::file(path)));
        self
    }

    /// Trusts these CAs, in PEM; more than one call adds up. Java: `ssl.truststore.certificates` (KIP-651).
    #[must_use]
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.trust.push(Trust::Pem(Pem::bytes(pem)));
        self
    }

    /// Trusts the platform's CAs: what is trusted when nothing is named, here to be trusted beside others. On Linux that is the folder or
    /// file of OpenSSL, or what the variables `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    #[must_use]
    pub fn platform_roots(mut self) -> Self {
        self.trust.push(Trust::Platform);
        self
    }

    /// Trusts the CAs that Mozilla trusts, as they were when ottla was built ([webpki-roots](https://docs.rs/webpki-roots)): for machines
    /// without a store of their own.
    #[must_use]
    pub fn bundled_roots(mut self) -> Self {
        self.trust.push(Trust::Bundled);
        self
    }

    /// Shows this certificate to brokers that want one (mutual TLS): the files of the certificate, with those of the CAs between it and
    /// one that the broker trusts, and of its private key, both in PEM. The key must not be encrypted. The two may be one file. Java:
    /// `ssl.keystore.location`, with `ssl.keystore.type=PEM` (KIP-651).
    #[must_use]
    pub fn client_certificate_files(mut self, certificates: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.identity = Some((Pem::file(certificates), Pem::file(key)));
        self
    }

    /// As [`client_certificate_files`](Self::client_certificate_files), with what would be in the files. Java:
    /// `ssl.keystore.certificate.chain` and `ssl.keystore.key` (KIP-651).
    #[must_use]
    pub fn client_certificate_pem(mut self, certificates: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((Pem::bytes(certificates), Pem::bytes(key)));
        self
    }

    /// Expects every broker's certificate to be for this name, whatever the broker's address is: for connections through a tunnel, or
    /// certificates that know nothing of the addresses. It is also the name that is sent (SNI). Default: each broker's own host.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// What `net` needs of it. Reads the files.
    pub(super) fn client(&self) -> Result<TlsClient, BuildError> {
        self.build().map_err(|why| BuildError::InvalidSetting { setting: "tls", why })
    }

    fn build(&self) -> Result<TlsClient, String> {
        let server_name = self.server_name.as_ref().map(|name| {
            let parsed = ServerName::try_from(name.clone());
            parsed.map_err(|_| format!("server_name: {name:?} is neither a host's name nor an IP address"))
        });
        let server_name = server_name.transpose()?;
        let config = match &self.given {
            Some(_) if !self.trust.is_empty() || self.identity.is_some() => {
                return Err("from_config brings all along: name CAs and certificates in the ClientConfig itself".into());
            }
            Some(given) => Arc::clone(given),
            None => Arc::new(self.config()?),
        };
        Ok(TlsClient::new(config, server_name, self.given.is_some() || self.identity.is_some()))
    }

    fn config(&self) -> Result<ClientConfig, String> {
        let builder = ClientConfig::builder_with_provider(Arc::new(provider()?))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("the crypto provider has no cipher suite for TLS 1.2 or 1.3: {error}"))?
            .with_root_certificates(self.roots()?);
        let Some((certificates, key)) = &self.identity else { return Ok(builder.with_no_client_auth()) };
        let chain = certificates.certificates()?;
        builder.with_client_auth_cert(chain, key.private_key()?).map_err(|error| {
            format!("the client certificate {certificates:?} cannot be used with the private key {key:?}: {error}")
        })
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        let platform = [Trust::Platform];
        for trust in if self.trust.is_empty() { &platform[..] } else { &self.trust } {
            match trust {
                Trust::Bundled => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
                Trust::Platform => {
                    let found = rustls_native_certs::load_native_certs();
                    // Stores are known to hold what is no CA, or is in no format that anybody reads.
                    let (added, _) = roots.add_parsable_certificates(found.certs);
                    if added == 0 {
                        let why = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
                        return Err(format!(
                            "the platform has no store of CAs that can be read{why}; name the CA with ca_file, or use bundled_roots"
                        ));
                    }
                }
                Trust::Pem(pem) => {
                    for certificate in pem.certificates()? {
                        roots.add(certificate).map_err(|error| format!("{pem:?} holds a certificate that is no CA: {error}"))?;
                    }
                }
            }
        }
        Ok(roots)
    }
}

impl Pem {
    fn file(path: impl AsRef<Path>) -> Self {
        Self::File(path.as_ref().to_owned())
    }

    fn bytes(pem: impl Into<Vec<u8>>) -> Self {
        Self::Bytes(Arc::new(Zeroizing::new(pem.into())))
    }

    fn read(&self) -> Result<Arc<Zeroizing<Vec<u8>>>, String> {
        match self {
            Self::Bytes(bytes) => Ok(Arc::clone(bytes)),
            Self::File(path) => match fs::read(path) {
                Ok(bytes) => Ok(Arc::new(Zeroizing::new(bytes))),
                Err(error) => Err(format!("cannot read {}: {error}", path.display())),
            },
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let bytes = self.read()?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match certificates {
            Ok(certificates) if certificates.is_empty() => {
                Err(format!("{self:?} holds no certificate in PEM (\"-----BEGIN CERTIFICATE-----\")"))
            }
            Ok(certificates) => Ok(certificates),
            Err(error) => Err(format!("{self:?} is not in PEM: {error}")),
        }
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, String> {
        let bytes = self.read()?;
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
            let is_encrypted = bytes.windows(9).any(|part| part == b"ENCRYPTED");
            let advice = if is_encrypted { "it is encrypted: decrypt it with `openssl pkey`" } else { "it must be in PEM" };
            format!("{self:?} holds no private key that can be used ({error}); {advice}")
        })
    }
}

/// Names what it is, never what is in it: a private key may be.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Bytes(bytes) => write!(f, "(PEM of {} bytes)", bytes.len()),
        }
    }
}

#[cfg(feature = "aws-lc")]
fn provider() -> Result<CryptoProvider, String> {
    Ok(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(all(feature = "ring", not(feature = "aws-lc")))]
fn provider() -> Result<CryptoProvider, String> {
    Ok(rustls::crypto::ring::default_provider())
}

#[cfg(all(feature = "tls", not(any(feature = "aws-lc", feature = "ring")), target_arch = "x86_64"))]
fn provider() -> Result<CryptoProvider, String> {
    use std::arch::is_x86_feature_detected as has;

    check_cpu(&[
        ("AVX2", has!("avx2")),
        ("ADX", has!("adx")),
        ("BMI1", has!("bmi1")),
        ("BMI2", has!("bmi2")),
        ("AES", has!("aes")),
        ("PCLMULQDQ", has!("pclmulqdq")),
    ])?;
    Ok(rustls_graviola::default_provider())
}

#[cfg(all(feature = "tls", not(any(feature = "aws-lc", feature = "ring")), target_arch = "aarch64"))]
fn provider() -> Result<CryptoProvider, String> {
    use std::arch::is_aarch64_feature_detected as has;

    check_cpu(&[("NEON", has!("neon")), ("AES", has!("aes")), ("PMULL", has!("pmull")), ("SHA2", has!("sha2"))])?;
    Ok(rustls_graviola::default_provider())
}

#[cfg(not(any(
    feature = "aws-lc",
    feature = "ring",
    all(feature = "tls", any(target_arch = "x86_64", target_arch = "aarch64"))
)))]
fn provider() -> Result<CryptoProvider, String> {
    Err(format!("this build of ottla has no cryptography for this CPU; {OTHER_PROVIDERS}"))
}

#[allow(dead_code, reason = "not every provider can be missing")]
const OTHER_PROVIDERS: &str =
    "enable the feature `aws-lc` or `ring`, or pass a `rustls::ClientConfig` with a provider of your own to `Tls::from_config`";

/// Graviola panics on a CPU that lacks what it is made of; this says so before.
#[allow(dead_code, reason = "not every provider depends on the CPU")]
fn check_cpu(needed: &[(&str, bool)]) -> Result<(), String> {
    let missing: Vec<_> = needed.iter().filter(|(_, is_there)| !is_there).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("this CPU lacks {}, which the default cryptography (graviola) needs; {OTHER_PROVIDERS}", missing.join(", ")))
}

#[cfg(test)]
mod tests;
