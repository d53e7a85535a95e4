//! What the operating system says of this process.

use std::fs;

/// Memory and descriptors; 0 where `/proc` does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Resident memory, bytes.
    pub resident_bytes: u64,
    /// The part of it that is not files, bytes.
    pub anonymous_bytes: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// How many may be open (the soft limit).
    pub descriptors_max: u64,
}

/// Reads `/proc/self`; blocking, some tens of microseconds (more with many descriptors).
pub fn process() -> Process {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let (descriptors_max, _) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap_or((0, 0));
    Process {
        resident_bytes: kilobytes(&status, "VmRSS:") * 1024,
        anonymous_bytes: kilobytes(&status, "RssAnon:") * 1024,
        descriptors: fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1) as u64),
        descriptors_max,
    }
}

fn kilobytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next())
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}
