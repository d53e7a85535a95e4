//! What an import has come to: the totals, the state file that a next run goes on from, the reject file, the report.

use super::super::table::{grouped, table};
use super::CliError;
use super::source::Mark;
use crate::admin::load::BatchReport;
use crate::cli::synth::sync_folder_of;
use crate::services::pds::load::{Tallies, Tally};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Version of the state file's shape.
const FORMAT: u32 = 1;

/// Sums over everything that was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Totals {
    /// Lines that are not blank.
    pub(super) lines: u64,
    /// Lines that were accepted, as they came.
    pub(super) source: Tallies,
    /// Records that this import stored, as the ledger holds them.
    pub(super) loaded: Tallies,
    /// Records that were there, the same.
    pub(super) already_there: Tallies,
    /// Lines that were not taken, by code.
    pub(super) rejected: BTreeMap<String, u64>,
}

impl Totals {
    pub(super) fn add(&mut self, report: &BatchReport) {
        self.lines += report.lines;
        self.source.add_all(&report.source);
        self.loaded.add_all(&report.loaded);
        self.already_there.add_all(&report.already_there);
        for reject in &report.rejects {
            self.reject(&reject.code);
        }
    }

    pub(super) fn reject(&mut self, code: &str) {
        *self.rejected.entry(code.to_owned()).or_default() += 1;
    }

    pub(super) fn rejects(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// Source = loaded + already there + rejected, by counts and by digests.
    pub(super) fn proved(&self) -> bool {
        let mut held = self.loaded;
        held.add_all(&self.already_there);
        held == self.source && self.lines == self.source.count() + self.rejects()
    }

    /// For people. It says nothing of time, so that a run that was broken off and went on ends with the same report.
    pub(super) fn text(&self) -> String {
        let row = |name: &str, tallies: &Tallies| {
            vec![
                name.to_owned(),
                grouped(tallies.patients.count),
                grouped(tallies.related_people.count),
                grouped(tallies.coverage.count),
                tallies.digest().to_string(),
            ]
        };
        let rows = [
            row("accepted", &self.source),
            row("loaded", &self.loaded),
            row("already there", &self.already_there),
        ];
        let mut text = table(&["", "PATIENTS", "RELATED PEOPLE", "COVERAGE", "DIGEST"], &rows);
        let codes: Vec<String> = self
            .rejected
            .iter()
            .map(|(code, count)| format!("{} {code}", grouped(*count)))
            .collect();
        let lines = grouped(self.lines);
        text += &match codes.is_empty() {
            true => format!("{lines} lines, none rejected\n"),
            false => format!(
                "{lines} lines, {} rejected: {}\n",
                grouped(self.rejects()),
                codes.join(", ")
            ),
        };
        text += match self.proved() {
            true => "PROVED: source = loaded + already there + rejected, by counts and by digests.\n",
            false => "NOT PROVED: the sums differ. Keep the files and the node's log; something was lost or changed.\n",
        };
        text
    }

    /// For scripts.
    pub(super) fn json(&self) -> serde_json::Value {
        let all = |tallies: &Tallies| {
            let Tallies {
                patients,
                related_people,
                coverage,
            } = tallies;
            let total = Tally {
                count: tallies.count(),
                digest: tallies.digest(),
            };
            serde_json::json!({
                "patients": patients, "related_people": related_people, "coverage": coverage, "all": total,
            })
        };
        serde_json::json!({
            "lines": self.lines,
            "source": all(&self.source),
            "loaded": all(&self.loaded),
            "already_there": all(&self.already_there),
            "rejected": self.rejects(),
            "rejected_by_code": self.rejected,
            "proved": self.proved(),
        })
    }
}

/// The state file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    format: u32,
    kind: String,
    /// The files, in their order.
    pub(super) files: Vec<PathBuf>,
    /// Log time when the import began.
    pub(super) since_ms: u64,
    /// Files that are done.
    pub(super) files_done: usize,
    /// How far the next one is done.
    pub(super) mark: Mark,
    /// Length of the reject file at that point.
    pub(super) rejects_bytes: u64,
    /// What was answered up to there.
    pub(super) totals: Totals,
}

impl State {
    pub(super) fn new(files: &[PathBuf], since_ms: u64) -> State {
        State {
            format: FORMAT,
            kind: "patients".to_owned(),
            files: files.to_vec(),
            since_ms,
            ..State::default()
        }
    }

    /// What an earlier run left; `None` when there is no file.
    pub(super) fn read(path: &Path, files: &[PathBuf]) -> Result<Option<State>, CliError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(CliError::Failed(format!("{}: {cause}", path.display()))),
        };
        let state: State = serde_json::from_slice(&text)
            .map_err(|_| CliError::Failed(format!("{}: it is no state file of an import", path.display())))?;
        if state.format != FORMAT || state.files != files {
            let what = "it is of an import of other files; name another with --state, or remove it";
            return Err(CliError::Usage(format!("{}: {what}", path.display())));
        }
        Ok(Some(state))
    }

    /// Writes it under another name, fsynced, and puts it in place: whoever reads it reads the one before or this one.
    pub(super) fn write(&self, path: &Path) -> Result<(), CliError> {
        let failed = |cause: io::Error| CliError::Failed(format!("{}: {cause}", path.display()));
        let part = path.with_added_extension("part");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&part)
            .map_err(failed)?;
        let mut text = serde_json::to_vec_pretty(self).expect("a state has a JSON form");
        text.push(b'\n');
        file.write_all(&text)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&part, path))
            .and_then(|()| sync_folder_of(path))
            .map_err(failed)
    }
}

/// The reject file: one JSON object a line.
pub(super) struct Rejects {
    file: File,
    path: PathBuf,
    with_lines: bool,
    /// Its length.
    pub(super) bytes: u64,
}

/// One line of it.
#[derive(Serialize)]
struct RejectLine<'a> {
    file: &'a Path,
    line: u64,
    code: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}

impl Rejects {
    /// Opens it, closed to others, and cuts off what stands behind `bytes`.
    pub(super) fn open(path: &Path, bytes: u64, with_lines: bool) -> Result<Rejects, CliError> {
        let failed = |cause: io::Error| CliError::Failed(format!("{}: {cause}", path.display()));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        if length < bytes {
            let what = "it is shorter than the state file says; was it moved?";
            return Err(CliError::Failed(format!("{}: {what}", path.display())));
        }
        file.set_len(bytes).map_err(failed)?;
        file.seek(io::SeekFrom::Start(bytes)).map_err(failed)?;
        Ok(Rejects {
            file,
            path: path.to_owned(),
            with_lines,
            bytes,
        })
    }

    /// Adds a line.
    pub(super) fn add(
        &mut self,
        file: &Path,
        line: u64,
        (code, reason): (&str, &str),
        content: Option<&[u8]>,
    ) -> Result<(), CliError> {
        let content = content.filter(|_| self.with_lines).map(String::from_utf8_lossy);
        let mut text = serde_json::to_vec(&RejectLine {
            file,
            line,
            code,
            reason,
            content: content.as_deref(),
        })
        .expect("a reject has a JSON form");
        text.push(b'\n');
        self.bytes += text.len() as u64;
        self.file.write_all(&text).map_err(|cause| self.failed(&cause))
    }

    /// Makes it durable.
    pub(super) fn sync(&self) -> Result<(), CliError> {
        self.file.sync_data().map_err(|cause| self.failed(&cause))
    }

    fn failed(&self, cause: &io::Error) -> CliError {
        CliError::Failed(format!("{}: {cause}", self.path.display()))
    }
}
