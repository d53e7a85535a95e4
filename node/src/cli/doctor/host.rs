//! The host: kernel, rings, limits, clock, entropy; and the file system under the data folder.

use super::Line;
use crate::admin::status::bytes_text;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statfs;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;

/// Everything that does not depend on configuration.
pub(super) fn lines() -> Vec<Line> {
    let read = |path: &str| {
        fs::read_to_string(path)
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    };
    vec![
        kernel(&read("/proc/sys/kernel/osrelease")),
        io_uring(&read("/proc/sys/kernel/io_uring_disabled")),
        memory_lock(),
        descriptors(),
        clock(),
        entropy(&read("/proc/sys/kernel/random/entropy_avail")),
    ]
}

/// Oldest kernel that has everything the rings use: multishot receive and provided buffer rings.
const KERNEL_MIN: (u32, u32) = (6, 1);

pub(super) fn kernel(release: &str) -> Line {
    let mut numbers = release.split(['.', '-', '+']).map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) >= KERNEL_MIN => Line::ok("kernel", release),
        (Some(_), Some(_)) => Line::fail("kernel", release, "boot Linux 6.1 or later: the node's rings need it"),
        _ => Line::warn(
            "kernel",
            format!("unknown release {release:?}"),
            "make sure that it is Linux 6.1 or later",
        ),
    }
}

pub(super) fn io_uring(disabled: &str) -> Line {
    match (disabled, io_uring::IoUring::new(8)) {
        (_, Ok(_)) => Line::ok("io_uring", "a ring can be made"),
        ("1" | "2", Err(cause)) => Line::fail(
            "io_uring",
            format!("switched off (kernel.io_uring_disabled = {disabled}): {cause}"),
            "sysctl -w kernel.io_uring_disabled=0, and keep it in /etc/sysctl.d",
        ),
        (_, Err(cause)) => Line::fail(
            "io_uring",
            format!("a ring cannot be made: {cause}"),
            "allow io_uring_setup, io_uring_enter and io_uring_register in the container's or unit's system call filter",
        ),
    }
}

fn limit(resource: Resource) -> u64 {
    getrlimit(resource).map_or(0, |(soft, _)| soft)
}

/// What the registered buffers of journal and sockets take on a node of ordinary size.
const MEMORY_LOCK_BYTES: u64 = 64 * 1024 * 1024;
/// Default of `http.connections_max`, files and rings.
const DESCRIPTORS: u64 = 32 * 1024;

fn memory_lock() -> Line {
    let bytes = limit(Resource::RLIMIT_MEMLOCK);
    let shown = if bytes == u64::MAX {
        "unlimited".to_owned()
    } else {
        bytes_text(bytes)
    };
    if bytes >= MEMORY_LOCK_BYTES {
        return Line::ok("locked memory", shown);
    }
    Line::warn(
        "locked memory",
        shown,
        "set LimitMEMLOCK=64M or more in the unit (this shell: ulimit -l): registered buffers need it",
    )
}

fn descriptors() -> Line {
    let count = limit(Resource::RLIMIT_NOFILE);
    if count >= DESCRIPTORS {
        return Line::ok("descriptors", count.to_string());
    }
    Line::warn(
        "descriptors",
        count.to_string(),
        format!("set LimitNOFILE={DESCRIPTORS} or more in the unit (this shell: ulimit -n)"),
    )
}

/// Who knows whether the clock is right: timesyncd's mark, then timedatectl (chrony and ntpd through the kernel).
fn clock() -> Line {
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return Line::ok("clock", "synchronised by systemd-timesyncd");
    }
    let asked = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .output();
    let said = asked
        .map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned())
        .unwrap_or_default();
    let advice = "run chrony or systemd-timesyncd: tokens are judged by the clock, and a jump stops writes";
    match said.as_str() {
        "yes" => Line::ok("clock", "synchronised"),
        "no" => Line::fail("clock", "not synchronised", advice),
        _ => Line::warn("clock", "nobody here knows whether it is synchronised", advice),
    }
}

pub(super) fn entropy(available: &str) -> Line {
    match available.parse::<u32>() {
        Ok(bits) if bits >= 256 => Line::ok("entropy", format!("{bits} bits")),
        Ok(bits) => Line::warn(
            "entropy",
            format!("{bits} bits"),
            "give the machine a hardware or virtio random source",
        ),
        Err(_) => Line::warn("entropy", "unknown", "make sure that /proc is mounted"),
    }
}

/// The name of a file system and whether the journal's promises hold on it.
fn file_system(kind: statfs::FsType) -> (&'static str, bool) {
    match kind {
        statfs::EXT4_SUPER_MAGIC => ("ext4", true),
        statfs::XFS_SUPER_MAGIC => ("xfs", true),
        statfs::BTRFS_SUPER_MAGIC => ("btrfs", false),
        statfs::TMPFS_MAGIC => ("tmpfs", false),
        statfs::OVERLAYFS_SUPER_MAGIC => ("overlayfs", false),
        statfs::NFS_SUPER_MAGIC => ("nfs", false),
        _ => ("of a kind we have not measured", false),
    }
}

/// The data folder's file system: its kind, its space, and whether direct writes work there.
pub(super) fn storage(folder: &Path, reserve_bytes: u64) -> Vec<Line> {
    // The folder may not be made yet: its parent's file system is the one it will be on.
    let Some(there) = folder.ancestors().find(|path| path.is_dir()) else {
        return vec![Line::fail(
            "data folder",
            format!("{} and its parents are not there", folder.display()),
            "make it",
        )];
    };
    let mut lines = Vec::new();
    match statfs::statfs(there) {
        Ok(s) => {
            let (name, measured) = file_system(s.filesystem_type());
            lines.push(match measured {
                true => Line::ok("file system", name),
                false => Line::warn("file system", name, "use ext4 or xfs on a local disk for real data"),
            });
            let free = s.blocks_available() * s.block_size() as u64;
            lines.push(space(free, reserve_bytes));
        }
        Err(cause) => lines.push(Line::fail(
            "file system",
            format!("{}: {cause}", there.display()),
            "look at the mount",
        )),
    }
    lines.push(match direct_write(there) {
        Ok(()) => Line::ok("direct writes", format!("work in {}", there.display())),
        Err(cause) if cause.kind() == std::io::ErrorKind::PermissionDenied => Line::warn(
            "direct writes",
            format!("could not be tried: this user may not write to {}", there.display()),
            "run doctor as the node's user",
        ),
        Err(cause) => Line::fail(
            "direct writes",
            format!("{}: {cause}", there.display()),
            "put node.data on a local file system with O_DIRECT: the journal writes around the page cache",
        ),
    });
    lines
}

pub(super) fn space(free: u64, reserve_bytes: u64) -> Line {
    let found = format!(
        "{} free, writes stop at {}",
        bytes_text(free),
        bytes_text(reserve_bytes)
    );
    if free <= reserve_bytes {
        return Line::fail(
            "disk space",
            found,
            "free space or give node.data a larger disk; writes resume by themselves",
        );
    }
    if free < reserve_bytes.saturating_mul(4) {
        return Line::warn("disk space", found, "plan for more space");
    }
    Line::ok("disk space", found)
}

/// A block as direct I/O wants it.
#[repr(align(4096))]
struct Block([u8; 4096]);

pub(super) fn direct_write(folder: &Path) -> std::io::Result<()> {
    let file = folder.join(format!(".vertebra-doctor-{}", std::process::id()));
    let block = Box::new(Block([0; 4096]));
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .custom_flags(libc::O_DIRECT)
        .open(&file)
        .and_then(|mut out| out.write_all(&block.0).and_then(|()| out.sync_data()));
    let _ = fs::remove_file(&file);
    written
}
