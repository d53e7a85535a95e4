//! Certificates: what clients present, rightful and wrong.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use tokio_rustls::TlsConnector;

/// A certificate chain and its key, both PEM.
#[derive(Clone)]
pub struct Identity {
    /// Certificate chain.
    pub certificate: String,
    /// Private key.
    pub key: String,
}

/// A connector that trusts `ca` (PEM) and presents `identity`.
pub fn connector(ca: &str, identity: Option<&Identity>) -> TlsConnector {
    TlsConnector::from(Arc::new(client_config(ca, identity)))
}

/// The configuration behind [`connector`].
pub fn client_config(ca: &str, identity: Option<&Identity>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots
            .add(certificate.expect("the sandbox's CA is PEM"))
            .expect("the sandbox's CA is a certificate");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows TLS 1.2 and 1.3")
        .with_root_certificates(roots);
    match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .expect("a client certificate is PEM");
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("a client key is PEM");
            builder
                .with_client_auth_cert(chain, key)
                .expect("the key fits the certificate")
        }
    }
}

/// An identity with common name `name` from a CA nobody trusts.
pub fn foreign_identity(name: &str) -> Identity {
    let authority_key = KeyPair::generate().expect("ring makes keys");
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    authority
        .distinguished_name
        .push(DnType::CommonName, "Somebody else's CA");
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().expect("ring makes keys");
    let mut leaf = CertificateParams::default();
    leaf.distinguished_name.push(DnType::CommonName, name);
    let certificate = leaf.signed_by(&key, &issuer).expect("a leaf can be signed");
    Identity {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    }
}

/// An authority of a test's own.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, PEM.
    pub pem: String,
}

impl Authority {
    /// One of this common name.
    pub fn new(name: &str) -> Authority {
        let key = KeyPair::generate().expect("ring makes keys");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).expect("an authority signs itself").pem();
        Authority {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate of this common name that is good for `names` (DNS names and addresses) and for these uses.
    pub fn issue(&self, common_name: &str, names: &[String], uses: &[ExtendedKeyUsagePurpose]) -> Identity {
        let key = KeyPair::generate().expect("ring makes keys");
        let mut params = CertificateParams::new(names).expect("plain names");
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = uses.to_vec();
        let certificate = params.signed_by(&key, &self.issuer).expect("a leaf can be signed");
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

/// An authority (PEM), the identity of a service at `localhost` that it signed, and that of a node that uses it.
pub fn service_certificates() -> (String, Identity, Identity) {
    let key = KeyPair::generate().expect("ring makes keys");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
        .distinguished_name
        .push(DnType::CommonName, "Test CA of services");
    let ca = params.self_signed(&key).expect("an authority signs itself").pem();
    let authority = Issuer::new(params, key);
    let signed = |name: &str, usages: &[ExtendedKeyUsagePurpose]| {
        let key = KeyPair::generate().expect("ring makes keys");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a DNS name");
        params.extended_key_usages = usages.to_vec();
        let certificate = params.signed_by(&key, &authority).expect("the authority signs").pem();
        Identity {
            certificate,
            key: key.serialize_pem(),
        }
    };
    let (serves, asks) = (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth);
    // Services of one kind are each other's clients too.
    let server = signed("localhost", &[serves, asks.clone()]);
    let client = signed("node", &[asks]);
    (ca, server, client)
}
