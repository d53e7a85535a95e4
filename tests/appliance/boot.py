"""Bare machines in QEMU against real dnsmasq, nginx, boot service and Puppet server, in a network of their own.

    python3 tests/appliance/boot.py --list
    python3 tests/appliance/boot.py --binaries target/release [SCENARIO…]

Each scenario runs alone. Needs root, the packages of `make boot-test`, and /dev/net/tun. Figures are printed at the end.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
import machine
from authority import Authority
from machine import Machine
from provisioning import DOMAIN, REPOSITORY, BootServer
import waiting

NORTH = ("n1.north", "52:54:00:00:01:11", 11, "bios")
SOUTH = ("n1.south", "52:54:00:00:02:11", 11, "uefi")
SECURE = ("n2.south", "52:54:00:00:02:12", 12, "uefi")
STRANGER_MAC = "52:54:00:00:09:99"
# Only hangs are caught: a machine without acceleration on a busy host takes minutes.
BOOT_S, PUPPET_S = 600, 1800


class Laboratory:
    """What a scenario has: the boot server, releases, and a folder."""

    def __init__(self, folder, arguments):
        self.folder, self.built = Path(folder), built_release(arguments)
        (self.folder / "machines").mkdir()
        (self.folder / "server").mkdir()
        self.server = BootServer(self.folder / "server", Path(arguments.work) / "boot-ca", arguments.binaries,
                                 [NORTH, SOUTH, SECURE], arguments.flavour)
        self.figures = {}
        self.machines = []

    def release(self, name="r1"):
        """The release that was built; under another name it is a copy whose manifest says so."""
        source, target = self.built, self.folder / "releases" / name
        target.parent.mkdir(exist_ok=True)
        shutil.copytree(source, target)
        if name != "r1":
            self.change(target, lambda manifest: manifest.update(release=name))
        return target

    @staticmethod
    def change(release, change=lambda manifest: None):
        """Writes the manifest anew after files of a release were changed."""
        path = release / "manifest.json"
        manifest = json.loads(path.read_text())
        for name in manifest["files"]:
            content = (release / name).read_bytes()
            manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        change(manifest)
        path.write_text(json.dumps(manifest))

    def machine(self, entry, **more):
        name, mac, _, firmware = entry
        made = Machine(name, mac, f"br-{name.split('.')[1]}", self.folder / "machines",
                       **{"firmware": firmware, **more})
        self.machines.append(made)
        return made

    def await_stage(self, name, stage, seconds_max):
        def reached():
            status = self.server.machine_status(name)
            return status.get("stage") == stage and not status.get("failed")
        waiting.until(f"{name} reports stage {stage}", seconds_max, reached, pause_s=1)

    def await_check_in(self, name, release, seconds_max):
        def checked_in():
            status = self.server.machine_status(name)
            return status.get("running") == release and status.get("stage") == "serving"
        try:
            waiting.until(f"{name} checks in with {release}", seconds_max, checked_in, pause_s=1)
        except AssertionError as error:
            raise AssertionError(f"{error}; status: {self.server.machine_status(name)}") from None

    def end(self):
        for one in self.machines:
            one.power_off()
        self.server.end()


def built_release(arguments):
    """Where the release of this flavour is built."""
    return Path(arguments.work) / "releases" / arguments.flavour / "r1"


def build(arguments):
    """One release for all scenarios, with a boot CA that lasts as long as it does. Needs the network that apt needs."""
    work = Path(arguments.work)
    authority = Authority(work / "boot-ca", "Boot test CA")
    release = built_release(arguments)
    if arguments.reuse and (release / "manifest.json").exists():
        return
    shutil.rmtree(release, ignore_errors=True)
    subprocess.run([str(REPOSITORY / "images/build"), "release", "--flavour", arguments.flavour, "--binaries", arguments.binaries,
                    "--cache", arguments.cache, "--release", "r1", "--out", str(release.parent), "--boot-ca",
                    str(authority.certificate), "--secure-boot-key", str(machine.snakeoil_key(work)),
                    "--secure-boot-cert", str(machine.SNAKEOIL_CERTIFICATE)], check=True)


def watch(lab, one):
    """Notes when a machine passes each stage of its first boot."""
    seconds = {}
    for stage, pattern in (("kernel", "Linux version"), ("initrd", "vertebra: fetching"),
                           ("root", "root image is the one that was asked for"),
                           ("disk", "is mounted at /var/lib/vertebra"), ("enrolled", "Finished.*nrol")):
        _, seconds[stage] = one.await_line(pattern, BOOT_S)
    lab.figures[one.name] = {"seconds": seconds, "memory_mib": one.memory_resident_mib()}


def bios_and_uefi_machines_boot_the_same_image_and_enrol(lab):
    """Two bare machines, one in each data centre, one by BIOS and one by UEFI, reach their data disk and enrol."""
    lab.server.add_release(lab.release(), "north", "south")
    lab.server.serve()
    for entry in (NORTH, SOUTH):
        lab.server.call("arm", entry[0])
    for entry in (NORTH, SOUTH):
        lab.machine(entry).power_on()
    with concurrent.futures.ThreadPoolExecutor() as both:
        list(both.map(lambda one: watch(lab, one), lab.machines))
    for entry in (NORTH, SOUTH):
        lab.await_stage(entry[0], "enrolled", 60)


def a_tampered_root_is_refused(lab):
    """One byte of the served root is another one: the machine says so on its console and tells the boot service."""
    lab.server.add_release(lab.release(), "north")
    copies = {path.stat().st_ino: path for path in lab.server.folder.rglob("root.squashfs") if path.is_file()}
    assert copies, "the boot server has no root image"
    for served in copies.values():
        os.chmod(served, 0o644)
        with open(served, "r+b") as image:
            image.seek(served.stat().st_size // 2)
            byte = image.read(1)
            image.seek(-1, os.SEEK_CUR)
            image.write(bytes([byte[0] ^ 1]))
    lab.server.serve()
    one = lab.machine(NORTH)
    one.power_on()
    _, lab.figures["tampered_refused_s"] = one.await_line("vertebra: REFUSED: the root image has digest", BOOT_S)
    waiting.until("the status page shows why", 30, lambda: "digest" in json.dumps(lab.server.machine_status("n1.north")))
    assert "Welcome to" not in one.said(), "a tampered root was started"


def a_stranger_s_machine_gets_nothing(lab):
    """A machine that is not in the inventory gets no address, no file and no token; one that is unarmed gets no token."""
    lab.server.add_release(lab.release(), "north", "south")
    lab.server.serve()
    one = lab.machine(("n9.north", STRANGER_MAC, 99, "bios"))
    one.power_on()
    one.await_line(r"(?i)no (more )?(bootable|network) dev|No configuration methods succeeded|Connection timed out", BOOT_S)
    assert "vertebra" not in one.said().lower(), "a stranger was served a boot file"
    assert "DHCPACK(br-north)" not in lab.server.log("dnsmasq-north"), "a stranger got an address"
    # Somebody on the wire who asks by hand, with the address and the hardware address of a machine that is not armed.
    asked = subprocess.run(
        ["curl", "--silent", "--cacert", str(lab.server.authority.certificate), "--resolve", "vertebra-boot:8443:192.0.2.2",
         "--data", json.dumps({"mac": NORTH[1]}), "https://vertebra-boot:8443/v1/enrol"],
        capture_output=True, text=True, check=True).stdout
    assert "token" not in json.loads(asked) or json.loads(asked).get("code") == "not_armed", f"a token was handed out: {asked}"
    listing = subprocess.run(["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}",
                              f"http://192.0.2.2/boot/{STRANGER_MAC.replace(':', '-')}.ipxe"],
                             capture_output=True, text=True, check=True).stdout
    assert listing == "404", f"a stranger's boot script was answered {listing}"


def three_failed_boots_bring_the_release_before(lab):
    """A release whose root has no init fails three times; the fourth boot gets the one before, without anybody's hand."""
    lab.server.add_release(lab.release(), "north")
    broken, empty = lab.release("r2"), lab.folder / "empty"
    empty.mkdir()
    (broken / "root.squashfs").unlink()
    subprocess.run(["mksquashfs", empty, broken / "root.squashfs", "-quiet", "-no-progress"], check=True, stdout=subprocess.DEVNULL)
    lab.change(broken)
    lab.server.add_release(broken, "north")
    lab.server.serve()
    one = lab.machine(NORTH)
    one.power_on()
    _, lab.figures["back_on_the_release_before_s"] = one.await_line(
        r"(?s)(release r2.*REFUSED: the root image has no /sbin/init.*){3}release r1.*root image is the one", 3 * BOOT_S)
    assert len(re.findall("release r2, initrd up", one.said())) == 3, "it was not three boots"
    status = lab.server.machine_status("n1.north")
    assert status["wanted"] == "r2" and status["served"] == "r1", f"the status page says {status}"


def secure_boot_starts_the_signed_uki_over_http_and_no_other(lab):
    """UEFI HTTP boot with Secure Boot on: the signed UKI starts; one without a signature, and one that was changed, do not."""
    unsigned, changed = lab.release("r2"), lab.release("r3")
    subprocess.run(["sbattach", "--remove", unsigned / "vertebra.efi"], check=True, capture_output=True)
    content = bytearray((changed / "vertebra.efi").read_bytes())
    content[content.rindex(b"vertebra.sha256=") + 20] ^= 1
    (changed / "vertebra.efi").write_bytes(content)
    for release in (unsigned, changed):
        lab.change(release)
        lab.server.add_release(release)
    lab.server.add_release(lab.release(), "south")
    lab.server.serve()
    one = lab.machine(SECURE, firmware="secure")
    one.power_on()
    # The firmware asks for PXE first; what it gets there is iPXE, which nobody signed.
    one.await_line(r'failed to load Boot\d+ "UEFI PXEv4 [^\n]*Access Denied', BOOT_S)
    one.await_line("root image is the one that was asked for", BOOT_S)
    _, lab.figures["secure_boot_to_disk_s"] = one.await_line("is mounted at /var/lib/vertebra", BOOT_S)
    assert re.search("Secure boot enabled", one.said()), "Secure Boot was off"
    for release in ("r2", "r3"):
        one.power_off()
        lab.server.call("release", "promote", release, "--site", "south")
        one.power_on()
        refusal = r'failed to load Boot\d+ "UEFI HTTPv4 [^\n]*(Access Denied|Security Violation)'
        _, lab.figures[f"{release}_refused_s"] = one.await_line(refusal, BOOT_S)
        # The firmware goes on to its next entries; none of them may start a kernel.
        one.await_line("No bootable option or device was found", BOOT_S)
        assert "vertebra: " not in one.said() and "Linux version" not in one.said(), f"{release} was started"


def two_machines_reach_serving_and_a_later_boot_needs_no_boot_service(lab):
    """Real puppetserver and autosign policy; site from trusted facts; LUKS disk sealed to the TPM; the second machine joins the
    first one's cluster; messages are served and outlive each boot; then the next release for both; then both without their servers."""
    lab.server.add_release(lab.release(), "north", "south")
    lab.server.add_release(lab.release("r2"))
    lab.figures["puppetserver_ready_s"] = lab.server.start_puppet()
    lab.server.serve()
    made = {entry[0]: lab.machine(entry, memory_mib=1536) for entry in (NORTH, SOUTH)}
    for name, one in made.items():
        lab.server.call("arm", name)
        one.power_on()
    for one in made.values():
        one.await_line("is mounted at /var/lib/vertebra", BOOT_S)
        assert "formatting it, encrypted" in one.said(), "the disk is not encrypted"
    messages = {}
    for name, one in made.items():
        lab.await_check_in(name, "r1", PUPPET_S)
        lab.figures[f"{name} power-on to serving, s"] = round(time.monotonic() - one.powered_at, 1)
        lab.figures[f"{name} memory, MiB"] = one.memory_resident_mib()
        site = lab.server.signed_extensions(name)
        assert site == {"pp_role": "node", "pp_datacenter": name.split(".")[1]}, f"the certificate says {site}"
    for name in made:
        waiting.until(f"Puppet is through on {name}", PUPPET_S, lambda name=name: lab.server.puppet_is_through(name), pause_s=2)
        waiting.until(f"{name} answers the deep ping", BOOT_S, pause_s=2,
                      condition=lambda name=name: lab.server.answers_deep_ping(name))
        messages[name] = waiting.until(f"{name} takes a message", BOOT_S, pause_s=2, condition=lambda name=name: lab.server.mesh(
            name, "send", f"to {name}", sender="X26A", receiver="X26B", check=False))
    # A release is promoted; a machine takes it with its next boot.
    began = time.monotonic()
    lab.server.call("release", "promote", "r2", "--all")
    lab.figures["promote --all, s"] = round(time.monotonic() - began, 2)
    for one in made.values():
        one.power_off()
        one.power_on()
    for name in made:
        lab.await_check_in(name, "r2", PUPPET_S)
        lab.figures[f"promote --all to {name} on it, s"] = round(time.monotonic() - began, 1)
        fetched = waiting.until(f"{name} gives the message", BOOT_S, pause_s=2, condition=lambda name=name: lab.server.mesh(
            name, "fetch", messages[name], sender="X26B", check=False))
        assert fetched == f"to {name}", "another body came back"
    # Files are served by nginx and dnsmasq alone; nobody enrols, nobody compiles a catalog, nobody holds a key.
    for one in made.values():
        one.power_off()
    lab.server.end("serve", "puppetserver")
    for one in made.values():
        one.power_on()
    for one in made.values():
        one.await_line("is mounted at /var/lib/vertebra", BOOT_S)
        assert "formatting" not in one.said(), "the disk was made anew"
    for name, one in made.items():
        fetched = waiting.until(f"{name} serves the message", PUPPET_S, pause_s=2, condition=lambda name=name: lab.server.mesh(
            name, "fetch", messages[name], sender="X26B", check=False))
        lab.figures[f"{name} without a boot service, power-on to serving, s"] = round(time.monotonic() - one.powered_at, 1)
        assert fetched == f"to {name}", "another body came back"
    # Firewall, brokers and who may ask for its health come from the catalog that Puppet kept on the disk.
    for name, one in made.items():
        waiting.until(f"{name} answers the deep ping", PUPPET_S, pause_s=2,
                      condition=lambda name=name: lab.server.answers_deep_ping(name))
        lab.figures[f"{name} without a boot service, power-on to all of its configuration, s"] = round(time.monotonic() - one.powered_at, 1)


SCENARIOS = [
    bios_and_uefi_machines_boot_the_same_image_and_enrol,
    a_tampered_root_is_refused,
    a_stranger_s_machine_gets_nothing,
    three_failed_boots_bring_the_release_before,
    secure_boot_starts_the_signed_uki_over_http_and_no_other,
    two_machines_reach_serving_and_a_later_boot_needs_no_boot_service,
]


def run_apart(scenario, arguments):
    """The scenario in a network, with mounts and processes of its own: all of them end with it, however it ends. Gives
    whether it passed."""
    with tempfile.TemporaryDirectory(prefix="vertebra-boot-") as folder:
        apart = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
        passed = subprocess.run([*apart, sys.executable, __file__, "--binaries", arguments.binaries, "--work", arguments.work,
                                 "--flavour", arguments.flavour, "--inside", folder, scenario.__name__], check=False).returncode == 0
        if arguments.keep:
            target = Path(arguments.keep) / scenario.__name__
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            for kept in ("*.log", "reports/*/*.yaml"):
                for log in Path(folder).glob(f"*/**/{kept}"):
                    shutil.copy(log, target / f"{log.parent.name}-{log.name}")
    return passed


def run_inside(scenario, arguments):
    """The scenario itself; gives the exit status."""
    name, began = scenario.__name__.replace("_", " "), time.monotonic()
    lab = Laboratory(arguments.inside, arguments)
    try:
        lab.server.start()
        scenario(lab)
    except Exception as error:
        print(f"FAILED {name}: {error}", file=sys.stderr, flush=True)
        print(json.dumps(lab.figures, indent=2), file=sys.stderr, flush=True)
        for log in sorted(Path(arguments.inside).glob("server/*.log")):
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}", file=sys.stderr, flush=True)
        return 1
    finally:
        lab.end()
    print(f"ok {time.monotonic() - began:6.1f} s  {name}", flush=True)
    print(json.dumps(lab.figures, indent=2), flush=True)
    return 0


def main():
    # Whoever ends the test gets it tidied up as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", help="beginnings of names; all when none is given")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--binaries", default=str(REPOSITORY / "target/release"))
    parser.add_argument("--cache", default=str(REPOSITORY / "target/image-cache"))
    parser.add_argument("--work", default=str(REPOSITORY / "target/boot-test"), help="where the release is built")
    parser.add_argument("--flavour", choices=["test", "hardware"], default="test")
    parser.add_argument("--reuse", action="store_true", help="take the release that is there")
    parser.add_argument("--keep", help="copy consoles and logs into this folder")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.list:
        for scenario in SCENARIOS:
            print(f"{scenario.__name__}\n    {scenario.__doc__}")
        return 0
    if arguments.inside:
        return run_inside(next(s for s in SCENARIOS if s.__name__ == arguments.scenarios[0]), arguments)
    chosen = [s for s in SCENARIOS if not arguments.scenarios or any(s.__name__.startswith(n) for n in arguments.scenarios)]
    if not chosen:
        parser.error("no scenario has such a name; --list shows them")
    build(arguments)
    failed = [scenario.__name__ for scenario in chosen if not run_apart(scenario, arguments)]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
