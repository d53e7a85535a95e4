//! kill -9 at any moment: state is whole, a token that was used stays used, a render is finished by the next one.

use super::boot_server::{BootServer, N1, N1_MAC, attributes, autosign, json_of, request, wait_for};
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};

#[test]
fn commands_that_are_killed_anywhere_leave_state_that_the_next_one_reads() {
    let server = BootServer::new();
    for id in ["1", "2"] {
        server.add(id, 1);
    }
    server.ok(&["release", "promote", "1", "--all"]);
    // How long a command takes, so that the kills fall all over it.
    let start = Instant::now();
    server.ok(&["release", "promote", "2", "--all"]);
    let whole = start.elapsed();
    let steps = 40;
    for step in 0..steps {
        let id = if step % 2 == 0 { "1" } else { "2" };
        let arguments: &[&str] = match step % 4 {
            0 | 1 => &["release", "promote", id, "--all"],
            2 => &["arm", "n1.north"],
            _ => &["render"],
        };
        let mut child = server
            .command(arguments)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("it starts");
        std::thread::sleep(whole.mul_f64(f64::from(step) / f64::from(steps)));
        child.kill().expect("killed");
        child.wait().expect("it ends");
        server.ok(&["status"]);
        server.ok(&["release", "list"]);
    }
    server.ok(&["release", "promote", "2", "--all"]);
    server.ok(&["render"]);
    let check = std::process::Command::new("sha256sum")
        .args(["--check", "--strict", "--quiet", "CHECKSUMS"])
        .current_dir(server.path("out"))
        .status();
    assert!(check.expect("sha256sum runs").success());
    assert!(server.ok(&["render"]).contains("0 files changed, 0 removed"));
}

#[test]
fn a_killed_service_forgets_no_token_that_it_handed_out_or_took() {
    let server = BootServer::new();
    let mut serving = server.serve();
    for round in 0..6 {
        server.ok(&["arm", "n1.north"]);
        let answer = serving.post("/v1/enrol", &json!({"mac": N1_MAC, "serial": "S1"}), None);
        assert_eq!(answer.status, 200, "round {round}");
        // SIGKILL right behind the answer.
        drop(serving);
        serving = server.serve();
        let again = serving.post("/v1/enrol", &json!({"mac": N1_MAC, "serial": "S1"}), None);
        assert_eq!(again.status, 403, "round {round}: handed out once");
        let token = json_of(&answer)["token"].as_str().expect("a token").to_owned();
        let body = json!({"certname": N1, "role": "node", "datacentre": "north", "token": token});
        assert_eq!(
            serving.post("/v1/redeem", &body, None).status,
            200,
            "round {round}: still good"
        );
        drop(serving);
        serving = server.serve();
        assert_eq!(
            serving.post("/v1/redeem", &body, None).status,
            403,
            "round {round}: used once"
        );
    }
}

#[test]
fn a_redemption_that_is_killed_happened_or_did_not() {
    let server = BootServer::new();
    let serving = server.serve();
    server.ok(&["arm", "n1.north"]);
    let answer = serving.post("/v1/enrol", &json!({"mac": N1_MAC, "serial": "S1"}), None);
    let token = json_of(&answer)["token"].as_str().expect("a token").to_owned();
    let lines = attributes("node", "north");
    let csr = request(
        &server.folder,
        &format!("CN = {N1}"),
        Some(&token),
        &[&lines[0], &lines[1]],
    );
    let file = server.path("request.csr");
    fs::write(&file, &csr).expect("a file");
    let mut redeemed = false;
    for step in 0..20 {
        let input = fs::File::open(&file).expect("the request");
        let mut child = server
            .command(&["autosign", N1])
            .stdin(input)
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("it starts");
        std::thread::sleep(Duration::from_micros(300 * step));
        let _ = child.kill();
        let success = child.wait().expect("it ends").success();
        assert!(!(redeemed && success), "a second yes");
        let state: Value = serde_json::from_str(&server.read(&format!("state/machines/{N1}.json"))).expect("whole");
        let now = state["enrolment"]["state"] == "enrolled";
        assert!(now || !success, "a yes is on the disk");
        assert!(now || !redeemed, "never back");
        redeemed = now;
    }
    assert_eq!(autosign(&server, N1, &csr).status.success(), !redeemed);
}

#[test]
fn a_copy_that_was_killed_is_swept_away_by_the_next() {
    let server = BootServer::new();
    // A process that is gone, as a name.
    let mut gone = std::process::Command::new("true").spawn().expect("it runs");
    gone.wait().expect("it ends");
    server.add("1", 1);
    fs::create_dir(server.path(&format!("state/releases/.copy.{}", gone.id()))).expect("a folder");
    server.add("2", 1);
    let mut names: Vec<String> = fs::read_dir(server.path("state/releases"))
        .expect("the store")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["1", "2"]);
}

#[test]
fn damaged_state_is_named_and_nothing_is_guessed() {
    let server = BootServer::new();
    server.ok(&["arm", "n1.north"]);
    let file = format!("state/machines/{N1}.json");
    let good = server.read(&file);
    for bad in [
        "",
        "{",
        "[]",
        &good.replace("\"format\": 1", "\"format\": 2"),
        &good.replace(N1, "n2.north.test.example"),
    ] {
        server.write(&file, bad);
        let said = server.fails(1, &["status"]);
        assert!(said.contains(N1) && said.contains("backup"), "{bad:?}: {said}");
        server.fails(1, &["arm", "n1.north"]);
        assert_eq!(server.read(&file), bad, "it is not written over");
    }
    server.write(&file, &good);
    server.write("state/format", "something else\n");
    assert!(server.fails(1, &["status"]).contains("state/format"));
}

#[test]
fn who_waits_for_the_lock_gets_it_when_it_is_free() {
    let server = BootServer::new();
    server.ok(&["status"]);
    let lock = fs::File::options()
        .read(true)
        .write(true)
        .open(server.path("state/lock"))
        .expect("the lock");
    lock.lock().expect("held");
    let mut child = server
        .command(&["arm", "n1.north"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("it starts");
    server.ok(&["status"]);
    assert!(
        child.try_wait().expect("known").is_none(),
        "it waits; a reader does not"
    );
    drop(lock);
    wait_for("it has it", || child.try_wait().expect("known").is_some());
    assert_eq!(server.status("n1.north")["enrolment"], "armed");
}
