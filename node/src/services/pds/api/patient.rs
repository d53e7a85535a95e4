//! One patient: read, change, create.

use super::access::{Access, Grant};
use super::answer;
use super::asked::Asked;
use super::failure::{Failure, mismatch};
use super::{Answer, BODY_BYTES_MAX, Pds};
use crate::base::NhsNumber;
use crate::http::RequestBody;
use crate::services::pds::Security;
use crate::services::pds::command::{Once, Refusal};
use crate::services::pds::matching::Card;
use crate::services::pds::matching::creating::twins;
use crate::services::pds::outcome::{Code, Issue};
use crate::services::pds::record::{self, Kept, PATIENT_BYTES_MAX};
use crate::services::pds::records::{NewVersion, RecordsError, Stored};
use crate::services::pds::{rules, state};
use ::http::{HeaderValue, StatusCode, header};
use serde_json::Value;

/// How often a create looks again when somebody else created the same person, or took the number, in between.
const CREATE_ATTEMPTS_MAX: usize = 16;

/// The number in a path or body.
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

impl Pds {
    /// GET /Patient/{id}
    pub(super) async fn read(&self, asked: &Asked, grant: Grant) -> Result<Answer, Failure> {
        let number = grant.of(number(&asked.id)?)?;
        let current = self.records.current(number)?;
        let body = self.records.shown(&current).await?;
        let response = answer::resource(StatusCode::OK, current.record.version, body);
        Ok(Answer::about(response, current.number))
    }

    /// PATCH /Patient/{id}
    pub(super) async fn update(
        &self,
        asked: &Asked,
        access: &Access,
        grant: Grant,
        body: RequestBody,
    ) -> Result<Answer, Failure> {
        let number = grant.of(number(&asked.id)?)?;
        let follows = asked.if_match()?;
        must_be(asked, &["application/json-patch+json"])?;
        let body = body.collect(BODY_BYTES_MAX).await?;
        // Looked up before the earlier answer is, so that of two requests sent at once one finds the other's. By the number
        // that was asked for: what is sent again after another record took the number's place is still the same request.
        let current = self.records.current(number);
        let once = asked.once(
            &access.who(),
            "update",
            &number.to_string(),
            &[&follows.to_be_bytes(), &body],
        );
        if let Some(earlier) = self.earlier(&once)? {
            return self.answer_with(StatusCode::OK, earlier).await;
        }
        let current = current?;
        if current.number != number {
            let what = "another record took the place of this NHS number; read it, and change it under its own number";
            return Err(Issue::new(Code::ResourceVersionMismatch, what).into());
        }
        if !current.record.security.is_open() {
            let what = "this record is restricted; only the National Back Office changes it";
            return Err(Issue::new(Code::ForbiddenUpdate, what).into());
        }
        if current.record.version != follows {
            return Err(mismatch());
        }
        let patches: Value = serde_json::from_slice(&body).map_err(|_| {
            Failure::from(Issue::new(
                Code::InvalidUpdate,
                "the body is not JSON; send {\"patches\": [...]}",
            ))
        })?;
        let before = self.records.whole(&current).await?;
        let after = rules::patch(
            &before,
            &patches,
            access.mode(),
            self.today(),
            &answer::moment(self.clock.now()),
            &mut element_id,
        )?;
        let mut new = self.version(current.number, follows, &after)?;
        new.put.once = Some(once);
        let (command, kept) = new.command();
        let stored = self.records.propose(&command, &kept.bytes).await?;
        self.answer_put(StatusCode::OK, stored, &kept).await
    }

    /// POST /Patient
    pub(super) async fn create(&self, asked: &Asked, access: &Access, body: RequestBody) -> Result<Answer, Failure> {
        must_be(asked, &["application/json", "application/fhir+json"])?;
        let body = body.collect(BODY_BYTES_MAX).await?;
        let once = asked.once(&access.who(), "create", "", &[&body]);
        if let Some(earlier) = self.earlier(&once)? {
            return self.answer_with(StatusCode::CREATED, earlier).await;
        }
        let sent: Value = serde_json::from_slice(&body).map_err(|_| {
            Failure::from(Issue::new(
                Code::ValidationError,
                "the body is not JSON; send a Patient resource",
            ))
        })?;
        let patient = rules::create(&sent, self.today(), &mut element_id)?;
        let card = Card::of(&patient, Security::Unrestricted, self.today());
        for _ in 0..CREATE_ATTEMPTS_MAX {
            let (found, guard) = twins(&self.records.ledger, &card);
            if let Some(failure) = matched(&found) {
                // The twin may be the patient that this very request made, sent a moment ago on another connection.
                return match self.earlier(&once)? {
                    Some(earlier) => self.answer_with(StatusCode::CREATED, earlier).await,
                    None => Err(failure),
                };
            }
            let mut new = self.version(self.free_number(), 0, &patient)?;
            new.put.once = Some(once.clone());
            new.put.guard = Some(guard);
            let (command, kept) = new.command();
            match self.records.propose(&command, &kept.bytes).await {
                Ok(stored) => return self.answer_put(StatusCode::CREATED, stored, &kept).await,
                // Somebody came between: the number is taken, or the same person may be there by now.
                Err(RecordsError::Refused(Refusal::Exists { .. } | Refusal::Raced)) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Err(RecordsError::Refused(Refusal::Raced).into())
    }

    /// What an earlier request with this identifier stored.
    ///
    /// # Errors
    /// INVALID_VALUE when that one said something else.
    pub(super) fn earlier(&self, once: &Once) -> Result<Option<Stored>, Failure> {
        match state::answered(&self.records.ledger, self.records.log.time(), &once.key) {
            None => Ok(None),
            Some(answered) if answered.content == once.content => Ok(Some(Stored {
                number: answered.number,
                version: answered.version,
                repeated: true,
            })),
            Some(_) => Err(RecordsError::Refused(Refusal::RequestReused).into()),
        }
    }

    /// The answer to a write: the version that it stored, also when that is no longer the current one.
    async fn answer_with(&self, status: StatusCode, stored: Stored) -> Result<Answer, Failure> {
        let version = self.records.exactly(stored.number, Some(stored.version))?;
        let body = self.records.shown_now(&version).await?;
        Ok(self.answer_bytes(status, stored, body))
    }

    /// The same, out of the bytes that were stored just now.
    async fn answer_put(&self, status: StatusCode, stored: Stored, kept: &Kept) -> Result<Answer, Failure> {
        if stored.repeated {
            return self.answer_with(status, stored).await;
        }
        let (open, place) = kept.bytes.split_at(kept.open_bytes() as usize);
        let body = record::show(stored.number, stored.version, Security::Unrestricted, open, place);
        Ok(self.answer_bytes(status, stored, body))
    }

    fn answer_bytes(&self, status: StatusCode, stored: Stored, body: bytes::Bytes) -> Answer {
        let mut response = answer::resource(status, stored.version, body);
        if status == StatusCode::CREATED {
            let location = format!("{}/Patient/{}", super::routes::BASE, stored.number);
            let location = HeaderValue::from_str(&location).expect("a path of digits is a header value");
            response.headers_mut().insert(header::LOCATION, location);
        }
        Answer {
            repeated: stored.repeated,
            ..Answer::about(response, stored.number)
        }
    }

    /// The version of an unrestricted patient that a client makes.
    ///
    /// # Errors
    /// TOO_MANY_VALUES_SUBMITTED when the whole is too large.
    fn version(&self, number: NhsNumber, follows: u32, patient: &Value) -> Result<NewVersion, Failure> {
        let new = NewVersion::of(number, follows, (Security::Unrestricted, None), patient, self.today());
        if new.kept.bytes.len() > PATIENT_BYTES_MAX {
            let what = format!("the record would be larger than {PATIENT_BYTES_MAX} bytes; remove what is outdated");
            return Err(Issue::new(Code::TooManyValuesSubmitted, what).into());
        }
        Ok(new)
    }

    /// A number that nobody has yet; whether that is still so is judged in the log.
    fn free_number(&self) -> NhsNumber {
        let (first, last) = self.numbers;
        loop {
            let nine = rand::random_range(first..=last);
            if let Some(number) = NhsNumber::with_check_digit(nine)
                && state::record(&self.records.ledger, number).is_none()
            {
                return number;
            }
        }
    }
}

/// Identifier of a new element in a list: eight hexadecimal digits.
fn element_id() -> String {
    format!("{:08X}", rand::random::<u32>())
}

/// Refuses a body of another type.
pub(super) fn must_be(asked: &Asked, types: &[&str]) -> Result<(), Failure> {
    let sent = asked
        .head
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let sent = sent
        .and_then(|text| text.split(';').next())
        .map(str::trim)
        .unwrap_or_default();
    if types.iter().any(|wanted| sent.eq_ignore_ascii_case(wanted)) {
        Ok(())
    } else {
        let what = format!("the header Content-Type must be {}", types.join(" or "));
        Err(Issue::new(Code::InvalidValue, what).into())
    }
}

/// Why a person is not created a second time.
fn matched(found: &[NhsNumber]) -> Option<Failure> {
    match found {
        [] => None,
        [number] => {
            let what = format!("the patient is not created: one record matches, NHS number {number}; use that one");
            Some(Issue::new(Code::SingleMatch, what).into())
        }
        [_, _, ..] => {
            let what = "the patient is not created: several records match; search for the patient and choose one";
            Some(Issue::new(Code::MultipleMatches, what).into())
        }
    }
}
