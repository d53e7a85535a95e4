//! The boot service: what cannot be a file. Two doors: HTTPS for machines, plain HTTP on loopback for the operator's
//! status page and for nginx, which tells of fetched boot files.
//!
//! Owns: sockets, limits, the order in which a request is judged. Must never know: how state lies on disk. Invariants:
//! with this service down, enrolled machines boot what was rendered last; a stranger hears one sentence whatever is wrong;
//! no token or key is ever logged.

mod calls;
mod door;
mod limits;
mod operator;

use crate::config::Config;
use crate::inventory::{Inventory, InventoryError};
use crate::names::now;
use crate::publish::{self, PublishError};
use crate::store::{Stamp, Store, StoreError};
use limits::Limits;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The inventory has mistakes.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// State.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Rendering.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Certificate or key.
    #[error("{file}: {what}")]
    Tls {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A socket, the runtime.
    #[error("{what}: {cause}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's words.
        cause: std::io::Error,
    },
}

/// What all requests share.
pub(crate) struct Service {
    config: Config,
    store: Store,
    inventory: Mutex<Arc<Inventory>>,
    tls: Mutex<Arc<ServerConfig>>,
    limits: Limits,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    fn inventory(&self) -> Arc<Inventory> {
        held(&self.inventory).clone()
    }

    /// Renders what is on disk to what it should be; tells when something changed.
    fn publish(&self) -> Result<(), PublishError> {
        let locked = self.store.lock()?;
        let written = publish::publish(&self.config, &self.store, &locked, &self.inventory())?;
        if written.changed + written.removed > 0 {
            log(
                "info",
                &format!(
                    "rendered: {} files changed, {} removed",
                    written.changed, written.removed
                ),
            );
        }
        Ok(())
    }
}

/// One line for the journal. Callers pass nothing secret.
pub(crate) fn log(level: &str, text: &str) {
    // systemd reads the priority from the line's start; nobody is left to tell when standard error is gone.
    let priority = match level {
        "error" => "<3>",
        "warning" => "<4>",
        _ => "<6>",
    };
    let mark = if std::env::var_os("JOURNAL_STREAM").is_some() {
        priority
    } else {
        ""
    };
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{mark}{level}: {}", crate::names::shown_long(text));
}

fn tls_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, ServeError> {
    let bad = |file: &Path, what: String| ServeError::Tls {
        file: file.to_owned(),
        what,
    };
    let pem = crate::files::read(certificate).map_err(|error| bad(certificate, error.to_string()))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|error| bad(certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(bad(certificate, "there is no certificate in it".to_owned()));
    }
    let pem = crate::files::read(key).map_err(|error| bad(key, error.to_string()))?;
    let parsed = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| bad(key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, parsed))
        .map_err(|error| bad(certificate, format!("with its key {}: {error}", key.display())))?;
    Ok(Arc::new(config))
}

/// Times of the files that are read again when they change.
#[derive(PartialEq, Eq)]
struct Watched(Vec<Option<SystemTime>>);

impl Watched {
    fn of<'a>(files: impl IntoIterator<Item = &'a Path>) -> Watched {
        let time = |file: &Path| file.metadata().and_then(|metadata| metadata.modified()).ok();
        Watched(files.into_iter().map(time).collect())
    }

    fn inventory(config: &Config) -> Watched {
        let hiera = config
            .hiera
            .iter()
            .flat_map(|folder| ["", "common.yaml", "datacentre", "role"].map(|part| folder.join(part)));
        let files: Vec<PathBuf> = [config.inventory.clone()].into_iter().chain(hiera).collect();
        Watched::of(files.iter().map(PathBuf::as_path))
    }

    fn tls(config: &Config) -> Watched {
        Watched::of([config.serve.certificate.as_path(), config.serve.key.as_path()])
    }
}

/// Serves until SIGTERM or SIGINT.
pub fn run(config: Config) -> Result<(), ServeError> {
    let inventory = Inventory::load(&config.inventory, config.hiera.as_ref())?;
    let store = Store::open(&config.state)?;
    let tls = tls_config(&config.serve.certificate, &config.serve.key)?;
    let service = Arc::new(Service {
        limits: Limits::new(&config.serve),
        inventory: Mutex::new(Arc::new(inventory)),
        tls: Mutex::new(tls),
        store,
        config,
    });
    service.publish()?;
    let io = |what: &str| {
        let what = what.to_owned();
        move |cause| ServeError::Io { what, cause }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io("the runtime"))?;
    let result = runtime.block_on(async {
        let serve = &service.config.serve;
        let machines = bind(serve.listen).await?;
        let operator = bind(serve.operator_listen).await?;
        let address = |listener: &TcpListener| listener.local_addr().map(|a| a.to_string()).unwrap_or_default();
        log("info", &format!("machines: https://{}", address(&machines)));
        log("info", &format!("operator: http://{}", address(&operator)));
        let mut terminated = signal(SignalKind::terminate()).map_err(io("signals"))?;
        let mut interrupted = signal(SignalKind::interrupt()).map_err(io("signals"))?;
        // Outside of systemd there is nobody to notify, which is no failure.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        tokio::select! {
            () = door::machines(service.clone(), machines) => {}
            () = door::operator(service.clone(), operator) => {}
            () = upkeep(service.clone()) => {}
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        Ok(())
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    result
}

async fn bind(address: std::net::SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|cause| ServeError::Io {
        what: format!("listening on {address}"),
        cause,
    })
}

/// Every second: files that changed are read again, and what machines boot is brought up to date.
async fn upkeep(service: Arc<Service>) {
    let mut inventory = Watched::inventory(&service.config);
    let mut tls = Watched::tls(&service.config);
    let mut stamp: Option<Stamp> = None;
    let mut next_at_latest = 0;
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let files = Watched::inventory(&service.config);
        let mut dirty = false;
        if files != inventory {
            inventory = files;
            dirty = true;
            match Inventory::load(&service.config.inventory, service.config.hiera.as_ref()) {
                Ok(read) => *held(&service.inventory) = Arc::new(read),
                Err(error) => log("error", &format!("the inventory as it was stays in force: {error}")),
            }
        }
        let files = Watched::tls(&service.config);
        if files != tls {
            tls = files;
            match tls_config(&service.config.serve.certificate, &service.config.serve.key) {
                Ok(read) => *held(&service.tls) = read,
                Err(error) => log("error", &format!("the certificate as it was stays in force: {error}")),
            }
        }
        let now_stamp = service.store.stamp();
        if !dirty && stamp.as_ref() == Some(&now_stamp) && now() < next_at_latest {
            continue;
        }
        stamp = Some(now_stamp);
        // Time alone changes a plan too: a boot settles.
        next_at_latest = now() + service.config.fallback.settle_seconds.clamp(1, 10);
        let publisher = service.clone();
        let published = tokio::task::spawn_blocking(move || publisher.publish()).await;
        match published {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log("error", &format!("not rendered: {error}")),
            Err(error) => log("error", &format!("not rendered: {error}")),
        }
    }
}
