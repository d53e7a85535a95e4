//! The publisher: on the node that leads, it takes rows in order to the broker and has confirmed ones deleted by the log.
//!
//! ```text
//!  Idle ──leads, events on──▶ Connecting ──▶ Publishing ◀──▶ Blocked
//!   ▲                             ▲   │          │              │
//!   └──no leader any more─────────┴───┴──backoff─┴──────────────┘
//! ```
//! A lost connection, a refusal or a silent broker ends the session; the next one starts behind the last confirmed row. So
//! events of one key are first seen in order, whatever is seen twice.

use super::broker::{Lost, Pending, Session, Verdict};
use super::command::{Bounds, Command, NAMED_MAX, Reason};
use super::event::{Position, resync};
use super::state;
use crate::ledger::Ledger;
use crate::log::{Applied, Log, ProposeError};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Events on their way without a confirm, at most.
const WINDOW: usize = 2_048;
/// Events handed over at once.
const PAGE: usize = 128;
/// A watermark goes into the log when so many rows were confirmed since the last one…
const WATERMARK_ROWS: u64 = 2_048;
/// … or after this long with any.
const WATERMARK_MS: u64 = 100;
/// Confirmed rows whose watermark has not come back: with more than this nothing new is handed over.
const UNLOGGED_MAX: u64 = 16_384;
/// How often an idle publisher looks for rows: what an event waits for at most on a quiet node.
const LOOK_MS: u64 = 20;
/// How often a publisher that does not lead looks whether it does.
const IDLE_MS: u64 = 250;
/// Connecting and declaring may take so long.
const OPEN_MS_MAX: u64 = 10_000;
/// A broker that has no alarm and confirms nothing for so long is given up, and tried again.
const CONFIRM_MS_MAX: u64 = 30_000;
/// The wait between two sessions doubles from the first to the second of these.
const BACKOFF_MS: (u64, u64) = (100, 30_000);
/// Queues are declared again before an event counts as unroutable, unless that was done so short a time ago.
const DECLARED_MS_FRESH: u64 = 60_000;
/// An event that was refused so often is parked as soon as the broker takes the one behind it.
const REFUSALS_MAX: u32 = 5;

/// Where the broker is and what it is to hold.
#[derive(Clone, Debug)]
pub struct Broker {
    /// This node, as the broker's connection list shows it.
    pub name: String,
    /// `amqp[s]://HOST[:PORT][/VHOST]`, tried in turn; never empty.
    pub urls: Vec<String>,
    /// File with `USER:PASSWORD`, read at every connect.
    pub credentials: PathBuf,
    /// PEM file of the authorities that an amqps broker is checked against.
    pub ca: Option<PathBuf>,
    /// PEM files: certificate and key that this node shows an amqps broker.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Topic exchange.
    pub exchange: String,
    /// Quorum queues and the keys by which each is bound.
    pub queues: BTreeMap<String, Vec<String>>,
}

impl Broker {
    /// User and password.
    pub(super) fn login(&self) -> Result<(String, String), Lost> {
        let refused = |why: &str| Lost::because(format!("{}: {why}", self.credentials.display()));
        let text = std::fs::read_to_string(&self.credentials).map_err(|cause| refused(&cause.to_string()))?;
        let (user, password) = text
            .trim_end_matches(['\r', '\n'])
            .split_once(':')
            .ok_or_else(|| refused("the file does not hold USER:PASSWORD"))?;
        Ok((user.to_owned(), password.to_owned()))
    }

    /// The authorities' certificates, PEM.
    pub(super) fn ca(&self) -> Result<Option<String>, Lost> {
        self.ca.as_deref().map(read).transpose()
    }

    /// Certificate and key, PEM.
    pub(super) fn identity(&self) -> Result<Option<(String, String)>, Lost> {
        let read_both = |(certificate, key): &(PathBuf, PathBuf)| Ok((read(certificate)?, read(key)?));
        self.identity.as_ref().map(read_both).transpose()
    }
}

fn read(path: &Path) -> Result<String, Lost> {
    std::fs::read_to_string(path).map_err(|cause| Lost::because(format!("{}: {cause}", path.display())))
}

/// What the publisher is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// This node does not lead, or events are switched off.
    Idle,
    /// It looks for the broker.
    Connecting,
    /// Events flow.
    Publishing,
    /// The broker has an alarm and takes nothing.
    Blocked,
}

impl Phase {
    const ALL: [Phase; 4] = [Phase::Idle, Phase::Connecting, Phase::Publishing, Phase::Blocked];

    /// As operators see it.
    pub const fn text(self) -> &'static str {
        match self {
            Phase::Idle => "idle",
            Phase::Connecting => "connecting",
            Phase::Publishing => "publishing",
            Phase::Blocked => "blocked",
        }
    }
}

/// What the publisher counts, since the node's start.
#[derive(Debug, Default)]
pub struct Figures {
    phase: AtomicU8,
    since_ms: AtomicU64,
    /// Events handed to the broker, again after a lost connection.
    pub published: AtomicU64,
    /// Events that it confirmed.
    pub confirmed: AtomicU64,
    /// Events that were parked.
    pub parked: AtomicU64,
    /// Resync events that it confirmed.
    pub resyncs: AtomicU64,
    /// Watermarks in the log.
    pub watermarks: AtomicU64,
    /// The last of them: no row is left up to here. Who looks for the oldest begins behind it, because the ledger keeps what was
    /// deleted until its next checkpoint, and goes over all of it.
    pub left_upto: Mutex<Option<Position>>,
    /// Sessions that ended by a fault.
    pub sessions_lost: AtomicU64,
    /// Why the last one did.
    pub last_fault: Mutex<String>,
}

impl Figures {
    /// What it is doing, and for how many seconds.
    pub fn phase(&self) -> (Phase, u64) {
        let phase = Phase::ALL[usize::from(self.phase.load(Ordering::Relaxed)) % Phase::ALL.len()];
        let since = self.since_ms.load(Ordering::Relaxed);
        (phase, process_ms().saturating_sub(since) / 1000)
    }

    fn enter(&self, phase: Phase) {
        if self.phase.swap(phase as u8, Ordering::Relaxed) != phase as u8 {
            self.since_ms.store(process_ms(), Ordering::Relaxed);
        }
    }
}

/// Milliseconds since the first call.
fn process_ms() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_millis() as u64
}

/// Ends a publisher.
pub struct Stop(watch::Sender<bool>);

impl Stop {
    /// Asks for the end; the publisher leaves what waits to the next one.
    pub fn trigger(&self) {
        self.0.send_replace(true);
    }
}

/// Why a session ended.
enum End {
    Stopped,
    /// This node leads no more, or events were switched off.
    Idle,
    /// To be tried again after a pause.
    Lost(Lost),
    /// To be tried again at once, with queues declared afresh.
    Redeclare,
}

/// A watermark on its way through the log.
type Watermark = tokio::task::JoinHandle<Result<Applied, ProposeError>>;

/// A row, or the gap, on its way.
struct Flight {
    position: Position,
    is_gap: bool,
    pending: Pending,
    handed: Instant,
}

/// How far the broker has everything, and how far the log says so. Outlives sessions.
#[derive(Default)]
struct Progress {
    /// Everything up to here is confirmed or to be parked.
    confirmed: Option<Position>,
    /// Rows confirmed since the last watermark was proposed.
    unproposed: u64,
    /// Since when there are any.
    since: Option<Instant>,
    /// Rows in the watermark that is proposed…
    proposed: u64,
    /// … and where it stands.
    proposed_upto: Option<Position>,
    /// To be parked with the next watermark.
    to_park: Vec<(Position, Reason)>,
}

/// An event that was refused, and how often.
struct Refusal {
    position: Position,
    times: u32,
}

/// Publishes; runs on a thread of its own.
pub struct Publisher {
    broker: Broker,
    log: Log,
    ledger: Ledger,
    figures: Arc<Figures>,
    stop: watch::Receiver<bool>,
    progress: Progress,
    refusal: Option<Refusal>,
    /// The last gap whose resync event is on its way or confirmed.
    announced: Option<Position>,
    sessions: usize,
    backoff_ms: u64,
}

impl Publisher {
    /// A publisher, what it counts, and what ends it.
    pub fn new(broker: Broker, log: Log, ledger: Ledger) -> (Publisher, Arc<Figures>, Stop) {
        let (sender, stop) = watch::channel(false);
        let figures = Arc::new(Figures::default());
        let publisher = Publisher {
            broker,
            log,
            ledger,
            figures: figures.clone(),
            stop,
            progress: Progress::default(),
            refusal: None,
            announced: None,
            sessions: 0,
            backoff_ms: 0,
        };
        (publisher, figures, Stop(sender))
    }

    /// Runs until it is stopped. Each session has a runtime of its own: when that is dropped, nothing of the session is
    /// left, no thread that waits for a silent broker either.
    pub fn run(mut self) -> io::Result<()> {
        loop {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let end = runtime.block_on(self.turn());
            runtime.shutdown_background();
            match end {
                End::Stopped => return Ok(()),
                End::Idle => self.backoff_ms = 0,
                End::Redeclare => {}
                End::Lost(why) => self.note_loss(&why),
            }
        }
    }

    /// Doubles the pause; says the first of a row of losses, and those after a longer time.
    fn note_loss(&mut self, why: &Lost) {
        let fault = why.to_string();
        self.figures.enter(Phase::Connecting);
        self.figures.sessions_lost.fetch_add(1, Ordering::Relaxed);
        let news = self.backoff_ms == 0 || *self.figures.last_fault.lock() != fault;
        if news {
            tracing::warn!(%fault, "the session with RabbitMQ ended; events wait in the outbox");
        }
        *self.figures.last_fault.lock() = fault;
        self.backoff_ms = (self.backoff_ms * 2).clamp(BACKOFF_MS.0, BACKOFF_MS.1);
    }

    /// Waits until there is something to do, then does it for one session.
    async fn turn(&mut self) -> End {
        if self.backoff_ms > 0 {
            // Between half and all of it, so that nodes and brokers that came up together do not meet again and again.
            let pause_ms = rand::random_range(self.backoff_ms / 2..=self.backoff_ms);
            if self.pause(pause_ms).await {
                return End::Stopped;
            }
        }
        while !self.has_work().await {
            self.figures.enter(Phase::Idle);
            if self.pause(IDLE_MS).await {
                return End::Stopped;
            }
        }
        self.figures.enter(Phase::Connecting);
        let nth = self.sessions;
        self.sessions += 1;
        let mut stop = self.stop.clone();
        let opened = tokio::select! {
            opened = tokio::time::timeout(Duration::from_millis(OPEN_MS_MAX), Session::open(&self.broker, nth)) => opened,
            _ = stop.wait_for(|stop| *stop) => return End::Stopped,
        };
        match opened {
            Err(_) => End::Lost(Lost::because("the broker did not answer in 10 seconds")),
            Ok(Err(why)) => End::Lost(why),
            Ok(Ok(session)) => {
                tracing::info!("connected to RabbitMQ");
                let end = self.serve(&session).await;
                session.close().await;
                end
            }
        }
    }

    fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits; says whether a stop was asked for.
    async fn pause(&mut self, ms: u64) -> bool {
        let asked = self.stop.wait_for(|stop| *stop);
        tokio::time::timeout(Duration::from_millis(ms), asked).await.is_ok()
    }

    /// Whether this node leads and events are on. Where nobody has decided yet, a broker in the configuration of the node
    /// that leads switches them on.
    async fn has_work(&self) -> bool {
        if !self.log.status().leader {
            return false;
        }
        match state::meter(&self.ledger) {
            Some(meter) => meter.on,
            None => {
                let command = Command::On {
                    bounds: Bounds::default(),
                    unless_decided: true,
                };
                match self.log.propose(command.encode()).await {
                    Ok(_) => tracing::info!("a broker is configured: events are switched on"),
                    Err(cause) => tracing::warn!(%cause, "events could not be switched on; tried again"),
                }
                false
            }
        }
    }

    /// One session, and the watermark of what it confirmed.
    async fn serve(&mut self, session: &Session) -> End {
        let mut watermark = None;
        let end = self.publish_and_hear(session, &mut watermark).await;
        self.last_watermark(watermark).await;
        end
    }

    /// Hands rows over, hears confirms, proposes watermarks, until the session ends.
    async fn publish_and_hear(&mut self, session: &Session, watermark: &mut Option<Watermark>) -> End {
        let opened = Instant::now();
        let mut flights: VecDeque<Flight> = VecDeque::new();
        // Everything up to here is handed over in this session.
        let mut cursor = self.progress.confirmed;
        self.announced = self.announced.filter(|gap| Some(*gap) <= self.progress.confirmed);
        loop {
            if self.is_stopped() {
                return End::Stopped;
            }
            if !self.log.status().leader || !state::meter(&self.ledger).is_some_and(|meter| meter.on) {
                return End::Idle;
            }
            if !session.is_open() {
                return End::Lost(Lost::because("the connection was closed"));
            }
            self.figures.enter(match session.is_blocked() {
                true => Phase::Blocked,
                false => Phase::Publishing,
            });
            let handed = match self.hand_over(session, &mut cursor, &mut flights).await {
                Ok(handed) => handed,
                Err(end) => return end,
            };
            if let Err(end) = self.hear(session, opened, &mut flights, handed).await {
                return end;
            }
            if let Some(running) = watermark.take_if(|running| running.is_finished()) {
                self.note_watermark(running.await.ok());
            }
            if watermark.is_none() && self.watermark_is_due() {
                *watermark = self.propose_watermark();
            }
        }
    }

    /// Hands over what fits into the window; gives how many.
    async fn hand_over(
        &mut self,
        session: &Session,
        cursor: &mut Option<Position>,
        flights: &mut VecDeque<Flight>,
    ) -> Result<usize, End> {
        let window = if self.refusal.is_some() { 1 } else { WINDOW };
        let room = window.saturating_sub(flights.len()).min(PAGE);
        if room == 0 || self.progress.unproposed + self.progress.proposed > UNLOGGED_MAX {
            return Ok(0);
        }
        let mut next = self.next_rows(*cursor, room);
        // Rows first, the gap after: a row that was dropped before the first look is in the gap by the second.
        let gap = state::gap(&self.ledger).filter(|gap| Some(gap.last) > *cursor && Some(gap.last) > self.announced);
        let mut positions: Vec<(Position, bool)> = Vec::with_capacity(next.len() + 1);
        let mut events = Vec::with_capacity(next.len() + 1);
        if let Some(gap) = gap {
            tracing::warn!(
                cause = gap.cause.text(),
                events = gap.events,
                "subscribers are told to read again what they keep"
            );
            next.retain(|(position, _)| *position > gap.last);
            positions.push((gap.last, true));
            events.push(resync(&gap));
            self.announced = Some(gap.last);
        }
        for (position, row) in &next {
            positions.push((*position, false));
            events.push(row.published(*position));
        }
        let Some(&(last, _)) = positions.last() else {
            return Ok(0);
        };
        let handed = Instant::now();
        let pendings = self.publish(session, &events).await?;
        self.figures.published.fetch_add(events.len() as u64, Ordering::Relaxed);
        *cursor = Some(last);
        for ((position, is_gap), pending) in positions.into_iter().zip(pendings) {
            flights.push_back(Flight {
                position,
                is_gap,
                pending,
                handed,
            });
        }
        Ok(events.len())
    }

    /// The rows behind `cursor`. Where one was refused too often, the one behind it goes first: if the broker takes that,
    /// the fault is the event's.
    fn next_rows(&self, cursor: Option<Position>, max: usize) -> Vec<(Position, state::Row)> {
        match &self.refusal {
            Some(refusal) if refusal.times >= REFUSALS_MAX && cursor < Some(refusal.position) => {
                let mut behind = state::rows(&self.ledger, Some(refusal.position), 1);
                if behind.is_empty() {
                    behind = state::rows(&self.ledger, cursor, max);
                }
                behind
            }
            Some(_) | None => state::rows(&self.ledger, cursor, max),
        }
    }

    /// Publishes; an alarm of the broker is waited out.
    async fn publish(&self, session: &Session, events: &[super::event::Published]) -> Result<Vec<Pending>, End> {
        let mut handing = std::pin::pin!(session.publish(events));
        let mut quiet = Instant::now();
        loop {
            tokio::select! {
                handed = &mut handing => return handed.map_err(End::Lost),
                () = tokio::time::sleep(Duration::from_millis(LOOK_MS)) => {}
            }
            if self.is_stopped() {
                return Err(End::Stopped);
            }
            if !self.log.status().leader {
                return Err(End::Idle);
            }
            if session.is_blocked() {
                self.figures.enter(Phase::Blocked);
                quiet = Instant::now();
            }
            if !session.is_open() {
                return Err(End::Lost(Lost::because("the connection was closed")));
            }
            if quiet.elapsed() > Duration::from_millis(CONFIRM_MS_MAX) {
                return Err(End::Lost(Lost::because("the broker took nothing for 30 seconds")));
            }
        }
    }

    /// Hears what is there, or waits a moment for it.
    async fn hear(
        &mut self,
        session: &Session,
        opened: Instant,
        flights: &mut VecDeque<Flight>,
        handed: usize,
    ) -> Result<(), End> {
        let mut heard = 0;
        loop {
            // Once something moved, only what is ready is heard: there may be more to hand over.
            let wait_ms = if heard + handed > 0 { 0 } else { LOOK_MS };
            let Some(front) = flights.front_mut() else {
                if wait_ms > 0 {
                    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                }
                return Ok(());
            };
            let overdue = front.handed.elapsed() > Duration::from_millis(CONFIRM_MS_MAX);
            let verdict = if wait_ms == 0 {
                tokio::select! {
                    biased;
                    verdict = front.pending.verdict() => Some(verdict),
                    () = tokio::task::yield_now() => None,
                }
            } else {
                let waited = tokio::time::timeout(Duration::from_millis(wait_ms), front.pending.verdict());
                waited.await.ok()
            };
            let Some(verdict) = verdict else {
                if overdue && !session.is_blocked() {
                    return Err(End::Lost(Lost::because("the broker confirmed nothing for 30 seconds")));
                }
                return Ok(());
            };
            let flight = flights.pop_front().expect("its verdict was just heard");
            self.judge(&flight, verdict.map_err(End::Lost)?, opened)?;
            heard += 1;
        }
    }

    /// Notes what the broker said to one event.
    fn judge(&mut self, flight: &Flight, verdict: Verdict, opened: Instant) -> Result<(), End> {
        match verdict {
            Verdict::Taken => {
                self.park_refused_before(flight.position);
                self.advance(flight);
                let count = if flight.is_gap {
                    &self.figures.resyncs
                } else {
                    &self.figures.confirmed
                };
                count.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Verdict::Unroutable if opened.elapsed() > Duration::from_millis(DECLARED_MS_FRESH) => Err(End::Redeclare),
            Verdict::Unroutable => {
                if flight.is_gap {
                    tracing::error!("no queue takes a resync event; bind one with the key `resync`");
                } else {
                    self.park(flight.position, Reason::Unroutable);
                }
                self.advance(flight);
                Ok(())
            }
            Verdict::Refused => {
                let (position, times) = match &self.refusal {
                    Some(refusal) if refusal.position == flight.position => (flight.position, refusal.times + 1),
                    // The one behind was tried in its place and refused too: next time it is its own turn again.
                    Some(refusal) if refusal.position < flight.position => (refusal.position, REFUSALS_MAX - 1),
                    Some(_) | None => (flight.position, 1),
                };
                if flight.is_gap && times >= REFUSALS_MAX {
                    tracing::error!("a queue refuses a resync event, which it will not see; the others have it");
                    self.refusal = None;
                    self.advance(flight);
                    return Ok(());
                }
                self.refusal = Some(Refusal { position, times });
                Err(End::Lost(Lost::because(
                    "a queue refuses events (is it at its length limit?)",
                )))
            }
        }
    }

    /// The broker took what stands behind the refused one: that one is parked. Or it took the refused one itself.
    fn park_refused_before(&mut self, taken: Position) {
        let Some(refusal) = self.refusal.take_if(|refusal| refusal.position <= taken) else {
            return;
        };
        if refusal.position < taken {
            self.park(refusal.position, Reason::Refused);
        }
    }

    fn park(&mut self, position: Position, reason: Reason) {
        tracing::warn!(
            event = position.text(),
            reason = reason.text(),
            "an event was parked; see `vertebra events parked`"
        );
        self.figures.parked.fetch_add(1, Ordering::Relaxed);
        self.progress.to_park.push((position, reason));
    }

    fn advance(&mut self, flight: &Flight) {
        self.progress.confirmed = self.progress.confirmed.max(Some(flight.position));
        self.progress.unproposed += 1;
        self.progress.since.get_or_insert_with(Instant::now);
        // The broker is there and takes events.
        self.backoff_ms = 0;
    }

    fn watermark_is_due(&self) -> bool {
        let age = self.progress.since.map_or(Duration::ZERO, |since| since.elapsed());
        self.progress.unproposed >= WATERMARK_ROWS
            || self.progress.to_park.len() >= NAMED_MAX / 2
            || age >= Duration::from_millis(WATERMARK_MS)
    }

    /// The watermark of everything confirmed, or, with too many to park, of all up to the last of these that it names.
    fn propose_watermark(&mut self) -> Option<Watermark> {
        let confirmed = self.progress.confirmed?;
        let mut parked = self.progress.to_park.clone();
        let upto = match parked.get(NAMED_MAX) {
            Some(_) => parked[NAMED_MAX - 1].0,
            None => confirmed,
        };
        parked.truncate(NAMED_MAX);
        self.progress.proposed = std::mem::take(&mut self.progress.unproposed);
        self.progress.proposed_upto = Some(upto);
        self.progress.since = None;
        let command = Command::Confirmed { upto, parked }.encode();
        let log = self.log.clone();
        Some(tokio::spawn(async move { log.propose(command).await }))
    }

    /// A watermark that failed goes out again with the next one: it says everything that it said.
    fn note_watermark(&mut self, outcome: Option<Result<Applied, ProposeError>>) {
        match outcome {
            Some(Ok(_)) => {
                self.progress.proposed = 0;
                self.figures.watermarks.fetch_add(1, Ordering::Relaxed);
                *self.figures.left_upto.lock() = self.progress.proposed_upto;
                let ledger = &self.ledger;
                // What is still a row was beyond the watermark.
                self.progress
                    .to_park
                    .retain(|(position, _)| state::is_waiting(ledger, *position));
                if !self.progress.to_park.is_empty() {
                    self.progress.since.get_or_insert_with(Instant::now);
                }
            }
            Some(Err(_)) | None => {
                self.progress.unproposed += std::mem::take(&mut self.progress.proposed);
                self.progress.since.get_or_insert_with(Instant::now);
            }
        }
    }

    /// At a session's end: what was confirmed is logged, so that nobody sends it again.
    async fn last_watermark(&mut self, running: Option<Watermark>) {
        if let Some(running) = running {
            self.note_watermark(running.await.ok());
        }
        if self.progress.unproposed > 0
            && let Some(last) = self.propose_watermark()
        {
            self.note_watermark(last.await.ok());
        }
    }
}
