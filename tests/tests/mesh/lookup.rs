//! Finding mailboxes by organisation and workflow.

use crate::world;
use vertebra_tests::mesh::{V1, V2};

async fn get(alice: &mut vertebra_tests::mesh::Mailbox, path: &str, accept: &str) -> vertebra_tests::wire::Answer {
    let path = format!("/messageexchange/{path}");
    alice
        .try_call("GET", &path, &[("Accept", accept)], b"")
        .await
        .expect("an answer")
}

#[tokio::test]
async fn an_endpoint_is_found_by_organisation_and_workflow() {
    let world = world().await;
    let mut alice = world.mailbox(1);
    let v1 = get(&mut alice, "endpointlookup/X26/TEST_WORKFLOW", V1).await;
    assert_eq!(v1.status, 200, "{}", v1.text());
    assert!(v1.json()["query_id"].is_string(), "{}", v1.text());
    let found = &v1.json()["results"][0];
    assert_eq!(
        (&found["address"], &found["endpoint_type"]),
        (&"X26ABC2".into(), &"MESH".into())
    );
    let name = found["description"].clone();
    assert!(name.as_str().is_some_and(|name| !name.is_empty()), "{}", v1.text());
    let v2 = get(&mut alice, "endpointlookup/X26/TEST_WORKFLOW", V2).await;
    let found = &v2.json()["results"][0];
    assert_eq!(
        (&found["mailbox_id"], &found["mailbox_name"]),
        (&"X26ABC2".into(), &name)
    );
    assert_eq!(v2.json()["results"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_lookup_without_a_match_is_an_empty_list() {
    let world = world().await;
    let mut alice = world.mailbox(1);
    for path in [
        "endpointlookup/X26/NOTHING",
        "endpointlookup/Z99/TEST_WORKFLOW",
        "workflowsearch/NOTHING",
    ] {
        for accept in [V1, V2] {
            let answer = get(&mut alice, path, accept).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            assert_eq!(answer.json()["results"].as_array().map(Vec::len), Some(0), "{path}");
        }
    }
}

#[tokio::test]
async fn a_workflow_search_names_all_its_receivers() {
    let world = world().await;
    let mut alice = world.mailbox(1);
    let answer = get(&mut alice, "workflowsearch/TEST_WORKFLOW2", V2).await;
    let json = answer.json();
    let mut ids: Vec<&str> = json["results"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item["mailbox_id"].as_str())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, ["X26ABC1", "X26ABC2", "X26ABC3"]);
}
