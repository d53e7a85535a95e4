//! Assembles the parts and owns the threads; the only file that knows them all.
//!
//! | thread | runs |
//! |---|---|
//! | `log` | Raft, the journal's task and ring, every write to the ledger |
//! | `reactor-N` | one for each core but the log's: sockets, TLS, HTTP, the services |
//! | `outbox` | where RabbitMQ is configured: takes events to it |
//! | `redis` | where Redis is configured: its connection |
//! | `operator` | the admin doors and what is done by the clock |
//! | `watchdog` | looks at the others' turns, feeds systemd |
//!
//! Order of a start: sockets are bound, rights are dropped, then threads start, the log replays, reactors serve. Order
//! of a stop: reactors finish their requests, the operator's doors close, the log checkpoints and closes.

mod apply;
mod beside;
mod figures;
mod services;
mod threads;
mod upkeep;

pub use beside::redis_settings;

use crate::admin::Admin;
use crate::admin::verify::Store;
use crate::audit::Audit;
use crate::auth::nhsmesh::SharedKeys;
use crate::auth::nonces::{self, Nonces};
use crate::auth::rate::{self, Rates};
use crate::auth::token::{Keys, KeysError, Policy, Tokens};
use crate::base::{Clock, release};
use crate::config::{Config, DataLockError, LogFormat, LogLevel, Logging, Secret, SecretError};
use crate::http::{
    Answered, ClientAuthentication, Door, Limits, RevocationPolicy, ShutdownTrigger, TlsError, TlsMaterial, TlsPolicy,
    TlsShared,
};
use crate::journal::JournalConfig;
use crate::log::backup::{self, RestoreError, Restored, Source};
use crate::log::{Log, LogConfig, OpenError, Opened, PeerTls, PeerTlsError, PeerTlsFiles, Peering};
use crate::metrics::Metrics;
use crate::redis::Redis;
use crate::ring::socket::bind_shared;
use crate::services::identity::api::Identity;
use crate::services::mesh::{api::Mesh, state::TOKEN_MS};
use crate::services::pds::api::{Pds, ReadEntries};
use crate::services::pds::{records::Records, rules};
use crate::systemd::{self, PrivilegeError, Watchdog};
use beside::Beside;
use services::Services;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use threads::Thread;

/// How to run.
pub enum Mode {
    /// The daemon.
    Node,
    /// The sandbox.
    Sandbox {
        /// Its folder.
        data: PathBuf,
        /// Called on a thread of its own once the node serves.
        started: Box<dyn FnOnce(Started) + Send>,
        /// What the answers to reads of demographics wait for.
        read_entries: ReadEntries,
    },
}

/// Where a node that serves is reached.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    /// The front door.
    pub http: SocketAddr,
    /// The operator's loopback listener.
    pub admin: SocketAddr,
}

/// Why the node ended or did not start. The text says what an operator does next.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data folder is not to be had.
    #[error(transparent)]
    Data(#[from] DataLockError),
    /// A socket could not be bound.
    #[error("cannot listen on {what}: {cause}; is another process there, or the right to bind missing?")]
    Listen {
        /// Address or path.
        what: String,
        /// Why.
        cause: io::Error,
    },
    /// Logging could not start.
    #[error(transparent)]
    Logging(#[from] systemd::LoggingError),
    /// Rights could not be given up.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    /// A secret could not be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The keys of access tokens could not be read.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Certificates could not be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Certificates among peers could not be used.
    #[error(transparent)]
    Peers(#[from] PeerTlsError),
    /// The stores did not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A thread or its ring could not start, or ended early.
    #[error("thread {thread}: {cause}")]
    Thread {
        /// Its name.
        thread: String,
        /// Why.
        cause: io::Error,
    },
    /// The operating system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// How long a killed predecessor's ports may linger.
const PREDECESSOR_GONE_MAX: Duration = Duration::from_secs(2);

/// The listening sockets, bound before rights are dropped.
struct Doors {
    http: Vec<TcpListener>,
    /// For peers; without `[cluster]` whoever calls there is let go.
    peers: Vec<TcpListener>,
    admin: TcpListener,
    socket: UnixListener,
}

impl Doors {
    fn bind(config: &Config) -> Result<Doors, NodeError> {
        let refused = |what: String| move |cause| NodeError::Listen { what, cause };
        let passed = systemd::listen_sockets().map_err(refused("the sockets from systemd".to_owned()))?;
        let http = front_door(config, passed.http, passed.http_own).map_err(refused(config.http.listen.to_string()))?;
        let peers = match &config.cluster {
            Some(cluster) if passed.peer.is_empty() => {
                vec![bind_patiently(cluster.listen).map_err(refused(cluster.listen.to_string()))?]
            }
            Some(_) | None => passed.peer,
        };
        let admin = bind_patiently(config.admin.listen).map_err(refused(config.admin.listen.to_string()))?;
        let socket = bind_operator(&config.admin.socket).map_err(refused(config.admin.socket.display().to_string()))?;
        Ok(Doors {
            http,
            peers,
            admin,
            socket,
        })
    }
}

/// One listener for each reactor: systemd's own socket first, then the one that a process before left with systemd, then
/// a fresh one.
fn front_door(config: &Config, passed: Vec<TcpListener>, own: Option<TcpListener>) -> io::Result<Vec<TcpListener>> {
    let mut address = config.http.listen;
    let mut http = passed;
    if let Some(own) = own {
        if http.is_empty() && own.local_addr()? == address {
            http.push(own);
        } else {
            systemd::forget_socket();
        }
    }
    if http.is_empty() {
        // A socket that outlives this process is one for all reactors, because the next process may have fewer of them.
        let kept = systemd::is_supervised();
        // Reactors share the port, so the kernel would let a second node share it too: a plain bind would not.
        drop(bind_patiently(address)?);
        for _ in 0..if kept { 1 } else { reactors(config) } {
            let listener = bind_shared(address)?;
            // With port 0 the first one chooses for all.
            address = listener.local_addr()?;
            http.push(listener);
        }
        if kept {
            systemd::keep_socket(&http[0]);
        }
    }
    // A reactor serves one listener: several sockets need as many reactors, several reactors share sockets.
    let sockets = http.len();
    for n in sockets..reactors(config) {
        http.push(http[n % sockets].try_clone()?);
    }
    Ok(http)
}

/// Binds plainly. A predecessor that was killed holds its port for some milliseconds after its end, until the kernel
/// has taken its rings apart, so a port in use is tried again for a moment.
fn bind_patiently(address: SocketAddr) -> io::Result<TcpListener> {
    let began = Instant::now();
    loop {
        match TcpListener::bind(address) {
            Err(cause) if cause.kind() == io::ErrorKind::AddrInUse && began.elapsed() < PREDECESSOR_GONE_MAX => {
                std::thread::sleep(Duration::from_millis(2));
            }
            bound => return bound,
        }
    }
}

/// Binds the operator's socket; one that a dead process left is taken over, a live one is not.
fn bind_operator(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    match std::fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn reactors(config: &Config) -> usize {
    match config.http.reactors {
        0 => std::thread::available_parallelism().map_or(1, |cores| cores.get()),
        given => given as usize,
    }
}

fn log_config(config: &Config) -> LogConfig {
    LogConfig {
        node: config.node.id,
        name: config.node.name.clone(),
        site: config.node.site.clone(),
        release: &release::this().name,
        folder: config.node.data.clone(),
        checkpoint_bytes: config.ledger.checkpoint_bytes as usize,
        checkpoint_ms: config.ledger.checkpoint_ms,
        queue_bytes_max: config.log.queue_bytes_max as usize,
        propose_timeout_ms: config.log.propose_timeout_ms,
        clock_jump_ms_max: config.log.clock_jump_ms_max,
        stale_ms_max: config.log.stale_ms_max,
        reclaim_bytes_per_second: config.journal.reclaim_bytes_per_second,
        level_of: apply::level_of,
    }
}

fn journal_config(config: &Config) -> JournalConfig {
    let journal = &config.journal;
    JournalConfig {
        folder: config.node.data.join("journal"),
        node: config.node.id,
        segment_bytes: [
            journal.log_segment_bytes,
            journal.bodies_segment_bytes,
            journal.audit_segment_bytes,
        ]
        .map(|bytes| u32::try_from(bytes).expect("configuration bounds a segment at 1 GiB")),
        reserve_bytes: journal.reserve_bytes,
        queue_bytes_max: journal.queue_bytes_max as usize,
    }
}

fn limits(config: &Config) -> Limits {
    let http = &config.http;
    Limits {
        header_bytes_max: http.header_bytes_max as usize,
        headers_max: http.headers_max as usize,
        body_bytes_max: http.body_bytes_max,
        connections_max: http.connections_max as usize,
        connections_per_address_max: http.connections_per_address_max as usize,
        handshake_ms_max: http.handshake_ms_max,
        header_ms_max: http.header_ms_max,
        idle_ms_max: http.idle_ms_max,
        body_progress_ms_max: http.body_progress_ms_max,
        write_progress_ms_max: http.write_progress_ms_max,
        progress_bytes_min: http.progress_bytes_min,
        requests_max: http.requests_max as usize,
        requests_bytes_max: http.requests_bytes_max,
        retry_after_s: http.retry_after_seconds as u32,
        streams_max: http.streams_max as u32,
        streams_reset_max: http.streams_reset_max as usize,
        ping_ms: http.ping_ms,
        shutdown_ms_max: http.shutdown_ms_max,
    }
}

fn tls(config: &Config) -> Result<Arc<TlsShared>, TlsError> {
    let client = if config.tls.require_client_certificate {
        ClientAuthentication::Required
    } else {
        ClientAuthentication::Optional
    };
    // Without any list there is nothing to know; with one, an issuer it does not cover is refused.
    let revocation = RevocationPolicy {
        unknown_allowed: config.tls.crl.is_empty(),
        ..RevocationPolicy::default()
    };
    TlsShared::new(
        TlsMaterial::from_files(&upkeep::tls_files(config))?,
        TlsPolicy { client, revocation },
    )
}

fn keys(config: &Config) -> Result<SharedKeys, SecretError> {
    let current = Secret::read(&config.mesh.shared_key)?;
    let previous = config
        .mesh
        .previous_shared_key
        .as_deref()
        .map(Secret::read)
        .transpose()?;
    Ok(SharedKeys::new(current.bytes(), previous.as_ref().map(Secret::bytes)))
}

/// The keys of access tokens and what is written into these.
fn tokens(config: &Config) -> Result<Arc<Tokens>, KeysError> {
    let policy = Policy {
        issuer: config.tokens.issuer.clone(),
        audience: config.tokens.audience.clone(),
        authority_issuer: config.tokens.authority_issuer.clone().unwrap_or_default(),
    };
    let keys = Keys::from_files(&upkeep::key_files(config))?;
    Ok(Arc::new(Tokens::new(policy, keys)))
}

/// Whether the files that `config` names can be used: certificates, key, authorities, revocation lists, shared keys, the
/// keys of access tokens.
///
/// # Errors
/// `Secret`, `Keys`, `Tls`, `Peers`, in this order.
pub fn check(config: &Config) -> Result<(), NodeError> {
    keys(config)?;
    tokens(config)?;
    tls(config)?;
    peer_tls(config)?;
    Ok(())
}

/// Keys and trust between peers.
fn peer_tls(config: &Config) -> Result<Option<Arc<PeerTls>>, PeerTlsError> {
    let Some(cluster) = &config.cluster else {
        return Ok(None);
    };
    let files = PeerTlsFiles {
        certificate: cluster.certificate.clone(),
        key: cluster.key.clone(),
        ca: cluster.ca.clone(),
    };
    PeerTls::open(files).map(Arc::new).map(Some)
}

/// How this node reaches its peers; without any, the sockets at which callers are let go.
fn peering(
    config: &Config,
    tls: Option<Arc<PeerTls>>,
    listeners: Vec<TcpListener>,
) -> (Option<Peering>, Vec<TcpListener>) {
    let (Some(cluster), Some(tls)) = (&config.cluster, tls) else {
        return (None, listeners);
    };
    let peering = Peering {
        listeners,
        address: cluster.address.clone(),
        tls,
        peers: cluster.peers.clone(),
    };
    (Some(peering), Vec::new())
}

/// Opens the stores on the current thread, which runs a `tokio_uring` runtime.
async fn open(config: &Config, clock: Clock, peering: Option<Peering>) -> Result<Opened, OpenError> {
    let apply = Box::new(apply::apply);
    Log::open(
        log_config(config),
        journal_config(config),
        config.ledger.map_bytes_max,
        clock,
        peering,
        apply,
    )
    .await
}

/// Opens what a node stores, without serving, for `vertebra verify` on a stopped node; the current thread runs a
/// `tokio_uring` runtime.
pub async fn open_store(config: &Config) -> Result<Store, NodeError> {
    let opened = open(config, Clock::default(), None).await?;
    let logged_heads = apply::logged_heads(&opened.ledger, config.node.id);
    Ok(Store {
        log: opened.log,
        ledger: opened.ledger,
        journal: opened.journal,
        bodies: opened.bodies,
        logged_heads,
    })
}

/// Whether a backup may be put into the data folder of `config`.
///
/// # Errors
/// `NotEmpty`; `Io`.
pub fn check_restorable(config: &Config) -> Result<(), RestoreError> {
    backup::check_empty(&config.node.data)
}

/// Puts a verified backup into the data folder, whose lock the caller holds; the current thread runs a `tokio_uring`
/// runtime.
///
/// # Errors
/// As [`backup::restore`].
pub async fn restore(config: &Config, source: &Source, put: &mut dyn FnMut(u64)) -> Result<Restored, RestoreError> {
    let (log, journal) = (log_config(config), journal_config(config));
    let apply = Box::new(apply::apply);
    backup::restore(&log, journal, config.ledger.map_bytes_max, apply, source, put).await
}

/// Runs until SIGTERM or SIGINT: then finishes what runs, checkpoints and returns.
///
/// # Errors
/// In the order of a start: `Data`, `Listen`, `Secret`, `Keys`, `Tls`, `Peers`, `Privileges`, `Logging`, `Open`, `Thread`.
pub fn run(config: Config, mode: Mode) -> Result<(), NodeError> {
    let (sandbox, started, read_entries) = match mode {
        Mode::Node => (false, None, ReadEntries::Durable),
        Mode::Sandbox {
            started, read_entries, ..
        } => (true, Some(started), read_entries),
    };
    let _data = config.lock_data()?;
    let doors = Doors::bind(&config)?;
    let addresses = Started {
        http: doors.http[0].local_addr()?,
        admin: doors.admin.local_addr()?,
    };
    let keys = Arc::new(keys(&config)?);
    let tokens = tokens(&config)?;
    let tls = tls(&config)?;
    let peer_tls = peer_tls(&config)?;
    // Before any other thread starts: rights and blocked signals are a thread's own, and inherited.
    systemd::drop_privileges()?;
    let asked = threads::signals()?;
    start_logging(&config.logging)?;

    let config = Arc::new(config);
    let secrets = Secrets {
        keys,
        tokens: tokens.clone(),
        tls: tls.clone(),
        peer_tls: peer_tls.clone(),
    };
    let running = Running::start(config.clone(), (sandbox, read_entries), doors, addresses, secrets)?;
    tracing::info!(address = %addresses.http, site = config.node.site, "the node serves");
    systemd::ready(&format!("serving on {}", addresses.http));
    let greeting = started.map(|started| {
        Thread::spawn("started", move || {
            started(addresses);
            Ok(())
        })
    });
    threads::wait_for_stop(&asked, || {
        systemd::reloading();
        upkeep::reload(&config, &tls, peer_tls.as_deref(), &tokens);
        systemd::ready(&format!("serving on {}", addresses.http));
    });

    tracing::info!("stopping: requests in work are finished, then the log is closed");
    systemd::stopping();
    if let Some(greeting) = greeting {
        greeting?.join()?;
    }
    running.stop()?;
    let _ = std::fs::remove_file(&config.admin.socket);
    tracing::info!("stopped");
    Ok(())
}

/// A clock behind the log would refuse every token. The sandbox's, which a test may have moved before a restart, goes on
/// from the log's time; a real one has to be set right by whoever keeps the machine's time.
fn set_clock(clock: &Clock, log: &Log, sandbox: bool) {
    if sandbox {
        let behind_ms = log.status().time.since_ms(clock.now());
        clock.advance_ms(behind_ms as i64);
    } else {
        log.hold_clock_to_log();
    }
}

/// What the calls of MESH stand on.
fn mesh(
    config: &Config,
    opened: &Opened,
    identity: &Identity,
    keys: Arc<SharedKeys>,
    redis: Option<Redis>,
    sandbox: bool,
) -> Mesh {
    let nonces = Nonces::new(nonces::ENTRIES_MAX, TOKEN_MS).shared_by(redis);
    Mesh {
        log: opened.log.clone(),
        ledger: opened.ledger.clone(),
        bodies: opened.bodies.clone(),
        audit: identity.audit.clone(),
        clock: identity.clock.clone(),
        keys,
        nonces: Arc::new(nonces),
        sandbox,
        restrict_workflows: config.mesh.restrict_workflows,
    }
}

/// What the calls of identity stand on.
fn identity(
    config: &Config,
    opened: &Opened,
    audit: Audit,
    clock: Clock,
    tokens: Arc<Tokens>,
    rates: Arc<Rates>,
    sandbox: bool,
) -> Identity {
    Identity {
        log: opened.log.clone(),
        ledger: opened.ledger.clone(),
        audit,
        clock,
        tokens,
        rates,
        token_urls: config.tokens.token_urls.clone().into(),
        sandbox,
    }
}

/// What the calls of PDS stand on; its rules are made ready before the first request. In the sandbox the port may have been chosen when it was bound.
fn pds(config: &Config, identity: &Identity, http: Option<SocketAddr>, read_entries: ReadEntries) -> Pds {
    rules::prepare();
    let origin = http.map_or_else(|| config.pds.url.clone(), |address| format!("https://{address}"));
    Pds {
        records: Records {
            log: identity.log.clone(),
            ledger: identity.ledger.clone(),
        },
        audit: identity.audit.clone(),
        clock: identity.clock.clone(),
        tokens: identity.tokens.clone(),
        rates: identity.rates.clone(),
        base_url: Pds::base_url(&origin),
        numbers: config.pds.numbers(),
        timeout: Duration::from_millis(config.log.propose_timeout_ms),
        read_entries,
    }
}

/// What was read from secret files.
struct Secrets {
    keys: Arc<SharedKeys>,
    tokens: Arc<Tokens>,
    tls: Arc<TlsShared>,
    peer_tls: Option<Arc<PeerTls>>,
}

/// The turns of the log's thread and of each reactor.
fn beats(reactors: usize) -> Vec<(String, Arc<AtomicU64>)> {
    std::iter::once("log".to_owned())
        .chain((0..reactors).map(|n| format!("reactor-{n}")))
        .map(|name| (name, Arc::new(AtomicU64::new(0))))
        .collect()
}

/// A node's threads, and what ends each.
struct Running {
    log: Log,
    log_thread: threads::LogThread,
    reactors: Vec<Thread>,
    front: ShutdownTrigger,
    beside: Beside,
    operator: Thread,
    back: ShutdownTrigger,
    watchdog: Thread,
    watchdog_stop: std::sync::mpsc::Sender<()>,
    serving: Arc<AtomicBool>,
}

impl Running {
    /// Opens the log, then starts the threads that serve.
    fn start(
        config: Arc<Config>,
        (sandbox, read_entries): (bool, ReadEntries),
        doors: Doors,
        addresses: Started,
        secrets: Secrets,
    ) -> Result<Running, NodeError> {
        let Secrets {
            keys,
            tokens,
            tls,
            peer_tls,
        } = secrets;
        let (peering, strangers) = peering(&config, peer_tls.clone(), doors.peers);
        let clock = Clock::default();
        let beats = beats(doors.http.len());
        let (opened, log_thread) = threads::open_log(config.clone(), clock.clone(), peering, beats[0].1.clone())?;
        set_clock(&clock, &opened.log, sandbox);
        let audit = Audit::open(opened.journal.clone(), opened.audit);
        let metrics = Arc::new(Metrics::new());
        let observer = metrics.clone();
        let observer = Arc::new(move |answered: &Answered| figures::observe(&observer, answered));
        let door = Door::new(limits(&config), Some(observer));
        let rates = Arc::new(Rates::new(rate::CLIENTS_MAX));
        let (beside, events, redis) = Beside::start(&config, &opened, &door, &rates)?;
        let (own_audit, own_clock) = (audit.clone(), clock.clone());
        let identity = identity(&config, &opened, own_audit, own_clock, tokens.clone(), rates, sandbox);
        let services = Services {
            mesh: mesh(&config, &opened, &identity, keys, redis.clone(), sandbox),
            pds: pds(&config, &identity, sandbox.then_some(addresses.http), read_entries),
            identity,
        };
        let (front, front_shutdown) = ShutdownTrigger::new();
        let (reactors, rings) = threads::reactors(doors.http, &beats[1..], |listener| threads::Serving {
            listener,
            tls: tls.clone(),
            door: door.clone(),
            services: services.clone(),
            shutdown: front_shutdown.clone(),
        })?;

        let watchdog = Watchdog::new(beats.iter().map(|(_, beat)| beat.clone()).collect());
        let serving = Arc::new(AtomicBool::new(true));
        let log = opened.log.clone();
        let upkeep = upkeep::Upkeep {
            config: config.clone(),
            log: opened.log.clone(),
            ledger: opened.ledger.clone(),
            audit: audit.clone(),
            metrics: metrics.clone(),
            tls,
            peer_tls,
            tokens,
            founded: opened.founded,
        };
        let heads = (opened.ledger.clone(), config.node.id);
        let loader = crate::services::pds::load::Loader::new(opened.log.clone(), opened.ledger.clone());
        let admin = Admin {
            events,
            redis,
            loader,
            config,
            log: opened.log,
            ledger: opened.ledger,
            journal: opened.journal,
            bodies: opened.bodies,
            audit,
            clock,
            metrics,
            sandbox,
            url: format!("https://{}", addresses.http),
            threads: beats,
            alive: watchdog.alive(),
            serving: serving.clone(),
            drained: AtomicBool::new(false),
            figures: Box::new(move |sample| figures::sample(sample, &door, &rings)),
            logged_heads: Box::new(move || apply::logged_heads(&heads.0, heads.1)),
            depths: crate::admin::figures::Depths::default(),
        };
        admin.show_to_peers();
        let (back, back_shutdown) = ShutdownTrigger::new();
        let operator = threads::operator((doors.admin, doors.socket, strangers), admin, upkeep, back_shutdown)?;
        let (watchdog_stop, stopped) = std::sync::mpsc::channel();
        let watchdog = Thread::spawn("watchdog", move || {
            watchdog.run(&stopped);
            Ok(())
        })?;
        Ok(Running {
            log,
            log_thread,
            reactors,
            front,
            beside,
            operator,
            back,
            watchdog,
            watchdog_stop,
            serving,
        })
    }

    /// Finishes requests, closes the operator's doors, checkpoints and closes the log.
    fn stop(self) -> Result<(), NodeError> {
        self.serving.store(false, Ordering::Relaxed);
        self.front.trigger();
        let mut ended = Ok(());
        for reactor in self.reactors {
            ended = ended.and(reactor.join());
        }
        ended = ended.and(self.beside.stop());
        self.back.trigger();
        ended = ended.and(self.operator.join());
        // Whatever became of the others: what was acknowledged is checkpointed.
        ended = ended.and(self.log_thread.close(&self.log));
        let _ = self.watchdog_stop.send(());
        ended.and(self.watchdog.join())
    }
}

fn start_logging(logging: &Logging) -> Result<(), systemd::LoggingError> {
    let format = match logging.format {
        LogFormat::Journald => systemd::Format::Journald,
        LogFormat::Json => systemd::Format::Json,
        LogFormat::Text => systemd::Format::Text,
    };
    let level = match logging.level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Trace => tracing::Level::TRACE,
    };
    systemd::start_logging(format, level)
}
