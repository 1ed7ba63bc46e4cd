//! TLS towards servers and registries: whom to trust.

use std::path::PathBuf;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Where the roots of this machine are, on the distributions that there are.
const ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why nobody can be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// There is no file.
    #[error("this machine has no file of root certificates; name one with HOTHOUSE_CA=FILE")]
    NoRoots,
    /// The file is of no use.
    #[error("{path}: {reason}; HOTHOUSE_CA has to name a file of certificates in PEM")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The library refuses.
    #[error("setting TLS up: {0}")]
    Setup(String),
}

/// Trusts the certificates in the file that `HOTHOUSE_CA` or `SSL_CERT_FILE` names, or else the roots of this machine.
///
/// # Errors
/// [`TrustError`] says what is missing.
pub fn trusting_roots() -> Result<ClientConfig, TrustError> {
    let named = ["HOTHOUSE_CA", "SSL_CERT_FILE"]
        .into_iter()
        .find_map(std::env::var_os)
        .filter(|path| !path.is_empty());
    let here = || ROOTS.into_iter().map(PathBuf::from).find(|path| path.exists());
    let path = named.map(PathBuf::from).or_else(here).ok_or(TrustError::NoRoots)?;
    let failed = |reason: String| TrustError::File { path: path.clone(), reason };
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(&path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| failed(e.to_string()))?;
    let (added, _) = roots.add_parsable_certificates(found);
    if added == 0 {
        return Err(failed("holds no certificate".to_owned()));
    }
    build(roots)
}

/// Trusts nobody.
///
/// # Errors
/// [`TrustError::Setup`].
pub fn trusting_nobody() -> Result<ClientConfig, TrustError> {
    build(RootCertStore::empty())
}

fn build(roots: RootCertStore) -> Result<ClientConfig, TrustError> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| TrustError::Setup(e.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
