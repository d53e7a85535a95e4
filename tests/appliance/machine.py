"""A bare machine: QEMU without acceleration, one network card, one blank disk, a serial console that is kept.

    python3 tests/appliance/machine.py n1.north 52:54:00:01:00:11 br-north bios

powers one on until it is interrupted. Its disk, its TPM and its console stay in `--folder` for the next time.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
import waiting

FIRMWARE = Path("/usr/share/OVMF")
# Keys of the firmware's tests: published with it, so whoever signs with them proves nothing. For tests alone.
SNAKEOIL_KEY = Path("/usr/share/ovmf/PkKek-1-snakeoil.key")
SNAKEOIL_CERTIFICATE = Path("/usr/share/ovmf/PkKek-1-snakeoil.pem")
SNAKEOIL_PASSPHRASE = "snakeoil"


class Machine:
    """One machine on the bridge of its site. `firmware` is bios, uefi, or secure (UEFI with Secure Boot on)."""

    def __init__(self, name, mac, bridge, folder, firmware="bios", memory_mib=1024, disk_gib=9, tpm=True):
        self.name, self.mac, self.firmware, self.memory_mib, self.tpm = name, mac, firmware, memory_mib, tpm
        self.folder = Path(folder) / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.console = self.folder / "console.log"
        self.console.touch()
        self.tap = f"t-{mac.replace(':', '')[-6:]}"
        self.disk = self.folder / "disk.img"
        with open(self.disk, "ab") as disk:
            disk.truncate(disk_gib << 30)
        if firmware != "bios" and not (self.folder / "variables.fd").exists():
            variables = "OVMF_VARS_4M.snakeoil.fd" if firmware == "secure" else "OVMF_VARS_4M.fd"
            shutil.copy(FIRMWARE / variables, self.folder / "variables.fd")
        for command in (f"ip tuntap add dev {self.tap} mode tap", f"ip link set {self.tap} master {bridge} up"):
            subprocess.run(command.split(), check=True)
        self.qemu = self.swtpm = None
        self.powered_at = 0.0
        self.seen_from = 0

    def _firmware(self):
        if self.firmware == "bios":
            return ["-machine", "q35,graphics=off"]
        code = "OVMF_CODE_4M.secboot.fd" if self.firmware == "secure" else "OVMF_CODE_4M.fd"
        return ["-machine", "q35,smm=on" if self.firmware == "secure" else "q35",
                "-global", "driver=cfi.pflash01,property=secure,value=on",
                # Nobody here speaks IPv6: the firmware need not wait for an answer.
                "-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n",
                "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={FIRMWARE / code}",
                "-drive", f"if=pflash,unit=1,format=raw,file={self.folder / 'variables.fd'}"]

    def _card_rom(self):
        """QEMU's network card brings an iPXE of its own. It would take the boot from a firmware that fetches over HTTP itself."""
        return ",romfile=" if self.firmware == "secure" else ""

    def _start_tpm(self):
        state, socket = self.folder / "tpm", self.folder / "tpm.sock"
        state.mkdir(exist_ok=True)
        socket.unlink(missing_ok=True)
        self.swtpm = subprocess.Popen(["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--ctrl",
                                       f"type=unixio,path={socket}", "--flags", "startup-clear"],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                      preexec_fn=waiting.die_with_parent)
        waiting.until("swtpm listens", 10, socket.exists)
        return ["-chardev", f"socket,id=tpm,path={socket}", "-tpmdev", "emulator,id=tpm0,chardev=tpm",
                "-device", "tpm-crb,tpmdev=tpm0"]

    def power_on(self):
        """Network is the only boot device; the disk holds data."""
        self.seen_from = self.console.stat().st_size
        command = ["qemu-system-x86_64", "-name", self.name, "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1",
                   "-m", str(self.memory_mib), "-display", "none", "-monitor", "none", "-nodefaults",
                   "-chardev", f"file,id=console,path={self.console},append=on", "-serial", "chardev:console",
                   "-netdev", f"tap,id=net,ifname={self.tap},script=no,downscript=no",
                   "-device", f"virtio-net-pci,netdev=net,mac={self.mac},bootindex=1{self._card_rom()}",
                   "-drive", f"if=none,id=disk,format=raw,cache=unsafe,file={self.disk}",
                   "-device", "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci", *self._firmware()]
        if self.tpm:
            command += self._start_tpm()
        self.powered_at = time.monotonic()
        with open(self.folder / "qemu.log", "ab") as log:
            self.qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                         preexec_fn=waiting.die_with_parent)

    def power_off(self):
        for process in (self.qemu, self.swtpm):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        self.qemu = self.swtpm = None

    def said(self):
        """What the console showed since power-on."""
        with open(self.console, "rb") as console:
            console.seek(self.seen_from)
            return console.read().decode(errors="replace")

    def await_line(self, pattern, seconds_max):
        """Waits until the console shows the pattern; gives the match and the seconds since power-on."""
        def look():
            if self.qemu.poll() is not None:
                raise AssertionError(f"{self.name}: QEMU ended: {(self.folder / 'qemu.log').read_text()}")
            return re.search(pattern, self.said())
        try:
            found = waiting.until(f"{self.name} shows `{pattern}`", seconds_max, look, pause_s=0.5)
        except AssertionError as error:
            raise AssertionError(f"{error}\n--- end of the console of {self.name}\n{self.said()[-3000:]}") from None
        return found, round(time.monotonic() - self.powered_at, 1)

    def memory_resident_mib(self):
        status = Path(f"/proc/{self.qemu.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) // 1024


def snakeoil_key(folder):
    """The firmware's test key without its passphrase."""
    key = Path(folder) / "snakeoil.key"
    subprocess.run(["openssl", "rsa", "-in", str(SNAKEOIL_KEY), "-passin", f"pass:{SNAKEOIL_PASSPHRASE}", "-out", str(key)],
                   check=True, capture_output=True)
    os.chmod(key, 0o600)
    return key


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("mac")
    parser.add_argument("bridge")
    parser.add_argument("firmware", choices=["bios", "uefi", "secure"])
    parser.add_argument("--memory-mib", type=int, default=1536)
    parser.add_argument("--folder", default="target/machines")
    arguments = parser.parse_args()
    one = Machine(arguments.name, arguments.mac, arguments.bridge, arguments.folder, arguments.firmware, arguments.memory_mib)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        one.power_on()
        print(f"{one.name} is on; its console: {one.console}", flush=True)
        return one.qemu.wait()
    except KeyboardInterrupt:
        return 130
    finally:
        one.power_off()
        subprocess.run(["ip", "link", "delete", one.tap], check=False)


if __name__ == "__main__":
    sys.exit(main())
