//! What the simulated members keep: values with versions, changed by requests that have identifiers; and the judge of what
//! they and their clients saw. The log orders everything, so the judge needs no search: one run over the log in memory
//! says what each command had to give.

use super::super::planted::{Bug, planted};
use super::super::{Apply, At};
use crate::ledger::{Hold, Ledger, Read, Table};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Key → [`Held`].
const VALUES: Table = Table::permanent(1);
/// Request → [`Outcome`].
const REQUESTS: Table = Table::permanent(2);

/// A command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub request: u64,
    pub key: u8,
    /// Only when this is the version there is; 0 is none.
    pub expected: Option<u64>,
    pub value: u64,
    /// Makes entries of different lengths.
    pub filling: Vec<u8>,
}

/// What a command gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Stored { version: u64 },
    Mismatch { version: u64 },
}

/// A value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub version: u64,
    pub value: u64,
    /// The entry that wrote it, which the state holds.
    pub index: u64,
}

pub fn encode<T: Serialize>(value: &T) -> Bytes {
    postcard::to_stdvec(value).expect("plain values encode").into()
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> T {
    postcard::from_bytes(bytes).expect("only what was encoded is decoded")
}

/// What a member has under a key.
pub fn held(ledger: &impl Read, key: u8) -> Held {
    ledger
        .get(VALUES, &[key])
        .map_or_else(Held::default, |bytes| decode(&bytes))
}

/// One applied command: what it was, what it gave, and the log's time.
type Applied = (Bytes, Bytes, u64);

/// What any member applied, by index. Whoever comes second must have done the same.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<(BTreeMap<u64, Applied>, Option<String>)>>);

impl Seen {
    fn note(&self, node: u64, at: At, command: &[u8], outcome: &Bytes) {
        let applied = (Bytes::copy_from_slice(command), outcome.clone(), at.time.ms());
        let (seen, broken) = &mut *self.0.lock();
        let first = seen.entry(at.index).or_insert_with(|| applied.clone());
        if *first != applied {
            let what = |applied: &Applied| {
                let (change, outcome): (Change, Outcome) = (decode(&applied.0), decode(&applied.1));
                format!("request {} with {outcome:?} at {}", change.request, applied.2)
            };
            let (theirs, own) = (what(first), what(&applied));
            broken.get_or_insert(format!(
                "node {node} applied {own} at index {}, another one {theirs}",
                at.index
            ));
        }
    }

    /// What was wrong so far.
    pub fn broken(&self) -> Option<String> {
        self.0.lock().1.clone()
    }

    /// All of it.
    pub fn all(&self) -> BTreeMap<u64, Applied> {
        self.0.lock().0.clone()
    }
}

/// The state machine of one member.
pub fn apply(node: u64, seen: Seen) -> Apply {
    Box::new(move |writer, at, command| {
        let change: Change = decode(command);
        let request = change.request.to_be_bytes();
        let before = writer.get(REQUESTS, &request).filter(|_| !planted(Bug::ReplayAccepted));
        let outcome = match before {
            Some(outcome) => outcome.into(),
            None => {
                let now = held(&*writer, change.key);
                let outcome = judge(&change, &now);
                if let Outcome::Stored { version } = outcome {
                    let (value, index) = (change.value, at.index);
                    writer.put(VALUES, &[change.key], &encode(&Held { version, value, index }));
                    writer.put(REQUESTS, &request, &encode(&outcome));
                    writer.hold(Hold::Entry(index));
                    if now.version > 0 {
                        writer.hold(Hold::ReleaseEntry(now.index));
                    }
                }
                encode(&outcome)
            }
        };
        seen.note(node, at, command, &outcome);
        outcome
    })
}

fn judge(change: &Change, now: &Held) -> Outcome {
    let version = now.version;
    match change.expected {
        Some(expected) if expected != version => Outcome::Mismatch { version },
        Some(_) | None => Outcome::Stored { version: version + 1 },
    }
}

/// What a client was told.
#[derive(Clone, Debug)]
pub struct Told {
    /// Virtual time of the call and of the answer, ms.
    pub called: u64,
    pub answered: u64,
    pub key: u8,
    pub what: Did,
}

#[derive(Clone, Debug)]
pub enum Did {
    /// The client's change as it asked for it, the index and the outcome.
    Changed(Change, u64, Outcome),
    /// Linearizable.
    Read(Held),
}

/// The state after the whole log, as computed beside it.
#[derive(Default)]
pub struct Model {
    values: BTreeMap<u8, Held>,
    requests: BTreeMap<u64, Outcome>,
    /// Who had which version, and with which value.
    versions: BTreeMap<(u8, u64), u64>,
}

impl Model {
    /// Goes through the log and holds every outcome against what it had to be.
    pub fn of(log: &BTreeMap<u64, Applied>) -> Result<Model, String> {
        let mut model = Model::default();
        let mut last_ms = 0;
        for (index, (command, outcome, time_ms)) in log {
            let change: Change = decode(command);
            if *time_ms < last_ms {
                return Err(format!("the log's time went back at index {index}"));
            }
            last_ms = *time_ms;
            let told: Outcome = decode(outcome);
            let right = model.apply(*index, &change);
            if told != right {
                let request = change.request;
                return Err(format!(
                    "index {index}: request {request} gave {told:?}, {right:?} is right"
                ));
            }
        }
        Ok(model)
    }

    fn apply(&mut self, index: u64, change: &Change) -> Outcome {
        if let Some(before) = self.requests.get(&change.request) {
            return *before;
        }
        let now = self.values.get(&change.key).copied().unwrap_or_default();
        let outcome = judge(change, &now);
        if let Outcome::Stored { version } = outcome {
            let value = change.value;
            self.values.insert(change.key, Held { version, value, index });
            self.requests.insert(change.request, outcome);
            self.versions.insert((change.key, version), value);
        }
        outcome
    }

    /// Whether a member's state is this one.
    pub fn is(&self, ledger: &Ledger) -> Result<(), String> {
        for (key, wanted) in &self.values {
            let found = held(ledger, *key);
            if found != *wanted {
                return Err(format!("key {key} is {found:?}, {wanted:?} is right"));
            }
        }
        for (request, wanted) in &self.requests {
            let found = ledger.get(REQUESTS, &request.to_be_bytes());
            if found.map(|bytes| decode(&bytes)) != Some(*wanted) {
                return Err(format!("request {request} is not known any more"));
            }
        }
        Ok(())
    }

    /// Entries that the state holds, and their requests' values.
    pub fn held(&self) -> impl Iterator<Item = &Held> {
        self.values.values()
    }

    /// Holds what clients were told against the log: nothing that was acknowledged is missing, of changes to one version one
    /// won, and a read saw everything that was acknowledged or read before it.
    pub fn judge(&self, log: &BTreeMap<u64, Applied>, told: &[Told]) -> Result<(), String> {
        for one in told {
            match &one.what {
                Did::Changed(asked, index, outcome) => {
                    let request = asked.request;
                    let Some((command, applied, _)) = log.get(index) else {
                        return Err(format!(
                            "request {request} was acknowledged at index {index}, which is lost"
                        ));
                    };
                    let change: Change = decode(command);
                    if (change.request, decode::<Outcome>(applied)) != (request, *outcome) {
                        return Err(format!(
                            "request {request} was acknowledged at index {index}, where another is"
                        ));
                    }
                    if let (Outcome::Stored { version }, Some(expected)) = (outcome, asked.expected)
                        && *version != expected + 1
                    {
                        return Err(format!(
                            "request {request} changed version {expected} to {version}: two won"
                        ));
                    }
                }
                Did::Read(found) if found.version > 0 => {
                    let value = self.versions.get(&(one.key, found.version));
                    if value != Some(&found.value) {
                        return Err(format!("key {}: {found:?} was read, which never was", one.key));
                    }
                }
                Did::Read(_) => {}
            }
        }
        for read in told {
            let Did::Read(found) = read.what else { continue };
            let before = told
                .iter()
                .filter(|other| other.key == read.key && other.answered < read.called);
            let least = before.map(|other| match &other.what {
                Did::Changed(_, _, Outcome::Stored { version } | Outcome::Mismatch { version }) => *version,
                Did::Read(held) => held.version,
            });
            let least = least.max().unwrap_or(0);
            if found.version < least {
                let (key, version, called) = (read.key, found.version, read.called);
                return Err(format!(
                    "key {key}: version {version} was read from {called} ms, {least} was known before"
                ));
            }
        }
        Ok(())
    }
}
