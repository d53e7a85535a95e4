//! The books clients keep: what was acknowledged to them, to be held against what the node gives back; and the exchanges
//! that are checked against the interface's own schemas.

use crate::mesh::{Mailbox, V2, message_id};
use crate::wire::Answer;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;

static EXCHANGES: Mutex<Option<Vec<Value>>> = Mutex::new(None);

/// Starts to keep every exchange of this process.
pub fn keep_exchanges() {
    *EXCHANGES.lock().expect("no test panics while it holds the books") = Some(Vec::new());
}

/// The exchanges kept since [`keep_exchanges`]; stops keeping.
pub fn exchanges() -> Vec<Value> {
    EXCHANGES
        .lock()
        .expect("no test panics while it holds the books")
        .take()
        .unwrap_or_default()
}

/// Notes an exchange when they are kept.
pub fn record(method: &str, path: &str, accept: &str, answer: &Answer) {
    let mut kept = EXCHANGES.lock().expect("no test panics while it holds the books");
    if let Some(kept) = kept.as_mut() {
        let body = String::from_utf8(answer.body.clone()).ok();
        kept.push(json!({
            "method": method, "path": path, "accept": accept, "status": answer.status,
            "content_type": answer.header("content-type"), "body": body,
        }));
    }
}

/// SHA-256 in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// One client's lane: it sends one message after the other, and notes what it was told.
#[derive(Default)]
pub struct Lane {
    /// Number of the next message.
    next: u64,
    /// Acknowledged, by number: identifier and digest.
    pub acknowledged: BTreeMap<u64, (String, String)>,
    /// Sent without an answer: may or may not be there; sent again under the same local id.
    pub unknown: Option<(u64, Vec<u8>)>,
}

/// What a check of the inbox found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Acknowledged and not there.
    pub lost: u64,
    /// There with other bytes.
    pub altered: u64,
    /// There twice.
    pub duplicated: u64,
    /// Out of the order their sender sent them in.
    pub disordered: u64,
    /// Collected and acknowledged, and back again.
    pub resurrected: u64,
}

/// The local identifier of message `number` of lane `lane`.
fn local_id(lane: &str, number: u64) -> String {
    format!("{lane}/{number}")
}

impl Lane {
    /// Sends the next message, or again the one without an answer. `false`: no answer, the connection is gone. When this is
    /// given up half way, the message counts as one without an answer.
    pub async fn step(&mut self, lane: &str, from: &mut Mailbox, to: &str, body: impl FnOnce(u64) -> Vec<u8>) -> bool {
        if self.unknown.is_none() {
            self.next += 1;
            self.unknown = Some((self.next, body(self.next)));
        }
        let (number, bytes) = self.unknown.as_ref().expect("it was just set");
        let (number, digest) = (*number, digest(bytes));
        let local = local_id(lane, number);
        let path = from.path("outbox");
        let headers = [
            ("Mex-To", to),
            ("Mex-WorkflowID", crate::mesh::WORKFLOW),
            ("Mex-LocalID", &local),
        ];
        match from.try_call("POST", &path, &headers, bytes).await {
            Ok(answer) if answer.status == 202 => {
                self.acknowledged.insert(number, (message_id(&answer), digest));
                self.unknown = None;
                true
            }
            Ok(answer) if answer.status == 503 => false,
            Ok(answer) => panic!("{local} was refused with {}: {}", answer.status, answer.text()),
            Err(_) => {
                from.disconnect();
                false
            }
        }
    }
}

/// Reads the whole inbox of `recipient` and holds it against the lanes; acknowledges what it found when `collect`.
pub async fn audit(
    lanes: &HashMap<String, Lane>,
    recipient: &mut Mailbox,
    collected: &mut HashSet<String>,
    collect: bool,
) -> Findings {
    let mut findings = Findings::default();
    let mut seen: HashMap<String, u64> = HashMap::new();
    let mut last: HashMap<String, u64> = HashMap::new();
    for message in recipient.inbox().await {
        if collected.contains(&message) {
            findings.resurrected += 1;
            continue;
        }
        let answer = recipient
            .call("GET", &format!("inbox/{message}"), &[("Accept", V2)], b"")
            .await;
        assert_eq!(answer.status, 200, "a listed message can be read: {}", answer.text());
        let local = answer.header("mex-localid").unwrap_or("").to_owned();
        *seen.entry(local.clone()).or_default() += 1;
        let Some((lane, number)) = local.rsplit_once('/') else {
            continue;
        };
        let number: u64 = number.parse().unwrap_or(0);
        let Some(book) = lanes.get(lane) else { continue };
        if last
            .insert(lane.to_owned(), number)
            .is_some_and(|before| before >= number)
        {
            findings.disordered += 1;
        }
        let expected = match (book.acknowledged.get(&number), &book.unknown) {
            (Some((_, digest)), _) => digest.clone(),
            (None, Some((unknown, bytes))) if *unknown == number => digest(bytes),
            (None, _) => continue,
        };
        findings.altered += u64::from(digest(&answer.body) != expected);
        // The one without an answer stays, so that its repetition meets it.
        if collect && book.acknowledged.contains_key(&number) {
            recipient.acknowledge(&message).await;
            collected.insert(message);
        }
    }
    findings.duplicated += seen.values().filter(|&&count| count > 1).count() as u64;
    for (lane, book) in lanes {
        for (number, (message, _)) in &book.acknowledged {
            let here = seen.contains_key(&local_id(lane, *number));
            findings.lost += u64::from(!here && !collected.contains(message));
        }
    }
    findings
}
