//! A MESH client whose every header a test may choose, and the tokens it signs.

use crate::wire::{Answer, Connection, Target};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// Media type of the second version of the interface.
pub const V2: &str = "application/vnd.mesh.v2+json";
/// Media type of the first.
pub const V1: &str = "application/vnd.mesh.v1+json";
/// A workflow nobody registered: every mailbox may use it.
pub const WORKFLOW: &str = "VERTEBRA_TEST";

/// What proves a mailbox's identity beside its certificate.
#[derive(Clone)]
pub struct Credentials {
    /// Mailbox.
    pub mailbox: String,
    /// Its password.
    pub password: String,
    /// The environment's shared key.
    pub shared_key: String,
}

static NONCES: AtomicU64 = AtomicU64::new(0);

impl Credentials {
    /// A fresh token stamped now.
    pub fn token(&self) -> String {
        self.token_at(jiff::Timestamp::now())
    }

    /// A fresh token stamped `at`.
    pub fn token_at(&self, at: jiff::Timestamp) -> String {
        let count = NONCES.fetch_add(1, Ordering::Relaxed);
        let nonce = format!("{:016x}{:016x}", rand::random::<u64>(), count);
        let stamp = at.strftime("%Y%m%d%H%M").to_string();
        self.token_of(&nonce, "1", &stamp)
    }

    /// The token of exactly these parts.
    pub fn token_of(&self, nonce: &str, count: &str, stamp: &str) -> String {
        let Credentials {
            mailbox,
            password,
            shared_key,
        } = self;
        let mut mac = Hmac::<Sha256>::new_from_slice(shared_key.as_bytes()).expect("HMAC takes keys of any length");
        mac.update(format!("{mailbox}:{nonce}:{count}:{password}:{stamp}").as_bytes());
        let digest = hex::encode(mac.finalize().into_bytes());
        format!("NHSMESH {mailbox}:{nonce}:{count}:{stamp}:{digest}")
    }
}

/// A mailbox's client on one connection that is kept.
pub struct Mailbox {
    /// Where the node is.
    pub target: Target,
    /// Who this is.
    pub credentials: Credentials,
    /// The `Accept` header of every call.
    pub accept: &'static str,
    /// How far the node's clock is ahead of the system's: tokens follow it.
    pub ahead: jiff::SignedDuration,
    connection: Option<Connection>,
}

impl Mailbox {
    /// A client that speaks version 2.
    pub fn new(target: Target, credentials: Credentials) -> Mailbox {
        Mailbox {
            target,
            credentials,
            accept: V2,
            ahead: jiff::SignedDuration::ZERO,
            connection: None,
        }
    }

    /// The same client speaking version 1.
    pub fn v1(mut self) -> Mailbox {
        self.accept = V1;
        self
    }

    /// The mailbox's name.
    pub fn id(&self) -> &str {
        &self.credentials.mailbox
    }

    /// The path of `rest` under this mailbox.
    pub fn path(&self, rest: &str) -> String {
        let separator = if rest.is_empty() { "" } else { "/" };
        format!("/messageexchange/{}{separator}{rest}", self.credentials.mailbox)
    }

    /// Forgets the connection: the next call opens another.
    pub fn disconnect(&mut self) {
        self.connection = None;
    }

    /// A call under the mailbox with a fresh token. Panics when the connection breaks: where that is expected, see
    /// [`Mailbox::try_call`].
    pub async fn call(&mut self, method: &str, rest: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let path = self.path(rest);
        let answer = self.try_call(method, &path, headers, body).await;
        answer.unwrap_or_else(|error| panic!("{method} {path} got no answer: {error}"))
    }

    /// A call on any path. `Authorization` and `Accept` are added unless given; a given empty value leaves them out.
    pub async fn try_call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let token = self.credentials.token_at(jiff::Timestamp::now() + self.ahead);
        let host = self.target.host.clone();
        let mut all = vec![("Host", host.as_str())];
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("authorization"))
        {
            all.push(("Authorization", &token));
        }
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("accept")) {
            all.push(("Accept", self.accept));
        }
        all.extend(headers.iter().filter(|(_, value)| !value.is_empty()));
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.target).await?,
        };
        let answer = connection.exchange(method, path, &all, body).await?;
        if !answer.closes() {
            self.connection = Some(connection);
        }
        crate::books::record(method, path, self.accept, &answer);
        Ok(answer)
    }

    /// Sends a whole message with extra headers; the raw answer.
    pub async fn post(&mut self, to: &str, workflow: &str, extra: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut headers = vec![("Mex-To", to), ("Mex-WorkflowID", workflow)];
        headers.extend_from_slice(extra);
        self.call("POST", "outbox", &headers, body).await
    }

    /// Sends a whole message, which must be accepted, and gives its identifier.
    pub async fn send(&mut self, to: &str, workflow: &str, extra: &[(&str, &str)], body: &[u8]) -> String {
        let answer = self.post(to, workflow, extra, body).await;
        assert_eq!(answer.status, 202, "a rightful message is accepted: {}", answer.text());
        message_id(&answer)
    }

    /// Sends chunk `number` of `total`; the raw answer.
    pub async fn post_chunk(&mut self, message: &str, number: u32, total: u32, body: &[u8]) -> Answer {
        let range = format!("{number}:{total}");
        self.call(
            "POST",
            &format!("outbox/{message}/{number}"),
            &[("Mex-Chunk-Range", &range)],
            body,
        )
        .await
    }

    /// The identifiers in the inbox, all pages.
    pub async fn inbox(&mut self) -> Vec<String> {
        let mut messages = Vec::new();
        let mut path = self.path("inbox?max_results=5000");
        loop {
            let answer = self.try_call("GET", &path, &[("Accept", V2)], b"").await;
            let answer = answer.unwrap_or_else(|error| panic!("GET {path} got no answer: {error}"));
            assert_eq!(answer.status, 200, "{}", answer.text());
            let page = answer.json();
            messages.extend(strings(&page["messages"]));
            match page["links"]["next"].as_str() {
                Some(next) => path = next.to_owned(),
                None => return messages,
            }
        }
    }

    /// Downloads a message or its first chunk.
    pub async fn download(&mut self, message: &str) -> Answer {
        self.call("GET", &format!("inbox/{message}"), &[], b"").await
    }

    /// Acknowledges, which must succeed.
    pub async fn acknowledge(&mut self, message: &str) {
        let answer = self
            .call("PUT", &format!("inbox/{message}/status/acknowledged"), &[], b"")
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// The message identifier of an accepted POST in either version.
pub fn message_id(answer: &Answer) -> String {
    let json = answer.json();
    let id = json["message_id"].as_str().or(json["messageID"].as_str());
    id.unwrap_or_else(|| panic!("an accepted message has an identifier: {}", answer.text()))
        .to_owned()
}

/// The strings of a JSON array.
pub fn strings(value: &serde_json::Value) -> Vec<String> {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    items
        .iter()
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}
