//! The power is cut for real: ext4 on a loop device, shut down so that not even its journal is written any more.

use crate::{Load, count_from, seed};
use rand::Rng;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use vertebra_tests::books::Findings;
use vertebra_tests::disk::{Disk, loop_devices_or_left_out};
use vertebra_tests::node::{Folder, Node};

/// Room for all segments that are zeroed ahead and the reserve; the image is sparse.
const DISK_MIB: u64 = 6 * 1024;

#[tokio::test]
async fn a_message_answered_202_survives_power_loss() {
    if !loop_devices_or_left_out("a_message_answered_202_survives_power_loss") {
        return;
    }
    let cycles = count_from("VERTEBRA_POWER_CYCLES", 5);
    let seed = seed();
    let folder = Folder::new("power");
    let at = |name: String| folder.path().join(name);
    let mut disk = Disk::new(&at("image-0".into()), &at("mount-0".into()), DISK_MIB);
    let mut load = Load::new(8, seed);
    for cycle in 1..=cycles {
        let mut node = Node::start(&disk.path().join("data"));
        // What the last cut left is all there, before and after what had no answer is sent again.
        let before = load.audit(&node, false).await;
        assert_eq!(before, Findings::default(), "before cycle {cycle}, seed {seed}");
        load.settle(&node).await;
        assert_eq!(
            load.audit(&node, true).await,
            Findings::default(),
            "before cycle {cycle}, seed {seed}"
        );
        let tasks = load.run(&node, &Arc::new(AtomicBool::new(false)));
        let alive_ms = load.random.random_range(50..800);
        tokio::time::sleep(Duration::from_millis(alive_ms)).await;
        disk.cut_power();
        node.kill();
        for task in tasks {
            task.await.expect("no client panics");
        }
        drop(node);
        disk = disk.copy_after_cut(&at(format!("image-{cycle}")), &at(format!("mount-{cycle}")));
    }
    let node = Node::start(&disk.path().join("data"));
    assert_eq!(
        load.audit(&node, false).await,
        Findings::default(),
        "after the last cut, seed {seed}"
    );
    load.settle(&node).await;
    assert_eq!(
        load.audit(&node, true).await,
        Findings::default(),
        "after the last cut, seed {seed}"
    );
    let acknowledged = load.acknowledged().await;
    println!("{cycles} power cuts, {acknowledged} acknowledged messages: 0 lost, 0 altered, 0 duplicated, order kept");
    assert!(acknowledged > cycles as usize, "the load was no load");
}
