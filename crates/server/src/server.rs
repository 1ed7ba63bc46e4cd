//! The server: a listening socket, and what happens from the first connection to the last.

use std::net::SocketAddr;

use hothouse_fleet::Fleet;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::app::{App, Exposure};
use crate::connection::Connections;
use crate::limits::ServerLimits;
use crate::router::router;

/// How to run a server.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Allow an address that other machines can reach. The API has no keys: whoever reaches it can use it.
    pub insecure: bool,
    /// Bounds on what clients send and hold open.
    pub limits: ServerLimits,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Others could reach it.
    #[error(
        "{0} can be reached from other machines, and the API has no keys: whoever reaches it can run commands here; \
         listen on 127.0.0.1, or pass --insecure if only trusted machines reach this address"
    )]
    Exposed(SocketAddr),
    /// The address cannot be taken.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel says.
        source: std::io::Error,
    },
}

/// A server with its socket open.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    fleet: Fleet,
    limits: ServerLimits,
    exposure: Exposure,
}

impl Server {
    /// Opens the socket; clients can connect from now on, and are answered once [`Server::serve`] runs.
    ///
    /// # Errors
    /// [`BindError`]: the address is not loopback and `insecure` is off, or it cannot be taken.
    pub async fn bind(fleet: Fleet, options: ServerOptions) -> Result<Self, BindError> {
        let address = options.listen;
        let exposure = if address.ip().is_loopback() { Exposure::Loopback } else { Exposure::Network };
        if exposure == Exposure::Network && !options.insecure {
            return Err(BindError::Exposed(address));
        }
        let listen = |source| BindError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(Self { listener, address, fleet, limits: options.limits, exposure })
    }

    /// Where it listens, the port filled in.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` is cancelled. Then it takes no more connections, ends followers (their execs go on), lets
    /// running requests finish for the grace, and closes the rest. The fleet goes on.
    pub async fn serve(self, shutdown: CancellationToken) {
        let app = App::new(self.fleet, self.limits, self.exposure);
        let connections = Connections::new(app.clone(), router(app.clone()));
        tokio::select! {
            () = connections.accept(&self.listener) => {}
            () = shutdown.cancelled() => {}
        }
        // New connections are refused by the kernel from here on.
        drop(self.listener);
        app.draining.cancel();
        connections.finish().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_of_an_exposed_address_says_what_to_do() {
        let text = BindError::Exposed(([0, 0, 0, 0], 8700).into()).to_string();
        assert!(text.contains("127.0.0.1") && text.contains("--insecure"), "{text}");
    }
}
