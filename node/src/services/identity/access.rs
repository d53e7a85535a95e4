//! Admission of a request with an access token, for every service: the token, then the client it is of.
//!
//! A token says who acts; the registry says whether the client may still be used, how, and how often. It is asked in
//! every request, so a client that is disabled is out at once, whatever its tokens say.

use super::ClientId;
use super::command::Mode;
use super::state::{self, Standing};
use crate::auth::Caller;
use crate::auth::rate::Rates;
use crate::auth::token::{Kind, Principal, TokenRefused, Tokens};
use crate::base::Timestamp;
use crate::http::Peer;
use crate::ledger::Read;
use ::http::{HeaderMap, StatusCode, header};
use std::sync::Arc;

/// A request that may go on to its service.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// Who acts.
    pub caller: Caller,
    /// What the token says.
    pub principal: Arc<Principal>,
}

/// Why a request was not admitted. Each has one code, one status and one sentence that says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// The token was not taken.
    #[error(transparent)]
    Token(#[from] TokenRefused),
    /// The client is not registered, or no longer.
    #[error("the client of the access token is not registered here; ask the operator to register it")]
    ClientUnknown,
    /// The client is disabled.
    #[error("the client of the access token is disabled; ask the operator why")]
    ClientDisabled,
    /// The client may not be used in the token's mode.
    #[error("the client may not be used in this access mode; ask the operator to allow it")]
    ModeNotAllowed,
    /// The client asks too often.
    #[error("the client asks more often than it may; ask again after the seconds of Retry-After")]
    TooOften {
        /// Seconds, at least 1, for `Retry-After`.
        retry_after_s: u32,
    },
}

impl NotAdmitted {
    /// The code, for metrics, logs and the audit.
    pub fn code(self) -> &'static str {
        match self {
            NotAdmitted::Token(refused) => refused.code(),
            NotAdmitted::ClientUnknown => "client_unknown",
            NotAdmitted::ClientDisabled => "client_disabled",
            NotAdmitted::ModeNotAllowed => "mode_not_allowed",
            NotAdmitted::TooOften { .. } => "too_often",
        }
    }

    /// 401 for a token that another would replace, 403 for what it may not do, 429 for the rate.
    pub fn status(self) -> StatusCode {
        match self {
            NotAdmitted::Token(
                TokenRefused::WorkerBelowAal2 | TokenRefused::PatientBelowP9 | TokenRefused::PatientVector,
            )
            | NotAdmitted::ModeNotAllowed => StatusCode::FORBIDDEN,
            NotAdmitted::Token(_) | NotAdmitted::ClientUnknown | NotAdmitted::ClientDisabled => {
                StatusCode::UNAUTHORIZED
            }
            NotAdmitted::TooOften { .. } => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// Seconds for `Retry-After`, where asking again helps.
    pub fn retry_after_s(self) -> Option<u32> {
        match self {
            NotAdmitted::TooOften { retry_after_s } => Some(retry_after_s),
            NotAdmitted::Token(_)
            | NotAdmitted::ClientUnknown
            | NotAdmitted::ClientDisabled
            | NotAdmitted::ModeNotAllowed => None,
        }
    }
}

/// A refusal, and who it was when that is known: those are on the record, the others are counted.
#[derive(Clone, Debug)]
pub struct Denied {
    /// Why.
    pub refused: NotAdmitted,
    /// Who, once the token was verified.
    pub caller: Option<Caller>,
}

/// What admission is judged by.
#[derive(Clone, Copy)]
pub struct Gate<'a, R: Read> {
    /// Where clients are looked up.
    pub ledger: &'a R,
    /// The keys of tokens.
    pub tokens: &'a Tokens,
    /// The clients' buckets.
    pub rates: &'a Rates,
}

/// The mode that a token is for.
pub fn mode(kind: &Kind) -> Mode {
    match kind {
        Kind::Application => Mode::Application,
        Kind::Worker(_) => Mode::Worker,
        Kind::Patient(_) => Mode::Patient,
    }
}

impl<R: Read> Gate<'_, R> {
    /// Admits. What the caller may do within the service is for the service to judge.
    ///
    /// # Errors
    /// `Token`, `ClientUnknown`, `ClientDisabled`, `ModeNotAllowed`, `TooOften`, in this order.
    pub fn admit(&self, headers: &HeaderMap, peer: &Peer, now: Timestamp) -> Result<Admitted, Denied> {
        // Of two, whoever stands between might have judged the other.
        let mut authorizations = headers.get_all(header::AUTHORIZATION).iter();
        let principal = match (authorizations.next(), authorizations.next()) {
            (_, Some(_)) => Err(TokenRefused::Unreadable),
            (one, None) => self.tokens.verify(one, now),
        };
        let principal = principal.map_err(|refused| Denied {
            refused: refused.into(),
            caller: None,
        })?;
        let client = ClientId::parse(&principal.client).and_then(|id| state::standing(self.ledger, &id));
        let judged = self.judge(client.as_ref(), &principal);
        let caller = principal.caller(client.map(|client| client.ods), peer.certificate.clone());
        match judged {
            Ok(()) => Ok(Admitted { caller, principal }),
            Err(refused) => Err(Denied {
                refused,
                caller: Some(caller),
            }),
        }
    }

    fn judge(&self, client: Option<&Standing>, principal: &Principal) -> Result<(), NotAdmitted> {
        let client = client.ok_or(NotAdmitted::ClientUnknown)?;
        if !client.active {
            return Err(NotAdmitted::ClientDisabled);
        }
        if !client.modes.contains(&mode(&principal.kind)) {
            return Err(NotAdmitted::ModeNotAllowed);
        }
        self.rates
            .take(&principal.client, client.requests_per_second)
            .map_err(|retry_after_s| NotAdmitted::TooOften { retry_after_s })
    }
}

#[cfg(test)]
mod tests;
