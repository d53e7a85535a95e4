//! dnsmasq, nginx and the service together in a network of their own: what firmware, a machine and a stranger get.

use super::boot_server::{BootServer, text};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Command;

const INVENTORY: &str = r#"
format: 1
domain: test.example
sites:
  north: {subnet: 10.77.0.0/24, gateway: 10.77.0.1, boot_server: 10.77.0.2, interface: boot0, puppet_server: puppet.test.example}
machines:
  - {name: n1.north, site: north, role: node, macs: ["52:54:00:00:00:11"], address: 10.77.0.11, firmware: uefi}
  - {name: n2.north, site: north, role: node, macs: ["52:54:00:00:00:12", "52:54:00:00:01:12"], address: 10.77.0.12, firmware: bios}
"#;

/// Runs in a network and with a /run of its own. Prints `name<TAB>text` lines.
const SCRIPT: &str = r#"
set -eu
mount -t tmpfs none /run
ip link set lo up
ip link add boot0 type veth peer name machine0
ip address add 10.77.0.2/24 dev boot0
for address in 11 12 66; do ip address add 10.77.0.$address/24 dev machine0; done
ip link set boot0 up
ip link set machine0 up
# Both ends are in this one network: an answer from one's own address is no forgery here.
for name in all boot0 machine0; do
    echo 1 >/proc/sys/net/ipv4/conf/$name/accept_local
    echo 0 >/proc/sys/net/ipv4/conf/$name/rp_filter
done
"$BINARY" --config "$FOLDER/provisioning.toml" serve 2>"$FOLDER/serve.log" &
SERVICE=$!
dnsmasq --keep-in-foreground --conf-file="$FOLDER/out/north/dnsmasq.conf" --user=root --log-facility="$FOLDER/dnsmasq.log" &
DNSMASQ=$!
nginx -c "$FOLDER/out/north/nginx.conf" -g 'daemon off;' 2>"$FOLDER/nginx.log" &
NGINX=$!
trap 'kill $SERVICE $DNSMASQ $NGINX 2>/dev/null || true' EXIT

for try in $(seq 200); do
    curl -s -o /dev/null http://10.77.0.2/ && curl -s -o /dev/null http://127.0.0.1:8480/status.json \
        && grep -q '10.77.0.2\|started' "$FOLDER/dnsmasq.log" && break
    sleep 0.05
done

say() { printf '%s\t%s\n' "$1" "$2"; }
ask() { say "$1" "$(python3 "$CLIENT" machine0 "$2" "$3" "$4" "$5" "$6")"; }
ask bios 52:54:00:00:00:12 0 PXEClient firmware 10
ask bios-ipxe 52:54:00:00:00:12 0 PXEClient ipxe 10
ask second-interface-ipxe 52:54:00:00:01:12 0 PXEClient ipxe 10
ask uefi 52:54:00:00:00:11 7 PXEClient firmware 10
ask uefi-ipxe 52:54:00:00:00:11 7 PXEClient ipxe 10
ask uefi-http 52:54:00:00:00:11 16 HTTPClient:Arch:00016 firmware 10
ask bios-machine-over-http 52:54:00:00:00:12 16 HTTPClient:Arch:00016 firmware 10
ask stranger 52:54:00:66:66:66 0 PXEClient firmware 1
ask stranger-ipxe 52:54:00:66:66:66 7 PXEClient ipxe 1
ask stranger-http 52:54:00:66:66:66 16 HTTPClient firmware 1

get() { say "$1" "$(curl -s --path-as-is -o "$FOLDER/body" -w '%{http_code} %{content_type}' "${@:2}")"; }
B=http://10.77.0.2
get script --interface 10.77.0.12 $B/boot/52-54-00-00-00-12.ipxe
say script-text "$(tr '\n' ' ' <"$FOLDER/body")"
get efi --interface 10.77.0.11 $B/boot/52-54-00-00-00-11.efi
say efi-text "$(cat "$FOLDER/body")"
get root --interface 10.77.0.12 $B/releases/1/root.squashfs
say root-text "$(cat "$FOLDER/body")"
get stranger-root --interface 10.77.0.66 $B/releases/1/vmlinuz
get stranger-script --interface 10.77.0.66 $B/boot/52-54-00-00-00-11.ipxe
get head --head --interface 10.77.0.66 $B/releases/1/initrd.img
get index $B/
get boot-list $B/boot/
get release-list $B/releases/
get manifest $B/releases/1/manifest.json
get unknown-machine $B/boot/52-54-00-66-66-66.ipxe
get default-script $B/boot/default.ipxe
get outside $B/releases/1/../../../dnsmasq.conf
get outside-escaped $B/releases/%2e%2e/%2e%2e/dnsmasq.conf
get state $B/releases/../../state/releases.json
get upload -T /etc/hostname $B/boot/52-54-00-00-00-12.ipxe
get post -d x $B/releases/1/vmlinuz
get seen-from-outside -X POST $B/seen
for name in stranger nobody; do
    curl -s --interface 10.77.0.66 -o /dev/null --max-time 2 http://10.77.0.2:8480/ && say operator-page reached || say operator-page closed
done
say tftp "$(curl -s --max-time 5 tftp://10.77.0.2/undionly.kpxe)"
say tftp-outside "$(curl -s --max-time 5 --path-as-is tftp://10.77.0.2/../dnsmasq.conf || echo refused)"
resolve() { python3 -c "
import socket, struct, sys
name = sys.argv[1]
question = b''.join(bytes([len(l)]) + l.encode() for l in name.split('.')) + b'\0' + struct.pack('!HH', 1, 1)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)
s.sendto(struct.pack('!HHHHHH', 7, 0x100, 1, 0, 0, 0) + question, ('10.77.0.2', 53))
a = s.recv(512); print(socket.inet_ntoa(a[-4:]) if struct.unpack('!H', a[6:8])[0] else 'nothing')" "$1"; }
say name-boot "$(resolve vertebra-boot)"
say name-boot-domain "$(resolve vertebra-boot.north.test.example)"
say name-machine "$(resolve n1.north.test.example)"
for try in $(seq 100); do
    counted=$(curl -s http://127.0.0.1:8480/status.json | python3 -c "import json,sys; print([m['attempts'] for m in json.load(sys.stdin)['machines']])")
    [ "$counted" = "[1, 1]" ] && break
    sleep 0.05
done
say counted "$counted"
# The service is gone: files are served as before.
kill -9 $SERVICE
get script-without-service --interface 10.77.0.12 $B/boot/52-54-00-00-00-12.ipxe
ask address-without-service 52:54:00:00:00:11 7 PXEClient ipxe 10
"#;

fn run_in_a_network_of_its_own() -> (BootServer, BTreeMap<String, String>) {
    let server = BootServer::new();
    server.write("inventory.yaml", INVENTORY);
    server.certificates();
    let config = server.read("provisioning.toml");
    let config = config.replace("\nlisten = \"127.0.0.1:0\"", "\nlisten = \"10.77.0.2:8443\"");
    server.write(
        "provisioning.toml",
        &config.replace(
            "operator_listen = \"127.0.0.1:0\"",
            "operator_listen = \"127.0.0.1:8480\"",
        ),
    );
    server.add("1", 1);
    server.ok(&["release", "promote", "1", "--all"]);
    let output = Command::new("unshare")
        .args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "bash",
            "-c",
            SCRIPT,
        ])
        .env("BINARY", super::boot_server::BINARY)
        .env("FOLDER", &server.folder)
        .env(
            "CLIENT",
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/provisioning/dhcp_client.py"),
        )
        .output()
        .expect("unshare runs");
    let logs = ["serve.log", "dnsmasq.log", "nginx.log"]
        .map(|log| std::fs::read_to_string(server.path(log)).unwrap_or_default());
    assert!(output.status.success(), "{}\n{}", text(&output), logs.join("\n"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = said.lines().filter_map(|line| line.split_once('\t'));
    (
        server,
        lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    )
}

#[test]
fn known_machines_get_what_their_firmware_needs_and_strangers_get_nothing() {
    let (_server, said) = run_in_a_network_of_its_own();
    let offer = |name: &str| serde_json::from_str::<Value>(&said[name]).expect("JSON");
    let file = |name: &str| offer(name)["file"].clone();
    assert_eq!(
        (offer("bios")["address"].clone(), file("bios")),
        (json!("10.77.0.12"), json!("undionly.kpxe"))
    );
    assert_eq!(offer("bios")["server"], "10.77.0.2");
    for name in ["bios-ipxe", "second-interface-ipxe"] {
        assert_eq!(file(name), "http://10.77.0.2/boot/52-54-00-00-00-12.ipxe", "{name}");
        assert_eq!(offer(name)["address"], "10.77.0.12");
    }
    assert_eq!(
        (offer("uefi")["address"].clone(), file("uefi")),
        (json!("10.77.0.11"), json!("ipxe.efi"))
    );
    for name in ["uefi-ipxe", "address-without-service"] {
        assert_eq!(file(name), "http://10.77.0.2/boot/52-54-00-00-00-11.ipxe", "{name}");
    }
    assert_eq!(file("uefi-http"), "http://10.77.0.2/boot/52-54-00-00-00-11.efi");
    assert_eq!(offer("uefi-http")["class"], "HTTPClient");
    assert_eq!(
        offer("bios-machine-over-http")
            .get("file")
            .and_then(Value::as_str)
            .unwrap_or(""),
        ""
    );
    for name in ["stranger", "stranger-ipxe", "stranger-http"] {
        assert_eq!(offer(name), json!({}), "{name}");
    }

    assert_eq!(said["script"], "200 text/plain");
    assert!(
        said["script-text"].starts_with("#!ipxe")
            && said["script-text"].contains("http://10.77.0.2/releases/1/vmlinuz")
    );
    assert_eq!(said["script-without-service"], "200 text/plain");
    assert_eq!(
        (said["efi"].as_str(), said["efi-text"].as_str()),
        ("200 application/efi", "MZ image of 1")
    );
    assert_eq!(
        (said["root"].as_str(), said["root-text"].as_str()),
        ("200 application/octet-stream", "root of 1")
    );
    assert!(said["head"].starts_with("200"));
    // Releases and scripts are no secret; whoever reads them learns digests.
    assert!(said["stranger-root"].starts_with("200") && said["stranger-script"].starts_with("200"));
    for name in [
        "index",
        "boot-list",
        "release-list",
        "manifest",
        "unknown-machine",
        "default-script",
        "outside",
        "outside-escaped",
        "state",
        "seen-from-outside",
    ] {
        let status = said[name].split(' ').next().unwrap_or("");
        assert!(matches!(status, "404" | "400"), "{name}: {}", said[name]);
    }
    for name in ["upload", "post"] {
        let status = said[name].split(' ').next().unwrap_or("");
        assert!(matches!(status, "403" | "405" | "413"), "{name}: {}", said[name]);
    }
    assert_eq!(said["operator-page"], "closed");
    assert_eq!(said["tftp"], "iPXE for BIOS");
    assert!(said["tftp-outside"].ends_with("refused"), "{}", said["tftp-outside"]);
    assert_eq!(
        (said["name-boot"].as_str(), said["name-boot-domain"].as_str()),
        ("10.77.0.2", "10.77.0.2")
    );
    assert_eq!(said["name-machine"], "10.77.0.11");
    assert_eq!(
        said["counted"], "[1, 1]",
        "each machine's own fetch counts once, the stranger's does not"
    );
}
