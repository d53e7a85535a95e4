//! TLS: our certificate, whom we trust, and how both change under open connections.
//!
//! Owns keys and trust as numbered generations, shared by all reactors. A reload makes a new generation; handshakes
//! from then on use it, and open connections are judged by it at their next request. When trust changed, old session
//! tickets stop working, so that nobody resumes past a revocation. Never knows what a certificate is allowed to do.
//!
//! Revocation: with CRLs configured, every certificate of the client's chain below the root must be covered by one
//! and not be in it; what no CRL covers is refused unless [`RevocationPolicy::unknown_allowed`]. A CRL past its next
//! update still revokes what it names, and the others are let in for [`RevocationPolicy::expired_grace_s`] more
//! (`TlsStatus` shows it, so that an alarm comes first); then every client with a certificate is refused.

use super::certificate::not_after;
use crate::base::Timestamp;
use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuthentication {
    /// They are not asked for one.
    Off,
    /// They may; one that is shown must be good.
    Optional,
    /// They must.
    #[default]
    Required,
}

/// What to do where a CRL says nothing, or nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationPolicy {
    /// Lets in certificates whose issuer has no CRL here.
    pub unknown_allowed: bool,
    /// Seconds after a CRL's next update for which it still serves.
    pub expired_grace_s: u64,
}

impl Default for RevocationPolicy {
    /// Unknown is refused; a CRL serves for a day beyond its next update.
    fn default() -> RevocationPolicy {
        RevocationPolicy {
            unknown_allowed: false,
            expired_grace_s: 24 * 60 * 60,
        }
    }
}

/// What does not change at a reload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsPolicy {
    /// Whether clients must show a certificate.
    pub client: ClientAuthentication,
    /// How CRLs are read.
    pub revocation: RevocationPolicy,
}

/// The files to load and reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Our certificate and its intermediates, PEM.
    pub certificate: PathBuf,
    /// Our private key, PEM.
    pub key: PathBuf,
    /// The CAs of clients, PEM; needed unless clients are not asked.
    pub client_ca: Option<PathBuf>,
    /// CRLs, PEM (several in one file are fine) or DER.
    pub crls: Vec<PathBuf>,
}

/// Certificates, key and trust, parsed. No `Debug`: it holds the private key.
pub struct TlsMaterial {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    authorities: Vec<CertificateDer<'static>>,
    crls: Vec<CertificateRevocationListDer<'static>>,
}

/// Why TLS material is not taken. The old generation, if any, stays.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{file} cannot be read: {cause}")]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// There is no certificate, or none that parses.
    #[error("the certificate file holds no usable PEM certificate")]
    Certificate,
    /// There is no private key, or none that parses.
    #[error("the key file holds no usable PEM private key")]
    Key,
    /// Key and certificate are not a pair, or of a kind that cannot be used.
    #[error("certificate and key do not fit together: {0}")]
    Pair(rustls::Error),
    /// There is no client CA, or none that parses.
    #[error("the client CA file holds no usable PEM certificate")]
    Authority,
    /// A CRL does not parse.
    #[error("a CRL cannot be used; give CRLs as PEM or DER")]
    Crl,
}

/// What an operator wants to see of the current generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsStatus {
    /// Counts reloads, from 1.
    pub generation: u64,
    /// End of our certificate's validity.
    pub certificate_not_after: Timestamp,
    /// CRLs in force.
    pub crls: usize,
    /// The earliest next update of a CRL.
    pub crl_next_update: Option<Timestamp>,
}

/// One state of certificates and trust.
pub(super) struct Generation {
    pub(super) number: u64,
    pub(super) config: Arc<ServerConfig>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    ticketer: Arc<dyn ProducesTickets>,
    trust: Trust,
    status: TlsStatus,
}

/// What session tickets depend on.
#[derive(PartialEq, Eq)]
struct Trust {
    authorities: Vec<CertificateDer<'static>>,
    crls: Vec<Vec<u8>>,
}

/// TLS of one front door: shared by its reactors, reloaded by whoever watches the files.
pub struct TlsShared {
    policy: TlsPolicy,
    current: ArcSwap<Generation>,
}

impl TlsMaterial {
    /// Reads the files.
    ///
    /// # Errors
    /// `Unreadable`, `Certificate`, `Key`, `Authority`, `Crl`, in this order.
    pub fn from_files(files: &TlsFiles) -> Result<TlsMaterial, TlsError> {
        let certificate = read(&files.certificate)?;
        let key = read(&files.key)?;
        let authority = files.client_ca.as_deref().map(read).transpose()?;
        let crls = files
            .crls
            .iter()
            .map(|file| read(file))
            .collect::<Result<Vec<_>, _>>()?;
        TlsMaterial::from_bytes(&certificate, &key, authority.as_deref(), &crls)
    }

    /// Parses PEM (CRLs may be DER).
    ///
    /// # Errors
    /// `Certificate`, `Key`, `Authority`, `Crl`, in this order.
    pub fn from_bytes(
        certificate: &[u8],
        key: &[u8],
        authority: Option<&[u8]>,
        crls: &[Vec<u8>],
    ) -> Result<TlsMaterial, TlsError> {
        let chain = certificates(certificate).ok_or(TlsError::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Key)?;
        let authorities = match authority {
            Some(pem) => certificates(pem).ok_or(TlsError::Authority)?,
            None => Vec::new(),
        };
        let mut parsed = Vec::new();
        for bytes in crls {
            parsed.extend(revocation_lists(bytes).ok_or(TlsError::Crl)?);
        }
        Ok(TlsMaterial {
            chain,
            key,
            authorities,
            crls: parsed,
        })
    }
}

impl TlsShared {
    /// TLS with this material.
    ///
    /// # Errors
    /// As [`reload`](Self::reload).
    pub fn new(material: TlsMaterial, policy: TlsPolicy) -> Result<Arc<TlsShared>, TlsError> {
        let first = Generation::build(material, policy, None)?;
        Ok(Arc::new(TlsShared {
            policy,
            current: ArcSwap::from_pointee(first),
        }))
    }

    /// Takes new material. Connections stay open; a client whose certificate the new trust refuses is refused at its
    /// next request.
    ///
    /// # Errors
    /// `Pair`, `Authority`, `Crl`; then nothing has changed.
    pub fn reload(&self, material: TlsMaterial) -> Result<(), TlsError> {
        let next = Generation::build(material, self.policy, Some(&self.current.load()))?;
        self.current.store(Arc::new(next));
        Ok(())
    }

    /// What an operator wants to see.
    pub fn status(&self) -> TlsStatus {
        self.current.load().status
    }

    pub(super) fn generation(&self) -> Arc<Generation> {
        self.current.load_full()
    }

    /// The number of the current generation, cheaply.
    pub(super) fn generation_number(&self) -> u64 {
        self.current.load().number
    }

    /// Whether the CRLs have been out of date for longer than the grace.
    pub(super) fn revocation_is_stale(&self, now: Timestamp) -> bool {
        let grace_ms = self.policy.revocation.expired_grace_s.saturating_mul(1000);
        self.current
            .load()
            .status
            .crl_next_update
            .is_some_and(|next| now > next.plus_ms(grace_ms))
    }
}

impl Generation {
    fn build(material: TlsMaterial, policy: TlsPolicy, before: Option<&Generation>) -> Result<Generation, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificate_not_after = material
            .chain
            .first()
            .and_then(|der| X509Certificate::from_der(der.as_ref()).ok())
            .map(|(_, certificate)| not_after(&certificate))
            .ok_or(TlsError::Certificate)?;
        let crl_next_update = next_update(&material.crls)?;
        let trust = Trust {
            authorities: material.authorities.clone(),
            crls: material.crls.iter().map(|crl| crl.as_ref().to_vec()).collect(),
        };
        let crls = material.crls.len();
        let verifier = verifier(&provider, material.authorities, material.crls, policy)?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("the provider has suites for both versions");
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(material.chain, material.key)
            .map_err(TlsError::Pair)?;
        let ticketer = match before {
            Some(before) if before.trust == trust => Arc::clone(&before.ticketer),
            Some(_) | None => rustls::crypto::ring::Ticketer::new().map_err(TlsError::Pair)?,
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Tickets hold the session at the client, so any reactor resumes it and no memory is kept here.
        config.ticketer = Arc::clone(&ticketer);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        let number = before.map_or(1, |before| before.number + 1);
        Ok(Generation {
            number,
            config: Arc::new(config),
            verifier,
            ticketer,
            trust,
            status: TlsStatus {
                generation: number,
                certificate_not_after,
                crls,
                crl_next_update,
            },
        })
    }

    /// Judges a client's chain (its own certificate first) by this generation.
    pub(super) fn accepts(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> bool {
        let (Some(verifier), Some((own, intermediates))) = (&self.verifier, chain.split_first()) else {
            return true;
        };
        let now = UnixTime::since_unix_epoch(Duration::from_millis(now.ms()));
        verifier.verify_client_cert(own, intermediates, now).is_ok()
    }
}

fn verifier(
    provider: &Arc<CryptoProvider>,
    authorities: Vec<CertificateDer<'static>>,
    crls: Vec<CertificateRevocationListDer<'static>>,
    policy: TlsPolicy,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    if policy.client == ClientAuthentication::Off {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority).map_err(|_| TlsError::Authority)?;
    }
    if roots.is_empty() {
        return Err(TlsError::Authority);
    }
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).with_crls(crls);
    if policy.client == ClientAuthentication::Optional {
        builder = builder.allow_unauthenticated();
    }
    if policy.revocation.unknown_allowed {
        builder = builder.allow_unknown_revocation_status();
    }
    builder.build().map(Some).map_err(|_| TlsError::Crl)
}

/// The earliest next update. A CRL without one never expires.
fn next_update(crls: &[CertificateRevocationListDer<'_>]) -> Result<Option<Timestamp>, TlsError> {
    let mut earliest = None;
    for crl in crls {
        let (_, list) = x509_parser::revocation_list::CertificateRevocationList::from_der(crl.as_ref())
            .map_err(|_| TlsError::Crl)?;
        let next = list
            .next_update()
            .and_then(|time| u64::try_from(time.timestamp()).ok())
            .map(|seconds| Timestamp::from_ms(seconds.saturating_mul(1000)));
        earliest = match (earliest, next) {
            (Some(known), Some(next)) => Some(std::cmp::min::<Timestamp>(known, next)),
            (known, next) => known.or(next),
        };
    }
    Ok(earliest)
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file).map_err(|cause| TlsError::Unreadable {
        file: file.to_path_buf(),
        cause,
    })
}

fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let parsed = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .ok()?;
    (!parsed.is_empty()).then_some(parsed)
}

fn revocation_lists(bytes: &[u8]) -> Option<Vec<CertificateRevocationListDer<'static>>> {
    let pem = CertificateRevocationListDer::pem_slice_iter(bytes)
        .collect::<Result<Vec<_>, _>>()
        .ok()?;
    if pem.is_empty() {
        // DER begins with a SEQUENCE; anything else is no CRL.
        return (bytes.first() == Some(&0x30)).then(|| vec![CertificateRevocationListDer::from(bytes.to_vec())]);
    }
    Some(pem)
}

impl fmt::Debug for TlsShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsShared({:?})", self.status())
    }
}
