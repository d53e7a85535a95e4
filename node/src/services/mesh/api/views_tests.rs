use super::*;
use crate::base::OdsCode;
use crate::services::mesh::MailboxId;
use crate::services::mesh::command::Metadata;
use serde_json::{Value, json};

fn mailbox(id: &str, ods: &str) -> Mailbox {
    Mailbox {
        id: MailboxId::parse(id).expect("a mailbox"),
        name: format!("{id} name"),
        ods: OdsCode::parse(ods).expect("a code"),
        organisation: format!("{ods} organisation"),
        billing_entity: "England".into(),
        password: "planted-password".into(),
        active: true,
        safe_retry: true,
    }
}

fn event(status: Status, ms: u64) -> Event {
    Event {
        status,
        at: Timestamp::from_ms(ms),
        code: None,
        event: None,
        description: None,
        linked: None,
    }
}

const START_MS: u64 = 1_615_457_898_838;

fn message() -> Message {
    Message {
        id: MessageId::parse("20210311101813838554_1B8F53").expect("an identifier"),
        sender: MailboxId::parse("X26ABC1"),
        recipient: MailboxId::parse("X27ABC3").expect("a mailbox"),
        report: false,
        metadata: Metadata {
            workflow: "TEST_WORKFLOW".into(),
            subject: Some("a subject".into()),
            local_id: Some("local".into()),
            ..Metadata::default()
        },
        chunks: 2,
        bytes: 1234,
        created: Timestamp::from_ms(START_MS),
        expires: Timestamp::from_ms(START_MS + 5 * 24 * 3600 * 1000),
        sequence: 9,
        events: vec![event(Status::Accepted, START_MS)],
    }
}

fn tracked(message: &Message) -> (Value, Value) {
    let (sender, recipient) = (mailbox("X26ABC1", "X26"), mailbox("X27ABC3", "X27"));
    let traced = Traced {
        message,
        sender: Some(&sender),
        recipient: Some(&recipient),
    };
    let v1 = serde_json::to_value(tracking_v1(&traced)).expect("JSON");
    let v2 = serde_json::to_value(tracking_v2(&traced)).expect("JSON");
    (v1, v2)
}

#[test]
fn tracking_of_a_waiting_message() {
    let (v1, v2) = tracked(&message());
    assert_eq!(
        v1,
        json!({
            "addressType": "ALL",
            "checksum": "",
            "chunkCount": 2,
            "compressFlag": "",
            "contentEncoding": "",
            "downloadTimestamp": "",
            "dtsId": "20210311101813838554_1B8F53",
            "encryptedFlag": "",
            "expiryTime": "20210316101818",
            "fileName": "20210311101813838554_1B8F53.dat",
            "fileSize": 1234,
            "isCompressed": "",
            "localId": "local",
            "meshRecipientOdsCode": "X27",
            "messageId": "20210311101813838554_1B8F53",
            "messageType": "Data",
            "partnerId": "",
            "recipient": "X27ABC3",
            "recipientName": "X27ABC3 name",
            "recipientOrgCode": "X27",
            "recipientOrgName": "X27 organisation",
            "recipientSmtp": "",
            "sender": "X26ABC1",
            "senderName": "X26ABC1 name",
            "senderOdsCode": "X26",
            "senderOrgCode": "X26",
            "senderOrgName": "X26 organisation",
            "senderSmtp": "",
            "status": "Accepted",
            "statusSuccess": "SUCCESS",
            "subject": "a subject",
            "uploadTimestamp": "20210311101818",
            "version": "1.0",
            "workflowId": "TEST_WORKFLOW",
        })
    );
    assert_eq!(
        v2,
        json!({
            "message_id": "20210311101813838554_1B8F53",
            "local_id": "local",
            "workflow_id": "TEST_WORKFLOW",
            "expiry_time": "2021-03-16T10:18:18.838Z",
            "upload_timestamp": "2021-03-11T10:18:18.838Z",
            "recipient": "X27ABC3",
            "recipient_name": "X27ABC3 name",
            "recipient_ods_code": "X27",
            "recipient_org_code": "X27",
            "recipient_org_name": "X27 organisation",
            "status_success": true,
            "status": "accepted",
        })
    );
}

#[test]
fn tracking_of_an_uncollected_message_tells_why() {
    let mut message = message();
    let failed = Event {
        code: Some("14".into()),
        event: Some("SEND".into()),
        description: Some("not collected".into()),
        ..event(Status::Undeliverable, START_MS + 1000)
    };
    message.events.insert(0, failed);
    let (v1, v2) = tracked(&message);
    assert_eq!(
        (&v1["status"], &v1["statusSuccess"]),
        (&json!("Undeliverable"), &json!("ERROR"))
    );
    assert_eq!(
        (&v1["failureDate"], &v1["failureDiagnostic"]),
        (&json!("20210311101819"), &json!("not collected"))
    );
    assert_eq!(
        (&v2["status"], &v2["status_success"]),
        (&json!("undeliverable"), &json!(false))
    );
    assert_eq!(
        (&v2["status_code"], &v2["status_timestamp"]),
        (&json!("14"), &json!("2021-03-11T10:18:19.838Z"))
    );
}

#[test]
fn tracking_of_a_collected_message_says_when() {
    let mut message = message();
    message.events.insert(0, event(Status::Acknowledged, START_MS + 2000));
    let (v1, v2) = tracked(&message);
    assert_eq!(
        (&v1["status"], &v1["downloadTimestamp"]),
        (&json!("Acknowledged"), &json!("20210311101820"))
    );
    assert_eq!(v2["status"], "acknowledged");
}

#[test]
fn rich_messages_have_every_field() {
    let message = message();
    let view = serde_json::to_value(rich_message(&Traced {
        message: &message,
        sender: None,
        recipient: None,
    }));
    assert_eq!(
        view.expect("JSON"),
        json!({
            "message_id": "20210311101813838554_1B8F53",
            "expiry_timestamp": "2021-03-16T10:18:18.838Z",
            "local_id": "local",
            "message_type": "DATA",
            "recipient": "X27ABC3",
            "recipient_name": "",
            "sender": "X26ABC1",
            "sender_name": "",
            "sent_date": "2021-03-11T10:18:18.838Z",
            "status": "accepted",
            "status_code": "",
            "workflow_id": "TEST_WORKFLOW",
            "total_chunks": 2,
        })
    );
}

#[test]
fn small_shapes_are_those_of_the_specification() {
    let value = |view: &dyn erased::Json| view.value();
    let id = "20210311101813838554_1B8F53";
    assert_eq!(
        value(&SentV1 {
            message: id,
            chunk: None
        }),
        json!({"messageID": id})
    );
    assert_eq!(
        value(&SentV1 {
            message: id,
            chunk: Some(3)
        }),
        json!({"messageID": id, "blockID": 3})
    );
    assert_eq!(value(&SentV2 { message_id: id }), json!({"message_id": id}));
    assert_eq!(value(&AcknowledgedV1 { message_id: id }), json!({"messageId": id}));
    assert_eq!(
        value(&HandshakeV1 { mailbox_id: "X26ABC1" }),
        json!({"mailboxId": "X26ABC1"})
    );
    assert_eq!(value(&InboxV1 { messages: vec![id] }), json!({"messages": [id]}));
    let count = CountV1 {
        count: 2,
        internal_id: "a".into(),
        all_results_included: true,
    };
    assert_eq!(
        value(&count),
        json!({"count": 2, "internalID": "a", "allResultsIncluded": true})
    );
    let inbox = |next: Option<&str>| InboxV2 {
        messages: vec![id],
        links: Links {
            this: "/self".into(),
            next: next.map(str::to_owned),
        },
        approx_inbox_count: 1,
    };
    let last = json!({"messages": [id], "links": {"self": "/self"}, "approx_inbox_count": 1});
    assert_eq!(value(&inbox(None)), last);
    assert_eq!(value(&inbox(Some("/next")))["links"]["next"], "/next");
    let found = [mailbox("X26ABC1", "X26")];
    let v1 = json!({
        "query_id": "0000000000000007",
        "results": [{"address": "X26ABC1", "description": "X26ABC1 name", "endpoint_type": "MESH"}],
    });
    assert_eq!(value(&lookup_v1(RequestId(7), &found)), v1);
    let v2 = json!({"results": [{"mailbox_id": "X26ABC1", "mailbox_name": "X26ABC1 name"}]});
    assert_eq!(value(&lookup_v2(&found)), v2);
}

/// Lets one closure take every shape.
mod erased {
    pub trait Json {
        fn value(&self) -> serde_json::Value;
    }

    impl<T: serde::Serialize> Json for T {
        fn value(&self) -> serde_json::Value {
            serde_json::to_value(self).expect("JSON")
        }
    }
}

#[test]
fn no_shape_shows_a_password() {
    let mailbox = mailbox("X26ABC1", "X26");
    let message = message();
    let traced = Traced {
        message: &message,
        sender: Some(&mailbox),
        recipient: Some(&mailbox),
    };
    let shown = format!(
        "{}{}{}",
        serde_json::to_string(&mailbox_details(&mailbox)).expect("JSON"),
        message_details(&traced),
        serde_json::to_string(&tracking_v1(&traced)).expect("JSON"),
    );
    assert!(!shown.contains("planted-password"));
}

#[test]
fn statuses_have_names_and_back() {
    for status in [
        Status::Uploading,
        Status::Accepted,
        Status::Acknowledged,
        Status::Undeliverable,
        Status::Error,
    ] {
        assert_eq!(status_named(status_name(status)), Some(status));
        assert_eq!(status_title(status).to_ascii_lowercase(), status_name(status));
    }
    assert_eq!(status_named("lost"), None);
}
