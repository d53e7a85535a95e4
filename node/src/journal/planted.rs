//! Bugs planted on purpose: a checker that cannot fail proves nothing. A test switches one on for its own thread and
//! shows that the simulation finds it. Outside test builds the answer is a constant.

/// A bug that the simulation must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Says that records are durable when their write was started.
    AcknowledgeBeforeSync,
    /// Takes a failed write or fsync for a good one.
    IgnoreFailedSync,
    /// Takes a batch whose checksum does not match.
    SkipBatchChecksum,
    /// Serves a record whose checksum does not match.
    SkipRecordChecksum,
    /// Takes a batch that names another segment or offset than its own.
    IgnorePlace,
    /// Cuts off what is damaged below a known-durable point as if it were a torn tail.
    CorruptionIsATornTail,
    /// Takes a batch that does not follow from the one before.
    IgnoreChain,
    /// Calls the tail durable because it can be read.
    TailNotRewritten,
    /// Takes a lost segment for a removed one.
    LostIsRemoved,
    /// Leaves the carried records behind in the old segment.
    ForgetCarried,
}

#[cfg(test)]
thread_local! {
    pub(crate) static ACTIVE: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
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
