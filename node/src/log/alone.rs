//! Going on alone: with the other site lost and no witness, an operator lets one survivor go on by itself.
//!
//! The operator's word is a file in the data folder; the node ends and, at its next start, writes a membership of itself
//! alone behind all it has, under a new epoch of the cluster. Whatever any survivor acknowledged lies on the most advanced
//! one, which is therefore the one to go on: it keeps its whole log, also what it did not know to be committed. The other
//! side, should it come back, is of the epoch before and is not let in.

use super::identity::Identity;
use super::store::{LogStore, Store};
use super::types::{Entry, Member, Membership, Payload, Vote, log_id};
use openraft::storage::{IOFlushed, RaftLogStorage};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

const MARK: &str = "go-alone";

/// Notes the operator's word. Durable when it returns; the node's next start obeys it.
pub fn mark(folder: &Path, epoch: u64) -> io::Result<()> {
    let mut file = File::create(folder.join(MARK))?;
    writeln!(file, "{epoch}")?;
    file.sync_all()?;
    File::open(folder)?.sync_all()
}

/// The epoch to go on in, if an operator said so.
pub fn marked(folder: &Path) -> io::Result<Option<u64>> {
    match fs::read_to_string(folder.join(MARK)) {
        Ok(text) => text.trim().parse().map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes this node the only member. Cut short, it is done again at the next start.
pub async fn go(
    store: &Arc<Store>,
    folder: &Path,
    identity: &mut Identity,
    member: Member,
    epoch: u64,
) -> io::Result<()> {
    let last = store.bounds().2;
    let term = store.vote().map_or(0, |vote| vote.leader_id.term);
    let term = term.max(last.map_or(0, |id| id.leader_id.term)) + 1;
    let id = log_id(term, identity.node, last.map_or(0, |id| id.index + 1));
    let voters = vec![BTreeSet::from([identity.node])];
    let membership = Membership::new(voters, BTreeMap::from([(identity.node, member)])).map_err(io::Error::other)?;
    let mut log = LogStore(store.clone());
    log.save_vote(&Vote::new_committed(term, identity.node)).await?;
    let payload = Payload::Membership(membership);
    log.append([Entry { log_id: id, payload }], IOFlushed::noop()).await?;
    store.wait_durable(id.index).await;
    log.save_committed(Some(id)).await?;
    store.flush_committed().await?;
    let cluster = identity.cluster.unwrap_or_else(rand::random);
    identity.enter(cluster, epoch)?;
    fs::remove_file(folder.join(MARK))?;
    File::open(folder)?.sync_all()?;
    tracing::warn!(
        epoch,
        term,
        index = id.index,
        "this node goes on alone, as an operator said"
    );
    Ok(())
}
