//! The rendered files of the example inventory, held byte by byte. VERTEBRA_GOLDEN=write writes them anew.

use super::boot_server::BootServer;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use vertebra_provisioning::config::Config;
use vertebra_provisioning::inventory::Inventory;
use vertebra_provisioning::publish;
use vertebra_provisioning::render::{Rendered, Tree};
use vertebra_provisioning::store::Store;

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

/// The example inventory with two releases, one of them pinned.
fn example(server: &BootServer) -> Tree {
    for (id, version) in [("2026.11.26-1", 4), ("2026.12.03-1", 5)] {
        server.add(id, version);
    }
    let copied = Command::new("cp")
        .arg("-r")
        .arg(EXAMPLES)
        .arg(server.path("examples"))
        .status()
        .expect("cp runs");
    assert!(copied.success());
    let text = server
        .read("examples/provisioning.toml")
        .replace("state = \"/var/lib/vertebra-provisioning\"", "state = \"../state\"");
    server.write(
        "examples/local.toml",
        &text.replace("output = \"/srv/vertebra-boot\"", "output = \"../out\""),
    );
    for arguments in [
        ["promote", "2026.11.26-1", "--all"].as_slice(),
        &["pin", "2026.12.03-1", "--node", "n2.south"],
    ] {
        let mut command = Command::new(super::boot_server::BINARY);
        command
            .arg("--config")
            .arg(server.path("examples/local.toml"))
            .arg("release")
            .args(arguments);
        let output = command.output().expect("the binary runs");
        assert!(output.status.success(), "{}", super::boot_server::text(&output));
    }
    let mut config = Config::load(&server.path("examples/provisioning.toml")).expect("the example is right");
    config.ipxe = server.path("ipxe");
    let inventory = Inventory::load(&config.inventory, config.hiera.as_ref()).expect("the example is right");
    let store = Store::open(&server.path("state")).expect("a store");
    publish::tree(&config, &store, &inventory).expect("it renders")
}

#[test]
fn the_example_renders_to_the_same_bytes() {
    let server = BootServer::new();
    let tree = example(&server);
    let mut now: BTreeMap<String, String> = BTreeMap::new();
    let mut links = String::new();
    for (path, rendered) in &tree {
        match rendered {
            Rendered::Link(target) => links.push_str(&format!("{path} -> {target}\n")),
            Rendered::File(_) if path.contains("/tftp/") => {}
            Rendered::File(bytes) => drop(now.insert(path.clone(), String::from_utf8(bytes.clone()).expect("text"))),
        }
    }
    now.insert("links.txt".to_owned(), links);
    let golden = Path::new(GOLDEN);
    if std::env::var_os("VERTEBRA_GOLDEN").is_some_and(|value| value == "write") {
        let _ = fs::remove_dir_all(golden);
        for (path, text) in &now {
            let file = golden.join(path);
            fs::create_dir_all(file.parent().expect("a folder above")).expect("a folder");
            fs::write(file, text).expect("a file");
        }
    }
    for (path, text) in &now {
        let held = fs::read_to_string(golden.join(path)).unwrap_or_default();
        assert_eq!(
            held, *text,
            "{path}: read the difference; VERTEBRA_GOLDEN=write takes it over"
        );
    }
    let held: Vec<String> = files_below(golden, golden);
    assert_eq!(
        held,
        now.keys().cloned().collect::<Vec<_>>(),
        "no file too many, none too few"
    );
}

fn files_below(folder: &Path, root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(files_below(&path, root)),
            false => found.push(path.strip_prefix(root).expect("below").display().to_string()),
        }
    }
    found.sort();
    found
}

#[test]
fn nothing_rendered_says_who_a_machine_is_to_its_kernel_or_holds_a_secret() {
    let server = BootServer::new();
    for (path, rendered) in example(&server) {
        let Rendered::File(bytes) = rendered else { continue };
        let text = String::from_utf8_lossy(&bytes).replace("server_tokens off", "");
        for line in text.lines().filter(|line| line.starts_with("kernel ")) {
            assert!(
                !line.contains("role") && !line.contains("north") && !line.contains("south"),
                "{path}: {line}"
            );
        }
        for word in ["token", "password", "key=", "challenge", "VT-000"] {
            assert!(!text.contains(word), "{path} holds `{word}`");
        }
    }
}

/// Loopback addresses in place of the example's, so that nginx's own test can bind them.
fn on_loopback(server: &BootServer) {
    server.add("1", 1);
    server.ok(&["release", "promote", "1", "--all"]);
}

#[test]
fn dnsmasq_nginx_and_sha256sum_take_what_was_rendered() {
    let server = BootServer::new();
    let config = server.read("provisioning.toml");
    server.write(
        "provisioning.toml",
        &config.replace(
            "operator_listen = \"127.0.0.1:0\"",
            "operator_listen = \"127.0.0.1:8480\"",
        ),
    );
    on_loopback(&server);
    for site in ["north", "south"] {
        let dnsmasq = server.path(&format!("out/{site}/dnsmasq.conf"));
        let run = Command::new("dnsmasq")
            .arg("--test")
            .arg("-C")
            .arg(&dnsmasq)
            .output()
            .expect("dnsmasq runs");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        // /run is not ours here: nginx's test writes its pid file.
        let nginx = server.path(&format!("out/{site}/nginx.conf"));
        let script = format!("mount -t tmpfs none /run && exec nginx -t -c {}", nginx.display());
        let run = Command::new("unshare")
            .args(["--mount", "--net", "sh", "-c"])
            .arg(format!("ip link set lo up && {script}"))
            .output();
        let run = run.expect("unshare runs");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    }
    let run = Command::new("sha256sum")
        .args(["--check", "--strict", "--quiet", "CHECKSUMS"])
        .current_dir(server.path("out"))
        .output();
    let run = run.expect("sha256sum runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn a_second_render_changes_nothing_and_a_machine_less_takes_its_files_along() {
    let server = BootServer::new();
    on_loopback(&server);
    assert!(server.ok(&["render"]).contains("0 files changed, 0 removed"));
    let before = fs::metadata(server.path("out/north/dnsmasq.conf"))
        .and_then(|m| m.modified())
        .expect("a time");
    let shorter: Vec<&str> = super::boot_server::INVENTORY
        .lines()
        .filter(|line| !line.contains("n1.south"))
        .collect();
    server.write("inventory.yaml", &shorter.join("\n"));
    let said = server.ok(&["render"]);
    assert!(!server.path("out/south/www/boot").exists(), "{said}");
    assert!(!server.path("out/south/tftp").exists());
    let after = fs::metadata(server.path("out/north/dnsmasq.conf"))
        .and_then(|m| m.modified())
        .expect("a time");
    assert_eq!(before, after, "what is the same is not written again");
}

#[test]
fn what_somebody_else_put_there_is_left_alone_and_never_replaced() {
    let server = BootServer::new();
    server.write("out/notes.txt", "mine");
    server.write("out/north/www/boot/readme", "mine too");
    on_loopback(&server);
    server.write("out/north/www/boot/52-54-00-00-00-99.ipxe", "not rendered");
    let more = format!(
        "{}  - {{name: n9.north, site: north, role: node, macs: [\"52:54:00:00:00:99\"], address: 127.0.0.99, firmware: bios}}\n",
        super::boot_server::INVENTORY
    );
    server.write("inventory.yaml", &more);
    let before = server.read("out/north/dnsmasq.conf");
    let said = server.fails(1, &["render"]);
    assert!(
        said.contains("52-54-00-00-00-99.ipxe") && said.contains("move them"),
        "{said}"
    );
    assert_eq!(server.read("out/north/dnsmasq.conf"), before, "nothing was changed");
    assert_eq!(server.read("out/north/www/boot/52-54-00-00-00-99.ipxe"), "not rendered");
    assert_eq!(server.read("out/notes.txt"), "mine");
    assert_eq!(server.read("out/north/www/boot/readme"), "mine too");
}

#[test]
fn a_machine_without_a_promoted_release_has_no_boot_file() {
    let server = BootServer::new();
    server.add("1", 1);
    server.ok(&["release", "promote", "1", "--site", "north"]);
    assert!(server.path("out/north/www/boot/52-54-00-00-00-12.ipxe").exists());
    assert!(
        !server.path("out/north/www/boot/52-54-00-00-00-12.efi").exists(),
        "BIOS boots no EFI program"
    );
    let efi =
        fs::read_to_string(server.path("out/north/www/boot/52-54-00-00-00-11.efi")).expect("the link leads to it");
    assert_eq!(efi, "MZ image of 1");
    assert!(!server.path("out/south/www/boot").exists());
    assert!(server.path("out/south/dnsmasq.conf").exists());
}

#[test]
fn a_missing_ipxe_is_told_with_its_package() {
    let server = BootServer::new();
    fs::remove_file(server.path("ipxe/undionly.kpxe")).expect("it was there");
    let said = server.fails(1, &["render"]);
    assert!(
        said.contains("undionly.kpxe") && said.contains("package `ipxe`"),
        "{said}"
    );
}
