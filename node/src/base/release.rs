//! Which release this binary is, and which format levels it speaks.
//!
//! The *format level* is one number for everything on which two releases must agree: what members say to each other,
//! commands in the log, what is on disk. A cluster has one level in force; a release speaks a range of them, so that two
//! releases run side by side and an operator decides when the older one can no longer come back.
//!
//! | level | adds |
//! |---|---|
//! | 1 | what there was before levels |
//! | 2 | the level itself: the command that raises it (`0xF1`), its row in the ledger, `cluster.json` and backups of format 2 |
//!
//! All of this stands in one block of the binary that can be read and written without running it: an image's build puts
//! the release's own name there, and tests make of a copy the release before or the next one.
//!
//! | bytes | hold |
//! |---|---|
//! | 17 | `VERTEBRA-RELEASE `, once in a binary |
//! | 64 | name, filled up with spaces |
//! | 6 | a space, the oldest level in four digits, a space |
//! | 5 | the newest level in four digits, a line's end |

use std::hint::black_box;
use std::ops::RangeInclusive;
use std::sync::OnceLock;

/// The newest format level that this source speaks. Raise it with the first thing that an older release could not read, and say
/// above what that is.
const NEWEST: u32 = 2;
/// The oldest it still speaks.
const OLDEST: u32 = 1;

const NAME_AT: usize = 17;
const NAME_BYTES: usize = 64;
const OLDEST_AT: usize = NAME_AT + NAME_BYTES + 1;
const NEWEST_AT: usize = OLDEST_AT + 5;
const BLOCK_BYTES: usize = NEWEST_AT + 5;

#[used]
static BLOCK: [u8; BLOCK_BYTES] = block();

const fn block() -> [u8; BLOCK_BYTES] {
    let mut block = [b' '; BLOCK_BYTES];
    put(&mut block, 0, b"VERTEBRA-RELEASE");
    put(&mut block, NAME_AT, env!("CARGO_PKG_VERSION").as_bytes());
    put(&mut block, OLDEST_AT, &digits(OLDEST));
    put(&mut block, NEWEST_AT, &digits(NEWEST));
    block[BLOCK_BYTES - 1] = b'\n';
    block
}

const fn put(block: &mut [u8; BLOCK_BYTES], at: usize, bytes: &[u8]) {
    let mut n = 0;
    while n < bytes.len() {
        block[at + n] = bytes[n];
        n += 1;
    }
}

const fn digit(of: u32) -> u8 {
    b'0' + (of % 10) as u8
}

const fn digits(level: u32) -> [u8; 4] {
    [digit(level / 1000), digit(level / 100), digit(level / 10), digit(level)]
}

const _: () = assert!(env!("CARGO_PKG_VERSION").len() <= NAME_BYTES && OLDEST <= NEWEST && NEWEST < 10_000);

/// What this binary is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Its name.
    pub name: String,
    /// The format levels that it speaks.
    pub levels: RangeInclusive<u32>,
}

impl Release {
    fn read(block: &[u8; BLOCK_BYTES]) -> Option<Release> {
        let text = |at: usize, bytes: usize| std::str::from_utf8(&block[at..at + bytes]).ok();
        let name = text(NAME_AT, NAME_BYTES)?.trim_end().to_owned();
        let (oldest, newest) = (text(OLDEST_AT, 4)?.parse().ok()?, text(NEWEST_AT, 4)?.parse().ok()?);
        let levels = oldest..=newest;
        (!name.is_empty() && oldest >= 1 && oldest <= newest).then_some(Release { name, levels })
    }
}

/// This binary.
pub fn this() -> &'static Release {
    static THIS: OnceLock<Release> = OnceLock::new();
    // Read as what it is when the program runs, not as what it was when it was compiled.
    THIS.get_or_init(|| Release::read(black_box(&BLOCK)).expect("the block of the release was written by its own form"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_has_its_golden_bytes_and_says_what_the_source_says() {
        let version = format!("{:<64}", env!("CARGO_PKG_VERSION"));
        let golden = format!("VERTEBRA-RELEASE {version} 0001 0002\n");
        assert_eq!(BLOCK.as_slice(), golden.as_bytes());
        let release = this();
        assert_eq!(release.name, env!("CARGO_PKG_VERSION"));
        assert_eq!(release.levels, OLDEST..=NEWEST);
    }

    #[test]
    fn a_block_that_was_written_wrongly_is_none() {
        let written = |at: usize, bytes: &[u8]| {
            let mut block = BLOCK;
            put(&mut block, at, bytes);
            Release::read(&block)
        };
        let next = written(NAME_AT, b"2026.11.27-1").expect("a name");
        assert_eq!(next.name, "2026.11.27-1");
        assert_eq!(written(NEWEST_AT, b"0009").expect("levels").levels, 1..=9);
        for (at, bytes) in [
            (NAME_AT, [b' '; NAME_BYTES].as_slice()),
            (NEWEST_AT, b"0000"),
            (OLDEST_AT, b"0003"),
            (OLDEST_AT, b"000x"),
            (OLDEST_AT, b"0000"),
        ] {
            assert_eq!(written(at, bytes), None);
        }
    }
}
