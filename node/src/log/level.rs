//! The format level in force: one row of the replicated state, raised by a command, and beside the data folder in
//! `cluster.json`, where a release that does not speak it sees it before it opens anything.
//!
//! Owns: the row, its command, and the sentences for who cannot take part. Must never know: what a level adds; that stands
//! in [`crate::base::release`].
//!
//! Invariants: a level only goes up; what needs a level is proposed only while that level is in force; the file says a
//! level before this node proposes or applies anything of it.

use super::At;
use crate::base::Timestamp;
use crate::base::release::{self, Release};
use crate::ledger::{Read, Table, Writer};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// First byte of the command that raises the level: then the level, 4 bytes little-endian, and the name of the release that
/// was run by whoever raised it, at most [`NAME_BYTES_MAX`]. It is itself of the level that it names: whoever proposes it
/// has made sure that all members speak that one.
pub const COMMAND: u8 = 0xF1;

/// `level` → version (1), level (4, little-endian), log time in ms (8, little-endian), name of the release.
const TABLE: Table = Table::permanent(63);
const KEY: &[u8] = b"level";
const ROW_VERSION: u8 = 1;
const NAME_BYTES_MAX: usize = 64;

/// The level of a cluster that never raised it.
pub const FIRST: u32 = 1;

/// What is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// The level.
    pub level: u32,
    /// Since when, in log time; `None`: from the beginning.
    pub since: Option<Timestamp>,
    /// The release that raised it; empty: none did.
    pub release: String,
}

/// Which levels a member speaks. Goes over the wire behind what older releases read; a member that does not say so speaks
/// the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Speaks {
    /// The oldest.
    pub oldest: u32,
    /// The newest.
    pub newest: u32,
}

impl Default for Speaks {
    fn default() -> Speaks {
        Speaks {
            oldest: FIRST,
            newest: FIRST,
        }
    }
}

impl Speaks {
    /// This binary.
    pub fn this() -> Speaks {
        Speaks::of(&release::this().levels)
    }

    fn of(levels: &RangeInclusive<u32>) -> Speaks {
        Speaks {
            oldest: *levels.start(),
            newest: *levels.end(),
        }
    }

    /// Whether it speaks this level.
    pub fn level(self, level: u32) -> bool {
        (self.oldest..=self.newest).contains(&level)
    }

    /// As people read it.
    pub fn text(self) -> String {
        match self.oldest == self.newest {
            true => self.newest.to_string(),
            false => format!("{} to {}", self.oldest, self.newest),
        }
    }
}

/// What the state says.
pub fn in_force(state: &impl Read) -> InForce {
    let row = state.get(TABLE, KEY);
    let read = row.as_deref().map(|row| {
        let (version, row) = row.split_first()?;
        let (level, row) = row.split_first_chunk::<4>()?;
        let (since, name) = row.split_first_chunk::<8>()?;
        (*version == ROW_VERSION).then(|| InForce {
            level: u32::from_le_bytes(*level),
            since: Some(Timestamp::from_ms(u64::from_le_bytes(*since))),
            release: String::from_utf8_lossy(name).into_owned(),
        })
    });
    match read {
        Some(row) => row.expect("the row of the level is written by this module alone"),
        None => InForce {
            level: FIRST,
            since: None,
            release: String::new(),
        },
    }
}

/// The command that raises the level.
pub fn command(level: u32, release: &str) -> Bytes {
    let name = &release.as_bytes()[..release.len().min(NAME_BYTES_MAX)];
    Bytes::from([&[COMMAND][..], &level.to_le_bytes(), name].concat())
}

/// Judges it; answers with the level in force then, 4 bytes little-endian.
///
/// # Errors
/// Bytes that are no such command.
pub fn apply(writer: &mut Writer<'_>, at: At, command: &[u8]) -> Result<Bytes, &'static str> {
    let malformed = "a change of the format level that cannot be read";
    let (level, name) = command[1..].split_first_chunk::<4>().ok_or(malformed)?;
    if name.len() > NAME_BYTES_MAX {
        return Err(malformed);
    }
    let (wanted, now) = (u32::from_le_bytes(*level), in_force(writer).level);
    if wanted > now {
        let time = at.time.ms().to_le_bytes();
        writer.put(TABLE, KEY, &[&[ROW_VERSION][..], level, &time, name].concat());
    }
    Ok(Bytes::copy_from_slice(&now.max(wanted).to_le_bytes()))
}

/// Why `this` release cannot work on a folder of `level`, raised by `release`; `None` when it can.
pub fn cannot_open(this: &Release, level: u32, release: &str) -> Option<String> {
    let (name, speaks) = (&this.name, Speaks::of(&this.levels));
    if level > speaks.newest {
        let which = match release {
            "" => "the release that raised it".to_owned(),
            release => format!("release {release}"),
        };
        return Some(format!(
            "the format level in force is {level}, and this release ({name}) speaks {}: start {which} or a later one; a raised \
             level is the point of no return",
            speaks.text()
        ));
    }
    (level < speaks.oldest).then(|| {
        format!(
            "the format level in force is {level}, and this release ({name}) speaks {}: start the release before it on all \
             members, run `vertebra upgrade finalize` there, then come back to this one",
            speaks.text()
        )
    })
}

/// Why a member that runs `release` is not let in where `level` is in force; `None` when it is.
pub fn cannot_enter(release: &str, speaks: Speaks, level: u32) -> Option<String> {
    (!speaks.level(level)).then(|| {
        let what = match level > speaks.newest {
            true => "start the release that its members run",
            false => "start the release before it, or finalize on the members first",
        };
        format!(
            "release {release} speaks format level {}, and the cluster's is {level}: {what}",
            speaks.text()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;

    fn release(levels: RangeInclusive<u32>) -> Release {
        let name = "7.1".to_owned();
        Release { name, levels }
    }

    #[test]
    fn a_level_only_goes_up_and_its_command_has_its_golden_bytes() {
        let folder = std::env::temp_dir().join(format!("vertebra-level-{}", std::process::id()));
        let (ledger, _) = Ledger::open(&folder, 64 * 1024 * 1024).expect("a fresh folder");
        assert_eq!(hex::encode(command(3, "7.2")), "f103000000372e32");
        assert_eq!(in_force(&ledger).level, FIRST);
        for (wanted, now) in [(1, 1), (3, 3), (2, 3), (3, 3), (4, 4)] {
            let mut writer = ledger.writer();
            let at = At {
                index: 9,
                time: Timestamp::from_ms(1_000 + u64::from(wanted)),
            };
            let answer = apply(&mut writer, at, &command(wanted, &format!("7.{wanted}"))).expect("a command");
            assert_eq!(answer[..], u32::to_le_bytes(now), "{wanted}");
            writer.commit();
            assert_eq!(in_force(&ledger).level, now, "{wanted}");
        }
        let now = in_force(&ledger);
        assert_eq!(
            (now.release.as_str(), now.since),
            ("7.4", Some(Timestamp::from_ms(1_004)))
        );
        let mut writer = ledger.writer();
        let at = At {
            index: 9,
            time: Timestamp::from_ms(1),
        };
        for bad in [&[COMMAND][..], &[COMMAND, 1, 0, 0], &[COMMAND; 80]] {
            assert!(apply(&mut writer, at, bad).is_err(), "{bad:?}");
        }
        drop(writer);
        drop(ledger);
        let _ = std::fs::remove_dir_all(&folder);
    }

    #[test]
    fn who_speaks_the_level_in_force_takes_part_and_nobody_else() {
        assert_eq!(cannot_open(&release(1..=2), 1, ""), None);
        assert_eq!(cannot_open(&release(1..=2), 2, "7.1"), None);
        let later = cannot_open(&release(1..=2), 3, "8.0").expect("too old a release");
        assert!(
            later.contains("(7.1) speaks 1 to 2: start release 8.0 or a later one"),
            "{later}"
        );
        let before = cannot_open(&release(3..=3), 2, "7.0").expect("too new a release");
        assert!(
            before.contains("(7.1) speaks 3: start the release before it"),
            "{before}"
        );

        assert_eq!(cannot_enter("7.1", Speaks { oldest: 1, newest: 2 }, 2), None);
        assert_eq!(cannot_enter("7.0", Speaks::default(), 1), None);
        assert!(
            cannot_enter("7.0", Speaks::default(), 2)
                .is_some_and(|why| why.contains("release 7.0 speaks format level 1"))
        );
        assert!(cannot_enter("9", Speaks { oldest: 3, newest: 4 }, 2).is_some());
    }
}
