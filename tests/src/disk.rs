//! Disks of our own: loop-mounted ext4 whose power can be cut, or that is small enough to fill; and bits that turn over.

use rand::Rng;
use rand::seq::IndexedRandom;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// A mounted image.
pub struct Disk {
    image: PathBuf,
    mount: PathBuf,
    mounted: bool,
}

/// Whether this machine can mount images; the reason when not.
pub fn loop_devices() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("mounting needs root".into());
    }
    let found = Command::new("losetup")
        .arg("-f")
        .output()
        .map_err(|error| format!("losetup: {error}"))?;
    match found.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&found.stderr).into_owned()),
    }
}

/// Says loudly that a test was left out, and fails unless `VERTEBRA_ALLOW_NO_LOOP=1`. `true`: go on.
pub fn loop_devices_or_left_out(test: &str) -> bool {
    let Err(reason) = loop_devices() else { return true };
    println!("LEFT OUT: {test}: no loop devices here: {reason}");
    let allowed = std::env::var("VERTEBRA_ALLOW_NO_LOOP").is_ok_and(|value| value == "1");
    assert!(
        allowed,
        "{test} cannot run here ({reason}); VERTEBRA_ALLOW_NO_LOOP=1 leaves it out"
    );
    false
}

/// Bytes of a block of the journal, and how many of these at a segment's end are left as they are: of the very last ones
/// nothing says yet that they were durable.
const BLOCK_BYTES: usize = 4096;
const LAST_BLOCKS: usize = 16;

/// Turns over one bit in each of so many written blocks of the segments in `journal`, also while a node runs on them. Says
/// where.
pub fn flip_bits(journal: &Path, count: usize, random: &mut impl Rng) -> Vec<String> {
    let mut written: Vec<(PathBuf, usize, Vec<u8>)> = Vec::new();
    for stream in ["log", "bodies", "audit"] {
        let segments = std::fs::read_dir(journal.join(stream)).expect("the journal can be read");
        for segment in segments.flatten().map(|entry| entry.path()) {
            if segment.extension().is_none_or(|ending| ending != "seg") {
                continue;
            }
            // One that is removed at this moment is left alone.
            let bytes = std::fs::read(&segment).unwrap_or_default();
            let blocks = bytes.chunks(BLOCK_BYTES).enumerate();
            let mut own: Vec<_> = blocks
                .filter(|(_, block)| block.iter().any(|byte| *byte != 0))
                .map(|(at, block)| (segment.clone(), at * BLOCK_BYTES, block.to_vec()))
                .collect();
            own.truncate(own.len().saturating_sub(LAST_BLOCKS));
            written.append(&mut own);
        }
    }
    let chosen: Vec<_> = written.choose_multiple(random, count).cloned().collect();
    let flip = |(segment, offset, block): &(PathBuf, usize, Vec<u8>)| {
        let some: Vec<usize> = (0..block.len()).filter(|&at| block[at] != 0).collect();
        let at = *some.choose(random).expect("the block is written");
        let byte = block[at] ^ (1 << random.random_range(0..8));
        let file = std::fs::File::options().write(true).open(segment);
        let flipped = file.and_then(|file| file.write_all_at(&[byte], (offset + at) as u64));
        flipped.expect("a segment can be written");
        let name = segment.strip_prefix(journal).expect("it lies in the journal").display();
        format!("{name} at {}", offset + at)
    };
    chosen.iter().map(flip).collect()
}

fn must(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Disk {
    /// Makes an ext4 image of so many MiB at `image` and mounts it at `mount`.
    pub fn new(image: &Path, mount: &Path, mib: u64) -> Disk {
        must(Command::new("truncate").arg("-s").arg(format!("{mib}M")).arg(image));
        must(
            Command::new("mkfs.ext4")
                .args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
                .arg(image),
        );
        let mut disk = Disk {
            image: image.to_owned(),
            mount: mount.to_owned(),
            mounted: false,
        };
        disk.mount();
        disk
    }

    fn mount(&mut self) {
        std::fs::create_dir_all(&self.mount).expect("the mount point can be made");
        must(
            Command::new("mount")
                .args(["-o", "loop"])
                .arg(&self.image)
                .arg(&self.mount),
        );
        self.mounted = true;
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Cuts the power: from now on nothing more reaches the image, not even the filesystem's own journal.
    pub fn cut_power(&self) {
        // EXT4_IOC_SHUTDOWN with NOLOGFLUSH; Python calls the ioctl, so that no `unsafe` is needed here.
        let script = "import fcntl,os,struct,sys; fd=os.open(sys.argv[1],os.O_RDONLY); \
                      fcntl.ioctl(fd,0x8004587d,struct.pack('I',2))";
        must(Command::new("python3").args(["-c", script]).arg(&self.mount));
    }

    /// A copy of the image as the cut left it, mounted at `mount`; this one is unmounted.
    pub fn copy_after_cut(mut self, image: &Path, mount: &Path) -> Disk {
        must(Command::new("cp").arg("--sparse=always").arg(&self.image).arg(image));
        self.unmount();
        let mut copy = Disk {
            image: image.to_owned(),
            mount: mount.to_owned(),
            mounted: false,
        };
        copy.mount();
        copy
    }

    /// Takes all room but so many MiB, as somebody else would who shares the disk; see [`Disk::free`].
    pub fn fill(&self, left_mib: u64) {
        let free = nix::sys::statvfs::statvfs(&self.mount).expect("a mounted disk tells its room");
        let free_mib = free.blocks_available() as u64 * free.fragment_size() as u64 / (1024 * 1024);
        let size = format!("{}M", free_mib.saturating_sub(left_mib));
        must(Command::new("fallocate").args(["-l", &size]).arg(self.filler()));
    }

    /// Gives the room back, for good: a power cut right after does not undo it.
    pub fn free(&self) {
        std::fs::remove_file(self.filler()).expect("the disk was filled");
        must(Command::new("sync").arg("-f").arg(&self.mount));
    }

    fn filler(&self) -> PathBuf {
        self.mount.join("filler")
    }

    fn unmount(&mut self) {
        if std::mem::take(&mut self.mounted) {
            // Lazily: a process that just got its SIGKILL may still hold it for a moment.
            let _ = Command::new("umount").arg("-l").arg(&self.mount).output();
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.unmount();
        let _ = std::fs::remove_file(&self.image);
    }
}

/// Writes that show that a disk is slow.
const PROBES: u32 = 10;
/// Puts process `$1` back into group `$2` and removes group `$3` once its input ends.
const RESTORE: &str = "read _; echo \"$1\" >\"$2/cgroup.procs\"; rmdir \"$3\"";
/// Joins group `$1` and writes `$3` blocks to file `$2`, each durable before the next.
const PROBE: &str =
    "echo $$ >\"$1/cgroup.procs\"; exec dd if=/dev/zero of=\"$2\" bs=4k count=\"$3\" oflag=direct,dsync status=none";

/// A process whose writes to one disk are slow, until this is dropped: a control group of its own with a limit.
pub struct SlowWrites {
    group: PathBuf,
    /// Takes it out again, also when the test is killed.
    guard: Child,
}

impl SlowWrites {
    /// Lets process `pid` make at most so many writes a second to the disk that `folder` is on.
    ///
    /// # Errors
    /// Why nothing is slow now: no control groups that limit writes, or the limit has no effect.
    pub fn of(pid: u32, folder: &Path, writes_per_s: u32) -> Result<SlowWrites, String> {
        let failed = |error: std::io::Error| format!("control groups: {error}");
        let device = std::fs::metadata(folder).map_err(failed)?.dev();
        let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
        let (first, second) = (Path::new("/sys/fs/cgroup/blkio"), Path::new("/sys/fs/cgroup"));
        let (root, file, limit) = if first.join("blkio.throttle.write_iops_device").exists() {
            (first, "blkio.throttle.write_iops_device", writes_per_s.to_string())
        } else if second.join("cgroup.subtree_control").exists() {
            std::fs::write(second.join("cgroup.subtree_control"), "+io").map_err(failed)?;
            (second, "io.max", format!("wiops={writes_per_s}"))
        } else {
            return Err("there are no control groups that limit writes".to_owned());
        };
        let group = root.join(format!("vertebra-slow-{pid}"));
        std::fs::create_dir_all(&group).map_err(failed)?;
        let guard = Command::new("sh")
            .args(["-c", RESTORE, "guard", &pid.to_string()])
            .arg(root)
            .arg(&group)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let slow = SlowWrites {
            group,
            guard: guard.map_err(failed)?,
        };
        std::fs::write(slow.group.join(file), format!("{major}:{minor} {limit}")).map_err(failed)?;
        let took = slow.probe(&folder.join("probe"))?;
        // The first few may go at once.
        if took < f64::from(PROBES / 2) / f64::from(writes_per_s) {
            return Err(format!("{PROBES} writes in the limited group took {took:.3} s"));
        }
        std::fs::write(slow.group.join("cgroup.procs"), pid.to_string()).map_err(failed)?;
        Ok(slow)
    }

    /// Seconds that a few durable writes take in the group.
    fn probe(&self, file: &Path) -> Result<f64, String> {
        let began = Instant::now();
        let mut writes = Command::new("sh");
        writes.args(["-c", PROBE, "probe"]).arg(&self.group).arg(file);
        let output = writes.arg(PROBES.to_string()).output();
        let took = began.elapsed().as_secs_f64();
        let _ = std::fs::remove_file(file);
        match output {
            Ok(output) if output.status.success() => Ok(took),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Drop for SlowWrites {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}
