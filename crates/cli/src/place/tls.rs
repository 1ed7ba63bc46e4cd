//! TLS towards a server: whom to trust.

use std::path::PathBuf;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::failure::Failure;

/// Where the roots of this machine are, on the distributions that there are.
const ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Trusts the certificates in the file that `HOTHOUSE_CA` or `SSL_CERT_FILE` names, or else the roots of this machine.
pub(crate) fn config() -> Result<Arc<ClientConfig>, Failure> {
    let named = ["HOTHOUSE_CA", "SSL_CERT_FILE"]
        .into_iter()
        .find_map(std::env::var_os)
        .filter(|path| !path.is_empty());
    let here = || ROOTS.into_iter().map(PathBuf::from).find(|path| path.exists());
    let Some(path) = named.map(PathBuf::from).or_else(here) else {
        return Err(Failure::usage(
            "--server",
            "needs TLS, and this machine has no file of root certificates",
        )
        .hint("name one with HOTHOUSE_CA=FILE"));
    };
    let failed = |reason: String| {
        Failure::usage("HOTHOUSE_CA", format!("{}: {reason}", path.display()))
            .hint("it has to be a file of certificates in PEM")
    };
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(&path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| failed(e.to_string()))?;
    let (added, _) = roots.add_parsable_certificates(found);
    if added == 0 {
        return Err(failed("holds no certificate".to_owned()));
    }
    build(roots).map(Arc::new)
}

/// Trusts nobody.
pub(crate) fn without_roots() -> Result<ClientConfig, Failure> {
    build(RootCertStore::empty())
}

fn build(roots: RootCertStore) -> Result<ClientConfig, Failure> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| Failure::new(hothouse_domain::ErrorCode::Internal, format!("setting TLS up: {e}")))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
