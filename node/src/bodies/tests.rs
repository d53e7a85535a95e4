use super::*;
use crate::base::limits::{PIECE_BYTES_MAX, UPLOAD_LEASE_MS};
use crate::journal::{JournalConfig, RecordKey, Stream};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::path::PathBuf;

const AT: Timestamp = Timestamp::from_ms(1_000_000_000);
const SEGMENT_BYTES: u32 = 4 << 20;

struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        Folder(std::env::temp_dir().join(format!("vertebra-bodies-{:016x}", rand::random::<u64>())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Node {
    journal: Journal,
    ledger: Ledger,
    bodies: Bodies,
}

impl Node {
    async fn open(folder: &Folder) -> Node {
        let (ledger, opened) = Ledger::open(&folder.0.join("ledger"), 1 << 30).expect("the ledger opens");
        let config = JournalConfig {
            folder: folder.0.join("journal"),
            node: 1,
            segment_bytes: [SEGMENT_BYTES; 3],
            reserve_bytes: 0,
            queue_bytes_max: 64 << 20,
        };
        let mut replayed = Vec::new();
        let mut replay = |stream, key: RecordKey, position, _: Bytes| {
            if stream == Stream::Bodies {
                replayed.push((key, position));
            }
        };
        let journal = Journal::open(config, opened.watermarks, &mut replay)
            .await
            .expect("the journal opens");
        let bodies = Bodies::open(journal.clone(), ledger.clone());
        for (key, position) in replayed {
            bodies.replayed(UploadId(key.id), key.number, position);
        }
        Node {
            journal,
            ledger,
            bodies,
        }
    }

    fn checkpoint(&self) {
        self.ledger
            .checkpoint_blocking(self.journal.watermarks())
            .expect("lands");
    }

    async fn upload(&self, seed: u8, bytes: usize) -> (Manifest, Vec<u8>) {
        let body: Vec<u8> = (0..bytes)
            .map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed) ^ (at >> 8) as u8)
            .collect();
        let mut upload = self.bodies.begin(AT);
        for (number, slice) in body.chunks(10_000 + usize::from(seed)).enumerate() {
            // Slices of every size, small ones too.
            let (head, tail) = slice.split_at(slice.len() * (number % 7) / 7);
            upload.write(Bytes::copy_from_slice(head)).await.expect("room");
            upload.write(Bytes::copy_from_slice(tail)).await.expect("room");
        }
        assert_eq!(upload.bytes(), bytes as u64);
        let manifest = upload.finish().await.expect("room");
        assert_eq!(manifest.bytes, bytes as u64);
        assert_eq!(manifest.pieces as usize, bytes.div_ceil(PIECE_BYTES_MAX));
        assert_eq!(manifest.digest, Digest::of(&body));
        (manifest, body)
    }

    async fn read(&self, manifest: Manifest, from_piece: u32) -> Result<Vec<u8>, ReadError> {
        let mut download = self.bodies.read(manifest, from_piece);
        let mut body = Vec::new();
        while let Some(piece) = download.next().await {
            body.extend_from_slice(&piece?);
        }
        Ok(body)
    }

    async fn assert_readable(&self, manifest: Manifest, body: &[u8]) {
        let read = self.read(manifest, 0).await.expect("readable");
        assert!(read == body, "other bytes than were written");
    }

    /// Turns of the reclaim, with checkpoints between them, until nothing more comes of it.
    async fn reclaim_all(&self, now: Timestamp) -> u64 {
        let mut freed = 0;
        for _ in 0..12 {
            freed += self.bodies.reclaim(now, 1 << 20).await.expect("readable");
            self.checkpoint();
        }
        freed
    }
}

#[test]
fn bodies_of_every_size_come_back_as_written() {
    let folder = Folder::new();
    tokio_uring::start(async {
        let node = Node::open(&folder).await;
        for (seed, bytes) in [
            0,
            1,
            PIECE_BYTES_MAX - 1,
            PIECE_BYTES_MAX,
            PIECE_BYTES_MAX + 1,
            3_000_000,
        ]
        .into_iter()
        .enumerate()
        {
            let (manifest, body) = node.upload(seed as u8, bytes).await;
            node.assert_readable(manifest, &body).await;
            if manifest.pieces > 1 {
                let rest = node.read(manifest, 1).await.expect("readable");
                assert!(rest == body[PIECE_BYTES_MAX..], "reading from the second piece");
            }
            assert!(node.bodies.has(&manifest));
        }
        node.journal.close().await;
    });
}

#[test]
fn a_restart_finds_every_body_with_and_without_a_checkpoint() {
    let folder = Folder::new();
    let mut known = Vec::new();
    tokio_uring::start(async {
        let node = Node::open(&folder).await;
        known.push(node.upload(1, 700_000).await);
        node.bodies.hold(Hold::Upload(known[0].0.upload));
        node.checkpoint();
        known.push(node.upload(2, 700_000).await);
        node.bodies.hold(Hold::Upload(known[1].0.upload));
        node.journal.close().await;
    });
    for hold_first in [false, true] {
        tokio_uring::start(async {
            let node = Node::open(&folder).await;
            // The log replays the hold that no checkpoint has; before or after the pieces makes no difference.
            node.bodies.hold(Hold::Upload(known[1].0.upload));
            if hold_first {
                node.bodies.replayed(
                    known[1].0.upload,
                    0,
                    node.bodies.shared.map.position(known[1].0.upload, 0).expect("placed"),
                );
            }
            let stats = node.bodies.stats();
            assert_eq!(stats.live_bytes, 1_400_000);
            let late = AT.plus_ms(UPLOAD_LEASE_MS * 10);
            node.reclaim_all(late).await;
            for (manifest, body) in &known {
                node.assert_readable(*manifest, body).await;
            }
            node.journal.close().await;
        });
    }
}

#[test]
fn an_orphan_goes_after_its_lease_and_not_before() {
    let folder = Folder::new();
    tokio_uring::start(async {
        let node = Node::open(&folder).await;
        let (orphan, body) = node.upload(3, 600_000).await;
        let (held, held_body) = node.upload(4, 600_000).await;
        node.bodies.hold(Hold::Upload(held.upload));
        node.bodies
            .reclaim(AT.plus_ms(UPLOAD_LEASE_MS), 1 << 30)
            .await
            .expect("readable");
        node.assert_readable(orphan, &body).await;
        node.bodies
            .reclaim(AT.plus_ms(UPLOAD_LEASE_MS * 2), 1 << 30)
            .await
            .expect("readable");
        assert!(matches!(node.read(orphan, 0).await, Err(ReadError::Gone { .. })));
        node.assert_readable(held, &held_body).await;
        // Released: its lease has passed long ago, and it goes with the next turn.
        node.bodies.hold(Hold::ReleaseUpload(held.upload));
        node.bodies.reclaim(AT, 1 << 30).await.expect("readable");
        assert!(matches!(node.read(held, 0).await, Err(ReadError::Gone { .. })));
        assert_eq!(node.bodies.stats().live_bytes, 0);
        node.journal.close().await;
    });
}

#[test]
fn mostly_dead_segments_are_rewritten_and_removed_and_the_rest_lives_on() {
    let folder = Folder::new();
    let mut kept = Vec::new();
    tokio_uring::start(async {
        let node = Node::open(&folder).await;
        let mut dead = Vec::new();
        for seed in 0..40 {
            let (manifest, body) = node.upload(seed, 1_200_000).await;
            node.bodies.hold(Hold::Upload(manifest.upload));
            if seed % 5 == 2 {
                kept.push((manifest, body));
            } else {
                dead.push(manifest);
            }
        }
        node.checkpoint();
        let before = node.bodies.stats();
        for manifest in dead {
            node.bodies.hold(Hold::ReleaseUpload(manifest.upload));
        }
        // A reader that began before the moves.
        let (slow, slow_body) = &kept[0];
        let mut download = node.bodies.read(*slow, 0);
        let mut read = download.next().await.expect("a piece").expect("readable").to_vec();
        let last_piece = node
            .bodies
            .shared
            .map
            .position(slow.upload, slow.pieces - 1)
            .expect("placed");
        let gone = |node: &Node| {
            node.journal
                .segments(Stream::Bodies)
                .iter()
                .all(|info| info.number != last_piece.segment)
        };
        let mut turns = 0;
        while !gone(&node) {
            let freed = node.bodies.reclaim(AT, 1 << 20).await.expect("readable");
            let landed = node.ledger.checkpoint_landed();
            assert!(
                freed == 0 || landed >= 3,
                "a segment went before a checkpoint had taken its moves over"
            );
            node.checkpoint();
            turns += 1;
            assert!(turns < 200, "nothing comes back");
        }
        while let Some(piece) = download.next().await {
            read.extend_from_slice(&piece.expect("a moved piece is found again"));
        }
        assert!(read == *slow_body, "other bytes than were written");
        for _ in 0..60 {
            node.reclaim_all(AT).await;
        }
        let after = node.bodies.stats();
        assert!(after.used_bytes < before.used_bytes / 2, "{before:?} {after:?}");
        assert_eq!(after.live_bytes, kept.len() as u64 * 1_200_000);
        for (manifest, body) in &kept {
            node.assert_readable(*manifest, body).await;
        }
        node.journal.close().await;
    });
    tokio_uring::start(async {
        let node = Node::open(&folder).await;
        for (manifest, body) in &kept {
            node.assert_readable(*manifest, body).await;
        }
        assert_eq!(node.bodies.stats().live_bytes, kept.len() as u64 * 1_200_000);
        node.journal.close().await;
    });
}

#[test]
fn moves_that_no_checkpoint_has_are_replayed() {
    let folder = Folder::new();
    let mut kept = Vec::new();
    tokio_uring::start(async {
        let node = Node::open(&folder).await;
        for seed in 0..12 {
            let (manifest, body) = node.upload(seed, 1_200_000).await;
            node.bodies.hold(Hold::Upload(manifest.upload));
            if seed % 6 == 3 {
                kept.push((manifest, body));
            } else {
                node.bodies.hold(Hold::ReleaseUpload(manifest.upload));
            }
        }
        node.checkpoint();
        let places = || {
            kept.iter()
                .flat_map(|(manifest, _)| node.bodies.shared.map.pieces(manifest.upload))
        };
        let before: Vec<_> = places().collect();
        node.bodies.reclaim(AT, 64 << 20).await.expect("readable");
        assert_ne!(places().collect::<Vec<_>>(), before, "pieces were moved");
        node.journal.close().await;
    });
    tokio_uring::start(async {
        let node = Node::open(&folder).await;
        for (manifest, body) in &kept {
            node.assert_readable(*manifest, body).await;
        }
        assert_eq!(
            node.bodies.shared.map.orphans(10, &mut |_| true),
            Vec::new(),
            "a moved piece is no orphan"
        );
        node.journal.close().await;
    });
}

#[test]
fn a_manifest_that_lies_about_its_length_is_not_served() {
    let folder = Folder::new();
    tokio_uring::start(async {
        let node = Node::open(&folder).await;
        let (manifest, _) = node.upload(9, 300_000).await;
        let longer = Manifest {
            bytes: 300_001,
            ..manifest
        };
        assert!(matches!(node.read(longer, 0).await, Err(ReadError::Corrupt { .. })));
        let missing = Manifest {
            pieces: 3,
            bytes: 600_000,
            ..manifest
        };
        assert!(!node.bodies.has(&missing));
        let mut download = node.bodies.read(
            Manifest {
                upload: UploadId(1),
                ..manifest
            },
            0,
        );
        assert!(matches!(download.next().await, Some(Err(ReadError::Gone { .. }))));
        assert!(download.next().await.is_none(), "nothing after an error");
        node.journal.close().await;
    });
}

#[test]
fn an_upload_that_is_dropped_unfinished_leaves_only_orphans() {
    let folder = Folder::new();
    tokio_uring::start(async {
        let node = Node::open(&folder).await;
        let mut upload = node.bodies.begin(AT);
        upload.write(Bytes::from(vec![1; 900_000])).await.expect("room");
        drop(upload);
        let (other, _) = node.upload(1, 1).await;
        node.bodies.hold(Hold::Upload(other.upload));
        node.bodies
            .reclaim(AT.plus_ms(UPLOAD_LEASE_MS * 2), 1 << 20)
            .await
            .expect("readable");
        assert_eq!(node.bodies.stats().live_bytes, 1);
        node.journal.close().await;
    });
}

/// Uploads, holds, releases, turns of the reclaim, checkpoints and restarts in any order: what is held is always whole, and in
/// the end all other space has come back. The holds since the last checkpoint are replayed, as the log does it.
#[test]
fn whatever_happens_in_any_order_held_bodies_stay_whole() {
    for seed in 0..4u64 {
        let folder = Folder::new();
        let mut random = StdRng::seed_from_u64(seed);
        let mut held: Vec<(Manifest, Vec<u8>)> = Vec::new();
        let mut since_checkpoint = Vec::new();
        for round in 0..6u8 {
            tokio_uring::start(async {
                let node = Node::open(&folder).await;
                for hold in &since_checkpoint {
                    node.bodies.hold(*hold);
                }
                for step in 0..25u8 {
                    match random.random_range(0..10) {
                        0..5 => {
                            let bytes = random.random_range(1..900_000);
                            let (manifest, body) = node.upload(round.wrapping_mul(31) ^ step, bytes).await;
                            if random.random_range(0..4) > 0 {
                                let hold = Hold::Upload(manifest.upload);
                                node.bodies.hold(hold);
                                since_checkpoint.push(hold);
                                held.push((manifest, body));
                            }
                        }
                        5..7 if held.len() > 2 => {
                            let (manifest, _) = held.swap_remove(random.random_range(0..held.len()));
                            let hold = Hold::ReleaseUpload(manifest.upload);
                            node.bodies.hold(hold);
                            since_checkpoint.push(hold);
                        }
                        7 => {
                            node.checkpoint();
                            since_checkpoint.clear();
                        }
                        _ => {
                            let now = AT.plus_ms(if random.random() { 0 } else { UPLOAD_LEASE_MS * 2 });
                            let budget = random.random_range(1..3_000_000);
                            node.bodies
                                .reclaim(now, budget)
                                .await
                                .unwrap_or_else(|error| panic!("{error}, seed {seed}"));
                        }
                    }
                    if let Some((manifest, body)) = held.last() {
                        node.assert_readable(*manifest, body).await;
                    }
                }
                for (manifest, body) in &held {
                    let read = node
                        .read(*manifest, 0)
                        .await
                        .unwrap_or_else(|error| panic!("{error}, seed {seed}"));
                    assert!(read == *body, "other bytes than were written, seed {seed}");
                }
                node.journal.close().await;
            });
        }
        tokio_uring::start(async {
            let node = Node::open(&folder).await;
            since_checkpoint.drain(..).for_each(|hold| node.bodies.hold(hold));
            for _ in 0..4 {
                node.reclaim_all(AT.plus_ms(UPLOAD_LEASE_MS * 2)).await;
            }
            let live: u64 = held.iter().map(|(manifest, _)| manifest.bytes).sum();
            assert_eq!(node.bodies.stats().live_bytes, live, "seed {seed}");
            node.journal.close().await;
        });
    }
}

#[test]
fn after_an_install_what_the_new_state_names_stays_and_the_rest_goes() {
    let folder = Folder::new();
    let copy = folder.0.join("copy");
    tokio_uring::start(async {
        let node = Node::open(&folder).await;
        let (early, early_body) = node.upload(1, 500_000).await;
        node.bodies.hold(Hold::Upload(early.upload));
        node.checkpoint();
        node.ledger.copy_blocking(&copy).expect("copied");
        // Held later: the state that is installed knows nothing of it.
        let (late, _) = node.upload(2, 500_000).await;
        node.bodies.hold(Hold::Upload(late.upload));
        node.ledger.install_blocking(&copy).expect("installed");
        node.reclaim_all(AT.plus_ms(UPLOAD_LEASE_MS * 2)).await;
        node.assert_readable(early, &early_body).await;
        assert!(matches!(node.read(late, 0).await, Err(ReadError::Gone { .. })));
        assert_eq!(node.bodies.stats().live_bytes, 500_000);
        node.journal.close().await;
    });
}

#[test]
fn readers_on_other_threads_never_get_wrong_bytes_while_pieces_move() {
    let folder = Folder::new();
    tokio_uring::start(async {
        let node = Node::open(&folder).await;
        let mut kept = Vec::new();
        let mut dead = Vec::new();
        for seed in 0..24 {
            let (manifest, body) = node.upload(seed, 1_000_000).await;
            node.bodies.hold(Hold::Upload(manifest.upload));
            if seed % 4 == 1 {
                kept.push((manifest, body))
            } else {
                dead.push(manifest)
            }
        }
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (bodies, kept, stop) = (node.bodies.clone(), kept.clone(), stop.clone());
                std::thread::spawn(move || {
                    tokio_uring::start(async move {
                        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                            for (manifest, body) in &kept {
                                let mut download = bodies.read(*manifest, 0);
                                let mut read = Vec::new();
                                while let Some(piece) = download.next().await {
                                    read.extend_from_slice(&piece.expect("held bodies are always there"));
                                }
                                assert!(read == *body, "other bytes than were written");
                            }
                        }
                    });
                })
            })
            .collect();
        for manifest in dead {
            node.bodies.hold(Hold::ReleaseUpload(manifest.upload));
            node.reclaim_all(AT).await;
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for reader in readers {
            reader.join().expect("no wrong bytes");
        }
        assert_eq!(node.bodies.stats().live_bytes, kept.len() as u64 * 1_000_000);
        node.journal.close().await;
    });
}
