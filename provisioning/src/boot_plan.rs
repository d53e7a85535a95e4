//! Which release a machine's next boot gets: the wanted one, or after too many boots without a check-in the one before.
//! A pure function of what is kept, so that `render`, `serve` and the status page agree.

use crate::config::Fallback;
use crate::inventory::Machine;
use crate::machine::MachineState;
use crate::names::{Moment, ReleaseId};
use crate::releases::Releases;

/// What the next boot gets, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootPlan {
    /// The release that the operator wants.
    pub wanted: Option<ReleaseId>,
    /// The release that is served.
    pub served: Option<ReleaseId>,
    /// Boots of the wanted one without a check-in.
    pub attempts: u32,
    /// Set when too many boots failed: a sentence.
    pub fallback: Option<String>,
}

/// The plan for one machine.
pub fn plan(machine: &Machine, state: &MachineState, releases: &Releases, rule: &Fallback, now: Moment) -> BootPlan {
    let (wanted, previous) = releases.wanted(machine);
    let Some(wanted) = wanted else {
        return BootPlan {
            wanted: None,
            served: None,
            attempts: 0,
            fallback: None,
        };
    };
    let attempts = state.attempts.as_ref().filter(|attempts| attempts.release == *wanted);
    let count = attempts.map_or(0, |attempts| attempts.count);
    // The files of a boot that has begun stay what they are until it must have fetched them.
    let settled = attempts.is_some_and(|attempts| now >= attempts.last.saturating_add(rule.settle_seconds));
    let mut plan = BootPlan {
        wanted: Some(wanted.clone()),
        served: Some(wanted.clone()),
        attempts: count,
        fallback: None,
    };
    if count < rule.boots || !settled {
        return plan;
    }
    let fits = |release: &&ReleaseId| {
        let stored = releases.bootable(release);
        *release != wanted && stored.is_ok_and(|stored| stored.manifest.flavour == machine.flavour)
    };
    // What this machine itself was healthy with comes first, then what its site had before.
    let healthy = [state.healthy_release.as_ref(), state.healthy_before.as_ref()];
    match healthy.into_iter().chain([previous]).flatten().find(fits) {
        Some(earlier) => {
            plan.served = Some(earlier.clone());
            plan.fallback = Some(format!(
                "{count} boots of {wanted} without a check-in; it gets {earlier}"
            ));
        }
        None => {
            plan.fallback = Some(format!(
                "{count} boots of {wanted} without a check-in; there is no earlier release to go back to"
            ))
        }
    }
    plan
}
