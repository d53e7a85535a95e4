"""The image's root booted by systemd-nspawn: PID 1 is the image's systemd, the network has loopback alone."""

import os
import signal
import subprocess
import time
from pathlib import Path

import waiting


class Container:
    """A booted root. What it writes goes to a layer above the tree, which stays as it was built.

    Run the whole test under `unshare --mount`, so that the layer's mount ends with it.
    """

    def __init__(self, tree, folder):
        self.folder = Path(folder)
        self.root = self.folder / "root"
        self.console = self.folder / "console.log"
        upper, work = self.folder / "upper", self.folder / "work"
        for path in (self.root, upper, work):
            path.mkdir()
        subprocess.run(["mount", "-t", "overlay", "-o", f"lowerdir={tree},upperdir={upper},workdir={work}", "overlay",
                        str(self.root)], check=True)
        self.nspawn = None
        self.leader = None

    def path(self, name):
        """A file of the root, seen from outside; of a booted one, with all that it mounted."""
        root = Path(f"/proc/{self.leader}/root") if self.leader else self.root
        return root / str(name).lstrip("/")

    def write(self, name, content, mode=0o644, owner=(0, 0)):
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        os.chown(path, *owner)

    def boot(self, binds=()):
        """Starts it and waits until multi-user is reached; gives the seconds that took."""
        began = time.monotonic()
        command = ["systemd-nspawn", "--quiet", "--boot", "--directory", str(self.root), "--private-network",
                   "--register=no", "--keep-unit", "--machine", f"vertebra-{os.getpid()}", "--console=read-only",
                   "--resolv-conf=off", "--timezone=off", "--link-journal=no"]
        command += [f"--bind-ro={source}:{target}" for source, target in binds]
        with open(self.console, "wb") as console:
            self.nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                                           preexec_fn=waiting.die_with_parent)
        self.leader = waiting.until("the container has a PID 1", 30, self._find_leader)
        waiting.until("the container reaches multi-user.target", 120, self._booted, pause_s=0.3)
        return time.monotonic() - began

    def _booted(self):
        if self.nspawn.poll() is not None:
            raise AssertionError(f"the container ended:\n{self.console.read_text(errors='replace')[-4000:]}")
        return self.run("systemctl", "is-active", "multi-user.target", check=False).stdout.strip() == "active"

    def _find_leader(self):
        pending = [self.nspawn.pid]
        while pending:
            pid = pending.pop()
            try:
                status = Path(f"/proc/{pid}/status").read_text()
                names = [line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")][0]
                if len(names) > 1 and names[-1] == "1" and Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
                    return pid
                pending += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
            except (FileNotFoundError, IndexError, ProcessLookupError):
                continue
        return None

    def run(self, *command, check=True, timeout=120):
        """Runs a program inside; gives the finished process with its text."""
        done = subprocess.run(
            ["nsenter", "--target", str(self.leader), "--mount", "--uts", "--ipc", "--net", "--pid", "--root",
             "env", "-i", "--chdir=/", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "LC_ALL=C.UTF-8", *map(str, command)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, command))} gave {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def inside_network(self, *command):
        """The command line of a program of this host that uses the container's network."""
        return ["nsenter", "--target", str(self.leader), "--net", *map(str, command)]

    def show(self, unit, key):
        return self.run("systemctl", "show", "--value", "--property", key, unit).stdout.strip()

    def journal(self, *arguments):
        return self.run("journalctl", "--no-pager", "--output=short-monotonic", *arguments).stdout

    def outer_pid(self, inner):
        """The process of the container with number `inner` there, as this host numbers it."""
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                status = (entry / "status").read_text()
                same = os.readlink(entry / "ns/pid") == os.readlink(f"/proc/{self.leader}/ns/pid")
            except OSError:
                continue
            names = [line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")]
            if same and names and names[0][-1] == str(inner):
                return int(entry.name)
        raise AssertionError(f"no process {inner} in the container")

    def stop(self):
        if self.nspawn is not None and self.nspawn.poll() is None:
            # The container's systemd takes this as a request to halt at once.
            self.nspawn.terminate()
            try:
                self.nspawn.wait(20)
            except subprocess.TimeoutExpired:
                os.kill(self.leader, signal.SIGKILL)
                self.nspawn.wait(20)
        subprocess.run(["umount", "--lazy", str(self.root)], check=False)
