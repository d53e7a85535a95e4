//! Taking everything out: whole records, page by page, each proved against the digest that the ledger holds of it.

use super::super::command::Command;
use super::super::record;
use super::super::state::{self, Part, Record};
use super::prepare::attached_digest;
use super::tally::{Kind, Tallies};
use super::{Loader, together};
use crate::base::NhsNumber;
use crate::log::ProposeError;
use bytes::Bytes;
use serde_json::Value;

/// Records of one page.
const PAGE_RECORDS: usize = 500;

/// A page.
pub struct Unloaded {
    /// NDJSON: each patient, its related people, its coverage.
    pub lines: Vec<u8>,
    /// What they are.
    pub tallies: Tallies,
    /// Where to go on; `None`: this was the last page.
    pub next: Option<NhsNumber>,
}

/// Why there is no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnloadError {
    /// This node cannot say that its state is the newest.
    #[error(transparent)]
    Log(#[from] ProposeError),
    /// A record could not be read, or is not what its digest says; the log has the record's entry.
    #[error("a record could not be read back")]
    Damaged,
}

/// One record with its bytes.
struct Read {
    number: NhsNumber,
    record: Record,
    patient: Bytes,
    related: Option<Bytes>,
    coverage: Option<Bytes>,
}

impl Loader {
    /// The page behind `after`, in the order of numbers.
    ///
    /// # Errors
    /// [`UnloadError`].
    pub async fn unload(&self, after: Option<NhsNumber>) -> Result<Unloaded, UnloadError> {
        self.log.linearizable().await?;
        let mut page = Vec::with_capacity(PAGE_RECORDS);
        state::for_each_record(&self.ledger, after, &mut |number, record| {
            page.push((number, record));
            page.len() < PAGE_RECORDS
        });
        let next = (page.len() == PAGE_RECORDS)
            .then(|| page.last().map(|(number, _)| *number))
            .flatten();
        let mut read = Vec::with_capacity(page.len());
        for some in page.chunks(64) {
            let reads = some.iter().map(|(number, record)| self.read(*number, record.clone()));
            for done in together(reads.collect()).await {
                read.push(done.ok_or(UnloadError::Damaged)?);
            }
        }
        let _turn = self.parsing.acquire().await.map_err(|_| ProposeError::Closing)?;
        let (lines, tallies) = tokio::task::spawn_blocking(move || write(&read))
            .await
            .map_err(|_| ProposeError::Closing)?
            .ok_or(UnloadError::Damaged)?;
        Ok(Unloaded { lines, tallies, next })
    }

    async fn read(&self, number: NhsNumber, record: Record) -> Option<Read> {
        let part = async |part: Option<Part>| match part {
            Some(part) => self.tail(number, part).await.map(Some),
            None => Some(None),
        };
        Some(Read {
            number,
            patient: self.tail(number, record.patient).await?,
            related: part(record.related).await?,
            coverage: part(record.coverage).await?,
            record,
        })
    }

    /// The bytes of a part, from the command that brought it.
    pub(super) async fn tail(&self, number: NhsNumber, part: Part) -> Option<Bytes> {
        let entry = part.entry;
        match self.log.command(entry).await {
            Ok(command) => {
                let tail = Command::tail_of(&command, number, part.bytes as usize);
                if tail.is_none() {
                    tracing::error!(entry, "the log's entry is not the one that the ledger names");
                }
                tail
            }
            Err(cause) => {
                tracing::error!(entry, %cause, "a record's entry could not be read");
                None
            }
        }
    }
}

/// Writes the lines of a page; `None` when a record is not what its digest says.
fn write(page: &[Read]) -> Option<(Vec<u8>, Tallies)> {
    let mut lines = Vec::with_capacity(page.len() * 3 * 1024);
    let mut tallies = Tallies::default();
    for read in page {
        let Read { number, record, .. } = read;
        let open = read.patient.len().checked_sub(record.place_bytes as usize)?;
        let (open, place) = read.patient.split_at(open);
        let whole = record::whole(*number, record.version, record.security, open, place);
        let digest = record::keep(*number, record.security, record.superseded_by, &whole).digest;
        if digest != record.patient.digest {
            tracing::error!(entry = record.patient.entry, "a record is not what its digest says");
            return None;
        }
        tallies.add(Kind::Patient, digest);
        put(&mut lines, &whole);
        let related: Vec<Value> = read
            .related
            .as_ref()
            .map_or(Some(Vec::new()), |bytes| serde_json::from_slice(bytes).ok())?;
        for person in &related {
            tallies.add(Kind::RelatedPerson, attached_digest(*number, &put(&mut lines, person)));
        }
        if let Some(bytes) = &read.coverage {
            let coverage: Value = serde_json::from_slice(bytes).ok()?;
            tallies.add(Kind::Coverage, attached_digest(*number, &put(&mut lines, &coverage)));
        }
    }
    Some((lines, tallies))
}

/// Appends a line, and gives it.
fn put(lines: &mut Vec<u8>, resource: &Value) -> Vec<u8> {
    let line = serde_json::to_vec(resource).expect("JSON serialises into memory");
    lines.extend_from_slice(&line);
    lines.push(b'\n');
    line
}
