//! Records by number: which one answers for a number, its bytes out of the log, and the way of a change into it.

use super::Pds;
use super::failure::Failure;
use crate::base::NhsNumber;
use crate::services::pds::Security;
use crate::services::pds::command::{Command, Outcome, Refusal};
use crate::services::pds::outcome::{Code, Issue};
use crate::services::pds::record;
use crate::services::pds::state::{self, Part, Record};
use bytes::Bytes;
use serde_json::Value;

/// How many records may supersede one another in a row.
const SUCCESSORS_MAX: usize = 8;

/// A record that answers for a number.
pub(super) struct Current {
    /// Its own number.
    pub number: NhsNumber,
    pub record: Record,
}

/// A patient's kept parts.
pub(super) struct Parts {
    open: Bytes,
    place: Bytes,
}

impl Pds {
    /// The number in a path or query.
    ///
    /// # Errors
    /// UNSUPPORTED_SERVICE without one, INVALID_RESOURCE_ID when it is none.
    pub(super) fn number(text: &str) -> Result<NhsNumber, Failure> {
        if text.is_empty() {
            let what = "the NHS number is missing; put it behind the last / of the path";
            return Err(Issue::new(Code::UnsupportedService, what).into());
        }
        NhsNumber::parse(text).ok_or_else(|| {
            let what = "the NHS number is not ten digits with a sound check digit; correct it";
            Issue::new(Code::InvalidResourceId, what).into()
        })
    }

    /// The record that answers for `number`: its own, or the one that supersedes it.
    ///
    /// # Errors
    /// RESOURCE_NOT_FOUND when there is none, INVALIDATED_RESOURCE when it was invalidated and nothing took its place.
    pub(super) fn current(&self, number: NhsNumber) -> Result<Current, Failure> {
        let mut number = number;
        for _ in 0..=SUCCESSORS_MAX {
            let Some(record) = state::record(&self.ledger, number) else {
                break;
            };
            match (record.superseded_by, record.security) {
                (Some(successor), _) => number = successor,
                (None, Security::Redacted) => {
                    let what = "the record of this NHS number was invalidated, and no other took its place";
                    return Err(Issue::new(Code::InvalidatedResource, what).into());
                }
                (None, Security::Unrestricted | Security::Restricted | Security::VeryRestricted) => {
                    return Ok(Current { number, record });
                }
            }
        }
        Err(not_found())
    }

    /// One part of a record out of the log.
    ///
    /// # Errors
    /// SERVICE_UNAVAILABLE when the bytes cannot be read or are not this record's: nothing else is served instead.
    pub(super) async fn part(&self, number: NhsNumber, part: Part) -> Result<Bytes, Failure> {
        let command = self.log.command(part.entry).await.map_err(|cause| {
            tracing::error!(%cause, index = part.entry, "a patient's record could not be read; run `vertebra verify --deep`");
            unreadable()
        })?;
        Command::tail_of(&command, number, part.bytes as usize).ok_or_else(|| {
            tracing::error!(index = part.entry, "a log entry is not the record that the ledger says; run `vertebra verify --deep`");
            unreadable()
        })
    }

    /// The patient's own part.
    pub(super) async fn parts(&self, current: &Current) -> Result<Parts, Failure> {
        let bytes = self.part(current.number, current.record.patient).await?;
        let at = bytes.len() - current.record.place_bytes as usize;
        Ok(Parts {
            open: bytes.slice(..at),
            place: bytes.slice(at..),
        })
    }

    /// The patient as any client sees it.
    pub(super) async fn shown(&self, current: &Current) -> Result<Bytes, Failure> {
        let parts = self.parts(current).await?;
        let Record { version, security, .. } = current.record;
        let place: &[u8] = if security.is_open() { &parts.place } else { &[] };
        Ok(record::show(current.number, version, security, &parts.open, place))
    }

    /// The whole patient, for changing it.
    pub(super) async fn whole(&self, current: &Current) -> Result<Value, Failure> {
        let parts = self.parts(current).await?;
        let Record { version, security, .. } = current.record;
        Ok(record::whole(current.number, version, security, &parts.open, &parts.place))
    }

    /// The record as it was stored under a version.
    pub(super) fn version(&self, number: NhsNumber, version: u32) -> Result<Current, Failure> {
        let record = state::version(&self.ledger, number, version).ok_or_else(not_found)?;
        Ok(Current { number, record })
    }

    /// Proposes a command; what is refused in the log is the caller's to tell.
    ///
    /// # Errors
    /// SERVICE_UNAVAILABLE when it was not taken or its outcome is not known.
    pub(super) async fn propose(&self, command: &Command, tail: &[u8]) -> Result<Result<Stored, Refusal>, Failure> {
        let applied = self.log.propose(command.encode(tail)).await?;
        match Outcome::decode(&applied.outcome) {
            Ok(Outcome::Stored {
                number,
                version,
                repeated,
                ..
            }) => Ok(Ok(Stored {
                number,
                version,
                repeated,
            })),
            Ok(Outcome::Refused(refusal)) => Ok(Err(refusal)),
            // Applied by a newer release than this node runs: done, but what came of it cannot be read here.
            Err(_) => Err(crate::log::ProposeError::Unknown.into()),
        }
    }
}

/// A write that is in the log.
pub(super) struct Stored {
    pub number: NhsNumber,
    pub version: u32,
    /// It was there before: the same request came twice.
    pub repeated: bool,
}

fn not_found() -> Failure {
    let what = "there is no record of this NHS number; search for the patient";
    Issue::new(Code::ResourceNotFound, what).into()
}

fn unreadable() -> Failure {
    let what = "the record cannot be read at the moment; send the request again later";
    Issue::new(Code::ServiceUnavailable, what).into()
}

/// What a refusal in the log tells the client.
pub(super) fn refused(refusal: Refusal) -> Failure {
    match refusal {
        Refusal::VersionMismatch { .. } => mismatch(),
        Refusal::Exists { .. } | Refusal::Raced => {
            let what = "others changed the same records meanwhile; nothing was changed; send the request again";
            Issue::new(Code::ServiceUnavailable, what).into()
        }
        Refusal::Unknown => not_found(),
        Refusal::RequestReused => {
            let what = "this X-Request-ID came with another request before; use a new UUID for a new request";
            Issue::new(Code::InvalidValue, what).into()
        }
    }
}

/// The version to change is not the current one.
pub(super) fn mismatch() -> Failure {
    let what = "the version in If-Match is not the current one; read the resource again and repeat the change on it";
    Issue::new(Code::ResourceVersionMismatch, what).into()
}
