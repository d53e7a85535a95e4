//! Certificates, keys and revocation lists: readable, fitting, in time.

use super::Line;
use crate::config::Config;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use x509_parser::prelude::FromDer as _;

/// Days before its end from which a certificate is worth a warning.
const DAYS_LOW: i64 = 30;
const DAY_SECONDS: i64 = 86_400;

/// Everything that `[tls]` names, as of `now_ms`.
pub(super) fn lines(config: &Config, now_ms: u64) -> Vec<Line> {
    let now = (now_ms / 1_000) as i64;
    let mut lines = vec![
        dates("tls.certificate", &config.tls.certificate, now),
        matching("tls.key", &config.tls.certificate, &config.tls.key),
        dates("tls.client_ca", &config.tls.client_ca, now),
    ];
    lines.extend(config.tls.crl.iter().map(|file| revocation_list(file, now)));
    if config.tls.crl.is_empty() {
        lines.push(Line::warn(
            "tls.crl",
            "no revocation list",
            "name the list of your client authority, or a lost key stays good",
        ));
    }
    lines
}

pub(super) fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(|all| all.collect::<Result<Vec<_>, _>>())
        .map_err(|cause| format!("{}: {cause}", file.display()))?;
    match certificates.is_empty() {
        true => Err(format!("{}: no certificate in it", file.display())),
        false => Ok(certificates),
    }
}

/// The first certificate of the file to end, and whether it has begun.
pub(super) fn dates(key: &str, file: &Path, now: i64) -> Line {
    let certificates = match read(file) {
        Ok(certificates) => certificates,
        Err(why) => return Line::fail(key, why, "put a PEM file with CERTIFICATE blocks there"),
    };
    let mut first_end = i64::MAX;
    for der in &certificates {
        let Ok((_, certificate)) = x509_parser::parse_x509_certificate(der) else {
            return Line::fail(
                key,
                format!("{}: not an X.509 certificate", file.display()),
                "issue it again",
            );
        };
        let validity = certificate.validity();
        if validity.not_before.timestamp() > now {
            return Line::fail(
                key,
                "is not valid yet",
                "set the clock right, or wait, or issue it again",
            );
        }
        first_end = first_end.min(validity.not_after.timestamp());
    }
    let days = (first_end - now).div_euclid(DAY_SECONDS);
    if first_end < now {
        return Line::fail(
            key,
            format!("expired {} days ago", -days),
            "replace it now; the node takes it up by itself",
        );
    }
    if days < DAYS_LOW {
        return Line::warn(
            key,
            format!("expires in {days} days"),
            "replace it; the node takes it up by itself",
        );
    }
    Line::ok(
        key,
        format!("{} certificate(s), the first to end in {days} days", certificates.len()),
    )
}

/// Whether the private key that `about` names belongs to the certificate.
pub(super) fn matching(about: &str, certificate: &Path, key: &Path) -> Line {
    let chain = match read(certificate) {
        Ok(chain) => chain,
        Err(why) => return Line::fail(about, why, "correct the certificate first"),
    };
    let der = match PrivateKeyDer::from_pem_file(key) {
        Ok(der) => der,
        Err(cause) => {
            return Line::fail(
                about,
                format!("{}: {cause}", key.display()),
                "put a PEM private key there",
            );
        }
    };
    let signer = match rustls::crypto::ring::sign::any_supported_type(&der) {
        Ok(signer) => signer,
        Err(_) => {
            return Line::fail(
                about,
                "of a kind that is not supported",
                "use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 bits or more",
            );
        }
    };
    match rustls::sign::CertifiedKey::new(chain, signer).keys_match() {
        Ok(()) => Line::ok(about, "belongs to the certificate"),
        Err(_) => Line::fail(
            about,
            "does not belong to the certificate",
            "give the key that the certificate was issued for",
        ),
    }
}

/// A list is readable and not past its next update.
pub(super) fn revocation_list(file: &Path, now: i64) -> Line {
    let key = "tls.crl";
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(cause) => return Line::fail(key, format!("{}: {cause}", file.display()), "fetch the list"),
    };
    let der = match x509_parser::pem::parse_x509_pem(&bytes) {
        Ok((_, pem)) => pem.contents,
        Err(_) => bytes,
    };
    let Ok((_, list)) = x509_parser::revocation_list::CertificateRevocationList::from_der(&der) else {
        return Line::fail(
            key,
            format!("{}: not a revocation list", file.display()),
            "fetch it again, PEM or DER",
        );
    };
    let age_days = (now - list.last_update().timestamp()).div_euclid(DAY_SECONDS);
    match list.next_update().map(|at| at.timestamp()) {
        Some(next) if next < now => {
            let found = format!("{}: {age_days} days old, its next update was due", file.display());
            Line::fail(key, found, "fetch the new one; the node takes it up by itself")
        }
        Some(_) => Line::ok(key, format!("{}: {age_days} days old", file.display())),
        None => Line::warn(
            key,
            format!("{}: {age_days} days old, names no next update", file.display()),
            "look at how old it may be",
        ),
    }
}
