//! MESH at the wire: every call, every error a client can provoke, every limit, in both versions of the interface.
//!
//! One sandbox serves the whole binary; each test holds it alone and begins with empty inboxes. With `VERTEBRA_PEER=URL`
//! the functional part runs against another implementation over plain HTTP instead, which shows that the expectations
//! here are the interface's and not our own.

mod certificates;
mod chunks;
mod client;
mod clock;
mod handshake;
mod inbox;
mod limits;
mod lookup;
mod reports;
mod retry;
mod schemas;
mod sending;
mod tokens;
mod tracking;

use std::sync::OnceLock;
use tokio::sync::{Mutex, MutexGuard};
use vertebra_tests::mesh::{Credentials, Mailbox, V1, V2};
use vertebra_tests::node::{Folder, Node, split_url};
use vertebra_tests::wire::{Answer, Connection, Target};

/// What answers: our sandbox, or a peer.
struct World {
    node: Option<Node>,
    peer: Option<Target>,
    _folder: Folder,
}

/// The world, alone, with empty inboxes.
async fn world() -> MutexGuard<'static, World> {
    static WORLD: OnceLock<Mutex<World>> = OnceLock::new();
    let world = WORLD.get_or_init(|| {
        let folder = Folder::new("mesh");
        let peer = std::env::var("VERTEBRA_PEER").ok().map(|url| {
            let (host, address) = split_url(&url);
            Target {
                address,
                host,
                tls: None,
            }
        });
        let node = peer.is_none().then(|| Node::start_on_two(&folder.path().join("data")));
        Mutex::new(World {
            node,
            peer,
            _folder: folder,
        })
    });
    let world = world.lock().await;
    let answer = world.admin("DELETE", "/admin/reset", "").await;
    assert_eq!(answer.status, 200, "inboxes can be emptied: {}", answer.text());
    world
}

/// The world when it is ours; `None`, and a line that says so, when a peer answers.
async fn ours(test: &str) -> Option<MutexGuard<'static, World>> {
    let world = world().await;
    if world.node.is_none() {
        println!("LEFT OUT against a peer: {test}");
        return None;
    }
    Some(world)
}

impl World {
    fn node(&self) -> &Node {
        self.node.as_ref().expect("only tests of our own sandbox ask for it")
    }

    /// A client of seeded mailbox 1, 2 or 3.
    fn mailbox(&self, number: usize) -> Mailbox {
        match (&self.node, &self.peer) {
            (Some(node), _) => node.mailbox(number - 1),
            (None, Some(target)) => {
                let credentials = Credentials {
                    mailbox: format!("X26ABC{number}"),
                    password: "password".into(),
                    shared_key: "TestKey".into(),
                };
                Mailbox::new(target.clone(), credentials)
            }
            (None, None) => unreachable!("a world is ours or a peer's"),
        }
    }

    /// A test-only request: no token, no certificate, and only a sandbox answers it.
    async fn admin(&self, method: &str, path: &str, body: &str) -> Answer {
        let target = match &self.node {
            Some(node) => node.target(None),
            None => self.peer.clone().expect("a world is ours or a peer's"),
        };
        let mut connection = Connection::open(&target).await.expect("the sandbox answers");
        let headers = [
            ("Host", "localhost"),
            ("Content-Type", "application/json"),
            ("Connection", "close"),
        ];
        connection
            .exchange(method, path, &headers, body.as_bytes())
            .await
            .expect("the sandbox answers")
    }
}

/// The answer is this error, in the shape its version has. `event` and `code` empty: the shape is not checked.
fn assert_error(answer: &Answer, accept: &str, status: u16, event: &str, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let json = answer.json();
    match accept {
        V1 => {
            assert_eq!(json["errorEvent"], event, "{}", answer.text());
            assert_eq!(json["errorCode"], code, "{}", answer.text());
            assert!(
                !json["errorDescription"].as_str().unwrap_or("").is_empty(),
                "{}",
                answer.text()
            );
            // A 400 names the fields that are wrong in `detail`, in both versions.
            assert!(
                status == 400 || json.get("detail").is_none(),
                "v1 has no detail: {}",
                answer.text()
            );
        }
        V2 => {
            let detail = &json["detail"][0];
            assert_eq!(detail["event"], event, "{}", answer.text());
            assert_eq!(detail["code"], code, "{}", answer.text());
            assert!(!detail["msg"].as_str().unwrap_or("").is_empty(), "{}", answer.text());
            assert!(
                json.get("errorCode").is_none(),
                "v2 has no errorCode: {}",
                answer.text()
            );
        }
        other => panic!("{other} is no version of the interface"),
    }
}
