//! One request sent again, with its identifier: it happens at most once, and gives the first answer, in every
//! interleaving.

use crate::{Sandbox, add, coverage, newcomer, renamed, replace, someone, word};
use serde_json::{Value, json};
use vertebra_tests::pds::{Reply, request_id};
use vertebra_tests::tokens::Authority;

/// Rounds of two at once.
const ROUNDS: usize = 200;

/// The same answer: status, version, body.
#[track_caller]
fn same(first: &Reply, again: &Reply, what: &str) {
    assert_eq!(
        (again.status(), again.version(), again.header("location")),
        (first.status(), first.version(), first.header("location")),
        "{what}: {}",
        again.answer.text()
    );
    let mut bodies = [first.json.clone(), again.json.clone()];
    // A bundle tells when it was made.
    for body in bodies.iter_mut().filter_map(Value::as_object_mut) {
        body.remove("timestamp");
    }
    assert_eq!(bodies[0], bodies[1], "{what}");
}

#[tokio::test]
async fn a_change_sent_again_gives_the_first_answer_whatever_came_between() {
    let mut sandbox = Sandbox::start("pds-repeat-patch");
    let mut worker = sandbox.worker();
    let made = newcomer(&mut worker).await;
    let (number, request) = (made.id(), request_id());
    let patches = json!([
        add(
            "/telecom/-",
            json!({"use": "mobile", "system": "phone", "value": "07700900001"})
        ),
        replace("/gender", json!("male")),
    ]);
    // What was refused has not happened: its identifier is still free.
    worker
        .patch_as(&request, number, 7, &patches)
        .await
        .refused(409, "RESOURCE_VERSION_MISMATCH");
    let wrong = json!([replace("/gender", json!("woman"))]);
    worker
        .patch_as(&request, number, 1, &wrong)
        .await
        .refused(400, "INVALID_VALUE");
    let first = worker.patch_as(&request, number, 1, &patches).await;
    assert_eq!(first.ok(200).version(), 2);
    same(
        &first,
        &worker.patch_as(&request, number, 1, &patches).await,
        "right after",
    );
    same(
        &first,
        &worker.patch_as(&request.to_uppercase(), number, 1, &patches).await,
        "in capitals",
    );
    same(
        &first,
        &sandbox.worker().patch_as(&request, number, 1, &patches).await,
        "over another connection",
    );
    let mut nurse = sandbox.nurse();
    let later = nurse.patch(number, 2, &renamed(&made.json, &word())).await;
    assert_eq!(later.ok(200).version(), 3);
    same(
        &first,
        &worker.patch_as(&request, number, 1, &patches).await,
        "after somebody else's change",
    );
    assert_eq!(worker.read(number).await.json, later.json, "which stands");
    // Another body, or another version, under the same identifier.
    for (version, patches) in [
        (1, &wrong),
        (3, &json!([replace("/gender", json!("unknown"))])),
        (3, &patches),
        (2, &patches),
    ] {
        worker
            .patch_as(&request, number, version, patches)
            .await
            .refused(400, "INVALID_VALUE");
    }
    assert_eq!(worker.read(number).await.json, later.json, "nothing was changed");
    // Another client's identifiers are its own.
    nurse
        .patch_as(&request, number, 1, &patches)
        .await
        .refused(409, "RESOURCE_VERSION_MISMATCH");
    let own = nurse
        .patch_as(&request, number, 3, &json!([replace("/gender", json!("unknown"))]))
        .await;
    assert_eq!(own.ok(200).version(), 4);
    // So is another record's.
    let other = newcomer(&mut worker).await;
    assert_eq!(
        worker
            .patch_as(&request, other.id(), 1, &patches)
            .await
            .ok(200)
            .version(),
        2
    );
    for orderly in [true, false] {
        if orderly {
            sandbox.node.terminate();
        } else {
            sandbox.kill();
        }
        sandbox.node.restart();
        let mut worker = sandbox.worker();
        same(
            &first,
            &worker.patch_as(&request, number, 1, &patches).await,
            "after a restart",
        );
        same(
            &own,
            &sandbox
                .nurse()
                .patch_as(&request, number, 3, &json!([replace("/gender", json!("unknown"))]))
                .await,
            "after a restart",
        );
        worker
            .patch_as(&request, number, 1, &wrong)
            .await
            .refused(400, "INVALID_VALUE");
    }
    assert_eq!(
        sandbox.history(number).len(),
        4,
        "four versions, however often they were asked for"
    );
    let entries = sandbox.audited(&["--request", &request]);
    let repeated = entries
        .iter()
        .filter(|entry| entry["outcome"] == "200 repeated")
        .count();
    assert_eq!(repeated, 8, "each repeat is on the record as one: {entries:?}");
}

#[tokio::test]
async fn a_change_sent_twice_at_once_happens_once() {
    let sandbox = Sandbox::shared();
    let (mut one, mut two) = (sandbox.worker(), sandbox.worker());
    let made = newcomer(&mut one).await;
    let number = made.id();
    for version in 1..=u32::try_from(ROUNDS).expect("few") {
        let request = request_id();
        let patches = renamed(&made.json, &word());
        let (first, second) = tokio::join!(
            one.patch_as(&request, number, version, &patches),
            two.patch_as(&request, number, version, &patches)
        );
        assert_eq!(first.ok(200).version(), version + 1);
        same(&first, &second, &format!("round {version}"));
    }
    assert_eq!(
        one.read(number).await.ok(200).version(),
        u32::try_from(ROUNDS).expect("few") + 1
    );
}

#[tokio::test]
async fn a_creation_sent_several_times_at_once_creates_one_and_each_gets_its_answer() {
    let sandbox = Sandbox::shared();
    let mut clients = [sandbox.worker(), sandbox.worker(), sandbox.worker(), sandbox.worker()];
    let mut odd = Vec::new();
    for round in 0..ROUNDS {
        let (request, person) = (request_id(), someone());
        let [one, two, three, four] = &mut clients;
        let replies: [Reply; 4] = tokio::join!(
            one.create_as(&request, &person),
            two.create_as(&request, &person),
            three.create_as(&request, &person),
            four.create_as(&request, &person)
        )
        .into();
        let family = person["name"][0]["family"].as_str().expect("a family");
        let born = person["birthDate"].as_str().expect("a day");
        let found = clients[0].search(&[("family", family), ("birthdate", born)]).await;
        assert_eq!(found.ok(200).ids().len(), 1, "round {round}: never two");
        let first = replies
            .iter()
            .find(|reply| reply.status() == 201)
            .expect("one of them creates");
        for reply in &replies {
            if reply.status() == 201 {
                same(first, reply, &format!("round {round}"));
            } else {
                odd.push((round, reply.status(), reply.code().to_owned()));
            }
        }
    }
    assert!(odd.is_empty(), "these got another answer than the first: {odd:?}");
}

#[tokio::test]
async fn a_creation_sent_again_gives_the_first_answer_whatever_came_between() {
    let mut sandbox = Sandbox::start("pds-repeat-create");
    let mut worker = sandbox.worker();
    let (request, person) = (request_id(), someone());
    let mut wrong = person.clone();
    wrong["gender"] = json!("woman");
    worker.create_as(&request, &wrong).await.refused(400, "INVALID_VALUE");
    let first = worker.create_as(&request, &person).await;
    let number = first.ok(201).id().to_owned();
    same(&first, &worker.create_as(&request, &person).await, "right after");
    same(
        &first,
        &sandbox.worker().create_as(&request, &person).await,
        "over another connection",
    );
    let mut nurse = sandbox.nurse();
    let later = nurse.patch(&number, 1, &renamed(&first.json, &word())).await;
    assert_eq!(later.ok(200).version(), 2);
    same(
        &first,
        &worker.create_as(&request, &person).await,
        "after somebody else's change",
    );
    worker
        .create_as(&request, &someone())
        .await
        .refused(400, "INVALID_VALUE");
    worker.create_as(&request, &wrong).await.refused(400, "INVALID_VALUE");
    // Somebody else's identifiers are their own: the person is found, or another is made.
    let stranger = someone();
    let own = nurse.create_as(&request, &stranger).await;
    assert_ne!(own.ok(201).id(), number);
    sandbox.kill();
    sandbox.node.restart();
    let mut worker = sandbox.worker();
    same(&first, &worker.create_as(&request, &person).await, "after a restart");
    same(
        &own,
        &sandbox.nurse().create_as(&request, &stranger).await,
        "after a restart",
    );
    assert_eq!(worker.read(&number).await.json, later.json);
    let mut again = person.clone();
    again["name"][0]["family"] = later.json["name"][0]["family"].clone();
    worker.create(&again).await.refused(200, "SINGLE_MATCH");
}

#[tokio::test]
async fn a_coverage_sent_again_gives_the_first_answer_whatever_came_between() {
    let mut sandbox = Sandbox::start("pds-repeat-coverage");
    let mut worker = sandbox.worker();
    let made = newcomer(&mut worker).await;
    let (number, request) = (made.id(), request_id());
    let body = coverage(number, "1");
    let mut patient = sandbox.patient(number);
    patient
        .put_coverage_as(&request, 5, &body)
        .await
        .refused(409, "RESOURCE_VERSION_MISMATCH");
    let first = patient.put_coverage_as(&request, 1, &body).await;
    assert_eq!((first.ok(201).version(), first.resources()), (2, vec![&body]));
    same(
        &first,
        &patient.put_coverage_as(&request, 1, &body).await,
        "right after",
    );
    worker.patch(number, 2, &renamed(&made.json, &word())).await.ok(200);
    same(
        &first,
        &patient.put_coverage_as(&request, 1, &body).await,
        "after somebody else's change",
    );
    let second = patient.put_coverage(3, &coverage(number, "2")).await;
    assert_eq!(second.ok(201).version(), 4);
    same(
        &first,
        &patient.put_coverage_as(&request, 1, &body).await,
        "after another coverage",
    );
    for (version, body) in [
        (1, coverage(number, "3")),
        (4, body.clone()),
        (4, coverage(number, "3")),
    ] {
        patient
            .put_coverage_as(&request, version, &body)
            .await
            .refused(400, "INVALID_VALUE");
    }
    sandbox.kill();
    sandbox.node.restart();
    let mut patient = sandbox.patient(number);
    same(
        &first,
        &patient.put_coverage_as(&request, 1, &body).await,
        "after a restart",
    );
    let read = patient.coverage(number).await;
    assert_eq!(
        (read.ok(200).version(), read.resources()),
        (4, vec![&coverage(number, "2")])
    );
    let (mut one, mut two) = (sandbox.patient(number), sandbox.patient(number));
    for version in 4..44 {
        let (request, body) = (request_id(), coverage(number, &version.to_string()));
        let replies = tokio::join!(
            one.put_coverage_as(&request, version, &body),
            two.put_coverage_as(&request, version, &body)
        );
        assert_eq!(replies.0.ok(201).version(), version + 1);
        same(&replies.0, &replies.1, "twice at once");
    }
    assert_eq!(sandbox.history(number).len(), 44);
}

#[tokio::test]
async fn an_identifier_is_free_for_another_operation_and_for_reads() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let request = request_id();
    let made = worker.create_as(&request, &someone()).await;
    let number = made.ok(201).id();
    let headers = [("X-Request-ID", request.as_str())];
    let path = format!("/Patient/{number}");
    worker.call("GET", &path, &headers, b"").await.ok(200);
    let changed = worker
        .patch_as(&request, number, 1, &json!([replace("/gender", json!("male"))]))
        .await;
    assert_eq!(changed.ok(200).version(), 2);
    let read = worker.call("GET", &path, &headers, b"").await;
    assert_eq!(
        (read.ok(200).version(), &read.json),
        (2, &changed.json),
        "a read is never an earlier answer"
    );
}

#[tokio::test]
async fn a_change_sent_again_never_reaches_the_record_that_took_its_number_s_place() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let (old, new) = (newcomer(&mut worker).await, newcomer(&mut worker).await);
    let request = request_id();
    let patches = json!([replace("/gender", json!("male"))]);
    let first = worker.patch_as(&request, old.id(), 1, &patches).await;
    assert_eq!(first.ok(200).version(), 2);
    let (card, body) = (request_id(), coverage(old.id(), "1"));
    let mut patient = sandbox.patient(old.id());
    assert_eq!(patient.put_coverage_as(&card, 2, &body).await.ok(201).version(), 3);
    // So that the version of the coverage would fit as well.
    let new_now = worker.patch(new.id(), 1, &renamed(&new.json, &word())).await;
    sandbox.ok(&["patient", "supersede", old.id(), "--by", new.id()]);
    worker.patch_as(&request, old.id(), 1, &patches).await;
    patient.put_coverage_as(&card, 2, &body).await;
    let after = worker.read(new.id()).await;
    assert_eq!(
        after.ok(200).json,
        new_now.json,
        "one request changed two people's records"
    );
    assert!(
        sandbox
            .patient(new.id())
            .coverage(new.id())
            .await
            .ok(200)
            .ids()
            .is_empty()
    );
}

#[tokio::test]
async fn a_creation_sent_again_after_a_twin_was_invalidated_still_creates_none() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let (request, person) = (request_id(), someone());
    let first = worker.create_as(&request, &person).await;
    sandbox.ok(&["patient", "invalidate", first.ok(201).id()]);
    let again = worker.create_as(&request, &person).await;
    assert!(
        again.id().is_empty() || again.id() == first.id(),
        "{}",
        again.answer.text()
    );
    worker.read(first.id()).await.refused(404, "INVALIDATED_RESOURCE");
}

#[tokio::test]
async fn an_answer_given_again_does_not_show_the_place_of_a_record_restricted_since() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let (created, changed, person) = (request_id(), request_id(), someone());
    let made = worker.create_as(&created, &person).await;
    let number = made.ok(201).id();
    let patches = json!([replace("/gender", json!("male"))]);
    worker.patch_as(&changed, number, 1, &patches).await.ok(200);
    sandbox.ok(&["patient", "restrict", number]);
    for again in [
        worker.patch_as(&changed, number, 1, &patches).await,
        worker.create_as(&created, &person).await,
    ] {
        for part in ["address", "telecom", "High Street"] {
            assert!(!again.answer.text().contains(part), "{part}: {}", again.answer.text());
        }
    }
}

#[tokio::test]
async fn a_request_is_remembered_for_a_day_and_not_for_ever() {
    const HOUR_S: u64 = 3600;
    let sandbox = Sandbox::start("pds-repeat-day");
    let authority = Authority::of(&sandbox.node.sandbox);
    let mut worker = sandbox.worker();
    let token = worker.token.clone();
    let made = newcomer(&mut worker).await;
    let (number, request) = (made.id(), request_id());
    let patches = json!([replace("/gender", json!("male"))]);
    let first = worker.patch_as(&request, number, 1, &patches).await;
    first.ok(200);
    let mut ahead_s = 0;
    for (hours, remembered) in [(24, true), (31, false)] {
        let advance_ms = (hours * HOUR_S - ahead_s) * 1000;
        let answer = sandbox
            .node
            .admin("POST", "/admin/clock", &json!({ "advance_ms": advance_ms }))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        ahead_s = hours * HOUR_S;
        worker.token = authority.again(&token, ahead_s);
        let again = worker.patch_as(&request, number, 1, &patches).await;
        match remembered {
            true => same(&first, &again, "a day later"),
            // A new request, which comes too late.
            false => drop(again.refused(409, "RESOURCE_VERSION_MISMATCH")),
        }
    }
    assert_eq!(worker.read(number).await.ok(200).version(), 2, "it happened once");
}
