//! Reads whose answer says that it may be old: what it may be.

use super::{Did, Entry, RecordOp, Told};
use std::collections::HashMap;

/// What a client read from a node that told the age of its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleRead {
    /// Patient of the test.
    pub patient: u32,
    /// Version.
    pub version: u32,
    /// What it said.
    pub value: u32,
    /// `Vertebra-State-Age`, seconds.
    pub age_s: u64,
    /// The life of the node that answered: another after each start.
    pub life: u32,
    /// So far was the node's wall clock set forward until the answer, in all: it may be that much older by it.
    pub set_forward_us: i64,
}

/// Ages are whole seconds, and the message that told the newest state may have been a heartbeat behind it.
const LEEWAY_US: i64 = 2_000_000;

/// Holds every such read against the writes.
///
/// # Errors
/// The first that shows what nobody wrote, is older than it says, goes back in one life of a node, or whose node had contact
/// earlier than it said before.
pub(super) fn check(entries: &[Entry]) -> Result<(), String> {
    let mut reads: Vec<(&Entry, &StaleRead)> = Vec::new();
    for entry in entries {
        if let Did::Stale(read) = &entry.did {
            reads.push((entry, read));
        }
    }
    reads.sort_by_key(|(entry, _)| entry.call_us);
    for (entry, read) in &reads {
        known(entries, read).map_err(|what| format!("{what}: {entry:?}"))?;
        fresh_enough(entries, entry, read).map_err(|what| format!("{what}: {entry:?}"))?;
    }
    forwards(&reads)
}

/// It shows what somebody wrote.
fn known(entries: &[Entry], read: &StaleRead) -> Result<(), String> {
    let written = entries.iter().any(|entry| match &entry.did {
        Did::Record(patient, _) if *patient != read.patient => false,
        Did::Record(_, RecordOp::Began { version, value }) => (*version, *value) == (read.version, read.value),
        Did::Record(_, RecordOp::Change { expected, value, told }) => {
            *told != Told::Mismatch && (expected + 1, *value) == (read.version, read.value)
        }
        Did::Record(_, RecordOp::Read { .. }) | Did::Mail(..) | Did::Stale(_) => false,
    });
    written
        .then_some(())
        .ok_or_else(|| "a read with an age shows what nobody wrote".to_owned())
}

/// Whatever was acknowledged before the state's moment is in it.
fn fresh_enough(entries: &[Entry], at: &Entry, read: &StaleRead) -> Result<(), String> {
    let age_us = i64::try_from(read.age_s).unwrap_or(i64::MAX / 2_000_000) * 1_000_000;
    let moment_us = at.call_us - age_us - LEEWAY_US;
    for entry in entries {
        let Did::Record(
            patient,
            RecordOp::Change {
                told: Told::Stored(version),
                ..
            },
        ) = &entry.did
        else {
            continue;
        };
        let before = entry.return_us.is_some_and(|us| us < moment_us);
        if *patient == read.patient && *version > read.version && before {
            return Err(format!(
                "a read is older than it says: version {version} was acknowledged long before"
            ));
        }
    }
    Ok(())
}

/// In one life of a node, one client after the other sees nothing older than before, and the node's last contact only ever
/// comes later, but for what its clock was set forward.
fn forwards(reads: &[(&Entry, &StaleRead)]) -> Result<(), String> {
    let mut newest: HashMap<(u64, u32, u32), Vec<(i64, u32)>> = HashMap::new();
    let mut contact: HashMap<(u64, u32), Vec<(i64, i64)>> = HashMap::new();
    for (entry, read) in reads {
        let Some(return_us) = entry.return_us else { continue };
        let seen = newest.entry((entry.node, read.life, read.patient)).or_default();
        let earlier = seen.iter().filter(|(us, _)| *us < entry.call_us);
        if earlier.map(|(_, version)| *version).max() > Some(read.version) {
            return Err(format!("a node's own state went back: {entry:?}"));
        }
        seen.push((return_us, read.version));
        let age_us = i64::try_from(read.age_s).unwrap_or(i64::MAX / 2_000_000) * 1_000_000;
        // What the clock was set forward may have counted as age: without it the contact was that much later.
        let at_most = return_us - age_us + read.set_forward_us;
        let told = contact.entry((entry.node, read.life)).or_default();
        let earlier = told.iter().filter(|(us, _)| *us < entry.call_us);
        if let Some(before) = earlier.map(|(_, at_most)| *at_most).max()
            && at_most + LEEWAY_US < before
        {
            return Err(format!("an age grew faster than the clock: {entry:?}"));
        }
        told.push((return_us, at_most));
    }
    Ok(())
}
