//! Sockets: accept, TLS, one request after the other, and nobody may take his time.

use super::{Service, calls, held, log, operator};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// Largest request body, bytes.
pub(super) const BODY_BYTES_MAX: usize = 4 * 1024;
/// Largest request head, bytes.
const HEAD_BYTES_MAX: usize = 8 * 1024;
const HEADERS_MAX: usize = 32;
/// Longest life of a connection.
const CONNECTION_MAX: Duration = Duration::from_secs(60);

/// A request with its body in memory.
pub(super) type Whole = Request<Bytes>;
pub(super) type Answer = Response<Full<Bytes>>;

/// A refusal or an answer that is not JSON of its own.
pub(super) fn refusal(status: StatusCode, code: &str, sentence: &str) -> Answer {
    let mut answer = json(status, &serde_json::json!({"code": code, "sentence": sentence}));
    let seconds = match status {
        StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Some("10"),
        _ => None,
    };
    if let Some(seconds) = seconds {
        answer
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
    }
    answer
}

/// A JSON answer, never kept by anybody.
pub(super) fn json(status: StatusCode, value: &serde_json::Value) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(value.to_string())));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                // Out of descriptors, mostly: others must end first.
                log("warning", &format!("accept: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// The door for machines.
pub(super) async fn machines(service: Arc<Service>, listener: TcpListener) {
    loop {
        let (stream, peer) = accept(&listener).await;
        let Some(place) = service.limits.connection(peer.ip()) else {
            continue;
        };
        let service = service.clone();
        tokio::spawn(async move {
            let _place = place;
            let patience = Duration::from_millis(service.config.serve.patience_ms);
            let acceptor = TlsAcceptor::from(held(&service.tls).clone());
            // A failed handshake is a stranger or a wrong CA on the other side: nothing to answer.
            let Ok(Ok(stream)) = timeout(patience, acceptor.accept(stream)).await else {
                return;
            };
            let each = |request: Request<Incoming>| {
                let service = service.clone();
                async move { calls::answer(service, peer.ip(), request).await }
            };
            connection(stream, patience, each).await;
        });
    }
}

/// The door for the operator and nginx: loopback.
pub(super) async fn operator(service: Arc<Service>, listener: TcpListener) {
    loop {
        let (stream, _) = accept(&listener).await;
        let service = service.clone();
        tokio::spawn(async move {
            let patience = Duration::from_millis(service.config.serve.patience_ms);
            let each = |request: Request<Incoming>| {
                let service = service.clone();
                async move { operator::answer(service, request).await }
            };
            connection(stream, patience, each).await;
        });
    }
}

async fn connection<S, F, A>(stream: S, patience: Duration, each: F)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Answer>,
{
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(|request| {
                let answer = each(request);
                async move { Ok::<_, Infallible>(answer.await) }
            }),
        );
    // A connection that broke is its peer's matter.
    let _ = timeout(CONNECTION_MAX, served).await;
}

/// The request with its body, or the refusal of a body that is too large or too slow.
pub(super) async fn whole(request: Request<Incoming>, patience: Duration) -> Result<Whole, Answer> {
    let (head, body) = request.into_parts();
    match timeout(patience, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(body)) => Ok(Request::from_parts(head, body.to_bytes())),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let sentence = format!("The body is larger than {BODY_BYTES_MAX} bytes.");
            Err(refusal(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &sentence))
        }
        Ok(Err(_)) => Err(refusal(StatusCode::BAD_REQUEST, "bad_request", "The body broke off.")),
        Err(_) => Err(refusal(
            StatusCode::REQUEST_TIMEOUT,
            "too_slow",
            "The body did not come in time.",
        )),
    }
}
