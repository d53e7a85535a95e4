//! The command line as a newcomer and a script meet it.

use std::process::{Command, Output};
use std::time::Duration;
use vertebra_tests::mesh::WORKFLOW;
use vertebra_tests::node::{Folder, Node, binary};
use vertebra_tests::pds::Client;
use vertebra_tests::process::wait_until;
use vertebra_tests::python::interpreter;

fn vertebra(arguments: &[&str]) -> Output {
    Command::new(binary())
        .args(arguments)
        .output()
        .expect("the binary starts")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_sandbox_is_ready_in_two_seconds_and_says_how_to_send_a_first_message() {
    let folder = Folder::new("first");
    let node = Node::start(&folder.path().join("data"));
    assert!(
        node.ready_after < Duration::from_secs(2),
        "ready after {:?}",
        node.ready_after
    );
    let wait = Duration::from_secs(2);
    wait_until("the sandbox has printed", wait, || {
        node.log_text().contains("mesh_client")
    });
    let text = node.log_text();
    for part in [
        "curl",
        "mesh_client",
        "X26ABC1",
        node.sandbox["url"].as_str().unwrap_or("no url"),
    ] {
        assert!(text.contains(part), "it prints {part}:\n{text}");
    }
}

/// The commands that a sandbox prints, each as it would be pasted.
fn printed(text: &str) -> Vec<String> {
    let (mut commands, mut lines) = (Vec::new(), text.lines());
    while let Some(line) = lines.next() {
        let here = line.ends_with("<<'EOF'");
        if !here && !line.starts_with("  ") {
            continue;
        }
        let mut command = vec![line];
        while command
            .last()
            .is_some_and(|last| if here { *last != "EOF" } else { last.ends_with('\\') })
        {
            command.push(lines.next().expect("a command has an end"));
        }
        commands.push(command.join("\n"));
    }
    commands
}

#[test]
fn every_printed_command_works_as_pasted() {
    let folder = Folder::new("pasted");
    let node = Node::start(&folder.path().join("data"));
    wait_until("the sandbox has printed", Duration::from_secs(10), || {
        node.log_text().contains("/metrics")
    });
    // The environment that the Makefile made, instead of one out of the network.
    let environment = interpreter();
    let environment = environment
        .parent()
        .and_then(|bin| bin.parent())
        .expect("it has a folder");
    std::os::unix::fs::symlink(environment, node.data.join("venv")).expect("the folder can be written");
    let commands = printed(&node.log_text());
    let run = |number: usize, expected: &str| {
        let output = Command::new("bash").args(["-c", &commands[number]]).output();
        let output = output.expect("bash starts");
        let told = format!(
            "{}\n{}{}",
            commands[number],
            out(&output),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.status.success() && out(&output).contains(expected), "{told}");
    };
    assert_eq!(commands.len(), 10, "{commands:#?}");
    run(0, "messageID");
    run(1, "messages\":[\"");
    assert!(commands[2].contains("pip install"), "{}", commands[2]);
    run(3, "received");
    run(4, "\"id\":\"9000000009\"");
    run(5, "searchset");
    run(6, "\"gender\":\"male\"");
    run(6, "RESOURCE_VERSION_MISMATCH");
    run(7, "healthy");
    run(8, "X26ABC1");
    run(9, "vertebra_requests_total");
}

#[tokio::test]
async fn a_sandbox_keeps_its_messages_and_certificates_across_restarts() {
    let folder = Folder::new("again");
    let data = folder.path().join("data");
    let (ca, message) = {
        let mut node = Node::start(&data);
        let message = node.mailbox(0).send("X26ABC2", WORKFLOW, &[], b"stay").await;
        let ca = node.ca();
        assert_eq!(node.terminate().code(), Some(0), "{}", node.log_text());
        (ca, message)
    };
    let node = Node::start(&data);
    assert_eq!(node.ca(), ca, "clients keep their certificates");
    assert_eq!(node.mailbox(1).inbox().await, [message]);
}

#[tokio::test]
async fn two_sandboxes_never_share_a_folder() {
    let folder = Folder::new("shared");
    let data = folder.path().join("data");
    let node = Node::start(&data);
    let path = data.display().to_string();
    let second = vertebra(&["sandbox", "--data", &path, "--listen", "127.0.0.1:0"]);
    assert!(!second.status.success(), "a second sandbox on one folder is refused");
    node.mailbox(0)
        .send("X26ABC2", WORKFLOW, &[], b"the first one works on")
        .await;
}

#[tokio::test]
async fn reads_without_waiting_for_the_audit_are_for_the_sandbox_alone_and_it_says_so() {
    for way in ["behind", "absent"] {
        let refused = vertebra(&["node", "--config", "f.toml", "--read-entries", way]);
        assert_eq!(refused.status.code(), Some(2), "a node has no such option");
    }
    let folder = Folder::new("entries");
    let mut node = Node::start(&folder.path().join("data"));
    let mut expected = 0;
    for (arguments, read_on_record) in [
        (&[][..], 1),
        (&["--read-entries", "behind"], 1),
        (&["--read-entries", "absent"], 0),
    ] {
        assert_eq!(node.terminate().code(), Some(0), "{}", node.log_text());
        node.restart_with(arguments);
        let warned = node.log_text().contains("--read-entries is for the bench");
        assert_eq!(warned, !arguments.is_empty(), "{arguments:?}");
        let mut worker = Client::worker(&node);
        worker.read("9000000009").await.ok(200);
        let nothing = worker.patch("9000000009", 999, &serde_json::json!([])).await;
        nothing.refused(409, "RESOURCE_VERSION_MISMATCH");
        expected += 1 + read_on_record;
        let data = node.data.display().to_string();
        let entries = || {
            let query = ["audit", "query", "--json", "--action", "pds.*", "--sandbox", &data];
            out(&vertebra(&query)).lines().count()
        };
        wait_until("the entries are on the record", Duration::from_secs(10), || {
            entries() >= expected
        });
        assert_eq!(entries(), expected, "{arguments:?}: a change is always on the record");
    }
}

#[tokio::test]
async fn health_and_metrics_answer_on_the_operators_listener() {
    let folder = Folder::new("health");
    let node = Node::start(&folder.path().join("data"));
    node.mailbox(0).send("X26ABC2", WORKFLOW, &[], b"x").await;
    for path in ["/health/live", "/health/ready", "/health/deep"] {
        let answer = node.admin("GET", path, &serde_json::Value::Null).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    let metrics = node.admin("GET", "/metrics", &serde_json::Value::Null).await.text();
    for part in [
        "vertebra_journal_batches",
        "vertebra_request",
        "vertebra_inbox",
        "vertebra_process",
    ] {
        assert!(metrics.contains(part), "metrics tell of {part}:\n{metrics}");
    }
}

#[test]
fn help_shows_examples_and_every_command() {
    let help = vertebra(&["--help"]);
    assert!(help.status.success());
    let text = out(&help);
    for command in [
        "sandbox", "node", "config", "status", "doctor", "verify", "mailbox", "workflow", "client", "trace", "audit",
    ] {
        assert!(text.contains(command), "--help names {command}:\n{text}");
        let own = vertebra(&[command, "--help"]);
        assert!(own.status.success(), "{command} --help");
        // A group of commands shows them with its commands.
        let mut shown = out(&own).to_lowercase();
        if shown.contains("\ncommands:") {
            let first = shown
                .split("\ncommands:")
                .nth(1)
                .and_then(|rest| rest.split_whitespace().next());
            let first = first.expect("a group names its commands").to_owned();
            shown = out(&vertebra(&[command, &first, "--help"])).to_lowercase();
        }
        assert!(shown.contains("example"), "{command} --help shows an example:\n{shown}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            !vertebra(&["completions", shell]).stdout.is_empty(),
            "completions for {shell}"
        );
    }
}

#[test]
fn an_unknown_command_or_option_is_refused() {
    for arguments in [
        &["nothing"][..],
        &["sandbox", "--nothing"],
        &["node"],
        &["config", "check", "/does/not/exist"],
    ] {
        let output = vertebra(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?} says why");
    }
}

#[test]
fn verify_finds_a_flipped_byte_in_a_segment() {
    let folder = Folder::new("verify");
    let data = folder.path().join("data");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    let mut node = Node::start(&data);
    let body = b"0123456789abcdef".repeat(1000);
    runtime.block_on(async { node.mailbox(0).send("X26ABC2", WORKFLOW, &[], &body).await });
    node.terminate();
    let path = data.display().to_string();
    let clean = vertebra(&["verify", "--deep", "--sandbox", &path]);
    assert!(
        clean.status.success(),
        "{}{}",
        out(&clean),
        String::from_utf8_lossy(&clean.stderr)
    );
    let mut flipped = 0;
    for file in segments(&data) {
        let mut bytes = std::fs::read(&file).expect("a segment can be read");
        if let Some(at) = bytes.windows(16).position(|window| window == b"0123456789abcdef") {
            bytes[at + 5] ^= 0x10;
            std::fs::write(&file, &bytes).expect("a segment can be written");
            flipped += 1;
        }
    }
    assert!(flipped > 0, "the body lies in a segment");
    let damaged = vertebra(&["verify", "--deep", "--sandbox", &path]);
    assert!(!damaged.status.success(), "a flipped byte is found: {}", out(&damaged));
}

/// All files below a folder of at least one segment's size.
fn segments(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(segments(&path));
        } else if path.is_file() && !path.display().to_string().ends_with(".mdb") {
            found.push(path);
        }
    }
    found
}
