//! Tokens that were verified, by the digest of their bytes. Only a good token gets in, so nobody fills it from outside; one
//! that is dropped is verified again.

use super::Principal;
use crate::base::{Digest, Timestamp};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Locks; the threads of a node seldom meet at one.
const SHARDS: usize = 16;
/// Default bound: some 30 MB, the tokens of 64 thousand people at work at once.
pub(super) const ENTRIES_MAX: usize = 64 * 1024;

/// The verified tokens.
pub(super) struct Cache {
    shards: Vec<Mutex<FxHashMap<[u8; 32], Arc<Principal>>>>,
    shard_entries_max: usize,
}

impl Cache {
    /// An empty one of at most `entries_max`.
    pub(super) fn new(entries_max: usize) -> Cache {
        Cache {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            shard_entries_max: entries_max.div_ceil(SHARDS),
        }
    }

    fn shard(&self, digest: &Digest) -> &Mutex<FxHashMap<[u8; 32], Arc<Principal>>> {
        &self.shards[usize::from(digest.0[31]) % SHARDS]
    }

    /// Who the token is of, when it was verified before.
    pub(super) fn get(&self, digest: &Digest) -> Option<Arc<Principal>> {
        self.shard(digest).lock().get(&digest.0).cloned()
    }

    /// Remembers. A full shard forgets what has expired, and when nothing has, everything.
    pub(super) fn put(&self, digest: Digest, principal: Arc<Principal>, now: Timestamp) {
        let mut shard = self.shard(&digest).lock();
        if shard.len() >= self.shard_entries_max {
            shard.retain(|_, kept| kept.expires > now);
            if shard.len() >= self.shard_entries_max {
                shard.clear();
            }
        }
        shard.insert(digest.0, principal);
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}
