//! What machines ask.
//!
//! | call | who | answers |
//! |---|---|---|
//! | `POST /v1/enrol {mac, serial?}` | anybody; heard while armed | 200 node document with the token, once; 403 |
//! | `POST /v1/stage {mac or certname, stage, release?, failed?}` | the machine, with or without its key | 204; 401, 403 |
//! | `POST /v1/check-in {certname, release}` | the machine with its key | 204; 401, 403 |
//! | `POST /v1/redeem {certname, role, datacentre, token}` | a Puppet CA on another host | 200; 403 |
//!
//! Refused in this order: too many requests (429), no such call (404), method (405), body (408, 413, 400), then the
//! call's own reasons.

use super::door::{Answer, json, refusal, whole};
use super::limits::Kind;
use super::{Service, log};
use crate::autosign::{self, AutosignError, Claims};
use crate::inventory::Machine;
use crate::machine::{BootSign, Issue, IssueRefusal, Report};
use crate::names::{HostName, Mac, ReleaseId, Stage, now, shown, shown_long};
use crate::secret::Secret;
use crate::store::StoreError;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One sentence for whatever keeps a machine from enrolling: a stranger learns nothing from it.
const NOT_ARMED: &str = "This machine is not armed here. An operator arms it with `vertebra-provisioning arm NODE`; \
                         ask again then.";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnrolBody {
    mac: Mac,
    serial: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StageBody {
    mac: Option<Mac>,
    certname: Option<HostName>,
    stage: Stage,
    release: Option<ReleaseId>,
    failed: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckInBody {
    certname: HostName,
    release: ReleaseId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RedeemBody {
    certname: HostName,
    role: String,
    datacentre: String,
    token: String,
}

enum Call {
    Enrol(EnrolBody),
    Stage(StageBody),
    CheckIn(CheckInBody),
    Redeem(RedeemBody),
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| {
        format!(
            "The body is not what this call takes: {}",
            shown_long(&error.to_string())
        )
    })
}

/// Judges and answers one request.
pub(super) async fn answer(service: Arc<Service>, peer: IpAddr, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let secret = matches!(path.as_str(), "/v1/enrol" | "/v1/redeem");
    let now = Instant::now();
    let allowed = service.limits.allows(peer, Kind::Request, now)
        && (!secret || service.limits.allows(peer, Kind::Enrolment, now));
    if !allowed {
        let sentence = "Too many requests from this address in a minute; wait ten seconds.";
        return refusal(StatusCode::TOO_MANY_REQUESTS, "too_many", sentence);
    }
    if !matches!(path.as_str(), "/v1/enrol" | "/v1/stage" | "/v1/check-in" | "/v1/redeem") {
        return refusal(
            StatusCode::NOT_FOUND,
            "no_such_call",
            "There is no such call; provisioning/README.md lists them.",
        );
    }
    if request.method() != Method::POST {
        let mut answer = refusal(StatusCode::METHOD_NOT_ALLOWED, "method", "Send it with POST.");
        answer
            .headers_mut()
            .insert(header::ALLOW, header::HeaderValue::from_static("POST"));
        return answer;
    }
    let patience = Duration::from_millis(service.config.serve.patience_ms);
    let request = match whole(request, patience).await {
        Ok(request) => request,
        Err(answer) => return answer,
    };
    let body = request.body();
    let call = match path.as_str() {
        "/v1/enrol" => parsed(body).map(Call::Enrol),
        "/v1/stage" => parsed(body).map(Call::Stage),
        "/v1/check-in" => parsed(body).map(Call::CheckIn),
        _ => parsed(body).map(Call::Redeem),
    };
    let call = match call {
        Ok(call) => call,
        Err(sentence) => return refusal(StatusCode::BAD_REQUEST, "bad_request", &sentence),
    };
    let key = bearer(request.headers());
    // State is files and a lock: not on the thread that serves everybody.
    let judged = tokio::task::spawn_blocking(move || match call {
        Call::Enrol(body) => enrol(&service, peer, body),
        Call::Stage(body) => stage(&service, peer, key.as_deref(), body),
        Call::CheckIn(body) => check_in(&service, key.as_deref(), body),
        Call::Redeem(body) => redeem(&service, peer, body),
    })
    .await;
    match judged {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            log("error", &format!("state: {error}"));
            unavailable()
        }
        Err(error) => {
            log("error", &format!("a request's task: {error}"));
            unavailable()
        }
    }
}

fn unavailable() -> Answer {
    let sentence = "The boot service cannot read or write its state; its log says why. Try again.";
    refusal(StatusCode::SERVICE_UNAVAILABLE, "state", sentence)
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    Some(value.strip_prefix("Bearer ")?.trim().to_owned())
}

fn no_content() -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

/// Whether a request comes from where the inventory says the machine is.
fn from_its_address(service: &Service, machine: &Machine, peer: IpAddr) -> bool {
    !service.config.enrolment.check_address || peer == IpAddr::V4(machine.address)
}

fn enrol(service: &Service, peer: IpAddr, body: EnrolBody) -> Result<Answer, StoreError> {
    let refused = |machine: &str, why: &str| {
        log(
            "warning",
            &format!("enrol: {machine} ({}) from {peer}: refused: {why}", body.mac),
        );
        refusal(StatusCode::FORBIDDEN, "not_armed", NOT_ARMED)
    };
    let inventory = service.inventory();
    let Some(machine) = inventory.by_mac(&body.mac) else {
        return Ok(refused("unknown machine", "its MAC is not in the inventory"));
    };
    let name = machine.certname.as_str();
    if !from_its_address(service, machine, peer) {
        let why = format!("the inventory gives it {}", machine.address);
        return Ok(refused(name, &why));
    }
    if machine.serial.is_some() && machine.serial.as_deref() != body.serial.as_deref().map(str::trim) {
        let why = format!("it shows serial `{}`", shown(body.serial.as_deref().unwrap_or("")));
        return Ok(refused(name, &why));
    }
    let (Ok(token), Ok(report_key)) = (Secret::random(), Secret::random()) else {
        log("error", "enrol: the system gave no random numbers");
        return Ok(unavailable());
    };
    let site = &inventory.sites[&machine.site];
    let seconds = service.config.enrolment.token_minutes * 60;
    let at = now();
    let locked = service.store.lock()?;
    let issued = locked.change(&machine.certname, |state| {
        let issue = Issue {
            token: token.sha256(),
            report_key: report_key.sha256(),
            to: peer.to_string(),
            seconds,
            role: &machine.role,
            datacentre: &machine.site,
        };
        state.issue(at, issue)
    })?;
    drop(locked);
    match issued {
        Ok(()) => {}
        Err(refusal @ (IssueRefusal::NotArmed | IssueRefusal::HandedOut { .. })) => {
            return Ok(refused(name, &refusal.to_string()));
        }
    }
    let releases = service.store.releases()?;
    let release = releases.wanted(machine).0.map(ReleaseId::as_str);
    log(
        "info",
        &format!(
            "enrol: {name} ({}) from {peer}: token handed out, good for {seconds} s",
            body.mac
        ),
    );
    let document = json!({
        "format": 1,
        "certname": name,
        "name": machine.name.as_str(),
        "role": machine.role.as_str(),
        "datacentre": machine.site.as_str(),
        "domain": site.domain.as_str(),
        "puppet_server": site.puppet_server.as_str(),
        "release": release,
        "token": token.reveal(),
        "token_expires": at + seconds,
        "report_key": report_key.reveal(),
    });
    Ok(json(StatusCode::OK, &document))
}

fn unknown() -> Answer {
    let sentence = "This machine is not known here, or its address is another one.";
    refusal(StatusCode::FORBIDDEN, "unknown_machine", sentence)
}

fn wrong_key() -> Answer {
    let sentence = "The machine's key is missing or not the one from its enrolment; arm the machine again.";
    refusal(StatusCode::UNAUTHORIZED, "wrong_key", sentence)
}

fn stage(service: &Service, peer: IpAddr, key: Option<&str>, body: StageBody) -> Result<Answer, StoreError> {
    let inventory = service.inventory();
    let machine = match (&body.certname, &body.mac) {
        (Some(certname), _) => inventory.machines.get(certname),
        (None, Some(mac)) => inventory.by_mac(mac),
        (None, None) => {
            return Ok(refusal(
                StatusCode::BAD_REQUEST,
                "bad_request",
                "Name the machine: `mac` or `certname`.",
            ));
        }
    };
    let Some(machine) = machine else { return Ok(unknown()) };
    let releases = service.store.releases()?;
    let locked = service.store.lock()?;
    let at = now();
    let answer = locked.change(&machine.certname, |state| {
        let proved = match key {
            Some(key) if state.proves(key) => true,
            Some(_) => return wrong_key(),
            None => false,
        };
        // Before the data disk is there, nothing but its address speaks for a machine.
        if !proved && (!from_its_address(service, machine, peer) || body.stage > Stage::Enrolled) {
            return unknown();
        }
        let plan = crate::boot_plan::plan(machine, state, &releases, &service.config.fallback, at);
        if body.stage == Stage::Initrd
            && body.failed.is_none()
            && plan.fallback.is_none()
            && let Some(wanted) = &plan.wanted
        {
            state.boot_began(at, wanted, BootSign::Report, service.config.fallback.settle_seconds);
        }
        state.reported(Report {
            stage: body.stage,
            at,
            release: body.release.clone(),
            failed: body.failed.as_deref().map(shown_long),
            proved,
        });
        no_content()
    })?;
    if let (StatusCode::NO_CONTENT, Some(failed)) = (answer.status(), &body.failed) {
        log(
            "warning",
            &format!("stage: {} at {}: {}", machine.certname, body.stage, shown_long(failed)),
        );
    }
    Ok(answer)
}

fn check_in(service: &Service, key: Option<&str>, body: CheckInBody) -> Result<Answer, StoreError> {
    let inventory = service.inventory();
    let Some(machine) = inventory.machines.get(&body.certname) else {
        return Ok(wrong_key());
    };
    let stored = service.store.releases()?.stored.contains_key(&body.release);
    let locked = service.store.lock()?;
    locked.change(&machine.certname, |state| {
        if !key.is_some_and(|key| state.proves(key)) {
            return wrong_key();
        }
        if !stored {
            let sentence = format!(
                "Release {} is not in the store; `vertebra-provisioning release list` shows those that are.",
                body.release
            );
            return refusal(StatusCode::FORBIDDEN, "unknown_release", &sentence);
        }
        state.healthy(now(), body.release.clone());
        no_content()
    })
}

fn redeem(service: &Service, peer: IpAddr, body: RedeemBody) -> Result<Answer, StoreError> {
    let claims = Claims {
        token: body.token,
        role: body.role,
        datacentre: body.datacentre,
    };
    match autosign::redeem(&service.store, &service.inventory(), &body.certname, &claims) {
        Ok(()) => {
            log("info", &format!("redeem: {} for {peer}: token redeemed", body.certname));
            Ok(json(StatusCode::OK, &json!({"certname": body.certname.as_str()})))
        }
        Err(AutosignError::Store(error)) => Err(error),
        Err(error) => {
            log(
                "warning",
                &format!("redeem: {} for {peer}: refused: {error}", body.certname),
            );
            let sentence =
                "The token is not good for this machine, role and data centre; the boot service's log says why.";
            Ok(refusal(StatusCode::FORBIDDEN, "token_refused", sentence))
        }
    }
}
