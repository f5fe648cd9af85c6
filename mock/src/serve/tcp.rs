//! Brokers on loopback: any Kafka client can connect.

use std::{fmt, io, sync::Arc, time::Duration};

use tokio::net::{TcpListener, TcpStream};

use super::{Shared, Tasks};

const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// How a broker's listener speaks.
#[derive(Clone, Default)]
pub(crate) struct Listening {
    /// With TLS.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<tokio_rustls::TlsAcceptor>,
}

impl Listening {
    async fn serve(self, shared: Arc<Shared>, broker: i32, stream: TcpStream) {
        #[cfg(feature = "tls")]
        if let Some(tls) = self.tls {
            // Who cannot shake hands is gone, as from any broker.
            if let Ok(stream) = tls.accept(stream).await {
                shared.serve(broker, stream).await;
            }
            return;
        }
        shared.serve(broker, stream).await;
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").finish_non_exhaustive()
    }
}

/// Binds a port for this broker, tells the cluster of it, and serves who connects; returns the port.
pub(crate) async fn listen(shared: &Arc<Shared>, tasks: &mut Tasks, broker: i32, how: &Listening) -> io::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    shared.with(|kafka| kafka.set_address(broker, "127.0.0.1", port));
    let (shared, how) = (Arc::clone(shared), how.clone());
    tasks.spawn(async move {
        let mut connections = Tasks::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else {
                        // No more files may be opened, most likely: asking at once would only keep others from closing some.
                        tokio::time::sleep(ACCEPT_RETRY).await;
                        continue;
                    };
                    // Small answers are not to wait for each other.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(how.clone().serve(Arc::clone(&shared), broker, stream));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    });
    Ok(port)
}
