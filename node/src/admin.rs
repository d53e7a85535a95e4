//! The operator's endpoints: health, metrics, status, mailboxes, workflows and clients, trace, verify.
//!
//! Owns: what an operator can ask and change, and how it is shown. Must never know: message bodies, subjects, file
//! names, passwords (they go in, never out). Invariants: a change goes through the log like any other and is on the
//! audit record before its answer; over loopback TCP only metrics and health are answered, except in the sandbox.
//!
//! | call | answers |
//! |---|---|
//! | `GET /metrics` | the Prometheus page |
//! | `GET /health/live` | 200 while every watched thread turns, else 503 |
//! | `GET /health/ready` | 200 while the node takes writes, else 503 and why |
//! | `GET /health/deep` | goes through propose, fsync, apply, read; tells the time of each and the slowest |
//! | `GET /admin/status` | [`status::Status`] |
//! | `GET /admin/mailboxes[?after=ID&max=N]`, `GET /admin/mailboxes/ID` | mailboxes, without passwords |
//! | `PUT /admin/mailboxes/ID` | adds or changes one: [`directory::MailboxChange`] |
//! | `GET /admin/workflows`, `PUT /admin/workflows/ID` | workflows: [`directory::WorkflowChange`] |
//! | `GET /admin/clients[?after=ID&max=N]`, `GET /admin/clients/ID` | clients of access tokens: [`clients::ClientView`] |
//! | `PUT /admin/clients/ID` | adds or changes one: [`clients::ClientChange`] |
//! | `POST /admin/patients/history`, `…/show` with [`patients::Wanted`] | a record's versions, and one of them |
//! | `POST /admin/patients/mark` with [`patients::Marking`] | restricts, opens, invalidates, supersedes |
//! | `GET /admin/events`, `GET /admin/events/parked[?after=POSITION&max=N]` | [`outbox::EventsView`], parked events |
//! | `POST /admin/events/switch` with an [`outbox::Switch`] | switches events on or off |
//! | `POST /admin/events/requeue`, `…/discard` with [`outbox::Named`] | puts parked events back, or removes them |
//! | `GET /admin/trace/ID` | the life of a message or request: [`trace::Trace`] |
//! | `POST /admin/verify[?deep=true]` | [`verify::Report`] |
//! | `POST /admin/audit/verify` | [`audit::ChainReport`] |
//! | `POST /admin/audit/query`, `…/export` with an [`audit::Search`] | a page of audit entries: [`audit::Page`] |
//! | `POST /admin/load[?since=MS]` with NDJSON | loads patients: [`load::BatchReport`] |
//! | `POST /admin/unload` with an [`load::Unload`] | a page of records: NDJSON that ends in a [`load::PageEnd`] |
//! | `POST /admin/cluster/leave` `{"id": N}` | takes a member out |
//! | `POST /admin/cluster/drain`, `…/undrain` | hands leadership away and says "not ready"; ready again |
//! | `POST /admin/cluster/go-alone` | makes this node the only member, under a new epoch |
//! | `GET /admin/upgrade` | who runs which release, and what may be done next: [`upgrade::Upgrade`] |
//! | `POST /admin/upgrade/finalize` | puts the newest format level in force; the same answer |
//! | `POST /admin/backup[?bytes_per_second=N]` | everything of one position: [`backup`] |
//! | `POST /admin/clock` `{"advance_ms": N}` | sandbox only: moves the clock |

pub mod audit;
mod backup;
pub mod clients;
mod cluster;
pub mod directory;
pub mod figures;
pub mod load;
pub mod outbox;
pub mod patients;
pub mod redis;
pub mod status;
#[cfg(test)]
mod tests;
pub mod trace;
pub mod upgrade;
pub mod verify;

use crate::audit::{Audit, Entry};
use crate::base::{Clock, RequestId};
use crate::bodies::Bodies;
use crate::config::Config;
use crate::http::{Request, Response, ResponseBody};
use crate::journal::Journal;
use crate::ledger::Ledger;
use crate::log::{Log, ProposeError};
use crate::metrics::{Metrics, Sample};
use crate::services::pds::load::{BATCH_BYTES_MAX, Loader};
use ::http::{Method, StatusCode, header};
use bytes::Bytes;
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Largest body of an operator's request, bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Which door a request came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// The Unix socket, mode 0660: an operator.
    Socket,
    /// Loopback TCP: anybody on this host.
    Loopback,
}

/// What the endpoints stand on.
pub struct Admin {
    /// The configuration in force.
    pub config: Arc<Config>,
    /// Proposals and positions.
    pub log: Log,
    /// Reads.
    pub ledger: Ledger,
    /// Figures and verification.
    pub journal: Journal,
    /// Verification of large bodies.
    pub bodies: Bodies,
    /// The record of what operators did.
    pub audit: Audit,
    /// The node's clock.
    pub clock: Clock,
    /// Request figures.
    pub metrics: Arc<Metrics>,
    /// Test-only endpoints are open, and everything is answered over loopback.
    pub sandbox: bool,
    /// Where clients reach the front door: `https://127.0.0.1:8700`.
    pub url: String,
    /// Every watched thread: its name and its turns.
    pub threads: Vec<(String, Arc<AtomicU64>)>,
    /// What the watchdog saw at its last look.
    pub alive: Arc<AtomicBool>,
    /// The node serves; false while it starts and once it stops.
    pub serving: Arc<AtomicBool>,
    /// An operator wants no clients here.
    pub drained: AtomicBool,
    /// Adds the figures of doors and rings to a sample.
    pub figures: Box<dyn Fn(&mut Sample) + Send + Sync>,
    /// Audit heads that the log holds, oldest first: the proof that no tail was cut off.
    pub logged_heads: Box<dyn Fn() -> Vec<crate::audit::Head> + Send + Sync>,
    /// The last look at all inboxes.
    pub depths: figures::Depths,
    /// What the publisher of events counts; `None` without a broker.
    pub events: Option<Arc<crate::outbox::Figures>>,
    /// What nodes share for a while; `None` without it.
    pub redis: Option<crate::redis::Redis>,
    /// Bulk load and unload of patients.
    pub loader: Loader,
}

/// An answer before it becomes HTTP.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// `application/json`, or Prometheus' text.
    pub content_type: &'static str,
    /// All of it.
    pub body: String,
}

impl std::fmt::Debug for Answer {
    /// Without its body, which may be people's records.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answer({}, {} bytes)", self.status, self.body.len())
    }
}

impl Answer {
    /// JSON, indented for people who use curl.
    fn json(status: StatusCode, value: &impl Serialize) -> Answer {
        let mut body = serde_json::to_string_pretty(value).expect("answers have a JSON form");
        body.push('\n');
        Answer {
            status,
            content_type: "application/json",
            body,
        }
    }

    fn ok(value: &impl Serialize) -> Answer {
        Answer::json(StatusCode::OK, value)
    }

    fn into_response(self) -> Response {
        ::http::Response::builder()
            .status(self.status)
            .header(header::CONTENT_TYPE, self.content_type)
            .header(header::CACHE_CONTROL, "no-store")
            .body(ResponseBody::Full(Bytes::from(self.body)))
            .expect("a status and two constant headers")
    }
}

/// Why an operator's request was refused. Each has one code, one status and one sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No such call.
    #[error("there is no such call here; see the table in the documentation of `vertebra`")]
    NoSuchCall,
    /// The call is for the Unix socket.
    #[error("this call is answered on the Unix socket only; use `vertebra` or curl --unix-socket")]
    SocketOnly,
    /// The call is for the sandbox.
    #[error("this call is for the sandbox only")]
    SandboxOnly,
    /// The path, query or body is not what the call takes.
    #[error("{0}")]
    Malformed(String),
    /// No such thing.
    #[error("{0} is not known; check the identifier")]
    Unknown(String),
    /// The log did not take the command.
    #[error("{0}; try again in a moment")]
    NotTaken(ProposeError),
    /// The cluster refused it.
    #[error("{0}; nothing was changed")]
    Cluster(String),
    /// Apply refused the command.
    #[error("the change was refused ({0}); nothing was changed")]
    Judged(&'static str),
    /// Something that excludes it is under way.
    #[error("{0}")]
    Busy(String),
    /// The disk lacks room for it.
    #[error("{0}")]
    NoSpace(String),
    /// This node cannot do it as it stands.
    #[error("{0}")]
    Unable(String),
    /// Something of ours failed; the log says what.
    #[error("the node could not answer; its log says why")]
    Failed,
}

impl Refused {
    /// Its code and HTTP status.
    pub fn code(&self) -> (&'static str, StatusCode) {
        match self {
            Refused::NoSuchCall => ("no_such_call", StatusCode::NOT_FOUND),
            Refused::SocketOnly => ("socket_only", StatusCode::FORBIDDEN),
            Refused::SandboxOnly => ("sandbox_only", StatusCode::FORBIDDEN),
            Refused::Malformed(_) => ("malformed", StatusCode::BAD_REQUEST),
            Refused::Unknown(_) => ("unknown", StatusCode::NOT_FOUND),
            Refused::NotTaken(_) => ("not_taken", StatusCode::SERVICE_UNAVAILABLE),
            Refused::Cluster(_) => ("refused", StatusCode::CONFLICT),
            Refused::Judged(_) => ("refused", StatusCode::CONFLICT),
            Refused::Busy(_) => ("busy", StatusCode::CONFLICT),
            Refused::NoSpace(_) => ("no_space", StatusCode::INSUFFICIENT_STORAGE),
            Refused::Unable(_) => ("unable", StatusCode::SERVICE_UNAVAILABLE),
            Refused::Failed => ("failed", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    fn answer(&self) -> Answer {
        let (code, status) = self.code();
        Answer::json(status, &json!({ "code": code, "message": self.to_string() }))
    }
}

impl From<ProposeError> for Refused {
    fn from(error: ProposeError) -> Refused {
        Refused::NotTaken(error)
    }
}

/// A call, told from method and path; what is left of the path is its argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Metrics,
    Live,
    Ready,
    Deep,
    Status,
    Mailboxes,
    Mailbox(String),
    PutMailbox(String),
    Workflows,
    PutWorkflow(String),
    Clients,
    Client(String),
    PutClient(String),
    PatientHistory,
    PatientShow,
    PatientMark,
    Events,
    EventsParked,
    EventsSwitch,
    EventsRequeue,
    EventsDiscard,
    Trace(String),
    Verify,
    AuditVerify,
    AuditSearch(audit::Kind),
    Load,
    Unload,
    Leave,
    Drain(bool),
    GoAlone,
    Upgrade,
    Finalize,
    Backup,
    Clock,
}

impl Call {
    /// Tells the call; the argument is percent-decoded.
    pub(crate) fn of(method: &Method, path: &str) -> Option<Call> {
        let mut parts = path.trim_matches('/').splitn(3, '/');
        let (area, what, rest) = (parts.next()?, parts.next(), parts.next());
        let argument = || {
            let text = percent_encoding::percent_decode_str(rest?).decode_utf8().ok()?;
            (!text.is_empty() && !text.contains('/')).then(|| text.into_owned())
        };
        match (method, area, what, rest) {
            (&Method::GET, "metrics", None, None) => Some(Call::Metrics),
            (&Method::GET, "health", Some("live"), None) => Some(Call::Live),
            (&Method::GET, "health", Some("ready"), None) => Some(Call::Ready),
            (&Method::GET, "health", Some("deep"), None) => Some(Call::Deep),
            (&Method::GET, "admin", Some("status"), None) => Some(Call::Status),
            (&Method::GET, "admin", Some("mailboxes"), None) => Some(Call::Mailboxes),
            (&Method::GET, "admin", Some("mailboxes"), Some(_)) => argument().map(Call::Mailbox),
            (&Method::PUT, "admin", Some("mailboxes"), Some(_)) => argument().map(Call::PutMailbox),
            (&Method::GET, "admin", Some("workflows"), None) => Some(Call::Workflows),
            (&Method::PUT, "admin", Some("workflows"), Some(_)) => argument().map(Call::PutWorkflow),
            (&Method::GET, "admin", Some("clients"), None) => Some(Call::Clients),
            (&Method::GET, "admin", Some("clients"), Some(_)) => argument().map(Call::Client),
            (&Method::PUT, "admin", Some("clients"), Some(_)) => argument().map(Call::PutClient),
            (&Method::POST, "admin", Some("patients"), Some("history")) => Some(Call::PatientHistory),
            (&Method::POST, "admin", Some("patients"), Some("show")) => Some(Call::PatientShow),
            (&Method::POST, "admin", Some("patients"), Some("mark")) => Some(Call::PatientMark),
            (&Method::GET, "admin", Some("events"), None) => Some(Call::Events),
            (&Method::GET, "admin", Some("events"), Some("parked")) => Some(Call::EventsParked),
            (&Method::POST, "admin", Some("events"), Some("switch")) => Some(Call::EventsSwitch),
            (&Method::POST, "admin", Some("events"), Some("requeue")) => Some(Call::EventsRequeue),
            (&Method::POST, "admin", Some("events"), Some("discard")) => Some(Call::EventsDiscard),
            (&Method::GET, "admin", Some("trace"), Some(_)) => argument().map(Call::Trace),
            (&Method::POST, "admin", Some("verify"), None) => Some(Call::Verify),
            (&Method::POST, "admin", Some("audit"), Some("verify")) => Some(Call::AuditVerify),
            (&Method::POST, "admin", Some("audit"), Some("query")) => Some(Call::AuditSearch(audit::Kind::Query)),
            (&Method::POST, "admin", Some("audit"), Some("export")) => Some(Call::AuditSearch(audit::Kind::Export)),
            (&Method::POST, "admin", Some("load"), None) => Some(Call::Load),
            (&Method::POST, "admin", Some("unload"), None) => Some(Call::Unload),
            (&Method::POST, "admin", Some("cluster"), Some("leave")) => Some(Call::Leave),
            (&Method::POST, "admin", Some("cluster"), Some("drain")) => Some(Call::Drain(true)),
            (&Method::POST, "admin", Some("cluster"), Some("undrain")) => Some(Call::Drain(false)),
            (&Method::POST, "admin", Some("cluster"), Some("go-alone")) => Some(Call::GoAlone),
            (&Method::GET, "admin", Some("upgrade"), None) => Some(Call::Upgrade),
            (&Method::POST, "admin", Some("upgrade"), Some("finalize")) => Some(Call::Finalize),
            (&Method::POST, "admin", Some("backup"), None) => Some(Call::Backup),
            (&Method::POST, "admin", Some("clock"), None) => Some(Call::Clock),
            _ => None,
        }
    }

    /// Largest body it takes, bytes.
    fn body_bytes_max(&self) -> usize {
        match self {
            Call::Load => BATCH_BYTES_MAX,
            _ => BODY_BYTES_MAX,
        }
    }

    /// Whether anybody on this host may make it.
    fn is_open(&self) -> bool {
        match self {
            Call::Metrics | Call::Live | Call::Ready | Call::Deep => true,
            Call::Status
            | Call::Mailboxes
            | Call::Mailbox(_)
            | Call::PutMailbox(_)
            | Call::Workflows
            | Call::PutWorkflow(_)
            | Call::Clients
            | Call::Client(_)
            | Call::PutClient(_)
            | Call::PatientHistory
            | Call::PatientShow
            | Call::PatientMark
            | Call::Events
            | Call::EventsParked
            | Call::EventsSwitch
            | Call::EventsRequeue
            | Call::EventsDiscard
            | Call::Trace(_)
            | Call::Verify
            | Call::AuditVerify
            | Call::AuditSearch(_)
            | Call::Load
            | Call::Unload
            | Call::Leave
            | Call::Drain(_)
            | Call::GoAlone
            | Call::Upgrade
            | Call::Finalize
            | Call::Backup
            | Call::Clock => false,
        }
    }
}

/// A value of a query, decoded.
pub(crate) fn query_value(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

impl Admin {
    /// Answers one request of the front door's kind. `channel` is which listener it came through.
    pub async fn handle(&self, channel: Channel, request: Request) -> Response {
        let Request { head, body, id, .. } = request;
        let call = Call::of(&head.method, head.uri.path());
        if call == Some(Call::Backup) && (channel == Channel::Socket || self.sandbox) {
            let streamed = self.backup(head.uri.query().unwrap_or(""), id).await;
            return streamed.unwrap_or_else(|refused| refused.answer().into_response());
        }
        let bytes_max = call.map_or(BODY_BYTES_MAX, |call| call.body_bytes_max());
        let answer = match body.collect(bytes_max).await {
            Ok(body) => {
                self.answer(
                    channel,
                    &head.method,
                    head.uri.path(),
                    head.uri.query().unwrap_or(""),
                    body,
                    id,
                )
                .await
            }
            Err(cause) => Refused::Malformed(cause.to_string()).answer(),
        };
        answer.into_response()
    }

    /// The same without HTTP around it.
    pub async fn answer(
        &self,
        channel: Channel,
        method: &Method,
        path: &str,
        query: &str,
        body: Bytes,
        id: RequestId,
    ) -> Answer {
        let done = match Call::of(method, path) {
            None => Err(Refused::NoSuchCall),
            Some(call) if channel == Channel::Loopback && !self.sandbox && !call.is_open() => Err(Refused::SocketOnly),
            Some(call) => self.dispatch(call, query, body, id).await,
        };
        done.unwrap_or_else(|refused| refused.answer())
    }

    async fn dispatch(&self, call: Call, query: &str, body: Bytes, id: RequestId) -> Result<Answer, Refused> {
        match call {
            Call::Metrics => {
                let body = self.metrics.render(&self.sample().await);
                Ok(Answer {
                    status: StatusCode::OK,
                    content_type: "text/plain; version=0.0.4",
                    body,
                })
            }
            Call::Live => Ok(self.live()),
            Call::Ready => Ok(self.ready()),
            Call::Deep => self.deep().await,
            Call::Status => Ok(Answer::ok(&self.status().await)),
            Call::Mailboxes => self.mailboxes(query),
            Call::Mailbox(mailbox) => self.mailbox(&mailbox),
            Call::PutMailbox(mailbox) => self.put_mailbox(&mailbox, &body, id).await,
            Call::Workflows => Ok(self.workflows()),
            Call::Clients => self.clients(query),
            Call::Client(client) => self.client(&client),
            Call::PutClient(client) => self.put_client(&client, &body, id).await,
            Call::PatientHistory => self.patient_history(&body, id).await,
            Call::PatientShow => self.patient_show(&body, id).await,
            Call::PatientMark => self.patient_mark(&body, id).await,
            Call::PutWorkflow(workflow) => self.put_workflow(&workflow, &body, id).await,
            Call::Events => Ok(self.events()),
            Call::EventsParked => self.parked_events(query),
            Call::EventsSwitch => self.switch_events(&body, id).await,
            Call::EventsRequeue => self.requeue_events(&body, id).await,
            Call::EventsDiscard => self.discard_events(&body, id).await,
            Call::Trace(what) => self.trace(&what, id).await,
            Call::Verify => {
                let deep = query_value(query, "deep").is_some_and(|v| v == "true");
                self.record(id, "admin.verify", "node", "200").await?;
                Ok(Answer::ok(&verify::verify(&self.store(), deep).await))
            }
            Call::AuditVerify => self.audit_verify(id).await,
            Call::AuditSearch(kind) => self.audit_search(kind, directory::parse(&body)?, id).await,
            Call::Load => self.load(query, body, id).await,
            Call::Unload => self.unload(&body, id).await,
            Call::Leave => self.leave(directory::parse(&body)?, id).await,
            Call::Drain(drained) => self.drain(drained, id).await,
            Call::GoAlone => self.go_alone(id).await,
            Call::Upgrade => Ok(Answer::ok(&self.upgrade())),
            Call::Finalize => self.finalize(id).await,
            // It is streamed, and was told apart before.
            Call::Backup => Err(Refused::NoSuchCall),
            Call::Clock => self.move_clock(&body, id).await,
        }
    }

    /// The parts that verification reads.
    fn store(&self) -> verify::Store {
        verify::Store {
            log: self.log.clone(),
            ledger: self.ledger.clone(),
            journal: self.journal.clone(),
            bodies: self.bodies.clone(),
            logged_heads: (self.logged_heads)(),
        }
    }

    fn live(&self) -> Answer {
        let alive = self.alive.load(Ordering::Relaxed);
        let status = if alive {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let threads: Vec<_> = self
            .threads
            .iter()
            .map(|(name, turns)| json!({ "thread": name, "turns": turns.load(Ordering::Relaxed) }))
            .collect();
        Answer::json(status, &json!({ "live": alive, "threads": threads }))
    }

    fn ready(&self) -> Answer {
        let (state, reasons) = self.facts().judge();
        let ready = state != status::State::CannotWrite;
        let status = if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        Answer::json(status, &json!({ "ready": ready, "state": state, "reasons": reasons }))
    }

    async fn deep(&self) -> Result<Answer, Refused> {
        let started = std::time::Instant::now();
        let ping = self.log.deep_ping().await?;
        let total_us = started.elapsed().as_micros() as u64;
        let (part, part_us) = status::slowest(&ping);
        Ok(Answer::ok(&json!({
            "ok": true,
            "total_us": total_us,
            "queue_us": ping.queue_us,
            "fsync_us": ping.fsync_us,
            "apply_us": ping.apply_us,
            "read_us": ping.read_us,
            "slowest": part,
            "slowest_us": part_us,
            "verdict": status::verdict(part, part_us),
        })))
    }

    async fn move_clock(&self, body: &[u8], id: RequestId) -> Result<Answer, Refused> {
        if !self.sandbox {
            return Err(Refused::SandboxOnly);
        }
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Move {
            advance_ms: i64,
        }
        let wanted: Move = directory::parse(body)?;
        self.clock.advance_ms(wanted.advance_ms);
        self.record(id, "admin.clock", "node", "200").await?;
        Ok(Answer::ok(&json!({ "now": self.clock.now().iso() })))
    }

    /// Puts what an operator did on the record, and gives the entry's sequence number; the answer waits for it.
    async fn record(&self, id: RequestId, action: &str, subject: &str, outcome: &str) -> Result<u64, Refused> {
        let entry = Entry {
            at: self.clock.now(),
            request: id,
            actor: "operator".to_owned(),
            action: action.to_owned(),
            subject: subject.to_owned(),
            outcome: outcome.to_owned(),
            ..Entry::default()
        };
        self.audit.append(entry).await.map_err(|cause| {
            tracing::error!(request = %id, %cause, "an operator's action could not be put on the audit record");
            Refused::Failed
        })
    }
}
