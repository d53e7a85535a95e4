//! What `vertebra status` shows, and how it is judged.

use super::Admin;
use super::upgrade::Shown;
use crate::base::release;
use crate::config::Config;
use crate::journal::Journal;
use crate::log::{ClusterView, DeepPing, Log, MemberView};
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
    /// Number of the node that answers.
    #[serde(default)]
    pub node: u64,
    /// Where clients reach the front door.
    pub url: String,
    /// The node's clock, ISO.
    pub now: String,
    /// All members; one on a cluster of one.
    pub members: Vec<Member>,
    /// What they have in common.
    #[serde(default)]
    pub cluster: ClusterStatus,
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
    /// Events to RabbitMQ.
    #[serde(default)]
    pub events: super::outbox::EventsView,
    /// Redis, as this node sees it.
    #[serde(default)]
    pub redis: super::redis::RedisView,
}

/// What all members have in common, as this node sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster, 32 hexadecimal digits; empty on a node without peers.
    pub id: String,
    /// How often a site went on alone, plus one.
    pub epoch: u64,
    /// Raft term.
    pub term: u64,
    /// Number of the member that leads; 0 while none is known.
    pub leader: u64,
    /// The largest difference between this node's clock and a member's, ms.
    pub skew_ms_max: u64,
    /// How old this node's state may be, seconds.
    pub state_age_seconds: u64,
    /// Members that vote.
    #[serde(default)]
    pub voters: u64,
    /// Of these, how many answer; this node included.
    #[serde(default)]
    pub voters_answering: u64,
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
    /// `HOST:PORT` by which members reach it; empty without peers.
    #[serde(default)]
    pub address: String,
    /// `leader`, `follower`, `learner` (it does not vote) or `unreachable`.
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
    /// Free bytes at which it refuses writes.
    #[serde(default)]
    pub disk_reserve_bytes: u64,
    /// Whole days until the server's certificate expires, negative after; absent when it cannot be read.
    pub certificate_days: Option<i64>,
    /// The same of its certificate among the members; absent without peers too.
    #[serde(default)]
    pub cluster_certificate_days: Option<i64>,
}

/// What the judgement looks at.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub serving: bool,
    pub alive: bool,
    pub drained: bool,
    pub writable: bool,
    pub catching_up: bool,
    pub caught_up: bool,
    pub left: bool,
    pub clock_agrees: bool,
    /// Members that do not answer, and why.
    pub unreachable: Vec<(String, String)>,
    /// Other members with the number of committed entries that they lack.
    pub behind: Vec<(String, u64)>,
    /// Other members whose disk is nearly full, their free bytes, and whether one is full and leads.
    pub short_disks: Vec<(String, u64, bool)>,
    /// Other members' clocks less this node's, ms.
    pub clocks: Vec<(String, i64)>,
    pub voters: u64,
    pub voters_answering: u64,
    pub lag: u64,
    pub fsync_us: u64,
    pub free_bytes: u64,
    pub reserve_bytes: u64,
    pub certificate_days: Option<i64>,
    /// `None` without peers.
    pub cluster_certificate_days: Option<Option<i64>>,
}

/// A sync slower than this needs a look, µs.
const FSYNC_US_SLOW: u64 = 250_000;
/// Committed entries not applied from which on reads lag visibly.
const LAG_SLOW: u64 = 10_000;
/// A member's clock further away than this is off, as the log itself judges, ms.
const SKEW_MS_HIGH: u64 = 5_000;
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
        if self.drained {
            blocked.push("the node is drained; `vertebra undrain` ends that".to_owned());
        }
        if self.left {
            blocked.push("this node is no member any more; stop it".to_owned());
        } else if self.catching_up {
            blocked.push("the node is not a voter yet; it catches up".to_owned());
        } else if !self.writable {
            blocked.push("no leader is known here; reads are answered, writes are refused".to_owned());
        } else if !self.caught_up {
            blocked
                .push("the node has just started and does not know yet that it is current; wait a moment".to_owned());
        }
        for (name, why) in &self.unreachable {
            worrying.push(format!("{name} does not answer: {why}"));
        }
        // One less than the smallest majority, and some have gone already.
        if self.voters_answering < self.voters && self.voters_answering == self.voters / 2 + 1 {
            worrying.push(format!(
                "{} of {} voters answer: with one less nothing can be written",
                self.voters_answering, self.voters
            ));
        }
        for (name, free, leads) in &self.short_disks {
            let what = format!("the disk of {name} has {} left", bytes_text(*free));
            // Degraded: this node still serves its readers, who must not be sent away for what they find everywhere.
            worrying.push(match leads {
                true => format!("{what} and it leads, so nothing can be written: `vertebra drain` there"),
                false => what,
            });
        }
        for (name, entries) in self.behind.iter().filter(|(_, entries)| *entries > LAG_SLOW) {
            worrying.push(format!("{name} is {entries} entries behind"));
        }
        if !self.clock_agrees {
            worrying.push("this node's clock is not its peers'; set its time right".to_owned());
        } else {
            for (name, skew_ms) in self.clocks.iter().filter(|(_, ms)| ms.unsigned_abs() > SKEW_MS_HIGH) {
                let way = if *skew_ms > 0 { "ahead" } else { "behind" };
                let seconds = skew_ms.unsigned_abs() / 1_000;
                worrying.push(format!("the clock of {name} is {seconds} s {way}; set its time right"));
            }
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
        worrying.extend(certificate("server's", self.certificate_days));
        worrying.extend(
            self.cluster_certificate_days
                .and_then(|days| certificate("cluster's", days)),
        );
        let state = match (blocked.is_empty(), worrying.is_empty()) {
            (false, _) => State::CannotWrite,
            (true, false) => State::Degraded,
            (true, true) => State::Healthy,
        };
        blocked.append(&mut worrying);
        (state, blocked)
    }
}

/// What to say of a certificate that ends in so many days.
fn certificate(whose: &str, days: Option<i64>) -> Option<String> {
    match days {
        None => Some(format!("the {whose} certificate cannot be read; see `vertebra doctor`")),
        Some(days) if days < 0 => Some(format!("the {whose} certificate has expired; replace it")),
        Some(days) if days < CERTIFICATE_DAYS_LOW => {
            Some(format!("the {whose} certificate expires in {days} days; replace it"))
        }
        Some(_) => None,
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
    pub(super) fn facts(&self) -> Facts {
        let log = self.log.status();
        let cluster = self.log.cluster();
        let silent = cluster.others.iter().filter(|other| other.status.is_none());
        let behind = |other: &MemberView| {
            let applied = other.status.as_ref()?.applied;
            Some((other.member.name.clone(), log.committed.saturating_sub(applied)))
        };
        let short_disk = |other: &MemberView| {
            let shown = shown(other)?.member;
            let reserve = shown.disk_reserve_bytes;
            let leads = other.leader && shown.disk_free_bytes <= reserve;
            let short = shown.disk_free_bytes < reserve.saturating_mul(2);
            short.then(|| (other.member.name.clone(), shown.disk_free_bytes, leads))
        };
        let (voters, voters_answering) = voters(&cluster);
        Facts {
            serving: self.serving.load(Ordering::Relaxed),
            alive: self.alive.load(Ordering::Relaxed),
            drained: self.drained.load(Ordering::Relaxed),
            writable: log.writable,
            catching_up: self.config.cluster.is_some() && !cluster.voter && !log.leader,
            caught_up: self.log.has_caught_up(),
            left: cluster.cluster.is_some() && log.applied > 0 && !cluster.member,
            clock_agrees: self.log.clock_agrees(),
            unreachable: silent
                .map(|other| (other.member.name.clone(), other.silent.clone()))
                .collect(),
            behind: cluster.others.iter().filter_map(behind).collect(),
            short_disks: cluster.others.iter().filter_map(short_disk).collect(),
            clocks: cluster
                .others
                .iter()
                .map(|other| (other.member.name.clone(), other.skew_ms))
                .collect(),
            voters,
            voters_answering,
            lag: log.committed.saturating_sub(log.applied),
            fsync_us: self.journal.stats().sync_us_last,
            free_bytes: disk(&self.config.node.data).0,
            reserve_bytes: self.config.journal.reserve_bytes,
            certificate_days: certificate_days(&self.config.tls.certificate),
            cluster_certificate_days: self
                .config
                .cluster
                .as_ref()
                .map(|cluster| certificate_days(&cluster.certificate)),
        }
    }

    /// From now on peers are shown this node's line when they ask how it is.
    pub fn show_to_peers(&self) {
        let (config, log, journal) = (self.config.clone(), self.log.clone(), self.journal.clone());
        let metrics = self.metrics.clone();
        self.log.show(Box::new(move || {
            Admin::shown_to_peers(own_member(&config, &log, &journal), &metrics)
        }));
    }

    /// This node's own line, also while it does not vote yet.
    pub(super) fn own_line(&self, cluster: &ClusterView) -> Member {
        let mut own = own_member(&self.config, &self.log, &self.journal);
        if !self.log.status().leader && self.config.cluster.is_some() && !cluster.voter {
            "learner".clone_into(&mut own.role);
        }
        own
    }

    pub(super) async fn status(&self) -> Status {
        let depths = self.look().await;
        let (state, reasons) = self.facts().judge();
        let log = self.log.status();
        let cluster = self.log.cluster();
        let own = self.own_line(&cluster);
        let mut members: Vec<Member> = cluster
            .others
            .iter()
            .map(|other| member_of(other, log.committed))
            .collect();
        members.push(own);
        members.sort_by_key(|member| member.id);
        let now = self.clock.now();
        let (voters, voters_answering) = voters(&cluster);
        Status {
            state,
            reasons,
            node: self.config.node.id,
            url: self.url.clone(),
            now: now.iso(),
            members,
            cluster: ClusterStatus {
                id: cluster.cluster.map(|id| format!("{id:032x}")).unwrap_or_default(),
                epoch: cluster.epoch,
                term: log.term,
                leader: if log.writable { log.leader_id } else { 0 },
                skew_ms_max: cluster
                    .others
                    .iter()
                    .map(|other| other.skew_ms.unsigned_abs())
                    .max()
                    .unwrap_or(0),
                state_age_seconds: self.log.state_age_ms() / 1_000,
                voters,
                voters_answering,
            },
            mailboxes: depths.mailboxes,
            waiting: depths.waiting,
            oldest_seconds: depths.oldest.map_or(0, |at| now.since_ms(at) / 1_000),
            audit_entries: self.audit.head().sequence,
            patients: crate::services::pds::state::records(&self.ledger),
            events: self.events_view(log.leader),
            redis: self.redis_view(),
        }
    }
}

/// Members that vote, and how many of them answer.
fn voters(cluster: &ClusterView) -> (u64, u64) {
    let own = u64::from(cluster.voter);
    let others = cluster.others.iter().filter(|other| other.voter);
    let answering = others.clone().filter(|other| other.status.is_some()).count() as u64;
    (own + others.count() as u64, own + answering)
}

/// Whole days to a certificate's end. Certificates live by the wall clock, which the sandbox does not move.
fn certificate_days(file: &Path) -> Option<i64> {
    let wall = crate::base::Clock::default().now().ms();
    certificate_seconds(file, wall).map(|seconds| seconds.div_euclid(86_400))
}

/// This node's own line, also as its peers show it.
pub fn own_member(config: &Config, log: &Log, journal: &Journal) -> Member {
    let status = log.status();
    let stats = journal.stats();
    let (disk_free_bytes, disk_bytes) = disk(&config.node.data);
    Member {
        id: config.node.id,
        name: config.node.name.clone(),
        site: config.node.site.clone(),
        address: config
            .cluster
            .as_ref()
            .map_or_else(String::new, |cluster| cluster.address.clone()),
        // One that is cut off may still take itself for the leader.
        role: if status.leader && status.writable {
            "leader"
        } else {
            "follower"
        }
        .to_owned(),
        release: release::this().name.clone(),
        applied: status.applied,
        lag: status.committed.saturating_sub(status.applied),
        fsync_us: stats.sync_us_last,
        fsync_us_mean: stats.sync_us_sum.checked_div(stats.batches).unwrap_or(0),
        disk_free_bytes,
        disk_bytes,
        disk_reserve_bytes: config.journal.reserve_bytes,
        certificate_days: certificate_days(&config.tls.certificate),
        cluster_certificate_days: config
            .cluster
            .as_ref()
            .and_then(|cluster| certificate_days(&cluster.certificate)),
    }
}

/// What a member that answers shows of itself.
pub(super) fn shown(other: &MemberView) -> Option<Shown> {
    serde_json::from_slice(&other.status.as_ref()?.about).ok()
}

/// Another member's line: what it said of itself, or that it says nothing.
pub(super) fn member_of(other: &MemberView, committed: u64) -> Member {
    let said = other.status.as_ref();
    let role = match said {
        None => "unreachable",
        Some(_) if other.leader => "leader",
        Some(_) if other.voter => "follower",
        Some(_) => "learner",
    };
    let applied = said.map_or(0, |status| status.applied);
    let line = shown(other).map(|shown| shown.member).unwrap_or_else(|| Member {
        id: other.id,
        name: String::new(),
        site: String::new(),
        address: String::new(),
        role: String::new(),
        release: String::new(),
        applied: 0,
        lag: 0,
        fsync_us: 0,
        fsync_us_mean: 0,
        disk_free_bytes: 0,
        disk_bytes: 0,
        disk_reserve_bytes: 0,
        certificate_days: None,
        cluster_certificate_days: None,
    });
    Member {
        id: other.id,
        name: other.member.name.clone(),
        site: other.member.site.clone(),
        address: other.member.address.clone(),
        role: role.to_owned(),
        applied,
        lag: if said.is_some() {
            committed.saturating_sub(applied)
        } else {
            0
        },
        ..line
    }
}
