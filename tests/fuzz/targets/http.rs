//! The front door and MESH behind it: raw bytes as one connection through the real server, handler and stores. What
//! must hold: the connection ends; every answer is well-formed HTTP; no answer is a 5xx but the documented 503, and
//! that one names its Retry-After; no refusal repeats what was sent.
//!
//! The input's first byte says in pieces of how many bytes it arrives (0: whole). `$AUTH` becomes a fresh token, `$MSG`
//! a message that waits, so that inputs get past the first refusal. `PLANTED` stands for what is personal.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vertebra::audit::{Audit, Head};
use vertebra::auth::nhsmesh::SharedKeys;
use vertebra::auth::nonces::{ENTRIES_MAX, Nonces};
use vertebra::base::{Clock, OdsCode};
use vertebra::config::Config;
use vertebra::http::{Door, Handler, Limits, Request, ShutdownTrigger, serve};
use vertebra::log::Log;
use vertebra::ring::socket::Listener;
use vertebra::services::mesh::MailboxId;
use vertebra::services::mesh::api::Mesh;
use vertebra::services::mesh::command::{Command, Mailbox};
use vertebra::services::mesh::state::TOKEN_MS;

const KEY: &[u8] = b"TestKey";
const PASSWORD: &str = "password";
const MAILBOX: &str = "X26ABC1";
const PLANTED: &[u8] = b"PLANTED";
/// A connection that takes longer hangs: all its bytes are there from the start, and its end as well.
const DEADLINE: Duration = Duration::from_secs(10);
/// Connections with a token after which the node is made anew, so that its data stay small.
const TOKENS_MAX: u64 = 5_000;

thread_local! {
    // Never dropped at the end of the thread: what its runtime needs may be gone by then.
    static NODE: RefCell<Option<ManuallyDrop<Node>>> = const { RefCell::new(None) };
}

fuzz_target!(|input: &[u8]| {
    let Some((&piece_bytes, text)) = input.split_first() else {
        return;
    };
    NODE.with_borrow_mut(|node| {
        if node.as_ref().is_some_and(|node| node.tokens.get() >= TOKENS_MAX)
            && let Some(old) = node.take()
        {
            ManuallyDrop::into_inner(old).stop();
        }
        let node = node.get_or_insert_with(|| ManuallyDrop::new(Node::start()));
        let sent = node.filled(text);
        let received = node.exchange(&sent, usize::from(piece_bytes));
        let heads = sent.windows(4).any(|four| four == b"HEAD");
        let planted = sent.windows(PLANTED.len()).any(|part| part == PLANTED);
        if !answers_are_sound(&received, heads, planted) {
            panic!("not HTTP: {}", String::from_utf8_lossy(&received));
        }
    });
});

/// A node without TLS on this thread, between two inputs at rest.
struct Node {
    runtime: tokio_uring::Runtime,
    folder: PathBuf,
    address: SocketAddr,
    log: Log,
    clock: Clock,
    message: String,
    tokens: Cell<u64>,
    _serving: ShutdownTrigger,
}

impl Node {
    fn start() -> Node {
        let name = format!("vertebra-fuzz-http-{}", std::process::id());
        let folder = std::env::temp_dir().join(&name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let address = SocketAddr::from_abstract_name(name).expect("a short name");
        let bound = UnixListener::bind_addr(&address).expect("the name is free");
        let runtime = vertebra::ring::reactor::runtime().expect("the kernel gives a ring");
        let (serving, shutdown) = ShutdownTrigger::new();
        let clock = Clock::default();
        let mesh = runtime.block_on(mesh(&folder, clock.clone()));
        let log = mesh.log.clone();
        runtime.block_on(async {
            let handler: Handler = Rc::new(move |request: Request| {
                let mesh = mesh.clone();
                Box::pin(async move { mesh.handle(request).await })
            });
            let listener = Listener::unix(bound).expect("it was bound");
            let door = Door::new(Limits::default(), None);
            tokio_uring::spawn(serve(listener, None, door, handler, shutdown));
        });
        let mut node = Node {
            runtime,
            folder,
            address,
            log,
            clock,
            message: String::new(),
            tokens: Cell::new(0),
            _serving: serving,
        };
        node.message = node.send_one();
        node
    }

    fn stop(self) {
        self.runtime.block_on(self.log.close());
        drop(self.runtime);
        std::fs::remove_dir_all(&self.folder).expect("our own folder");
    }

    /// Sends a message to ourselves; its identifier.
    fn send_one(&self) -> String {
        let request = format!(
            "POST /messageexchange/{MAILBOX}/outbox HTTP/1.1\r\nhost: a\r\nauthorization: $AUTH\r\nmex-to: {MAILBOX}\r\n\
             mex-workflowid: W\r\ncontent-length: 5\r\n\r\nhello"
        );
        let answer = self.exchange(&self.filled(request.as_bytes()), 0);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
        let (_, rest) = answer.split_once("essageID\":\"").expect("the identifier");
        rest.chars().take_while(|c| *c != '"').collect()
    }

    /// A token that was never used.
    fn token(&self) -> String {
        let nonce = self.tokens.replace(self.tokens.get() + 1).to_string();
        let timestamp = self.clock.now().calendar().strftime("%Y%m%d%H%M").to_string();
        let hash = vertebra_fuzz::hash(KEY, MAILBOX, &nonce, "0", PASSWORD, &timestamp);
        format!("NHSMESH {MAILBOX}:{nonce}:0:{timestamp}:{hash}")
    }

    /// The input with its placeholders filled in.
    fn filled(&self, text: &[u8]) -> Vec<u8> {
        let mut sent = Vec::with_capacity(text.len() + 256);
        let mut rest = text;
        while let Some((first, after)) = rest.split_first() {
            if let Some(after) = rest.strip_prefix(b"$AUTH") {
                sent.extend_from_slice(self.token().as_bytes());
                rest = after;
            } else if let Some(after) = rest.strip_prefix(b"$MSG") {
                sent.extend_from_slice(self.message.as_bytes());
                rest = after;
            } else {
                sent.push(*first);
                rest = after;
            }
        }
        sent
    }

    /// One connection: everything sent, then everything received.
    fn exchange(&self, sent: &[u8], piece_bytes: usize) -> Vec<u8> {
        let stream = UnixStream::connect_addr(&self.address).expect("the node listens");
        stream.set_nonblocking(true).expect("a socket");
        self.runtime.block_on(async {
            let (mut from, mut to) = tokio::net::UnixStream::from_std(stream).expect("a socket").into_split();
            let sending = async {
                let piece_bytes = if piece_bytes == 0 {
                    sent.len().max(1)
                } else {
                    piece_bytes
                };
                for piece in sent.chunks(piece_bytes) {
                    // The node may have said goodbye already.
                    if to.write_all(piece).await.is_err() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
                let _ = to.shutdown().await;
            };
            let mut received = Vec::new();
            let receiving = async {
                // Reset after its last answer: it did not want the rest.
                let _ = from.read_to_end(&mut received).await;
            };
            let both = async { tokio::join!(sending, receiving) };
            tokio::time::timeout(DEADLINE, both).await.expect("the connection ends");
            received
        })
    }
}

async fn mesh(folder: &std::path::Path, clock: Clock) -> Mesh {
    let nowhere = "127.0.0.1:1".parse().expect("an address");
    let config = Config::sandbox(folder, nowhere, nowhere);
    let store = vertebra::node::open_store(&config)
        .await
        .expect("an empty folder opens");
    let mailbox = Mailbox {
        id: MailboxId::parse(MAILBOX).expect("a mailbox"),
        name: "one".to_owned(),
        ods: OdsCode::parse("X26").expect("a code"),
        organisation: "X26".to_owned(),
        billing_entity: String::new(),
        password: PASSWORD.to_owned(),
        active: true,
        safe_retry: true,
    };
    let command = Command::PutMailbox(mailbox).encode(&[]);
    store.log.propose(command).await.expect("a log of one takes it");
    let head = Head {
        sequence: 0,
        hash: [0; 32],
    };
    Mesh {
        log: store.log,
        ledger: store.ledger,
        bodies: store.bodies,
        audit: Audit::open(store.journal, head),
        clock,
        keys: Arc::new(SharedKeys::new(KEY, None)),
        nonces: Arc::new(Nonces::new(ENTRIES_MAX, TOKEN_MS)),
        sandbox: true,
        restrict_workflows: false,
    }
}

/// Whether `bytes` are answers and nothing else. An answer to HEAD has no body, and from outside it cannot be told which
/// one that is, so where one was sent either reading may fit.
fn answers_are_sound(bytes: &[u8], heads: bool, planted: bool) -> bool {
    if bytes.is_empty() {
        return true;
    }
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return false;
    };
    let (head, rest) = (&bytes[..end], &bytes[end + 4..]);
    let Some((status, length)) = read_head(head) else {
        return false;
    };
    if status >= 500 {
        assert_eq!(status, 503, "{}", String::from_utf8_lossy(bytes));
    }
    if status < 200 || status == 204 || status == 304 {
        return answers_are_sound(rest, heads, planted);
    }
    let Some(length) = length else { return false };
    let with_body = rest.get(length..).is_some_and(|after| {
        let sound = answers_are_sound(after, heads, planted);
        let repeated = planted && rest[..length].windows(PLANTED.len()).any(|part| part == PLANTED);
        assert!(!(sound && repeated && status >= 400), "a refusal repeats what was sent");
        sound
    });
    with_body || (heads && answers_are_sound(rest, heads, planted))
}

/// Status and announced length of a head that is well-formed.
fn read_head(head: &[u8]) -> Option<(u16, Option<usize>)> {
    // Header values are Latin-1.
    let text: String = head.iter().map(|byte| char::from(*byte)).collect();
    let mut lines = text.split("\r\n");
    let line = lines.next()?;
    let version = line
        .strip_prefix("HTTP/1.1 ")
        .or_else(|| line.strip_prefix("HTTP/1.0 "))?;
    let status: u16 = version.get(..3)?.parse().ok()?;
    if !(100..600).contains(&status) || version.as_bytes().get(3) != Some(&b' ') {
        return None;
    }
    let mut length = None;
    let mut retry_after = false;
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) || value.contains(['\r', '\n', '\0']) {
            return None;
        }
        if name.eq_ignore_ascii_case("content-length") {
            // Twice would be two opinions on where the answer ends.
            if length.replace(value.trim().parse().ok()?).is_some() {
                return None;
            }
        }
        retry_after |= name.eq_ignore_ascii_case("retry-after");
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return None;
        }
    }
    assert!(status != 503 || retry_after, "503 without Retry-After: {text}");
    Some((status, length))
}
