//! What clients of `/oauth2` see: `POST /oauth2/token`, the grant `client_credentials` with a client assertion
//! (RFC 6749, RFC 7523; identity-service specification).
//!
//! A request goes through: the form, the assertion's bytes, the registry, the signature, the claims, the client's rate, the
//! log (which uses the assertion up), the audit, the answer. The first thing that is wrong is told.
//!
//! Must never know: sockets, rings, the journal, how the log commits. Invariants: one assertion gives at most one token,
//! whichever nodes it is sent to; what became of a proved client's request is on the record before its answer; an
//! assertion, a token or a key is in no error and no log.

mod assertion;
mod errors;
mod openapi;

pub use openapi::document;

use super::command::{Client, Command, Mode, Outcome, fingerprint};
use super::state;
use crate::audit::{Audit, Entry};
use crate::auth::rate::Rates;
use crate::auth::token::{Signer, TOKEN_S, Tokens};
use crate::base::{Clock, RequestId};
use crate::http::{BodyError, Request, RequestBody, Response, Route as RouteLabel};
use crate::ledger::Ledger;
use crate::log::Log;
use ::http::request::Parts;
use ::http::{HeaderMap, Method, StatusCode, header};
use assertion::Assertion;
use errors::{Refused, json_response};
use std::sync::Arc;

/// Largest form, bytes: an assertion of 8 KiB and room.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// And of a larger one at most this is read.
const DRAIN_BYTES_MAX: usize = 1024 * 1024;
/// The one kind of client assertion.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// What the audit calls it.
const ACTION: &str = "identity.token";

/// What the API stands on; one a reactor thread, cheap to clone.
#[derive(Clone)]
pub struct Identity {
    /// Proposals.
    pub log: Log,
    /// Reads.
    pub ledger: Ledger,
    /// The record of every access.
    pub audit: Audit,
    /// What an assertion's end is held against.
    pub clock: Clock,
    /// The keys of access tokens.
    pub tokens: Arc<Tokens>,
    /// How often clients may ask; one for all threads and services.
    pub rates: Arc<Rates>,
    /// What `aud` of an assertion may be.
    pub token_urls: Arc<[String]>,
    /// `aud` may also be the URL that the client used.
    pub sandbox: bool,
}

/// The parameters of a token request.
#[derive(Default)]
struct Form {
    grant_type: Option<String>,
    client_assertion_type: Option<String>,
    client_assertion: Option<String>,
    scope: Option<String>,
}

/// A request that its client signed.
struct Proved {
    client: Client,
    jti: String,
    expires: crate::base::Timestamp,
    scopes: Vec<String>,
}

/// A refusal, and the client when that was proved.
struct Denied {
    refused: Refused,
    client: Option<Client>,
}

impl From<Refused> for Denied {
    fn from(refused: Refused) -> Denied {
        Denied { refused, client: None }
    }
}

impl Identity {
    /// Whether a path is this service's: everything under `/oauth2`.
    pub fn owns(path: &str) -> bool {
        path.strip_prefix("/oauth2")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Answers a request. Every answer carries the route's label in its extensions.
    pub async fn handle(&self, request: Request) -> Response {
        let id = request.id;
        let (label, mut response) = match (&request.head.method, request.head.uri.path()) {
            (&Method::POST, "/oauth2/token") => ("token", self.token(request).await),
            (_, path) => {
                let (label, refused) = match path {
                    "/oauth2/token" => ("method_not_allowed", Refused::MethodNotAllowed),
                    _ => ("unknown_path", Refused::UnknownPath),
                };
                // Whatever the body is, the path is what is wrong.
                let _ = read(request.body).await;
                (label, refused.response(id))
            }
        };
        response.extensions_mut().insert(RouteLabel(label));
        response
    }

    /// A client that leaves cancels its request's future, never the command that is already on its way, nor its record.
    async fn token(&self, request: Request) -> Response {
        let id = request.id;
        let this = self.clone();
        match tokio::task::spawn_local(this.serve(request)).await {
            Ok(response) => response,
            // A bug in the handler, or the node is going down: what became of the command is not known.
            Err(_) => Refused::OutcomeUnknown.response(id),
        }
    }

    async fn serve(self, request: Request) -> Response {
        let Request { head, body, id, .. } = request;
        match self.issue(&head, body).await {
            Ok((client, token)) => {
                let issued_at = self.clock.now().ms().to_string();
                if let Err(refused) = self.record(&client, "200", id).await {
                    return refused.response(id);
                }
                let answer = serde_json::json!({
                    "access_token": token,
                    "expires_in": TOKEN_S.to_string(),
                    "token_type": "Bearer",
                    "issued_at": issued_at,
                });
                json_response(StatusCode::OK, &answer)
            }
            Err(Denied { refused, client }) => {
                tracing::info!(
                    request = %id,
                    rule = refused.code(),
                    client = client.as_ref().map_or("unproved", |client| client.id.as_str()),
                    "a request for an access token was refused"
                );
                let outcome = format!("{} {}", refused.terms().status.as_str(), refused.code());
                let recorded = match client {
                    Some(client) => self.record(&client, &outcome, id).await,
                    None => Ok(()),
                };
                recorded.err().unwrap_or(refused).response(id)
            }
        }
    }

    async fn issue(&self, head: &Parts, body: RequestBody) -> Result<(Client, String), Denied> {
        let form = Form::read(&head.headers, body).await?;
        let assertion = form.assertion()?;
        let assertion = Assertion::read(assertion)?;
        let signer = self.tokens.signer().ok_or(Refused::NoSigningKey)?;
        self.log.linearizable().await.map_err(Refused::from)?;
        let client = assertion.client.as_ref().and_then(|id| state::client(&self.ledger, id));
        let client = client.ok_or(Refused::IssSubInvalid)?;
        assertion.proved_by(&client)?;
        match self.grant(&assertion, &form, &client, head) {
            Ok(proved) => self.spend(proved, &signer).await,
            Err(refused) => Err(Denied {
                refused,
                client: Some(client),
            }),
        }
    }

    /// What a proved client is given. Refusals, in order: those of the claims, `ClientDisabled`, `ModeNotAllowed`,
    /// `ScopeInvalid`, `TooOften`.
    fn grant(&self, assertion: &Assertion<'_>, form: &Form, client: &Client, head: &Parts) -> Result<Proved, Refused> {
        let proof = assertion.holds(&self.audiences(head), self.clock.now())?;
        if !client.active {
            return Err(Refused::ClientDisabled);
        }
        if !client.allows(Mode::Application) {
            return Err(Refused::ModeNotAllowed);
        }
        let scopes = form.scopes(client)?;
        self.rates
            .take(client.id.as_str(), client.requests_per_second)
            .map_err(|retry_after_s| Refused::TooOften { retry_after_s })?;
        Ok(Proved {
            client: client.clone(),
            jti: proof.jti,
            expires: proof.expires,
            scopes,
        })
    }

    /// Uses the assertion up in the log, and signs.
    async fn spend(&self, proved: Proved, signer: &Signer) -> Result<(Client, String), Denied> {
        let Proved {
            client,
            jti,
            expires,
            scopes,
        } = proved;
        let command = Command::IssueToken {
            client: client.id.clone(),
            fingerprint: fingerprint(&client.id, &jti),
            expires,
        };
        let refused = match self.log.propose(command.encode()).await {
            Ok(applied) => match Outcome::decode(&applied.outcome) {
                Ok(Outcome::Issued) => {
                    let token = signer.issue(client.id.as_str(), &scopes, rand::random(), self.clock.now());
                    return Ok((client, token));
                }
                Ok(Outcome::Refused(refusal)) => refusal.into(),
                // Applied by a newer release than this node runs: done, but what came of it cannot be read here.
                Ok(Outcome::Done) | Err(_) => Refused::OutcomeUnknown,
            },
            Err(error) => error.into(),
        };
        Err(Denied {
            refused,
            client: Some(client),
        })
    }

    /// What this endpoint is called: as configured, and in the sandbox as the client called it.
    fn audiences(&self, head: &Parts) -> Vec<String> {
        let mut audiences = self.token_urls.to_vec();
        let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = head.uri.authority().map(|authority| authority.as_str()).or(host);
        if let Some(host) = host.filter(|_| self.sandbox) {
            audiences.push(format!("https://{host}/oauth2/token"));
        }
        audiences
    }

    async fn record(&self, client: &Client, outcome: &str, id: RequestId) -> Result<(), Refused> {
        let entry = Entry {
            at: self.clock.now(),
            request: id,
            actor: client.id.to_string(),
            organisation: client.ods.to_string(),
            action: ACTION.to_owned(),
            subject: client.id.to_string(),
            outcome: outcome.to_owned(),
            ..Entry::default()
        };
        self.audit
            .append(entry)
            .await
            .map(|_| ())
            .map_err(|_| Refused::NotTaken)
    }
}

/// A body of at most [`BODY_BYTES_MAX`]; of a larger one somewhat more is read, so that a client that sends first and reads
/// afterwards sees the refusal instead of a broken connection. Refusals: `BodyTooLarge`, `BodyTimedOut`.
async fn read(mut body: RequestBody) -> Result<Vec<u8>, Refused> {
    let mut kept = Vec::new();
    let mut read_bytes = 0;
    while read_bytes < DRAIN_BYTES_MAX {
        match body.next().await {
            Some(Ok(piece)) => {
                read_bytes += piece.len();
                if read_bytes <= BODY_BYTES_MAX {
                    kept.extend_from_slice(&piece);
                }
            }
            Some(Err(BodyError::TooLarge(_))) => return Err(Refused::BodyTooLarge),
            Some(Err(BodyError::TimedOut | BodyError::Closed)) => return Err(Refused::BodyTimedOut),
            None if read_bytes <= BODY_BYTES_MAX => return Ok(kept),
            None => return Err(Refused::BodyTooLarge),
        }
    }
    Err(Refused::BodyTooLarge)
}

impl Form {
    /// Reads. Refusals, in order: `NotAForm`, `BodyTooLarge`, `BodyTimedOut`, `ParameterTwice`.
    async fn read(headers: &HeaderMap, body: RequestBody) -> Result<Form, Refused> {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = content_type.and_then(|value| value.split(';').next()).map(str::trim);
        let body = read(body).await?;
        if !media_type.is_some_and(|media| media.eq_ignore_ascii_case("application/x-www-form-urlencoded")) {
            return Err(Refused::NotAForm);
        }
        let mut form = Form::default();
        for (name, value) in form_urlencoded::parse(&body) {
            let place = match name.as_ref() {
                "grant_type" => &mut form.grant_type,
                "client_assertion_type" => &mut form.client_assertion_type,
                "client_assertion" => &mut form.client_assertion,
                "scope" => &mut form.scope,
                _ => continue,
            };
            if place.replace(value.into_owned()).is_some() {
                return Err(Refused::ParameterTwice);
            }
        }
        Ok(form)
    }

    /// The assertion. Refusals, in order: `GrantTypeMissing`, `GrantTypeNotOffered`, `GrantTypeInvalid`,
    /// `AssertionTypeInvalid`, `AssertionMissing`.
    fn assertion(&self) -> Result<&str, Refused> {
        match self.grant_type.as_deref() {
            None | Some("") => return Err(Refused::GrantTypeMissing),
            Some("client_credentials") => {}
            Some("authorization_code" | "refresh_token" | "urn:ietf:params:oauth:grant-type:token-exchange") => {
                return Err(Refused::GrantTypeNotOffered);
            }
            Some(_) => return Err(Refused::GrantTypeInvalid),
        }
        if self.client_assertion_type.as_deref() != Some(ASSERTION_TYPE) {
            return Err(Refused::AssertionTypeInvalid);
        }
        let assertion = self.client_assertion.as_deref().filter(|text| !text.is_empty());
        assertion.ok_or(Refused::AssertionMissing)
    }

    /// What the token is for: what was asked for, all of it allowed; or, when nothing was, all that is.
    fn scopes(&self, client: &Client) -> Result<Vec<String>, Refused> {
        let asked: Vec<String> = self
            .scope
            .as_deref()
            .unwrap_or_default()
            .split_ascii_whitespace()
            .map(str::to_owned)
            .collect();
        if asked.iter().any(|scope| !client.scopes.contains(scope)) {
            return Err(Refused::ScopeInvalid);
        }
        Ok(if asked.is_empty() { client.scopes.clone() } else { asked })
    }
}
