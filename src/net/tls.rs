//! The TLS handshake, and its failures in words that say what to do.

use std::{io, sync::Arc, time::Duration};

use rustls::{AlertDescription, CertificateError, ClientConfig, Error, OtherError, pki_types::ServerName};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::proto::Disconnect;

/// What every connection's handshake needs.
#[derive(Clone, Debug)]
pub(crate) struct TlsClient {
    config: Arc<ClientConfig>,
    /// The name in the certificates, where it is not the broker's host.
    server_name: Option<ServerName<'static>>,
    /// It may show a certificate of its own.
    has_identity: bool,
}

impl TlsClient {
    pub(crate) fn new(config: Arc<ClientConfig>, server_name: Option<ServerName<'static>>, has_identity: bool) -> Self {
        Self { config, server_name, has_identity }
    }

    /// Shakes hands over a connection to `host`.
    pub(super) async fn shake_hands(
        &self,
        host: &str,
        stream: TcpStream,
        limit: Duration,
    ) -> Result<Box<TlsStream<TcpStream>>, Disconnect> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned()).map_err(|_| {
                Disconnect::Tls(format!(
                    "a certificate cannot be for {host:?}, which is no name of a host; set `Tls::server_name`"
                ))
            })?,
        };
        let shaken = timeout(limit, TlsConnector::from(Arc::clone(&self.config)).connect(name, stream)).await;
        match shaken {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => Err(match self.explain(&error) {
                Some(what) => Disconnect::Tls(what),
                // Perhaps it is only going down.
                None => Disconnect::Unreachable(format!(
                    "the connection ended in the TLS handshake ({error}), as a listener without TLS ends it; check the port"
                )),
            }),
            Err(_) => Err(Disconnect::Unreachable(format!("no TLS handshake within {limit:?}; does the listener speak TLS?"))),
        }
    }

    /// What went wrong, if it is a matter of TLS: also long after the handshake, for in TLS 1.3 a broker may refuse a client when that
    /// believes to be done.
    pub(super) fn explain(&self, error: &io::Error) -> Option<String> {
        let error = error.get_ref()?.downcast_ref::<Error>()?;
        Some(match error {
            Error::InvalidCertificate(why) => format!("the broker's certificate is not trusted: {}", untrusted(why)),
            Error::AlertReceived(alert) => {
                format!("the broker refused the TLS handshake with the alert {alert:?}: {}", self.refused(*alert))
            }
            Error::InvalidMessage(_) => {
                format!("what came is not TLS ({error}): the listener speaks something else; check the port, or leave TLS out")
            }
            Error::PeerIncompatible(_) => format!("the broker and ottla have no version or cipher of TLS in common: {error}"),
            _ => format!("TLS failed: {error}"),
        })
    }

    fn refused(&self, alert: AlertDescription) -> &'static str {
        match alert {
            AlertDescription::CertificateRequired | AlertDescription::BadCertificate | AlertDescription::HandshakeFailure
                if !self.has_identity =>
            {
                "it wants a client certificate, and there is none; set `Tls::client_certificate_files`"
            }
            AlertDescription::UnknownCA | AlertDescription::CertificateUnknown | AlertDescription::BadCertificate => {
                "it does not trust the client certificate; use one that a CA in the broker's truststore has signed"
            }
            AlertDescription::CertificateExpired => "the client certificate has expired; renew it",
            AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure => {
                "there is no version or cipher of TLS in common, or it does not take the client certificate"
            }
            _ => "the broker's log says why",
        }
    }
}

/// Why a broker's certificate is not believed, and what to do about it.
fn untrusted(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer => {
            "none of the trusted CAs has signed it; name the CA that did, with `Tls::ca_file`, if it can be trusted".to_owned()
        }
        CertificateError::BadSignature => {
            "its signature is not that of the trusted CA, though the CA's name is; name the CA that signed it, if it can be trusted"
                .to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("it has expired ({why}); renew the broker's certificate, or set this machine's clock")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("it is not valid yet ({why}); set this machine's clock, or the broker's certificate right")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!(
                "it is for another host ({why}); address the broker by a name that its certificate has, or set `Tls::server_name`"
            )
        }
        CertificateError::Other(OtherError(other)) if other.to_string().contains("CaUsedAsEndEntity") => {
            "the broker shows the certificate of a CA as its own; let the broker have one that the CA has signed".to_owned()
        }
        why => why.to_string(),
    }
}
