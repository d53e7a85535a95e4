//! Large bodies between members: pieces go to everybody while a client sends them, and what a node lacks it fetches.
//!
//! A piece counts once a majority of voters has it durable; the command that names the body is proposed only then. Members
//! beyond the majority get it too while they keep up: who does not is left out and fetches what it lacks.

use super::cluster::Cluster;
use super::membership::LastMembership;
use super::peers::frame::{self, Purpose, kind};
use super::types::Member;
use crate::base::UploadId;
use crate::bodies::{Others, Sent};
use bytes::Bytes;
use rustc_hash::FxHashMap;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};

/// Bytes on their way to one member beyond which it is left out, if the majority does not need it.
const BEHIND_BYTES: usize = 8 * 1024 * 1024;
/// A piece that a member did not confirm within this does not count.
const PUT_MAX: Duration = Duration::from_secs(10);
const GET_MAX: Duration = Duration::from_secs(3);
/// How often a node tries again to get what it lacks.
const LACKING_EVERY: Duration = Duration::from_secs(2);
/// Held uploads looked at in one go after a start.
const LOOK: usize = 1_000;

enum Asked {
    Send(UploadId, u32, Vec<Bytes>, oneshot::Sender<()>),
    Fetch(UploadId, u32, oneshot::Sender<Bytes>),
    Lacking(UploadId),
}

/// Starts the tasks and tells the bodies of the other members.
pub fn start(cluster: &Rc<Cluster>) {
    let (asks, mut asked) = mpsc::unbounded_channel();
    let (send, fetch, lacking) = (asks.clone(), asks.clone(), asks);
    cluster.bodies.join(Others {
        send: Box::new(move |upload, piece, parts| -> Sent {
            let (tell, sent) = oneshot::channel();
            let _stopping = send.send(Asked::Send(upload, piece, parts, tell));
            sent
        }),
        fetch: Box::new(move |upload, piece| {
            let (tell, fetched) = oneshot::channel();
            let _stopping = fetch.send(Asked::Fetch(upload, piece, tell));
            fetched
        }),
        lacking: Box::new(move |upload| {
            let _stopping = lacking.send(Asked::Lacking(upload));
        }),
    });
    let bulk = Rc::new(Bulk {
        cluster: cluster.clone(),
        behind: RefCell::default(),
        lacking: RefCell::default(),
        wake: Notify::new(),
    });
    tokio::task::spawn_local(bulk.clone().run_lacking());
    tokio::task::spawn_local(async move {
        while let Some(ask) = asked.recv().await {
            match ask {
                Asked::Send(upload, piece, parts, tell) => bulk.send(upload, piece, &parts, tell),
                Asked::Fetch(upload, piece, tell) => {
                    let bulk = bulk.clone();
                    tokio::task::spawn_local(async move {
                        if let Some(bytes) = bulk.fetch(upload, piece).await {
                            let _gone = tell.send(bytes);
                        }
                    });
                }
                Asked::Lacking(upload) => {
                    bulk.lacking.borrow_mut().insert(upload);
                    bulk.wake.notify_one();
                }
            }
        }
    });
}

struct Bulk {
    cluster: Rc<Cluster>,
    /// Bytes on their way, by member.
    behind: RefCell<FxHashMap<u64, Rc<Cell<usize>>>>,
    lacking: RefCell<BTreeSet<UploadId>>,
    wake: Notify,
}

impl Bulk {
    /// Sends a piece to the others; `tell` is told when a majority has it.
    fn send(&self, upload: UploadId, piece: u32, parts: &[Bytes], tell: oneshot::Sender<()>) {
        let LastMembership {
            mut members, voters, ..
        } = self.cluster.membership();
        let me = self.cluster.me();
        members.remove(&me);
        // This node's own journal is waited for by whoever asks.
        let needed = (voters.len() / 2 + 1).saturating_sub(usize::from(voters.contains(&me)));
        if members.is_empty() {
            let _gone = tell.send(());
            return;
        }
        let payload = frame::encode_piece(upload.0, piece, parts);
        let behind = |id: &u64| self.behind.borrow_mut().entry(*id).or_default().clone();
        let keeps_up = |id: &u64| behind(id).get() < BEHIND_BYTES;
        let prompt = voters.iter().filter(|id| **id != me && keeps_up(id)).count();
        let confirmed = Rc::new(Confirmed {
            needed: Cell::new(needed),
            tell: Cell::new(Some(tell)),
        });
        confirmed.look();
        for (id, member) in members {
            if !keeps_up(&id) && prompt >= needed {
                continue;
            }
            let (link, counts) = (
                self.cluster.peers.link(id, &member, Purpose::Bulk),
                voters.contains(&id),
            );
            let (payload, confirmed, under_way) = (payload.clone(), confirmed.clone(), behind(&id));
            under_way.set(under_way.get() + payload.len());
            tokio::task::spawn_local(async move {
                let bytes = payload.len();
                let kept = link.call(kind::PIECE_PUT, payload, PUT_MAX).await;
                under_way.set(under_way.get() - bytes);
                if kept.is_ok() && counts {
                    confirmed.one();
                }
            });
        }
    }

    /// A piece from the leader or whoever has it.
    async fn fetch(&self, upload: UploadId, piece: u32) -> Option<Bytes> {
        for (id, member) in self.others() {
            let link = self.cluster.peers.link(id, &member, Purpose::Bulk);
            let payload = frame::encode(&(upload.0, piece));
            if let Ok(bytes) = link.call(kind::PIECE_GET, payload, GET_MAX).await {
                return Some(bytes);
            }
        }
        None
    }

    /// Every other member, the leader first.
    fn others(&self) -> Vec<(u64, Member)> {
        let leader = self.cluster.leader().map(|(id, _)| id);
        let me = self.cluster.me();
        let mut others: Vec<(u64, Member)> = self.cluster.membership().members.into_iter().collect();
        others.retain(|(id, _)| *id != me);
        others.sort_by_key(|(id, _)| Some(*id) != leader);
        others
    }

    /// Fetches what this node lacks, first what a start finds.
    async fn run_lacking(self: Rc<Bulk>) {
        let mut after = None;
        loop {
            let found = self.cluster.bodies.held(after, LOOK);
            let Some(last) = found.last().copied() else { break };
            after = Some(last);
            let lacking = found
                .into_iter()
                .filter(|upload| self.cluster.bodies.lacks_pieces(*upload));
            self.lacking.borrow_mut().extend(lacking);
            tokio::task::yield_now().await;
        }
        loop {
            let waiting: Vec<UploadId> = self.lacking.borrow().iter().copied().collect();
            let mut left = 0;
            for upload in waiting {
                if !self.cluster.bodies.is_held(upload) || self.complete(upload).await {
                    self.lacking.borrow_mut().remove(&upload);
                } else {
                    left += 1;
                }
            }
            if left == 0 {
                self.wake.notified().await;
            } else {
                tokio::time::sleep(LACKING_EVERY).await;
            }
        }
    }

    /// Fetches the pieces of one upload that are not here; says whether it is whole now.
    async fn complete(&self, upload: UploadId) -> bool {
        let mut whole = false;
        for (id, member) in self.others() {
            let link = self.cluster.peers.link(id, &member, Purpose::Bulk);
            let theirs = link.call(kind::PIECES, frame::encode(&upload.0), GET_MAX).await;
            let Ok(theirs) = theirs
                .map_err(drop)
                .and_then(|bytes| frame::decode::<Vec<(u32, u32)>>(&bytes).map_err(drop))
            else {
                continue;
            };
            let here: BTreeSet<u32> = self
                .cluster
                .bodies
                .pieces(upload)
                .into_iter()
                .map(|(piece, _)| piece)
                .collect();
            let mut failed = theirs.is_empty();
            for (piece, bytes) in theirs.iter().filter(|(piece, _)| !here.contains(piece)) {
                let got = link
                    .call(kind::PIECE_GET, frame::encode(&(upload.0, *piece)), GET_MAX)
                    .await;
                let got = got.ok().filter(|got| got.len() == *bytes as usize);
                let kept = match got {
                    Some(got) => self.cluster.bodies.keep(upload, *piece, got).await.is_ok(),
                    None => false,
                };
                failed |= !kept;
            }
            whole |= !failed;
            if whole && !self.cluster.bodies.lacks_pieces(upload) {
                return true;
            }
        }
        // Whole as far as anybody knows: a body whose last piece is full cannot be told from one that lacks its end.
        whole
    }
}

/// Who waits for a majority.
struct Confirmed {
    needed: Cell<usize>,
    tell: Cell<Option<oneshot::Sender<()>>>,
}

impl Confirmed {
    fn one(&self) {
        self.needed.set(self.needed.get().saturating_sub(1));
        self.look();
    }

    fn look(&self) {
        if self.needed.get() == 0
            && let Some(tell) = self.tell.take()
        {
            let _gone = tell.send(());
        }
    }
}
