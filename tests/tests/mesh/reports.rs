//! Non-delivery reports and events, by the sandbox's test-only calls.

use crate::world;
use serde_json::json;
use vertebra_tests::mesh::{V1, V2, WORKFLOW};

#[tokio::test]
async fn a_report_is_in_the_inbox_with_an_empty_body_and_the_message_it_is_about() {
    let world = world().await;
    let mut alice = world.mailbox(1);
    let request = json!({
        "mailbox_id": "X26ABC1", "code": "14", "description": "not collected", "workflow_id": WORKFLOW,
        "subject": "s", "local_id": "l", "status": "undeliverable",
        "linked_message_id": "20200101000000000000_ABCDEF",
    });
    let answer = world
        .admin("POST", "/messageexchange/admin/report", &request.to_string())
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let message = answer.json()["message_id"]
        .as_str()
        .expect("the report has an identifier")
        .to_owned();
    assert_eq!(alice.inbox().await, [message.clone()]);
    let report = alice.download(&message).await;
    assert_eq!((report.status, report.body.len()), (200, 0));
    for (name, value) in [
        ("mex-messagetype", "REPORT"),
        ("mex-linkedmsgid", "20200101000000000000_ABCDEF"),
        ("mex-statuscode", "14"),
        ("mex-statusevent", "SEND"),
        ("mex-statussuccess", "ERROR"),
        ("mex-subject", "NDR: s"),
        ("mex-localid", "l"),
        ("mex-workflowid", WORKFLOW),
    ] {
        assert_eq!(report.header(name), Some(value), "{name}");
    }
    assert!(
        report
            .header("mex-statusdescription")
            .is_some_and(|text| text.contains("5 days"))
    );
    alice.acknowledge(&message).await;
    assert!(alice.inbox().await.is_empty());
}

#[tokio::test]
async fn an_event_changes_the_status_of_a_message() {
    let world = world().await;
    let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
    let message = alice.send(bob.id(), WORKFLOW, &[], b"x").await;
    let event = json!({"status": "error", "code": "21", "event": "SEND", "description": "broken"});
    let path = format!("/messageexchange/admin/message/{message}/event");
    let answer = world.admin("POST", &path, &event.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let path = format!("outbox/tracking?messageID={message}");
    let v1 = alice.call("GET", &path, &[("Accept", V1)], b"").await.json();
    assert_eq!(
        (&v1["status"], &v1["statusSuccess"]),
        (&"Error".into(), &"ERROR".into()),
        "{v1}"
    );
    assert_eq!(v1["failureDiagnostic"], "broken", "{v1}");
    let v2 = alice.call("GET", &path, &[("Accept", V2)], b"").await.json();
    assert_eq!(
        (&v2["status"], &v2["status_success"]),
        (&"error".into(), &false.into()),
        "{v2}"
    );
    assert_eq!(bob.download(&message).await.status, 410);
}
