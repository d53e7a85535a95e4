//! What operators and nginx ask, on loopback: the status page, the same as JSON, and notes of fetched boot files.

use super::door::{Answer, json, refusal, whole};
use super::{Service, log};
use crate::machine::BootSign;
use crate::names::{Mac, now};
use crate::page;
use crate::store::StoreError;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

enum Call {
    Page,
    Status,
    Seen,
}

/// Judges and answers one request.
pub(super) async fn answer(service: Arc<Service>, request: Request<Incoming>) -> Answer {
    let call = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/") => Call::Page,
        (&Method::GET | &Method::HEAD, "/status.json") => Call::Status,
        (&Method::GET | &Method::HEAD, "/page.css") => return text(page::STYLE, "text/css"),
        (&Method::POST, "/v1/seen") => Call::Seen,
        _ => {
            return refusal(
                StatusCode::NOT_FOUND,
                "no_such_page",
                "There are `/` and `/status.json` here.",
            );
        }
    };
    if !matches!(call, Call::Seen) && !host_is_local(request.headers()) {
        let sentence = "Ask for this page by a loopback address or `localhost`, for example through `ssh -L`.";
        return refusal(StatusCode::MISDIRECTED_REQUEST, "wrong_host", sentence);
    }
    let patience = Duration::from_millis(service.config.serve.patience_ms);
    let request = match whole(request, patience).await {
        Ok(request) => request,
        Err(answer) => return answer,
    };
    let judged = tokio::task::spawn_blocking(move || match call {
        Call::Page => page_of(&service),
        Call::Status => status_of(&service),
        Call::Seen => seen(&service, request.headers()),
    })
    .await;
    let error = match judged {
        Ok(Ok(answer)) => return answer,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    log("error", &format!("operator: {error}"));
    refusal(
        StatusCode::SERVICE_UNAVAILABLE,
        "state",
        &format!("State cannot be read or written: {error}"),
    )
}

/// A page from elsewhere that a browser was led to by a name must not read this one.
fn host_is_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn page_of(service: &Service) -> Result<Answer, StoreError> {
    let rows = page::rows(&service.config, &service.store, &service.inventory(), now())?;
    let html = page::html(&rows, now());
    Ok(text(&html, "text/html; charset=utf-8"))
}

/// An answer for a browser, which may load the style sheet and run nothing.
fn text(body: &str, kind: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body.to_owned())));
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn status_of(service: &Service) -> Result<Answer, StoreError> {
    let rows = page::rows(&service.config, &service.store, &service.inventory(), now())?;
    let rows = serde_json::to_value(&rows).expect("rows have a JSON form");
    Ok(json(
        StatusCode::OK,
        &serde_json::json!({"format": 1, "at": now(), "machines": rows}),
    ))
}

/// nginx tells that a boot file was fetched. It counts when the machine itself fetched it.
fn seen(service: &Service, headers: &HeaderMap) -> Result<Answer, StoreError> {
    let named = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let stem = named("x-boot-path")
        .strip_prefix("/boot/")
        .and_then(|file| file.split('.').next());
    let mac = stem.and_then(|stem| stem.parse::<Mac>().ok());
    let client = named("x-boot-client").parse::<IpAddr>().ok();
    let inventory = service.inventory();
    let (Some(machine), Some(client)) = (mac.and_then(|mac| inventory.by_mac(&mac)), client) else {
        return Ok(json(StatusCode::OK, &serde_json::json!({"counted": false})));
    };
    if service.config.enrolment.check_address && client != IpAddr::V4(machine.address) {
        log(
            "warning",
            &format!(
                "boot: {} was fetched by {client}, not by the machine itself",
                machine.certname
            ),
        );
        return Ok(json(StatusCode::OK, &serde_json::json!({"counted": false})));
    }
    let releases = service.store.releases()?;
    let locked = service.store.lock()?;
    let rule = &service.config.fallback;
    let at = now();
    let counted = locked.change(&machine.certname, |state| {
        let plan = crate::boot_plan::plan(machine, state, &releases, rule, at);
        match (&plan.wanted, &plan.fallback) {
            (Some(wanted), None) => state
                .boot_began(at, wanted, BootSign::Fetch, rule.settle_seconds)
                .then(|| wanted.clone()),
            _ => None,
        }
    })?;
    if let Some(release) = &counted {
        log(
            "info",
            &format!("boot: {} fetched the boot file of {release}", machine.certname),
        );
    }
    Ok(json(StatusCode::OK, &serde_json::json!({"counted": counted.is_some()})))
}
