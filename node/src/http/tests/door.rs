//! Permits and identifiers, without sockets.

use super::*;
use std::collections::HashSet;
use std::net::IpAddr;

#[test]
fn one_address_gets_its_share_of_connections_and_no_more() {
    let limits = Limits {
        connections_per_address_max: 2,
        ..Limits::default()
    };
    let door = Door::new(limits, None);
    let one: IpAddr = "192.0.2.1".parse().expect("an address");
    let mapped: IpAddr = "::ffff:192.0.2.1".parse().expect("an address");
    let other: IpAddr = "192.0.2.2".parse().expect("an address");
    let first = door.admit_connection(one);
    let second = door.admit_connection(mapped);
    assert!(first.is_some() && second.is_some());
    assert!(
        door.admit_connection(one).is_none(),
        "the same address in either notation"
    );
    assert!(door.admit_connection(other).is_some());
    drop(second);
    assert!(door.admit_connection(one).is_some());
    assert_eq!(read(&door.figures().refused_address), 1);
    drop(first);
    assert_eq!(read(&door.figures().connections_now), 0);
}

#[test]
fn request_identifiers_are_unique_and_differ_between_starts() {
    let door = Door::new(Limits::default(), None);
    let ids: HashSet<_> = (0..10_000).map(|_| door.next_id()).collect();
    assert_eq!(ids.len(), 10_000);
    let other = Door::new(Limits::default(), None);
    assert_ne!(
        door.next_id().0 >> 32,
        other.next_id().0 >> 32,
        "one chance in four thousand million"
    );
}

#[test]
fn every_refusal_has_a_code_and_says_what_to_do() {
    for (refusal, status) in [
        (Problem::HostMissing, 400),
        (Problem::CertificateRefused, 403),
        (Problem::BodyTooLarge(5), 413),
        (Problem::TooSlow, 408),
        (Problem::Overloaded(3), 503),
    ] {
        let response = problem(refusal);
        assert_eq!(response.status().as_u16(), status);
        let ResponseBody::Full(body) = response.into_body() else {
            panic!("a refusal has a body");
        };
        let json: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert!(json["code"].is_string() && json["message"].as_str().is_some_and(|text| text.ends_with('.')));
    }
}

#[tokio::test]
async fn a_body_in_memory_is_read_once_and_measured() {
    let body = RequestBody::from_bytes(Bytes::from_static(b"abc"));
    assert_eq!(body.announced_bytes(), Some(3));
    assert_eq!(body.collect(3).await, Ok(Bytes::from_static(b"abc")));
    let body = RequestBody::from_bytes(Bytes::from_static(b"abcd"));
    assert_eq!(body.collect(3).await, Err(BodyError::TooLarge(3)));
    let mut body = RequestBody::from_bytes(Bytes::new());
    assert_eq!(body.next().await, None);
}
