//! What members share through Redis while it answers: clients' rates, and who is there.

use crate::{MEMBERS, Site, seen};
use serde_json::Value;
use std::time::{Duration, Instant};
use vertebra_tests::node::{Folder, Node};
use vertebra_tests::pds::Client;
use vertebra_tests::redis::Redis;

/// Requests a second.
const RATE: u32 = 20;
/// How long clients hammer.
const HAMMER: Duration = Duration::from_secs(4);
const NUMBER: &str = "9000000009";

/// A client of demographics through a member.
fn worker(site: &Site, member: usize) -> Client {
    let token = site.node.sandbox["tokens"]["worker"]
        .as_str()
        .expect("sandbox.json has a worker's token");
    Client::new(site.node.target_through(member, None), token)
}

/// Asks through all members at once as fast as it goes; how many were served, and the last `Retry-After`.
async fn hammer(site: &Site) -> (u32, u64) {
    let began = Instant::now();
    let tasks = (0..MEMBERS).map(|member| {
        let mut client = worker(site, member);
        tokio::spawn(async move {
            let (mut served, mut after) = (0, 0);
            while began.elapsed() < HAMMER {
                let reply = client.read(NUMBER).await;
                match reply.status() {
                    200 => served += 1,
                    _ => {
                        reply.refused(429, "TOO_MANY_REQUESTS");
                        after = reply
                            .header("retry-after")
                            .and_then(|text| text.parse().ok())
                            .expect("Retry-After");
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            }
            (served, after)
        })
    });
    let (mut served, mut after) = (0, 0);
    for task in tasks.collect::<Vec<_>>() {
        let (some, last) = task.await.expect("every call is answered");
        served += some;
        after = after.max(last);
    }
    (served, after)
}

#[tokio::test]
async fn a_client_that_asks_three_members_gets_its_rate_once_and_all_members_are_seen() {
    let mut site = Site::start(Redis::start()).await;
    let all = |redis: &Value| seen(redis).len() == MEMBERS;
    site.await_each("all members are seen", all).await;
    // A member whose first answer came late on a busy machine says `slow` until its next try.
    let wanted = [
        "redis: up for",
        "seen there: n1.north (1), n1.south (2), w1.witness (3)",
    ];
    site.await_said(2, &["status"], &wanted).await;
    let status = site.status(0).await;
    let own = &status["redis"]["nodes"][0];
    assert_eq!(
        (own["id"].as_u64(), own["site"].as_str()),
        (Some(1), Some("north")),
        "{own}"
    );
    assert!(
        own["since"].is_string() && own["release"].is_string() && own["requests"].is_u64(),
        "{own}"
    );

    let set = site
        .run(0, &["client", "set", "sandbox-app", "--rate", &RATE.to_string()])
        .await;
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    let (shared, after) = hammer(&site).await;
    let rate = |buckets: u32| RATE * (HAMMER.as_secs() as u32 + buckets);
    // A bucket from each member before they hear of each other is paid for afterwards, so the sum is one bucket and the time.
    println!("{shared} served by three that share, {} at one rate", rate(1));
    assert!((rate(0) / 2..=rate(MEMBERS as u32)).contains(&shared), "{shared}");
    assert!((1..=3).contains(&after), "{after}");
    tokio::time::sleep(Duration::from_secs(after)).await;
    assert_eq!(
        worker(&site, 1).read(NUMBER).await.status(),
        200,
        "after Retry-After it is served"
    );

    // Without Redis each member has its own bucket, as before.
    site.redis.servers[0].kill();
    site.await_not_up().await;
    let (alone, _) = hammer(&site).await;
    println!("{alone} served by three that do not");
    assert!(alone > rate(MEMBERS as u32), "{alone}");
    assert!(alone <= (MEMBERS as u32 + 1) * rate(1), "{alone}");
}

#[tokio::test]
async fn without_redis_a_node_runs_whole_and_doctor_says_what_that_means() {
    let folder = Folder::new("no-redis");
    let node = Node::start(&folder.path().join("data"));
    let token = node.credentials(0).token();
    let mut mailbox = node.mailbox(0);
    let path = mailbox.path("inbox");
    for expected in [200, 403] {
        let answer = mailbox.try_call("GET", &path, &[("Authorization", &token)], b"").await;
        assert_eq!(answer.expect("an answer").status, expected);
    }
    let status = node.admin("GET", "/admin/status", &Value::Null).await.json();
    assert_eq!(
        (&status["redis"]["state"], &status["state"]),
        (&"none".into(), &"healthy".into())
    );
    let metrics = node.admin("GET", "/metrics", &Value::Null).await.text();
    assert!(!metrics.contains("vertebra_redis"), "no figure of what is not there");
    let mut command = std::process::Command::new(vertebra_tests::node::binary());
    let output = command
        .args(["doctor", "--sandbox"])
        .arg(&node.data)
        .output()
        .expect("the binary starts");
    let text = String::from_utf8_lossy(&output.stdout);
    for wanted in [
        "Redis ",
        "not configured: each node keeps nonces of reads",
        "N times its rate",
        "RabbitMQ",
    ] {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
}
