//! Releases: digests, promotion, pins, the point of no return.

use super::boot_server::BootServer;
use serde_json::Value;
use std::fs;

fn boots(server: &BootServer, name: &str) -> Value {
    server.status(name)["served"].clone()
}

fn digests_checked(server: &BootServer, what: &str, damage: impl Fn(&std::path::Path), words: &str) {
    let folder = server.release_folder("9", 1);
    damage(&folder);
    let said = server.fails(1, &["release", "add", &folder.display().to_string()]);
    assert!(said.contains(words), "{what}: {said}");
    assert!(!server.path("state/releases/9").exists(), "{what}");
    assert!(!server.ok(&["release", "list"]).contains("9 "), "{what}");
    fs::remove_dir_all(folder).expect("it was there");
}

#[test]
fn a_release_whose_digests_are_wrong_is_not_added() {
    let server = BootServer::new();
    let edit = |from: &'static str, to: &'static str| {
        move |folder: &std::path::Path| {
            let file = folder.join("manifest.json");
            let text = fs::read_to_string(&file).expect("a manifest");
            assert!(text.contains(from), "{from}");
            fs::write(file, text.replacen(from, to, 1)).expect("a file");
        }
    };
    let rewrite = |name: &'static str, text: &'static str| {
        move |folder: &std::path::Path| fs::write(folder.join(name), text).expect("a file")
    };
    digests_checked(
        &server,
        "a flipped byte",
        rewrite("root.squashfs", "rOot of 9"),
        "SHA-256",
    );
    digests_checked(
        &server,
        "a cut file",
        rewrite("vmlinuz", "kern"),
        "bytes, and the manifest says",
    );
    digests_checked(
        &server,
        "a missing file",
        |folder| fs::remove_file(folder.join("initrd.img")).expect("gone"),
        "initrd.img",
    );
    digests_checked(
        &server,
        "no manifest",
        |folder| fs::remove_file(folder.join("manifest.json")).expect("gone"),
        "manifest.json",
    );
    digests_checked(&server, "no JSON", rewrite("manifest.json", "{"), "manifest.json");
    digests_checked(
        &server,
        "another format",
        edit("\"format\":1", "\"format\":2"),
        "format 2 is not known",
    );
    digests_checked(
        &server,
        "a name that leaves the folder",
        edit("packages.txt", "../packages.txt"),
        "not a file name",
    );
    digests_checked(
        &server,
        "a hidden name",
        edit("packages.txt", ".packages"),
        "not a file name",
    );
    digests_checked(
        &server,
        "no root",
        edit("root.squashfs", "root2.squashfs"),
        "names no root.squashfs",
    );
    digests_checked(
        &server,
        "a bad name",
        edit("\"release\":\"9\"", "\"release\":\"../9\""),
        "is not a release",
    );
    digests_checked(
        &server,
        "a bad flavour",
        edit("hardware", "software"),
        "expected `hardware` or `test`",
    );
    assert_eq!(
        fs::read_dir(server.path("state/releases")).expect("the store").count(),
        0,
        "nothing is left behind"
    );
}

#[test]
fn a_release_is_never_changed_once_it_is_there() {
    let server = BootServer::new();
    server.add("1", 1);
    server.add("1", 1);
    let folder = server.release_folder("1", 2).display().to_string();
    assert!(server.fails(1, &["release", "add", &folder]).contains("never changed"));
    // Damage in the store is told, not promoted, and mended by adding it again.
    fs::write(server.path("state/releases/1/root.squashfs"), "rOot of 1").expect("a file");
    assert!(server.fails(1, &["release", "verify"]).contains("root.squashfs"));
    assert!(
        server
            .fails(1, &["release", "promote", "1", "--all"])
            .contains("root.squashfs")
    );
    server.add("1", 1);
    server.ok(&["release", "verify", "1"]);
    server.ok(&["release", "promote", "1", "--all"]);
}

#[test]
fn sites_and_machines_boot_what_is_promoted_and_pinned() {
    let server = BootServer::new();
    for id in ["1", "2", "3"] {
        server.add(id, 1);
    }
    assert_eq!(boots(&server, "n1.north"), Value::Null);
    server.ok(&["release", "promote", "1", "--all"]);
    server.ok(&["release", "promote", "2", "--site", "north"]);
    let all = |server: &BootServer| ["n1.north", "n2.north", "n1.south"].map(|name| boots(server, name));
    assert_eq!(all(&server), ["2", "2", "1"]);
    server.ok(&["release", "pin", "3", "--node", "n1.north.test.example"]);
    server.ok(&["release", "pin", "3", "--site", "south"]);
    assert_eq!(all(&server), ["3", "2", "3"]);
    assert!(
        server
            .read("out/north/www/boot/52-54-00-00-00-11.ipxe")
            .contains("/releases/3/vmlinuz")
    );
    server.ok(&["release", "promote", "2", "--all"]);
    assert_eq!(all(&server), ["3", "2", "3"], "a pin holds against a promotion");
    server.ok(&["release", "unpin", "--node", "n1.north"]);
    server.ok(&["release", "unpin", "--site", "south"]);
    assert_eq!(all(&server), ["2", "2", "2"]);
    assert!(server.ok(&["release", "list"]).contains("north, south"));
    for (arguments, words) in [
        (["promote", "7", "--all"].as_slice(), "no release 7"),
        (&["pin", "7", "--node", "n1.north"], "no release 7"),
        (&["retire", "7"], "no release 7"),
        (&["finalise", "7"], "no release 7"),
        (&["unpin", "--node", "n1.north"], "is not pinned"),
        (&["unpin", "--site", "north"], "is not pinned"),
    ] {
        let said = server.fails(1, &[&["release"], arguments].concat());
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    for (arguments, words) in [
        (["promote", "1"].as_slice(), "--site"),
        (&["promote", "1", "--site", "north", "--all"], "cannot be used with"),
        (&["promote", "1", "--site", "east"], "known: north, south"),
        (&["promote", "../1", "--all"], "is not a release"),
        (&["pin", "1", "--node", "n7.north"], "no machine `n7.north`"),
    ] {
        let said = server.fails(2, &[&["release"], arguments].concat());
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}

#[test]
fn nobody_goes_back_below_a_finalised_release() {
    let server = BootServer::new();
    server.add("1", 1);
    server.add("2", 2);
    server.add("3", 2);
    server.ok(&["release", "promote", "1", "--all"]);
    server.ok(&["release", "promote", "2", "--site", "north"]);
    assert!(
        server
            .fails(1, &["release", "finalise", "2"])
            .contains("site south still boots release 1")
    );
    server.ok(&["release", "promote", "2", "--all"]);
    server.ok(&["release", "pin", "1", "--node", "n1.south"]);
    assert!(
        server
            .fails(1, &["release", "finalise", "2"])
            .contains("n1.south.test.example (pinned) still boots release 1")
    );
    server.ok(&["release", "unpin", "--node", "n1.south"]);
    assert!(
        server.fails(1, &["release", "retire", "1"]).contains("go back to"),
        "it is what fallback needs, still"
    );
    server.ok(&["release", "finalise", "2"]);
    for arguments in [
        ["promote", "1", "--all"].as_slice(),
        &["pin", "1", "--node", "n1.north"],
        &["pin", "1", "--site", "north"],
        &["finalise", "1"],
    ] {
        let said = server.fails(1, &[&["release"], arguments].concat());
        assert!(
            said.contains("state version 1, and 2 was finalised"),
            "{arguments:?}: {said}"
        );
    }
    server.ok(&["release", "promote", "3", "--all"]);
    server.ok(&["release", "promote", "2", "--all"]);
    server.ok(&["release", "retire", "1"]);
    assert!(!server.path("state/releases/1").exists());
}

#[test]
fn a_release_in_use_is_not_retired() {
    let server = BootServer::new();
    for id in ["1", "2", "3"] {
        server.add(id, 1);
        server.ok(&["release", "promote", id, "--all"]);
    }
    assert!(
        server
            .fails(1, &["release", "retire", "3"])
            .contains("booted by site north")
    );
    assert!(
        server
            .fails(1, &["release", "retire", "2"])
            .contains("go back to at site north")
    );
    server.ok(&["release", "retire", "1"]);
    server.add("1", 1);
    server.ok(&["release", "pin", "1", "--node", "n1.north"]);
    assert!(
        server
            .fails(1, &["release", "retire", "1"])
            .contains("n1.north.test.example (pinned)")
    );
}

#[test]
fn a_release_for_other_machines_is_not_pinned_and_boots_nobody() {
    let server = BootServer::new();
    let folder = server.release_folder("t1", 1);
    let manifest = fs::read_to_string(folder.join("manifest.json")).expect("a manifest");
    fs::write(folder.join("manifest.json"), manifest.replace("hardware", "test")).expect("a file");
    server.ok(&["release", "add", &folder.display().to_string()]);
    let said = server.fails(1, &["release", "pin", "t1", "--node", "n1.north"]);
    assert!(
        said.contains("flavour test, and n1.north.test.example boots hardware"),
        "{said}"
    );
    server.ok(&["release", "promote", "t1", "--all"]);
    assert_eq!(boots(&server, "n1.north"), Value::Null);
    // Without a signed image no UEFI machine is sent to it.
    let folder = server.release_folder("noefi", 1);
    let manifest = fs::read_to_string(folder.join("manifest.json")).expect("a manifest");
    fs::write(
        folder.join("manifest.json"),
        manifest.replace("vertebra.efi", "other.efi"),
    )
    .expect("a file");
    fs::rename(folder.join("vertebra.efi"), folder.join("other.efi")).expect("renamed");
    server.ok(&["release", "add", &folder.display().to_string()]);
    assert!(
        server
            .fails(1, &["release", "promote", "noefi", "--site", "north"])
            .contains("has no vertebra.efi")
    );
    server.ok(&["release", "promote", "noefi", "--site", "south"]);
}
