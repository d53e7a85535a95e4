//! Every version of every patient's record, read back from the log and held against what the ledger says of it.
//!
//! Nothing here names a patient: a broken record is told by the log entry that should hold it.

use super::{BROKEN_SHOWN_MAX, Store};
use crate::base::NhsNumber;
use crate::services::pds::record;
use crate::services::pds::records::{Numbered, Records};
use crate::services::pds::state::{self, Part, Record};
use std::collections::HashSet;

/// Records looked up in one go.
const PAGE: usize = 500;

/// Reads all of it.
///
/// # Errors
/// What is broken, as a sentence.
pub(super) async fn check(store: &Store) -> Result<String, String> {
    let records = Records {
        log: store.log.clone(),
        ledger: store.ledger.clone(),
    };
    let mut checked = Checked::default();
    let mut after = None;
    loop {
        let page = page(&records, after);
        for (number, current) in &page {
            checked.record(&records, *number, current).await;
        }
        match page.last() {
            Some((last, _)) if page.len() == PAGE => after = Some(*last),
            Some(_) | None => return checked.told(),
        }
    }
}

fn page(records: &Records, after: Option<NhsNumber>) -> Vec<(NhsNumber, Record)> {
    let mut page = Vec::new();
    state::for_each_record(&records.ledger, after, &mut |number, record| {
        page.push((number, record));
        page.len() < PAGE
    });
    page
}

#[derive(Default)]
struct Checked {
    records: u64,
    versions: u64,
    bytes: u64,
    broken: Vec<String>,
    broken_more: usize,
}

impl Checked {
    async fn record(&mut self, records: &Records, number: NhsNumber, current: &Record) {
        self.records += 1;
        let mut read = HashSet::new();
        let mut before = None;
        loop {
            let versions = state::versions(&records.ledger, number, before, PAGE);
            let last = versions.last().map(|version| version.version);
            let whole = versions.len() == PAGE;
            for version in versions {
                self.versions += 1;
                self.version(
                    records,
                    Numbered {
                        number,
                        record: version,
                    },
                    &mut read,
                )
                .await;
            }
            before = last;
            if !whole {
                break;
            }
        }
        // Versions are 1, 2, 3, …, and none is ever removed.
        if before != Some(1) {
            self.broke(current.patient, "the first version of the record is missing");
        }
    }

    /// A part that several versions share is read once.
    async fn version(&mut self, records: &Records, version: Numbered, read: &mut HashSet<u64>) {
        let parts = [
            Some(version.record.patient),
            version.record.related,
            version.record.coverage,
        ];
        for part in parts.into_iter().flatten() {
            if !read.insert(part.entry) {
                continue;
            }
            match records.part(version.number, part).await {
                Ok(bytes) => self.bytes += bytes.len() as u64,
                Err(cause) => self.broke(part, &cause.to_string()),
            }
        }
        if let Ok(patient) = records.whole(&version).await {
            let Record {
                security,
                superseded_by,
                ..
            } = version.record;
            let kept = record::keep(version.number, security, superseded_by, &patient);
            if kept.digest != version.record.patient.digest {
                self.broke(version.record.patient, "the content is not the one that was stored");
            }
        }
    }

    fn broke(&mut self, part: Part, why: &str) {
        if self.broken.len() < BROKEN_SHOWN_MAX {
            self.broken.push(format!("log entry {}: {why}", part.entry));
        } else {
            self.broken_more += 1;
        }
    }

    fn told(self) -> Result<String, String> {
        let Checked {
            records,
            versions,
            bytes,
            broken,
            broken_more,
        } = self;
        match (broken.is_empty(), broken_more) {
            (true, _) => Ok(format!(
                "{records} records, {versions} versions, {bytes} bytes read back"
            )),
            (false, 0) => Err(broken.join("; ")),
            (false, more) => Err(format!("{}; and {more} more", broken.join("; "))),
        }
    }
}
