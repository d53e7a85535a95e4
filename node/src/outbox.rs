//! Events that leave: what apply wrote into the outbox goes to RabbitMQ, at least once and in order for each key.
//!
//! Owns: the events and their rows in the ledger ([`state`]), what they look like outside ([`event`]), the commands that
//! switch them, confirm them and park them ([`command`]), and the publisher of the node that leads. Must never know: a
//! message's content, a person's data, a client. An event carries identifiers alone.
//!
//! ```text
//!  apply ──▶ row (log index, ordinal) ──▶ publisher ──▶ exchange ──▶ quorum queues ──▶ subscribers
//!               ▲                            │ confirms
//!               └── deleted up to ◀── logged watermark, one for many
//! ```
//!
//! Invariants:
//! - An event has one identifier for ever, made of its log index, ordinal and time: whoever sees it twice can tell.
//! - Rows leave by a logged command alone, so every node holds the same outbox and any of them can go on publishing.
//! - What waits is bounded by numbers that are in the log: at the bound the oldest rows become one gap, and the gap one
//!   resync event that is published in their place.
//! - Nothing here holds up apply, a client, or a stop.
//!
//! `FORMAT.md` in the folder lists tables, keys, values and commands byte for byte.

mod broker;
pub mod command;
pub mod event;
mod publisher;
pub mod state;
#[cfg(test)]
mod tests;
mod tls;

pub use publisher::{Broker, Figures, Phase, Publisher, Stop};
