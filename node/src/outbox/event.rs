//! Events as the log keeps them and as subscribers see them: CloudEvents 1.0, JSON, structured.
//!
//! An event names what it is about and nothing of it: a mailbox, a message, an NHS number with its version. Events of a
//! restricted patient look like anybody's, so that a queue is no list of restricted people; whoever wants to know more
//! reads the record, as a caller who is judged and audited.

use crate::base::{LogIndex, NhsNumber, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Where a row stands in the outbox: the command that made it, and its place among what that command made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Log index of the command.
    pub index: LogIndex,
    /// From 0.
    pub ordinal: u32,
}

impl Position {
    /// Key of the row: both numbers big-endian, 12 bytes.
    pub fn key(self) -> [u8; 12] {
        let mut key = [0; 12];
        key[..8].copy_from_slice(&self.index.to_be_bytes());
        key[8..].copy_from_slice(&self.ordinal.to_be_bytes());
        key
    }

    /// From such a key.
    pub fn of_key(key: &[u8]) -> Position {
        let (index, ordinal) = key.split_at(8);
        Position {
            index: LogIndex::from_be_bytes(index.try_into().expect("an outbox key has twelve bytes")),
            ordinal: u32::from_be_bytes(ordinal.try_into().expect("an outbox key has twelve bytes")),
        }
    }

    /// As text, sixteen and eight hexadecimal digits: sorts as positions do. Also how operators name a parked event.
    pub fn text(self) -> String {
        format!("{:016x}-{:08x}", self.index, self.ordinal)
    }

    /// From such text.
    pub fn parse(text: &str) -> Option<Position> {
        let (index, ordinal) = text.split_once('-')?;
        let digits = |text: &str, n: usize| text.len() == n && text.bytes().all(|b| b.is_ascii_hexdigit());
        (digits(index, 16) && digits(ordinal, 8)).then_some(())?;
        Some(Position {
            index: u64::from_str_radix(index, 16).ok()?,
            ordinal: u32::from_str_radix(ordinal, 16).ok()?,
        })
    }
}

/// What happened. Identifiers only; variants are only ever added at the end. Its `Debug` names no patient.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A message or report came into a mailbox.
    MessageArrived {
        /// The recipient.
        mailbox: String,
        /// The message.
        message: String,
    },
    /// Its recipient acknowledged it.
    MessageAcknowledged {
        /// The recipient.
        mailbox: String,
        /// The message.
        message: String,
    },
    /// Nobody collected it in time: it left the mailbox.
    MessageExpired {
        /// The recipient.
        mailbox: String,
        /// The message.
        message: String,
    },
    /// A patient's record was created or changed, in whatever way.
    PatientChanged {
        /// Whose.
        number: NhsNumber,
        /// The version it has since.
        version: u32,
    },
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind())
    }
}

/// `source` of events about messages.
const SOURCE_MESSAGES: &str = "/messageexchange";
/// `source` of events about patients.
const SOURCE_PATIENTS: &str = "/personal-demographics/FHIR/R4";
/// `source` of events about events.
const SOURCE_EVENTS: &str = "/events";
/// Routing key of resync events; every queue is bound by it.
pub const RESYNC_KEY: &str = "resync";
/// `type` of resync events.
pub const RESYNC_KIND: &str = "events-resync-1";

impl Event {
    /// CloudEvents `type`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Event::MessageArrived { .. } => "mesh-message-arrived-1",
            Event::MessageAcknowledged { .. } => "mesh-message-acknowledged-1",
            Event::MessageExpired { .. } => "mesh-message-expired-1",
            Event::PatientChanged { .. } => "pds-record-change-1",
        }
    }

    /// What its order is kept by, `partitionkey`: the mailbox or the NHS number.
    pub fn key(&self) -> String {
        match self {
            Event::MessageArrived { mailbox, .. }
            | Event::MessageAcknowledged { mailbox, .. }
            | Event::MessageExpired { mailbox, .. } => mailbox.clone(),
            Event::PatientChanged { number, .. } => number.to_string(),
        }
    }

    /// Routing key in the topic exchange. An NHS number is not in it: brokers show and log routing keys.
    pub fn routing_key(&self) -> String {
        match self {
            Event::MessageArrived { mailbox, .. } => format!("message.arrived.{mailbox}"),
            Event::MessageAcknowledged { mailbox, .. } => format!("message.acknowledged.{mailbox}"),
            Event::MessageExpired { mailbox, .. } => format!("message.expired.{mailbox}"),
            Event::PatientChanged { .. } => "patient.changed".to_owned(),
        }
    }

    fn source(&self) -> &'static str {
        match self {
            Event::MessageArrived { .. } | Event::MessageAcknowledged { .. } | Event::MessageExpired { .. } => {
                SOURCE_MESSAGES
            }
            Event::PatientChanged { .. } => SOURCE_PATIENTS,
        }
    }
}

/// The JSON of an event, its members in the order of their names.
#[derive(Serialize)]
struct Body<'a> {
    data: Data<'a>,
    datacontenttype: &'static str,
    id: &'a str,
    partitionkey: &'a str,
    sequence: String,
    source: &'static str,
    specversion: &'static str,
    subject: &'a str,
    time: String,
    r#type: &'static str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Message { mailbox: &'a str, message: &'a str },
    Patient { nhs_number: &'a str, version: u32 },
}

/// An event as it leaves.
#[derive(Clone, PartialEq, Eq)]
pub struct Published {
    /// CloudEvents `id`, the AMQP message's identifier too.
    pub id: String,
    /// CloudEvents `type`.
    pub kind: &'static str,
    /// Routing key.
    pub routing_key: String,
    /// When it happened, in log time.
    pub at: Timestamp,
    /// The JSON.
    pub body: Vec<u8>,
}

/// The identifier of the event that was made at `origin` and log time `at`. With its time, because a cluster that was
/// restored or went alone gives indexes of its past again.
pub fn id(origin: Position, at: Timestamp) -> String {
    format!("{}-{:012x}", origin.text(), at.ms())
}

/// The event made at `origin` as it leaves.
pub fn published(origin: Position, at: Timestamp, event: &Event) -> Published {
    let (key, id) = (event.key(), id(origin, at));
    let (subject, data) = match event {
        Event::MessageArrived { mailbox, message }
        | Event::MessageAcknowledged { mailbox, message }
        | Event::MessageExpired { mailbox, message } => (message, Data::Message { mailbox, message }),
        Event::PatientChanged { version, .. } => {
            let (nhs_number, version) = (key.as_str(), *version);
            (&key, Data::Patient { nhs_number, version })
        }
    };
    let body = Body {
        data,
        datacontenttype: "application/json",
        id: &id,
        partitionkey: &key,
        sequence: origin.text(),
        source: event.source(),
        specversion: "1.0",
        subject,
        time: at.iso(),
        r#type: event.kind(),
    };
    let body = serde_json::to_vec(&body).expect("texts and numbers have a JSON form");
    Published {
        id,
        kind: event.kind(),
        routing_key: event.routing_key(),
        at,
        body,
    }
}

/// Why events are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GapCause {
    /// Events were switched on: what happened before was never one.
    SwitchedOn,
    /// The outbox was at its bound.
    OutboxFull,
}

impl GapCause {
    /// As subscribers and operators see it.
    pub const fn text(self) -> &'static str {
        match self {
            GapCause::SwitchedOn => "switched-on",
            GapCause::OutboxFull => "outbox-full",
        }
    }
}

/// Events that will never be published; one at most at a time, before every row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Why.
    pub cause: GapCause,
    /// How many; 0 when they were never written.
    pub events: u64,
    /// The first of them.
    pub first: Position,
    /// When it happened.
    pub first_at: Timestamp,
    /// The last of them.
    pub last: Position,
    /// When it happened.
    pub last_at: Timestamp,
}

/// The event that stands for a gap: subscribers read again what they keep.
pub fn resync(gap: &Gap) -> Published {
    let id = format!("{}-resync", id(gap.last, gap.last_at));
    let body = json!({
        "specversion": "1.0",
        "id": id,
        "source": SOURCE_EVENTS,
        "type": RESYNC_KIND,
        "time": gap.last_at.iso(),
        "datacontenttype": "application/json",
        "sequence": gap.last.text(),
        "data": {
            "cause": gap.cause.text(),
            "events_missing": gap.events,
            "first_at": gap.first_at.iso(),
            "last_at": gap.last_at.iso(),
        },
    });
    Published {
        id,
        kind: RESYNC_KIND,
        routing_key: RESYNC_KEY.to_owned(),
        at: gap.last_at,
        body: serde_json::to_vec(&body).expect("a value has a JSON form"),
    }
}
