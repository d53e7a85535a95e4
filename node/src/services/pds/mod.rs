//! PDS, the Personal Demographics Service: who a patient is, by NHS number (FHIR R4).
//!
//! `command` is what travels in the log, `state` judges it and answers queries, `record` is how a record's JSON is kept
//! and shown, `rules` what it may say, `matching` finds a patient by what is known of them, `load` brings many. `FORMAT.md`
//! beside this file lists every table, key, value and command byte for byte.

pub mod api;
pub mod command;
pub mod load;
pub mod matching;
pub mod office;
pub mod outcome;
pub mod record;
pub mod records;
pub mod rules;
pub mod state;
pub mod synth;

use crate::base::Timestamp;
use serde::{Deserialize, Serialize};

/// The day by which dates are judged: in the United Kingdom, where the clocks are never more than an hour ahead of UTC.
pub fn today(now: Timestamp) -> jiff::civil::Date {
    let ahead = now.plus_ms(3600 * 1000).calendar();
    ahead.to_zoned(jiff::tz::TimeZone::UTC).date()
}

/// How far a record may be shown; `meta.security` of the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Security {
    /// `U`: all of it.
    Unrestricted,
    /// `R`: without what tells where the patient is; never found by postcode or practice.
    Restricted,
    /// `V`: as `R`, and never found by a search at all.
    VeryRestricted,
    /// `REDACTED`: the number is no longer valid; not shown, unless another record supersedes it.
    Redacted,
}

impl Security {
    /// The code in `meta.security`.
    pub const fn code(self) -> &'static str {
        match self {
            Security::Unrestricted => "U",
            Security::Restricted => "R",
            Security::VeryRestricted => "V",
            Security::Redacted => "REDACTED",
        }
    }

    /// From the code in `meta.security`.
    pub fn of_code(code: &str) -> Option<Security> {
        match code {
            "U" => Some(Security::Unrestricted),
            "R" => Some(Security::Restricted),
            "V" => Some(Security::VeryRestricted),
            "REDACTED" => Some(Security::Redacted),
            _ => None,
        }
    }

    /// Whether a search may find the record.
    pub const fn is_found(self) -> bool {
        matches!(self, Security::Unrestricted | Security::Restricted)
    }

    /// Whether everything of the record may be shown.
    pub const fn is_open(self) -> bool {
        matches!(self, Security::Unrestricted)
    }
}
