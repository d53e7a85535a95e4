//! Continuation tokens: where the next page of a listing starts. Opaque to clients, bound to the mailbox and the kind of
//! listing, sealed, so that a changed one or one of another mailbox is refused instead of misread.
//!
//! Base64 (URL alphabet, no padding) of: format byte, kind byte, position, seal of 12 bytes. A position is a log index of
//! 8 bytes (inbox) or a message identifier of 27 (rich listings); the text has 30 or 55 characters.

use crate::auth::nhsmesh::{SEAL_BYTES, SharedKeys};
use crate::base::LogIndex;
use crate::services::mesh::{MailboxId, MessageId};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const FORMAT: u8 = 1;

/// Which listing goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Inbox = 1,
    RichInbox = 2,
    RichOutbox = 3,
}

/// A token for the inbox of `mailbox` from after `after`.
pub(super) fn inbox(keys: &SharedKeys, mailbox: &MailboxId, after: LogIndex) -> String {
    seal(keys, mailbox, Kind::Inbox, &after.to_be_bytes())
}

/// Where an inbox goes on; `None` when the token is not one of `mailbox`'s inbox.
pub(super) fn inbox_after(keys: &SharedKeys, mailbox: &MailboxId, token: &str) -> Option<LogIndex> {
    let position = open(keys, mailbox, Kind::Inbox, token)?;
    Some(LogIndex::from_be_bytes(position.try_into().ok()?))
}

/// A token for a rich listing from after `last`.
pub(super) fn rich(keys: &SharedKeys, mailbox: &MailboxId, kind: Kind, last: &MessageId) -> String {
    seal(keys, mailbox, kind, last.as_str().as_bytes())
}

/// Where a rich listing goes on; `None` when the token is not one of this listing.
pub(super) fn rich_after(keys: &SharedKeys, mailbox: &MailboxId, kind: Kind, token: &str) -> Option<MessageId> {
    let position = open(keys, mailbox, kind, token)?;
    MessageId::parse(std::str::from_utf8(&position).ok()?)
}

fn seal(keys: &SharedKeys, mailbox: &MailboxId, kind: Kind, position: &[u8]) -> String {
    let mut bytes = vec![FORMAT, kind as u8];
    bytes.extend_from_slice(position);
    let seal = keys.seal(&bound(&bytes, mailbox));
    bytes.extend_from_slice(&seal);
    URL_SAFE_NO_PAD.encode(bytes)
}

fn open(keys: &SharedKeys, mailbox: &MailboxId, kind: Kind, token: &str) -> Option<Vec<u8>> {
    let mut bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let seal = bytes.split_off(bytes.len().checked_sub(SEAL_BYTES)?);
    let position = bytes.get(2..)?.to_vec();
    let ours = bytes[0] == FORMAT && bytes[1] == kind as u8 && keys.sealed(&bound(&bytes, mailbox), &seal);
    ours.then_some(position)
}

fn bound(bytes: &[u8], mailbox: &MailboxId) -> Vec<u8> {
    [bytes, mailbox.as_str().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(id: &str) -> MailboxId {
        MailboxId::parse(id).expect("a mailbox")
    }

    #[test]
    fn a_token_comes_back_as_its_position() {
        let keys = SharedKeys::new(b"TestKey", None);
        let token = inbox(&keys, &mailbox("X26ABC1"), 1234);
        assert!(token.len() >= 24);
        assert_eq!(inbox_after(&keys, &mailbox("X26ABC1"), &token), Some(1234));
        let last = MessageId::parse("20210311101813838554_1B8F53").expect("an identifier");
        let token = rich(&keys, &mailbox("X26ABC1"), Kind::RichInbox, &last);
        assert_eq!(
            rich_after(&keys, &mailbox("X26ABC1"), Kind::RichInbox, &token),
            Some(last)
        );
    }

    #[test]
    fn a_token_of_another_mailbox_listing_or_key_is_refused() {
        let keys = SharedKeys::new(b"TestKey", None);
        let token = inbox(&keys, &mailbox("X26ABC1"), 7);
        assert_eq!(inbox_after(&keys, &mailbox("X26ABC2"), &token), None);
        assert_eq!(
            inbox_after(&SharedKeys::new(b"other", None), &mailbox("X26ABC1"), &token),
            None
        );
        let last = MessageId::parse("20210311101813838554_1B8F53").expect("an identifier");
        let token = rich(&keys, &mailbox("X26ABC1"), Kind::RichInbox, &last);
        assert_eq!(rich_after(&keys, &mailbox("X26ABC1"), Kind::RichOutbox, &token), None);
        assert_eq!(inbox_after(&keys, &mailbox("X26ABC1"), &token), None);
    }

    #[test]
    fn every_changed_character_is_refused_and_nothing_panics() {
        let keys = SharedKeys::new(b"TestKey", None);
        let token = inbox(&keys, &mailbox("X26ABC1"), 7);
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert_eq!(inbox_after(&keys, &mailbox("X26ABC1"), &changed), None, "{at}");
        }
        for junk in [
            "",
            "A",
            "AAAA",
            "eyJwayI6ICJNQiNNU0cjTUIjMTIzNEhDMTIzNCMi",
            "%%%%%%%%%%%%%%%%%%%%%%%%",
            "é",
        ] {
            assert_eq!(inbox_after(&keys, &mailbox("X26ABC1"), junk), None, "{junk}");
        }
    }
}
