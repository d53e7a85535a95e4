//! The keeper: connects, follows the primary, tries whether Redis may be asked, says who is there. Runs on a thread of its own.

use super::connect::{Lost, Place, Session, Settings};
use super::server::Server;
use super::{LATE, Link, Phase, Redis};
use ::redis::{Value, cmd};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often a node says that it is there; this is also the write by which Redis is tried.
const ANNOUNCE_MS: u64 = 5_000;
/// For how long it is believed.
const ANNOUNCED_MS: u64 = 15_000;
/// A server that is silent for so long is given up.
const SILENT_MS_MAX: u64 = 1_000;
/// How often Sentinel is asked whether the primary is still the same.
const SENTINEL_MS: u64 = 2_000;
/// Finding the primary and connecting may take so long in all.
const OPEN_MS_MAX: u64 = 10_000;
/// The wait before a slow or refusing server is tried again doubles from the first to the second of these.
const HOLD_MS: (u64, u64) = (100, 5_000);
/// And begins with the first again when it was up for so long.
const STEADY_MS: u64 = 10_000;
/// The wait between two attempts to connect doubles likewise.
const BACKOFF_MS: (u64, u64) = (100, 5_000);
/// Nodes that are shown.
const NODES_MAX: usize = 100;

/// Where the nodes are listed.
const NODES: &str = "vertebra:nodes";
/// Puts what a node says in the place of what it said before, drops what is over, and gives whether the former was still
/// there, and all that is. The first write is one that a full Redis refuses: after another it would let this one pass, and
/// refuse the requests' own.
const ANNOUNCE: &str = "\
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local had = redis.call('ZSCORE', KEYS[1], ARGV[2])
redis.call('ZADD', KEYS[1], now, ARGV[1])
if ARGV[1] ~= ARGV[2] then redis.call('ZREM', KEYS[1], ARGV[2]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return { had and 1 or 0, redis.call('ZREVRANGE', KEYS[1], 0, ARGV[4] - 1) }
";

/// What a node says of itself. A hint for operators: nothing is decided by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Number.
    pub id: u64,
    /// Name.
    pub name: String,
    /// Data centre.
    pub site: String,
    /// Release.
    pub release: String,
    /// Start of the process, ISO.
    pub since: String,
    /// Requests in work.
    pub requests: u64,
}

/// Ends a keeper.
pub struct Stop(watch::Sender<bool>);

impl Stop {
    /// Asks for the end.
    pub fn trigger(&self) {
        self.0.send_replace(true);
    }
}

/// Why a connection is left.
enum End {
    Stopped,
    Lost(Lost),
}

/// What became of a try.
enum Tried {
    InTime,
    Late,
    Refused(String),
}

/// Keeps the connection; see the module's diagram.
pub struct Keeper {
    settings: Settings,
    redis: Redis,
    about: Box<dyn Fn() -> Announcement + Send>,
    stop: watch::Receiver<bool>,
    /// What was announced last, and when.
    announced: Option<(String, Instant)>,
    /// Which sentinel is asked next.
    nth: usize,
    backoff_ms: u64,
}

impl Keeper {
    /// A keeper, what it keeps, and what ends it. `about` tells of this node.
    pub fn new(settings: Settings, about: Box<dyn Fn() -> Announcement + Send>) -> (Keeper, Redis, Stop) {
        let (sender, stop) = watch::channel(false);
        let redis = Redis::new(settings.wait);
        let keeper = Keeper {
            settings,
            redis: redis.clone(),
            about,
            stop,
            announced: None,
            nth: 0,
            backoff_ms: 0,
        };
        (keeper, redis, Stop(sender))
    }

    /// Runs until it is stopped; `beside` runs on the same thread.
    pub fn run(mut self, beside: impl Future<Output = Infallible>) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            tokio::select! {
                () = self.keep() => {}
                never = beside => match never {},
            }
        });
        // A look-up of a name may hang for long; nobody waits for it.
        runtime.shutdown_background();
        Ok(())
    }

    async fn keep(&mut self) {
        loop {
            match self.turn().await {
                End::Stopped => return,
                End::Lost(why) => self.note_loss(&why),
            }
            // Between half and all of it, so that nodes that lost one server together do not meet again and again.
            let pause_ms = rand::random_range(self.backoff_ms / 2..=self.backoff_ms);
            if self.pause(pause_ms).await {
                return;
            }
        }
    }

    /// Waits; says whether a stop was asked for.
    async fn pause(&mut self, ms: u64) -> bool {
        let asked = self.stop.wait_for(|stop| *stop);
        tokio::time::timeout(Duration::from_millis(ms), asked).await.is_ok()
    }

    /// Doubles the pause; says the first of a row of losses, and those for a new reason.
    fn note_loss(&mut self, why: &Lost) {
        let fault = why.to_string();
        let news = self.redis.figures().enter(Phase::Away);
        let before = std::mem::replace(&mut self.redis.0.known.lock().fault, fault.clone());
        if news || before != fault {
            tracing::warn!(%fault, "Redis is away; nonces of reads and rates are this node's own meanwhile");
        }
        self.backoff_ms = (self.backoff_ms * 2).clamp(BACKOFF_MS.0, BACKOFF_MS.1);
    }

    /// One connection from its beginning to its end.
    async fn turn(&mut self) -> End {
        let nth = self.next();
        let mut stop = self.stop.clone();
        let opened = tokio::select! {
            opened = tokio::time::timeout(Duration::from_millis(OPEN_MS_MAX), self.settings.open(nth)) => opened,
            _ = stop.wait_for(|stop| *stop) => return End::Stopped,
        };
        let session = match opened {
            Err(_) => return End::Lost(Lost::because("no primary was found in 10 seconds")),
            Ok(Err(why)) => return End::Lost(why),
            Ok(Ok(session)) => session,
        };
        let Session {
            connection,
            driver,
            address,
        } = session;
        address.clone_into(&mut self.redis.0.known.lock().primary);
        let mut driver = tokio::spawn(driver);
        let link = Arc::new(Link {
            connection,
            usable: AtomicBool::new(false),
        });
        self.redis.0.link.store(Some(link.clone()));
        let end = self.watch(&link, &address, &mut driver).await;
        link.usable.store(false, Ordering::Relaxed);
        self.redis.0.link.store(None);
        driver.abort();
        if matches!(end, End::Lost(_)) {
            self.redis.figures().sessions_lost.fetch_add(1, Ordering::Relaxed);
        }
        end
    }

    fn next(&mut self) -> usize {
        self.nth = self.nth.wrapping_add(1);
        self.nth
    }

    /// Tries the connection by the clock and when a request found it wanting, until it is of no more use.
    async fn watch(&mut self, link: &Link, address: &str, driver: &mut JoinHandle<()>) -> End {
        let mut hold_ms = HOLD_MS.0;
        let mut up_since = None;
        let (mut try_at, mut sentinel_at) = (Instant::now(), Instant::now() + Duration::from_millis(SENTINEL_MS));
        let mut stop = self.stop.clone();
        loop {
            if Instant::now() >= try_at {
                let tried = match self.try_link(link).await {
                    Ok(tried) => tried,
                    Err(why) => return End::Lost(why),
                };
                let pause_ms = match tried {
                    Tried::InTime => {
                        self.note_up(address);
                        link.usable.store(true, Ordering::Relaxed);
                        up_since.get_or_insert_with(Instant::now);
                        self.look_at_server(link).await;
                        ANNOUNCE_MS
                    }
                    tried @ (Tried::Late | Tried::Refused(_)) => {
                        link.usable.store(false, Ordering::Relaxed);
                        up_since = None;
                        self.note_not_up(tried);
                        hold_ms = (hold_ms * 2).min(HOLD_MS.1);
                        hold_ms
                    }
                };
                try_at = Instant::now() + Duration::from_millis(pause_ms);
            }
            if Instant::now() >= sentinel_at {
                if let Some(why) = self.moved_from(address).await {
                    return End::Lost(why);
                }
                sentinel_at = Instant::now() + Duration::from_millis(SENTINEL_MS);
            }
            let next = try_at.min(sentinel_at);
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return End::Stopped,
                _ = &mut *driver => return End::Lost(Lost::because(format!("{address}: the connection was closed"))),
                () = self.redis.0.look.notified() => {
                    link.usable.store(false, Ordering::Relaxed);
                    let steady = up_since.take().is_some_and(|since: Instant| since.elapsed() > Duration::from_millis(STEADY_MS));
                    hold_ms = if steady { HOLD_MS.0 } else { (hold_ms * 2).min(HOLD_MS.1) };
                    self.note_found_wanting();
                    try_at = Instant::now() + Duration::from_millis(hold_ms);
                }
                () = tokio::time::sleep_until(next.into()) => {}
            }
        }
    }

    /// Says that this node is there: a write like those of requests.
    async fn try_link(&mut self, link: &Link) -> Result<Tried, Lost> {
        let own = serde_json::to_string(&(self.about)()).expect("an announcement has a JSON form");
        let before = self.announced.take();
        let mut command = cmd("EVAL");
        command.arg(ANNOUNCE).arg(1).arg(NODES).arg(&own);
        command.arg(before.as_ref().map_or("", |(text, _)| text.as_str()));
        command.arg(ANNOUNCED_MS).arg(NODES_MAX);
        let mut connection = link.connection.clone();
        let began = Instant::now();
        let asked = command.query_async::<(u64, Vec<String>)>(&mut connection);
        let answer = tokio::time::timeout(Duration::from_millis(SILENT_MS_MAX), asked).await;
        let (had, nodes) = match answer {
            Err(_) => return Err(Lost::because("it was silent for a second")),
            Ok(Ok(answer)) => answer,
            Ok(Err(cause)) => {
                // These say that it is primary and cannot write now; anything else, that it is the wrong one to ask.
                let cannot_write = matches!(cause.code(), Some("OOM" | "NOREPLICAS" | "MISCONF"));
                return match cannot_write {
                    true => Ok(Tried::Refused(cause.to_string())),
                    false => Err(Lost::from(cause)),
                };
            }
        };
        let recently = |at: Instant| at.elapsed() < Duration::from_millis(ANNOUNCED_MS - ANNOUNCE_MS / 2);
        if had == 0 && before.is_some_and(|(_, at)| recently(at)) {
            self.redis.figures().forgotten.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                "Redis has forgotten what it was told; until it is over, a read's token may pass once more on another node"
            );
        }
        self.announced = Some((own, Instant::now()));
        self.redis.0.known.lock().nodes = distinct(&nodes);
        Ok(match began.elapsed() <= self.settings.wait {
            true => Tried::InTime,
            false => Tried::Late,
        })
    }

    fn note_up(&mut self, address: &str) {
        self.backoff_ms = 0;
        if self.redis.figures().enter(Phase::Up) {
            self.redis.0.known.lock().fault.clear();
            tracing::info!(primary = address, "Redis answers in time and is asked");
        }
    }

    /// A try went wrong.
    fn note_not_up(&self, tried: Tried) {
        let (phase, fault) = match tried {
            Tried::InTime => return,
            Tried::Late => (Phase::Slow, LATE.to_owned()),
            Tried::Refused(fault) => (Phase::Refusing, fault),
        };
        if self.redis.figures().enter(phase) {
            tracing::warn!(
                phase = phase.text(),
                fault,
                "Redis is not asked; nonces of reads and rates are this node's own"
            );
        }
        self.redis.0.known.lock().fault = fault;
    }

    /// A request was answered too late or refused; which, the next try tells.
    fn note_found_wanting(&self) {
        if self.redis.figures().enter(Phase::Slow) {
            let fault = self.redis.known().fault;
            tracing::warn!(fault, "Redis failed a request and is not asked until a try succeeds");
        }
    }

    /// What the server says of itself; one that does not say is shown as before.
    async fn look_at_server(&self, link: &Link) {
        let mut connection = link.connection.clone();
        let info = cmd("INFO");
        let asked = info.query_async::<Value>(&mut connection);
        let answer = tokio::time::timeout(Duration::from_millis(SILENT_MS_MAX), asked).await;
        if let Ok(Ok(Value::BulkString(text))) = answer {
            let server = Server::read(&String::from_utf8_lossy(&text));
            self.redis.0.known.lock().server = Some(server);
        }
    }

    /// Why this primary is one no more, if a sentinel says so. One that does not answer says nothing.
    async fn moved_from(&mut self, address: &str) -> Option<Lost> {
        let nth = self.next();
        let Place::Sentinels { addresses, .. } = &self.settings.place else {
            return None;
        };
        let primary = self.settings.primary_by(&addresses[nth % addresses.len()]).await.ok()?;
        (primary != address)
            .then(|| Lost::because(format!("Sentinel has made {primary} primary in place of {address}")))
    }
}

/// The last word of each node; of a process that was restarted the former one may still be there.
fn distinct(texts: &[String]) -> Vec<Announcement> {
    let mut nodes: Vec<Announcement> = Vec::new();
    for text in texts {
        let Ok(node) = serde_json::from_str::<Announcement>(text) else {
            continue;
        };
        if !nodes.iter().any(|known| known.id == node.id && known.name == node.name) {
            nodes.push(node);
        }
    }
    nodes
}
