//! One client: handshake, then HTTP until it ends, is ended, or is asked to end.

use super::body::{Account, BodyFate, RequestBody, WireBody};
use super::certificate::ClientCertificate;
use super::door::{Answered, Door, RequestPermit, method_name};
use super::figures;
use super::problem::{Problem, problem, too_slow_bytes};
use super::pulse::{Pulse, Verdict, Watched};
use super::server::Registry;
use super::tls::TlsShared;
use super::{BodyError, Handler, Peer, Request, Response, ResponseBody, Route};
use crate::base::Timestamp;
use crate::ring::socket::{Aborter, Socket};
use ::http::{HeaderValue, Method, StatusCode, Version, header};
use hyper::body::{Body, Incoming};
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::CertificateDer;
use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

/// Buffer of hyper for what it reads and writes on an HTTP/1.1 connection; it starts at 8 KiB and grows on demand.
const HTTP1_BUFFER_BYTES: usize = 64 * 1024;
/// HTTP/2 flow control: bytes a client may send ahead on one stream, and on all of a connection.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 512 * 1024;
/// Bytes that one HTTP/2 stream buffers towards the client.
const HTTP2_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// How long a connection between two requests stays open at shutdown: a request that is on its way is answered, and told
/// that it was the last.
const LINGER_MS: u64 = 500;
/// How long a connection that ends may take to deliver its last bytes.
const FAREWELL_MS_MAX: u64 = 1_000;

/// What all connections of one reactor and listener share.
pub(super) struct Shared {
    pub(super) door: Arc<Door>,
    pub(super) tls: Option<Arc<TlsShared>>,
    pub(super) handler: Handler,
    pub(super) registry: Rc<Registry>,
}

/// What one connection's requests share.
struct Client {
    shared: Rc<Shared>,
    peer: Peer,
    pulse: Rc<Pulse>,
    multiplexed: bool,
    /// The client's chain, to judge it again after a reload.
    chain: Vec<CertificateDer<'static>>,
    /// The generation that last judged it.
    judged_by: Cell<u64>,
    refused: Cell<bool>,
}

/// Carries a connection to its end.
pub(super) async fn carry(shared: Rc<Shared>, socket: Socket, address: SocketAddr) {
    let aborter = socket.aborter();
    let Some(tls) = shared.tls.clone() else {
        let peer = Peer {
            address,
            certificate: None,
        };
        let client = Client::new(shared, peer, Vec::new(), 0, false);
        return Box::pin(http1(client, socket, aborter)).await;
    };
    let limits = shared.door.limits();
    let handshake = Box::pin(async {
        let generation = tls.generation();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&generation.config));
        let stream = acceptor.accept(socket).await?;
        Ok::<_, std::io::Error>((stream, generation.number))
    });
    let within = Duration::from_millis(limits.handshake_ms_max);
    let shaken = tokio::time::timeout(within, handshake).await;
    let (stream, generation) = match shaken.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
        Ok(done) => done,
        Err(error) => {
            tracing::debug!(peer = %address.ip(), %error, "TLS handshake failed");
            figures::count(&shared.door.figures().handshakes_failed);
            return;
        }
    };
    let session = stream.get_ref().1;
    if session.handshake_kind() == Some(rustls::HandshakeKind::Resumed) {
        figures::count(&shared.door.figures().handshakes_resumed);
    } else {
        figures::count(&shared.door.figures().handshakes_full);
    }
    let chain: Vec<CertificateDer<'static>> = session.peer_certificates().unwrap_or_default().to_vec();
    let certificate = match chain.first().map(ClientCertificate::read) {
        Some(Some(certificate)) => Some(Arc::new(certificate)),
        None => None,
        // It was verified, but it is not one that we can name: nobody is let in as nobody.
        Some(None) => return,
    };
    let multiplexed = session.alpn_protocol() == Some(b"h2");
    let peer = Peer { address, certificate };
    let client = Client::new(shared, peer, chain, generation, multiplexed);
    if multiplexed {
        Box::pin(http2(client, stream, aborter)).await;
    } else {
        Box::pin(http1(client, stream, aborter)).await;
    }
}

async fn http1<S: AsyncRead + AsyncWrite + Unpin + 'static>(client: Rc<Client>, stream: S, aborter: Aborter) {
    let limits = client.shared.door.limits();
    let pulse = Rc::clone(&client.pulse);
    let _entry = client.shared.registry.enter(&pulse);
    let mut builder = http1::Builder::new();
    builder
        .half_close(true)
        .header_read_timeout(None)
        .max_headers(limits.headers_max)
        .max_header_size(limits.header_bytes_max)
        .max_buf_size(HTTP1_BUFFER_BYTES)
        .timer(TokioTimer::new());
    let watched = Watched::new(stream, Rc::clone(&pulse), limits.progress_bytes_min);
    let service = {
        let client = Rc::clone(&client);
        service_fn(move |request| answer(Rc::clone(&client), request))
    };
    let mut connection = builder.serve_connection(TokioIo::new(watched), service);
    let mut told = false;
    let mut linger = std::pin::pin!(None);
    let end = poll_fn(|context| {
        pulse.listen(context);
        if let Some(verdict) = pulse.verdict() {
            return Poll::Ready(End::Judged(verdict));
        }
        if pulse.is_draining() && !told {
            if linger.is_none() {
                linger.set(Some(tokio::time::sleep(Duration::from_millis(LINGER_MS))));
            }
            // Asked to end, hyper closes a connection without a request at once, whatever the client has just sent.
            let over = linger
                .as_mut()
                .as_pin_mut()
                .is_none_or(|sleep| sleep.poll(context).is_ready());
            if over || pulse.is_busy() {
                told = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
        match Pin::new(&mut connection).poll(context) {
            Poll::Ready(result) => Poll::Ready(End::from(result)),
            // hyper waits for the first request of a connection even when it is asked to end.
            Poll::Pending if told && pulse.is_untouched() => Poll::Ready(End::Finished),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    client.count_end(end);
    if end.is_abort() {
        aborter.abort();
        return;
    }
    if end == End::Broken {
        // No goodbye, which might make a part look like the whole; what the kernel holds already is still delivered.
        return;
    }
    let slow_head = end == End::Judged(Verdict::SlowHead) && pulse.has_partial_head();
    let mut stream = connection.into_parts().io.into_inner();
    let farewell = async {
        if slow_head {
            let _ = stream.write_all(&too_slow_bytes()).await;
        }
        let _ = stream.shutdown().await;
    };
    if tokio::time::timeout(Duration::from_millis(FAREWELL_MS_MAX), farewell)
        .await
        .is_err()
    {
        aborter.abort();
    }
}

async fn http2<S: AsyncRead + AsyncWrite + Unpin + 'static>(client: Rc<Client>, stream: S, aborter: Aborter) {
    let limits = client.shared.door.limits();
    let pulse = Rc::clone(&client.pulse);
    let _entry = client.shared.registry.enter(&pulse);
    let ping = Duration::from_millis(limits.ping_ms);
    let mut builder = http2::Builder::new(LocalTasks);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .max_pending_accept_reset_streams(limits.streams_reset_max)
        .max_local_error_reset_streams(limits.streams_reset_max)
        .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(HTTP2_SEND_BUFFER_BYTES)
        .keep_alive_interval(ping)
        .keep_alive_timeout(ping);
    let watched = Watched::new(stream, Rc::clone(&pulse), limits.progress_bytes_min);
    let service = {
        let client = Rc::clone(&client);
        service_fn(move |request| answer(Rc::clone(&client), request))
    };
    let mut connection = Box::pin(builder.serve_connection(TokioIo::new(watched), service));
    let mut told = false;
    let end = poll_fn(|context| {
        pulse.listen(context);
        if let Some(verdict) = pulse.verdict() {
            return Poll::Ready(End::Judged(verdict));
        }
        if pulse.is_draining() && !told {
            told = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(context).map(End::from)
    })
    .await;
    client.count_end(end);
    if end.is_abort() {
        aborter.abort();
        return;
    }
    if matches!(end, End::Judged(_)) {
        // Idle: say goodbye, so that a client does not take it for a failure of the request it is about to send.
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(Duration::from_millis(FAREWELL_MS_MAX), connection).await;
    }
}

/// How HTTP on a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Between requests, by either side.
    Finished,
    /// What the client sent is not HTTP, or too large.
    Unreadable,
    /// The connection broke.
    Broken,
    /// The sweeper ended it.
    Judged(Verdict),
}

impl End {
    fn from(result: hyper::Result<()>) -> End {
        match result {
            Ok(()) => End::Finished,
            Err(error) if error.is_parse() || error.is_parse_too_large() => End::Unreadable,
            Err(_) => End::Broken,
        }
    }

    /// Whether the client takes nothing any more, or may not.
    fn is_abort(self) -> bool {
        match self {
            End::Judged(Verdict::SlowReader | Verdict::Shutdown) => true,
            End::Finished | End::Unreadable | End::Broken | End::Judged(Verdict::SlowHead | Verdict::Idle) => false,
        }
    }
}

/// Runs the tasks of HTTP/2 streams on this reactor.
#[derive(Clone, Copy)]
struct LocalTasks;

impl<F: Future<Output = ()> + 'static> Executor<F> for LocalTasks {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

impl Client {
    fn new(
        shared: Rc<Shared>,
        peer: Peer,
        chain: Vec<CertificateDer<'static>>,
        generation: u64,
        multiplexed: bool,
    ) -> Rc<Client> {
        Rc::new(Client {
            shared,
            peer,
            pulse: Pulse::new(multiplexed),
            multiplexed,
            chain,
            judged_by: Cell::new(generation),
            refused: Cell::new(false),
        })
    }

    fn count_end(&self, end: End) {
        let figures = self.shared.door.figures();
        figures::add(&figures.bytes_in, self.pulse.take_bytes_in());
        match end {
            End::Unreadable => figures::count(&figures.refused_header),
            End::Judged(Verdict::SlowHead) => figures::count(&figures.slow_header),
            End::Judged(Verdict::SlowReader) => figures::count(&figures.slow_reader),
            End::Judged(Verdict::Idle) => figures::count(&figures.idle),
            End::Finished | End::Broken | End::Judged(Verdict::Shutdown) => {}
        }
    }

    /// Whether the client's certificate is still good: in time, and by the current trust, which may be newer than
    /// the connection.
    fn is_trusted(&self) -> bool {
        let (Some(tls), Some(certificate)) = (&self.shared.tls, &self.peer.certificate) else {
            return true;
        };
        let now = system_time();
        if self.judged_by.get() != tls.generation_number() {
            let generation = tls.generation();
            self.refused.set(!generation.accepts(&self.chain, now));
            self.judged_by.set(generation.number);
        }
        !self.refused.get() && now <= certificate.not_after && !tls.revocation_is_stale(now)
    }
}

/// The system's time: certificates and CRLs are judged by it, never by a clock that a test may move.
fn system_time() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp::from_ms(since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
}

/// Answers one request.
async fn answer(
    client: Rc<Client>,
    request: ::http::Request<Incoming>,
) -> Result<::http::Response<WireBody>, Infallible> {
    let door = Arc::clone(&client.shared.door);
    client.pulse.request_began();
    figures::count(&door.figures().requests);
    let (head, incoming) = request.into_parts();
    let id = door.next_id();
    let mut account = Account {
        pulse: Rc::clone(&client.pulse),
        permit: None,
        began: Instant::now(),
        answered: Answered {
            id,
            method: method_name(&head.method),
            route: "unnamed",
            status: 499,
            micros: 0,
            bytes_out: 0,
        },
        door,
    };
    figures::add(&account.door.figures().bytes_in, client.pulse.take_bytes_in());
    let is_head = head.method == Method::HEAD;
    let (response, fate) = match admit(&client, &head, &incoming) {
        Ok(permit) => {
            account.permit = Some(permit);
            let (body, fate) = RequestBody::new(incoming, Arc::clone(&account.door));
            let peer = client.peer.clone();
            let response = (client.shared.handler)(Request { head, body, peer, id }).await;
            (response, Some(fate))
        }
        Err(refusal) => (problem(refusal), None),
    };
    Ok(finish(&client, response, account, fate, is_head))
}

/// Checks what the front door checks, cheapest first: certificate, Host, announced length, load.
fn admit(client: &Client, head: &::http::request::Parts, incoming: &Incoming) -> Result<RequestPermit, Problem> {
    let door = &client.shared.door;
    if !client.is_trusted() {
        figures::count(&door.figures().refused_certificate);
        return Err(Problem::CertificateRefused);
    }
    if head.version == Version::HTTP_11 && head.headers.get_all(header::HOST).iter().count() != 1 {
        return Err(Problem::HostMissing);
    }
    let announced = incoming.size_hint().exact();
    let bytes_max = door.limits().body_bytes_max;
    if announced.is_some_and(|announced| announced > bytes_max) {
        figures::count(&door.figures().refused_body);
        return Err(Problem::BodyTooLarge(bytes_max));
    }
    door.admit_request(announced).map_err(|seconds| {
        figures::count(&door.figures().shed);
        Problem::Overloaded(seconds)
    })
}

/// Makes a handler's answer ready for the wire.
fn finish(
    client: &Client,
    response: Response,
    mut account: Account,
    fate: Option<BodyFate>,
    is_head: bool,
) -> ::http::Response<WireBody> {
    let (mut head, body) = response.into_parts();
    account.answered.status = head.status.as_u16();
    if let Some(Route(name)) = head.extensions.get() {
        account.answered.route = name;
    }
    let bodiless = head.status == StatusCode::NO_CONTENT
        || head.status == StatusCode::NOT_MODIFIED
        || head.status.is_informational();
    if bodiless {
        head.headers.remove(header::CONTENT_LENGTH);
    } else if !(is_head && head.headers.contains_key(header::CONTENT_LENGTH)) {
        // For HEAD a handler may know the length without making the body.
        head.headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(body.len_bytes()));
    }
    // After a body that ended early nobody knows where the next request begins.
    let cut_off = fate.and_then(|fate| fate.error()).is_some_and(|error| match error {
        BodyError::TooLarge(_) | BodyError::TimedOut | BodyError::Closed => true,
    });
    if client.multiplexed {
        // HTTP/2 has no such header; a refused certificate ends the connection as a whole.
        let closes = head.headers.remove(header::CONNECTION).is_some();
        if closes && client.refused.get() {
            client.pulse.drain();
        }
    } else if cut_off || client.pulse.is_draining() {
        head.headers
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let body = if bodiless || is_head { ResponseBody::Empty } else { body };
    let stream = (client.multiplexed && body.len_bytes() > 0).then(|| client.pulse.watch_stream());
    ::http::Response::from_parts(head, WireBody::new(body, account, stream))
}
