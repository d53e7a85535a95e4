//! Single use of tokens on writes, judged in the log so that a replay on another node is refused too.
//!
//! One table an hour of the tokens' own timestamps, dropped whole by the sweep [`NONCE_KEPT_MS`] after its hour. A token
//! older than that is refused whether or not its table was dropped already, so that the answer never depends on when
//! the sweep came.

use super::super::command::Nonce;
use super::NONCE_KEPT_MS;
use super::planted::{Planted, planted};
use super::tables::{NONCE_PERIOD_MS, NONCES, nonce_key, period};
use super::values::{self, NOTHING};
use crate::base::Timestamp;
use crate::ledger::{Read, Table, Writer};
use crate::log::At;

/// Spends a token; `false` when it was spent before or is too old to tell.
pub(super) fn spend(writer: &mut Writer<'_>, at: At, nonce: &Nonce) -> bool {
    let period = period(nonce.stamped, NONCE_PERIOD_MS);
    if forgotten(period, at.time) {
        return false;
    }
    let table = Table::of_period(NONCES, period);
    let key = nonce_key(nonce);
    if values::exists(writer, table, &key) && !planted(Planted::ReplayAccepted) {
        return false;
    }
    writer.put(table, &key, &NOTHING);
    true
}

/// Whether a token was spent.
pub(super) fn spent(state: &impl Read, nonce: &Nonce) -> bool {
    let table = Table::of_period(NONCES, period(nonce.stamped, NONCE_PERIOD_MS));
    values::exists(state, table, &nonce_key(nonce))
}

/// Whether the tokens of an hour may be forgotten at `now`.
pub(super) fn forgotten(period: u32, now: Timestamp) -> bool {
    let end_ms = (u64::from(period) + 1) * NONCE_PERIOD_MS;
    end_ms + NONCE_KEPT_MS <= now.ms()
}
