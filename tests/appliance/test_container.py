"""The image's root in a container: units, sockets, crash, watchdog, restart under load, Puppet, runbooks.

    images/build root                      makes the tree and prints its path
    python3 tests/appliance/test_container.py TREE [--restarts N]

Needs root, systemd-nspawn and nsenter. Every step is checked; figures are printed at the end.
"""

import argparse
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
from authority import Authority
from container import Container
import waiting

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
PASSWORD = "password-of-a-test"
MAILBOXES = {"X26A": "X26", "X26B": "X26"}
CERTNAME, ADDRESS = "n1.north.vertebra.example", "192.0.2.11"
# Puppet takes role and data centre from the certificate; `puppet apply` has none, so they are named.
MANIFEST = "class { 'vertebra': role => 'node', datacentre => 'north' }"
# A container may set neither the clock nor addresses of its host.
IN_A_CONTAINER = "---\nvertebra::manage_time: false\nvertebra::manage_address: false\n"
STDLIB = Path("/usr/share/puppet/modules.available/puppetlabs-stdlib")


class Appliance:
    """The container, and what a client of its node needs."""

    def __init__(self, tree, folder, restarts):
        self.folder, self.restarts = Path(folder), restarts
        self.container = Container(tree, self.folder)
        self.secrets = self.folder / "secrets"
        subprocess.run([REPOSITORY / "puppet/control/make-secrets", self.secrets, CERTNAME], check=True)
        self.authority = Authority(self.secrets / "authority", "made by make-secrets")
        common = (self.secrets / "common.yaml").read_text()
        self.shared_key = re.search(r'mesh_key: "(\w+)"', common).group(1)
        self.client = self.authority.issue("client", "test.x26.api.mesh-client.nhs.uk", "clientAuth")
        self.figures = {}

    # --- what a client does -----------------------------------------------------------------------------------------

    def mesh_command(self, what, *rest, sender="X26A", receiver="X26B", options=()):
        return self.container.inside_network(
            sys.executable, HERE / "mesh.py", what, *rest, "--name", CERTNAME, "--ca", self.authority.certificate,
            "--certificate", self.client[0], "--key", self.client[1], "--shared-key", self.shared_key, "--password", PASSWORD,
            "--from", sender, "--to", receiver, *options)

    def mesh(self, what, *rest, **who):
        done = subprocess.run(self.mesh_command(what, *rest, **who), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"mesh {what} failed: {done.stderr}"
        return done.stdout.strip()

    def serves(self):
        # 10 is degraded: somebody should look (less locked memory, say), but it serves.
        status = self.container.run("vertebra", "status", "--socket", "/run/vertebra/admin.sock", check=False)
        return status.returncode in (0, 10)

    def main_pid(self):
        return self.container.outer_pid(self.container.show("vertebra.service", "MainPID"))

    def restarts_counted(self):
        return int(self.container.show("vertebra.service", "NRestarts"))

    # --- steps ------------------------------------------------------------------------------------------------------

    def nothing_listens_and_nothing_failed_before_puppet(self):
        self.container.write("/etc/vertebra/disk.env", "VERTEBRA_DISK=none\n")
        self.figures["boot_s"] = round(self.container.boot(), 1)
        sockets = self.container.run("ss", "--listening", "--numeric", "--tcp", "--udp", "--no-header").stdout
        assert sockets == "", f"something listens before it was configured:\n{sockets}"
        failed = self.container.run("systemctl", "list-units", "--failed", "--no-legend", "--plain").stdout
        failed = [line.split()[0] for line in failed.splitlines()]
        # Without a boot service there is no enrolment; it is tried again until there is.
        assert set(failed) <= {"vertebra-enrol.service"}, f"failed units: {failed}"
        assert self.container.show("vertebra.service", "ActiveState") == "inactive", "a node without configuration started"

    def the_image_holds_no_secret(self):
        shadow = self.container.path("/etc/shadow").read_text()
        for line in shadow.splitlines():
            assert line.split(":")[1] in ("*", "!", "!*"), f"an account with a password: {line.split(':')[0]}"
        assert not self.container.path("/var/lib/rabbitmq/.erlang.cookie").exists(), "all brokers would share one cookie"
        keys = self.container.run("grep", "-rlE", "BEGIN (RSA |EC |ENCRYPTED )?PRIVATE KEY", "/etc", "/var/lib",
                                  "/usr/share/vertebra", check=False).stdout
        assert keys == "", f"private keys in the image: {keys}"

    def put_puppet_there(self):
        """Module, stdlib, example data and throw-away secrets, as a Puppet server has them."""
        code, control = self.container.path("/etc/puppet/code"), REPOSITORY / "puppet/control"
        shutil.copytree(REPOSITORY / "puppet/modules", code / "modules", dirs_exist_ok=True)
        shutil.copytree(STDLIB, code / "modules/stdlib", symlinks=False)
        shutil.copytree(control / "data", code / "data", dirs_exist_ok=True)
        shutil.copytree(self.secrets, self.container.path("/etc/puppet/vertebra-secrets"), ignore=shutil.ignore_patterns("authority"))
        # What the agent has after its enrolment: a certificate of the Puppet CA.
        ca = Authority(self.folder / "puppet-ca", "Puppet CA of a test")
        certificate, key = ca.issue("agent", CERTNAME, "serverAuth,clientAuth", f"DNS:{CERTNAME}")
        ssl = "/var/lib/puppet/ssl"
        self.container.write(f"{ssl}/certs/ca.pem", ca.certificate.read_bytes())
        self.container.write(f"{ssl}/certs/{CERTNAME}.pem", certificate.read_bytes())
        self.container.write(f"{ssl}/private_keys/{CERTNAME}.pem", key.read_bytes(), 0o640)
        # Names come from the site's servers, which a container does not have.
        members = re.findall(r"^  (\S+): {.*address: ([0-9.]+)}", (control / "data/common.yaml").read_text(), re.MULTILINE)
        assert len(members) >= 3, "common.yaml lists the members in another form"
        self.container.write("/etc/hosts", "127.0.0.1 localhost\n" + "".join(f"{a} {n}\n" for n, a in members))
        hiera = (control / "hiera.yaml").read_text()
        hiera = hiera.replace("%{trusted.extensions.pp_datacenter}", "north").replace("%{trusted.extensions.pp_role}", "node")
        (code / "hiera.yaml").write_text(hiera)
        node = code / f"data/nodes/{CERTNAME}.yaml"
        node.write_text(IN_A_CONTAINER)

    def puppet(self):
        """One run; gives its exit code (0 nothing to do, 2 changed, 4 and 6 failures) and what it said."""
        began = time.monotonic()
        done = self.container.run(
            "puppet", "apply", "--detailed-exitcodes", "--certname", CERTNAME, "--modulepath", "/etc/puppet/code/modules",
            "--hiera_config", "/etc/puppet/code/hiera.yaml", "--color", "false", "--execute", MANIFEST,
            check=False, timeout=300)
        self.figures.setdefault("puppet_s", []).append(round(time.monotonic() - began, 1))
        return done.returncode, done.stdout + done.stderr

    def puppet_makes_it_a_node_of_its_data_centre(self):
        self.put_puppet_there()
        self.container.run("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")
        code, said = self.puppet()
        assert code == 2, f"the first run gave {code}:\n{said}"
        for secret in (self.shared_key, "PRIVATE KEY"):
            assert secret not in said, "Puppet printed a secret"
        assert 'site = "north"' in self.container.path("/etc/vertebra/node.toml").read_text(), "another site"
        self.register()

    def a_second_run_changes_nothing(self):
        code, said = self.puppet()
        assert code == 0, f"the second run gave {code}:\n{said}"

    def drift_is_put_right(self):
        """What takes a reload is put right at once. (A change of node.toml would wait for a neighbour that is not here.)"""
        name = "/etc/vertebra/tls/clients.pem"
        before, pid = self.container.path(name).read_text(), self.main_pid()
        self.container.write(name, before + "somebody was here\n", 0o666)
        self.container.run("systemctl", "stop", "redis-server.service")
        code, said = self.puppet()
        assert code == 2, f"a run after drift gave {code}:\n{said}"
        assert self.container.path(name).read_text() == before, "a file was left as somebody made it"
        assert self.container.path(name).stat().st_mode & 0o022 == 0, "a mode was left as somebody made it"
        assert self.container.show("redis-server.service", "ActiveState") == "active", "Redis was left stopped"
        assert self.main_pid() == pid, "the node was restarted where a reload is enough"
        assert self.mesh("fetch", self.message, sender="X26B") == "through the socket", "the message is gone"

    def a_value_that_the_node_refuses_never_replaces_the_one_in_force(self):
        name, node = "/etc/vertebra/node.toml", self.container.path(f"/etc/puppet/code/data/nodes/{CERTNAME}.yaml")
        before, pid = self.container.path(name).read_text(), self.main_pid()
        node.write_text(IN_A_CONTAINER + "vertebra::settings:\n  http:\n    headers_max: 17\n    header_bytes_max: 1\n")
        code, said = self.puppet()
        node.write_text(IN_A_CONTAINER)
        assert code in (1, 4, 6), f"a bad value gave {code}:\n{said}"
        assert self.container.path(name).read_text() == before and self.main_pid() == pid, "a bad value reached the node"

    def register(self):
        waiting.until("the node serves", 60, self.serves)
        self.container.write("/run/password", PASSWORD, 0o600)
        for mailbox, ods in MAILBOXES.items():
            self.container.run("vertebra", "mailbox", "add", mailbox, "--ods", ods, "--password-file", "/run/password",
                               "--socket", "/run/vertebra/admin.sock")
        self.container.run("vertebra", "workflow", "add", "VERTEBRA_TEST", "--sender", "X26A", "--receiver", "X26B",
                           "--socket", "/run/vertebra/admin.sock")

    def a_message_is_served_through_a_socket_that_systemd_holds(self):
        held = self.container.show("vertebra.socket", "Listen")
        assert "443" in held, f"vertebra.socket holds {held}"
        status = Path(f"/proc/{self.main_pid()}/status").read_text()
        lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        assert int(lines["CapEff"], 16) == 0 and int(lines["CapBnd"], 16) == 0, "the node has capabilities"
        assert lines["Uid"].split()[0] != "0", "the node runs as root"
        message = self.mesh("send", "through the socket")
        assert message in self.mesh("inbox", sender="X26B").split(), "the message is not in the inbox"
        assert self.mesh("fetch", message, sender="X26B") == "through the socket", "another body came back"
        self.message = message

    def after_kill_9_systemd_starts_it_again_and_the_message_is_there(self):
        before, pid = self.restarts_counted(), self.main_pid()
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        waiting.until("systemd has started the node again", 30, lambda: self.restarts_counted() == before + 1)
        waiting.until("the node serves again", 60, self.serves)
        self.figures["kill_to_serving_s"] = round(time.monotonic() - began, 1)
        assert self.main_pid() != pid, "the same process"
        assert self.mesh("fetch", self.message, sender="X26B") == "through the socket", "the message is gone"

    def a_node_that_stands_still_is_killed_by_the_watchdog(self):
        self.container.write("/run/systemd/system/vertebra.service.d/watchdog.conf", "[Service]\nWatchdogSec=4s\n")
        self.container.run("systemctl", "daemon-reload")
        self.container.run("systemctl", "restart", "vertebra.service")
        waiting.until("the node serves", 60, self.serves)
        before, pid = self.restarts_counted(), self.main_pid()
        began = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        waiting.until("the watchdog has restarted the node", 60, lambda: self.restarts_counted() > before)
        waiting.until("the node serves again", 60, self.serves)
        self.figures["stopped_to_serving_s_with_watchdog_of_4"] = round(time.monotonic() - began, 1)
        assert "atchdog" in self.container.journal("--unit=vertebra.service"), "it was not the watchdog"
        assert self.mesh("fetch", self.message, sender="X26B") == "through the socket", "the message is gone"
        self.container.path("/run/systemd/system/vertebra.service.d/watchdog.conf").unlink()
        self.container.run("systemctl", "daemon-reload")

    def a_restart_under_load_refuses_nobody(self):
        self.container.run("systemctl", "restart", "vertebra.service")
        waiting.until("the node serves", 60, self.serves)
        with subprocess.Popen(self.mesh_command("load"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                              preexec_fn=waiting.die_with_parent) as load:
            assert load.stdout.readline().strip() == "running"
            for _ in range(self.restarts):
                # Some requests between two restarts, so that each meets a node at work.
                self.container.run("sleep", "0.5")
                self.container.run("systemctl", "restart", "vertebra.service")
                waiting.until("the node serves", 60, self.serves)
            load.stdin.close()
            figures = json.loads(load.stdout.read())
        self.figures["under_load"] = {"restarts": self.restarts, **figures}
        assert figures["requests"] > 10 * self.restarts, f"there was hardly any load: {figures}"
        assert figures["failed"] == 0, f"requests failed during {self.restarts} restarts: {figures}"

    def a_switch_to_another_release_under_load_refuses_nobody_and_neither_does_the_way_back(self):
        """Blue and green: systemd holds the socket, and whichever release is started takes it over."""
        blue = self.container.path("/usr/bin/vertebra").read_bytes()
        at = blue.index(b"VERTEBRA-RELEASE ") + 17
        name = blue[at:at + 64].decode().strip()
        green = blue[:at] + b"2099.1.1-green".ljust(64) + blue[at + 64:]
        with subprocess.Popen(self.mesh_command("load"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                              preexec_fn=waiting.die_with_parent) as load:
            assert load.stdout.readline().strip() == "running"
            for release, content in (("2099.1.1-green", green), (name, blue)):
                self.container.write("/usr/bin/vertebra.next", content, 0o755)
                self.container.run("mv", "/usr/bin/vertebra.next", "/usr/bin/vertebra")
                self.container.run("systemctl", "restart", "vertebra.service")
                waiting.until("the node serves", 60, self.serves)
                told = self.container.run("vertebra", "upgrade", "status", "--json", "--socket", "/run/vertebra/admin.sock")
                runs = json.loads(told.stdout)["members"][0]["release"]
                assert runs == release, f"release {runs} serves instead of {release}"
                self.container.run("sleep", "0.5")
            load.stdin.close()
            figures = json.loads(load.stdout.read())
        self.figures["release_switches_under_load"] = {"switches": 2, **figures}
        assert figures["requests"] > 20, f"there was hardly any load: {figures}"
        assert figures["failed"] == 0, f"requests failed while the release was switched: {figures}"

    def operator(self, *command):
        """What `vertebra` prints to an operator; a node that is degraded, or a doctor who found something, has its say too."""
        done = self.container.run("vertebra", *command, check=False)
        return done.stdout + done.stderr

    def runbook(self, name, **instead):
        """Follows a page: each block of commands in a shell of its own, as it is written but for the words `instead`. Gives what was said."""
        said, text = "", (REPOSITORY / f"node/runbooks/{name}.md").read_text()
        blocks = re.findall(r"^ *```sh\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
        assert blocks, f"the page {name} has no commands"
        for block in blocks:
            for word, other in instead.items():
                block = block.replace(word, other)
            done = self.container.run("sh", "-uxc", block, check=False, timeout=300)
            said += done.stdout + done.stderr
        return said

    def a_lost_broker_is_shown_as_its_runbook_says_and_found_again(self):
        self.container.run("systemctl", "start", "rabbitmq-server.service", timeout=300)
        waiting.until("events are published", 120, lambda: "publishing" in self.operator("events", "status"))
        self.container.run("systemctl", "stop", "rabbitmq-server.service", timeout=300)
        self.mesh("send", "while the broker was away")
        waiting.until("status says that events wait", 60,
                      lambda: "RabbitMQ takes no events (connecting)" in self.operator("status"))
        fault = self.operator("events", "status")
        assert re.search(r"(?m)^last fault: .*(refused|unreachable|no answer|closed)", fault), f"events status says:\n{fault}"
        said = self.operator("doctor")
        assert f"no answer ({CERTNAME}:5671: Connection refused" in said, f"doctor says nothing of the broker:\n{said}"
        self.container.run("systemctl", "start", "rabbitmq-server.service", timeout=300)
        assert CERTNAME in self.container.run("rabbitmqctl", "cluster_status", timeout=120).stdout, "the broker names no node"
        waiting.until("what waited is published", 120, lambda: "waiting: 0 of" in self.operator("events", "status"))
        assert "RabbitMQ" not in self.operator("status"), f"status still complains:\n{self.operator('status')}"

    def a_node_is_backed_up_and_restored_by_its_runbooks_as_they_are_written(self):
        for folder in ("/mnt/backup", "/mnt/scratch"):
            self.container.path(folder).mkdir(parents=True, exist_ok=True)
        said = self.runbook("backup")
        assert "This backup restores, and what it restores is whole." in said, f"the backup's page:\n{said}"
        digest = re.search(r"\b[0-9a-f]{64}\b", said).group(0)
        day = re.search(r"/mnt/backup/(\d{4}-\d\d-\d\d)", said).group(1)
        said = self.runbook("restore", **{"2026-11-26": day})
        for wanted in (digest, "Everything is whole.", "This backup restores, and what it restores is whole."):
            assert wanted in said, f"the restore's page, without {wanted}:\n{said}"
        waiting.until("the restored node serves", 60, self.serves)
        assert self.mesh("fetch", self.message, sender="X26B") == "through the socket", "the message is gone"

    def no_log_holds_what_was_sent(self):
        journal = self.container.journal()
        for value in ("through the socket", PASSWORD, self.shared_key):
            assert value not in journal, "a secret or a body is in the journal"

    STEPS = [
        nothing_listens_and_nothing_failed_before_puppet,
        the_image_holds_no_secret,
        puppet_makes_it_a_node_of_its_data_centre,
        a_second_run_changes_nothing,
        a_message_is_served_through_a_socket_that_systemd_holds,
        after_kill_9_systemd_starts_it_again_and_the_message_is_there,
        a_node_that_stands_still_is_killed_by_the_watchdog,
        a_restart_under_load_refuses_nobody,
        a_switch_to_another_release_under_load_refuses_nobody_and_neither_does_the_way_back,
        drift_is_put_right,
        a_value_that_the_node_refuses_never_replaces_the_one_in_force,
        a_lost_broker_is_shown_as_its_runbook_says_and_found_again,
        a_node_is_backed_up_and_restored_by_its_runbooks_as_they_are_written,
        no_log_holds_what_was_sent,
    ]


def main():
    # Whoever ends the test gets it tidied up as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", help="what `images/build root` printed")
    parser.add_argument("--restarts", type=int, default=3, help="restarts under load (default 3)")
    arguments = parser.parse_args()
    if os.environ.get("VERTEBRA_OWN_MOUNTS") != "yes":
        # Mounts of its own end with it, whatever happens.
        os.environ["VERTEBRA_OWN_MOUNTS"] = "yes"
        os.execvp("unshare", ["unshare", "--mount", sys.executable, *sys.argv])
    with tempfile.TemporaryDirectory(prefix="vertebra-container-") as folder:
        appliance = Appliance(arguments.tree, folder, arguments.restarts)
        try:
            for step in Appliance.STEPS:
                began = time.monotonic()
                step(appliance)
                print(f"ok {time.monotonic() - began:6.1f} s  {step.__name__.replace('_', ' ')}", flush=True)
        except BaseException:
            print(f"FAILED {step.__name__.replace('_', ' ')}", file=sys.stderr)
            if appliance.container.leader:
                print(appliance.container.run("journalctl", "--no-pager", "--lines=60", check=False).stdout, file=sys.stderr)
            print(appliance.container.console.read_text(errors="replace")[-3000:] if appliance.container.console.exists()
                  else "", file=sys.stderr)
            raise
        finally:
            appliance.container.stop()
        print(json.dumps(appliance.figures, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
