//! A client assertion: a JWT by which an application proves who it is, judged claim by claim.
//!
//! Everything that can be told from the bytes is judged in `Assertion::read`; the registry and the signature come next;
//! claims that only a proved client may be told about come last, so that a refusal over them is on the record.

use super::errors::Refused;
use crate::auth::jws::{Parts, PublicKey};
use crate::base::Timestamp;
use crate::services::identity::ClientId;
use crate::services::identity::command::Client;
use serde::Deserialize;
use serde_json::Value;

/// How far ahead an assertion's end may be, seconds.
pub(super) const AHEAD_S_MAX: u64 = 5 * 60;
/// How far the client's clock may be ahead, seconds: added to the bound above, and allowed on `iat` and `nbf`.
const SKEW_S: u64 = 5;
/// Longest `jti`, characters.
const JTI_CHARS_MAX: usize = 100;

/// The claims as sent; each is looked at by itself, so that a refusal names the one that is wrong.
#[derive(Deserialize)]
struct Claims {
    iss: Option<Value>,
    sub: Option<Value>,
    aud: Option<Value>,
    exp: Option<Value>,
    nbf: Option<Value>,
    jti: Option<Value>,
}

/// An assertion whose header is right; nothing in it is proved.
pub(super) struct Assertion<'a> {
    parts: Parts<'a>,
    claims: Claims,
    kid: String,
    /// Whom it claims to be from; `None` when no client can have that name.
    pub(super) client: Option<ClientId>,
}

/// What is left of an assertion that holds: what makes it a single one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Proof {
    pub(super) jti: String,
    pub(super) expires: Timestamp,
}

impl<'a> Assertion<'a> {
    /// Reads. Refusals, in order: `Malformed`, `AlgMissing`, `AlgInvalid`, `TypInvalid`, `KidMissing`, `IssSubMissing`.
    pub(super) fn read(text: &'a str) -> Result<Assertion<'a>, Refused> {
        let parts = Parts::of(text).map_err(|_| Refused::Malformed)?;
        let claims: Claims = serde_json::from_slice(&parts.payload).map_err(|_| Refused::Malformed)?;
        match parts.header.alg.as_deref() {
            Some("RS512") => {}
            Some(_) => return Err(Refused::AlgInvalid),
            None => return Err(Refused::AlgMissing),
        }
        if !parts
            .header
            .typ
            .as_deref()
            .is_some_and(|typ| typ.eq_ignore_ascii_case("JWT"))
        {
            return Err(Refused::TypInvalid);
        }
        let kid = parts.header.kid.clone().filter(|kid| !kid.is_empty());
        let kid = kid.ok_or(Refused::KidMissing)?;
        let client = match (&claims.iss, &claims.sub) {
            (Some(Value::String(iss)), Some(Value::String(sub))) if iss == sub && !iss.is_empty() => {
                ClientId::parse(iss)
            }
            _ => return Err(Refused::IssSubMissing),
        };
        Ok(Assertion {
            parts,
            claims,
            kid,
            client,
        })
    }

    /// Proves that the client signed it: `KidUnknown`, `SignatureWrong`.
    pub(super) fn proved_by(&self, client: &Client) -> Result<(), Refused> {
        let key = client.keys.iter().find(|key| key.kid == self.kid);
        let key = key.ok_or(Refused::KidUnknown)?;
        let key = PublicKey::Rsa {
            n: key.n.clone(),
            e: key.e.clone(),
        };
        self.parts.signed_by(&key).map_err(|_| Refused::SignatureWrong)
    }

    /// What else it must say, with `audiences` as what this endpoint is called. Refusals, in order: `JtiMissing`,
    /// `JtiInvalid`, `ExpMissing`, `ExpNotInteger`, `Expired`, `ExpTooFar`, `NbfInvalid`, `AudInvalid`.
    pub(super) fn holds(&self, audiences: &[String], now: Timestamp) -> Result<Proof, Refused> {
        let jti = match &self.claims.jti {
            Some(Value::String(jti)) if (1..=JTI_CHARS_MAX).contains(&jti.chars().count()) => jti.clone(),
            Some(_) => return Err(Refused::JtiInvalid),
            None => return Err(Refused::JtiMissing),
        };
        let end_s = match &self.claims.exp {
            None => return Err(Refused::ExpMissing),
            Some(exp) => exp.as_u64().ok_or(Refused::ExpNotInteger)?,
        };
        let now_s = now.ms() / 1000;
        if end_s <= now_s {
            return Err(Refused::Expired);
        }
        if end_s > now_s + AHEAD_S_MAX + SKEW_S {
            return Err(Refused::ExpTooFar);
        }
        if let Some(nbf) = &self.claims.nbf
            && nbf.as_u64().is_none_or(|nbf| nbf > now_s + SKEW_S)
        {
            return Err(Refused::NbfInvalid);
        }
        let named = |aud: &Value| aud.as_str().is_some_and(|aud| audiences.iter().any(|own| own == aud));
        let for_us = match &self.claims.aud {
            Some(Value::Array(many)) => many.iter().any(named),
            Some(one) => named(one),
            None => false,
        };
        if !for_us {
            return Err(Refused::AudInvalid);
        }
        Ok(Proof {
            jti,
            expires: Timestamp::from_ms(end_s * 1000),
        })
    }
}

#[cfg(test)]
#[path = "assertion_tests.rs"]
mod tests;
