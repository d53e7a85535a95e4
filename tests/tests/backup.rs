//! Backup, restore and the drill at the wire: what was acknowledged before a backup began comes back whole, what is damaged
//! is named, and what was broken off never looks whole.

use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vertebra_tests::books::{Lane, digest};
use vertebra_tests::disk::{Disk, loop_devices_or_left_out};
use vertebra_tests::mesh::{Mailbox, strings};
use vertebra_tests::node::{Folder, Node, binary, free_port};
use vertebra_tests::pds::Client;
use vertebra_tests::process::{Process, wait_until};
use vertebra_tests::release::restamp;

/// A seeded patient.
const JANE: &str = "9000000009";
/// Longest wait for something that takes a moment.
const WAIT_MAX: Duration = Duration::from_secs(60);

fn told(output: &Output) -> String {
    let (out, errors) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(errors))
}

fn backup_command(node: &Path, to: &Path, rate: &str) -> Command {
    let mut command = Command::new(binary());
    command.arg("backup").arg(to).args(["--json", "--rate", rate]);
    command.arg("--sandbox").arg(node);
    command
}

/// Takes one; a node finds out a moment later that whoever took the one before is gone.
fn backup_when_free(node: &Path, to: &Path) -> Output {
    let began = Instant::now();
    loop {
        let output = backup_command(node, to, "0").output().expect("the binary starts");
        if !told(&output).contains("being taken already") || began.elapsed() > Duration::from_secs(30) {
            return output;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn backup(node: &Path, to: &Path) -> Value {
    let output = backup_when_free(node, to);
    assert!(output.status.success(), "{}", told(&output));
    serde_json::from_slice(&output.stdout).expect("a report")
}

fn restore(from: &Path, into: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg("restore").arg(from).arg("--json").args(into);
    command.output().expect("the binary starts")
}

fn drill(from: &Path, scratch: &Path) -> Output {
    let mut command = Command::new(binary());
    command
        .arg("drill")
        .arg(from)
        .arg("--json")
        .arg("--scratch")
        .arg(scratch);
    command.output().expect("the binary starts")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// A sandbox's folder without what the node stored: the same authorities and keys, so that the same clients are known.
fn empty_twin(of: &Path, twin: &Path) {
    fs::create_dir_all(twin).expect("the folder can be made");
    for found in fs::read_dir(of).expect("the sandbox's folder") {
        let found = found.expect("a name");
        if found.file_type().expect("a type").is_file() && found.file_name() != "sandbox.json" {
            fs::copy(found.path(), twin.join(found.file_name())).expect("the disk takes it");
        }
    }
}

fn body(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes_made = Vec::with_capacity(bytes + 8);
    while bytes_made.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes_made.extend_from_slice(&state.to_le_bytes());
    }
    bytes_made.truncate(bytes);
    bytes_made
}

/// Small ones that ride in their commands, and large ones in several pieces.
fn body_of(number: u64) -> Vec<u8> {
    let bytes = [500, 90_000, 20_000, 1_500_000][(number % 4) as usize];
    body(number, bytes)
}

async fn fill(node: &Node, messages: u64) -> Lane {
    let mut alice = node.mailbox(0);
    let mut lane = Lane::default();
    for _ in 0..messages {
        assert!(lane.step("before", &mut alice, "X26ABC2", body_of).await);
    }
    lane
}

/// Every message of the lane is in the inbox with its bytes.
async fn hold_against(lane: &Lane, bob: &mut Mailbox) {
    let inbox = bob.inbox().await;
    for (number, (message, wanted)) in &lane.acknowledged {
        assert!(inbox.contains(message), "message {number} is missing");
        let answer = bob.download(message).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(&digest(&answer.body), wanted, "message {number} has other bytes");
    }
}

/// The files of a backup, in its manifest's order, and the manifest.
fn files_of(backup: &Path) -> Vec<String> {
    let bytes = fs::read(backup.join("manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_slice(&bytes).expect("JSON");
    let files = manifest["files"].as_array().expect("files").iter();
    let names = files.map(|file| file["name"].as_str().expect("a name").to_owned());
    names.chain(["manifest.json".to_owned()]).collect()
}

fn assert_closed_to_others(folder: &Path) {
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(folder), 0o700);
    for file in files_of(folder) {
        assert_eq!(mode(&folder.join(&file)), 0o600, "{file}");
    }
}

fn is_empty(folder: &Path) -> bool {
    let names = fs::read_dir(folder).map(|found| found.flatten().map(|found| found.file_name()).collect::<Vec<_>>());
    names.is_ok_and(|names| names.iter().all(|name| name == "lock"))
}

#[tokio::test]
async fn a_backup_taken_under_load_restores_everything_acknowledged_before_it_began() {
    let folder = Folder::new("backup-load");
    let (data, taken) = (folder.path().join("first"), folder.path().join("taken"));
    let mut node = Node::start_with(&data, &["--log-level", "info"]);
    let before = fill(&node, 40).await;
    let mut worker = Client::worker(&node);
    let version = worker.read(JANE).await.ok(200).version();
    let change = json!([{"op": "replace", "path": "/gender", "value": "unknown"}]);
    worker.patch(JANE, version, &change).await.ok(200);

    // Both services go on while it is taken.
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, mut alice) = (stop.clone(), node.mailbox(0));
    let sending = tokio::spawn(async move {
        let mut lane = Lane::default();
        while !stopped.load(Ordering::Relaxed) {
            assert!(lane.step("during", &mut alice, "X26ABC2", body_of).await);
        }
        lane.acknowledged.len()
    });
    let (stopped, mut patcher) = (stop.clone(), worker.another());
    let mut others = strings(&node.sandbox["pds"]["nhs_numbers"]).into_iter();
    let other = others.find(|number| number != JANE).expect("more than one is seeded");
    let patching = tokio::spawn(async move {
        let mut count = 0;
        while !stopped.load(Ordering::Relaxed) {
            let seen = patcher.read(&other).await;
            let gender = ["male", "female"][count % 2];
            let change = json!([{"op": "replace", "path": "/gender", "value": gender}]);
            patcher.patch(&other, seen.ok(200).version(), &change).await.ok(200);
            count += 1;
        }
        count
    });
    let (from, to) = (data.clone(), taken.clone());
    let report = tokio::task::spawn_blocking(move || {
        let output = backup_command(&from, &to, "8").output().expect("the binary starts");
        assert!(output.status.success(), "{}", told(&output));
        serde_json::from_slice::<Value>(&output.stdout).expect("a report")
    });
    let report = report.await.expect("it ends");
    stop.store(true, Ordering::Relaxed);
    let during = sending.await.expect("no message was refused");
    assert!(during > 0, "messages went on while the backup was taken");
    assert!(patching.await.expect("no patch was refused") > 0);
    assert!(report["uploads"].as_u64() >= Some(20), "{report:#}");
    assert_closed_to_others(&taken);
    assert!(
        !data.join("data/snapshots/backup").exists(),
        "the ledger's copy is gone"
    );
    // The greeting names a test patient; the node's own lines, which begin with their time, name nobody.
    let said = node.log_text();
    let said: Vec<&str> = said.lines().filter(|line| line.starts_with("20")).collect();
    let said = said.join("\n");
    assert!(said.contains("a backup is taken") && !said.contains(JANE), "{said}");
    node.terminate();

    let proved = drill(&taken, folder.path());
    assert!(proved.status.success(), "{}", told(&proved));
    let proved: Value = serde_json::from_slice(&proved.stdout).expect("a report");
    let checks = proved["checks"].as_array().expect("checks");
    let named: HashMap<&str, &Value> = checks
        .iter()
        .map(|check| (check["name"].as_str().expect("a name"), check))
        .collect();
    assert_eq!(named["state digest"]["detail"], report["digest"]);
    for check in ["audit chain", "ledger against journal", "patients against journal"] {
        assert_eq!(named[check]["ok"], true, "{proved:#}");
    }
    let left = fs::read_dir(folder.path()).expect("the folder").flatten();
    let left = left.filter(|found| found.file_name().to_string_lossy().starts_with("vertebra-drill-"));
    assert_eq!(left.count(), 0, "the scratch is gone");

    let second = folder.path().join("second");
    empty_twin(&data, &second);
    let output = restore(&taken, &["--sandbox", text(&second)]);
    assert!(output.status.success(), "{}", told(&output));
    let restored: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!(
        (&restored["digest"], &restored["index"]),
        (&report["digest"], &report["index"])
    );
    let mut node = Node::start(&second);
    hold_against(&before, &mut node.mailbox(1)).await;
    let mut worker = Client::worker(&node);
    let jane = worker.read(JANE).await;
    assert_eq!(
        (jane.ok(200).version(), jane.json["gender"].as_str()),
        (version + 1, Some("unknown"))
    );
    // It takes writes, and goes on over a restart.
    let after = fill(&node, 4).await;
    worker
        .patch(
            JANE,
            version + 1,
            &json!([{"op": "replace", "path": "/gender", "value": "female"}]),
        )
        .await
        .ok(200);
    node.kill();
    node.restart();
    hold_against(&before, &mut node.mailbox(1)).await;
    hold_against(&after, &mut node.mailbox(1)).await;
    for proof in [["verify", "--deep"].as_slice(), &["audit", "verify"]] {
        let mut command = Command::new(binary());
        let output = command.args(proof).arg("--sandbox").arg(&second).output();
        let output = output.expect("the binary starts");
        assert!(output.status.success(), "{proof:?}: {}", told(&output));
    }
}

#[tokio::test]
async fn each_damaged_file_is_named_and_nothing_of_the_backup_is_restored() {
    let folder = Folder::new("backup-damage");
    let (data, taken) = (folder.path().join("first"), folder.path().join("taken"));
    let node = Node::start(&data);
    fill(&node, 6).await;
    backup(&data, &taken);
    drop(node);
    let files = files_of(&taken);
    for kind in ["ledger.mdb", "entries/", "bodies/", "audit/", "manifest.json"] {
        assert!(files.iter().any(|file| file.starts_with(kind)), "{kind} in {files:?}");
    }
    let target = folder.path().join("target");
    let into = ["--data", text(&target)];
    let refused = |file: &str, words: &[&str]| {
        for output in [restore(&taken, &into), drill(&taken, folder.path())] {
            let said = told(&output);
            assert_eq!(output.status.code(), Some(1), "{file}: {said}");
            assert!(said.contains(file), "{file} is not named: {said}");
            assert!(words.iter().all(|word| said.contains(word)), "{file}: {said}");
        }
        assert!(is_empty(&target), "{file}");
    };
    for file in &files {
        let path = taken.join(file);
        let whole = fs::read(&path).expect("it is there");
        let mut flipped = whole.clone();
        // Of the manifest a digit of a digest, so that it still parses.
        let at = match file.as_str() {
            "manifest.json" => String::from_utf8_lossy(&whole).find("\"digest\"").expect("it is there") + 12,
            _ => whole.len() / 2,
        };
        flipped[at] = if flipped[at] == b'0' { b'1' } else { b'0' };
        for (bytes, words) in [
            (&flipped[..], ["damaged", "another"]),
            (&whole[..whole.len() - 2], ["", "another"]),
        ] {
            fs::write(&path, bytes).expect("the disk takes it");
            refused(file, &words);
        }
        fs::remove_file(&path).expect("it is there");
        refused(file, &["another"]);
        fs::write(&path, &whole).expect("the disk takes it");
    }
    // Of two the first is named.
    for file in [&files[1], &files[2]] {
        let path = taken.join(file);
        let mut bytes = fs::read(&path).expect("it is there");
        bytes[0] ^= 1;
        fs::write(&path, bytes).expect("the disk takes it");
    }
    refused(&files[1], &["damaged"]);
    let path = taken.join("manifest.json");
    let manifest = fs::read_to_string(&path).expect("it is there");
    fs::write(&path, manifest.replace("\"format\": 2,", "\"format\": 99,")).expect("the disk takes it");
    refused("format 99", &["newer release"]);
}

fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the binary starts")
}

fn bytes_in(folder: &Path) -> u64 {
    let mut bytes = 0;
    for found in fs::read_dir(folder).into_iter().flatten().flatten() {
        match found.metadata() {
            Ok(meta) if meta.is_dir() => bytes += bytes_in(&found.path()),
            Ok(meta) => bytes += meta.len(),
            Err(_) => {}
        }
    }
    bytes
}

/// Starts a slow backup, and waits until some of it is written.
fn backup_under_way(node: &Path, to: &Path) -> (Child, PathBuf) {
    let child = start(&mut backup_command(node, to, "1"));
    let part = to.with_added_extension("part");
    wait_until("some of the backup is written", WAIT_MAX, || bytes_in(&part) > 600_000);
    (child, part)
}

#[tokio::test]
async fn a_backup_that_is_broken_off_leaves_nothing_that_looks_whole() {
    let folder = Folder::new("backup-broken");
    let (data, taken) = (folder.path().join("first"), folder.path().join("taken"));
    let mut node = Node::start(&data);
    fill(&node, 24).await;
    let target = folder.path().join("target");

    let (mut child, part) = backup_under_way(&data, &taken);
    let second = backup_command(&data, &folder.path().join("other"), "0").output();
    let second = second.expect("the binary starts");
    assert_eq!(second.status.code(), Some(1));
    assert!(told(&second).contains("being taken already"), "{}", told(&second));
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert!(!taken.exists(), "it never got its name");
    let output = restore(&part, &["--data", text(&target)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(told(&output).contains("no manifest.json"), "{}", told(&output));
    // The node lets go by itself, and the same name can be taken again, in the place of what was left.
    let copy = data.join("data/snapshots/backup");
    wait_until("the ledger's copy is gone", WAIT_MAX, || !copy.exists());
    backup(&data, &taken);
    assert!(!part.exists());
    assert!(drill(&taken, folder.path()).status.success());
    let output = backup_command(&data, &taken, "0").output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(told(&output).contains("there already"), "{}", told(&output));

    let later = folder.path().join("later");
    let (child, part) = backup_under_way(&data, &later);
    node.kill();
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("broke the backup off"), "{}", told(&output));
    assert!(!part.exists() && !later.exists(), "nothing was kept");
    node.restart();
    assert!(!copy.exists(), "the start removed the copy");
    backup(&data, &later);
    // A backup under way does not hold up a stop.
    let last = folder.path().join("last");
    let (child, _) = backup_under_way(&data, &last);
    assert!(node.terminate().success());
    assert_eq!(child.wait_with_output().expect("it ends").status.code(), Some(1));
    assert!(!last.exists());
}

#[tokio::test]
async fn a_full_disk_under_a_backup_is_told_and_nothing_is_kept() {
    if !loop_devices_or_left_out("a_full_disk_under_a_backup_is_told_and_nothing_is_kept") {
        return;
    }
    let folder = Folder::new("backup-full");
    let data = folder.path().join("first");
    let node = Node::start(&data);
    fill(&node, 24).await;
    let disk = Disk::new(&folder.path().join("image"), &folder.path().join("mount"), 48);
    let taken = disk.path().join("taken");
    let (child, part) = backup_under_way(&data, &taken);
    // Somebody else takes the rest of the room.
    let filler = disk.path().join("filler");
    let mut dd = Command::new("dd");
    let filled = dd
        .arg("if=/dev/zero")
        .arg(format!("of={}", filler.display()))
        .arg("bs=64k")
        .output();
    assert!(!filled.expect("dd starts").status.success(), "it ends at the full disk");
    let output = child.wait_with_output().expect("it ends");
    let said = told(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("No space left") && said.contains("nothing was kept"),
        "{said}"
    );
    assert!(!part.exists() && !taken.exists());
    // Where it shows beforehand, nothing is written at all.
    let output = backup_when_free(&data, &taken);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("nothing was written"), "{}", told(&output));
    assert!(!part.exists() && !taken.exists());
    // A restore looks first as well.
    let kept = folder.path().join("kept");
    backup(&data, &kept);
    let output = restore(&kept, &["--data", text(&disk.path().join("data"))]);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("free above its reserve"), "{}", told(&output));
    assert!(is_empty(&disk.path().join("data")));
}

/// A configuration of the same authorities as the sandbox's, with another number and data folder.
fn configuration(sandbox: &Path, file: &Path, id: u64, data: &Path) {
    let path = |name: &str| sandbox.join(name).display().to_string();
    let written = format!(
        "[node]\nid = {id}\nname = \"n{id}\"\nsite = \"s\"\ndata = \"{}\"\n[http]\nlisten = \"127.0.0.1:{}\"\n\
         [tls]\ncertificate = \"{}\"\nkey = \"{}\"\nclient_ca = \"{}\"\n[admin]\nsocket = \"admin.sock\"\n\
         listen = \"127.0.0.1:{}\"\n[mesh]\nshared_key = \"{}\"\n[logging]\nformat = \"text\"\n",
        data.display(),
        free_port(),
        path("server.pem"),
        path("server.key"),
        path("ca.pem"),
        free_port(),
        path("shared.key"),
    );
    fs::write(file, written).expect("the disk takes it");
}

fn status(file: &Path) -> Option<Value> {
    let mut command = Command::new(binary());
    let output = command.args(["status", "--json", "--config"]).arg(file).output().ok()?;
    serde_json::from_slice(&output.stdout).ok()
}

#[tokio::test]
async fn a_restore_never_writes_over_data_and_makes_a_cluster_of_one_of_its_own_number() {
    let folder = Folder::new("backup-restore");
    let (data, taken) = (folder.path().join("first"), folder.path().join("taken"));
    let mut node = Node::start(&data);
    fill(&node, 6).await;
    let report = backup(&data, &taken);
    let running = restore(&taken, &["--sandbox", text(&data)]);
    assert!(told(&running).contains("in use by another"), "{}", told(&running));
    node.terminate();
    let before = bytes_in(&data.join("data"));
    let output = restore(&taken, &["--sandbox", text(&data)]);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("is not empty"), "{}", told(&output));
    assert_eq!(bytes_in(&data.join("data")), before, "nothing was touched");

    let (target, file) = (folder.path().join("target"), folder.path().join("node.toml"));
    fs::create_dir_all(&target).expect("the disk takes it");
    configuration(&data, &file, 7, &target);
    // As a restore that was killed leaves it.
    fs::write(target.join("restoring"), "").expect("the disk takes it");
    fs::create_dir_all(target.join("journal/log")).expect("the disk takes it");
    fs::write(target.join("journal/log/00000001.seg"), "half").expect("the disk takes it");
    let output = Command::new(binary()).args(["node", "--config"]).arg(&file).output();
    let output = output.expect("the binary starts");
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("was cut short"), "{}", told(&output));
    let output = restore(&taken, &["--config", text(&file)]);
    assert!(output.status.success(), "{}", told(&output));
    let restored: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!(restored["digest"], report["digest"]);
    let again = restore(&taken, &["--config", text(&file)]);
    assert!(told(&again).contains("is not empty"), "{}", told(&again));

    let mut command = Command::new(binary());
    let mut process = Process::start(
        command.args(["node", "--config"]).arg(&file),
        &folder.path().join("log"),
    );
    let mut seen = None;
    wait_until("the restored node serves", WAIT_MAX, || {
        assert!(
            process.ended().is_none(),
            "{}",
            fs::read_to_string(folder.path().join("log")).unwrap_or_default()
        );
        seen = status(&file);
        seen.as_ref().is_some_and(|seen| seen["members"][0]["role"] == "leader")
    });
    let seen = seen.expect("it was just read");
    let members = seen["members"].as_array().expect("members");
    assert_eq!((members.len(), members[0]["id"].as_u64()), (1, Some(7)), "{seen:#}");
    let mut command = Command::new(binary());
    let output = command.args(["verify", "--deep", "--config"]).arg(&file).output();
    let output = output.expect("the binary starts");
    assert!(output.status.success(), "{}", told(&output));
}

#[tokio::test]
async fn an_older_release_refuses_a_backup_of_a_later_format_level_and_names_the_release_that_reads_it() {
    let folder = Folder::new("backup-level");
    let (data, taken) = (folder.path().join("first"), folder.path().join("taken"));
    let node = Node::start(&data);
    fill(&node, 2).await;
    backup(&data, &taken);
    drop(node);
    let older = folder.path().join("older");
    restamp(&binary(), &older, "0.0.9", 1..=1);
    let target = folder.path().join("target");
    for command in [
        ["restore", "--data", text(&target)],
        ["drill", "--scratch", text(folder.path())],
    ] {
        let [name, option, value] = command;
        let output = Command::new(&older)
            .arg(name)
            .arg(&taken)
            .args([option, value])
            .output();
        let output = output.expect("the copy starts");
        let said = told(&output);
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        let words = ["format level in force is 2", "(0.0.9) speaks 1", "start release"];
        assert!(words.iter().all(|word| said.contains(word)), "{name}: {said}");
        assert!(!target.exists(), "{name}: nothing is written");
    }
    assert!(restore(&taken, &["--data", text(&target)]).status.success());
}
