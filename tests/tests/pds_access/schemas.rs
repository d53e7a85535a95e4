//! Answers judged by other people's tools: schemathesis against the specification, fhir.resources against FHIR.

use crate::{ALONE, World, text, world};
use serde_json::Value;
use std::path::PathBuf;
use vertebra_tests::pds::{Client, Reply};
use vertebra_tests::python::{must_pass, workspace};

/// Cases for each operation and token.
const EXAMPLES: &str = "25";

fn specification() -> Option<PathBuf> {
    let folder = std::env::var_os("VERTEBRA_INTERFACES").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| workspace().join("..").join("shared/interfaces"));
    let specification = folder.join("pds-fhir.bundled.yaml");
    if specification.is_file() {
        return Some(specification);
    }
    println!(
        "LEFT OUT: no pds-fhir.bundled.yaml in {} (VERTEBRA_INTERFACES names its folder)",
        folder.display()
    );
    None
}

#[tokio::test]
async fn whatever_schemathesis_makes_of_the_specification_is_answered_as_it_says() {
    let Some(specification) = specification() else { return };
    let _alone = ALONE.lock().await;
    let world = World::start("pds-schemathesis", &[]);
    let url = format!(
        "{}{}",
        world.node.sandbox["url"].as_str().expect("a URL"),
        vertebra_tests::pds::BASE
    );
    let authority = world.node.data.join("ca.pem");
    let application = Client::application(&world.node).await;
    for (who, token) in [
        ("worker", Client::worker(&world.node).token),
        ("patient", Client::patient(&world.node).token),
        ("application", application.token),
    ] {
        let arguments = [
            text(&specification),
            url.as_str(),
            text(&authority),
            token.as_str(),
            EXAMPLES,
        ];
        println!("{who}: {}", must_pass("schemathesis_pds.py", &arguments));
    }
}

/// Resources in an answer: the bundle itself, and what is in it is read with it.
fn keep(resources: &mut Vec<Value>, reply: &Reply) {
    assert!(reply.status() < 500, "{}", reply.answer.text());
    assert!(reply.json["resourceType"].is_string(), "{}", reply.answer.text());
    resources.push(reply.json.clone());
}

#[tokio::test]
async fn every_resource_that_is_served_is_fhir_r4_to_fhir_resources() {
    let world = world();
    let mut resources = Vec::new();
    let mut worker = Client::worker(&world.node);
    let mut application = Client::application(&world.node).await;
    let mut patient = Client::patient(&world.node);
    let numbers = world.node.sandbox["pds"]["nhs_numbers"]
        .as_array()
        .expect("people are seeded");
    assert!(numbers.len() > 500);
    for number in numbers {
        let number = number.as_str().expect("a number");
        let read = worker.read(number).await;
        keep(&mut resources, &read);
        keep(&mut resources, &worker.related(number).await);
        let family = read.json.pointer("/name/0/family").and_then(Value::as_str);
        let birth = read.json["birthDate"].as_str();
        if let (Some(family), Some(birth)) = (family, birth) {
            let search = [("family", family), ("birthdate", birth)];
            keep(&mut resources, &worker.search(&search).await);
        }
    }
    let coverage = patient.coverage("9000000009").await;
    coverage.ok(200);
    keep(&mut resources, &coverage);
    keep(&mut resources, &patient.read("9000000017").await);
    keep(&mut resources, &application.coverage("9000000009").await);
    keep(&mut resources, &worker.search(&[]).await);
    keep(
        &mut resources,
        &worker.search(&[("family", "Sm*"), ("birthdate", "ge1900-01-01")]).await,
    );
    let patches = serde_json::json!([{"op": "replace", "path": "/nothing", "value": 1}]);
    keep(&mut resources, &worker.patch("9000000017", 1, &patches).await);
    for event in world.told(&["audit", "export"]).lines() {
        resources.push(serde_json::from_str(event).expect("an event a line"));
    }
    let kinds = ["Patient", "Bundle", "OperationOutcome", "AuditEvent"];
    for kind in kinds {
        assert!(
            resources.iter().any(|resource| resource["resourceType"] == kind),
            "{kind}"
        );
    }
    for kind in ["RelatedPerson", "Coverage"] {
        let inside = |resource: &Value| resource["entry"][0]["resource"]["resourceType"] == kind;
        assert!(resources.iter().any(inside), "{kind} in a bundle");
    }
    let file = world.folder.path().join("served.ndjson");
    crate::people::write(&file, &resources);
    println!("{}", must_pass("fhir_resources.py", &[text(&file)]));
}
