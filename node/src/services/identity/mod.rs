//! Identity: which clients there are, what each may do, and the access tokens they are given.
//!
//! `command` is what travels in the log, `state` judges it and answers queries, `api` is what clients see
//! (`/oauth2/token`), `access` admits a request with an access token to any service. `FORMAT.md` beside this file lists
//! every table, key, value and command byte for byte.

pub mod access;
pub mod api;
pub mod command;
pub mod state;

use serde::{Deserialize, Serialize};
use std::fmt;

/// A registered client, by its API key: 1 to 64 letters, digits, `_` and `-`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct ClientId(String);

/// Text that is no client's identifier; decoding refuses it, so that no such key ever reaches the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier")]
pub struct NotAnIdentifier;

impl TryFrom<String> for ClientId {
    type Error = NotAnIdentifier;

    fn try_from(text: String) -> Result<ClientId, NotAnIdentifier> {
        ClientId::parse(&text).ok_or(NotAnIdentifier)
    }
}

impl ClientId {
    /// Parses; `None` when empty, longer than 64 or with other characters.
    pub fn parse(text: &str) -> Option<ClientId> {
        let fits = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        fits.then(|| ClientId(text.to_owned()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
