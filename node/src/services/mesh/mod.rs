//! MESH, the Message Exchange for Social Care and Health: mailboxes that send and collect files.
//!
//! `command` is what travels in the log, `state` judges it and answers queries, `api` is what clients see.
//! `FORMAT.md` beside this file lists every table, key, value and command byte for byte.

pub mod api;
pub mod command;
pub mod state;

use serde::{Deserialize, Serialize};
use std::fmt;

/// A mailbox: 1 to 100 upper-case letters, digits, `_` and `-`; a client's lower case is raised.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct MailboxId(String);

impl MailboxId {
    /// Parses; `None` when empty, longer than 100 or with other characters.
    pub fn parse(text: &str) -> Option<MailboxId> {
        MailboxId::fits(text).then(|| MailboxId(text.to_ascii_uppercase()))
    }

    fn fits(text: &str) -> bool {
        (1..=100).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MailboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MailboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A message: `20210311101813838554_1B8F53`, 20 digits of UTC time to the microsecond, `_`, six hexadecimal digits.
/// Made by `apply` from log time and log index, so that it is unique and sorts by arrival of the first chunk.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct MessageId(String);

/// Bytes of a message identifier as text.
pub const MESSAGE_ID_BYTES: usize = 27;

/// Digits of a message identifier that tell its time to the millisecond.
pub const MESSAGE_ID_TIME_DIGITS: usize = 17;

/// Text that is no identifier of the wanted kind; decoding refuses it, so that no such key ever reaches the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier")]
pub struct NotAnIdentifier;

impl TryFrom<String> for MailboxId {
    type Error = NotAnIdentifier;

    fn try_from(mut text: String) -> Result<MailboxId, NotAnIdentifier> {
        text.make_ascii_uppercase();
        MailboxId::fits(&text).then_some(MailboxId(text)).ok_or(NotAnIdentifier)
    }
}

impl TryFrom<String> for MessageId {
    type Error = NotAnIdentifier;

    fn try_from(mut text: String) -> Result<MessageId, NotAnIdentifier> {
        text.make_ascii_uppercase();
        MessageId::fits(&text).then_some(MessageId(text)).ok_or(NotAnIdentifier)
    }
}

impl MessageId {
    /// Parses what a client sent; `None` when it cannot be one of ours.
    pub fn parse(text: &str) -> Option<MessageId> {
        MessageId::fits(text).then(|| MessageId(text.to_ascii_uppercase()))
    }

    fn fits(text: &str) -> bool {
        let bytes = text.as_bytes();
        bytes.len() == MESSAGE_ID_BYTES
            && bytes[..20].iter().all(u8::is_ascii_digit)
            && bytes[20] == b'_'
            && bytes[21..].iter().all(u8::is_ascii_hexdigit)
    }

    /// The identifier of the message whose first command stands at `index` with log time `at`.
    pub fn new(at: crate::base::Timestamp, index: u64) -> MessageId {
        let time = MessageId::time_digits(at);
        MessageId(format!("{time}{:03}_{:06X}", index % 1000, (index / 1000) & 0xFF_FFFF))
    }

    /// The identifier of the non-delivery report that log time `at` makes about `of`.
    ///
    /// One sweep makes many reports at one log index, so a report takes the digits that tell the index from the
    /// message it is about. They repeat after 16 thousand million commands only, far more than five days hold, so no
    /// message of the same millisecond has them.
    pub fn of_report(at: crate::base::Timestamp, of: &MessageId) -> MessageId {
        let index_digits = &of.0[MESSAGE_ID_TIME_DIGITS..];
        MessageId(format!("{}{index_digits}", MessageId::time_digits(at)))
    }

    /// The first [`MESSAGE_ID_TIME_DIGITS`] characters of every identifier made at `at`; a bound for scans by time.
    pub fn time_digits(at: crate::base::Timestamp) -> String {
        at.calendar().strftime("%Y%m%d%H%M%S%3f").to_string()
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
