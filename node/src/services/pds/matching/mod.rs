//! Finding a patient by what is known of them (`GET /Patient`), and the patients whom a new record would double
//! (`POST /Patient`).
//!
//! `card` is what matching knows of a record and the index keys that follow from it; `normal` is the written form in
//! which names, postcodes and numbers are compared; `query` is a parsed search; `compare` judges one card by the data in
//! `rules`; `planner` finds the few cards worth judging; `creating` looks for twins.
//!
//! Owns what a match is. Must never know a clock (the day comes in when a card is made), HTTP, or a log: nothing here is
//! ever printed, every personal type has a redacting `Debug`. It runs in the proposer and in readers, never in `apply`,
//! so that a release may change its rules: keys and card travel in the command.
//!
//! Invariants, held by the tests:
//! - what [`planner::search`] gives is what comparing every card there is would give, or `TooMany`;
//! - a record that is not unrestricted has no place in any index, and changes nothing about a search that names a
//!   postcode or a practice;
//! - a card that is decoded and encoded again is the same bytes.

pub mod card;
pub mod compare;
pub mod creating;
pub mod day;
pub mod normal;
pub mod planner;
pub mod query;
pub mod rules;
#[cfg(test)]
mod tests;

pub use card::{Card, Gender};
pub use day::{Day, Days};
pub use planner::{Match, TooMany, search};
pub use query::{Invalid, Mode, PARAMETERS_MAX, Search};
pub use rules::Score;
