//! What operators ask of the audit chain: whether it is whole, and who did what. Each question is an entry itself, durable
//! before its answer: who looked at the record of who looked.
//!
//! A page is bounded in entries and bytes, and one search runs at a time on the blocking pool. What was asked for goes to
//! the chain alone, never into a log: it may be an NHS number.

use super::{Admin, Answer, Refused};
use crate::audit::{self, Entry, Head, Verdict};
use crate::base::{RequestId, Timestamp, is_uuid};
use crate::journal::Journal;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

/// Entries on one page at most.
pub const PAGE_ENTRIES_MAX: usize = 10_000;
/// A page ends once its entries' texts are as large as this, bytes.
const PAGE_TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest text of a search, bytes: all of them fit into the entry that records it.
const TEXT_BYTES_MAX: usize = 120;

/// One search at a time, so that operators never take more than one core and one batch's memory from the node.
static SEARCHES: Semaphore = Semaphore::const_new(1);

/// What a search is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A person reads it.
    Query,
    /// It leaves the node.
    Export,
}

/// Which entries are asked for; what is left out fits every entry.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Search {
    /// A message, mailbox or NHS number: the whole subject, or a part of it between spaces, `/` or `=`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Who.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// On whose behalf.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    /// What was done; with a `*` at its end every action that starts so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// How it ended: the whole outcome, or its status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Request, 16 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Not before, milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_ms: Option<u64>,
    /// Before, milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_ms: Option<u64>,
    /// Behind this sequence number.
    pub after: u64,
    /// Up to this sequence number: what a first page named, so that the pages behind it end where it would have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Entries at most; 0, and more than [`PAGE_ENTRIES_MAX`], mean that.
    pub limit: usize,
}

impl std::fmt::Debug for Search {
    /// Nothing of it: it may hold an NHS number.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Search")
    }
}

/// An entry as it is told.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its number in the chain of this node, from 1.
    pub sequence: u64,
    /// When, ISO.
    pub at: String,
    /// Who.
    pub actor: String,
    /// The actor's organisation.
    pub organisation: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub subject: String,
    /// How it ended.
    pub outcome: String,
    /// In which request.
    pub request: String,
    /// The actor's role.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub role: String,
    /// The application that a person acted through.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client: String,
    /// On whose behalf.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub on_behalf: String,
    /// The client's own identifier of the request.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client_request: String,
    /// SHA-256 of the entry, hexadecimal: what the next one carries.
    pub hash: String,
    /// SHA-256 of the entry before.
    pub previous: String,
}

impl std::fmt::Debug for Line {
    /// Without `subject`: it may be an NHS number.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Line").field(&self.sequence).finish()
    }
}

/// The answer to a search.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The node whose chain it is.
    pub node: u64,
    /// Oldest first.
    pub entries: Vec<Line>,
    /// The search was answered up to this sequence number.
    pub until: u64,
    /// There is more that fits: ask again behind the last entry.
    pub more: bool,
    /// The chain is broken at this entry: nothing from there on can be answered.
    pub broken: Option<u64>,
}

/// The answer of `audit verify`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainReport {
    /// Every entry that is kept is the one that was written, and none is missing.
    pub whole: bool,
    /// Number of the last entry of a whole chain.
    pub entries: u64,
    /// Its hash, hexadecimal.
    pub head: String,
    /// The oldest entry that is kept; absent in an empty chain.
    pub first: Option<u64>,
    /// Heads that the log holds of this chain.
    pub heads_logged: u64,
    /// Those of them that were met. The others belong to entries that are no longer kept, or behind the break.
    pub heads_matched: u64,
    /// The first broken entry.
    pub broken: Option<u64>,
    /// What is wrong with it.
    pub why: String,
}

impl ChainReport {
    /// A chain that is broken at an entry.
    pub fn broken(sequence: u64, why: String) -> ChainReport {
        ChainReport {
            broken: Some(sequence),
            why,
            ..ChainReport::default()
        }
    }

    /// Reads the whole chain; blocking.
    ///
    /// # Errors
    /// The system could not read, as a sentence.
    pub fn of_blocking(journal: &Journal, heads: &[Head]) -> Result<ChainReport, String> {
        let proof = audit::prove_blocking(journal, heads).map_err(|cause| cause.to_string())?;
        let report = match proof.verdict {
            Verdict::Whole(head) => ChainReport {
                whole: true,
                entries: head.sequence,
                head: hex::encode(head.hash),
                ..ChainReport::default()
            },
            Verdict::Broken { sequence, why } => ChainReport::broken(sequence, why),
        };
        Ok(ChainReport {
            first: proof.first,
            heads_logged: heads.len() as u64,
            heads_matched: proof.matched,
            ..report
        })
    }
}

impl Search {
    /// Whether its texts can be asked for. Checks length, then the request's form, then the times' order.
    ///
    /// # Errors
    /// `Malformed`, with the option's name on the command line.
    pub fn check(&self) -> Result<(), Refused> {
        for (name, value) in self.texts() {
            if value.is_empty() || value.len() > TEXT_BYTES_MAX || value.chars().any(char::is_control) {
                let what = format!("--{name} takes 1 to {TEXT_BYTES_MAX} bytes without control characters");
                return Err(Refused::Malformed(what));
            }
        }
        if self
            .request
            .as_deref()
            .is_some_and(|text| super::trace::request_id(text).is_none() && !is_uuid(text))
        {
            let what = "--request takes 16 hexadecimal digits, as in the log, or a client's UUID";
            return Err(Refused::Malformed(what.to_owned()));
        }
        if self.from_ms.zip(self.to_ms).is_some_and(|(from, to)| from >= to) {
            return Err(Refused::Malformed("--from must be before --to".to_owned()));
        }
        Ok(())
    }

    fn texts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let texts = [
            ("subject", &self.subject),
            ("actor", &self.actor),
            ("organisation", &self.organisation),
            ("action", &self.action),
            ("outcome", &self.outcome),
            ("request", &self.request),
        ];
        texts
            .into_iter()
            .filter_map(|(name, text)| Some((name, text.as_deref()?)))
    }

    /// What the chain keeps of it.
    pub(super) fn recorded(&self) -> String {
        let mut parts: Vec<String> = self.texts().map(|(name, text)| format!("{name}={text}")).collect();
        let times = [("from", self.from_ms), ("to", self.to_ms)];
        parts.extend(
            times
                .into_iter()
                .filter_map(|(name, ms)| Some(format!("{name}={}", Timestamp::from_ms(ms?).iso()))),
        );
        if self.after > 0 {
            parts.push(format!("after={}", self.after));
        }
        if parts.is_empty() {
            return "everything".to_owned();
        }
        parts.join(" ")
    }

    /// Whether an entry is asked for.
    pub(super) fn fits(&self, entry: &Entry) -> bool {
        let same =
            |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|text| text.eq_ignore_ascii_case(found));
        let part = |wanted: &Option<String>, found: &str, ends: &[char]| {
            same(wanted, found) || found.split(ends).any(|part| same(wanted, part))
        };
        let action = self
            .action
            .as_ref()
            .is_none_or(|wanted| match wanted.strip_suffix('*') {
                Some(start) => entry.action.starts_with(start),
                None => entry.action == *wanted,
            });
        action
            && same(&self.actor, &entry.actor)
            && (same(&self.organisation, &entry.organisation) || same(&self.organisation, &entry.on_behalf))
            && (same(&self.request, &entry.request.to_string()) || same(&self.request, &entry.client_request))
            && part(&self.outcome, &entry.outcome, &[' '])
            && part(&self.subject, &entry.subject, &[' ', '/', '='])
            && self.from_ms.is_none_or(|from| entry.at.ms() >= from)
            && self.to_ms.is_none_or(|to| entry.at.ms() < to)
    }
}

impl Line {
    fn of(head: Head, previous: [u8; 32], entry: &Entry) -> Line {
        Line {
            sequence: head.sequence,
            at: entry.at.iso(),
            actor: entry.actor.clone(),
            organisation: entry.organisation.clone(),
            action: entry.action.clone(),
            subject: entry.subject.clone(),
            outcome: entry.outcome.clone(),
            request: entry.request.to_string(),
            role: entry.role.clone(),
            client: entry.client.clone(),
            on_behalf: entry.on_behalf.clone(),
            client_request: entry.client_request.clone(),
            hash: hex::encode(head.hash),
            previous: hex::encode(previous),
        }
    }

    fn text_bytes(&self) -> usize {
        [
            &self.actor,
            &self.organisation,
            &self.action,
            &self.subject,
            &self.outcome,
            &self.role,
            &self.client,
            &self.on_behalf,
            &self.client_request,
        ]
        .into_iter()
        .map(String::len)
        .sum()
    }
}

/// Reads one page, up to the entry `until`; blocking.
fn page_blocking(journal: &Journal, search: &Search, node: u64, until: u64) -> Result<Page, String> {
    let limit = match search.limit {
        0 => PAGE_ENTRIES_MAX,
        limit => limit.min(PAGE_ENTRIES_MAX),
    };
    let mut page = Page {
        node,
        until,
        ..Page::default()
    };
    let mut bytes = 0;
    let mut each = |head: Head, previous: [u8; 32], entry: &Entry| {
        if head.sequence > until {
            return false;
        }
        if head.sequence > search.after && search.fits(entry) {
            if page.entries.len() == limit || bytes > PAGE_TEXT_BYTES_MAX {
                page.more = true;
                return false;
            }
            let line = Line::of(head, previous, entry);
            bytes += line.text_bytes();
            page.entries.push(line);
        }
        true
    };
    let start = audit::start_of_blocking(journal, search.after, search.from_ms.unwrap_or(0));
    let broken = start.and_then(|start| audit::query_blocking(journal, start, &mut each));
    page.broken = broken.map_err(|cause| cause.to_string())?;
    Ok(page)
}

impl Admin {
    pub(super) async fn audit_verify(&self, id: RequestId) -> Result<Answer, Refused> {
        self.record(id, "audit.verify", "node", "200").await?;
        let (journal, heads) = (self.journal.clone(), (self.logged_heads)());
        let report = search(id, move || ChainReport::of_blocking(&journal, &heads)).await?;
        Ok(Answer::ok(&report))
    }

    /// The question is on the record before it is answered, and is not part of its own answer.
    pub(super) async fn audit_search(&self, kind: Kind, wanted: Search, id: RequestId) -> Result<Answer, Refused> {
        wanted.check()?;
        let action = match kind {
            Kind::Query => "audit.query",
            Kind::Export => "audit.export",
        };
        let own = self.record(id, action, &wanted.recorded(), "200").await?;
        let until = wanted.until.map_or(own - 1, |until| until.min(own - 1));
        let (journal, node) = (self.journal.clone(), self.config.node.id);
        let page = search(id, move || page_blocking(&journal, &wanted, node, until)).await?;
        Ok(Answer::ok(&page))
    }
}

/// Reads the chain on the blocking pool, one reader at a time.
async fn search<T: Send + 'static>(
    id: RequestId,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, Refused> {
    let turn = SEARCHES.acquire().await.map_err(|_| Refused::Failed)?;
    let done = tokio::task::spawn_blocking(move || {
        // Held here, not by the request: who goes away does not make room before the work is done.
        let _turn = turn;
        work()
    });
    done.await.map_err(|_| Refused::Failed)?.map_err(|cause| {
        tracing::error!(request = %id, %cause, "the audit chain could not be read; `vertebra audit verify` names the place");
        Refused::Failed
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            at: Timestamp::from_ms(1_000),
            request: RequestId(255),
            actor: "X26ABC1".to_owned(),
            organisation: "X26".to_owned(),
            action: "mesh.send_chunk".to_owned(),
            subject: "M1/2".to_owned(),
            outcome: "403 EPL-151".to_owned(),
            on_behalf: "X27".to_owned(),
            client_request: "60e0b220-8136-4ca5-ae46-1d97ef59d068".to_owned(),
            ..Entry::default()
        }
    }

    fn fits(json: &str) -> bool {
        let search: Search = serde_json::from_str(json).expect("a search");
        search.check().expect("sound");
        search.fits(&entry())
    }

    #[test]
    fn every_part_of_a_search_must_fit() {
        for (json, expected) in [
            ("{}", true),
            (r#"{"subject":"M1"}"#, true),
            (r#"{"subject":"m1/2"}"#, true),
            (r#"{"subject":"M"}"#, false),
            (r#"{"actor":"x26abc1"}"#, true),
            (r#"{"actor":"X26"}"#, false),
            (r#"{"organisation":"X26"}"#, true),
            (r#"{"organisation":"X27"}"#, true),
            (r#"{"organisation":"X28"}"#, false),
            (r#"{"request":"60E0B220-8136-4CA5-AE46-1D97EF59D068"}"#, true),
            (r#"{"action":"mesh.send"}"#, false),
            (r#"{"action":"mesh.send*"}"#, true),
            (r#"{"action":"admin.*"}"#, false),
            (r#"{"outcome":"403"}"#, true),
            (r#"{"outcome":"EPL-151"}"#, true),
            (r#"{"outcome":"40"}"#, false),
            (r#"{"request":"00000000000000FF"}"#, true),
            (r#"{"request":"00000000000000fe"}"#, false),
            (r#"{"from_ms":1000,"to_ms":1001}"#, true),
            (r#"{"from_ms":1001}"#, false),
            (r#"{"to_ms":1000}"#, false),
            (r#"{"subject":"M1","actor":"X27"}"#, false),
        ] {
            assert_eq!(fits(json), expected, "{json}");
        }
    }

    #[test]
    fn a_search_that_cannot_be_meant_is_refused() {
        let long = format!(r#"{{"actor":"{}"}}"#, "x".repeat(TEXT_BYTES_MAX + 1));
        for json in [
            r#"{"subject":""}"#,
            r#"{"subject":"a\nb"}"#,
            r#"{"request":"12"}"#,
            r#"{"from_ms":2,"to_ms":2}"#,
            &long,
        ] {
            let search: Search = serde_json::from_str(json).expect("a search");
            assert!(search.check().is_err(), "{json}");
        }
    }

    #[test]
    fn what_was_asked_for_is_found_by_its_subject_and_shown_by_no_debug() {
        let search = Search {
            subject: Some("9000000009".to_owned()),
            after: 7,
            ..Search::default()
        };
        assert_eq!(search.recorded(), "subject=9000000009 after=7");
        assert_eq!(Search::default().recorded(), "everything");
        let asked = Entry {
            subject: search.recorded(),
            ..entry()
        };
        assert!(search.fits(&asked), "who looked at the record of who looked");
        assert!(!format!("{search:?}").contains("9000000009"));
    }
}
