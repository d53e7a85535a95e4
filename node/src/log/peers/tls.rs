//! TLS between peers: 1.3 only, both sides show a certificate of the cluster's authority, and each is who its
//! certificate names: the member's name, never its address.

use super::PeerTlsError;
use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The files of `[cluster]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerTlsFiles {
    /// Our certificate and its intermediates, PEM.
    pub certificate: PathBuf,
    /// Our private key, PEM.
    pub key: PathBuf,
    /// The cluster's authorities, PEM.
    pub ca: PathBuf,
}

/// Both ends' settings; exchanged as a pair.
pub struct PeerTls {
    files: PeerTlsFiles,
    current: ArcSwap<Pair>,
}

struct Pair {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl PeerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// Which file cannot be used.
    pub fn open(files: PeerTlsFiles) -> Result<PeerTls, PeerTlsError> {
        let current = ArcSwap::from_pointee(load(&files)?);
        Ok(PeerTls { files, current })
    }

    /// Reads the files again; connections made from now on use them. On an error the ones before stay in force.
    pub fn reload(&self) -> Result<(), PeerTlsError> {
        self.current.store(Arc::new(load(&self.files)?));
        Ok(())
    }

    /// For connections that come in.
    pub(super) fn server(&self) -> Arc<ServerConfig> {
        self.current.load().server.clone()
    }

    /// For connections that go out.
    pub(super) fn client(&self) -> Arc<ClientConfig> {
        self.current.load().client.clone()
    }
}

/// Whether the certificate names `name`.
pub(super) fn is_named(certificate: &CertificateDer<'_>, name: &str) -> bool {
    let Ok(name) = ServerName::try_from(name) else {
        return false;
    };
    ParsedCertificate::try_from(certificate)
        .is_ok_and(|parsed| rustls::client::verify_server_name(&parsed, &name).is_ok())
}

fn load(files: &PeerTlsFiles) -> Result<Pair, PeerTlsError> {
    let unusable = |file: &Path| {
        let file = file.to_owned();
        move |cause: String| PeerTlsError { file, cause }
    };
    let certificates = |file: &Path| -> Result<Vec<CertificateDer<'static>>, PeerTlsError> {
        let found: Result<Vec<_>, _> =
            CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        match found {
            Ok(found) if !found.is_empty() => Ok(found),
            Ok(_) => Err(unusable(file)("it holds no PEM certificate".to_owned())),
            Err(error) => Err(unusable(file)(error.to_string())),
        }
    };
    let chain = certificates(&files.certificate)?;
    let key = || PrivateKeyDer::from_pem_file(&files.key).map_err(|error| unusable(&files.key)(error.to_string()));
    let mut roots = RootCertStore::empty();
    for authority in certificates(&files.ca)? {
        roots
            .add(authority)
            .map_err(|error| unusable(&files.ca)(error.to_string()))?;
    }
    let roots = Arc::new(roots);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = &[&rustls::version::TLS13];
    let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|error| unusable(&files.ca)(error.to_string()))?;
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(|error| unusable(&files.certificate)(error.to_string()))?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain.clone(), key()?)
        .map_err(|error| unusable(&files.key)(error.to_string()))?;
    let client = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(|error| unusable(&files.certificate)(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(OfTheCluster { roots, provider }))
        .with_client_auth_cert(chain, key()?)
        .map_err(|error| unusable(&files.key)(error.to_string()))?;
    Ok(Pair {
        server: Arc::new(server),
        client: Arc::new(client),
    })
}

/// Takes every certificate of the cluster's authority: whose it is, is compared with the name that the peer then says,
/// because a new node knows its peers by their addresses alone.
#[derive(Debug)]
struct OfTheCluster {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OfTheCluster {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// How long a handshake may take.
pub(super) const HANDSHAKE_MAX: Duration = Duration::from_secs(2);
