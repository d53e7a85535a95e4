//! The claims of an access token, read strictly into a principal.

use super::{Kind, Patient, Principal, SKEW_S, TokenRefused, Vector, Worker};
use crate::base::{NhsNumber, OdsCode, Timestamp};
use serde::Deserialize;

/// Longest text claim, bytes.
const TEXT_BYTES_MAX: usize = 100;
/// Most scopes of one token.
const SCOPES_MAX: usize = 100;

/// As sent. A claim twice, or of another type, makes the token unreadable.
#[derive(Deserialize)]
pub(super) struct Claims {
    iss: Option<String>,
    aud: Option<Audience>,
    sub: Option<String>,
    exp: Option<u64>,
    iat: Option<u64>,
    nbf: Option<u64>,
    client_id: Option<String>,
    scope: Option<String>,
    selected_roleid: Option<String>,
    role_code: Option<String>,
    org_code: Option<String>,
    id_assurance_level: Option<Level>,
    authentication_assurance_level: Option<Level>,
    nhs_number: Option<String>,
    identity_proofing_level: Option<String>,
    vot: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// A level, which issuers write as a number or as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Level {
    Number(u8),
    Text(String),
}

impl Level {
    fn value(&self) -> u8 {
        match self {
            Level::Number(number) => *number,
            Level::Text(text) => text.parse().unwrap_or(0),
        }
    }
}

/// From when to when a token is valid.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) begins: Timestamp,
    pub(super) expires: Timestamp,
}

impl Times {
    /// Whether it is valid at `now`.
    pub(super) fn hold(self, now: Timestamp) -> Result<(), TokenRefused> {
        if self.expires <= now {
            return Err(TokenRefused::Expired);
        }
        if self.begins > now.plus_ms(SKEW_S * 1000) {
            return Err(TokenRefused::NotYetValid);
        }
        Ok(())
    }
}

fn seconds(seconds: u64) -> Timestamp {
    Timestamp::from_ms(seconds.saturating_mul(1000))
}

/// Visible ASCII, 1 to 100 of it.
fn text(claim: &Option<String>, name: &'static str) -> Result<String, TokenRefused> {
    let fits =
        |text: &&String| (1..=TEXT_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    claim.as_ref().filter(fits).cloned().ok_or(TokenRefused::Claim(name))
}

impl Claims {
    pub(super) fn read(payload: &[u8]) -> Result<Claims, TokenRefused> {
        serde_json::from_slice(payload).map_err(|_| TokenRefused::Unreadable)
    }

    pub(super) fn is_from(&self, issuer: &str) -> Result<(), TokenRefused> {
        let same = !issuer.is_empty() && self.iss.as_deref() == Some(issuer);
        same.then_some(()).ok_or(TokenRefused::Issuer)
    }

    pub(super) fn is_for(&self, audience: &str) -> Result<(), TokenRefused> {
        let named = match &self.aud {
            Some(Audience::One(one)) => one == audience,
            Some(Audience::Many(many)) => many.iter().any(|one| one == audience),
            None => false,
        };
        named.then_some(()).ok_or(TokenRefused::Audience)
    }

    pub(super) fn times(&self) -> Result<Times, TokenRefused> {
        let issued = self.iat.ok_or(TokenRefused::Claim("iat"))?;
        Ok(Times {
            begins: seconds(self.nbf.unwrap_or(0).max(issued)),
            expires: seconds(self.exp.ok_or(TokenRefused::Claim("exp"))?),
        })
    }

    fn principal(&self, kind: Kind, times: Times) -> Result<Principal, TokenRefused> {
        let scopes: Vec<String> = self.scope.as_deref().map_or_else(Vec::new, |scope| {
            scope.split_ascii_whitespace().map(str::to_owned).collect()
        });
        if scopes.len() > SCOPES_MAX {
            return Err(TokenRefused::Claim("scope"));
        }
        Ok(Principal {
            kind,
            client: text(&self.client_id, "client_id")?,
            scopes,
            expires: times.expires,
            begins: times.begins,
        })
    }

    /// One of our own.
    pub(super) fn application(&self, times: Times) -> Result<Principal, TokenRefused> {
        if text(&self.sub, "sub")? != text(&self.client_id, "client_id")? {
            return Err(TokenRefused::Claim("sub"));
        }
        self.principal(Kind::Application, times)
    }

    /// One of the authority's: a worker's has a role, a patient's an NHS number.
    pub(super) fn person(&self, times: Times) -> Result<Principal, TokenRefused> {
        let kind = match (&self.selected_roleid, &self.nhs_number) {
            (Some(_), None) => Kind::Worker(self.worker()?),
            (None, Some(_)) => Kind::Patient(self.patient()?),
            (Some(_), Some(_)) | (None, None) => return Err(TokenRefused::Kind),
        };
        self.principal(kind, times)
    }

    fn worker(&self) -> Result<Worker, TokenRefused> {
        let level = self.authentication_assurance_level.as_ref();
        let level = level
            .ok_or(TokenRefused::Claim("authentication_assurance_level"))?
            .value();
        let identity = self.id_assurance_level.as_ref().map_or(level, Level::value);
        if !(2..=3).contains(&level) || !(2..=3).contains(&identity) {
            return Err(TokenRefused::WorkerBelowAal2);
        }
        let organisation = self.org_code.as_deref().and_then(OdsCode::parse);
        Ok(Worker {
            user: text(&self.sub, "sub")?,
            role_id: text(&self.selected_roleid, "selected_roleid")?,
            role_code: text(&self.role_code, "role_code")?,
            organisation: organisation.ok_or(TokenRefused::Claim("org_code"))?,
            assurance_level: level,
        })
    }

    fn patient(&self) -> Result<Patient, TokenRefused> {
        let level = self.identity_proofing_level.as_deref();
        if level.ok_or(TokenRefused::Claim("identity_proofing_level"))? != "P9" {
            return Err(TokenRefused::PatientBelowP9);
        }
        let vector = self.vot.as_deref().ok_or(TokenRefused::Claim("vot"))?;
        Ok(Patient {
            nhs_number: self
                .nhs_number
                .clone()
                .filter(|number| NhsNumber::parse(number).is_some())
                .ok_or(TokenRefused::Claim("nhs_number"))?,
            vector: Vector::parse(vector).ok_or(TokenRefused::PatientVector)?,
        })
    }
}
