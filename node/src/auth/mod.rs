//! Certificate and token → [`Caller`]. A handler cannot be called without one.
//!
//! Owns: the NHSMESH header, access tokens and the keys behind them, the organisation in a client certificate's name, single
//! use of tokens, how often a client may ask. Must never know: mailboxes, messages, which clients there are,
//! where a password is kept. Whoever holds those asks this module to judge.
//! Invariants: a secret never reaches a log, an error or `Debug`; comparisons of secrets take the same time whatever
//! they find; a token that was judged good once is never judged good again while its timestamp is valid.

pub mod certificate;
#[cfg(test)]
#[path = "forged_tests.rs"]
pub(crate) mod forged;
pub mod jwks;
pub mod jws;
pub mod nhsmesh;
pub mod nonces;
pub mod rate;
pub mod token;

use crate::base::OdsCode;
use crate::http::ClientCertificate;
use std::sync::Arc;

/// What a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerKind {
    /// A system that proved a mailbox, or only its certificate.
    System,
    /// An application by itself, by access token.
    Application,
    /// A healthcare worker, by access token.
    Worker,
    /// A patient, by access token.
    Patient,
}

/// Who asks, as proved by the certificate, the token or both. Made only by code that has checked the proof. Its `Debug`
/// names no person.
#[derive(Clone, PartialEq, Eq)]
pub struct Caller {
    /// Which kind.
    pub kind: CallerKind,
    /// The name that the audit keeps: a mailbox, a certificate's common name, a client, a user's id, a patient's NHS number.
    pub actor: String,
    /// Code of the role a worker acts in; empty for everybody else.
    pub role: String,
    /// Organisation, where the proof names one.
    pub organisation: Option<OdsCode>,
    /// The registered client that the token was issued to or through; empty without a token.
    pub client: String,
    /// For whom the actor acts, where that is somebody else: an end user's organisation, a patient. Empty until a
    /// service has checked what the request says of it.
    pub on_behalf: String,
    /// The certificate of the connection; `None` only in the sandbox.
    pub certificate: Option<Arc<ClientCertificate>>,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller")
            .field("kind", &self.kind)
            .field("organisation", &self.organisation)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

impl Caller {
    /// A system that acts for itself.
    pub fn system(actor: String, organisation: Option<OdsCode>, certificate: Option<Arc<ClientCertificate>>) -> Caller {
        Caller {
            kind: CallerKind::System,
            actor,
            role: String::new(),
            organisation,
            client: String::new(),
            on_behalf: String::new(),
            certificate,
        }
    }
}
