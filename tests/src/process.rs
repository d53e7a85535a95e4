//! What the operating system says of a process, signals, and waiting with a deadline.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for an orderly end.
const STOP_WAIT_MAX: Duration = Duration::from_secs(60);

/// A child whose output goes to a file. It is killed when this is dropped, and by a guard when the test itself is killed.
pub struct Process {
    child: Child,
    guard: Child,
}

impl Process {
    /// Starts `command`; its output is added to the file `logs`.
    pub fn start(command: &mut Command, logs: &Path) -> Process {
        Process::start_with(command, Stdio::null(), logs)
    }

    /// The same with something to read.
    pub fn start_with(command: &mut Command, input: Stdio, logs: &Path) -> Process {
        let log = File::options()
            .create(true)
            .append(true)
            .open(logs)
            .expect("the log file can be written");
        let errors = log.try_clone().expect("a descriptor can be doubled");
        let child = command.stdin(input).stdout(log).stderr(errors).spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        // The guard outlives a killed test: its input then ends, and it ends the child.
        let guard = Command::new("sh")
            .args(["-c", "read _; kill -9 \"$1\"", "guard", &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts");
        Process { child, guard }
    }

    /// Its identifier.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its end, when it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// kill -9, and waits for the end.
    pub fn kill(&mut self) {
        // The guard first: it must never meet another process under this number.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for the end that was asked for.
    pub fn await_end(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the process ends", STOP_WAIT_MAX, || {
            status = self.ended();
            status.is_some()
        });
        self.kill();
        status.expect("the wait ends with a status")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A thread of a process that stands still until this is dropped; the others run on. It needs the right to trace.
pub struct StoppedThread(Child);

impl StoppedThread {
    /// Stops the thread of this name.
    pub fn of(pid: u32, name: &str) -> StoppedThread {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
        let named = tasks.flatten().find(|task| {
            let comm = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            comm.trim_end() == name
        });
        let thread = named.unwrap_or_else(|| panic!("process {pid} has a thread `{name}`"));
        // PTRACE_SEIZE and PTRACE_INTERRUPT; Python calls them, so that no `unsafe` is needed here. When the tracer ends,
        // as it does at the end of its input, the kernel lets the thread go on.
        let script = "import ctypes,os,sys; libc=ctypes.CDLL(None,use_errno=True); tid=int(sys.argv[1])\n\
                      for what in 0x4206,0x4207:\n \
                      if libc.ptrace(what,tid,None,None): sys.exit(os.strerror(ctypes.get_errno()))\n\
                      os.waitpid(tid,0x40000000); print('stopped',flush=True); sys.stdin.read()";
        let mut tracer = Command::new("python3")
            .args(["-c", script])
            .arg(thread.file_name())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let mut told = [0; 7];
        let read = tracer.stdout.as_mut().map(|output| output.read_exact(&mut told));
        assert!(
            matches!(read, Some(Ok(()))) && told == *b"stopped",
            "thread `{name}` was not stopped: this needs root, or the right to trace"
        );
        StoppedThread(tracer)
    }
}

impl Drop for StoppedThread {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `condition` holds; panics with `what` when it does not within `wait_max`.
pub fn wait_until(what: &str, wait_max: Duration, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < wait_max, "waited {wait_max:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal; `false` when the process is gone.
pub fn signal(pid: u32, signal: Signal) -> bool {
    kill(Pid::from_raw(pid as i32), signal).is_ok()
}

/// Open descriptors of a process.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .map(Iterator::count)
        .unwrap_or(0)
}

/// Processor time a process has used, user and system, children not included.
pub fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name may hold spaces: fields are counted from its closing bracket. utime and stime are fields 14 and 15.
    let fields = stat.rsplit(") ").next().unwrap_or("").split(' ').collect::<Vec<_>>();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let ticks_per_s = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .unwrap_or(100) as u64;
    Duration::from_micros((ticks(11) + ticks(12)) * 1_000_000 / ticks_per_s)
}

/// A figure of `/proc/PID/status` in bytes, e.g. `RssAnon`.
pub fn status_bytes(pid: u32, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find(|line| line.starts_with(&format!("{key}:")))
        .unwrap_or("");
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    kib * 1024
}

/// Raises this process's descriptor limit to its hard limit; gives the limit.
pub fn raise_descriptor_limit() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 0;
    };
    // A refusal leaves the lower limit: the caller sees it in the number.
    let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    getrlimit(Resource::RLIMIT_NOFILE).map(|(soft, _)| soft).unwrap_or(0)
}
