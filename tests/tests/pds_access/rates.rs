//! The rate of a client, as its callers see it.

use crate::{SCOPE, world};
use std::time::{Duration, Instant};
use vertebra_tests::pds::Reply;

/// Requests a second.
const RATE: u32 = 5;

#[tokio::test]
async fn a_client_above_its_rate_is_told_when_to_come_back_and_others_are_not_held_up() {
    let world = world();
    world.add_client("rates-slow", SCOPE, &["worker", "patient"], &RATE.to_string());
    world.add_client("rates-other", SCOPE, &["worker"], &RATE.to_string());
    let mut slow = world.client(&world.signed(&world.worker_claims("rates-slow")));
    let mut patient = world.client(&world.signed(&world.patient_claims("rates-slow", "9000000017")));
    let mut other = world.client(&world.signed(&world.worker_claims("rates-other")));
    slow.try_call("GET", "/nothing", &[], b"")
        .await
        .expect("the connection is open before the clock runs");

    let began = Instant::now();
    let (mut taken, mut refused) = (0, None);
    // Every refusal proves that the bucket was empty; a slow machine fills it meanwhile, so the bound is by time.
    while refused.is_none() {
        let reply = slow.read("9000000017").await;
        match reply.status() {
            200 => taken += 1,
            _ => refused = Some(reply),
        }
        let let_in = f64::from(RATE) + began.elapsed().as_secs_f64() * f64::from(RATE);
        assert!(f64::from(taken) <= let_in + 1.0, "{taken} of {let_in}");
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{taken} calls and none too many"
        );
    }
    assert!(taken >= RATE, "a second's worth may come at once: {taken}");
    let refused = refused.expect("the loop ends with one");
    let after = too_many(&refused);
    // Another route, another kind of caller: it is the client that asks too often.
    let others = [slow.related("9000000017").await, patient.read("9000000017").await];
    assert!(
        others.iter().any(|reply| reply.status() == 429),
        "one bucket for the client"
    );
    for reply in others.iter().filter(|reply| reply.status() == 429) {
        too_many(reply);
    }
    assert_eq!(
        other.read("9000000017").await.status(),
        200,
        "each client has its own rate"
    );

    // The promise itself: asked again after it, the client is served.
    tokio::time::sleep(Duration::from_secs(after)).await;
    assert_eq!(
        slow.read("9000000017").await.status(),
        200,
        "after Retry-After it is served"
    );
    let recorded = world.audited().into_iter().filter(|entry| {
        entry["client"] == "rates-slow" && entry["outcome"] == "429 TOO_MANY_REQUESTS" && entry["role"] != ""
    });
    assert!(recorded.count() >= 1, "who was held back is on the record");
}

/// Seconds of Retry-After.
#[track_caller]
fn too_many(reply: &Reply) -> u64 {
    reply.refused(429, "TOO_MANY_REQUESTS");
    let after = reply.header("retry-after").and_then(|text| text.parse().ok());
    let after = after.expect("it says in how many seconds to come back");
    assert!((1..=2).contains(&after), "{after} s at {RATE} a second");
    after
}
