//! An audit entry as a FHIR R4 AuditEvent (<https://hl7.org/fhir/R4/auditevent.html>).
//!
//! Required there: type, recorded, agent with requestor, source with observer. Sequence number and both hashes are
//! extensions, so that an export can be held against the chain, and a whole one against itself.

use crate::admin::audit::Line;
use crate::base::NhsNumber;
use serde_json::{Value, json};

const DICOM: &str = "http://dicom.nema.org/resources/ontology/DCM";

/// The AuditEvent of a line of `node`'s chain.
pub(super) fn of(line: &Line, node: u64) -> Value {
    let (kind, code, display) = kind(&line.action);
    let entities: Vec<Value> = subjects(&line.subject)
        .chain([("urn:vertebra:request", line.request.as_str())])
        .chain(
            (!line.client_request.is_empty()).then_some(("urn:vertebra:client-request", line.client_request.as_str())),
        )
        .map(|(system, value)| json!({ "what": { "identifier": { "system": system, "value": value } } }))
        .collect();
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
        "agent": agents(line),
        "source": { "observer": { "identifier": { "system": "urn:vertebra:node", "value": node.to_string() } } },
        "entity": entities,
    })
}

/// Who acted, the application it was done through, and the organisations: the actor's own and the one it was done for.
fn agents(line: &Line) -> Vec<Value> {
    let mut actor = json!({
        "who": { "identifier": { "system": "urn:vertebra:actor", "value": filled(&line.actor) } },
        "requestor": true,
    });
    if !line.role.is_empty() {
        let system = "https://fhir.nhs.uk/Id/nhs-role";
        actor["role"] = json!([{ "coding": [{ "system": system, "code": line.role }] }]);
    }
    let mut agents = vec![actor];
    if !line.client.is_empty() {
        agents.push(json!({
            "who": { "type": "Device", "identifier": { "system": "urn:vertebra:client", "value": line.client } },
            "requestor": false,
        }));
    }
    for organisation in [&line.organisation, &line.on_behalf] {
        if !organisation.is_empty() {
            let system = "https://fhir.nhs.uk/Id/ods-organization-code";
            agents.push(json!({
                "who": { "type": "Organization", "identifier": { "system": system, "value": organisation } },
                "requestor": false,
            }));
        }
    }
    agents
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

/// What an entry is about: each patient of a search, or one thing. With the system of the identifier, as far as its form
/// tells: ten digits with a sound check digit are an NHS number.
fn subjects(subject: &str) -> impl Iterator<Item = (&'static str, &str)> {
    let patients = subject.split(' ').all(|part| NhsNumber::parse(part).is_some());
    let parts: Vec<&str> = match (subject.is_empty(), patients) {
        (true, _) => Vec::new(),
        (false, true) => subject.split(' ').collect(),
        (false, false) => vec![subject],
    };
    let system = if patients {
        "https://fhir.nhs.uk/Id/nhs-number"
    } else {
        "urn:vertebra:subject"
    };
    parts.into_iter().map(move |part| (system, part))
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
        let patients: Vec<_> = subjects("9434765919 9000000009").collect();
        let system = "https://fhir.nhs.uk/Id/nhs-number";
        assert_eq!(patients, [(system, "9434765919"), (system, "9000000009")]);
        for other in ["9434765918", "X26ABC1", "94347659190", "subject=9434765919 after=7"] {
            assert_eq!(subjects(other).collect::<Vec<_>>(), [("urn:vertebra:subject", other)]);
        }
        assert_eq!(subjects("").count(), 0);
    }

    fn line() -> Line {
        Line {
            sequence: 7,
            at: "2026-11-22T15:04:05.123Z".to_owned(),
            action: "audit.query".to_owned(),
            outcome: "200".to_owned(),
            request: "00000000000000ff".to_owned(),
            hash: "aa".to_owned(),
            previous: "bb".to_owned(),
            ..Line::default()
        }
    }

    #[test]
    fn a_persons_role_application_and_both_organisations_are_agents() {
        let event = of(
            &Line {
                actor: "555254239107".to_owned(),
                role: "R8000".to_owned(),
                client: "app".to_owned(),
                organisation: "A82038".to_owned(),
                on_behalf: "Y12345".to_owned(),
                client_request: "60e0b220-8136-4ca5-ae46-1d97ef59d068".to_owned(),
                ..line()
            },
            1,
        );
        assert_eq!(event["agent"][0]["role"][0]["coding"][0]["code"], "R8000");
        assert_eq!(event["agent"].as_array().map(Vec::len), Some(4));
        assert_eq!(event["entity"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn an_entry_without_organisation_and_subject_is_still_an_event() {
        let line = line();
        let event = of(&line, 3);
        assert_eq!(event["id"], "3-7");
        assert_eq!(event["type"]["code"], "110101");
        assert_eq!(event["agent"].as_array().map(Vec::len), Some(1));
        assert_eq!(event["agent"][0]["who"]["identifier"]["value"], "unknown");
        assert_eq!(event["entity"][0]["what"]["identifier"]["value"], "00000000000000ff");
    }
}
