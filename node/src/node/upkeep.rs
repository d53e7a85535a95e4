//! What a node does by the clock: expire messages, enter the audit head, read certificates and keys again.
//!
//! Runs on the operator's thread, so that no reactor waits for it. Each turn is bounded; one that fails is logged and
//! tried again at the next tick.

use super::apply;
use crate::audit::{Audit, Head};
use crate::auth::token::{KeyFiles, Keys, Tokens};
use crate::base::release;
use crate::config::Config;
use crate::http::{TlsFiles, TlsMaterial, TlsShared};
use crate::ledger::Ledger;
use crate::log::{Log, PeerTls, ProposeError};
use crate::metrics::Metrics;
use crate::services::mesh::command::{Command, Outcome};
use crate::services::mesh::state;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How often the audit head is entered into the log while it moves.
const AUDIT_HEAD_MS: u64 = 1000;
/// How often latencies are folded into their buckets.
const METRICS_MS: u64 = 5000;
/// How often the founder of a cluster tries to begin it at the newest format level, and how long after each other.
const LEVEL_TRIES: u32 = 100;
const LEVEL_AGAIN_MS: u64 = 100;
/// What one sweep may touch: few enough that the commands behind it on the log's thread do not feel it.
const SWEEP_MESSAGES: u32 = 100;

/// What upkeep works on.
pub(super) struct Upkeep {
    pub config: Arc<Config>,
    pub log: Log,
    pub ledger: Ledger,
    pub audit: Audit,
    pub metrics: Arc<Metrics>,
    pub tls: Arc<TlsShared>,
    pub peer_tls: Option<Arc<PeerTls>>,
    pub tokens: Arc<Tokens>,
    pub founded: bool,
}

impl Upkeep {
    /// Starts every task on the current thread; they end with its runtime.
    pub(super) fn start(self) {
        let this = std::rc::Rc::new(self);
        let own = |this: &std::rc::Rc<Upkeep>| std::rc::Rc::clone(this);
        let sweeper = own(&this);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(sweeper.config.mesh.sweep_ms)).await;
                if let Err(cause) = sweeper.sweep().await {
                    tracing::warn!(%cause, "due messages could not be swept; the next tick tries again");
                }
            }
        });
        let witness = own(&this);
        tokio::task::spawn_local(async move {
            let mut entered = None;
            loop {
                tokio::time::sleep(Duration::from_millis(AUDIT_HEAD_MS)).await;
                witness.enter_audit_head(&mut entered).await;
            }
        });
        let founder = own(&this);
        tokio::task::spawn_local(async move {
            if founder.founded {
                founder.begin_at_the_newest_level().await;
            }
        });
        let folder = own(&this);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(METRICS_MS)).await;
                folder.metrics.upkeep();
            }
        });
        let keeper = own(&this);
        tokio::task::spawn_local(async move {
            let files = certificate_paths(&keeper.config);
            keeper
                .watch(files, |own| reload_certificates(&own.config, &own.tls))
                .await;
        });
        let peers = own(&this);
        tokio::task::spawn_local(async move {
            let files = peer_paths(&peers.config);
            peers.watch(files, |own| reload_peers(own.peer_tls.as_deref())).await;
        });
        tokio::task::spawn_local(async move {
            let files = key_paths(&this.config);
            this.watch(files, |own| reload_keys(&own.config, &own.tokens)).await;
        });
    }

    /// Calls `reload` whenever one of the files has changed, until it takes them.
    async fn watch(&self, files: Vec<PathBuf>, reload: impl Fn(&Upkeep) -> bool) {
        let mut seen = stamps(&files);
        loop {
            tokio::time::sleep(Duration::from_millis(self.config.tls.reload_ms)).await;
            let now = stamps(&files);
            if now != seen && reload(self) {
                seen = now;
            }
        }
    }

    /// Expires and purges what is due, a bounded number of messages a command.
    async fn sweep(&self) -> Result<(), ProposeError> {
        // The leader's clock is what a command is judged by: while it is not its peers', nothing expires by it.
        let leads = self.log.status().leader;
        if !leads || !self.log.clock_agrees() {
            return Ok(());
        }
        while state::sweep_due(&self.ledger, self.log.time()) {
            let command = Command::Sweep {
                messages_max: SWEEP_MESSAGES,
            };
            let applied = self.log.propose(command.encode(&[])).await?;
            match Outcome::decode(&applied.outcome) {
                Ok(Outcome::Swept {
                    messages: SWEEP_MESSAGES,
                }) => {}
                Ok(_) => return Ok(()),
                Err(cause) => {
                    tracing::error!(%cause, "a sweep was answered with what is no outcome");
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Nobody older takes part in a cluster that was just made. A node that ends before this is done leaves it to the
    /// operator, as after an upgrade.
    async fn begin_at_the_newest_level(&self) {
        let newest = *release::this().levels.end();
        for left in (0..LEVEL_TRIES).rev() {
            match self.log.raise_level(newest).await {
                Ok(_) => return,
                Err(why) if left == 0 => {
                    tracing::warn!(
                        why,
                        newest,
                        "the newest format level is not in force; see `vertebra upgrade status`"
                    );
                }
                // Its first members may be on their way.
                Err(_) => tokio::time::sleep(Duration::from_millis(LEVEL_AGAIN_MS)).await,
            }
        }
    }

    async fn enter_audit_head(&self, entered: &mut Option<Head>) {
        let head = self.audit.head();
        if *entered == Some(head) || head == Head::default() {
            return;
        }
        match self.log.propose(apply::head_command(self.config.node.id, head)).await {
            Ok(_) => *entered = Some(head),
            Err(ProposeError::Closing) => {}
            // Known from `status`, once and not every second.
            Err(ProposeError::NoLeader | ProposeError::DiskFull | ProposeError::ClockJumped) => {}
            Err(cause) => tracing::warn!(%cause, "the audit head could not be entered into the log"),
        }
    }
}

/// The files that TLS is made of.
pub(super) fn tls_files(config: &Config) -> TlsFiles {
    TlsFiles {
        certificate: config.tls.certificate.clone(),
        key: config.tls.key.clone(),
        client_ca: Some(config.tls.client_ca.clone()),
        crls: config.tls.crl.clone(),
    }
}

/// The files of the keys of access tokens.
pub(super) fn key_files(config: &Config) -> KeyFiles {
    KeyFiles {
        signing_key: config.tokens.signing_key.clone(),
        previous_signing_key: config.tokens.previous_signing_key.clone(),
        authority_jwks: config.tokens.authority_jwks.clone(),
    }
}

fn certificate_paths(config: &Config) -> Vec<PathBuf> {
    let files = tls_files(config);
    let pair = [files.certificate, files.key].into_iter();
    pair.chain(files.client_ca).chain(files.crls).collect()
}

fn peer_paths(config: &Config) -> Vec<PathBuf> {
    let files =
        |cluster: &crate::config::Cluster| [cluster.certificate.clone(), cluster.key.clone(), cluster.ca.clone()];
    config.cluster.iter().flat_map(files).collect()
}

fn key_paths(config: &Config) -> Vec<PathBuf> {
    let files = key_files(config);
    let ours = files.signing_key.into_iter().chain(files.previous_signing_key);
    ours.chain(files.authority_jwks).collect()
}

/// When each of them changed last.
fn stamps(files: &[PathBuf]) -> Vec<Option<SystemTime>> {
    let changed = |file: &PathBuf| std::fs::metadata(file).and_then(|meta| meta.modified()).ok();
    files.iter().map(changed).collect()
}

/// Reads certificates, revocation lists and the keys of access tokens again.
pub(super) fn reload(config: &Config, tls: &TlsShared, peers: Option<&PeerTls>, tokens: &Tokens) {
    reload_certificates(config, tls);
    reload_peers(peers);
    reload_keys(config, tokens);
}

/// Reads certificate, key and authorities among peers again. What does not fit together changes nothing.
fn reload_peers(tls: Option<&PeerTls>) -> bool {
    match tls.map(PeerTls::reload) {
        None => true,
        Some(Ok(())) => {
            tracing::info!("certificates among peers were read again");
            true
        }
        Some(Err(cause)) => {
            tracing::error!(%cause, "the new certificates among peers are not taken; the ones before stay in force");
            false
        }
    }
}

/// Reads the keys of access tokens again. Keys that cannot be read change nothing.
fn reload_keys(config: &Config, tokens: &Tokens) -> bool {
    match Keys::from_files(&key_files(config)) {
        Ok(keys) => {
            let (own, authority) = (keys.own_kids().join(" "), keys.authority_kids().join(" "));
            tracing::info!(own, authority, "the keys of access tokens were read again");
            tokens.reload(keys);
            true
        }
        Err(cause) => {
            tracing::error!(%cause, "the new keys of access tokens are not taken; the ones before stay in force");
            false
        }
    }
}

/// Reads certificates, key, authorities and revocation lists again. What does not fit together changes nothing.
fn reload_certificates(config: &Config, tls: &TlsShared) -> bool {
    match TlsMaterial::from_files(&tls_files(config)).and_then(|material| tls.reload(material)) {
        Ok(()) => {
            tracing::info!(
                generation = tls.status().generation,
                "certificates and revocation lists were read again"
            );
            true
        }
        Err(cause) => {
            tracing::error!(%cause, "the new certificates are not taken; the ones before stay in force");
            false
        }
    }
}
