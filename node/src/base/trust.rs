//! Whom a TLS client of ours trusts: the authorities that it is given and nobody else, never the public ones.

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;

/// What of the material cannot be used. Holds nothing of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part} cannot be used: {cause}")]
pub struct TrustError {
    /// `ca`, `certificate` or `key`, as sections of the configuration call them.
    pub part: &'static str,
    /// Why.
    pub cause: String,
}

/// A client that takes servers signed by an authority in `ca` (PEM). `identity` is certificate and key (PEM) for servers that
/// ask for them.
///
/// # Errors
/// The part that cannot be read, in the order `ca`, `certificate`, `key`.
pub fn client(ca: &str, identity: Option<(&str, &str)>) -> Result<Arc<ClientConfig>, TrustError> {
    let unusable = |part: &'static str| move |cause: String| TrustError { part, cause };
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        let authority = authority.map_err(|cause| unusable("ca")(cause.to_string()))?;
        roots
            .add(authority)
            .map_err(|cause| unusable("ca")(cause.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("ca")("no certificate is in it".to_owned()));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the suites of TLS 1.2 and 1.3")
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|cause| unusable("certificate")(cause.to_string()))?;
            let key =
                PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|cause| unusable("key")(cause.to_string()))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|cause| unusable("certificate")(cause.to_string()))?
        }
    };
    Ok(Arc::new(config))
}
