//! Redis: what nodes share for a while and may lose. Nonces of reads, clients' rates, who is there.
//!
//! Owns: the connection to the primary, which Sentinel names; how long a request may wait for it; what is said when it is slow,
//! away, full or not what it should be. Must never know: what a key stands for, who a client is. Nothing here decides a
//! write, and nothing of it is missed: whoever asks has an answer of its own for "Redis does not say".
//!
//! ```text
//!            connected, asked, quick
//!   Away ────────────────────────────▶ Up ◀──────── a write in time ───────┐
//!    ▲                                 │                                    │
//!    │                                 ├── an answer too late ─────▶ Slow ──┤
//!    │                                 └── a write refused ──▶ Refusing ────┤
//!    └── broken, another primary, silent for a second ◀─────────────────────┘
//! ```
//! Only in `Up` is anybody asked. The request that meets a silent Redis first waits [`Settings::wait`], those on their way with
//! it no longer than that, and the next ones not at all, until a write of the keeper's own was answered in time.
//!
//! Invariants:
//! - No request waits longer than [`Settings::wait`], and no thread but this module's own connects, looks up names or reads files.
//! - Everything goes over TLS, or to loopback.
//! - A key has an end: nothing is left in Redis of what is over.
//!
//! | key | holds | until |
//! |---|---|---|
//! | `vertebra:n:` and 16 bytes | nothing: a read's token with this fingerprint was used | the token's end |
//! | `vertebra:rate:CLIENT` | when the client's bucket is full again, µs of Redis's clock | then |
//! | `vertebra:nodes` | what each node says of itself, by the time it said so | 15 s |

mod connect;
mod keeper;
mod server;
#[cfg(test)]
mod tests;

pub use connect::{Lost, Place, Settings, TlsFiles};
pub use keeper::{Announcement, Keeper, Stop};
pub use server::{Looked, Server, look};

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, Value, cmd};
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// What the connection is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// There is none.
    Away,
    /// It answers too late to be asked.
    Slow,
    /// It takes no writes: memory, replicas, disk.
    Refusing,
    /// It is asked.
    Up,
}

impl Phase {
    const ALL: [Phase; 4] = [Phase::Away, Phase::Slow, Phase::Refusing, Phase::Up];

    /// As operators see it.
    pub const fn text(self) -> &'static str {
        match self {
            Phase::Away => "away",
            Phase::Slow => "slow",
            Phase::Refusing => "refusing",
            Phase::Up => "up",
        }
    }
}

/// Whether a key was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It was not; it is now.
    First,
    /// It was.
    Taken,
    /// Redis does not say.
    Unknown,
}

/// What is said of an answer that took longer than a request may wait.
const LATE: &str = "an answer came too late";

/// What was counted since the node's start.
#[derive(Debug, Default)]
pub struct Figures {
    phase: AtomicU8,
    since_ms: AtomicU64,
    /// Claims that were the first.
    pub claims_first: AtomicU64,
    /// Claims of what was taken.
    pub claims_taken: AtomicU64,
    /// Claims that Redis did not answer, or was not asked.
    pub claims_unknown: AtomicU64,
    /// Charges of buckets that were taken.
    pub charges: AtomicU64,
    /// Answers that came too late.
    pub late: AtomicU64,
    /// Commands that were refused.
    pub refused: AtomicU64,
    /// Connections that ended by a fault.
    pub sessions_lost: AtomicU64,
    /// How often it had forgotten what this node had told it: emptied, restarted without its file, failed over too early.
    pub forgotten: AtomicU64,
}

impl Figures {
    /// What the connection is good for, and for how many seconds that has been so.
    pub fn phase(&self) -> (Phase, u64) {
        let phase = Phase::ALL[usize::from(self.phase.load(Ordering::Relaxed)) % Phase::ALL.len()];
        let since = self.since_ms.load(Ordering::Relaxed);
        (phase, process_ms().saturating_sub(since) / 1000)
    }

    /// Says whether this is news.
    fn enter(&self, phase: Phase) -> bool {
        let news = self.phase.swap(phase as u8, Ordering::Relaxed) != phase as u8;
        if news {
            self.since_ms.store(process_ms(), Ordering::Relaxed);
        }
        news
    }
}

/// Milliseconds since the first call.
fn process_ms() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_millis() as u64
}

/// A connection, and whether it may be asked.
struct Link {
    connection: MultiplexedConnection,
    usable: AtomicBool,
}

/// What operators see beside the figures.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// `HOST:PORT` of the primary that was connected last; empty before the first.
    pub primary: String,
    /// Why it is not in use, or was not the last time; holds no key and no value.
    pub fault: String,
    /// What the server says of itself.
    pub server: Option<Server>,
    /// What nodes said of themselves in the last 15 s, the latest first.
    pub nodes: Vec<Announcement>,
}

struct Shared {
    wait: Duration,
    link: ArcSwapOption<Link>,
    /// Wakes the keeper: the link is not usable any more.
    look: Notify,
    figures: Figures,
    known: Mutex<Known>,
}

/// Redis as all threads of a node use it; cheap to clone.
#[derive(Clone)]
pub struct Redis(Arc<Shared>);

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redis({})", self.figures().phase().0.text())
    }
}

/// Charges each bucket, and gives how far ahead of its clock each is full again; a bucket that is full has no key. The
/// bound keeps a value that nobody of ours wrote from shutting a client out for longer.
const CHARGE: &str = "\
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local ahead = {}
for i, key in ipairs(KEYS) do
  local full = math.max(tonumber(redis.call('GET', key) or '') or 0, now) + tonumber(ARGV[i])
  full = math.min(full, now + 60000000)
  redis.call('SET', key, string.format('%.0f', full), 'PX', math.max(1, math.ceil((full - now) / 1000)))
  ahead[i] = full - now
end
return ahead
";

impl Redis {
    fn new(wait: Duration) -> Redis {
        Redis(Arc::new(Shared {
            wait,
            link: ArcSwapOption::empty(),
            look: Notify::new(),
            figures: Figures::default(),
            known: Mutex::new(Known::default()),
        }))
    }

    /// What was counted.
    pub fn figures(&self) -> &Figures {
        &self.0.figures
    }

    /// What is known of it.
    pub fn known(&self) -> Known {
        self.0.known.lock().clone()
    }

    /// Claims a key for `ttl_ms`; of several at once exactly one is the first, as long as Redis does not forget.
    pub async fn claim(&self, key: &[u8], ttl_ms: u64) -> Claim {
        let mut command = cmd("SET");
        command.arg(key).arg("").arg("NX").arg("PX").arg(ttl_ms.max(1));
        let figures = &self.0.figures;
        let (claim, counter) = match self.ask(&command).await {
            Some(Value::Okay) => (Claim::First, &figures.claims_first),
            Some(Value::Nil) => (Claim::Taken, &figures.claims_taken),
            Some(_) | None => (Claim::Unknown, &figures.claims_unknown),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        claim
    }

    /// Charges each bucket with its cost, µs; gives for each in how many µs it is full again. `None`: Redis does not say.
    pub async fn charge(&self, buckets: &[(String, u64)]) -> Option<Vec<u64>> {
        let mut command = cmd("EVAL");
        command.arg(CHARGE).arg(buckets.len());
        for (key, _) in buckets {
            command.arg(key);
        }
        for (_, cost_us) in buckets {
            command.arg(*cost_us);
        }
        let Some(Value::Array(ahead)) = self.ask(&command).await else {
            return None;
        };
        let ahead: Vec<u64> = ahead
            .into_iter()
            .filter_map(|value| match value {
                Value::Int(us) => u64::try_from(us).ok(),
                _ => None,
            })
            .collect();
        self.0
            .figures
            .charges
            .fetch_add(buckets.len() as u64, Ordering::Relaxed);
        (ahead.len() == buckets.len()).then_some(ahead)
    }

    /// Asks, if it is to be asked, and waits no longer than may be. What does not answer in time or refuses is not asked
    /// again until the keeper says so.
    async fn ask(&self, command: &Cmd) -> Option<Value> {
        let link = self.0.link.load_full()?;
        if !link.usable.load(Ordering::Relaxed) {
            return None;
        }
        let mut connection = link.connection.clone();
        let answer = tokio::time::timeout(self.0.wait, command.query_async::<Value>(&mut connection)).await;
        match answer {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(cause)) => self.found_wanting(&link, &self.0.figures.refused, cause.to_string()),
            Err(_) => self.found_wanting(&link, &self.0.figures.late, LATE.to_owned()),
        }
        None
    }

    fn found_wanting(&self, link: &Link, counter: &AtomicU64, fault: String) {
        counter.fetch_add(1, Ordering::Relaxed);
        if link.usable.swap(false, Ordering::Relaxed) {
            self.0.known.lock().fault = fault;
            self.0.look.notify_one();
        }
    }
}
