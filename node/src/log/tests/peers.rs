//! Snapshots for peers: how far they reach.

use super::*;
use crate::log::fetch::{self, Source};
use crate::log::network::Network;
use crate::log::open::open_parts;
use crate::log::peers::PeerError;
use crate::log::snapshot;
use crate::log::store::LogStore;
use crate::log::types::{Command, Member};
use openraft::Raft;
use std::collections::BTreeMap;

/// A peer that answers everything with the manifest of one snapshot.
struct Manifest(Bytes);

impl Source for Manifest {
    async fn ask(&self, _kind: u8, _payload: Bytes, _limit: Duration) -> Result<Bytes, PeerError> {
        Ok(self.0.clone())
    }
}

/// openraft takes a member to have what the leader's last snapshot covers once it has fetched one. Files that were made for
/// somebody else a moment before may end earlier: they must not do then.
#[test]
fn a_snapshot_for_a_peer_never_ends_before_what_its_leader_will_take_it_to_have() {
    let folder = Folder::new("peers");
    tokio_uring::start(async {
        let parts = open_parts(&config(&folder), journal_config(&folder), MAP_BYTES, apply()).await;
        let parts = parts.expect("a new folder opens");
        let (snapshots, store) = (parts.snapshots.clone(), parts.store.clone());
        let log = LogStore(store.clone());
        let raft = Raft::new(
            1,
            Arc::new(openraft::Config::default()),
            Network(None),
            log,
            parts.machine,
        )
        .await;
        let raft = raft.expect("raft starts");
        let members = BTreeMap::from([(1, Member::default())]);
        raft.initialize(members).await.expect("it is new");
        let write = async || {
            let bytes = command(b'a', b"value");
            let written = raft.client_write(Command { stamp_ms: 1, bytes }).await;
            written.expect("one voter").log_id.index
        };
        until("it leads", || raft.is_leader()).await;
        let first = write().await;
        let early = snapshots.export_shared(0).await.expect("there is a state");
        assert!(
            snapshot::meta_of(&early)
                .expect("a manifest")
                .last_log_id
                .expect("entries")
                .index
                >= first
        );
        let last = write().await;
        let shared = snapshots.export_shared(first).await.expect("it reaches that far");
        assert_eq!(shared, early, "what was made a moment ago serves whom it is enough for");
        let old = std::fs::read(early.join(snapshot::MANIFEST))
            .expect("it is there")
            .into();
        let later = snapshots.export_shared(last).await.expect("it is made anew");
        assert!(
            snapshot::meta_of(&later)
                .expect("a manifest")
                .last_log_id
                .expect("entries")
                .index
                >= last
        );
        let beyond = snapshots.export_shared(last + 1).await;
        assert_eq!(
            beyond.expect_err("there is no such entry").kind(),
            std::io::ErrorKind::NotFound
        );
        let refused = fetch::pull(&snapshots, &Manifest(old), last).await;
        let refused = refused.err().expect("a peer that offers less is not believed");
        assert!(refused.contains("is the least that will do"), "{refused}");
        raft.shutdown().await.expect("it stops");
        store.journal.close().await;
    });
}
