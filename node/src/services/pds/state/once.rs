//! At most once: the answers to writes, kept under the client's request identifier.
//!
//! One table [`ONCE_PERIOD_MS`](super::tables::ONCE_PERIOD_MS) of log time, dropped whole once none of its answers counts
//! any more. An answer counts for at least 24 hours; how much longer depends on log time alone.

use super::super::command::{Once, Outcome, Refusal};
use super::tables::{self, ONCE, ONCE_PERIODS};
use super::{Answered, query};
use crate::base::NhsNumber;
use crate::ledger::{Read, Table, Writer};
use crate::log::At;
use crate::services::values;

/// The answer to an earlier request with this identifier.
///
/// # Errors
/// [`Refusal::RequestReused`] when that one said something else.
pub(super) fn repeated(writer: &Writer<'_>, at: At, once: Option<&Once>) -> Result<Option<Outcome>, Refusal> {
    let Some(once) = once else { return Ok(None) };
    match query::answered(writer, at.time, &once.key) {
        None => Ok(None),
        Some(answered) if answered.content == once.content => Ok(Some(Outcome::Stored {
            number: answered.number,
            version: answered.version,
            at: answered.at,
            repeated: true,
        })),
        Some(_) => Err(Refusal::RequestReused),
    }
}

/// Keeps an answer; drops tables that no longer count.
pub(super) fn remember(writer: &mut Writer<'_>, at: At, once: &Once, number: NhsNumber, version: u32) {
    let period = tables::once_period(at.time);
    let counting = counting(period);
    for old in writer.periods(ONCE) {
        if old < counting {
            writer.drop_table(Table::of_period(ONCE, old));
        }
    }
    let answered = Answered {
        content: once.content,
        number,
        version,
        at: at.time,
    };
    values::put(writer, Table::of_period(ONCE, period), &once.key, &answered);
}

/// The first period that still counts in `period`.
pub(super) fn counting(period: u32) -> u32 {
    period.saturating_sub(ONCE_PERIODS - 1)
}
