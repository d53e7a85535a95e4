//! Wall clocks of nodes under test, each of which can be set without the others and the machine noticing.
//!
//! Owns: a library of one function, made here by the C compiler that also links the tests, and a file for each node that
//! says how far its clock is ahead. Must never know: what a node does with the time. Invariants: monotonic clocks are the
//! machine's, so a node's clock jumps exactly as one does that somebody sets.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What stands before the C library's.
const SOURCE: &str = include_str!("clock.c");

/// The library and the clocks' files.
pub struct Clocks {
    folder: PathBuf,
    library: PathBuf,
}

impl Clocks {
    /// Makes the library in `folder`, which every user must reach.
    pub fn new(folder: &Path) -> Clocks {
        let library = folder.join("clock.so");
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-x", "c", "-", "-o"]);
        let mut cc = cc.arg(&library).stdin(Stdio::piped()).spawn().expect("cc starts");
        let mut input = cc.stdin.take().expect("its input is piped");
        input.write_all(SOURCE.as_bytes()).expect("cc reads its source");
        drop(input);
        assert!(cc.wait().expect("cc ends").success(), "clock.c is compiled");
        Clocks {
            folder: folder.to_owned(),
            library,
        }
    }

    fn file(&self, id: u64) -> PathBuf {
        self.folder.join(format!("n{id}-clock"))
    }

    /// Sets the clock of node `id` so many ms ahead of the machine's, also while it runs.
    pub fn set(&self, id: u64, ahead_ms: i64) {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.file(id));
        let written = file.and_then(|file| file.write_all_at(&ahead_ms.to_ne_bytes(), 0));
        written.expect("the folder can be written");
    }

    /// Gives what `command` starts the clock of node `id`, which was set before.
    pub fn give(&self, id: u64, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("VERTEBRA_TEST_CLOCK", self.file(id));
    }
}
