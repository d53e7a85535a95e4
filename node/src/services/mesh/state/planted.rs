//! Bugs that the tests plant, to show that the model test catches each. In the product every answer is `false`.

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planted {
    /// A spent token is accepted again.
    ReplayAccepted,
    /// Two sends that differ in content alone are taken for one.
    RetryIgnoresContent,
    /// A collected message keeps its body.
    AcknowledgeKeepsBody,
    /// A collected message stays in the inbox.
    AcknowledgeStaysInInbox,
    /// A replaced chunk's body is released twice.
    DoubleRelease,
    /// Nobody is told of an expired message.
    ExpiryWithoutReport,
    /// A message expires a millisecond early.
    ExpiryEarly,
    /// A purged message stays in the sender's index.
    PurgeLeavesIndex,
}

/// Whether the test in hand has planted `bug`.
#[cfg(not(test))]
pub(super) const fn planted(_bug: Planted) -> bool {
    false
}

#[cfg(test)]
thread_local! {
    static BUG: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
}

/// Whether the test in hand has planted `bug`.
#[cfg(test)]
pub(super) fn planted(bug: Planted) -> bool {
    BUG.get() == Some(bug)
}

/// Runs `test` with `bug` in place on this thread.
#[cfg(test)]
pub(super) fn with<T>(bug: Planted, test: impl FnOnce() -> T) -> T {
    BUG.set(Some(bug));
    let result = test();
    BUG.set(None);
    result
}
