//! Personal values appear in no log, no metric, no error.

use vertebra_tests::mesh::{V1, V2, WORKFLOW};
use vertebra_tests::node::{Folder, Node};

const PLANTED: [(&str, &str); 6] = [
    ("Mex-Subject", "PLANTEDSUBJECT-4711"),
    ("Mex-FileName", "PLANTEDFILENAME-4712.txt"),
    ("Mex-LocalID", "PLANTEDLOCALID-4713"),
    ("Mex-PartnerID", "PLANTEDPARTNER-4714"),
    ("Mex-Content-Checksum", "PLANTEDCHECKSUM-4715"),
    ("X-Other", "PLANTEDHEADER-4716"),
];
const BODY: &str = "PLANTEDBODY-4717 9434765919";

fn assert_clean(what: &str, text: &str, secrets: &[String]) {
    let upper = text.to_uppercase();
    assert!(
        !upper.contains("PLANTED"),
        "{what} holds a planted value:\n{}",
        around(&upper, "PLANTED")
    );
    assert!(!text.contains("9434765919"), "{what} holds an NHS number");
    for secret in secrets {
        assert!(!text.contains(secret.as_str()), "{what} holds a secret");
    }
}

fn around(text: &str, part: &str) -> String {
    text.lines()
        .filter(|line| line.contains(part))
        .take(3)
        .collect::<Vec<_>>()
        .join("\n")
}

#[tokio::test]
async fn personal_values_appear_in_no_log_metric_or_error() {
    let folder = Folder::new("personal");
    let mut node = Node::start_with(&folder.path().join("data"), &["--log-level", "trace"]);
    let credentials = node.credentials(0);
    let token = credentials.token();
    let mut secrets = vec![token.clone()];
    let mut errors = Vec::new();
    for accept in [V1, V2] {
        let (mut alice, mut bob) = (node.mailbox(0), node.mailbox(1));
        (alice.accept, bob.accept) = (accept, accept);
        let body = format!("{BODY} {accept}");
        let message = alice.send("X26ABC2", WORKFLOW, &PLANTED, body.as_bytes()).await;
        bob.download(&message).await;
        // Every refusal that sees such a value.
        for (name, value) in PLANTED {
            let long = value.repeat(60);
            let tab = format!("{value}\tx");
            for value in [long, tab] {
                errors.push(
                    alice
                        .post("X26ABC2", WORKFLOW, &[(name, &value)], BODY.as_bytes())
                        .await,
                );
            }
        }
        errors.push(
            alice
                .post("PLANTEDRECIPIENT", WORKFLOW, &PLANTED, BODY.as_bytes())
                .await,
        );
        errors.push(bob.post("X26ABC1", "TEST_WORKFLOW", &PLANTED, BODY.as_bytes()).await);
        errors.push(alice.call("GET", "outbox/tracking/PLANTEDLOCALID-0", &[], b"").await);
        errors.push(
            alice
                .call("GET", "inbox?workflow_filter=P&max_results=PLANTED", &[], b"")
                .await,
        );
        errors.push(alice.call("GET", "inbox/PLANTEDMESSAGE", &[], b"").await);
        errors.push(alice.call("PLANTED", "inbox", &[], b"").await);
        errors.push(alice.call("GET", "PLANTEDPATH?PLANTEDQUERY=1", &[], b"").await);
        errors.push(
            alice
                .call("GET", "inbox", &[("Authorization", "NHSMESH PLANTED:1:2:3:4")], b"")
                .await,
        );
        let mut wrong = credentials.clone();
        wrong.password = "PLANTEDPASSWORD".into();
        let wrong = wrong.token();
        secrets.push(wrong.clone());
        errors.push(alice.call("GET", "inbox", &[("Authorization", &wrong)], b"").await);
        bob.acknowledge(&message).await;
    }
    assert!(errors.iter().filter(|answer| answer.status >= 400).count() > 20);
    for answer in &errors {
        assert!(answer.status < 500, "{}: {}", answer.status, answer.text());
        assert_clean("an error", &answer.text(), &secrets);
    }
    let metrics = node.admin("GET", "/metrics", &serde_json::Value::Null).await;
    assert_eq!(metrics.status, 200);
    assert!(
        metrics.text().lines().count() > 20,
        "metrics are there: {}",
        metrics.text()
    );
    assert_clean("/metrics", &metrics.text(), &secrets);
    for path in ["/health/live", "/health/ready", "/health/deep"] {
        assert_clean(
            path,
            &node.admin("GET", path, &serde_json::Value::Null).await.text(),
            &secrets,
        );
    }
    node.terminate();
    // The sandbox prints its own throw-away password and key for its user; no token and nothing of a message.
    assert_clean("the log", &node.log_text(), &secrets);
}
