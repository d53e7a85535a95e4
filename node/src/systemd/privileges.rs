//! What the process gives up for good.

use caps::CapSet;

/// Why a right could not be given up. The node refuses to serve with rights it did not mean to have.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// A capability set stayed.
    #[error("capabilities could not be dropped ({set:?}): {cause}")]
    Capabilities {
        /// Which set.
        set: CapSet,
        /// Why.
        cause: caps::errors::CapsError,
    },
    /// `PR_SET_NO_NEW_PRIVS` or `PR_SET_DUMPABLE` was refused.
    #[error("{what}: {cause}")]
    Process {
        /// Which of them.
        what: &'static str,
        /// Why.
        cause: nix::Error,
    },
}

/// Gives up every capability, the right to gain new ones, and being dumped or traced by the same user. Linux keeps
/// these by thread and hands them to threads made later: call it on the first thread, after sockets are bound and locked
/// memory is registered or its limit raised, before any other thread starts.
pub fn drop_privileges() -> Result<(), PrivilegeError> {
    let process = |what| move |cause| PrivilegeError::Process { what, cause };
    nix::sys::prctl::set_no_new_privs().map_err(process("no_new_privs"))?;
    nix::sys::prctl::set_dumpable(false).map_err(process("dumpable"))?;
    // The bounding set takes CAP_SETPCAP, so it goes while that is there; without it there is nothing to lose:
    // no_new_privs already keeps the bounding set from giving anything.
    let may_bound = caps::has_cap(None, CapSet::Effective, caps::Capability::CAP_SETPCAP).unwrap_or(false);
    let sets = [
        CapSet::Bounding,
        CapSet::Ambient,
        CapSet::Inheritable,
        CapSet::Effective,
        CapSet::Permitted,
    ];
    for set in sets {
        if matches!(set, CapSet::Bounding) && !may_bound {
            continue;
        }
        // Where a unit leaves nothing to give up, its filter may refuse the call as well.
        if !matches!(set, CapSet::Bounding) && caps::read(None, set).is_ok_and(|held| held.is_empty()) {
            continue;
        }
        caps::clear(None, set).map_err(|cause| PrivilegeError::Capabilities { set, cause })?;
    }
    Ok(())
}
