//! What the National Back Office does to records: restrict them, invalidate them, put one in another's place; and every
//! version that a record ever had. Operators reach it through the admin door alone.

use super::Security;
use super::command::Refusal;
use super::records::{NewVersion, Numbered, Records, RecordsError, Stored};
use super::state;
use crate::base::NhsNumber;
use serde::{Deserialize, Serialize};

/// How often a mark is tried again when the record changed in between.
const ATTEMPTS_MAX: usize = 8;

/// What is done to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Mark {
    /// Shown whole again.
    Open,
    /// `R`.
    Restrict,
    /// `V`.
    RestrictVery,
    /// `REDACTED`: the number is no longer valid.
    Invalidate,
    /// The record `by` takes its place; its own is invalidated.
    Supersede {
        /// The record that stays.
        by: NhsNumberText,
    },
}

/// An NHS number as text in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NhsNumberText(pub NhsNumber);

impl TryFrom<String> for NhsNumberText {
    type Error = &'static str;

    fn try_from(text: String) -> Result<NhsNumberText, Self::Error> {
        NhsNumber::parse(&text)
            .map(NhsNumberText)
            .ok_or("is not ten digits with a sound check digit")
    }
}

impl From<NhsNumberText> for String {
    fn from(number: NhsNumberText) -> String {
        number.0.to_string()
    }
}

/// Why a mark was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MarkError {
    /// As of the record.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The record that should take the place is not there, is invalidated, or is superseded by this one.
    #[error("the record that is to take its place is not a valid one of another patient")]
    Successor,
}

impl Records {
    /// Makes a mark: a new version of the record, its content as it was.
    ///
    /// # Errors
    /// `Records` when there is no such record or the log does not take it; `Successor`.
    pub async fn mark(&self, number: NhsNumber, mark: Mark, today: jiff::civil::Date) -> Result<Stored, MarkError> {
        let mut last = RecordsError::NotFound;
        for _ in 0..ATTEMPTS_MAX {
            let before = self.exactly(number, None)?;
            let (security, superseded_by) = match mark {
                Mark::Open => (Security::Unrestricted, None),
                Mark::Restrict => (Security::Restricted, None),
                Mark::RestrictVery => (Security::VeryRestricted, None),
                Mark::Invalidate => (Security::Redacted, None),
                Mark::Supersede { by } => (Security::Redacted, Some(self.successor(number, by.0)?)),
            };
            let patient = self.whole(&before).await?;
            let follows = before.record.version;
            let (command, kept) = NewVersion::of(number, follows, (security, superseded_by), &patient, today).command();
            match self.propose(&command, &kept.bytes).await {
                Err(error @ RecordsError::Refused(Refusal::VersionMismatch { .. })) => last = error,
                other => return Ok(other?),
            }
        }
        Err(last.into())
    }

    /// The record that takes another's place must be one that answers for itself.
    fn successor(&self, number: NhsNumber, by: NhsNumber) -> Result<NhsNumber, MarkError> {
        match self.current(by) {
            Ok(current) if current.number == by && by != number => Ok(by),
            Ok(_) | Err(_) => Err(MarkError::Successor),
        }
    }

    /// The versions of a record below `before`, newest first, at most `max`.
    ///
    /// # Errors
    /// `NotFound` when there is no record of this number.
    pub fn history(&self, number: NhsNumber, before: Option<u32>, max: usize) -> Result<Vec<Numbered>, RecordsError> {
        self.exactly(number, None)?;
        let versions = state::versions(&self.ledger, number, before, max);
        Ok(versions.into_iter().map(|record| Numbered { number, record }).collect())
    }
}
