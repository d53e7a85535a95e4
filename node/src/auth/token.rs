//! Access tokens: issued to applications, and verified whoever signed them, on any node and without a look-up.
//!
//! Two signers are known. This service's own keys (Ed25519) sign the tokens of applications. The keys of the authority, a
//! separate signing service, sign the tokens of people: healthcare workers and patients. Neither may sign the other's kind.
//! A set of keys and the tokens that were verified by it are one value, swapped whole when the keys are read again: what
//! an old key let in does not outlive it.
//!
//! Invariants: the key says by which algorithm a token is checked, never the token; nothing of a token is in an error,
//! a log or `Debug`; a token is verified once and then looked up, its times are looked at in every request.
//!
//! What a token must carry:
//!
//! | claim | application | worker | patient |
//! |---|---|---|---|
//! | header `typ` | `at+jwt` | `at+jwt` or `JWT` | `at+jwt` or `JWT` |
//! | `iss`, `aud` | as configured | the authority's, as configured | the same |
//! | `sub` | the client | the user's id | any |
//! | `iat`, `exp` | seconds | seconds | seconds |
//! | `client_id` | the client | the application used | the application used |
//! | `scope` | words, may be absent | the same | the same |
//! | `selected_roleid`, `role_code`, `org_code` | – | the role the user works in, its code, its organisation | – |
//! | `authentication_assurance_level` | – | 2 or 3; `id_assurance_level`, where given, too | – |
//! | `nhs_number` | – | – | ten digits, valid |
//! | `identity_proofing_level` | – | – | `P9` |
//! | `vot` | – | – | `P9.Cp.Cd`, `P9.Cp.Ck` or `P9.Cm` |

mod cache;
mod claims;
mod keys;
mod principal;

pub use keys::{KeyFiles, Keys, KeysError, signing_key};
pub use principal::{Kind, Patient, Principal, Vector, Worker};

use super::jws::{self, Header, Parts, SignatureRefused, TOKEN_BYTES_MAX};
use crate::base::Timestamp;
use ::http::HeaderValue;
use arc_swap::ArcSwap;
use cache::Cache;
use keys::Holder;
use std::sync::Arc;

/// How long a token of ours is valid, seconds.
pub const TOKEN_S: u64 = 599;
/// How far another machine's clock may be ahead, seconds.
pub const SKEW_S: u64 = 60;
/// Type of our own tokens (RFC 9068).
const TYPE: &str = "at+jwt";

/// What is written into tokens and expected in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `iss` of our own tokens.
    pub issuer: String,
    /// `aud` of every token.
    pub audience: String,
    /// `iss` of the authority's tokens.
    pub authority_issuer: String,
}

/// The keys and what they vouch for; one for all threads of a node.
pub struct Tokens {
    policy: Policy,
    current: ArcSwap<Snapshot>,
}

/// A set of keys and the tokens verified by it.
struct Snapshot {
    keys: Keys,
    cache: Cache,
}

impl Snapshot {
    fn new(keys: Keys) -> Snapshot {
        Snapshot {
            keys,
            cache: Cache::new(cache::ENTRIES_MAX),
        }
    }
}

/// Why a token was not taken. Each has a code for metrics, logs and the audit, and a sentence for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    /// No `Authorization` header.
    #[error("there is no access token; send `Authorization: Bearer` with one")]
    Missing,
    /// Not `Bearer` and a token in compact form.
    #[error("the Authorization header is not `Bearer` and a signed token; send the token as it was issued")]
    Unreadable,
    /// Longer than a token may be.
    #[error("the access token is longer than 8192 bytes; ask for one with fewer scopes")]
    TooLarge,
    /// `none`, a shared secret, or an algorithm that the key does not sign by.
    #[error("the access token is not signed by an algorithm that is accepted here; get one from the issuer")]
    Algorithm,
    /// Of another type: an identity token, say.
    #[error("the token is of another type; send an access token")]
    Type,
    /// The key is not known, or no longer.
    #[error("the access token is signed by a key that is not known here; get a new one")]
    KeyUnknown,
    /// The signature is not the key's.
    #[error("the signature of the access token is wrong; send the token as it was issued")]
    Signature,
    /// From another issuer than the key's.
    #[error("the access token is from another issuer; get one from the issuer of this service")]
    Issuer,
    /// For another service.
    #[error("the access token is for another service; ask for one for this service")]
    Audience,
    /// Past its end.
    #[error("the access token has expired; get a new one")]
    Expired,
    /// Not begun.
    #[error("the access token is not valid yet; set the issuer's or this machine's clock right")]
    NotYetValid,
    /// A claim is missing or not of its form.
    #[error("the claim `{0}` of the access token is missing or not of its form; ask the issuer to correct it")]
    Claim(&'static str),
    /// Neither a worker's nor a patient's, or both.
    #[error("the access token is neither a healthcare worker's nor a patient's; ask the issuer to correct it")]
    Kind,
    /// Weaker than AAL2.
    #[error("the user signed in below authentication assurance level 2; sign in with a stronger method")]
    WorkerBelowAal2,
    /// Identity proved below P9.
    #[error("the patient's identity is proved below level P9; prove it and sign in again")]
    PatientBelowP9,
    /// Signed in by a vector that is not taken.
    #[error("the patient signed in by a method that is not accepted here; sign in with P9.Cp.Cd, P9.Cp.Ck or P9.Cm")]
    PatientVector,
}

impl TokenRefused {
    /// The code, for machines.
    pub fn code(self) -> &'static str {
        match self {
            TokenRefused::Missing => "token_missing",
            TokenRefused::Unreadable => "token_unreadable",
            TokenRefused::TooLarge => "token_too_large",
            TokenRefused::Algorithm => "token_algorithm",
            TokenRefused::Type => "token_type",
            TokenRefused::KeyUnknown => "token_key_unknown",
            TokenRefused::Signature => "token_signature",
            TokenRefused::Issuer => "token_issuer",
            TokenRefused::Audience => "token_audience",
            TokenRefused::Expired => "token_expired",
            TokenRefused::NotYetValid => "token_not_yet_valid",
            TokenRefused::Claim(_) => "token_claim",
            TokenRefused::Kind => "token_kind",
            TokenRefused::WorkerBelowAal2 => "worker_below_aal2",
            TokenRefused::PatientBelowP9 => "patient_below_p9",
            TokenRefused::PatientVector => "patient_vector",
        }
    }
}

impl Tokens {
    /// With these keys.
    pub fn new(policy: Policy, keys: Keys) -> Tokens {
        Tokens {
            policy,
            current: ArcSwap::from_pointee(Snapshot::new(keys)),
        }
    }

    /// Takes other keys; what was verified by the ones before is verified again.
    pub fn reload(&self, keys: Keys) {
        self.current.store(Arc::new(Snapshot::new(keys)));
    }

    /// The key that signs now; `None` when none is configured.
    pub fn signer(&self) -> Option<Signer> {
        let snapshot = self.current.load_full();
        snapshot.keys.signing.is_some().then(|| Signer {
            policy: self.policy.clone(),
            snapshot,
        })
    }

    /// Whether tokens of people can be verified at all.
    pub fn has_authority(&self) -> bool {
        !self.current.load().keys.authority.is_empty()
    }

    /// Tokens that are remembered as verified.
    pub fn remembered(&self) -> usize {
        self.current.load().cache.len()
    }

    /// Who the request is from. A token seen before costs a digest and a look-up.
    ///
    /// # Errors
    /// `Missing`, `TooLarge`, `Unreadable`; then of a token that was not seen before `Algorithm`, `KeyUnknown`, `Type`,
    /// `Signature`, `Issuer`, `Audience`; then of any `Expired`, `NotYetValid`; then of one not seen before what its kind asks.
    pub fn verify(&self, authorization: Option<&HeaderValue>, now: Timestamp) -> Result<Arc<Principal>, TokenRefused> {
        let token = bearer(authorization)?;
        let snapshot = self.current.load();
        let digest = crate::base::Digest::of(token.as_bytes());
        if let Some(principal) = snapshot.cache.get(&digest) {
            principal.in_time(now)?;
            return Ok(principal);
        }
        let principal = Arc::new(self.read(&snapshot.keys, token, now)?);
        snapshot.cache.put(digest, principal.clone(), now);
        Ok(principal)
    }

    fn read(&self, keys: &Keys, token: &str, now: Timestamp) -> Result<Principal, TokenRefused> {
        let parts = Parts::of(token).map_err(|_| TokenRefused::Unreadable)?;
        let Header { alg, kid, typ, .. } = &parts.header;
        let algorithm = alg.as_deref().unwrap_or_default();
        if !keys::is_accepted(algorithm) {
            return Err(TokenRefused::Algorithm);
        }
        let (holder, key) = kid
            .as_deref()
            .and_then(|kid| keys.find(kid))
            .ok_or(TokenRefused::KeyUnknown)?;
        if key.algorithm.as_deref().is_some_and(|only| only != algorithm) {
            return Err(TokenRefused::Algorithm);
        }
        let typed = typ.as_deref().is_some_and(|typ| typ.eq_ignore_ascii_case(TYPE));
        let plain = typ.as_deref().is_none_or(|typ| typ.eq_ignore_ascii_case("JWT"));
        if !(typed || holder == Holder::Authority && plain) {
            return Err(TokenRefused::Type);
        }
        parts.signed_by(&key.key).map_err(|refused| match refused {
            SignatureRefused::Algorithm => TokenRefused::Algorithm,
            SignatureRefused::Wrong => TokenRefused::Signature,
        })?;
        let claims = claims::Claims::read(&parts.payload)?;
        let issuer = match holder {
            Holder::Own => &self.policy.issuer,
            Holder::Authority => &self.policy.authority_issuer,
        };
        claims.is_from(issuer)?;
        claims.is_for(&self.policy.audience)?;
        let times = claims.times()?;
        times.hold(now)?;
        match holder {
            Holder::Own => claims.application(times),
            Holder::Authority => claims.person(times),
        }
    }
}

/// The token of an `Authorization` header.
fn bearer(authorization: Option<&HeaderValue>) -> Result<&str, TokenRefused> {
    let value = authorization.ok_or(TokenRefused::Missing)?;
    if value.len() > TOKEN_BYTES_MAX {
        return Err(TokenRefused::TooLarge);
    }
    let text = value.to_str().map_err(|_| TokenRefused::Unreadable)?;
    let (scheme, token) = text.trim().split_once(' ').ok_or(TokenRefused::Unreadable)?;
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(TokenRefused::Unreadable);
    }
    Ok(token.trim_start())
}

/// The key that signs, as it was when it was asked for.
pub struct Signer {
    policy: Policy,
    snapshot: Arc<Snapshot>,
}

impl Signer {
    /// A token for an application, valid for [`TOKEN_S`] from `now` on; `id` is its own identifier.
    pub fn issue(&self, client: &str, scopes: &[String], id: u128, now: Timestamp) -> String {
        let signing = self.snapshot.keys.signing.as_ref();
        let signing = signing.expect("a signer is only made of keys that sign");
        let issued_s = now.ms() / 1000;
        let claims = serde_json::json!({
            "iss": self.policy.issuer,
            "sub": client,
            "client_id": client,
            "aud": self.policy.audience,
            "iat": issued_s,
            "exp": issued_s + TOKEN_S,
            "scope": scopes.join(" "),
            "jti": format!("{id:032x}"),
        });
        jws::sign(&signing.pair, &signing.kid, TYPE, &claims)
    }
}

#[cfg(test)]
mod tests;
