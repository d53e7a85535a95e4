//! A way on which everything comes late: the two ends of a link as taps, and between them a process that holds each frame for
//! a while. Kernels without `netem` have nothing else that delays without thinning.
//!
//! Owns the process and its taps. Must never know: who is at the ends. Invariants: frames keep their order; the process ends
//! with its input, so it does not outlive a test that was killed, and its taps go with it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

/// Makes a tap in each of two network namespaces (path, name, path, name) and carries frames between them. A line of its
/// input is how late they come, in seconds. Python calls `setns` and the ioctl, so that no `unsafe` is needed here.
const CARRY: &str = r"
import collections, ctypes, fcntl, os, select, struct, sys, time
def tap(place, name):
    if ctypes.CDLL(None, use_errno=True).setns(os.open(place, os.O_RDONLY), 0x40000000):
        sys.exit(os.strerror(ctypes.get_errno()))
    end = os.open('/dev/net/tun', os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, 0x400454ca, struct.pack('16sH22x', name.encode(), 0x1002))
    return end
one, other = tap(*sys.argv[1:3]), tap(*sys.argv[3:5])
late, waiting = 0.0, collections.deque()
print('made', flush=True)
while True:
    pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
    ready = select.select([0, one, other], [], [], pause)[0]
    due = time.monotonic() + late
    for end, to in (one, other), (other, one):
        try:
            while end in ready:
                waiting.append((due, to, os.read(end, 65536)))
        except OSError:
            pass
    if 0 in ready:
        line = os.read(0, 64)
        if not line:
            sys.exit()
        late = float(line)
        print('set', flush=True)
    while waiting and waiting[0][0] <= time.monotonic():
        _, to, frame = waiting.popleft()
        try:
            os.write(to, frame)
        except OSError:
            pass  # Lost, as on any wire.
";

/// One end of a link: the path of its network namespace, and what the tap there is called.
pub type End<'a> = (&'a str, &'a str);

/// The process and its two taps.
pub struct Late {
    process: Child,
    input: ChildStdin,
    output: BufReader<std::process::ChildStdout>,
}

impl Late {
    /// Makes both taps, down and without addresses; nothing is late yet.
    pub fn between(one: End<'_>, other: End<'_>) -> Late {
        let mut process = Command::new("python3")
            .args(["-c", CARRY, one.0, one.1, other.0, other.1])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let input = process.stdin.take().expect("its input is piped");
        let output = process.stdout.take().expect("its output is piped");
        let mut late = Late {
            process,
            input,
            output: BufReader::new(output),
        };
        late.hear("made");
        late
    }

    /// From now on each frame arrives so much later, in either direction.
    pub fn by(&mut self, each_way: Duration) {
        let line = format!("{}\n", each_way.as_secs_f64());
        self.input.write_all(line.as_bytes()).expect("the process reads");
        self.hear("set");
    }

    fn hear(&mut self, expected: &str) {
        let mut line = String::new();
        let heard = self.output.read_line(&mut line);
        assert!(
            heard.is_ok() && line.trim_end() == expected,
            "no taps were made: this needs root and /dev/net/tun"
        );
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
