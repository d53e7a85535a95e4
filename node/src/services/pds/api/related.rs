//! What hangs on a patient: related people and coverage.

use super::access::{Access, Grant};
use super::answer;
use super::asked::Asked;
use super::failure::Failure;
use super::patient::{must_be, number};
use super::{Answer, BODY_BYTES_MAX, Pds};
use crate::base::{Digest, NhsNumber};
use crate::http::RequestBody;
use crate::services::pds::command::Command;
use crate::services::pds::outcome::{Code, Issue};
use crate::services::pds::records::{Numbered, Stored};
use crate::services::pds::rules;
use ::http::StatusCode;
use serde_json::{Value, json};

/// The one parameter of GET /Coverage.
const SUBSCRIBER: &str = "subscriber:identifier";

impl Pds {
    /// GET /Patient/{id}/RelatedPerson
    pub(super) async fn related(&self, asked: &Asked, grant: Grant) -> Result<Answer, Failure> {
        let number = grant.of(number(&asked.id)?)?;
        let current = self.records.current(number)?;
        let shown = current.record.security.is_open() && !self.records.log.is_stale();
        let people: Vec<Value> = match current.record.related.filter(|_| shown) {
            None => Vec::new(),
            Some(part) => {
                let bytes = self.records.part(current.number, part).await?;
                serde_json::from_slice(&bytes).expect("kept parts are JSON")
            }
        };
        let url = format!("{}/Patient/{}/RelatedPerson", self.base_url, current.number);
        let entries = people
            .into_iter()
            .map(|person| {
                let id = person.get("id").and_then(Value::as_str).unwrap_or_default();
                json!({ "fullUrl": format!("{url}/{id}"), "resource": person })
            })
            .collect();
        let response = answer::json(StatusCode::OK, &answer::bundle(self.clock.now(), entries));
        let response = answer::with_version(response, current.record.version);
        Ok(Answer::about(response, current.number))
    }

    /// GET /Coverage
    pub(super) async fn read_coverage(&self, asked: &Asked, grant: Grant) -> Result<Answer, Failure> {
        let number = grant.of(subscriber(asked)?)?;
        let current = self.records.current(number)?;
        let response = self.coverage_of(StatusCode::OK, &current).await?;
        Ok(Answer::about(response, current.number))
    }

    /// POST /Coverage
    pub(super) async fn put_coverage(
        &self,
        asked: &Asked,
        access: &Access,
        grant: Grant,
        body: RequestBody,
    ) -> Result<Answer, Failure> {
        let follows = asked.if_match()?;
        must_be(
            asked,
            &[
                "application/json",
                "application/fhir+json",
                "application/json-patch+json",
            ],
        )?;
        let body = body.collect(BODY_BYTES_MAX).await?;
        let sent: Value = serde_json::from_slice(&body).map_err(|_| {
            Failure::from(Issue::new(
                Code::InvalidUpdate,
                "the body is not JSON; send a Coverage resource",
            ))
        })?;
        let (subscriber, coverage) = rules::coverage(&sent, self.today())?;
        let number = grant.of(number(&subscriber)?)?;
        let current = self.records.current(number);
        let once = asked.once(
            &access.who(),
            "coverage",
            &number.to_string(),
            &[&follows.to_be_bytes(), &body],
        );
        let stored = match self.earlier(&once)? {
            Some(earlier) => earlier,
            None => {
                let current = current?;
                if !current.record.security.is_open() {
                    let what = "this record is restricted; only the National Back Office changes it";
                    return Err(Issue::new(Code::ForbiddenUpdate, what).into());
                }
                let tail = serde_json::to_vec(&coverage).expect("JSON serialises into memory");
                let command = Command::PutCoverage {
                    number: current.number,
                    follows,
                    once: Some(once),
                    bytes: u32::try_from(tail.len()).expect("a body is bounded"),
                    digest: Digest::of(&tail),
                };
                self.records.propose(&command, &tail).await?
            }
        };
        self.coverage_answer(stored).await
    }

    async fn coverage_answer(&self, stored: Stored) -> Result<Answer, Failure> {
        let current = self.records.exactly(stored.number, Some(stored.version))?;
        let response = self.coverage_of(StatusCode::CREATED, &current).await?;
        Ok(Answer {
            repeated: stored.repeated,
            ..Answer::about(response, stored.number)
        })
    }

    /// The bundle with a record's coverage, or without any.
    async fn coverage_of(&self, status: StatusCode, current: &Numbered) -> Result<crate::http::Response, Failure> {
        let version = current.record.version;
        let entries = match current.record.coverage {
            None => Vec::new(),
            Some(part) => {
                let bytes = self.records.part(current.number, part).await?;
                let coverage: Value = serde_json::from_slice(&bytes).expect("kept parts are JSON");
                let url = format!("{}/Coverage?{SUBSCRIBER}={}", self.base_url, current.number);
                vec![json!({ "fullUrl": url, "resource": coverage })]
            }
        };
        let mut bundle = answer::bundle(self.clock.now(), entries);
        bundle["meta"] = json!({ "versionId": version.to_string() });
        Ok(answer::with_version(answer::json(status, &bundle), version))
    }
}

/// The number in the query of GET /Coverage.
///
/// # Errors
/// MISSING_VALUE without the parameter, INVALID_SEARCH_DATA with others or with several, INVALID_RESOURCE_ID.
fn subscriber(asked: &Asked) -> Result<NhsNumber, Failure> {
    let query = asked.head.uri.query().unwrap_or_default();
    let mut wanted = None;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name != SUBSCRIBER || wanted.is_some() {
            let what = format!("the query takes `{SUBSCRIBER}` once and nothing else; remove the rest");
            return Err(Issue::new(Code::InvalidSearchData, what).into());
        }
        wanted = Some(value.into_owned());
    }
    match wanted.filter(|value| !value.is_empty()) {
        Some(value) => number(&value),
        None => {
            let what = format!("the query parameter `{SUBSCRIBER}` is missing; send the patient's NHS number in it");
            Err(Issue::new(Code::MissingValue, what).into())
        }
    }
}
