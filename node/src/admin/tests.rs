use super::status::{Facts, State, bytes_text, slowest, verdict};
use super::*;
use crate::log::DeepPing;
use crate::services::mesh::MailboxId;

#[test]
fn every_call_of_the_table_is_told_and_nothing_else() {
    let get = Method::GET;
    for (method, path, call) in [
        (&get, "/metrics", Some(Call::Metrics)),
        (&get, "/health/live", Some(Call::Live)),
        (&get, "/health/ready/", Some(Call::Ready)),
        (&get, "/health/deep", Some(Call::Deep)),
        (&get, "/admin/status", Some(Call::Status)),
        (&get, "/admin/mailboxes", Some(Call::Mailboxes)),
        (
            &get,
            "/admin/mailboxes/X26ABC1",
            Some(Call::Mailbox("X26ABC1".to_owned())),
        ),
        (
            &Method::PUT,
            "/admin/mailboxes/X26ABC1",
            Some(Call::PutMailbox("X26ABC1".to_owned())),
        ),
        (&get, "/admin/workflows", Some(Call::Workflows)),
        (
            &Method::PUT,
            "/admin/workflows/A%20B",
            Some(Call::PutWorkflow("A B".to_owned())),
        ),
        (&get, "/admin/clients", Some(Call::Clients)),
        (&get, "/admin/clients/app-1", Some(Call::Client("app-1".to_owned()))),
        (
            &Method::PUT,
            "/admin/clients/app-1",
            Some(Call::PutClient("app-1".to_owned())),
        ),
        (&Method::DELETE, "/admin/clients/app-1", None),
        (&get, "/admin/trace/abc", Some(Call::Trace("abc".to_owned()))),
        (&Method::POST, "/admin/verify", Some(Call::Verify)),
        (&Method::POST, "/admin/audit/verify", Some(Call::AuditVerify)),
        (
            &Method::POST,
            "/admin/audit/query",
            Some(Call::AuditSearch(audit::Kind::Query)),
        ),
        (
            &Method::POST,
            "/admin/audit/export",
            Some(Call::AuditSearch(audit::Kind::Export)),
        ),
        (&get, "/admin/audit/query", None),
        (&Method::POST, "/admin/load", Some(Call::Load)),
        (&Method::POST, "/admin/unload", Some(Call::Unload)),
        (&get, "/admin/unload", None),
        (&Method::POST, "/admin/clock", Some(Call::Clock)),
        (&get, "/admin/clock", None),
        (&Method::POST, "/metrics", None),
        (&Method::DELETE, "/admin/mailboxes/X26ABC1", None),
        (&get, "/", None),
        (&get, "", None),
        (&get, "/admin", None),
        (&get, "/admin/trace/%FF", None),
        (&get, "/admin/trace/a%2Fb", None),
        (&get, "/health/live/more", None),
    ] {
        assert_eq!(Call::of(method, path), call, "{method} {path}");
    }
}

#[test]
fn over_loopback_only_metrics_and_health_are_open() {
    for call in [Call::Metrics, Call::Live, Call::Ready, Call::Deep] {
        assert!(call.is_open());
    }
    for call in [
        Call::Status,
        Call::Mailboxes,
        Call::Mailbox(String::new()),
        Call::PutMailbox(String::new()),
        Call::Workflows,
        Call::PutWorkflow(String::new()),
        Call::Trace(String::new()),
        Call::Verify,
        Call::AuditVerify,
        Call::AuditSearch(audit::Kind::Export),
        Call::Load,
        Call::Unload,
        Call::Clock,
    ] {
        assert!(!call.is_open(), "{call:?}");
    }
}

fn well() -> Facts {
    Facts {
        serving: true,
        alive: true,
        drained: false,
        writable: true,
        catching_up: false,
        caught_up: true,
        left: false,
        clock_agrees: true,
        unreachable: Vec::new(),
        behind: vec![("n2".to_owned(), 10_000)],
        short_disks: Vec::new(),
        clocks: vec![("n2".to_owned(), -5_000)],
        voters: 3,
        voters_answering: 3,
        lag: 0,
        fsync_us: 500,
        free_bytes: 100 << 30,
        reserve_bytes: 1 << 30,
        certificate_days: Some(365),
        cluster_certificate_days: Some(Some(14)),
    }
}

#[test]
fn a_node_is_healthy_degraded_or_cannot_write_and_says_why() {
    assert_eq!(well().judge(), (State::Healthy, vec![]));
    for (facts, state) in [
        (
            Facts {
                serving: false,
                ..well()
            },
            State::CannotWrite,
        ),
        (Facts { alive: false, ..well() }, State::CannotWrite),
        (
            Facts {
                writable: false,
                ..well()
            },
            State::CannotWrite,
        ),
        (
            Facts {
                free_bytes: 1 << 30,
                ..well()
            },
            State::CannotWrite,
        ),
        (
            Facts {
                free_bytes: 0,
                certificate_days: Some(-1),
                ..well()
            },
            State::CannotWrite,
        ),
        (
            Facts {
                free_bytes: (1 << 30) + 1,
                ..well()
            },
            State::Degraded,
        ),
        (
            Facts {
                fsync_us: 250_001,
                ..well()
            },
            State::Degraded,
        ),
        (Facts { lag: 10_001, ..well() }, State::Degraded),
        (
            Facts {
                unreachable: vec![("n2".to_owned(), "no answer in time".to_owned())],
                ..well()
            },
            State::Degraded,
        ),
        (
            Facts {
                behind: vec![("n2".to_owned(), 10_001)],
                ..well()
            },
            State::Degraded,
        ),
        (
            Facts {
                short_disks: vec![("n2".to_owned(), 1 << 20, false)],
                ..well()
            },
            State::Degraded,
        ),
        (
            Facts {
                short_disks: vec![("n2".to_owned(), 1 << 20, true)],
                ..well()
            },
            State::Degraded,
        ),
        (
            Facts {
                clocks: vec![("n2".to_owned(), -5_001)],
                ..well()
            },
            State::Degraded,
        ),
        (
            Facts {
                clock_agrees: false,
                ..well()
            },
            State::Degraded,
        ),
        (
            Facts {
                catching_up: true,
                ..well()
            },
            State::CannotWrite,
        ),
        (
            Facts {
                cluster_certificate_days: Some(Some(13)),
                ..well()
            },
            State::Degraded,
        ),
        (
            Facts {
                cluster_certificate_days: Some(None),
                ..well()
            },
            State::Degraded,
        ),
        (
            Facts {
                certificate_days: Some(13),
                ..well()
            },
            State::Degraded,
        ),
        (
            Facts {
                certificate_days: Some(-1),
                ..well()
            },
            State::Degraded,
        ),
        (
            Facts {
                certificate_days: None,
                ..well()
            },
            State::Degraded,
        ),
    ] {
        let (judged, reasons) = facts.judge();
        assert_eq!(judged, state, "{facts:?}");
        assert!(!reasons.is_empty(), "{facts:?}");
    }
    assert_eq!(
        Facts {
            certificate_days: Some(14),
            ..well()
        }
        .judge()
        .0,
        State::Healthy
    );
}

#[test]
fn the_last_majority_is_told_and_only_that() {
    let said = |answering, voters| {
        let facts = Facts {
            voters,
            voters_answering: answering,
            ..well()
        };
        facts.judge().1.iter().any(|reason| reason.contains("with one less"))
    };
    assert!(said(2, 3) && said(3, 5) && said(3, 4));
    assert!(!said(3, 3) && !said(2, 2) && !said(1, 1) && !said(4, 5));
    assert!(!said(1, 3) && !said(1, 2), "nothing can be written as it is");
}

#[test]
fn a_deep_ping_names_its_slowest_part() {
    let ping = DeepPing {
        queue_us: 5,
        fsync_us: 90_000,
        apply_us: 7,
        read_us: 3,
    };
    assert_eq!(slowest(&ping), ("fsync", 90_000));
    assert!(verdict("fsync", 90_000).contains("disk"));
    assert_eq!(verdict("fsync", 100), "every part is quick");
}

#[test]
fn sizes_are_shown_for_people() {
    for (bytes, text) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3 << 30, "3.0 GiB"),
        (u64::MAX, "16777216.0 TiB"),
    ] {
        assert_eq!(bytes_text(bytes), text);
    }
}

fn id() -> MailboxId {
    MailboxId::parse("X26ABC1").expect("valid")
}

fn change(json: &str) -> directory::MailboxChange {
    directory::parse(json.as_bytes()).expect("valid")
}

#[test]
fn a_change_keeps_what_it_does_not_name() {
    let new = change(r#"{"ods":"x26","password":"p"}"#)
        .onto(id(), None)
        .expect("enough");
    assert_eq!(
        (new.ods.as_str(), new.name.as_str(), new.active, new.safe_retry),
        ("X26", "X26ABC1", true, true)
    );
    let off = change(r#"{"active":false}"#)
        .onto(id(), Some(new.clone()))
        .expect("enough");
    assert!(!off.active && off.safe_retry && off.password == "p" && off.ods == new.ods);
    let renamed = change(r#"{"name":"Clinic"}"#).onto(id(), Some(off)).expect("enough");
    assert!(!renamed.active && renamed.name == "Clinic");
}

#[test]
fn bad_changes_are_refused_with_a_sentence_and_without_the_password() {
    let before = change(r#"{"ods":"X26","password":"p"}"#)
        .onto(id(), None)
        .expect("enough");
    for (json, before) in [
        (r#"{"password":"PLANTED"}"#, None),
        (r#"{"ods":"X26"}"#, None),
        (r#"{"ods":"X-26","password":"PLANTED"}"#, None),
        (r#"{"ods":"X26","password":""}"#, None),
        (r#"{"ods":"X26","password":"PLANTED\u0007"}"#, None),
        (r#"{"only_new":true,"password":"PLANTED"}"#, Some(before)),
    ] {
        let refused = change(json).onto(id(), before).expect_err(json);
        assert!(matches!(refused, Refused::Malformed(_)), "{refused:?}");
        assert!(!refused.answer().body.contains("PLANTED"));
    }
    for json in ["", "{", "[]", r#"{"pasword":"PLANTED"}"#, r#"{"active":"PLANTED"}"#] {
        let refused = directory::parse::<directory::MailboxChange>(json.as_bytes())
            .err()
            .expect(json);
        assert!(!refused.to_string().contains("PLANTED"), "{refused}");
        assert_eq!(refused.code().1, StatusCode::BAD_REQUEST);
    }
}

#[test]
fn workflows_take_only_mailboxes_and_plain_names() {
    let good = directory::WorkflowChange {
        senders: vec!["x26abc1".to_owned()],
        receivers: vec![],
    };
    assert_eq!(good.clone().onto("TEST").expect("valid").senders, [id()]);
    assert!(
        good.clone().onto("").is_err() && good.clone().onto("a\nb").is_err() && good.onto(&"x".repeat(301)).is_err()
    );
    let bad = directory::WorkflowChange {
        senders: vec!["no mailbox".to_owned()],
        receivers: vec![],
    };
    assert!(bad.onto("TEST").is_err());
    let many = directory::WorkflowChange {
        senders: vec!["A".to_owned(); 1_001],
        receivers: vec![],
    };
    assert!(many.onto("TEST").is_err());
}

#[test]
fn a_request_identifier_is_sixteen_hexadecimal_digits() {
    assert_eq!(trace::request_id("00000000000000ff"), Some(RequestId(255)));
    for bad in ["", "ff", "00000000000000fg", "00000000000000fff"] {
        assert_eq!(trace::request_id(bad), None, "{bad}");
    }
}

#[test]
fn every_refusal_has_a_code_a_status_and_a_sentence() {
    for refused in [
        Refused::NoSuchCall,
        Refused::SocketOnly,
        Refused::SandboxOnly,
        Refused::Malformed("x".to_owned()),
        Refused::Unknown("x".to_owned()),
        Refused::NotTaken(ProposeError::DiskFull),
        Refused::Judged("x"),
        Refused::Failed,
    ] {
        let answer = refused.answer();
        let value: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(value["code"], refused.code().0);
        assert_eq!(value["message"], refused.to_string());
        assert!(answer.status.is_client_error() || answer.status.is_server_error());
    }
}
