//! Files of lines, plain or compressed, cut into batches.
//!
//! A batch ends before a patient where it can, so that what belongs to a patient travels with it. Cuts follow from the
//! bytes alone: a second run cuts where the first did.

use super::CliError;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A batch ends before the first patient behind so many lines…
const BATCH_LINES: usize = 256;
/// … or so many bytes; and anyhow at four times as many lines or twice as many bytes.
const BATCH_BYTES: usize = 1024 * 1024;
/// Longest line, bytes; a longer one is refused without being held.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// How far a file is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Mark {
    /// Bytes, after decompression.
    pub(super) bytes: u64,
    /// Lines, blank ones too.
    pub(super) lines: u64,
    /// BLAKE3 of those bytes, so that a changed file is not taken for the same.
    pub(super) digest: String,
}

/// A line that the file itself makes impossible.
pub(super) struct Unfit {
    pub(super) line: u64,
    pub(super) code: &'static str,
    pub(super) reason: String,
}

/// Some lines of one file.
pub(super) struct Batch {
    /// NDJSON as it came, without blank lines.
    pub(super) body: Vec<u8>,
    /// The number of each line in the file, from 1.
    pub(super) numbers: Vec<u64>,
    /// How many of them look like patients.
    pub(super) patients: u64,
    pub(super) unfit: Vec<Unfit>,
    /// Where the file is read to with it.
    pub(super) end: Mark,
    /// It is the file's last one.
    pub(super) last: bool,
}

/// A file that is read.
pub(super) struct Source {
    reader: Box<dyn BufRead + Send>,
    hasher: blake3::Hasher,
    mark: Mark,
    waiting: Option<Vec<u8>>,
    ended: bool,
}

/// Counts what is read from the disk, for the progress.
struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.inner.read(buffer)?;
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}

/// Whether a line looks like a patient: told from the first `resourceType` in it, without parsing.
fn looks_like_patient(line: &[u8]) -> bool {
    let key = b"\"resourceType\"";
    let Some(at) = memchr::memmem::find(line, key) else {
        return true;
    };
    let value = line[at + key.len()..]
        .iter()
        .skip_while(|byte| byte.is_ascii_whitespace() || **byte == b':');
    value.take(9).eq(b"\"Patient\"")
}

enum Next {
    Line(Vec<u8>),
    TooLong,
    End,
}

impl Source {
    /// Opens a file, or standard input for `-`; tells gzip and Zstandard by their first bytes.
    pub(super) fn open(path: &Path, read: Arc<AtomicU64>) -> io::Result<Source> {
        let inner: Box<dyn Read + Send> = match path == Path::new("-") {
            true => Box::new(io::stdin()),
            false => Box::new(File::open(path)?),
        };
        let mut raw = BufReader::with_capacity(256 * 1024, Counted { inner, read });
        let magic = raw.fill_buf()?;
        let reader: Box<dyn BufRead + Send> = if magic.starts_with(&[0x1F, 0x8B]) {
            Box::new(BufReader::with_capacity(
                256 * 1024,
                flate2::bufread::MultiGzDecoder::new(raw),
            ))
        } else if magic.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) {
            Box::new(BufReader::with_capacity(
                256 * 1024,
                zstd::stream::read::Decoder::with_buffer(raw)?,
            ))
        } else {
            Box::new(raw)
        };
        Ok(Source {
            reader,
            hasher: blake3::Hasher::new(),
            mark: Mark::default(),
            waiting: None,
            ended: false,
        })
    }

    /// Goes on behind `mark`.
    ///
    /// # Errors
    /// The file does not start with what was read of it.
    pub(super) fn skip_to(&mut self, mark: &Mark) -> Result<(), CliError> {
        let changed =
            || CliError::Failed("it is not the file that the state file tells of; its beginning differs".to_owned());
        let mut left = mark.bytes;
        while left > 0 {
            let some = self
                .reader
                .fill_buf()
                .map_err(|cause| CliError::Failed(cause.to_string()))?;
            let bytes = some.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if bytes == 0 {
                return Err(changed());
            }
            self.hasher.update(&some[..bytes]);
            self.reader.consume(bytes);
            left -= bytes as u64;
        }
        if !mark.digest.is_empty() && self.hasher.finalize().to_hex().as_str() != mark.digest {
            return Err(changed());
        }
        self.mark = mark.clone();
        Ok(())
    }

    /// The next line with its newline; a line that is too long is passed over.
    fn next(&mut self) -> io::Result<Next> {
        if let Some(line) = self.waiting.take() {
            return Ok(Next::Line(line));
        }
        let mut line = Vec::new();
        let mut too_long = false;
        loop {
            let some = self.reader.fill_buf()?;
            if some.is_empty() {
                return Ok(match (too_long, line.is_empty()) {
                    (true, _) => Next::TooLong,
                    (false, true) => Next::End,
                    (false, false) => Next::Line(line),
                });
            }
            let end = memchr::memchr(b'\n', some).map(|at| at + 1);
            let taken = &some[..end.unwrap_or(some.len())];
            too_long |= line.len() + taken.len() > LINE_BYTES_MAX;
            if too_long {
                // What was held back of it is counted now, the rest as it passes.
                for part in [&line[..], taken] {
                    self.hasher.update(part);
                    self.mark.bytes += part.len() as u64;
                }
                line.clear();
            } else {
                line.extend_from_slice(taken);
            }
            let bytes = taken.len();
            self.reader.consume(bytes);
            if end.is_some() {
                return Ok(if too_long { Next::TooLong } else { Next::Line(line) });
            }
        }
    }

    /// The next batch; `None` behind the last.
    pub(super) fn batch(&mut self) -> io::Result<Option<Batch>> {
        if self.ended {
            return Ok(None);
        }
        let mut batch = Batch {
            body: Vec::with_capacity(BATCH_BYTES + LINE_BYTES_MAX),
            numbers: Vec::new(),
            patients: 0,
            unfit: Vec::new(),
            end: Mark::default(),
            last: false,
        };
        loop {
            match self.next()? {
                Next::End => {
                    batch.last = true;
                    self.ended = true;
                    break;
                }
                Next::TooLong => {
                    self.mark.lines += 1;
                    batch.unfit.push(Unfit {
                        line: self.mark.lines,
                        code: "too_large",
                        reason: format!("the line has more than {LINE_BYTES_MAX} bytes"),
                    });
                }
                Next::Line(line) => {
                    let (lines, bytes) = (batch.numbers.len(), batch.body.len());
                    let patient = looks_like_patient(&line);
                    let full = (lines >= BATCH_LINES || bytes >= BATCH_BYTES) && patient;
                    if full || lines >= 4 * BATCH_LINES || bytes >= 2 * BATCH_BYTES {
                        self.waiting = Some(line);
                        break;
                    }
                    self.take(&mut batch, &line, patient);
                }
            }
        }
        self.mark.digest = self.hasher.finalize().to_hex().to_string();
        batch.end = self.mark.clone();
        Ok(Some(batch))
    }

    fn take(&mut self, batch: &mut Batch, line: &[u8], patient: bool) {
        self.hasher.update(line);
        self.mark.bytes += line.len() as u64;
        self.mark.lines += 1;
        let content = line.trim_ascii();
        if !content.is_empty() {
            batch.body.extend_from_slice(content);
            batch.body.push(b'\n');
            batch.numbers.push(self.mark.lines);
            batch.patients += u64::from(patient);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn source(bytes: &[u8]) -> Source {
        Source {
            reader: Box::new(io::Cursor::new(bytes.to_vec())),
            hasher: blake3::Hasher::new(),
            mark: Mark::default(),
            waiting: None,
            ended: false,
        }
    }

    fn batches(mut source: Source) -> Vec<Batch> {
        let mut all = Vec::new();
        while let Some(batch) = source.batch().expect("memory can be read") {
            all.push(batch);
        }
        all
    }

    fn lines(people: usize) -> Vec<u8> {
        let mut text = String::new();
        for at in 0..people {
            text +=
                &format!("{{\"resourceType\": \"Patient\",\"at\":{at}}}\n\n{{\"resourceType\":\"RelatedPerson\"}}\r\n");
        }
        text.into_bytes()
    }

    #[test]
    fn a_batch_ends_before_a_patient_and_a_second_run_cuts_in_the_same_places() {
        let bytes = lines(1_000);
        let all = batches(source(&bytes));
        assert!(all.len() > 3);
        assert!(
            all.iter()
                .all(|batch| batch.body.starts_with(b"{\"resourceType\": \"Patient\""))
        );
        assert_eq!(all.iter().map(|batch| batch.patients).sum::<u64>(), 1_000);
        assert_eq!(all.iter().map(|batch| batch.numbers.len()).sum::<usize>(), 2_000);
        assert_eq!(all[0].numbers[..4], [1, 3, 4, 6]);
        let mut again = source(&bytes);
        again.skip_to(&all[1].end).expect("the same file");
        let rest = batches(again);
        assert_eq!(rest.len(), all.len() - 2);
        assert_eq!(rest[0].body, all[2].body);
        assert_eq!(rest[0].numbers, all[2].numbers);
        let mut other = source(&bytes.iter().rev().copied().collect::<Vec<u8>>());
        assert!(other.skip_to(&all[1].end).is_err());
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_and_counted() {
        let mut bytes = b"{}\n".to_vec();
        bytes.extend(vec![b'x'; LINE_BYTES_MAX * 3]);
        bytes.extend_from_slice(b"\n{\"last\":1}");
        let all = batches(source(&bytes));
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].unfit[0].line, 2);
        assert_eq!(all[0].numbers, [1, 3]);
        assert_eq!(all[0].end.bytes, bytes.len() as u64);
        let mut again = source(&bytes);
        again.skip_to(&all[0].end).expect("its digest covers the long line");
    }

    #[test]
    fn gzip_and_zstandard_are_told_by_their_first_bytes() {
        let folder = std::env::temp_dir().join(format!("vertebra-source-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let bytes = lines(300);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&bytes).expect("memory");
        let forms = [
            bytes.clone(),
            gzip.finish().expect("memory"),
            zstd::stream::encode_all(&bytes[..], 1).expect("memory"),
        ];
        let mut ends = Vec::new();
        for form in forms {
            let path = folder.join("file");
            std::fs::write(&path, form).expect("a file");
            let source = Source::open(&path, Arc::default()).expect("it opens");
            ends.push(batches(source).pop().expect("a batch").end);
        }
        assert_eq!(ends[0], ends[1]);
        assert_eq!(ends[0], ends[2]);
        let _ = std::fs::remove_dir_all(&folder);
    }
}
