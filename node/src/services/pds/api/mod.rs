//! What clients of PDS see: calls, headers, shapes, codes (PDS FHIR API specification).
//!
//! A request goes through: `routes` (which call), admission (token, client, rate), `access` (may this kind of caller), `asked`
//! (headers), a handler, the audit, and `answer` or `failure` (what it is told). State is read through the ledger and the
//! log, and changed only by commands in the log.
//!
//! Must never know: sockets, rings, the journal, how the log commits. Invariants: every look at a record and every refusal
//! of a known caller is on the audit, durably, before its answer is sent; what takes longer than [`Pds::timeout`] shows
//! nothing; a write goes on to its record even when the client leaves; bad input is never a 5xx; nothing of a patient is
//! in an error or a log, and nothing of a restricted patient's place in any answer.

mod access;
mod answer;
mod asked;
mod failure;
mod openapi;
mod patient;
mod related;
mod routes;
mod search;

pub use access::SCOPE;
pub use openapi::document;

use crate::audit::{Audit, Entry};
use crate::auth::rate::Rates;
use crate::auth::token::Tokens;
use crate::base::{Clock, NhsNumber, RequestId};
use crate::http::{Request, RequestBody, Response, Route as RouteLabel};
use crate::log::ProposeError;
use crate::services::identity::access::{Denied, Gate};
use crate::services::pds::outcome::{Code, Issue};
use crate::services::pds::records::Records;
use crate::services::pds::today;
use ::http::request::Parts;
use ::http::{HeaderName, HeaderValue};
use access::Access;
use asked::{Asked, Headers, Mirrored};
use failure::Failure;
use routes::{BASE, Call, Found, Route};
use std::sync::Arc;
use std::time::Duration;

/// Largest body of a request, bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Of a refused request's body at most this is still read, so that a client that sends first and reads afterwards sees
/// the refusal instead of a broken connection.
const DRAIN_BYTES_MAX: usize = 1024 * 1024;

/// How old a node's state is, in seconds, when it cannot be known to be current.
static STATE_AGE: HeaderName = HeaderName::from_static("vertebra-state-age");

/// What the answer to a read waits for. A node knows [`ReadEntries::Durable`] alone; the others are the sandbox's, so that
/// the bench can tell what durability costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadEntries {
    /// Its audit entry is durable.
    #[default]
    Durable,
    /// Its audit entry is on its way.
    Behind,
    /// Nothing: there is no entry.
    Absent,
}

/// What the API stands on; one a reactor thread, cheap to clone.
#[derive(Clone)]
pub struct Pds {
    /// What it shows and changes.
    pub records: Records,
    /// The record of every access.
    pub audit: Audit,
    /// What a token's time is held against.
    pub clock: Clock,
    /// The keys of access tokens.
    pub tokens: Arc<Tokens>,
    /// How often clients may ask; one for all threads and services.
    pub rates: Arc<Rates>,
    /// Where clients reach the service: `https://node.example/personal-demographics/FHIR/R4`; for links in bundles.
    pub base_url: Arc<str>,
    /// The first and the last nine digits that new NHS numbers are drawn from.
    pub numbers: (u32, u32),
    /// How long a read may look for its answer, and an audit entry may take until it is durable.
    pub timeout: Duration,
    /// What the answer to a read waits for.
    pub read_entries: ReadEntries,
}

/// A good answer and what the audit says it was about.
struct Answer {
    response: Response,
    subject: String,
    /// An earlier request's answer, given again.
    repeated: bool,
}

impl Answer {
    fn new(response: Response, subject: String) -> Answer {
        Answer {
            response,
            subject,
            repeated: false,
        }
    }

    fn about(response: Response, number: NhsNumber) -> Answer {
        Answer::new(response, number.to_string())
    }
}

impl Pds {
    /// Whether a path is this service's.
    pub fn owns(path: &str) -> bool {
        path.strip_prefix("/personal-demographics")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The links' base for a node that clients reach at `origin`.
    pub fn base_url(origin: &str) -> Arc<str> {
        format!("{origin}{BASE}").into()
    }

    /// Answers a request. Every answer carries the route's label in its extensions and the client's identifiers.
    pub async fn handle(&self, request: Request) -> Response {
        let mirrored = Mirrored::of(&request.head.headers);
        let Request {
            head,
            mut body,
            peer,
            id,
        } = request;
        let (label, mut response) = match routes::find(&head.method, head.uri.path()) {
            Found::Route(route, number) => {
                let number = number.to_owned();
                let request = Request { head, body, peer, id };
                (route.label, self.answer(route, number, request).await)
            }
            Found::OtherMethods(allow) => {
                body.drain(DRAIN_BYTES_MAX).await;
                ("method_not_allowed", Failure::other_methods(allow).response())
            }
            Found::Nothing => {
                body.drain(DRAIN_BYTES_MAX).await;
                let what = "there is nothing at this path; see the specification of PDS for what there is";
                (
                    "unknown_path",
                    Failure::from(Issue::new(Code::UnknownPath, what)).response(),
                )
            }
        };
        mirrored.put(&mut response);
        response.extensions_mut().insert(RouteLabel(label));
        response
    }

    async fn answer(&self, route: &'static Route, number: String, request: Request) -> Response {
        if !route.writes {
            return self.serve(route, number, request).await;
        }
        // A client that leaves cancels its request's future, never the command that is already on its way, nor its record.
        let this = self.clone();
        let serving = tokio::task::spawn_local(async move { this.serve(route, number, request).await });
        match serving.await {
            Ok(response) => response,
            // A bug in a handler, or the node is going down: what became of the command is not known.
            Err(_) => Failure::from(ProposeError::Unknown).response(),
        }
    }

    /// Proves the caller, calls the handler, records what was done, answers.
    async fn serve(&self, route: &'static Route, number: String, request: Request) -> Response {
        let Request {
            head,
            mut body,
            peer,
            id,
        } = request;
        let behind = match self.current_state().await {
            // A change judged by an old state would be refused for what is no longer so.
            Ok(Some(_)) if route.writes => return refused(ProposeError::NoLeader.into(), &mut body).await,
            Ok(behind) => behind,
            Err(failure) => return refused(failure, &mut body).await,
        };
        let headers = Headers::read(&head.headers);
        let gate = Gate {
            ledger: &self.records.ledger,
            tokens: &self.tokens,
            rates: &self.rates,
        };
        let mut access = match gate.admit(&head.headers, &peer, self.clock.now()) {
            Ok(admitted) => Access::of(admitted),
            Err(denied) => {
                return self
                    .denied(route, denied, noted(&number, &headers), id, &mut body)
                    .await;
            }
        };
        let client_request = match &headers {
            Ok(headers) => {
                access.note(headers);
                headers.request.clone()
            }
            Err(_) => String::new(),
        };
        let calling = self.call(route, number.clone(), &access, (head, headers), body);
        let (result, body) = if route.writes {
            calling.await
        } else {
            let in_time = tokio::time::timeout(self.timeout, calling).await;
            in_time.unwrap_or_else(|_| (Err(Failure::late()), None))
        };
        let (subject, outcome, mut response) = match result {
            Ok(answer) => {
                let repeated = if answer.repeated { " repeated" } else { "" };
                let outcome = format!("{}{repeated}", answer.response.status().as_str());
                (answer.subject, outcome, answer.response)
            }
            Err(failure) => {
                if let Some(mut body) = body {
                    body.drain(DRAIN_BYTES_MAX).await;
                }
                (named(&number), failure.outcome(), failure.response())
            }
        };
        let entry = Entry {
            subject,
            outcome,
            client_request,
            ..access.entry()
        };
        if let Err(failure) = self.record(route, entry, id).await {
            return failure.response();
        }
        if let Some(age) = behind {
            response.headers_mut().insert(&STATE_AGE, age);
        }
        response
    }

    /// Checks leave and headers, and calls the handler. The body comes back when no handler took it.
    async fn call(
        &self,
        route: &'static Route,
        id: String,
        access: &Access,
        (head, headers): (Parts, Result<Headers, Failure>),
        body: RequestBody,
    ) -> (Result<Answer, Failure>, Option<RequestBody>) {
        let checked = headers.and_then(|headers| {
            let grant = access.grant(route)?;
            access.fits(&headers)?;
            Ok((headers, grant))
        });
        let (headers, grant) = match checked {
            Ok(checked) => checked,
            Err(failure) => return (Err(failure), Some(body)),
        };
        let asked = Asked { head, headers, id };
        let result = match route.call {
            Call::Search => self.search(&asked, access).await,
            Call::Read => self.read(&asked, grant).await,
            Call::Related => self.related(&asked, grant).await,
            Call::ReadCoverage => self.read_coverage(&asked, grant).await,
            Call::Create => return (self.create(&asked, access, body).await, None),
            Call::Update => return (self.update(&asked, access, grant, body).await, None),
            Call::PutCoverage => return (self.put_coverage(&asked, access, grant, body).await, None),
        };
        (result, Some(body))
    }

    /// Waits until this node's state includes everything acknowledged before. A node cut off from the majority answers
    /// reads from its own state: then the age of that state, in seconds, for a header.
    async fn current_state(&self) -> Result<Option<HeaderValue>, Failure> {
        Ok(self.records.log.current().await?.map(HeaderValue::from))
    }

    fn today(&self) -> jiff::civil::Date {
        today(self.clock.now())
    }

    /// Answers a caller who was not admitted; a known one is put on the record, with what the request says of itself.
    async fn denied(
        &self,
        route: &Route,
        denied: Denied,
        noted: Entry,
        id: RequestId,
        body: &mut RequestBody,
    ) -> Response {
        let client = denied
            .caller
            .as_ref()
            .map_or("unproved", |caller| caller.client.as_str());
        tracing::info!(request = %id, rule = denied.refused.code(), client, "a request was not admitted");
        let failure = Failure::from(denied.refused);
        if let Some(caller) = &denied.caller {
            let entry = Entry {
                subject: noted.subject,
                client_request: noted.client_request,
                on_behalf: noted.on_behalf,
                outcome: failure.outcome(),
                ..access::entry(caller)
            };
            if let Err(failure) = self.record(route, entry, id).await {
                return failure.response();
            }
        }
        refused(failure, body).await
    }

    /// Puts what was done on the record and waits until it is durable.
    ///
    /// # Errors
    /// SERVICE_UNAVAILABLE when it is not; when it is not in time, that for a write, UNABLE_TO_CALL_SERVICE for a read.
    async fn record(&self, route: &Route, entry: Entry, id: RequestId) -> Result<(), Failure> {
        let entry = Entry {
            at: self.clock.now(),
            request: id,
            action: route.action.to_owned(),
            ..entry
        };
        let audit = self.audit.clone();
        let appended = async move { audit.append(entry).await };
        match self.read_entries {
            ReadEntries::Behind if !route.writes => {
                tokio::task::spawn_local(appended);
                return Ok(());
            }
            ReadEntries::Absent if !route.writes => return Ok(()),
            ReadEntries::Durable | ReadEntries::Behind | ReadEntries::Absent => {}
        }
        match tokio::time::timeout(self.timeout, appended).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => {
                let what =
                    "the access could not be put on the record, so it is not answered; send the request again later";
                Err(Issue::new(Code::ServiceUnavailable, what).into())
            }
            Err(_) if route.writes => Err(ProposeError::Unknown.into()),
            Err(_) => Err(Failure::late()),
        }
    }
}

/// The number that a path names. One that is none is a client's text, which is not kept.
fn named(number: &str) -> String {
    NhsNumber::parse(number)
        .map(|number| number.to_string())
        .unwrap_or_default()
}

/// What a request says of itself, for the record of one that was not admitted.
fn noted(number: &str, headers: &Result<Headers, Failure>) -> Entry {
    let mut entry = Entry {
        subject: named(number),
        ..Entry::default()
    };
    if let Ok(headers) = headers {
        entry.client_request.clone_from(&headers.request);
        entry.on_behalf = headers.on_behalf.as_ref().map(ToString::to_string).unwrap_or_default();
    }
    entry
}

/// Answers a refusal.
async fn refused(failure: Failure, body: &mut RequestBody) -> Response {
    body.drain(DRAIN_BYTES_MAX).await;
    failure.response()
}
