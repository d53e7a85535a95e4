//! An audit entry as a FHIR R4 AuditEvent (<https://hl7.org/fhir/R4/auditevent.html>).
//!
//! Required there: type, recorded, agent with requestor, source with observer. Sequence number and both hashes are
//! extensions, so that an export can be held against the chain, and a whole one against itself.

use crate::admin::audit::Line;
use serde_json::{Value, json};

const DICOM: &str = "http://dicom.nema.org/resources/ontology/DCM";

/// The AuditEvent of a line of `node`'s chain.
pub(super) fn of(line: &Line, node: u64) -> Value {
    let (kind, code, display) = kind(&line.action);
    let mut agents = vec![json!({
        "who": { "identifier": { "system": "urn:vertebra:actor", "value": filled(&line.actor) } },
        "requestor": true,
    })];
    if !line.organisation.is_empty() {
        let system = "https://fhir.nhs.uk/Id/ods-organization-code";
        agents.push(json!({
            "who": { "type": "Organization", "identifier": { "system": system, "value": line.organisation } },
            "requestor": false,
        }));
    }
    let mut entities = vec![json!({
        "what": { "identifier": { "system": "urn:vertebra:request", "value": line.request } },
        "description": "request",
    })];
    if !line.subject.is_empty() {
        let system = subject_system(&line.subject);
        entities.insert(
            0,
            json!({ "what": { "identifier": { "system": system, "value": line.subject } } }),
        );
    }
    json!({
        "resourceType": "AuditEvent",
        "id": format!("{node}-{}", line.sequence),
        "extension": [
            { "url": "urn:vertebra:audit:sequence", "valueString": line.sequence.to_string() },
            { "url": "urn:vertebra:audit:hash", "valueString": line.hash },
            { "url": "urn:vertebra:audit:previous", "valueString": line.previous },
        ],
        "type": { "system": kind, "code": code, "display": display },
        "subtype": [{ "system": "urn:vertebra:audit:action", "code": filled(&line.action) }],
        "action": action(&line.action),
        "recorded": line.at,
        "outcome": outcome(&line.outcome),
        "outcomeDesc": filled(&line.outcome),
        "agent": agents,
        "source": { "observer": { "identifier": { "system": "urn:vertebra:node", "value": node.to_string() } } },
        "entity": entities,
    })
}

/// FHIR has no empty text.
fn filled(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}

/// What kind of event an action is: system, code, display.
fn kind(action: &str) -> (&'static str, &'static str, &'static str) {
    if action.starts_with("audit.") {
        (DICOM, "110101", "Audit Log Used")
    } else if action.starts_with("admin.") {
        (DICOM, "110100", "Application Activity")
    } else {
        let system = "http://terminology.hl7.org/CodeSystem/audit-event-type";
        (system, "rest", "RESTful Operation")
    }
}

/// Create, read, update, delete, or execute what is none of them.
fn action(action: &str) -> &'static str {
    match action {
        "mesh.send" | "mesh.send_chunk" | "mesh.report" => "C",
        "mesh.inbox"
        | "mesh.inbox_rich"
        | "mesh.outbox_rich"
        | "mesh.head"
        | "mesh.download"
        | "mesh.download_chunk"
        | "mesh.count"
        | "mesh.track"
        | "mesh.track_local"
        | "mesh.endpointlookup"
        | "mesh.workflowsearch"
        | "mesh.message_details"
        | "mesh.mailbox_details"
        | "admin.trace"
        | "audit.query"
        | "audit.export" => "R",
        "mesh.acknowledge" | "mesh.update" | "mesh.add_event" | "admin.mailbox.put" | "admin.workflow.put" => "U",
        "mesh.reset" | "mesh.reset_mailbox" => "D",
        _ => "E",
    }
}

/// 0 success, 4 refused, 8 failed by a fault of the node.
fn outcome(outcome: &str) -> &'static str {
    match outcome.bytes().next() {
        Some(b'1'..=b'3') => "0",
        Some(b'5') => "8",
        Some(_) | None => "4",
    }
}

/// What an entry's subject is an identifier of, as far as its form tells: ten digits with a sound check digit are an NHS
/// number.
fn subject_system(subject: &str) -> &'static str {
    let digits: Vec<u32> = subject.chars().filter_map(|c| c.to_digit(10)).collect();
    if subject.len() != 10 || digits.len() != 10 {
        return "urn:vertebra:subject";
    }
    let sum: u32 = (2..=10).rev().zip(&digits).map(|(weight, digit)| weight * digit).sum();
    if (11 - sum % 11) % 11 == digits[9] {
        "https://fhir.nhs.uk/Id/nhs-number"
    } else {
        "urn:vertebra:subject"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_outcomes_and_subjects_have_their_fhir_codes() {
        for (name, code) in [
            ("mesh.send", "C"),
            ("mesh.download", "R"),
            ("mesh.acknowledge", "U"),
            ("mesh.reset", "D"),
            ("mesh.handshake", "E"),
            ("later.action", "E"),
        ] {
            assert_eq!(action(name), code, "{name}");
        }
        for (text, code) in [("202", "0"), ("403 EPL-151", "4"), ("503", "8"), ("", "4")] {
            assert_eq!(outcome(text), code, "{text}");
        }
        assert_eq!(subject_system("9434765919"), "https://fhir.nhs.uk/Id/nhs-number");
        for other in ["9434765918", "X26ABC1", "94347659190", ""] {
            assert_eq!(subject_system(other), "urn:vertebra:subject", "{other}");
        }
    }

    #[test]
    fn an_entry_without_organisation_and_subject_is_still_an_event() {
        let line = Line {
            sequence: 7,
            at: "2026-11-22T15:04:05.123Z".to_owned(),
            actor: String::new(),
            organisation: String::new(),
            action: "audit.query".to_owned(),
            subject: String::new(),
            outcome: "200".to_owned(),
            request: "00000000000000ff".to_owned(),
            hash: "aa".to_owned(),
            previous: "bb".to_owned(),
        };
        let event = of(&line, 3);
        assert_eq!(event["id"], "3-7");
        assert_eq!(event["type"]["code"], "110101");
        assert_eq!(event["agent"].as_array().map(Vec::len), Some(1));
        assert_eq!(event["agent"][0]["who"]["identifier"]["value"], "unknown");
        assert_eq!(event["entity"][0]["what"]["identifier"]["value"], "00000000000000ff");
    }
}
