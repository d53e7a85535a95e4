//! Related people and coverage: merged with what a patient has, never in place of it.

use super::super::command::{Command, Outcome, Refusal};
use super::super::state::{self, Part, Record};
use super::prepare::{Attached, issue};
use super::tally::Kind;
use super::{LineResult, Loader, together};
use crate::base::limits::COMMAND_BYTES_MAX;
use crate::base::{Digest, NhsNumber, Timestamp};
use crate::log::ProposeError;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a command beside its tail, at most.
const HEAD_BYTES: usize = 128;
/// How often a coverage follows a version that has moved on meanwhile.
const TRIES_MAX: usize = 8;

type Answers = Vec<(usize, LineResult)>;

/// A related person that a patient has, or is to have.
struct Person {
    id: String,
    bytes: Vec<u8>,
}

fn rejected(code: &'static str, reason: &str) -> LineResult {
    LineResult::Rejected(issue(code, reason))
}

/// Whether a part was put by a load that began then.
fn put_since(part: Part, since: Option<Timestamp>) -> bool {
    since.is_some_and(|since| part.at >= since)
}

impl Loader {
    /// Adds what belongs to patients; the patients of this batch and of earlier ones are there.
    pub(super) async fn attach(
        &self,
        lines: Vec<(usize, Attached)>,
        since: Option<Timestamp>,
    ) -> Result<Answers, ProposeError> {
        if lines.is_empty() {
            return Ok(Vec::new());
        }
        let _turn = self.attaching.lock().await;
        let mut by_patient: BTreeMap<NhsNumber, Vec<(usize, Attached)>> = BTreeMap::new();
        for (at, line) in lines {
            by_patient.entry(line.number).or_default().push((at, line));
        }
        let mut answers = Vec::new();
        let mut rest: Vec<_> = by_patient.into_iter().collect();
        while !rest.is_empty() {
            let later = rest.split_off(self.window().await.min(rest.len()));
            let now = rest
                .into_iter()
                .map(|(number, lines)| self.attach_to(number, lines, since));
            for done in together(now.collect()).await {
                answers.extend(done?);
            }
            rest = later;
        }
        Ok(answers)
    }

    async fn attach_to(
        &self,
        number: NhsNumber,
        lines: Vec<(usize, Attached)>,
        since: Option<Timestamp>,
    ) -> Result<Answers, ProposeError> {
        let Some(record) = state::record(&self.ledger, number) else {
            let unknown = |(at, _)| {
                (
                    at,
                    rejected("patient_unknown", "there is no patient with the number it names"),
                )
            };
            return Ok(lines.into_iter().map(unknown).collect());
        };
        let (related, coverage): (Vec<_>, Vec<_>) = lines
            .into_iter()
            .partition(|(_, line)| line.kind == Kind::RelatedPerson);
        let mut answers = self.put_related(number, &record, related, since).await?;
        for (nth, (at, line)) in coverage.into_iter().enumerate() {
            // Of two lines that say the same, one loaded it.
            let since = since.filter(|_| nth == 0);
            answers.push((at, self.put_coverage(number, &line, since).await?));
        }
        Ok(answers)
    }

    async fn put_related(
        &self,
        number: NhsNumber,
        record: &Record,
        lines: Vec<(usize, Attached)>,
        since: Option<Timestamp>,
    ) -> Result<Answers, ProposeError> {
        if lines.is_empty() {
            return Ok(Vec::new());
        }
        let mut people = match record.related {
            None => Vec::new(),
            Some(part) => match self.people(number, part).await {
                Some(people) => people,
                None => {
                    let unread = "the related people that the patient has cannot be read back; see the node's log";
                    return Ok(lines
                        .into_iter()
                        .map(|(at, _)| (at, rejected("unreadable", unread)))
                        .collect());
                }
            },
        };
        let again = record.related.is_some_and(|part| put_since(part, since));
        let kind = Kind::RelatedPerson;
        let (mut answers, mut new) = (Vec::new(), Vec::new());
        let there = people.len();
        let mut counted = BTreeSet::new();
        for (at, line) in lines {
            let same = |person: &Person| match line.id.is_empty() {
                true => person.bytes == line.bytes,
                false => person.id == line.id,
            };
            match people.iter().position(same) {
                Some(found) if people[found].bytes != line.bytes => {
                    let other = "the patient has a related person with this id and other content";
                    answers.push((at, rejected("exists", other)));
                }
                Some(found) if found < there && again && counted.insert(found) => {
                    let (source, stored) = (line.digest, line.digest);
                    answers.push((at, LineResult::Loaded { kind, source, stored }));
                }
                Some(_) => answers.push((
                    at,
                    LineResult::AlreadyThere {
                        kind,
                        digest: line.digest,
                    },
                )),
                None => {
                    new.push((at, line.digest));
                    people.push(Person {
                        id: line.id,
                        bytes: line.bytes,
                    });
                }
            }
        }
        if !new.is_empty() {
            let stored = self.replace_related(number, people).await?;
            answers.extend(new.into_iter().map(|(at, digest)| {
                let loaded = |()| LineResult::Loaded {
                    kind,
                    source: digest,
                    stored: digest,
                };
                (at, stored.clone().map_or_else(LineResult::Rejected, loaded))
            }));
        }
        Ok(answers)
    }

    /// The related people that are kept; `None` when they cannot be read.
    async fn people(&self, number: NhsNumber, part: Part) -> Option<Vec<Person>> {
        let tail = self.tail(number, part).await?;
        let people: Vec<serde_json::Value> = serde_json::from_slice(&tail).ok()?;
        let person = |value: &serde_json::Value| Person {
            id: value["id"].as_str().unwrap_or("").to_owned(),
            bytes: serde_json::to_vec(value).expect("JSON serialises into memory"),
        };
        Some(people.iter().map(person).collect())
    }

    /// Proposes the whole list, sorted by id; looks at what the ledger then holds.
    async fn replace_related(
        &self,
        number: NhsNumber,
        mut people: Vec<Person>,
    ) -> Result<Result<(), super::Issue>, ProposeError> {
        people.sort_by(|one, other| (&one.id, &one.bytes).cmp(&(&other.id, &other.bytes)));
        let mut tail = vec![b'['];
        for (at, person) in people.iter().enumerate() {
            if at > 0 {
                tail.push(b',');
            }
            tail.extend_from_slice(&person.bytes);
        }
        tail.push(b']');
        let bytes_max = COMMAND_BYTES_MAX - HEAD_BYTES;
        if tail.len() > bytes_max {
            let reason = format!(
                "the patient's related people have {} bytes, and may have {bytes_max}",
                tail.len()
            );
            return Ok(Err(issue("too_large", reason)));
        }
        let digest = Digest::of(&tail);
        let command = Command::PutRelated {
            number,
            bytes: tail.len() as u32,
            digest,
        };
        let (outcome, _) = self.propose(&command.encode(&tail)).await?;
        let held = state::record(&self.ledger, number).and_then(|record| record.related);
        Ok(match outcome {
            Outcome::Stored { .. } if held.is_some_and(|part| part.digest == digest) => Ok(()),
            Outcome::Stored { .. } => Err(issue("not_stored", "the ledger does not hold what was applied")),
            Outcome::Refused(_) => Err(issue("refused", "the related people were refused as they were applied")),
        })
    }

    async fn put_coverage(
        &self,
        number: NhsNumber,
        line: &Attached,
        since: Option<Timestamp>,
    ) -> Result<LineResult, ProposeError> {
        let kind = Kind::Coverage;
        let (source, digest) = (line.digest, Digest::of(&line.bytes));
        let loaded = LineResult::Loaded {
            kind,
            source,
            stored: source,
        };
        let mut unknown = false;
        for _ in 0..TRIES_MAX {
            let Some(record) = state::record(&self.ledger, number) else {
                break;
            };
            match record.coverage {
                Some(part) if part.digest == digest && (unknown || put_since(part, since)) => {
                    return Ok(loaded);
                }
                Some(part) if part.digest == digest => {
                    return Ok(LineResult::AlreadyThere { kind, digest: source });
                }
                Some(_) => return Ok(rejected("exists", "the patient has another coverage")),
                None => {}
            }
            let command = Command::PutCoverage {
                number,
                follows: record.version,
                once: None,
                bytes: line.bytes.len() as u32,
                digest,
            };
            let (outcome, retried) = self.propose(&command.encode(&line.bytes)).await?;
            unknown |= retried;
            match outcome {
                Outcome::Stored { .. } => return Ok(loaded),
                Outcome::Refused(Refusal::VersionMismatch { .. }) => {}
                Outcome::Refused(
                    Refusal::Exists { .. } | Refusal::Unknown | Refusal::Raced | Refusal::RequestReused,
                ) => return Ok(rejected("refused", "the coverage was refused as it was applied")),
            }
        }
        Ok(rejected(
            "busy",
            "the record changed again and again meanwhile; load the line again",
        ))
    }
}
