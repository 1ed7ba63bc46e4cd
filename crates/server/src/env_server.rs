//! A server of one environment, as OpenEnv's clients expect it: its paths at the root, and nothing else.

use std::net::SocketAddr;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::app::Exposure;
use crate::connection::Connections;
use crate::dialects::openenv::{Openenv, at_root};
use crate::door::Door;
use crate::limits::ServerLimits;
use crate::origin;
use crate::server::BindError;

/// How to serve an environment.
#[derive(Debug, Clone)]
pub struct EnvServerOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Allow an address that other machines can reach.
    pub insecure: bool,
    /// Bounds on what clients send and hold open.
    pub limits: ServerLimits,
}

/// A server of one environment, its socket open.
#[derive(Debug)]
pub struct EnvServer {
    listener: TcpListener,
    address: SocketAddr,
    exposure: Exposure,
    limits: ServerLimits,
    openenv: Openenv,
}

impl EnvServer {
    /// Opens the socket; clients can connect from now on, and are answered once [`EnvServer::serve`] runs.
    ///
    /// # Errors
    /// [`BindError`]: the address is not loopback and `insecure` is off, or it cannot be taken.
    pub async fn bind(openenv: Openenv, options: EnvServerOptions) -> Result<Self, BindError> {
        let address = options.listen;
        let exposure = if address.ip().is_loopback() { Exposure::Loopback } else { Exposure::Network };
        if exposure == Exposure::Network && !options.insecure {
            return Err(BindError::Exposed(address));
        }
        let listen = |source| BindError::Listen { address, source };
        let listener = crate::listener::listen(address).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(Self { listener, address, exposure, limits: options.limits, openenv })
    }

    /// Where it listens, the port filled in.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` is cancelled; then sessions are closed, and what runs gets a grace.
    pub async fn serve(self, shutdown: CancellationToken) {
        let Self { listener, address: _, exposure, limits, openenv } = self;
        let door = Door {
            limits,
            draining: openenv.draining().clone(),
            upgraded: openenv.sockets().clone(),
            open: prometheus_client::metrics::gauge::Gauge::default(),
            refused: prometheus_client::metrics::counter::Counter::default(),
        };
        let router = at_root(openenv.clone()).layer(from_fn_with_state(exposure, check_origin));
        let connections = Connections::new(door, router, None);
        tokio::select! {
            () = connections.accept(&listener) => {}
            () = shutdown.cancelled() => {}
        }
        // New connections are refused by the kernel from here on.
        drop(listener);
        openenv.draining().cancel();
        connections.finish().await;
    }
}

async fn check_origin(State(exposure): State<Exposure>, request: Request, next: Next) -> Response {
    match origin::check(exposure, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}
