//! A copy of the binary that says it is another release. The block that says so is drawn in `node/src/base/release.rs`.

use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

const MARKER: &[u8] = b"VERTEBRA-RELEASE ";
const NAME_BYTES: usize = 64;

/// Writes a copy of `binary` to `to` that calls itself `name` and speaks these format levels.
pub fn restamp(binary: &Path, to: &Path, name: &str, levels: RangeInclusive<u32>) {
    let mut bytes = fs::read(binary).expect("the binary can be read");
    let places = places(&bytes);
    assert_eq!(places.len(), 1, "the block of the release stands once in the binary");
    let block = format!("{name:<NAME_BYTES$} {:04} {:04}\n", levels.start(), levels.end());
    let at = places[0] + MARKER.len();
    assert_eq!(
        bytes[at + block.len() - 1],
        b'\n',
        "the block is as long as it was drawn"
    );
    bytes[at..at + block.len()].copy_from_slice(block.as_bytes());
    fs::write(to, bytes).expect("the folder can be written");
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).expect("a file of our own");
}

fn places(bytes: &[u8]) -> Vec<usize> {
    let first = MARKER[0];
    let found = bytes.iter().enumerate().filter(|(_, byte)| **byte == first);
    found
        .map(|(at, _)| at)
        .filter(|&at| bytes[at..].starts_with(MARKER))
        .collect()
}
