//! Patients, as the National Back Office sees them: every version of a record, and marks on it.

use super::directory::parse;
use super::{Admin, Answer, Refused};
use crate::base::{NhsNumber, RequestId};
use crate::log::ProposeError;
use crate::services::pds::office::{Mark, MarkError, NhsNumberText};
use crate::services::pds::records::{Numbered, Records, RecordsError};
use crate::services::pds::today;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Versions in one answer.
const VERSIONS_MAX: usize = 1_000;

/// What to show of a patient.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Whose.
    pub number: NhsNumberText,
    /// Which version; the current one when it is left out. In a history: only those before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
}

/// What to do with a patient's record.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marking {
    /// Whose.
    pub number: NhsNumberText,
    /// What.
    pub mark: Mark,
}

/// A version of a record, without its content.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionView {
    /// Whose.
    pub number: String,
    /// Which.
    pub version: u32,
    /// Since when, ISO.
    pub at: String,
    /// `U`, `R`, `V`, `REDACTED`.
    pub security: String,
    /// The record that took its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<String>,
    /// BLAKE3 of its content, hexadecimal: equal versions say the same.
    pub digest: String,
}

impl std::fmt::Debug for VersionView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VersionView({})", self.version)
    }
}

impl VersionView {
    fn of(version: &Numbered) -> VersionView {
        let record = &version.record;
        VersionView {
            number: version.number.to_string(),
            version: record.version,
            at: record.at.iso(),
            security: record.security.code().to_owned(),
            superseded_by: record.superseded_by.map(|number| number.to_string()),
            digest: hex::encode(record.patient.digest.0),
        }
    }
}

impl Admin {
    fn records(&self) -> Records {
        Records {
            log: self.log.clone(),
            ledger: self.ledger.clone(),
        }
    }

    /// The versions of a record, newest first.
    pub(super) async fn patient_history(&self, body: &[u8], id: RequestId) -> Result<Answer, Refused> {
        let wanted: Wanted = parse(body)?;
        let number = wanted.number.0;
        let versions = self.records().history(number, wanted.version, VERSIONS_MAX);
        let versions = self
            .told(
                id,
                "admin.patient.history",
                number,
                versions.map_err(MarkError::Records),
            )
            .await?;
        let views: Vec<VersionView> = versions.iter().map(VersionView::of).collect();
        let more = views.len() == VERSIONS_MAX && views.last().is_some_and(|oldest| oldest.version > 1);
        Ok(Answer::ok(&json!({ "versions": views, "more": more })))
    }

    /// One version, whole.
    pub(super) async fn patient_show(&self, body: &[u8], id: RequestId) -> Result<Answer, Refused> {
        let wanted: Wanted = parse(body)?;
        let number = wanted.number.0;
        let shown = self.patient_whole(number, wanted.version).await;
        let (version, patient) = self
            .told(id, "admin.patient.show", number, shown.map_err(MarkError::Records))
            .await?;
        Ok(Answer::ok(
            &json!({ "version": VersionView::of(&version), "patient": patient }),
        ))
    }

    async fn patient_whole(&self, number: NhsNumber, version: Option<u32>) -> Result<(Numbered, Value), RecordsError> {
        let records = self.records();
        let version = records.exactly(number, version)?;
        let patient = records.whole(&version).await?;
        Ok((version, patient))
    }

    /// Restricts, opens, invalidates or supersedes a record.
    pub(super) async fn patient_mark(&self, body: &[u8], id: RequestId) -> Result<Answer, Refused> {
        let marking: Marking = parse(body)?;
        let number = marking.number.0;
        let records = self.records();
        let marked = records.mark(number, marking.mark, today(self.clock.now())).await;
        let stored = self.told(id, "admin.patient.mark", number, marked).await?;
        let version = records
            .exactly(number, Some(stored.version))
            .map_err(|_| Refused::Failed)?;
        Ok(Answer::ok(&VersionView::of(&version)))
    }

    /// Puts a look or a mark on the record, whatever came of it, and gives what came of it.
    async fn told<T>(
        &self,
        id: RequestId,
        action: &str,
        number: NhsNumber,
        result: Result<T, MarkError>,
    ) -> Result<T, Refused> {
        let result = result.map_err(refused);
        let outcome = match &result {
            Ok(_) => "200".to_owned(),
            Err(refused) => {
                let (code, status) = refused.code();
                format!("{} {code}", status.as_str())
            }
        };
        self.record(id, action, &number.to_string(), &outcome).await?;
        result
    }
}

fn refused(error: MarkError) -> Refused {
    match error {
        MarkError::Records(RecordsError::NotFound) => {
            Refused::Unknown("this NHS number, or this version of it,".to_owned())
        }
        MarkError::Records(RecordsError::Propose(error)) => Refused::NotTaken(error),
        MarkError::Records(RecordsError::Refused(_)) => Refused::NotTaken(ProposeError::Overloaded),
        MarkError::Records(RecordsError::Invalidated) => Refused::Judged("the record is invalidated"),
        MarkError::Records(RecordsError::Unreadable) => Refused::Failed,
        MarkError::Successor => Refused::Judged("the other number is not a valid record of another patient"),
    }
}
