//! Bulk load and unload: batches of NDJSON in, pages of NDJSON out; each is one entry of the audit chain.
//!
//! What a batch says of people goes to the log's commands alone: the audit entry, the answer and the logs have counts,
//! digests and names of elements.

use super::{Admin, Answer, Refused, directory, query_value};
use crate::base::{NhsNumber, RequestId, Timestamp};
use crate::services::pds::load::{BATCH_LINES_MAX, LineResult, Tallies, UnloadError};
use ::http::StatusCode;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The answer to a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchReport {
    /// Log time before the batch, in milliseconds since 1970: `since` of a batch that is sent again.
    pub began_ms: u64,
    /// Lines of the batch.
    pub lines: u64,
    /// Lines that were accepted, as they came.
    pub source: Tallies,
    /// Records stored by this load, as the ledger holds them.
    pub loaded: Tallies,
    /// Records that were there, the same.
    pub already_there: Tallies,
    /// Lines that were not taken.
    pub rejects: Vec<Reject>,
}

/// A line that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// Which line of the batch, from 0.
    pub line: u64,
    /// One word for scripts.
    pub code: String,
    /// A sentence that names the element, never its value.
    pub reason: String,
}

/// What a page of an unload is asked by.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unload {
    /// The last number of the page before; in the body, because addresses end up in logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// The last line of a page: everything before it is resources.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct PageEnd {
    /// What the page holds.
    pub unloaded: Tallies,
    /// `after` of the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl BatchReport {
    fn of(began: Timestamp, results: Vec<LineResult>) -> BatchReport {
        let mut report = BatchReport {
            began_ms: began.ms(),
            lines: results.len() as u64,
            ..BatchReport::default()
        };
        for (line, result) in results.into_iter().enumerate() {
            match result {
                LineResult::Loaded { kind, source, stored } => {
                    report.source.add(kind, source);
                    report.loaded.add(kind, stored);
                }
                LineResult::AlreadyThere { kind, digest } => {
                    report.source.add(kind, digest);
                    report.already_there.add(kind, digest);
                }
                LineResult::Rejected(issue) => report.rejects.push(Reject {
                    line: line as u64,
                    code: issue.code.to_owned(),
                    reason: issue.reason,
                }),
            }
        }
        report
    }

    /// What the audit chain keeps of it.
    fn recorded(&self) -> String {
        format!(
            "lines={} loaded={} there={} rejected={} digest={}",
            self.lines,
            self.loaded.count(),
            self.already_there.count(),
            self.rejects.len(),
            self.source.digest()
        )
    }
}

impl Admin {
    pub(super) async fn load(&self, query: &str, batch: Bytes, id: RequestId) -> Result<Answer, Refused> {
        let since = match query_value(query, "since") {
            None => None,
            Some(text) => match text.parse() {
                Ok(ms) => Some(Timestamp::from_ms(ms)),
                Err(_) => return Err(Refused::Malformed("since is milliseconds since 1970".to_owned())),
            },
        };
        let lines = memchr::memchr_iter(b'\n', &batch).take(BATCH_LINES_MAX + 1).count();
        if lines > BATCH_LINES_MAX {
            return Err(Refused::Malformed(format!(
                "a batch has at most {BATCH_LINES_MAX} lines"
            )));
        }
        let began = self.loader.time();
        match self.loader.load(batch, since).await {
            Ok(results) => {
                let report = BatchReport::of(began, results);
                self.record(id, "admin.load", &report.recorded(), "200").await?;
                Ok(Answer::ok(&report))
            }
            Err(cause) => {
                // A part of it may be stored, so the attempt is on the record as well.
                self.record(id, "admin.load", &format!("lines={lines}"), "503").await?;
                Err(cause.into())
            }
        }
    }

    pub(super) async fn unload(&self, body: &[u8], id: RequestId) -> Result<Answer, Refused> {
        let wanted: Unload = directory::parse(body)?;
        let after = match wanted.after.as_deref() {
            None => None,
            Some(text) => match NhsNumber::parse(text) {
                Some(number) => Some(number),
                None => return Err(Refused::Malformed("after is an NHS number".to_owned())),
            },
        };
        let page = match self.loader.unload(after).await {
            Ok(page) => page,
            Err(UnloadError::Log(cause)) => return Err(cause.into()),
            Err(UnloadError::Damaged) => return Err(Refused::Failed),
        };
        // Before the page leaves: who takes records out is on the record first.
        let recorded = format!("lines={} digest={}", page.tallies.count(), page.tallies.digest());
        self.record(id, "admin.unload", &recorded, "200").await?;
        let end = PageEnd {
            unloaded: page.tallies,
            next: page.next.map(|number| number.to_string()),
        };
        let mut body = String::from_utf8(page.lines).map_err(|_| Refused::Failed)?;
        body.push_str(&serde_json::to_string(&end).expect("a page's end has a JSON form"));
        body.push('\n');
        Ok(Answer {
            status: StatusCode::OK,
            content_type: "application/x-ndjson",
            body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Digest;
    use crate::services::pds::load::{Issue, Kind};

    #[test]
    fn a_batch_is_reported_by_counts_digests_and_line_numbers() {
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let report = BatchReport::of(
            Timestamp::from_ms(7),
            vec![
                LineResult::Rejected(Issue {
                    code: "security",
                    reason: "meta.security is missing".to_owned(),
                }),
                LineResult::Loaded {
                    kind: Kind::Patient,
                    source: one,
                    stored: one,
                },
                LineResult::AlreadyThere {
                    kind: Kind::Coverage,
                    digest: two,
                },
            ],
        );
        assert_eq!((report.began_ms, report.lines, report.source.count()), (7, 3, 2));
        assert_eq!(
            (report.rejects[0].line, report.rejects[0].code.as_str()),
            (0, "security")
        );
        let mut both = report.loaded;
        both.add_all(&report.already_there);
        assert_eq!(both, report.source);
        assert!(
            report
                .recorded()
                .starts_with("lines=3 loaded=1 there=1 rejected=1 digest=")
        );
    }
}
