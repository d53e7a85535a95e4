//! Answers against the interface's own schemas, where its specification file lies beside the repository.

use crate::world;
use vertebra_tests::books;
use vertebra_tests::mesh::{V1, V2, WORKFLOW};
use vertebra_tests::node::Folder;
use vertebra_tests::python::{must_pass, workspace};

#[tokio::test]
async fn every_answer_fits_the_schema_of_the_specification() {
    let folder = std::env::var_os("VERTEBRA_INTERFACES").map(std::path::PathBuf::from);
    let folder = folder.unwrap_or_else(|| workspace().join("..").join("shared/interfaces"));
    let specification = folder.join("mesh-api.yaml");
    if !specification.is_file() {
        return println!(
            "LEFT OUT: no mesh-api.yaml in {} (VERTEBRA_INTERFACES names its folder)",
            folder.display()
        );
    }
    let world = world().await;
    books::keep_exchanges();
    for accept in [V1, V2] {
        let (mut alice, mut bob) = (world.mailbox(1), world.mailbox(2));
        (alice.accept, bob.accept) = (accept, accept);
        let client = [("Mex-ClientVersion", "1"), ("Mex-OSName", "L"), ("Mex-OSVersion", "1")];
        alice.call("POST", "", &client, b"").await;
        let local = format!("schema-{}", accept.len());
        let whole = alice
            .send("X26ABC2", WORKFLOW, &[("Mex-LocalID", &local)], accept.as_bytes())
            .await;
        let chunked = alice
            .send("X26ABC2", WORKFLOW, &[("Mex-Chunk-Range", "1:2")], b"1")
            .await;
        alice.post_chunk(&chunked, 2, 2, b"2").await;
        alice.post_chunk(&chunked, 2, 9, b"2").await;
        alice.post_chunk(&chunked, 3, 2, b"2").await;
        alice.post("NOSUCHBOX", WORKFLOW, &[], b"x").await;
        alice.post("X26ABC2", WORKFLOW, &[], b"").await;
        alice.post("X26ABC2", WORKFLOW, &[("Mex-Subject", "a\tb")], b"x").await;
        bob.call("GET", "inbox", &[], b"").await;
        bob.call("GET", "inbox?max_results=1", &[], b"").await;
        bob.call("GET", "count", &[], b"").await;
        bob.call("GET", "inbox/20200101000000000000_ABCDEF", &[], b"").await;
        bob.call("PUT", &format!("inbox/{whole}/status/acknowledged"), &[], b"")
            .await;
        alice
            .call("GET", &format!("outbox/tracking?messageID={whole}"), &[], b"")
            .await;
        alice
            .call("GET", &format!("outbox/tracking/schema-{}", accept.len()), &[], b"")
            .await;
        for path in ["endpointlookup/X26/TEST_WORKFLOW", "workflowsearch/TEST_WORKFLOW"] {
            let answer = alice
                .try_call("GET", &format!("/messageexchange/{path}"), &[], b"")
                .await;
            answer.expect("an answer");
        }
    }
    let exchanges = books::exchanges();
    assert!(exchanges.len() > 30);
    let folder = Folder::new("schemas");
    let file = folder.path().join("exchanges.json");
    std::fs::write(&file, serde_json::Value::from(exchanges).to_string()).expect("the folder can be written");
    let printed = must_pass(
        "check_schemas.py",
        &[&specification.display().to_string(), &file.display().to_string()],
    );
    println!("{printed}");
}
