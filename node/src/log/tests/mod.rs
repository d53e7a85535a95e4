//! The log on real files, a real ring and a real ledger.

mod serving;
mod space;
mod suite;

use super::*;
use crate::journal::{JournalConfig, SEGMENT_BYTES_MIN};
use crate::ledger::{Hold, Read, Table};
use std::path::Path;
use std::sync::atomic::AtomicU32;

/// What test commands write to.
const VALUES: Table = Table::permanent(1);
const COUNTS: Table = Table::permanent(2);
const MAP_BYTES: u64 = 256 * 1024 * 1024;

/// A folder that goes with the test.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("vertebra-log-{name}-{}-{next}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).expect("a temporary folder can be made");
        Folder(folder)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

pub(super) fn journal_config(folder: &Folder) -> JournalConfig {
    JournalConfig {
        folder: folder.path().join("journal"),
        node: 1,
        segment_bytes: [SEGMENT_BYTES_MIN; 3],
        reserve_bytes: 0,
        queue_bytes_max: 64 * 1024 * 1024,
    }
}

/// Checkpoints only when a test asks for one by its sizes.
pub(super) fn config(folder: &Folder) -> LogConfig {
    LogConfig {
        node: 1,
        name: "n1".to_owned(),
        site: "a".to_owned(),
        release: "test",
        folder: folder.path().to_path_buf(),
        checkpoint_bytes: 256 * 1024 * 1024,
        checkpoint_ms: 3_600_000,
        queue_bytes_max: 64 * 1024 * 1024,
        propose_timeout_ms: 30_000,
        clock_jump_ms_max: 60_000,
        stale_ms_max: 60_000,
        reclaim_bytes_per_second: 4 * 1024 * 1024,
        level_of: |command| {
            if command.starts_with(b"later") {
                level::FIRST + 1
            } else {
                level::FIRST
            }
        },
    }
}

/// `a…` adds a value; `later…` too, from the second format level on; `h…` adds and holds it; `r` and an index, 8 bytes little-endian, releases; `t` answers log time.
pub(super) fn apply() -> Apply {
    Box::new(|writer, at, command| {
        let body = &command[1..];
        match command[0] {
            b'a' => writer.put(VALUES, &at.index.to_be_bytes(), body),
            b'h' => {
                writer.put(VALUES, &at.index.to_be_bytes(), body);
                writer.hold(Hold::Entry(at.index));
            }
            b'r' => {
                let index = u64::from_le_bytes(body.try_into().expect("eight bytes"));
                writer.delete(VALUES, &index.to_be_bytes());
                writer.hold(Hold::ReleaseEntry(index));
            }
            level::COMMAND => return level::apply(writer, at, command).expect("a change of the level"),
            b'l' => writer.put(VALUES, &at.index.to_be_bytes(), body),
            b't' => return Bytes::copy_from_slice(&at.time.ms().to_le_bytes()),
            other => panic!("test command {other}"),
        }
        let count = writer.get(COUNTS, b"all").map_or(0, |bytes| number(&bytes)) + 1;
        writer.put(COUNTS, b"all", &count.to_le_bytes());
        Bytes::copy_from_slice(&count.to_le_bytes())
    })
}

pub(super) fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

pub(super) fn count(ledger: &Ledger) -> u64 {
    ledger.get(COUNTS, b"all").map_or(0, |bytes| number(&bytes))
}

pub(super) fn command(op: u8, body: &[u8]) -> Bytes {
    let mut bytes = vec![op];
    bytes.extend_from_slice(body);
    Bytes::from(bytes)
}

pub(super) async fn open_with(config: &LogConfig, folder: &Folder) -> Opened {
    let opened = Log::open(
        config.clone(),
        journal_config(folder),
        MAP_BYTES,
        Clock::default(),
        None,
        apply(),
    )
    .await;
    opened.expect("the log opens")
}

pub(super) async fn open(folder: &Folder) -> Opened {
    open_with(&config(folder), folder).await
}

/// Waits until it holds; a test that hangs fails instead.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(30), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
