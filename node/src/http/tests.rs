//! The front door over real sockets, TLS and clients on loopback.

mod client;
mod door;
mod faults;
mod h2_client;
mod limits;
mod shutdown;
mod tls;
mod wire;

use super::*;
use crate::ring::socket::{Listener, RingFigures, Transport, bind_shared, figures};
use bytes::Bytes;
use client::Client;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a test waits for what must come; only a hang reaches it.
const DEADLINE: Duration = Duration::from_secs(30);

/// A front door on a reactor thread of its own.
struct Node {
    address: SocketAddr,
    door: Arc<Door>,
    ring: Option<Arc<RingFigures>>,
    trigger: Option<ShutdownTrigger>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Node {
    fn plain(limits: Limits) -> Node {
        Node::start(limits, None, Transport::Ring)
    }

    fn tls(limits: Limits, tls: &Arc<TlsShared>) -> Node {
        Node::start(limits, Some(Arc::clone(tls)), Transport::Ring)
    }

    fn start(limits: Limits, tls: Option<Arc<TlsShared>>, transport: Transport) -> Node {
        Node::observed(limits, tls, transport, None)
    }

    fn observed(limits: Limits, tls: Option<Arc<TlsShared>>, transport: Transport, observer: Option<Observer>) -> Node {
        let bound = bind_shared("127.0.0.1:0".parse().expect("an address")).expect("bind");
        let address = bound.local_addr().expect("bound");
        let door = Door::new(limits, observer);
        let (trigger, shutdown) = ShutdownTrigger::new();
        let (ready, started) = std::sync::mpsc::channel();
        let serving = Arc::clone(&door);
        let thread = std::thread::spawn(move || {
            let runtime = crate::ring::reactor::runtime().expect("reactor");
            runtime.block_on(async move {
                let listener = Listener::with_transport(bound, transport).expect("listener");
                ready.send(figures()).expect("the test waits");
                serve(listener, tls, serving, handler(), shutdown).await.expect("serve");
            });
        });
        Node {
            address,
            door,
            ring: started.recv().expect("started"),
            trigger: Some(trigger),
            thread: Some(thread),
        }
    }

    fn client(&self) -> Client {
        Client::plain(self.address)
    }

    /// Waits for a condition on the counters.
    fn until(&self, what: &str, holds: impl Fn(&DoorFigures) -> bool) {
        until(what, || holds(self.door.figures()));
    }

    /// Waits until no connection is open.
    fn until_empty(&self) {
        self.until("all connections closed", |figures| read(&figures.connections_now) == 0);
        if let Some(ring) = &self.ring {
            until("all sockets closed", || read(&ring.sockets_now) == 0);
            until("all buffers back", || read(&ring.buffers_held_now) == 0);
        }
        assert_eq!(read(&self.door.figures().requests_now), 0, "no request is left");
    }

    /// Shuts down and waits for the thread.
    fn stop(mut self) {
        self.trigger.take();
        self.thread
            .take()
            .expect("running")
            .join()
            .expect("the server's thread");
    }
}

/// Waits for a condition, with a deadline.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// A pattern that shows lost, doubled and swapped bytes; `at` is the offset of its first byte.
fn pattern(at: u64, bytes: usize) -> Bytes {
    (at..at + bytes as u64)
        .map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
        .collect()
}

/// Streams the pattern in pieces.
struct PatternStream {
    at: u64,
    end: u64,
    piece_bytes: usize,
}

impl PieceStream for PatternStream {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Option<Result<Bytes, std::io::Error>>> + '_>> {
        Box::pin(async {
            let bytes = self.piece_bytes.min((self.end - self.at) as usize);
            if bytes == 0 {
                return None;
            }
            // Each piece is pending once, as from a disk.
            tokio::task::yield_now().await;
            let piece = pattern(self.at, bytes);
            self.at += bytes as u64;
            Some(Ok(piece))
        })
    }
}

/// What the tests ask for:
/// `/hello`; `/echo` (whole body back); `/sum` (length and digest of a streamed body); `/pattern/N` (N bytes
/// streamed); `/short/N` (promises one byte more than it has); `/full/N`; `/who` (certificate's name); `/slow/MS`;
/// `/nocontent`; `/ignore` (answers without reading the body).
fn handler() -> Handler {
    Rc::new(|request| Box::pin(route(request)))
}

async fn route(request: Request) -> Response {
    let path = request.head.uri.path().to_owned();
    let mut parts = path.trim_start_matches('/').split('/');
    let name = parts.next().unwrap_or_default();
    let number: u64 = parts.next().and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut response = match name {
        "echo" => match request.body.collect(1 << 20).await {
            Ok(bytes) => full(200, bytes),
            Err(error) => body_error(error),
        },
        "sum" => sum(request.body).await,
        "pattern" | "short" => Response::new(ResponseBody::Stream {
            bytes: number + u64::from(name == "short"),
            pieces: Box::pin(PatternStream {
                at: 0,
                end: number,
                piece_bytes: 256 * 1024,
            }),
        }),
        "full" => full(200, pattern(0, number as usize)),
        "who" => {
            let name = request
                .peer
                .certificate
                .map_or(String::from("nobody"), |c| c.common_name.clone());
            full(200, Bytes::from(name))
        }
        "slow" => {
            tokio::time::sleep(Duration::from_millis(number)).await;
            full(200, Bytes::from_static(b"late"))
        }
        "nocontent" => full(204, Bytes::new()),
        "ignore" => full(200, Bytes::from_static(b"ignored")),
        _ => full(200, Bytes::from_static(b"hello")),
    };
    response.extensions_mut().insert(Route("test"));
    response
}

fn full(status: u16, bytes: Bytes) -> Response {
    let mut response = Response::new(ResponseBody::Full(bytes));
    *response.status_mut() = ::http::StatusCode::from_u16(status).expect("a status");
    response
}

async fn sum(mut body: RequestBody) -> Response {
    let mut hasher = blake3::Hasher::new();
    let mut total = 0;
    while let Some(piece) = body.next().await {
        match piece {
            Ok(bytes) => {
                hasher.update(&bytes);
                total += bytes.len() as u64;
            }
            Err(error) => return body_error(error),
        }
    }
    full(200, Bytes::from(format!("{total} {}", hasher.finalize().to_hex())))
}

fn body_error(error: BodyError) -> Response {
    match error {
        BodyError::TooLarge(_) => full(413, Bytes::from_static(b"too large")),
        BodyError::TimedOut => full(408, Bytes::from_static(b"too slow")),
        BodyError::Closed => full(400, Bytes::from_static(b"broken off")),
    }
}

/// Runs a test that changes or counts what belongs to the whole process in a process of its own.
fn isolated(test: &str, body: impl FnOnce()) {
    const MARK: &str = "VERTEBRA_TEST_ISOLATED";
    if std::env::var(MARK).as_deref() == Ok(test) {
        return body();
    }
    let child = std::process::Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(MARK, test)
        .output()
        .expect("start the test alone");
    let printed = String::from_utf8_lossy(&child.stdout);
    assert!(
        printed.contains("1 passed"),
        "{printed}\n{}",
        String::from_utf8_lossy(&child.stderr)
    );
}

/// Descriptors that this process has open.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("procfs").count()
}
