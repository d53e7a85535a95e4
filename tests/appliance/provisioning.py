"""Two data centres in a private network: bridges, dnsmasq, nginx, the boot service, a Puppet server.

Run everything here under `unshare --mount --net --pid`: bridges, mounts and processes end with the test.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from authority import Authority
import waiting

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
DOMAIN = "vertebra.example"
PUPPET_NAME, PUPPET_ADDRESS = f"puppet.{DOMAIN}", "203.0.113.2"
NAMES_ADDRESS = "203.0.113.3"
# Debian's package keeps it beside the modules, to be chosen from.
STDLIB = Path("/usr/share/puppet/modules.available/puppetlabs-stdlib")
SITES = {"north": "192.0.2", "south": "198.51.100"}
# One of the networks that `vertebra::firewall::clients` of the example data lets in.
CLIENT_ADDRESS = "10.16.0.1"
PASSWORD = "password-of-a-test"
SECRETS = Path("/etc/puppet/vertebra-secrets")
# Nobody logs in to a machine, so what an operator would type there comes as Puppet's, behind site.pp. On the machine that
# founds the cluster alone: the other one is taken in a while after its Puppet run.
MAILBOXES = """\
if $trusted['extensions']['pp_datacenter'] == 'north' {
$door = '--socket /run/vertebra/admin.sock'
file { '/run/password-of-mailboxes':
  mode    => '0600',
  content => Sensitive('%s'),
}
['X26A', 'X26B'].each |$mailbox| {
  exec { "/usr/bin/vertebra mailbox add ${mailbox} --ods X26 --password-file /run/password-of-mailboxes ${door}":
    unless  => "/usr/bin/vertebra mailbox show ${mailbox} ${door}",
    require => [File['/run/password-of-mailboxes'], Class['vertebra']],
    before  => Exec['workflow'],
  }
}
exec { 'workflow':
  command => "/usr/bin/vertebra workflow add VERTEBRA_TEST --sender X26A --receiver X26B ${door}",
  unless  => "/usr/bin/vertebra workflow show VERTEBRA_TEST ${door}",
}
}
""" % PASSWORD


def run(command, **more):
    return subprocess.run(command.split() if isinstance(command, str) else list(map(str, command)), check=True, **more)


class BootServer:
    """The boot server of both sites. `machines` are (name, mac, last number of the address, firmware); all of them boot
    releases of one flavour."""

    def __init__(self, folder, authority, binaries, machines, flavour):
        self.folder, self.binary = Path(folder), Path(binaries) / "vertebra-provisioning"
        self.output, self.state = self.folder / "www", self.folder / "state"
        self.configuration = self.folder / "provisioning.toml"
        self.machines, self.flavour = machines, flavour
        self.processes = {}
        self.authority = Authority(authority, "Boot test CA")
        # Certificate and key of a clinical system, once the Puppet server is there.
        self.client = None

    def start(self):
        self._network()
        certificate, key = self.authority.issue("boot", "vertebra-boot", "serverAuth", "DNS:vertebra-boot")
        self._inventory()
        self.configuration.write_text(
            f'inventory = "inventory.yaml"\nstate = "{self.state}"\noutput = "{self.output}"\n\n'
            f'[serve]\ncertificate = "{certificate}"\nkey = "{key}"\n\n'
            "[fallback]\nboots = 3\nsettle_seconds = 5\n")
        self.state.mkdir()
        # As the operator's page makes it: nginx passes through to the releases and sees nothing else.
        self.state.chmod(0o2771)
        self.call("render")
        # Debian's nginx and dnsmasq give up root; they must be able to read what is served.
        for folder in (self.folder, self.folder.parent):
            os.chmod(folder, 0o755)

    def serve(self):
        self.spawn("serve", [self.binary, "--config", self.configuration, "serve"])
        self.spawn("names", ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
                             f"--listen-address={NAMES_ADDRESS}", "--bind-interfaces", "--pid-file",
                             f"--host-record={PUPPET_NAME},{PUPPET_ADDRESS}"])
        for site in SITES:
            files = self.output / site
            self.spawn(f"dnsmasq-{site}", ["dnsmasq", "--keep-in-foreground", "--log-facility=-", "--log-dhcp", "--pid-file",
                                           f"--conf-file={files / 'dnsmasq.conf'}"])
            self.spawn(f"nginx-{site}", ["nginx", "-e", "stderr", "-g", "daemon off;", "-c", files / "nginx.conf"])
        waiting.until("the boot service answers", 20, self.status_or_none)
        for name, process in self.processes.items():
            assert process.poll() is None, f"{name} ended: {self.log(name)}"
        for network in SITES.values():
            run(["curl", "--silent", "--output", "/dev/null", "--retry", "20", "--retry-connrefused", "--retry-delay", "1",
                 f"http://{network}.2/"])

    def _network(self):
        run("ip link set lo up")
        # Where the Puppet server and the organisation's name server are; not loopback, which each dnsmasq knows too.
        run("ip link add core type bridge")
        run(f"ip address add {PUPPET_ADDRESS}/24 dev core")
        run(f"ip address add {NAMES_ADDRESS}/24 dev core")
        run("ip link set core up")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1\n")
        for site, network in SITES.items():
            run(f"ip link add br-{site} type bridge")
            for last in (1, 2):
                run(f"ip address add {network}.{last}/24 dev br-{site}")
            run(f"ip link set br-{site} up")

    def _inventory(self):
        lines = ["format: 1", f"domain: {DOMAIN}", "sites:"]
        for site, network in SITES.items():
            lines += [f"  {site}:", f"    subnet: {network}.0/24", f"    gateway: {network}.1", f"    boot_server: {network}.2",
                      f"    interface: br-{site}", f"    dns: [{NAMES_ADDRESS}]", "    ntp: []",
                      f"    puppet_server: {PUPPET_NAME}"]
        lines.append("machines:")
        for name, mac, last, firmware in self.machines:
            site = name.split(".")[1]
            lines += [f"  - name: {name}", f"    site: {site}", "    role: node", f"    macs: [\"{mac}\"]",
                      f"    address: {SITES[site]}.{last}", f"    firmware: {firmware}", f"    flavour: {self.flavour}"]
        (self.folder / "inventory.yaml").write_text("\n".join(lines) + "\n")

    def spawn(self, name, command, **more):
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=log,
                                                    stderr=log, preexec_fn=waiting.die_with_parent, **more)

    def end(self, *names):
        for name in names or list(self.processes):
            process = self.processes.pop(name, None)
            if process is not None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def log(self, name):
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def call(self, *arguments):
        """A command of the boot server; gives what it printed."""
        done = subprocess.run([str(self.binary), "--config", str(self.configuration), *map(str, arguments)],
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"vertebra-provisioning {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}"
        return done.stdout

    def add_release(self, release, *sites):
        """Into the store, and promoted at these sites."""
        self.call("release", "add", release)
        for site in sites:
            self.call("release", "promote", Path(release).name, "--site", site)

    def status_or_none(self):
        done = subprocess.run(["curl", "--silent", "--max-time", "3", "http://127.0.0.1:8480/status.json"],
                              capture_output=True, text=True, check=False)
        return json.loads(done.stdout) if done.returncode == 0 and done.stdout else None

    def machine_status(self, name):
        status = self.status_or_none() or {"machines": []}
        return next((m for m in status["machines"] if name in (m.get("name"), m.get("certname"))), {})

    def answers_deep_ping(self, name):
        """Propose, fsync, apply, read: what `/health/ready` asks of the node; asked as a monitor of its site."""
        site, last = name.split(".")[1], next(m[2] for m in self.machines if m[0] == name)
        monitor = f"{SITES[site]}.200"
        subprocess.run(["ip", "address", "replace", f"{monitor}/24", "dev", f"br-{site}"], check=True)
        done = subprocess.run(["curl", "--silent", "--max-time", "10", "--interface", monitor, "--write-out", "%{http_code}",
                               f"http://{SITES[site]}.{last}:9444/health/ready"], capture_output=True, text=True, check=False)
        return done.stdout.endswith("200")

    def mesh(self, name, what, *rest, sender, receiver=None, check=True):
        """What the small MESH client gets from a machine, as a clinical system of one of the networks that may come; None
        when it gets nothing and `check` is off."""
        shared_key = re.search(r'mesh_key: "(\w+)"', (SECRETS / "common.yaml").read_text()).group(1)
        certificate, key = self.client
        site, last = name.split(".")[1], next(m[2] for m in self.machines if m[0] == name)
        run(f"ip address replace {CLIENT_ADDRESS}/32 dev br-{site}")
        done = subprocess.run(
            [sys.executable, HERE / "mesh.py", what, *rest, "--host", f"{SITES[site]}.{last}", "--source", CLIENT_ADDRESS,
             "--name", f"{name}.{DOMAIN}", "--ca", SECRETS / "authority/ca.pem", "--certificate", certificate, "--key", key,
             "--shared-key", shared_key, "--password", PASSWORD, "--from", sender,
             *(["--to", receiver] if receiver else [])], capture_output=True, text=True, timeout=90, check=False)
        assert not check or done.returncode == 0, f"{name}: mesh {what} failed: {done.stderr}"
        return done.stdout.strip() if done.returncode == 0 else None

    def signed_extensions(self, name):
        """Role and data centre in the certificate that the Puppet CA signed."""
        certificate = next((self.folder / "puppet").rglob(f"ca/signed/{name}.{DOMAIN}.pem"))
        text = run(["openssl", "x509", "-noout", "-text", "-in", certificate], capture_output=True, text=True).stdout
        found = {}
        for key, number in (("pp_role", "1.3.6.1.4.1.34380.1.1.13"), ("pp_datacenter", "1.3.6.1.4.1.34380.1.1.19")):
            match = re.search(rf"{re.escape(number)}:\s*\n\s*(?:\.\.)?(\S+)", text)
            found[key] = match.group(1).lstrip(".") if match else None
        return found

    def puppet_is_through(self, name):
        """Whether the Puppet server has the report of a whole run; fails when that run failed."""
        reports = sorted((self.folder / "puppet").rglob(f"reports/{name}.{DOMAIN}/*.yaml"))
        if not reports:
            return False
        text = reports[-1].read_text(errors="replace")
        status = re.search(r"^status: '?(\w+)", text, re.MULTILINE)
        errors = re.findall(r"- level: err\n(?:  \w+:.*\n)*?  message: (.*)", text)
        assert status is None or status.group(1) != "failed", f"Puppet failed on {name}: {errors[:10]}"
        return status is not None

    # --- Puppet -----------------------------------------------------------------------------------------------------

    def start_puppet(self):
        """Debian's puppetserver with its own CA, as its package configures it; the repository's control repository; our
        policy decides what is signed. Its folders are the test's own. Gives the seconds until it runs."""
        for path in ("/etc/puppet", "/var/lib/puppet", "/var/lib/puppetserver", "/var/log/puppetserver", "/run/puppetserver"):
            own = self.folder / "puppet" / path.strip("/").replace("/", "-")
            own.mkdir(parents=True)
            Path(path).mkdir(parents=True, exist_ok=True)
            if path == "/etc/puppet":
                shutil.copytree(path, own, symlinks=True, dirs_exist_ok=True)
            run(["mount", "--bind", own, path])
        code = Path("/etc/puppet/code/environments/production")
        shutil.rmtree(code, ignore_errors=True)
        shutil.copytree(REPOSITORY / "puppet/control", code)
        shutil.copytree(REPOSITORY / "puppet/modules", code / "modules", dirs_exist_ok=True)
        shutil.copytree(STDLIB, code / "modules/stdlib", symlinks=False, dirs_exist_ok=True)
        with open(code / "manifests/site.pp", "a") as site:
            site.write(MAILBOXES)
        run([code / "make-secrets", SECRETS, *[f"{name}.{DOMAIN}" for name, *_ in self.machines]])
        # Now, and not when it is used: a machine's clock is up to a second behind this one.
        authority = Authority(SECRETS / "authority", "made by make-secrets")
        self.client = authority.issue("client", "test.x26.api.mesh-client.nhs.uk", "clientAuth")
        policy = Path("/etc/puppet/vertebra-autosign")
        policy.write_text(f"#!/bin/sh\nexec {self.binary} --config {self.configuration} autosign \"$1\"\n")
        policy.chmod(0o755)
        Path("/etc/puppet/puppet.conf").write_text(
            f"[main]\ncertname = {PUPPET_NAME}\ndns_alt_names = {PUPPET_NAME}\n[server]\nautosign = {policy}\n")
        began = time.monotonic()
        self.spawn("puppetserver", [
            "java", "-Xms1g", "-Xmx1g", "-Djruby.logger.class=com.puppetlabs.jruby_utils.jruby.Slf4jLogger",
            "-Dlogappender=STDOUT", "-Djruby.lib=/usr/share/jruby/lib", "-jar", "/usr/share/puppetserver/puppetserver.jar",
            "--config", "/etc/puppet/puppetserver/conf.d", "--bootstrap-config", "/etc/puppet/puppetserver/services.d"])

        def ready():
            if self.processes["puppetserver"].poll() is not None:
                raise AssertionError(f"puppetserver ended:\n{self.log('puppetserver')[-4000:]}")
            done = subprocess.run(["curl", "--silent", "--insecure", "--max-time", "3",
                                   f"https://{PUPPET_ADDRESS}:8140/status/v1/simple"], capture_output=True, text=True,
                                  check=False)
            return done.stdout.strip() == "running"
        waiting.until("puppetserver runs", 400, ready, pause_s=1)
        return round(time.monotonic() - began, 1)
