//! A member's clock is wrong: it is noticed, nobody is led by it, and all is well once it is set right.

use crate::{SITES, Turn};
use std::time::{Duration, Instant};
use vertebra_tests::cluster::{Cluster, WAIT_MAX, leader, term};
use vertebra_tests::mesh::WORKFLOW;

const HOUR_MS: i64 = 3_600_000;
/// Members look at each other's clocks each second.
const APART_FOR: Duration = Duration::from_secs(4);

/// Waits until a node says this of itself as a reason why it is not healthy, or no more.
async fn await_reason(cluster: &Cluster, id: u64, reason: &str, there: bool) {
    cluster
        .await_status(id, &format!("it says {reason:?}: {there}"), |status| {
            status["reasons"].to_string().contains(reason) == there
        })
        .await;
}

/// A message to a node is taken, at once or when it has noticed who leads.
async fn assert_takes(cluster: &Cluster, id: u64) {
    let (mut sender, began) = (cluster.mailbox(id, "X26ONE"), Instant::now());
    loop {
        let answer = sender.post("X26TWO", WORKFLOW, &[], b"in time").await;
        if answer.status == 202 {
            return;
        }
        assert!(
            answer.status == 503 && began.elapsed() < WAIT_MAX,
            "node {id} takes no message: {}\n{}",
            answer.text(),
            cluster.log_tails()
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_member_whose_clock_is_wrong_does_not_lead_and_leads_again_when_it_is_right() {
    let _turn = Turn::take();
    let mut cluster = Cluster::new("clocks").with_clocks().formed(&SITES).await;
    cluster.add_mailboxes(1, &["X26ONE", "X26TWO"]).await;
    let all = cluster.ids();
    let wrong = cluster.await_leader(&all).await;
    let others: Vec<u64> = all.iter().copied().filter(|&id| id != wrong).collect();
    for ahead_ms in [-HOUR_MS, HOUR_MS] {
        // Set while it runs, then wrong when it starts.
        if ahead_ms > 0 {
            cluster.stop(wrong);
            cluster.set_clock(wrong, ahead_ms);
            cluster.start(wrong);
            cluster.await_operator(wrong).await;
        }
        cluster.set_clock(wrong, ahead_ms);
        cluster.await_leader(&others).await;
        await_reason(&cluster, wrong, "clock is not its peers'", true).await;
        await_reason(&cluster, others[0], "3600 s", true).await;
        for &id in &all {
            assert_takes(&cluster, id).await;
        }
        cluster.set_clock(wrong, 0);
        await_reason(&cluster, wrong, "clock", false).await;
        // With one that does not want to lead and one that cannot it is its turn, and it trusts its clock.
        cluster.stop(others[1]);
        if cluster.await_leader(&[wrong, others[0]]).await != wrong {
            cluster.ok(others[0], &["drain"]);
            cluster.await_leader(&[wrong]).await;
            cluster.ok(others[0], &["undrain"]);
        }
        assert_takes(&cluster, wrong).await;
        assert_takes(&cluster, others[0]).await;
        cluster.start(others[1]);
        cluster.await_ready(others[1]).await;
    }
}

/// Of two clocks that differ nobody can tell from outside which is wrong. Whose clock was set knows, and lets the other lead,
/// which then goes on leading.
#[tokio::test]
async fn of_two_members_whose_clocks_differ_the_one_whose_clock_was_not_set_leads() {
    let _turn = Turn::take();
    let cluster = Cluster::new("two-clocks").with_clocks().formed(&SITES[..2]).await;
    cluster.add_mailboxes(1, &["X26ONE", "X26TWO"]).await;
    let both = cluster.ids();
    for _ in 0..2 {
        let wrong = cluster.await_leader(&both).await;
        let right = both.iter().copied().find(|&id| id != wrong).expect("there are two");
        cluster.set_clock(wrong, HOUR_MS);
        cluster.await_leader(&[right]).await;
        for &id in &both {
            await_reason(&cluster, id, "clock is not its peers'", true).await;
        }
        let before = term(&cluster.status(right).await.expect("the leader answers"));
        let (began, mut taken) = (Instant::now(), 0);
        while began.elapsed() < APART_FOR {
            for &id in &both {
                assert_takes(&cluster, id).await;
                taken += 1;
            }
        }
        let status = cluster.status(right).await.expect("the leader answers");
        assert_eq!(
            (leader(&status), term(&status)),
            (Some(right), before),
            "after {taken} messages\n{}",
            cluster.log_tails()
        );
        cluster.set_clock(wrong, 0);
        for &id in &both {
            await_reason(&cluster, id, "clock", false).await;
        }
    }
}
