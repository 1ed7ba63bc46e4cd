//! TLS towards a server: whom to trust.

use std::sync::Arc;

use hothouse_domain::ErrorCode;
use hothouse_sandbox::tls::{self, TrustError};
use tokio_rustls::rustls::ClientConfig;

use crate::failure::Failure;

/// Trusts the certificates in the file that `HOTHOUSE_CA` or `SSL_CERT_FILE` names, or else the roots of this machine.
pub(crate) fn config() -> Result<Arc<ClientConfig>, Failure> {
    let failed = |error: TrustError| match &error {
        TrustError::NoRoots => Failure::usage("--server", format!("needs TLS: {error}")),
        TrustError::File { .. } => Failure::usage("HOTHOUSE_CA", error.to_string()),
        TrustError::Setup(_) => Failure::new(ErrorCode::Internal, error.to_string()),
    };
    tls::trusting_roots().map(Arc::new).map_err(failed)
}

/// Trusts nobody.
pub(crate) fn without_roots() -> Result<ClientConfig, Failure> {
    tls::trusting_nobody().map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))
}
