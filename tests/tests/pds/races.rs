//! Two at once: of two changes to one version one wins, and one person is created once.

use crate::{Sandbox, add, newcomer, someone};
use serde_json::json;

/// Rounds on each patient, and patients at a time: 1,000 races.
const ROUNDS: u32 = 200;
const PATIENTS: usize = 5;
/// Races to create.
const CREATES: usize = 100;

#[tokio::test]
async fn of_two_changes_to_one_version_exactly_one_wins() {
    let sandbox = Sandbox::start("pds-races");
    let mut tasks = Vec::new();
    for _ in 0..PATIENTS {
        let (mut one, mut two) = (sandbox.worker(), sandbox.nurse());
        let made = newcomer(&mut one).await;
        let number = made.id().to_owned();
        tasks.push(tokio::spawn(async move {
            for version in 1..=ROUNDS {
                let order = |value| json!([add("/multipleBirthInteger", json!(value))]);
                let (first, second) = (order(1), order(2));
                let replies = tokio::join!(
                    one.patch(&number, version, &first),
                    two.patch(&number, version, &second)
                );
                let (won, lost, value) = match replies.0.status() {
                    200 => (replies.0, replies.1, 1),
                    _ => (replies.1, replies.0, 2),
                };
                assert_eq!(
                    (won.ok(200).version(), &won.json["multipleBirthInteger"]),
                    (version + 1, &json!(value))
                );
                lost.refused(409, "RESOURCE_VERSION_MISMATCH");
                if version % 20 == 0 {
                    let read = one.read(&number).await;
                    assert_eq!(
                        (&read.json, read.version()),
                        (&won.json, version + 1),
                        "the winner's is the record"
                    );
                }
            }
            number
        }));
    }
    for task in tasks {
        let number = task.await.expect("every round had one winner");
        assert_eq!(
            sandbox.worker().read(&number).await.ok(200).version(),
            1 + ROUNDS,
            "one version a win"
        );
        let versions: Vec<_> = sandbox
            .history(&number)
            .iter()
            .map(|one| one["version"].as_u64())
            .collect();
        let expected: Vec<_> = (1..=u64::from(ROUNDS) + 1).rev().map(Some).collect();
        assert_eq!(versions, expected);
    }
}

#[tokio::test]
async fn one_person_created_by_two_at_once_is_created_once() {
    let sandbox = Sandbox::start("pds-create-races");
    let (mut one, mut two) = (sandbox.worker(), sandbox.nurse());
    for round in 0..CREATES {
        let person = someone();
        let replies = tokio::join!(one.create(&person), two.create(&person));
        let (won, lost) = if replies.0.status() == 201 {
            replies
        } else {
            (replies.1, replies.0)
        };
        assert_eq!(won.ok(201).version(), 1);
        assert_eq!(
            (lost.status(), lost.code()),
            (200, "SINGLE_MATCH"),
            "round {round}: {}",
            lost.answer.text()
        );
        assert!(
            lost.diagnostics().contains(won.id()),
            "round {round}: {}",
            lost.diagnostics()
        );
        let family = person["name"][0]["family"].as_str().expect("a family");
        let born = person["birthDate"].as_str().expect("a day");
        let found = one.search(&[("family", family), ("birthdate", born)]).await;
        assert_eq!(found.ok(200).ids(), [won.id()], "round {round}");
    }
}

#[tokio::test]
async fn many_at_once_on_one_version_have_one_winner_and_coverage_races_too() {
    let sandbox = Sandbox::start("pds-crowd");
    let mut worker = sandbox.worker();
    let made = newcomer(&mut worker).await;
    let number = made.id().to_owned();
    for version in 1..=40 {
        let mut tasks = Vec::new();
        for client in 0..8_u32 {
            let mut worker = if client % 2 == 0 {
                sandbox.worker()
            } else {
                sandbox.nurse()
            };
            let mut patient = sandbox.patient(&number);
            let number = number.clone();
            tasks.push(tokio::spawn(async move {
                if client < 6 {
                    worker
                        .patch(
                            &number,
                            version,
                            &json!([add("/multipleBirthInteger", json!(client + 1))]),
                        )
                        .await
                } else {
                    patient
                        .put_coverage(version, &crate::coverage(&number, &format!("{version}-{client}")))
                        .await
                }
            }));
        }
        let mut won = 0;
        for task in tasks {
            let reply = task.await.expect("no client panics");
            match reply.status() {
                200 | 201 => won += 1,
                _ => {
                    reply.refused(409, "RESOURCE_VERSION_MISMATCH");
                }
            }
        }
        assert_eq!(won, 1, "of eight at version {version}");
    }
    assert_eq!(worker.read(&number).await.ok(200).version(), 41);
}
