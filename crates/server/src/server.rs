//! The server: a listening socket, and what happens from the first connection to the last.

use std::net::SocketAddr;
use std::path::PathBuf;

use hothouse_fleet::Fleet;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::app::{App, Exposure};
use crate::auth::Auth;
use crate::connection::Connections;
use crate::dialects::openenv::Openenv;
use crate::keyring::KeyringError;
use crate::limits::ServerLimits;
use crate::router::router;
use crate::tls::{self, TlsError, TlsFiles};

/// How to run a server.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The file of API keys; without one, whoever reaches the server can use it.
    pub keys: Option<PathBuf>,
    /// Speak TLS with this certificate.
    pub tls: Option<TlsFiles>,
    /// Allow an address that other machines can reach without keys.
    pub insecure: bool,
    /// Bounds on what clients send and hold open.
    pub limits: ServerLimits,
    /// The environments, below `/openenv`.
    pub environments: Openenv,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Others could reach it.
    #[error(
        "{0} can be reached from other machines, and there are no API keys: whoever reaches it can run commands here; \
         make one with `hothouse keys create`, listen on 127.0.0.1, or pass --insecure if only trusted machines reach \
         this address"
    )]
    Exposed(SocketAddr),
    /// The keys cannot be read.
    #[error(transparent)]
    Keys(#[from] KeyringError),
    /// TLS cannot be spoken.
    #[error(transparent)]
    Tls(#[from] TlsError),
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
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    fleet: Fleet,
    limits: ServerLimits,
    exposure: Exposure,
    auth: Option<Auth>,
    tls: Option<TlsAcceptor>,
    environments: Openenv,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    /// Opens the socket; clients can connect from now on, and are answered once [`Server::serve`] runs.
    ///
    /// # Errors
    /// [`BindError`]: the address is not loopback and `insecure` is off, or it cannot be taken.
    pub async fn bind(fleet: Fleet, options: ServerOptions) -> Result<Self, BindError> {
        let address = options.listen;
        let exposure = if address.ip().is_loopback() { Exposure::Loopback } else { Exposure::Network };
        let tls = options.tls.as_ref().map(tls::acceptor).transpose()?;
        let auth = options.keys.as_deref().map(|path| Auth::open(path, fleet.node())).transpose()?;
        if exposure == Exposure::Network && auth.is_none() && !options.insecure {
            return Err(BindError::Exposed(address));
        }
        let listen = |source| BindError::Listen { address, source };
        let listener = crate::listener::listen(address).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let (limits, environments) = (options.limits, options.environments);
        Ok(Self { listener, address, fleet, limits, exposure, auth, tls, environments })
    }

    /// How it is reached: `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Where it listens, the port filled in.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` is cancelled. Then it takes no more connections, ends followers (their execs go on), lets
    /// running requests finish for the grace, and closes the rest. The fleet goes on.
    pub async fn serve(self, shutdown: CancellationToken) {
        let mut follows = JoinSet::new();
        if let Some(auth) = self.auth.clone() {
            follows.spawn(auth.follow(self.fleet.node().clone(), shutdown.clone()));
        }
        let app = App::new(self.fleet, self.limits, self.exposure, self.auth);
        let openenv = self.environments;
        let connections = Connections::new(app.door(), router(app.clone(), openenv.clone()), self.tls);
        tokio::select! {
            () = connections.accept(&self.listener) => {}
            () = shutdown.cancelled() => {}
        }
        // New connections are refused by the kernel from here on.
        drop(self.listener);
        app.draining.cancel();
        openenv.draining().cancel();
        connections.finish().await;
        while let Some(ended) = follows.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "following the keys");
            }
        }
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
