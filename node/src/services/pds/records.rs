//! Records by number: which one answers for a number, its bytes out of the log, and the way of a change into it. The API,
//! the operator's calls and the bulk loads all go through here.

use super::Security;
use super::command::{Command, Outcome, PutPatient, Refusal};
use super::matching::Card;
use super::record::Kept;
use super::state::{self, Part, Record};
use super::{record, rules};
use crate::base::NhsNumber;
use crate::ledger::Ledger;
use crate::log::{Log, ProposeError};
use bytes::Bytes;
use jiff::civil::Date;
use serde_json::Value;

/// How many records may supersede one another in a row.
const SUCCESSORS_MAX: usize = 8;

/// Where records are; cheap to clone.
#[derive(Clone)]
pub struct Records {
    /// Their bytes, and the way in.
    pub log: Log,
    /// Everything else.
    pub ledger: Ledger,
}

/// One version of a record, and whose.
#[derive(Clone, Debug)]
pub struct Numbered {
    /// Its own number.
    pub number: NhsNumber,
    /// The version.
    pub record: Record,
}

/// A patient's kept parts.
pub struct Parts {
    /// What anybody may see who may see the record.
    pub open: Bytes,
    /// What tells where the patient is.
    pub place: Bytes,
}

/// A version of a patient on its way into the log, and its JSON as it will be kept.
pub struct NewVersion {
    /// What is stored of it.
    pub put: PutPatient,
    /// Its JSON.
    pub kept: Kept,
}

impl NewVersion {
    /// A version of `patient` that follows version `follows` of the record; 0 makes the record. Found by the keys that it has
    /// `today`. Whether it may be as large as it is, is for the caller to judge.
    pub fn of(
        number: NhsNumber,
        follows: u32,
        (security, superseded_by): (Security, Option<NhsNumber>),
        patient: &Value,
        today: Date,
    ) -> NewVersion {
        let kept = record::keep(number, security, superseded_by, patient);
        let card = Card::of(patient, security, today);
        let put = PutPatient {
            number,
            follows,
            once: None,
            security,
            superseded_by,
            digest: kept.digest,
            open_bytes: kept.open_bytes(),
            place_bytes: kept.place_bytes,
            card: card.encode(),
            keys: card.keys(),
            guard: None,
        };
        NewVersion { put, kept }
    }

    /// The command, and the JSON that goes behind it.
    pub fn command(self) -> (Command, Kept) {
        (Command::PutPatient(Box::new(self.put)), self.kept)
    }
}

/// A write that is in the log.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// Whose record.
    pub number: NhsNumber,
    /// The version that it made.
    pub version: u32,
    /// It was there before: the same request came twice.
    pub repeated: bool,
}

/// Why there is no record to be had, or no change made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    /// No record of this number, or not of this version.
    #[error("there is no such record")]
    NotFound,
    /// It was invalidated, and nothing took its place.
    #[error("the record was invalidated and no other took its place")]
    Invalidated,
    /// The bytes cannot be read, or are not this record's: nothing else is served instead.
    #[error("the record cannot be read; the node's log says why")]
    Unreadable,
    /// Refused in the log.
    #[error("the change was refused in the log")]
    Refused(Refusal),
    /// The log did not take it, or its outcome is not known.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

impl Records {
    /// The record that answers for `number`: its own, or the one that supersedes it.
    ///
    /// # Errors
    /// `NotFound`, `Invalidated`.
    pub fn current(&self, number: NhsNumber) -> Result<Numbered, RecordsError> {
        let mut number = number;
        for _ in 0..=SUCCESSORS_MAX {
            let record = state::record(&self.ledger, number).ok_or(RecordsError::NotFound)?;
            match (record.superseded_by, record.security) {
                (Some(successor), _) => number = successor,
                (None, Security::Redacted) => return Err(RecordsError::Invalidated),
                (None, Security::Unrestricted | Security::Restricted | Security::VeryRestricted) => {
                    return Ok(Numbered { number, record });
                }
            }
        }
        Err(RecordsError::NotFound)
    }

    /// The record of exactly this number, whatever became of it; of its current version or the one asked for.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn exactly(&self, number: NhsNumber, version: Option<u32>) -> Result<Numbered, RecordsError> {
        let record = match version {
            None => state::record(&self.ledger, number),
            Some(version) => state::version(&self.ledger, number, version),
        };
        let record = record.ok_or(RecordsError::NotFound)?;
        Ok(Numbered { number, record })
    }

    /// One part of a record out of the log.
    ///
    /// # Errors
    /// `Unreadable`.
    pub async fn part(&self, number: NhsNumber, part: Part) -> Result<Bytes, RecordsError> {
        let command = self.log.command(part.entry).await.map_err(|cause| {
            tracing::error!(%cause, index = part.entry, "a record could not be read; run `vertebra verify --deep`");
            RecordsError::Unreadable
        })?;
        Command::tail_of(&command, number, part.bytes as usize).ok_or_else(|| {
            let index = part.entry;
            tracing::error!(
                index,
                "a log entry is not the record that the ledger says; run `vertebra verify --deep`"
            );
            RecordsError::Unreadable
        })
    }

    /// The patient's own part, cut in two.
    ///
    /// # Errors
    /// `Unreadable`.
    pub async fn parts(&self, of: &Numbered) -> Result<Parts, RecordsError> {
        let bytes = self.part(of.number, of.record.patient).await?;
        let at = bytes.len() - of.record.place_bytes as usize;
        Ok(Parts {
            open: bytes.slice(..at),
            place: bytes.slice(at..),
        })
    }

    /// The patient as a client sees it: of a restricted record nothing of the place.
    ///
    /// # Errors
    /// `Unreadable`.
    pub async fn shown(&self, of: &Numbered) -> Result<Bytes, RecordsError> {
        let parts = self.parts(of).await?;
        let Record { version, security, .. } = of.record;
        // A node that is cut off for long does not know which records were restricted since.
        let shows_place = security.is_open() && !self.log.is_stale();
        let place: &[u8] = if shows_place { &parts.place } else { &[] };
        Ok(record::show(of.number, version, security, &parts.open, place))
    }

    /// A version as a client may see it *now*: a record that was restricted since shows nothing of the place in its
    /// earlier versions either, which a request that is sent again asks for.
    ///
    /// # Errors
    /// `NotFound`, `Unreadable`.
    pub async fn shown_now(&self, version: &Numbered) -> Result<Bytes, RecordsError> {
        let now = self.exactly(version.number, None)?.record.security;
        if now.is_open() || !version.record.security.is_open() {
            return self.shown(version).await;
        }
        let mut patient = self.whole(version).await?;
        rules::restrict(&mut patient);
        let (kept, number) = (version.record.version, version.number);
        let shown = record::keep(number, now, None, &patient);
        Ok(record::show(
            number,
            kept,
            now,
            &shown.bytes[..shown.open_bytes() as usize],
            &[],
        ))
    }

    /// The whole patient, for changing it, for operators and exports.
    ///
    /// # Errors
    /// `Unreadable`.
    pub async fn whole(&self, of: &Numbered) -> Result<Value, RecordsError> {
        let parts = self.parts(of).await?;
        let Record { version, security, .. } = of.record;
        Ok(record::whole(of.number, version, security, &parts.open, &parts.place))
    }

    /// Proposes a command and gives what it stored.
    ///
    /// # Errors
    /// `Propose`, `Refused`.
    pub async fn propose(&self, command: &Command, tail: &[u8]) -> Result<Stored, RecordsError> {
        let applied = self.log.propose(command.encode(tail)).await?;
        match Outcome::decode(&applied.outcome) {
            Ok(Outcome::Stored {
                number,
                version,
                repeated,
                ..
            }) => Ok(Stored {
                number,
                version,
                repeated,
            }),
            Ok(Outcome::Refused(refusal)) => Err(RecordsError::Refused(refusal)),
            // Applied by a newer release than this node runs: done, but what came of it cannot be read here.
            Err(_) => Err(ProposeError::Unknown.into()),
        }
    }
}
