//! Brokers on loopback: any Kafka client can connect.

use std::{io, sync::Arc, time::Duration};

use tokio::net::TcpListener;

use super::{Shared, Tasks};

const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Binds a port for this broker, tells the cluster of it, and serves who connects; returns the port.
pub(crate) async fn listen(shared: &Arc<Shared>, tasks: &mut Tasks, broker: i32) -> io::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    shared.with(|kafka| kafka.set_address(broker, "127.0.0.1", port));
    let shared = Arc::clone(shared);
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
                    connections.spawn(Arc::clone(&shared).serve(broker, stream));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    });
    Ok(port)
}
