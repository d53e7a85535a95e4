//! What `vertebra status` shows, and how it is judged.

use super::Admin;
use crate::log::DeepPing;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::atomic::Ordering;

/// How the node, and with it the cluster, is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Exit code 0.
    Healthy,
    /// Serves, but somebody should look: exit code 10.
    Degraded,
    /// Takes no writes: exit code 20.
    CannotWrite,
}

/// The answer of `GET /admin/status`. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The worst of all members.
    pub state: State,
    /// Why it is not healthy, one sentence each.
    pub reasons: Vec<String>,
    /// Where clients reach the front door.
    pub url: String,
    /// The node's clock, ISO.
    pub now: String,
    /// All members; one on a cluster of one.
    pub members: Vec<Member>,
    /// Mailboxes registered.
    pub mailboxes: u64,
    /// Messages waiting in all inboxes.
    pub waiting: u64,
    /// Seconds since the oldest waiting message arrived.
    pub oldest_seconds: u64,
    /// Entries in the audit chain.
    pub audit_entries: u64,
    /// Patients' records, void ones included.
    #[serde(default)]
    pub patients: u64,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Number.
    pub id: u64,
    /// Name.
    pub name: String,
    /// Data centre.
    pub site: String,
    /// `leader` or `follower`.
    pub role: String,
    /// Release it runs.
    pub release: String,
    /// Last applied log index.
    pub applied: u64,
    /// Committed entries that it has not applied.
    pub lag: u64,
    /// The last write and fsync, µs.
    pub fsync_us: u64,
    /// The mean of all since start, µs.
    pub fsync_us_mean: u64,
    /// Free bytes on the data folder's file system.
    pub disk_free_bytes: u64,
    /// Its size.
    pub disk_bytes: u64,
    /// Whole days until the server's certificate expires, negative after; absent when it cannot be read.
    pub certificate_days: Option<i64>,
}

/// What the judgement looks at.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub serving: bool,
    pub alive: bool,
    pub leader: bool,
    pub lag: u64,
    pub fsync_us: u64,
    pub free_bytes: u64,
    pub reserve_bytes: u64,
    pub certificate_days: Option<i64>,
}

/// A sync slower than this needs a look, µs.
const FSYNC_US_SLOW: u64 = 250_000;
/// Committed entries not applied from which on reads lag visibly.
const LAG_SLOW: u64 = 10_000;
/// A certificate that expires within so many days needs a new one.
const CERTIFICATE_DAYS_LOW: i64 = 14;

impl Facts {
    /// The state and why.
    pub(super) fn judge(&self) -> (State, Vec<String>) {
        let mut blocked = Vec::new();
        let mut worrying = Vec::new();
        if !self.serving {
            blocked.push("the node is starting or stopping".to_owned());
        }
        if !self.alive {
            blocked.push("a thread stands still; systemd will restart the node".to_owned());
        }
        if !self.leader {
            blocked.push("there is no leader here; reads are answered, writes are refused".to_owned());
        }
        if self.free_bytes <= self.reserve_bytes {
            blocked.push(format!(
                "the disk is full up to its reserve ({} free, {} kept); free space, writes resume by themselves",
                bytes_text(self.free_bytes),
                bytes_text(self.reserve_bytes)
            ));
        } else if self.free_bytes < self.reserve_bytes.saturating_mul(2) {
            worrying.push(format!(
                "the disk has {} left; writes stop at {}",
                bytes_text(self.free_bytes),
                bytes_text(self.reserve_bytes)
            ));
        }
        if self.fsync_us > FSYNC_US_SLOW {
            worrying.push(format!(
                "the last fsync took {} ms; look at the disk",
                self.fsync_us / 1_000
            ));
        }
        if self.lag > LAG_SLOW {
            worrying.push(format!("{} committed entries wait to be applied", self.lag));
        }
        match self.certificate_days {
            None => worrying.push("the server's certificate cannot be read; see `vertebra doctor`".to_owned()),
            Some(days) if days < 0 => worrying.push("the server's certificate has expired; replace it".to_owned()),
            Some(days) if days < CERTIFICATE_DAYS_LOW => {
                worrying.push(format!("the server's certificate expires in {days} days; replace it"));
            }
            Some(_) => {}
        }
        let state = match (blocked.is_empty(), worrying.is_empty()) {
            (false, _) => State::CannotWrite,
            (true, false) => State::Degraded,
            (true, true) => State::Healthy,
        };
        blocked.append(&mut worrying);
        (state, blocked)
    }
}

/// A size for people: `1.5 GiB`.
pub fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// The slowest part of a deep ping and its time in µs.
pub(super) fn slowest(ping: &DeepPing) -> (&'static str, u64) {
    let parts = [
        ("queue", ping.queue_us),
        ("fsync", ping.fsync_us),
        ("apply", ping.apply_us),
        ("read", ping.read_us),
    ];
    parts.into_iter().max_by_key(|(_, us)| *us).expect("four parts")
}

/// What a slow part means.
pub(super) fn verdict(part: &str, us: u64) -> &'static str {
    const SLOW_US: u64 = 50_000;
    match part {
        _ if us < SLOW_US => "every part is quick",
        "queue" => "the log's thread is busy: look at load and at the number of cores",
        "fsync" => "the disk is slow: look at its latency and at what else writes to it",
        "apply" => "applying is slow: look at the ledger's disk and at checkpoints",
        _ => "reading is slow: look at memory pressure and at the disk",
    }
}

/// Days until the first certificate of a PEM file expires, and the same in seconds.
pub(super) fn certificate_seconds(file: &Path, now_ms: u64) -> Option<i64> {
    use rustls_pki_types::pem::PemObject as _;
    let der = rustls_pki_types::CertificateDer::from_pem_file(file).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
    Some(certificate.validity().not_after.timestamp() - (now_ms / 1_000) as i64)
}

/// Free and whole size of the file system that holds `folder`, bytes.
pub(super) fn disk(folder: &Path) -> (u64, u64) {
    nix::sys::statvfs::statvfs(folder).map_or((0, 0), |s| {
        let block = s.fragment_size() as u64;
        (s.blocks_available() as u64 * block, s.blocks() as u64 * block)
    })
}

impl Admin {
    /// Days to the server certificate's end. Certificates live by the wall clock, which the sandbox does not move.
    fn certificate_days(&self) -> Option<i64> {
        let wall = crate::base::Clock::default().now().ms();
        certificate_seconds(&self.config.tls.certificate, wall).map(|seconds| seconds.div_euclid(86_400))
    }

    pub(super) fn facts(&self) -> Facts {
        let log = self.log.status();
        Facts {
            serving: self.serving.load(Ordering::Relaxed),
            alive: self.alive.load(Ordering::Relaxed),
            leader: log.leader,
            lag: log.committed.saturating_sub(log.applied),
            fsync_us: self.journal.stats().sync_us_last,
            free_bytes: disk(&self.config.node.data).0,
            reserve_bytes: self.config.journal.reserve_bytes,
            certificate_days: self.certificate_days(),
        }
    }

    pub(super) async fn status(&self) -> Status {
        let depths = self.look().await;
        let (state, reasons) = self.facts().judge();
        let log = self.log.status();
        let journal = self.journal.stats();
        let (disk_free_bytes, disk_bytes) = disk(&self.config.node.data);
        let member = Member {
            id: self.config.node.id,
            name: self.config.node.name.clone(),
            site: self.config.node.site.clone(),
            role: if log.leader { "leader" } else { "follower" }.to_owned(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
            applied: log.applied,
            lag: log.committed.saturating_sub(log.applied),
            fsync_us: journal.sync_us_last,
            fsync_us_mean: journal.sync_us_sum.checked_div(journal.batches).unwrap_or(0),
            disk_free_bytes,
            disk_bytes,
            certificate_days: self.certificate_days(),
        };
        let now = self.clock.now();
        Status {
            state,
            reasons,
            url: self.url.clone(),
            now: now.iso(),
            members: vec![member],
            mailboxes: depths.mailboxes,
            waiting: depths.waiting,
            oldest_seconds: depths.oldest.map_or(0, |at| now.since_ms(at) / 1_000),
            audit_entries: self.audit.head().sequence,
            patients: crate::services::pds::state::records(&self.ledger),
        }
    }
}
