//! Throw-away certificates of the sandbox: an authority, the server, and a client for each mailbox. Never for anything
//! real: the authority's key lies beside them.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Why certificates could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum CertificateError {
    /// A file.
    #[error("{file}: {cause}", file = file.display())]
    Io {
        /// Which file.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The authority that is there cannot be used.
    #[error("{file}: {cause}; remove the sandbox's folder and start again", file = file.display())]
    Authority {
        /// Its certificate.
        file: PathBuf,
        /// Why.
        cause: rcgen::Error,
    },
    /// The library refused.
    #[error("a certificate could not be made: {0}")]
    Made(#[from] rcgen::Error),
}

/// A certificate's purpose.
#[derive(Clone, Copy)]
enum Purpose {
    Server,
    Client,
    /// Both ends of a connection between members, which know each other by name.
    Peer,
}

/// Days before now from which they are valid: a client's clock may be behind.
const DAYS_BEFORE: i32 = 2;
/// Years they are valid: long enough for a sandbox that is kept, short enough for every client's date arithmetic.
const YEARS: i32 = 5;

/// Makes what is missing in `folder`: `ca.pem`, `ca.key`, `server.pem`, `server.key`, and `NAME.pem`, `NAME.key` for each
/// client (its file name and its common name). What is there stays.
pub(super) fn make_missing(folder: &Path, clients: &[(&str, &str)]) -> Result<(), CertificateError> {
    let issuer = authority(folder)?;
    pair(folder, "server", "localhost", Purpose::Server, &issuer)?;
    for (name, common_name) in clients {
        pair(folder, name, common_name, Purpose::Client, &issuer)?;
    }
    Ok(())
}

/// The same for a cluster's members: an authority of their own, and `NAME.pem`, `NAME.key` for each.
pub(super) fn make_peers(folder: &Path, names: &[&str]) -> Result<(), CertificateError> {
    let issuer = authority(folder)?;
    for name in names {
        pair(folder, name, name, Purpose::Peer, &issuer)?;
    }
    Ok(())
}

fn dated(mut params: CertificateParams) -> CertificateParams {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let from = today.saturating_sub(jiff::Span::new().days(DAYS_BEFORE));
    let ymd = |year: i16, date: jiff::civil::Date| {
        rcgen::date_time_ymd(i32::from(year), date.month() as u8, date.day() as u8)
    };
    params.not_before = ymd(from.year(), from);
    // The 28th exists in every month of every year.
    let end = if today.day() > 28 {
        today.with().day(28).build().expect("a day of every month")
    } else {
        today
    };
    params.not_after = ymd(end.year() + YEARS as i16, end);
    params
}

fn authority(folder: &Path) -> Result<Issuer<'static, KeyPair>, CertificateError> {
    let (certificate, key) = (folder.join("ca.pem"), folder.join("ca.key"));
    if let (Ok(pem), Ok(key_pem)) = (fs::read_to_string(&certificate), fs::read_to_string(&key)) {
        let of = |cause| CertificateError::Authority {
            file: certificate.clone(),
            cause,
        };
        let key = KeyPair::from_pem(&key_pem).map_err(of)?;
        return Issuer::from_ca_cert_pem(&pem, key).map_err(of);
    }
    let mut params = dated(CertificateParams::default());
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "Vertebra sandbox authority, for tests only");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let key_pair = KeyPair::generate()?;
    let made = params.self_signed(&key_pair)?;
    // A new authority makes every certificate of an old one useless.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "pem") {
            fs::remove_file(&path).map_err(|cause| CertificateError::Io { file: path, cause })?;
        }
    }
    write(&key, &key_pair.serialize_pem(), 0o600)?;
    write(&certificate, &made.pem(), 0o644)?;
    Ok(Issuer::new(params, key_pair))
}

fn pair(
    folder: &Path,
    name: &str,
    common_name: &str,
    purpose: Purpose,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<(), CertificateError> {
    let (certificate, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    if certificate.is_file() && key.is_file() {
        return Ok(());
    }
    let names = match purpose {
        Purpose::Server => vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()],
        Purpose::Client => Vec::new(),
        Purpose::Peer => vec![common_name.to_owned()],
    };
    let mut params = dated(CertificateParams::new(names)?);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match purpose {
        Purpose::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Purpose::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Purpose::Peer => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
    };
    let key_pair = KeyPair::generate()?;
    let made = params.signed_by(&key_pair, issuer)?;
    // The key first: a certificate without its key would count as made.
    write(&key, &key_pair.serialize_pem(), 0o600)?;
    write(&certificate, &made.pem(), 0o644)
}

/// Writes a file whole or not at all.
pub(super) fn write(file: &Path, text: &str, mode: u32) -> Result<(), CertificateError> {
    let partial = file.with_extension("partial");
    let made = (|| {
        let _ = fs::remove_file(&partial); // one with another mode may have stayed
        let mut out = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&partial)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        fs::rename(&partial, file)
    })();
    made.map_err(|cause| CertificateError::Io {
        file: file.to_owned(),
        cause,
    })
}
