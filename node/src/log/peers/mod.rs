//! The way between members: mutual TLS, frames with calls and answers, one connection for each purpose.
//!
//! Owns connections, their handshake, and what an answer or its absence means. Must never know what a command says.
//! Everything here lives on the log's thread.
//!
//! Invariants:
//! - A peer is who its certificate names; it belongs to this cluster and epoch, or it is refused with the reason.
//! - Memory by peer is bounded: frames, bytes on their way out, and requests in work each have a limit; who reaches
//!   it waits, and so does whoever sends to him.
//! - An answer that does not come means that nobody knows; what surely was not taken is told apart.

pub mod frame;
pub mod link;
pub mod serve;
pub mod tls;

use super::identity::Identity;
use super::level::{self, Speaks};
use super::types::Member;
use bytes::Bytes;
use frame::Purpose;
use link::{Link, Target};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use tls::{PeerTls, PeerTlsFiles};

/// Bytes on their way to one peer over one connection; who has more to send waits.
pub const OUTGOING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Requests of one connection in work at once.
pub const CALLS_MAX: usize = 256;
/// A connection on which an answer is due and nothing at all came for so long is given up.
pub const SILENCE_MAX: Duration = Duration::from_secs(3);
/// How often who works on an answer says so.
pub const WORKING_EVERY: Duration = Duration::from_millis(500);
/// How long a connection may take to be made.
pub const CONNECT_MAX: Duration = Duration::from_secs(1);

/// A certificate, key or authority of `[cluster]` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{file} of [cluster] cannot be used: {cause}")]
pub struct PeerTlsError {
    /// Which.
    pub file: PathBuf,
    /// Why.
    pub cause: String,
}

/// Seconds of silence after which the kernel asks whether the other end is still there, and gives it up as long again after.
const KEEP_ALIVE_S: u32 = 5;

/// Frames leave at once, and a peer that vanished without a word does not hold its connection for ever.
fn keep_alive(socket: &tokio::net::TcpStream) -> std::io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    socket.set_nodelay(true)?;
    setsockopt(socket, sockopt::KeepAlive, &true)?;
    setsockopt(socket, sockopt::TcpKeepIdle, &KEEP_ALIVE_S)?;
    setsockopt(socket, sockopt::TcpKeepInterval, &1)?;
    setsockopt(socket, sockopt::TcpKeepCount, &KEEP_ALIVE_S)?;
    setsockopt(socket, sockopt::TcpUserTimeout, &(2 * KEEP_ALIVE_S * 1_000))?;
    Ok(())
}

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The cluster it belongs to; none while it waits to be taken in.
    pub cluster: Option<u128>,
    /// Its epoch.
    pub epoch: u64,
    /// Its number.
    pub node: u64,
    /// Its name; its certificate must carry it.
    pub name: String,
    /// Its data folder.
    pub incarnation: u128,
    /// The release it runs.
    pub release: String,
    /// The format levels that it speaks. Sent behind the rest, which is all that the first releases send and read.
    #[serde(skip)]
    pub speaks: Speaks,
}

impl Hello {
    /// As it is sent.
    pub fn encode(&self) -> Bytes {
        frame::encode_with(self, &self.speaks)
    }

    /// And back, also that of a release that knew no levels.
    pub fn decode(bytes: &[u8]) -> std::io::Result<Hello> {
        let (hello, speaks): (Hello, Option<Speaks>) = frame::decode_with(bytes)?;
        let speaks = speaks.unwrap_or_default();
        Ok(Hello { speaks, ..hello })
    }
}

/// Why a peer did not do it. Goes over the wire: cases are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Somebody else leads, or nobody. Nothing was done.
    #[error("it does not lead")]
    NotLeader {
        /// Who does, as far as it knows.
        leader: Option<(u64, Member)>,
    },
    /// Nothing was done, and this is why.
    #[error("{0}")]
    Said(String),
    /// A command was not taken: too much waits, the disk is full, the clock jumped, it is closing.
    #[error("it takes no commands now")]
    NotTaken(NotTaken),
    /// The outcome is not known.
    #[error("the outcome is unknown")]
    Unknown,
    /// It does not have it.
    #[error("it does not have it")]
    Gone,
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotTaken {
    /// Too much waits.
    Overloaded,
    /// The disk is full up to its reserve.
    DiskFull,
    /// The clock jumped.
    ClockJumped,
    /// It is closing.
    Closing,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// No connection: nothing was sent.
    #[error("not reachable: {0}")]
    Unreachable(String),
    /// The connection ended, or stayed silent, after the request was sent: nobody knows.
    #[error("the connection was lost")]
    Lost,
    /// No answer in time: nobody knows.
    #[error("no answer in time")]
    TimedOut,
    /// The peer refused.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// The answer cannot be read.
    #[error("an answer that cannot be read")]
    Malformed,
}

/// What all connections share.
pub struct Local {
    /// Whose folder this is.
    pub identity: Arc<Mutex<Identity>>,
    /// This node as a member.
    pub member: Member,
    /// The release it runs.
    pub release: &'static str,
    /// Keys and trust.
    pub tls: Arc<PeerTls>,
    /// Who was refused last, and why: said once, because a peer that is refused tries again and again.
    pub refused: Mutex<FxHashMap<u64, String>>,
}

/// Refused peers remembered at once.
const REFUSED_MAX: usize = 64;

impl Local {
    /// Logs that a peer was refused, unless the same was logged of it before.
    fn note_refused(&self, peer: &Hello, why: &str) {
        let mut refused = self.refused.lock();
        if refused.get(&peer.node).is_some_and(|said| said == why) {
            return;
        }
        if refused.len() >= REFUSED_MAX {
            refused.clear();
        }
        refused.insert(peer.node, why.to_owned());
        tracing::warn!(peer = peer.node, name = peer.name, why, "a peer was refused");
    }

    /// Logs that one that was refused is taken now.
    fn note_taken(&self, peer: &Hello) {
        if self.refused.lock().remove(&peer.node).is_some() {
            tracing::info!(peer = peer.node, name = peer.name, "a peer that was refused is taken");
        }
    }

    /// What this node says of itself.
    pub fn hello(&self) -> Hello {
        let identity = self.identity.lock();
        Hello {
            cluster: identity.cluster,
            epoch: identity.epoch,
            node: identity.node,
            name: self.member.name.clone(),
            incarnation: identity.incarnation,
            release: self.release.to_owned(),
            speaks: Speaks::this(),
        }
    }

    /// Why this peer is not one of ours, or speaks too old or new a format; `None` when it is and does. One of the two may
    /// belong nowhere yet.
    fn stranger(&self, peer: &Hello) -> Option<String> {
        let own = self.identity.lock();
        // Whoever belongs nowhere yet has no level to hold against anybody.
        let level = own.cluster.map(|_| own.level.0);
        if let Some(why) = level.and_then(|level| level::cannot_enter(&peer.release, peer.speaks, level)) {
            return Some(why);
        }
        let (Some(ours), Some(theirs)) = (own.cluster, peer.cluster) else {
            return None;
        };
        if ours != theirs {
            return Some(
                "it belongs to another cluster; correct [cluster] peers, or give it a new data folder".to_owned(),
            );
        }
        (own.epoch != peer.epoch).then(|| {
            format!(
                "cluster epoch {} there, {} here: one of the two was left behind when a site went on alone; give that one \
                 a new number and data folder",
                peer.epoch, own.epoch
            )
        })
    }
}

/// Connections to all peers, made when they are first used.
pub struct Peers {
    local: Rc<Local>,
    links: RefCell<FxHashMap<(u64, Purpose), Rc<Link>>>,
}

impl Peers {
    /// None yet.
    pub fn new(local: Rc<Local>) -> Peers {
        Peers {
            local,
            links: RefCell::default(),
        }
    }

    /// What all connections share.
    pub fn local(&self) -> &Rc<Local> {
        &self.local
    }

    /// The connection to a member. One whose address changed is made anew.
    pub fn link(&self, id: u64, member: &Member, purpose: Purpose) -> Rc<Link> {
        let mut links = self.links.borrow_mut();
        if let Some(link) = links.get(&(id, purpose))
            && link.target().address == member.address
        {
            return link.clone();
        }
        let link = Rc::new(Link::new(self.local.clone(), Target::member(id, member), purpose));
        links.insert((id, purpose), link.clone());
        link
    }

    /// A connection of its own, for whoever needs one that nobody else uses.
    pub fn own_link(&self, id: u64, member: &Member, purpose: Purpose) -> Link {
        Link::new(self.local.clone(), Target::member(id, member), purpose)
    }

    /// A connection to an address, whoever is there.
    pub fn stranger(&self, address: &str) -> Link {
        let target = Target {
            member: None,
            address: address.to_owned(),
        };
        Link::new(self.local.clone(), target, Purpose::Calls)
    }

    /// Asks a member and waits at most so long.
    pub async fn call(
        &self,
        id: u64,
        member: &Member,
        purpose: Purpose,
        kind: u8,
        payload: Bytes,
        limit: Duration,
    ) -> Result<Bytes, PeerError> {
        self.link(id, member, purpose).call(kind, payload, limit).await
    }
}
