//! The client package others wrote, as it is published.

use crate::{ours, world};
use vertebra_tests::python;

#[tokio::test]
async fn the_published_mesh_client_works_unmodified() {
    let world = world().await;
    let (url, sandbox) = match (&world.node, &world.peer) {
        (Some(node), _) => (String::new(), node.data.join("sandbox.json").display().to_string()),
        (None, Some(peer)) => (format!("http://{}", peer.address), String::new()),
        (None, None) => unreachable!("a world is ours or a peer's"),
    };
    println!("{}", python::must_pass("mesh_client_whole.py", &[&sandbox, &url]));
}

#[tokio::test]
async fn the_published_mesh_client_is_refused_without_its_certificate() {
    let Some(world) = ours("certificates").await else {
        return;
    };
    let sandbox = world.node().data.join("sandbox.json").display().to_string();
    println!("{}", python::must_pass("mesh_client_refused.py", &[&sandbox]));
}
