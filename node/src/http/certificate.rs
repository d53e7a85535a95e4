//! What we read of a client certificate, once a connection.

use crate::base::Timestamp;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use std::fmt;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

/// What we read of a client certificate, once a connection. `Debug` shows the fingerprint alone.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Subject common name; empty when it has none.
    pub common_name: String,
    /// Subject organisation, when it has one.
    pub organisation: Option<String>,
    /// DNS names among the subject's alternative names.
    pub dns_names: Vec<String>,
    /// Serial number, big-endian, as it stands in the certificate.
    pub serial: Vec<u8>,
    /// The issuer's name, DER.
    pub issuer: Vec<u8>,
    /// The end of its validity.
    pub not_after: Timestamp,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
}

impl ClientCertificate {
    /// Reads a certificate that TLS has verified. `None` when it is no X.509 certificate.
    pub fn read(der: &CertificateDer<'_>) -> Option<ClientCertificate> {
        let (_, certificate) = X509Certificate::from_der(der.as_ref()).ok()?;
        let dns_names = match certificate.subject_alternative_name() {
            Ok(Some(names)) => names
                .value
                .general_names
                .iter()
                .filter_map(|name| match name {
                    x509_parser::extensions::GeneralName::DNSName(dns) => Some((*dns).to_owned()),
                    _ => None,
                })
                .collect(),
            Ok(None) | Err(_) => Vec::new(),
        };
        Some(ClientCertificate {
            common_name: first(certificate.subject().iter_common_name()).unwrap_or_default(),
            organisation: first(certificate.subject().iter_organization()),
            dns_names,
            serial: certificate.raw_serial().to_vec(),
            issuer: name_der(certificate.issuer()),
            not_after: not_after(&certificate),
            fingerprint: Sha256::digest(der.as_ref()).into(),
        })
    }
}

/// The end of a certificate's validity.
pub(super) fn not_after(certificate: &X509Certificate<'_>) -> Timestamp {
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    Timestamp::from_ms(seconds.saturating_mul(1000))
}

fn first<'a>(mut values: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>) -> Option<String> {
    values.next().and_then(|value| value.as_str().ok()).map(str::to_owned)
}

fn name_der(name: &X509Name<'_>) -> Vec<u8> {
    name.as_raw().to_vec()
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCertificate({})", hex::encode(&self.fingerprint[..8]))
    }
}
