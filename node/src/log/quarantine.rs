//! A node whose state is not its peers' stops serving at once, says so, and fetches a fresh state at its next start.
//!
//! Its log and its votes stay: they are proved by checksums and by Raft; only what was computed from them is thrown away.

use super::fetch;
use super::peers::Peers;
use super::peers::frame::Purpose;
use super::snapshot::Snapshots;
use super::types::Member;
use crate::ledger::Opened;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const MARK: &str = "quarantined";
const AGAIN: Duration = Duration::from_secs(2);

/// What one peer's history says of this node's at the newest position that both know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Where.
    pub index: u64,
    /// They agree.
    pub agrees: bool,
    /// The peer leads.
    pub leads: bool,
}

/// Whether it is this node that is wrong: more peers differ from it than agree with it; of two, the leader is right.
pub fn is_odd_one(compared: &[Compared], leads: bool) -> Option<u64> {
    let differing: Vec<&Compared> = compared.iter().filter(|one| !one.agrees).collect();
    let first = differing.iter().map(|one| one.index).min()?;
    let agreeing = compared.len() - differing.len();
    let odd = differing.len() > agreeing && (compared.len() > 1 || !leads)
        || differing.len() == agreeing && differing.iter().any(|one| one.leads);
    odd.then_some(first)
}

/// Notes it. Durable when it returns.
pub fn mark(folder: &Path, index: u64) -> io::Result<()> {
    let mut file = File::create(folder.join(MARK))?;
    writeln!(file, "the state differs from the peers' at index {index}")?;
    file.sync_all()?;
    File::open(folder)?.sync_all()
}

/// Whether this folder's state is not to be trusted.
pub fn is_marked(folder: &Path) -> bool {
    folder.join(MARK).exists()
}

/// Replaces the state by a peer's; tries every other member until one gives it.
pub async fn heal(
    folder: &Path,
    peers: &Peers,
    members: &BTreeMap<u64, Member>,
    snapshots: &Arc<Snapshots>,
) -> io::Result<Opened> {
    let me = peers.local().identity.lock().node;
    // Its log starts behind this; a state that ends before it would leave a gap.
    let purged = snapshots.store.bounds().0.map_or(0, |id| id.index);
    tracing::error!("this node's state differs from its peers': it fetches theirs before it serves again");
    loop {
        for (id, member) in members.iter().filter(|(id, _)| **id != me) {
            let link = peers.own_link(*id, member, Purpose::Bulk);
            match fetch::pull(snapshots, &link, purged).await {
                Ok((meta, fetched)) => {
                    let opened = snapshots.install(&meta, fetched).await?;
                    fs::remove_file(folder.join(MARK))?;
                    File::open(folder)?.sync_all()?;
                    tracing::warn!(from = id, "the state was replaced by a peer's");
                    return Ok(opened);
                }
                Err(error) => tracing::warn!(from = id, error, "no state from this peer yet"),
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(agrees: bool, leads: bool) -> Compared {
        Compared {
            index: 256,
            agrees,
            leads,
        }
    }

    #[test]
    fn the_one_that_most_differ_from_is_wrong_and_of_two_the_one_that_does_not_lead() {
        assert_eq!(is_odd_one(&[], false), None);
        assert_eq!(is_odd_one(&[one(true, true), one(true, false)], false), None);
        assert_eq!(is_odd_one(&[one(false, true), one(false, false)], false), Some(256));
        assert_eq!(is_odd_one(&[one(false, false), one(false, false)], true), Some(256));
        assert_eq!(is_odd_one(&[one(false, false), one(true, true)], false), None);
        assert_eq!(is_odd_one(&[one(false, true), one(true, false)], false), Some(256));
        assert_eq!(is_odd_one(&[one(false, true)], false), Some(256));
        assert_eq!(is_odd_one(&[one(false, false)], true), None);
    }
}
