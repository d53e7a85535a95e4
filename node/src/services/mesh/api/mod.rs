//! What clients of MESH see: calls, headers, shapes, codes (MESH API specification 2.0.0).
//!
//! A request goes through: `routes` (which call), `access` (who, and what it may do), `input` (what it says), a handler
//! (one file per group of calls), the audit, and `views` or `errors` (what it is told). State is read through the
//! ledger and changed only by commands in the log.
//!
//! Must never know: sockets, rings, the journal, how the log commits. Invariants: whatever touches a mailbox is on the
//! record, durably, before its answer is sent; a write goes on to its record even when the client leaves; bad input is
//! never a 5xx; nothing a client sent is in an error or a log.

mod access;
mod continuation;
mod download;
mod errors;
mod gunzip;
mod inbox;
mod input;
mod lookup;
mod names;
mod openapi;
mod outbox;
mod rich;
mod routes;
mod sandbox;
mod tracking;
mod views;

pub use input::{chunk_number, chunk_range};
pub use openapi::document;

use crate::audit::{Audit, Entry};
use crate::auth::Caller;
use crate::auth::nhsmesh::SharedKeys;
use crate::auth::nonces::Nonces;
use crate::base::{Clock, RequestId};
use crate::bodies::Bodies;
use crate::http::{Request, RequestBody, Response, Route as RouteLabel};
use crate::ledger::Ledger;
use crate::log::{Log, ProposeError};
use crate::services::mesh::MessageId;
use crate::services::mesh::command::{Command, Outcome};
use ::http::{HeaderValue, StatusCode};
use access::{Denied, Gate};
use errors::{Failure, Refused};
use routes::{Does, Found, OpenCall, Parameters, Route};
use std::sync::Arc;
use views::Version;

/// Of a refused request's body at most this is still read, so that a client that sends first and reads afterwards
/// sees the refusal instead of a broken connection.
const DRAIN_BYTES_MAX: usize = 1024 * 1024;

/// What the API stands on; one a reactor thread, cheap to clone.
#[derive(Clone)]
pub struct Mesh {
    /// Proposals.
    pub log: Log,
    /// Reads.
    pub ledger: Ledger,
    /// Large bodies.
    pub bodies: Bodies,
    /// The record of every access.
    pub audit: Audit,
    /// What a token's time is held against.
    pub clock: Clock,
    /// The keys that sign tokens.
    pub keys: Arc<SharedKeys>,
    /// Tokens spent; one for all threads.
    pub nonces: Arc<Nonces>,
    /// Test-only calls exist and a client certificate is optional.
    pub sandbox: bool,
    /// A workflow that nobody registered may not be sent (`mesh.restrict_workflows`).
    pub restrict_workflows: bool,
}

/// A good answer and what the audit says it was about.
struct Answer {
    response: Response,
    subject: String,
}

impl Answer {
    fn new(response: Response, subject: impl Into<String>) -> Answer {
        Answer {
            response,
            subject: subject.into(),
        }
    }

    fn about(response: Response, message: &MessageId) -> Answer {
        Answer::new(response, message.as_str())
    }
}

/// What one authenticated request says, beside its body.
struct Asked {
    head: ::http::request::Parts,
    parameters: Parameters,
    version: Version,
    id: RequestId,
}

impl Mesh {
    /// Whether a path is one of MESH's: everything under `/messageexchange`, and the pings and test-only calls beside it.
    pub fn owns(path: &str) -> bool {
        let first = path
            .strip_prefix('/')
            .unwrap_or(path)
            .split('/')
            .next()
            .unwrap_or_default();
        match first {
            "messageexchange" | "admin" => true,
            "_ping" | "_status" | "health" | "healthcheck" => path[1..].trim_end_matches('/') == first,
            _ => false,
        }
    }

    /// Answers a request. Every answer carries the route's label in its extensions.
    pub async fn handle(&self, request: Request) -> Response {
        let found = routes::find(&request.head.method, request.head.uri.path(), self.sandbox);
        let (label, mut response) = match found {
            Found::Route(route, parameters) => (route.label, self.answer(route, parameters, request).await),
            Found::OtherMethods(allow) => {
                let failure = Failure {
                    allow: Some(allow),
                    ..Refused::MethodNotAllowed.into()
                };
                ("method_not_allowed", self.refuse(failure, request).await)
            }
            Found::Nothing => ("unknown_path", self.refuse(Refused::UnknownPath.into(), request).await),
        };
        response.extensions_mut().insert(RouteLabel(label));
        response
    }

    async fn answer(&self, route: &'static Route, parameters: Parameters, request: Request) -> Response {
        match route.does {
            Does::Open(OpenCall::Ping) => return self.ping(),
            Does::Open(OpenCall::DeepPing) => return self.deep_ping(request.id).await,
            Does::Read(_) | Does::LookUp(_) => return self.clone().serve(route, parameters, request).await,
            Does::Write(_) | Does::Test(_) => {}
        }
        // A client that leaves cancels its request's future, never the command that is already on its way, nor its record.
        let version = input::version(&request.head.headers).unwrap_or(Version::V1);
        let id = request.id;
        match tokio::task::spawn_local(self.clone().serve(route, parameters, request)).await {
            Ok(response) => response,
            // A bug in a handler, or the node is going down: what became of the command is not known.
            Err(_) => Failure::from(Refused::OutcomeUnknown).response(version, id),
        }
    }

    /// Proves the caller, calls the handler, records what was done, answers.
    async fn serve(self, route: &'static Route, parameters: Parameters, request: Request) -> Response {
        let Request {
            head,
            mut body,
            peer,
            id,
        } = request;
        let version = input::version(&head.headers);
        let shape = *version.as_ref().unwrap_or(&Version::V1);
        let behind = match self.current().await {
            // A change judged by an old state would be refused for what is no longer so.
            Ok(Some(_)) if matches!(route.does, Does::Write(_)) => {
                return self.refused(ProposeError::NoLeader.into(), shape, id, &mut body).await;
            }
            Ok(behind) => behind,
            Err(failure) => return self.refused(failure, shape, id, &mut body).await,
        };
        let asked = Asked {
            head,
            parameters,
            version: shape,
            id,
        };
        let checked = version.map(|_| ());
        let (caller, result) = self.call(route, &asked, &peer, checked, &mut body).await;
        let Some(caller) = caller else {
            let failure = result.err().unwrap_or_else(|| Refused::AuthorizationUnreadable.into());
            return self.refused(failure, shape, id, &mut body).await;
        };
        let (subject, outcome, mut response) = match result {
            Ok(answer) => (
                answer.subject,
                answer.response.status().as_str().to_owned(),
                answer.response,
            ),
            Err(failure) => {
                let subject = failure.message.clone().unwrap_or_else(|| asked.target());
                body.drain(DRAIN_BYTES_MAX).await;
                (subject, failure.outcome(), failure.response(shape, id))
            }
        };
        if let Err(failure) = self.record(route, &caller, subject, outcome, id).await {
            return failure.response(shape, id);
        }
        if let Some(age) = behind {
            response.headers_mut().insert(&names::STATE_AGE, age);
        }
        response
    }

    /// Proves the caller and calls the handler; the caller is `None` when it was not proved.
    async fn call(
        &self,
        route: &'static Route,
        asked: &Asked,
        peer: &crate::http::Peer,
        checked: Result<(), Failure>,
        body: &mut RequestBody,
    ) -> (Option<Caller>, Result<Answer, Failure>) {
        let headers = &asked.head.headers;
        let mailbox = asked.parameters.mailbox.as_str();
        match route.does {
            Does::Open(_) => (None, Err(Refused::UnknownPath.into())),
            Does::Read(call) => match self.gate().may_read(headers, peer, mailbox).await {
                Err(Denied { failure, caller }) => (caller, Err(failure)),
                Ok((caller, grant)) => {
                    let result = match checked {
                        Ok(()) => self.read(call, asked, &caller, grant).await,
                        Err(failure) => Err(failure),
                    };
                    (Some(caller.caller), result)
                }
            },
            Does::Write(call) => match self.gate().may_write(headers, peer, mailbox) {
                Err(Denied { failure, caller }) => (caller, Err(failure)),
                Ok((caller, grant)) => {
                    let result = match checked {
                        Ok(()) => self.write(call, asked, &caller, grant, body).await,
                        Err(failure) => Err(failure),
                    };
                    (Some(caller.caller), result)
                }
            },
            Does::LookUp(call) => match self.gate().may_look_up(headers, peer).await {
                Err(Denied { failure, caller }) => (caller, Err(failure)),
                Ok((caller, grant)) => {
                    let result = checked.and_then(|()| self.look_up(call, asked, &caller, grant));
                    (Some(caller), result)
                }
            },
            Does::Test(call) => match self.gate().may_test(peer) {
                Err(Denied { failure, caller }) => (caller, Err(failure)),
                Ok((caller, grant)) => {
                    let result = match checked {
                        Ok(()) => self.test(call, asked, &caller, grant, body).await,
                        Err(failure) => Err(failure),
                    };
                    (Some(caller), result)
                }
            },
        }
    }

    fn gate(&self) -> Gate<'_, Ledger> {
        let Mesh {
            ledger,
            clock,
            keys,
            nonces,
            sandbox,
            ..
        } = self;
        Gate {
            ledger,
            clock,
            keys,
            nonces,
            sandbox: *sandbox,
        }
    }

    /// Waits until this node's state includes everything acknowledged before. A node cut off from the majority answers
    /// reads from its own state: then the age of that state, in seconds, for a header.
    async fn current(&self) -> Result<Option<HeaderValue>, Failure> {
        Ok(self.log.current().await?.map(HeaderValue::from))
    }

    /// Proposes a command and gives its outcome; a refusal becomes a failure.
    async fn propose(&self, command: &Command, tail: &[u8]) -> Result<Outcome, Failure> {
        let applied = self.log.propose(command.encode(tail)).await?;
        match Outcome::decode(&applied.outcome) {
            Ok(Outcome::Refused(refusal)) => Err(refusal.into()),
            Ok(outcome @ (Outcome::Done | Outcome::Sent { .. } | Outcome::Swept { .. })) => Ok(outcome),
            // Applied by a newer release than this node runs: done, but what came of it cannot be read here.
            Err(_) => Err(Refused::OutcomeUnknown.into()),
        }
    }

    /// Puts what was done on the record and waits until it is durable.
    async fn record(
        &self,
        route: &Route,
        caller: &Caller,
        subject: String,
        outcome: String,
        id: RequestId,
    ) -> Result<(), Failure> {
        let entry = Entry {
            at: self.clock.now(),
            request: id,
            actor: caller.actor.clone(),
            organisation: caller
                .organisation
                .as_ref()
                .map(|ods| ods.as_str().to_owned())
                .unwrap_or_default(),
            action: format!("mesh.{}", route.label),
            subject,
            outcome,
            ..Entry::default()
        };
        self.audit
            .append(entry)
            .await
            .map(|_| ())
            .map_err(|_| Refused::CannotWrite.into())
    }

    async fn refuse(&self, failure: Failure, mut request: Request) -> Response {
        let version = input::version(&request.head.headers).unwrap_or(Version::V1);
        self.refused(failure, version, request.id, &mut request.body).await
    }

    /// Answers a refusal of somebody unknown: counted by its status, not on the record.
    async fn refused(&self, failure: Failure, version: Version, id: RequestId, body: &mut RequestBody) -> Response {
        body.drain(DRAIN_BYTES_MAX).await;
        failure.response(version, id)
    }

    fn ping(&self) -> Response {
        let pong = views::Pong {
            env: if self.sandbox { "sandbox" } else { "live" },
            build_label: &crate::base::release::this().name,
            status: "running",
            outcome: "Yes",
        };
        views::json(StatusCode::OK, Version::V1, &pong)
    }

    /// A ping that answers 200 only while this node's state is known to be current. It writes nothing, so that nobody can
    /// make the log grow without a token; the ping that does is the node's own.
    async fn deep_ping(&self, id: RequestId) -> Response {
        match self.log.linearizable().await {
            Ok(()) => self.ping(),
            Err(error) => Failure::from(error).response(Version::V1, id),
        }
    }
}

impl Asked {
    /// What the request is about, for the record of a refusal: a message where the path names one that can be one of
    /// ours, else the mailbox.
    fn target(&self) -> String {
        match MessageId::parse(&self.parameters.message) {
            Some(message) => message.as_str().to_owned(),
            None => self
                .parameters
                .mailbox
                .chars()
                .filter(char::is_ascii_graphic)
                .take(100)
                .collect(),
        }
    }

    /// The message of the path; refused as unknown when it cannot be one.
    fn message(&self) -> Result<MessageId, Failure> {
        MessageId::parse(&self.parameters.message).ok_or_else(|| Refused::MessageUnknown.into())
    }

    /// The chunk number of the path.
    fn chunk(&self) -> Result<u32, Failure> {
        input::chunk_number(&self.parameters.chunk).ok_or_else(|| {
            let place = errors::Place::Path;
            errors::Field {
                place,
                name: "chunk_number",
                msg: "must be a whole number".into(),
                kind: "int_parsing",
            }
            .into()
        })
    }
}
