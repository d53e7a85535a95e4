//! The Puppet CA asks: may this certificate request be signed? Exit 0 yes, 1 no; why not goes to standard error.
//!
//! Owns: what a request may carry. Must never know: the CA. Invariants: a request is signed only with the machine's own
//! token, for the role and data centre that the token was handed out for, once; a request that asks for anything more
//! (another name, an authorisation) is refused whole.

use crate::config::Config;
use crate::http_client::{ClientError, Service};
use crate::machine::RedeemRefusal;
use crate::names::{HostName, now};
use crate::store::{Store, StoreError};
use serde_json::json;
use std::time::Duration;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

/// Largest request, bytes.
pub const REQUEST_BYTES_MAX: u64 = 64 * 1024;
const PP_ROLE: &str = "1.3.6.1.4.1.34380.1.1.13";
const PP_DATACENTER: &str = "1.3.6.1.4.1.34380.1.1.19";
/// Longest challenge password or extension value, bytes.
const VALUE_BYTES_MAX: usize = 256;

/// Why a request is not signed.
#[derive(Debug, thiserror::Error)]
pub enum AutosignError {
    /// Not a PKCS#10 request in PEM.
    #[error("what came on standard input is not a certificate request: {0}")]
    NotARequest(String),
    /// It names somebody else.
    #[error("the request is for `{found}`, and the CA asks about `{asked}`")]
    WrongName {
        /// In the request.
        found: String,
        /// The argument.
        asked: String,
    },
    /// Something is missing in it or there twice.
    #[error(
        "the request has {count} {what}, and must have one; the node writes it to csr_attributes.yaml when it enrols"
    )]
    Count {
        /// What.
        what: &'static str,
        /// How many.
        count: usize,
    },
    /// It asks for more than a node gets.
    #[error("the request asks for an extension that a node does not get: {0}")]
    Extension(String),
    /// No such machine.
    #[error("`{0}` is not in the inventory")]
    UnknownMachine(String),
    /// The inventory cannot be read.
    #[error("nobody is signed while the inventory has mistakes: {0}")]
    Inventory(#[from] crate::inventory::InventoryError),
    /// The inventory says otherwise than the token did, by now.
    #[error("the inventory gives it {what} `{inventory}` now, and the request says `{claimed}`; arm it again")]
    Moved {
        /// Role or data centre.
        what: &'static str,
        /// By the inventory.
        inventory: String,
        /// In the request.
        claimed: String,
    },
    /// The token.
    #[error(transparent)]
    Token(#[from] RedeemRefusal),
    /// State.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A boot service elsewhere could not be asked.
    #[error("boot service: {0}")]
    Service(#[from] ClientError),
    /// A boot service elsewhere said no.
    #[error("boot service: {0}")]
    Refused(String),
}

/// What a request claims.
#[derive(Debug, PartialEq, Eq)]
pub struct Claims {
    /// The token.
    pub token: String,
    /// `pp_role`
    pub role: String,
    /// `pp_datacenter`
    pub datacentre: String,
}

/// The text of an extension's value: a DER string. Puppet writes UTF8String.
fn text_of(value: &[u8]) -> Result<String, AutosignError> {
    let bad = || AutosignError::NotARequest("an extension's value is not a UTF8String".to_owned());
    let [tag, length, text @ ..] = value else {
        return Err(bad());
    };
    let right = *tag == 0x0c && *length < 0x80 && usize::from(*length) == text.len();
    let text = std::str::from_utf8(text).map_err(|_| bad())?;
    match right && text.len() <= VALUE_BYTES_MAX {
        true => Ok(text.to_owned()),
        false => Err(bad()),
    }
}

fn one(what: &'static str, mut values: Vec<String>) -> Result<String, AutosignError> {
    match (values.len(), values.pop()) {
        (1, Some(value)) => Ok(value),
        (count, _) => Err(AutosignError::Count { what, count }),
    }
}

/// Reads a request, and refuses one that asks for anything but a node's certificate.
pub fn claims(certname: &HostName, pem: &[u8]) -> Result<Claims, AutosignError> {
    let bad = |what: &str| AutosignError::NotARequest(what.to_owned());
    let (rest, block) = x509_parser::pem::parse_x509_pem(pem).map_err(|error| bad(&error.to_string()))?;
    if !matches!(block.label.as_str(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") {
        return Err(bad("its PEM label is another one"));
    }
    if !rest.iter().all(u8::is_ascii_whitespace) {
        return Err(bad("something follows it"));
    }
    let (rest, request) =
        X509CertificationRequest::from_der(&block.contents).map_err(|error| bad(&error.to_string()))?;
    if !rest.is_empty() {
        return Err(bad("something follows it"));
    }
    let info = &request.certification_request_info;
    let names: Vec<String> = info
        .subject
        .iter_attributes()
        .map(|part| part.as_str().unwrap_or("?").to_owned())
        .collect();
    let common: Vec<&str> = info
        .subject
        .iter_common_name()
        .filter_map(|part| part.as_str().ok())
        .collect();
    if names.len() != 1 || common != [certname.as_str()] {
        return Err(AutosignError::WrongName {
            found: crate::names::shown(&names.join(", ")),
            asked: certname.to_string(),
        });
    }
    let (mut tokens, mut roles, mut datacentres) = (Vec::new(), Vec::new(), Vec::new());
    for attribute in info.iter_attributes() {
        match attribute.parsed_attribute() {
            ParsedCriAttribute::ChallengePassword(password) => tokens.push(password.0.clone()),
            ParsedCriAttribute::ExtensionRequest(extensions) => {
                for extension in &extensions.extensions {
                    match extension.oid.to_id_string().as_str() {
                        PP_ROLE => roles.push(text_of(extension.value)?),
                        PP_DATACENTER => datacentres.push(text_of(extension.value)?),
                        other => allowed(other, extension.parsed_extension(), certname)?,
                    }
                }
            }
            // Attributes of the request alone; the CA copies none of them into a certificate.
            _ => {}
        }
    }
    let token = one("challengePassword", tokens)?;
    if token.len() > VALUE_BYTES_MAX {
        return Err(bad("its challengePassword is too long"));
    }
    Ok(Claims {
        token,
        role: one("pp_role", roles)?,
        datacentre: one("pp_datacenter", datacentres)?,
    })
}

/// Extensions beside the two: the machine's own name as alternative name, and nothing else.
fn allowed(oid: &str, extension: &ParsedExtension<'_>, certname: &HostName) -> Result<(), AutosignError> {
    let own = match extension {
        ParsedExtension::SubjectAlternativeName(names) => names
            .general_names
            .iter()
            .all(|name| matches!(name, GeneralName::DNSName(name) if *name == certname.as_str())),
        _ => false,
    };
    if own {
        Ok(())
    } else {
        Err(AutosignError::Extension(oid.to_owned()))
    }
}

/// Judges a request and burns its token.
pub fn judge(config: &Config, certname: &HostName, pem: &[u8]) -> Result<(), AutosignError> {
    let claims = claims(certname, pem)?;
    if !config.autosign.services.is_empty() {
        return ask_services(config, certname, &claims);
    }
    let inventory = crate::inventory::Inventory::load(&config.inventory, config.hiera.as_ref())?;
    redeem(&Store::open(&config.state)?, &inventory, certname, &claims)
}

/// Takes the token out of this host's own state.
pub fn redeem(
    store: &Store,
    inventory: &crate::inventory::Inventory,
    certname: &HostName,
    claims: &Claims,
) -> Result<(), AutosignError> {
    let unknown = || AutosignError::UnknownMachine(certname.to_string());
    let machine = inventory.machines.get(certname).ok_or_else(unknown)?;
    let locked = store.lock()?;
    locked.change(certname, |state| {
        // On a copy first: whoever was moved in the inventory since keeps the token unburnt, and is refused.
        state
            .clone()
            .redeem(now(), &claims.token, &claims.role, &claims.datacentre)?;
        for (what, by_inventory, claimed) in [
            ("role", &machine.role, &claims.role),
            ("data centre", &machine.site, &claims.datacentre),
        ] {
            if by_inventory.as_str() != claimed {
                return Err(AutosignError::Moved {
                    what,
                    inventory: by_inventory.to_string(),
                    claimed: crate::names::shown(claimed),
                });
            }
        }
        state.redeem(now(), &claims.token, &claims.role, &claims.datacentre)?;
        Ok(())
    })?
}

/// Asks the boot services one after the other; the one that handed out the token says yes.
fn ask_services(config: &Config, certname: &HostName, claims: &Claims) -> Result<(), AutosignError> {
    let ca = config.autosign.boot_ca.as_deref().unwrap_or(std::path::Path::new(""));
    let body = json!({
        "certname": certname.as_str(),
        "role": claims.role,
        "datacentre": claims.datacentre,
        "token": claims.token,
    });
    let mut last = AutosignError::Refused("none is configured".to_owned());
    for url in &config.autosign.services {
        let answer =
            Service::new(url, ca).and_then(|service| service.post("/v1/redeem", &body, None, Duration::from_secs(10)));
        match answer {
            Ok(answer) if answer.status == 200 => return Ok(()),
            Ok(answer) => {
                let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                let sentence = said["sentence"].as_str().unwrap_or("it gave no reason");
                last = AutosignError::Refused(format!("{url}: {}", crate::names::shown_long(sentence)));
            }
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}
