//! GET /Patient: search.

use super::access::Access;
use super::answer::Searchset;
use super::asked::Asked;
use super::failure::Failure;
use super::{Answer, Pds};
use crate::services::pds::matching::{Invalid, Match, Mode, PARAMETERS_MAX, Search, search};
use crate::services::pds::outcome::{Code, Issue};
use crate::services::pds::records::RecordsError;
use crate::services::pds::rules;
use bytes::Bytes;

impl Pds {
    /// GET /Patient
    pub(super) async fn search(&self, asked: &Asked, access: &Access) -> Result<Answer, Failure> {
        let query = asked.head.uri.query().unwrap_or_default();
        // One more than may be is enough to be refused.
        let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes())
            .take(PARAMETERS_MAX + 1)
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        let mode = if access.is_application() {
            Mode::Application
        } else {
            Mode::Worker
        };
        let wanted = Search::parse(&pairs, mode).map_err(refused)?;
        if wanted.asks_for_a_place() && self.records.log.is_stale() {
            let what = "this node is cut off and does not know which records were restricted since; search without postcode, \
                        practice, email and phone, or ask another node";
            return Err(Issue::new(Code::ServiceUnavailable, what).into());
        }
        let Ok(matches) = search(&self.records.ledger, &wanted) else {
            let what = "too many patients match; add what narrows the search";
            return Err(Issue::new(Code::TooManyMatches, what).into());
        };
        let mut bundle = Searchset::new();
        let mut subject = String::new();
        for found in &matches {
            if let Some(shown) = self.found(found).await? {
                if !subject.is_empty() {
                    subject.push(' ');
                }
                subject.push_str(&found.number.to_string());
                let url = format!("{}/Patient/{}", self.base_url, found.number);
                bundle.add(&url, found.score.fraction(), &rules::search_view(&shown));
            }
        }
        Ok(Answer::new(bundle.response(self.clock.now()), subject))
    }

    /// The record of a match; `None` when it was changed or withdrawn while the search ran.
    async fn found(&self, found: &Match) -> Result<Option<Bytes>, Failure> {
        let current = match self.records.exactly(found.number, None) {
            Ok(current) => current,
            Err(RecordsError::NotFound) => return Ok(None),
            Err(other) => return Err(other.into()),
        };
        if !current.record.security.is_found() || current.record.superseded_by.is_some() {
            return Ok(None);
        }
        Ok(Some(self.records.shown(&current).await?))
    }
}

/// What a search that cannot be meant is told.
fn refused(invalid: Invalid) -> Failure {
    let code = match invalid {
        Invalid::Nothing => Code::UnsupportedService,
        Invalid::Unknown { .. } => Code::AdditionalProperties,
        Invalid::Empty { .. } => Code::MissingValue,
        Invalid::TooMany | Invalid::Repeated { .. } | Invalid::Value { .. } => Code::InvalidValue,
        Invalid::OneResultOnly => Code::InvalidValueForbidden,
        Invalid::Combination(_) => Code::InvalidSearchData,
    };
    Issue::new(code, invalid.to_string()).into()
}
