//! Certificate and token → [`Caller`]. A handler cannot be called without one.
//!
//! Owns: the NHSMESH header, the organisation in a client certificate's name, single use of tokens on this node.
//! Must never know: mailboxes, messages, where a password is kept. Whoever holds those asks this module to judge.
//! Invariants: a secret never reaches a log, an error or `Debug`; comparisons of secrets take the same time whatever
//! they find; a token that was judged good once is never judged good again while its timestamp is valid.

pub mod certificate;
pub mod nhsmesh;
pub mod nonces;

use crate::base::OdsCode;
use crate::http::ClientCertificate;
use std::sync::Arc;

/// Who asks, as proved by the certificate, the token or both. Made only by code that has checked the proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name that the audit keeps: a mailbox, or a certificate's common name.
    pub actor: String,
    /// Organisation, where the proof names one.
    pub organisation: Option<OdsCode>,
    /// The certificate of the connection; `None` only in the sandbox.
    pub certificate: Option<Arc<ClientCertificate>>,
}
