//! The sandbox of several members, as `make cluster` starts it. A file of its own: each member locks memory for its rings, of which a
//! user may have little.

use nix::sys::signal::Signal;
use std::process::{Command, Output};
use std::time::Duration;
use vertebra_tests::mesh::WORKFLOW;
use vertebra_tests::node::{Folder, Node, binary};
use vertebra_tests::process::{signal, wait_until};

fn vertebra(arguments: &[&str]) -> Output {
    Command::new(binary())
        .args(arguments)
        .output()
        .expect("the binary starts")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn a_sandbox_of_three_serves_through_each_member_and_goes_on_without_the_leader() {
    let folder = Folder::new("members");
    let data = folder.path().join("data");
    let mut node = Node::start_with(&data, &["--members", "3"]);
    let config = |member: usize| {
        let config = node.sandbox["members"][member]["config"].as_str();
        config.expect("every member has a file").to_owned()
    };
    let status = |member: usize| vertebra(&["status", "--json", "--config", &config(member)]);
    let healthy = vertebra(&["status", "--config", &config(1), "--exit-when-healthy"]);
    assert_eq!(healthy.status.code(), Some(0), "{}", out(&healthy));
    assert!(out(&healthy).contains("3 of 3 voters answer"), "{}", out(&healthy));

    let mut sent = Vec::new();
    for member in 0..3 {
        let mut mailbox = node.mailbox_through(member, 0);
        sent.push(mailbox.send("X26ABC2", WORKFLOW, &[], b"through any").await);
        let mut other = node.mailbox_through((member + 1) % 3, 1);
        assert_eq!(other.inbox().await, sent, "what one took another shows");
    }

    let of = |output: &Output| -> serde_json::Value { serde_json::from_slice(&output.stdout).expect("status is JSON") };
    let leader = of(&status(0))["cluster"]["leader"].as_u64().expect("a leader") as usize - 1;
    let name = node.sandbox["members"][leader]["name"]
        .as_str()
        .expect("a name")
        .to_owned();
    let pid =
        std::fs::read_to_string(data.join(format!("{name}.pid"))).expect("a running member has a file with its number");
    assert!(signal(pid.trim().parse().expect("a number"), Signal::SIGKILL));
    let left = (leader + 1) % 3;
    let mut mailbox = node.mailbox_through(left, 0);
    sent.push(mailbox.send("X26ABC2", WORKFLOW, &[], b"without it").await);
    wait_until("the loss shows", Duration::from_secs(10), || {
        of(&status(left))["members"][leader]["role"] == "unreachable"
    });
    let seen = status(left);
    assert_eq!(seen.status.code(), Some(10), "{}", out(&seen));
    assert!(out(&seen).contains("2 of 3 voters answer"), "{}", out(&seen));
    assert!(
        out(&seen).contains(&format!("{name} does not answer")),
        "{}",
        out(&seen)
    );
    let text = node.log_text();
    assert!(text.contains(&format!("{name} was killed")), "{text}");

    let sockets: Vec<String> = (0..3).map(config).collect();
    assert_eq!(node.terminate().code(), Some(0), "{}", node.log_text());
    for config in sockets {
        assert_eq!(
            vertebra(&["status", "--config", &config]).status.code(),
            Some(20),
            "no member is left behind"
        );
    }
}
