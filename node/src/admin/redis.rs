//! Redis as operators see it: whether it is asked, what it should be and is not, who is seen there.

use super::Admin;
use crate::metrics::Sample;
use crate::redis::{Announcement, Figures, Phase};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};

/// The state of a node without Redis.
pub const NO_REDIS: &str = "none";
/// A Redis that is not asked for longer than this is worth a look, s.
const AWAY_SECONDS: u64 = 10;

/// What an operator sees of Redis; a part of `status`. Fields are only ever added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisView {
    /// `none` without Redis in this node's configuration; else `up`: it is asked, `slow`: it answers too late to be asked,
    /// `refusing`: it takes no writes, `away`: it is not there.
    pub state: String,
    /// For how long, s.
    pub seconds: u64,
    /// `HOST:PORT` of the primary that was connected last; empty before the first.
    pub primary: String,
    /// Why it is not asked; empty when it is.
    pub fault: String,
    /// Its release.
    pub version: String,
    /// What it does when its memory is full.
    pub policy: String,
    /// Whether it keeps an append-only file.
    pub append_only: bool,
    /// Bytes in use.
    pub memory_bytes: u64,
    /// Bound of these; 0 without one.
    pub memory_bytes_max: u64,
    /// How often it had forgotten what this node had told it, since the node's start.
    pub forgotten: u64,
    /// What nodes said of themselves in the last 15 seconds. A hint: nothing is decided by it.
    pub nodes: Vec<Announcement>,
    /// What somebody should look at, one sentence each. No part of whether the node is healthy: clients are served without
    /// Redis, and a node must not be restarted or rolled back for want of it.
    pub worries: Vec<String>,
}

impl Admin {
    /// Redis now.
    pub(super) fn redis_view(&self) -> RedisView {
        let Some(redis) = &self.redis else {
            return RedisView {
                state: NO_REDIS.to_owned(),
                ..RedisView::default()
            };
        };
        let (phase, seconds) = redis.figures().phase();
        let known = redis.known();
        let mut worries = Vec::new();
        if phase != Phase::Up && seconds >= AWAY_SECONDS {
            worries.push(format!(
                "Redis is not asked ({}, for {seconds} s: {}): nonces of reads and rates are each node's own; clients are served",
                phase.text(),
                if known.fault.is_empty() { "no reason yet" } else { &known.fault },
            ));
        }
        let server = known.server.unwrap_or_default();
        if phase == Phase::Up {
            worries.extend(server.worries());
        }
        let mut nodes = known.nodes;
        if phase == Phase::Away {
            nodes.clear();
        }
        nodes.sort_by(|a, b| (a.id, &a.name).cmp(&(b.id, &b.name)));
        RedisView {
            state: phase.text().to_owned(),
            seconds,
            primary: known.primary,
            fault: if phase == Phase::Up { String::new() } else { known.fault },
            version: server.version,
            policy: server.policy,
            append_only: server.append_only,
            memory_bytes: server.memory_bytes,
            memory_bytes_max: server.memory_bytes_max,
            forgotten: redis.figures().forgotten.load(Ordering::Relaxed),
            nodes,
            worries,
        }
    }

    /// What was counted of Redis.
    pub(super) fn sample_redis(&self, s: &mut Sample) {
        let Some(redis) = &self.redis else { return };
        let figures: &Figures = redis.figures();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        s.add("redis_up", f64::from(u8::from(figures.phase().0 == Phase::Up)));
        for (answer, counter) in [
            ("first", &figures.claims_first),
            ("taken", &figures.claims_taken),
            ("none", &figures.claims_unknown),
        ] {
            s.add_for("redis_nonces_total", "answer", answer, count(counter));
        }
        s.add("redis_rates_total", count(&figures.charges));
        s.add("redis_late_total", count(&figures.late));
        s.add("redis_refused_total", count(&figures.refused));
        s.add("redis_sessions_lost_total", count(&figures.sessions_lost));
        s.add("redis_forgotten_total", count(&figures.forgotten));
        if let Some(server) = redis.known().server {
            s.add("redis_memory_bytes", server.memory_bytes as f64);
            s.add("redis_memory_bytes_max", server.memory_bytes_max as f64);
        }
    }
}
