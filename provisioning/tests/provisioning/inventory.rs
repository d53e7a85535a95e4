//! Every refusal of a bad inventory: file, entry, what to do; all of them at once.

use super::boot_server::{BootServer, INVENTORY};

/// The inventory with one text replaced must be refused with these words.
fn refused(from: &str, to: &str, words: &[&str]) {
    assert!(INVENTORY.contains(from), "{from}");
    let server = BootServer::new();
    server.write("inventory.yaml", &INVENTORY.replacen(from, to, 1));
    let said = server.fails(2, &["render"]);
    for word in words.iter().chain(&["inventory.yaml", "nothing was changed"]) {
        assert!(said.contains(word), "`{from}` -> `{to}`: `{word}` is not in:\n{said}");
    }
    assert!(!server.path("out").exists(), "`{to}`: nothing is rendered");
}

#[test]
fn what_stands_twice_is_refused_with_both_entries() {
    refused(
        "52:54:00:00:00:12",
        "52:54:00:00:01:11",
        &[
            "machines[1] (n2.north)",
            "MAC 52:54:00:00:01:11",
            "machines[0] (n1.north)",
        ],
    );
    refused(
        "52:54:00:00:00:12",
        "52-54-00-00-00-11",
        &["MAC 52:54:00:00:00:11 is already"],
    );
    refused(
        "\"52:54:00:00:01:11\"",
        "\"52:54:00:00:00:11\"",
        &["stands there twice"],
    );
    refused(
        "name: n2.north",
        "name: n1.north",
        &["name n1-north is already", "certname n1.north.test.example is already"],
    );
    refused("name: n2.north", "name: n1-north", &["name n1-north is already"]);
    refused(
        "name: n2.north",
        "name: n2.north, certname: n1.north.test.example",
        &["certname n1.north.test.example is already"],
    );
    refused(
        "address: 127.0.0.12",
        "address: 127.0.0.1",
        &[
            "machines[1]",
            "address 127.0.0.1 is already that of machines[0] (n1.north)",
        ],
    );
    refused(
        "address: 127.0.0.12",
        "serial: S1, address: 127.0.0.12",
        &["serial S1 is already"],
    );
    refused(
        "  - {name: n2.north",
        "  - {name: n2.north, name: n3.north",
        &["duplicate"],
    );
    refused("  south: {", "  north: {", &["duplicate"]);
}

#[test]
fn addresses_that_cannot_be_a_machine_s_are_refused() {
    let cases = [
        (
            "127.1.0.12",
            "127.1.0.12 is outside of site north, which is 127.0.0.0/16",
        ),
        ("10.0.0.1", "outside of site north"),
        ("127.0.0.0", "the network's own"),
        ("127.0.255.255", "broadcast"),
        ("127.0.0.2", "the boot server's"),
        ("127.0.0.3", "the gateway's"),
        ("127.0.0.4", "a name or time server's"),
        ("127.0.0.250", "reserved range 127.0.0.240-127.0.0.255"),
        ("127.0.9.1", "none of the site's ranges: 127.0.0.0-127.0.0.255"),
        ("127.0.0.300", "is not an IPv4 address"),
        ("::1", "is not an IPv4 address"),
        ("\"\"", "is not an IPv4 address"),
    ];
    let site = "boot_server: 127.0.0.2, gateway: 127.0.0.3, dns: [127.0.0.4], ranges: [127.0.0.0-127.0.0.255], reserved: [127.0.0.240-127.0.0.255]";
    for (address, words) in cases {
        let server = BootServer::new();
        let text = INVENTORY.replacen("boot_server: 127.0.0.2", site, 1);
        server.write(
            "inventory.yaml",
            &text.replace("address: 127.0.0.12", &format!("address: {address}")),
        );
        let said = server.fails(2, &["render", "--check"]);
        assert!(
            said.contains(words) && said.contains("machines[1] (n2.north): address"),
            "{address}: {said}"
        );
        assert!(
            said.contains("1 mistake;"),
            "{address}: one mistake is told once: {said}"
        );
    }
}

#[test]
fn names_kinds_and_hardware_addresses_are_held_to_their_form() {
    for mac in [
        "52:54:00:00:00",
        "525400000012",
        "52:54:00:00:00:1g",
        "53:54:00:00:00:12",
        "ff:ff:ff:ff:ff:ff",
        "00:00:00:00:00:00",
        "",
    ] {
        refused(
            "\"52:54:00:00:00:12\"",
            &format!("\"{mac}\""),
            &["machines[1] (n2.north): macs", "is not a MAC address"],
        );
    }
    refused("macs: [\"52:54:00:00:00:12\"]", "macs: []", &["macs: there is none"]);
    refused(
        "name: n2.north",
        "name: N2.north",
        &["machines[1] (N2.north): name", "is not a host name"],
    );
    refused("name: n2.north", "name: \"n2,north\"", &["is not a host name"]);
    refused(
        "name: n2.north",
        "name: \"n2\\nserver=6.6.6.6\"",
        &["is not a host name"],
    );
    refused("name: n2.north", "name: vertebra-boot", &["is the boot server's"]);
    refused("firmware: bios", "firmware: coreboot", &["firmware", "bios, uefi"]);
    refused(
        "firmware: bios",
        "firmware: bios, flavour: small",
        &["flavour", "hardware, test"],
    );
    refused(
        "serial: \"S1\"",
        "serial: 17",
        &["put numbers that are names in quotes"],
    );
    refused("serial: \"S1\"", "serial: \" S1\"", &["serial: write 1 to 64"]);
    refused("role: witness", "role: Witness", &["role", "is not a word"]);
    refused(
        "role: witness",
        "role: queen",
        &["unknown role `queen`; known at north: node, witness"],
    );
    refused(
        "site: south",
        "site: east",
        &["machines[2] (n1.south): site: unknown site `east`; known: north, south"],
    );
    refused(
        "role: witness",
        "role: witness, colour: red",
        &["machines[1] (n2.north)", "unknown field `colour`"],
    );
    refused(
        "role: witness, ",
        "",
        &["machines[1] (n2.north)", "missing field `role`"],
    );
}

#[test]
fn sites_are_held_to_their_form() {
    let subnet = "subnet: 127.1.0.0/16";
    refused(
        subnet,
        "subnet: 127.1.0.1/16",
        &["sites.south: subnet", "the network is 127.1.0.0/16"],
    );
    refused(subnet, "subnet: 127.1.0.0", &["is not a network"]);
    refused(subnet, "subnet: 127.1.0.0/31", &["prefix 8 to 30"]);
    refused(subnet, "subnet: 127.1.0.0/99", &["is not a network"]);
    refused(subnet, "subnet: 127.0.0.0/8", &["overlaps 127.0.0.0/16 of site north"]);
    refused(
        "boot_server: 127.1.0.2",
        "boot_server: 127.0.0.2",
        &["sites.south: boot_server: 127.0.0.2 is outside of 127.1.0.0/16"],
    );
    refused(
        "boot_server: 127.1.0.2",
        "boot_server: 127.1.0.2, gateway: 127.1.0.2",
        &["gateway: it is the boot server's"],
    );
    refused(
        "boot_server: 127.1.0.2",
        "boot_server: 127.1.0.2, ranges: [127.1.0.9-127.1.0.3]",
        &["ends before it begins"],
    );
    refused(
        "boot_server: 127.1.0.2",
        "boot_server: 127.1.0.2, reserved: [10.0.0.0-10.0.0.3]",
        &["reserved: 10.0.0.0-10.0.0.3 is not inside"],
    );
    refused(
        "boot_server: 127.1.0.2",
        "boot_server: 127.1.0.2, dns: [x]",
        &["dns: `x` is not an IPv4 address"],
    );
    refused(
        "boot_server: 127.1.0.2",
        "boot_server: 127.1.0.2, interface: \"eth0;x\"",
        &["interface"],
    );
    let argument = |text: &str| format!("boot_server: 127.1.0.2, kernel_arguments: [\"{text}\"]");
    refused(
        "boot_server: 127.1.0.2",
        &argument("vertebra.sha256=0"),
        &["kernel_arguments: `vertebra.sha256=0`", "set by the boot script"],
    );
    refused(
        "boot_server: 127.1.0.2",
        &argument("quiet || shell"),
        &["do not belong into a kernel argument"],
    );
    refused(
        "boot_server: 127.1.0.2",
        &argument("init=/bin/sh"),
        &["must not be set"],
    );
    refused(
        ", puppet_server: puppet.test.example}\n  south",
        "}\n  south",
        &["sites.north: puppet_server: it is missing", "Hiera"],
    );
    refused(
        ", puppet_server: puppet.test.example}\n  south",
        ", puppet_server: puppet.test.example, puppet_address: here}\n  south",
        &["sites.north: puppet_address: `here` is not an IPv4 address"],
    );
    refused("  south:", "  Sou_th:", &["sites.Sou_th: name"]);
    refused("  south:", "  so_uth:", &["sites.so_uth: name", "is not a host name"]);
}

#[test]
fn a_file_that_is_no_inventory_is_refused_whole() {
    let server = BootServer::new();
    for (text, words) in [
        ("", "it is empty"),
        ("[", "not YAML"),
        ("just words", "invalid type"),
        ("format: 2\ndomain: x\n", "2 is not known here"),
        ("format: 1\n", "missing field `domain`"),
        ("format: 1\ndomain: x\nhosts: []\n", "unknown field `hosts`"),
        ("format: 1\ndomain: X Y\n", "is not a host name"),
        ("format: 1\ndomain: x\n", "sites: there is none"),
        ("format: 1\ndomain: x\nmachines: {}\n", "invalid type"),
    ] {
        server.write("inventory.yaml", text);
        let said = server.fails(2, &["render"]);
        assert!(said.contains(words), "{text:?}: {said}");
    }
    std::fs::write(server.path("inventory.yaml"), [0xff, 0xfe]).expect("a file");
    assert!(server.fails(2, &["render"]).contains("not UTF-8"));
    std::fs::remove_file(server.path("inventory.yaml")).expect("it was there");
    assert!(server.fails(2, &["render"]).contains("No such file"));
}

#[test]
fn all_mistakes_are_told_at_once() {
    let server = BootServer::new();
    let text = INVENTORY
        .replace("52:54:00:00:00:12", "nonsense")
        .replace("role: witness", "role: queen")
        .replace("address: 127.1.0.11", "address: 10.9.9.9")
        .replace("subnet: 127.0.0.0/16", "subnet: 127.0.0.1/16");
    server.write("inventory.yaml", &text);
    let said = server.fails(2, &["render"]);
    for entry in [
        "sites.north: subnet",
        "machines[1] (n2.north): macs",
        "machines[2] (n1.south): address",
    ] {
        assert!(said.contains(entry), "{entry}: {said}");
    }
    assert!(
        !said.contains("unknown site `north`"),
        "a site with a mistake is not missing too: {said}"
    );
    assert!(
        said.contains("3 mistakes"),
        "the role is judged at its site, which is not known yet: {said}"
    );
}

#[test]
fn hiera_says_which_sites_and_roles_there_are() {
    let server = BootServer::with("hiera = \"hiera\"");
    assert!(server.fails(2, &["render"]).contains("no such folder"));
    for (file, text) in [
        ("common", "---\n"),
        ("datacentre/north", ""),
        ("datacentre/south", "# nothing\n"),
        ("role/node", ""),
    ] {
        server.write(&format!("hiera/{file}.yaml"), text);
    }
    let said = server.fails(2, &["render"]);
    assert!(
        said.contains("machines[1] (n2.north): role: unknown role `witness`; known at north: node"),
        "{said}"
    );
    // A role of one data centre alone.
    server.write("hiera/role/south/witness.yaml", "");
    assert!(server.fails(2, &["render"]).contains("unknown role `witness`"));
    server.write("hiera/role/north/witness.yaml", "");
    server.ok(&["render"]);
    std::fs::remove_file(server.path("hiera/datacentre/south.yaml")).expect("it was there");
    let said = server.fails(2, &["render"]);
    assert!(
        said.contains("sites.south: there is no") && said.contains("south.yaml; known: north"),
        "{said}"
    );
    server.write(
        "hiera/datacentre/south.yaml",
        "provisioning::dnss: []\nprovisioning::dns: 10.0.0.1\n",
    );
    let said = server.fails(2, &["render"]);
    assert!(
        said.contains("provisioning::dnss: unknown key") && said.contains("provisioning::dns: wrong type"),
        "{said}"
    );
    server.write("hiera/datacentre/south.yaml", "a: b: c\n");
    assert!(server.fails(2, &["render"]).contains("south.yaml: not YAML"));
}

#[test]
fn a_bad_configuration_names_key_and_file() {
    for (settings, words) in [
        ("colour = 1", "unknown field `colour`"),
        (
            "[enrolment]\ntoken_minutes = 0",
            "enrolment.token_minutes: 0 is not between 1 and 240",
        ),
        ("[fallback]\nboots = 0", "fallback.boots"),
        ("[fallback]\nsettle_seconds = -1", "fallback.settle_seconds"),
        ("[autosign]\nservices = [\"https://a\"]", "autosign.boot_ca"),
    ] {
        let server = BootServer::with(settings);
        let said = server.fails(2, &["status"]);
        assert!(
            said.contains(words) && said.contains("provisioning.toml"),
            "{settings}: {said}"
        );
    }
    let server = BootServer::new();
    let text = server.read("provisioning.toml");
    server.write(
        "provisioning.toml",
        &text.replace("operator_listen = \"127.0.0.1:0\"", "operator_listen = \"0.0.0.0:0\""),
    );
    assert!(server.fails(2, &["serve"]).contains("0.0.0.0 is not loopback"));
    server.write(
        "provisioning.toml",
        &text.replace("output = \"out\"", "output = \"o ut\""),
    );
    assert!(server.fails(2, &["render"]).contains("output:"));
}
