//! Bugs planted on purpose: a simulation that cannot fail proves nothing. A test switches one on for its own thread and
//! shows that the simulation finds it. Outside test builds the answer is a constant.

/// A bug that the simulation must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// Lets a site hold a majority of the voters.
    SkipSiteRule,
    /// A change of the members whose leader was lost in the middle of it is taken for a whole one.
    HalfMadeIsWhole,
    /// A learner with a later entry refuses a candidate that needs its vote.
    LearnerHasASay,
    /// A leader answers a read from what it has, without asking whether it still leads.
    StaleRead,
    /// A vote is given and not written down.
    VoteNotSaved,
    /// After a restart the last entry is applied once more.
    AppliedTwice,
    /// A write that the full disk refused counts as durable.
    RefusedIsDurable,
    /// A snapshot for a peer may end before what its leader will take it to have.
    SnapshotTooEarly,
    /// The state machine does not know a request that comes again.
    #[cfg(test)]
    ReplayAccepted,
    /// A conditional change is judged by who proposes it, and not when it is applied.
    #[cfg(test)]
    JudgedByProposer,
}

#[cfg(test)]
thread_local! {
    pub(super) static ACTIVE: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Whether `bug` is switched on in this thread.
#[cfg(test)]
pub(super) fn planted(bug: Bug) -> bool {
    ACTIVE.with(|active| active.get() == Some(bug))
}

/// Never outside of tests.
#[cfg(not(test))]
pub(super) const fn planted(_bug: Bug) -> bool {
    false
}
