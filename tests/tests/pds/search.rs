//! GET /Patient: the specification's scenarios and every refusal.

use crate::{JANE, Sandbox, newcomer, renamed, someone, word};
use serde_json::{Value, json};
use vertebra_tests::pds::Client;

const SMITH: [(&str, &str); 3] = [("family", "Smith"), ("gender", "female"), ("birthdate", "eq2010-10-22")];
const JANES_CONTACT: [(&str, &str); 2] = [("email", "jane.smith@example.com"), ("phone", "01632960587")];

fn wild() -> Vec<(&'static str, &'static str)> {
    vec![("family", "Sm*"), SMITH[1], SMITH[2]]
}

#[tokio::test]
async fn the_specification_s_scenarios_of_a_search() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let with = |base: &[(&'static str, &'static str)], more: &[(&'static str, &'static str)]| [base, more].concat();
    let range = [("birthdate", "ge2010-10-21"), ("birthdate", "le2010-10-23")];
    let fuzzy = [("given", "Jane"), ("_fuzzy-match", "true")];
    let scenarios: [(Vec<(&str, &str)>, &[&str]); 10] = [
        (with(&SMITH, &JANES_CONTACT), &[JANE]),
        (
            with(&SMITH, &[("email", "deb.trotter@example.com"), ("phone", "0121111111")]),
            &[],
        ),
        (wild(), &[JANE, "9000000017"]),
        (with(&wild(), &JANES_CONTACT), &[JANE]),
        (with(&with(&wild(), &JANES_CONTACT), &[("_max-results", "1")]), &[JANE]),
        (with(&with(&SMITH[..2], &range), &JANES_CONTACT), &[JANE]),
        (with(&with(&SMITH, &JANES_CONTACT), &fuzzy), &[JANE]),
        (with(&SMITH, &fuzzy), &[JANE]),
        (
            vec![
                ("family", "Smythe"),
                ("given", "Janet"),
                ("gender", "female"),
                ("birthdate", "eq2005-06-16"),
                ("email", "janet.smythe@example.com"),
                ("phone", "01632960587"),
            ],
            &["9000000025"],
        ),
        (
            vec![
                ("family", "Smith"),
                ("given", "John Paul"),
                ("given", "James"),
                ("gender", "male"),
                ("birthdate", "eq2010-10-22"),
                ("email", "johnp.smith@example.com"),
                ("phone", "01632960587"),
            ],
            &["9000000041"],
        ),
    ];
    for (parameters, expected) in scenarios {
        let found = worker.search(&parameters).await;
        let mut ids = found.ok(200).ids();
        ids.sort_unstable();
        assert_eq!(ids, expected, "{parameters:?}");
        assert_eq!(found.json["total"], json!(expected.len()));
        assert_eq!(
            (&found.json["resourceType"], &found.json["type"]),
            (&json!("Bundle"), &json!("searchset"))
        );
        assert!(found.json["timestamp"].is_string());
        assert_eq!(found.header("content-type"), Some("application/fhir+json"));
        let entries = found.json["entry"].as_array().expect("a list, also of none");
        for entry in entries {
            let score = entry["search"]["score"].as_f64().expect("a score");
            assert!((0.0..=1.0).contains(&score), "{entry}");
            let url = entry["fullUrl"].as_str().expect("a link");
            let id = entry["resource"]["id"].as_str().expect("a number");
            assert!(
                url.ends_with(&format!("/personal-demographics/FHIR/R4/Patient/{id}")),
                "{url}"
            );
        }
        let text = found.answer.text();
        assert!(
            expected != ["9000000025"] || !["address", "telecom", "LS1 4HR"].iter().any(|part| text.contains(part))
        );
    }
}

/// The parameters of a refused search, its status and its code.
type Refused = (&'static str, u16, &'static str);

#[tokio::test]
async fn each_search_that_is_none_is_told_why() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let scenarios: [Refused; 30] = [
        // The scenarios of the specification.
        (
            "family=Sm*&gender=female&invalidParam=123&birthdate=eq2010-10-22&email=j.smith%40example.com&phone=0163",
            400,
            "ADDITIONAL_PROPERTIES",
        ),
        ("email=j.smith%40example.com&phone=0163", 400, "INVALID_SEARCH_DATA"),
        ("family=Smith&birthdate=22-10-2010", 400, "INVALID_VALUE"),
        (
            "family=Smith&birthdate=2010-10-22&death-date=2010",
            400,
            "INVALID_VALUE",
        ),
        ("family=Smith", 400, "INVALID_SEARCH_DATA"),
        ("birthdate=2010-10-22", 400, "INVALID_SEARCH_DATA"),
        // The rest.
        ("", 400, "UNSUPPORTED_SERVICE"),
        ("family=&birthdate=2010-10-22", 400, "MISSING_VALUE"),
        ("family=Smith&birthdate=", 400, "MISSING_VALUE"),
        ("family=Smith&birthdate=2010-02-30", 400, "INVALID_VALUE"),
        ("family=Smith&birthdate=gt2010-02-20", 400, "INVALID_VALUE"),
        ("family=Smith&family=Jones&birthdate=2010-10-22", 400, "INVALID_VALUE"),
        ("family=S*&birthdate=2010-10-22", 400, "INVALID_VALUE"),
        ("family=*&birthdate=2010-10-22", 400, "INVALID_VALUE"),
        ("family=Smith&birthdate=2010-10-22&gender=woman", 400, "INVALID_VALUE"),
        (
            "family=Smith&birthdate=2010-10-22&_fuzzy-match=perhaps",
            400,
            "INVALID_VALUE",
        ),
        ("family=Smith&birthdate=2010-10-22&_max-results=0", 400, "INVALID_VALUE"),
        (
            "family=Smith&birthdate=2010-10-22&_max-results=51",
            400,
            "INVALID_VALUE",
        ),
        (
            "family=Smith&birthdate=2010-10-22&_max-results=-1",
            400,
            "INVALID_VALUE",
        ),
        (
            "family=Smith&birthdate=2010-10-22&address-postalcode=*",
            400,
            "INVALID_VALUE",
        ),
        (
            "family=Smith&birthdate=2010-10-22&general-practitioner=Y1%2A",
            400,
            "INVALID_VALUE",
        ),
        ("family=Smith&birthdate=2010-10-22&email=jane", 400, "INVALID_VALUE"),
        ("family=Smith&birthdate=2010-10-22&phone=call-me", 400, "INVALID_VALUE"),
        (
            "given=A&given=B&given=C&given=D&given=E&given=F&family=Smith&birthdate=2010-10-22",
            400,
            "INVALID_VALUE",
        ),
        (
            "family=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA&birthdate=2010-10-22",
            400,
            "INVALID_VALUE",
        ),
        (
            "family=Smith&birthdate=ge2010-10-23&birthdate=le2010-10-22",
            400,
            "INVALID_SEARCH_DATA",
        ),
        (
            "family=Sm*&birthdate=2010-10-22&given=Jane&_fuzzy-match=true",
            400,
            "INVALID_SEARCH_DATA",
        ),
        (
            "family=Sm*&birthdate=2010-10-22&_exact-match=true",
            400,
            "INVALID_SEARCH_DATA",
        ),
        (
            "family=Smith&birthdate=2010-10-22&_fuzzy-match=true",
            400,
            "INVALID_SEARCH_DATA",
        ),
        (
            "family=Smith&birthdate=2010-10-22&address-postalcode=LS1+6AE&address-postcode=LS1+6AE",
            400,
            "INVALID_SEARCH_DATA",
        ),
    ];
    for (query, status, code) in scenarios {
        let refused = worker.get(&format!("/Patient?{query}")).await;
        assert_eq!(
            (refused.status(), refused.code()),
            (status, code),
            "{query}: {}",
            refused.answer.text()
        );
        refused.refused(status, code);
        for value in ["j.smith", "woman", "perhaps", "call-me", "AAAA", "invalidParam"] {
            assert!(
                !refused.answer.text().contains(value),
                "{query}: it repeats what was sent"
            );
        }
    }
    worker.get("/Patient").await.refused(400, "UNSUPPORTED_SERVICE");
    let many = (0..70).map(|at| format!("given={at}")).collect::<Vec<_>>().join("&");
    let refused = worker.get(&format!("/Patient?{many}")).await;
    refused.refused(400, "INVALID_VALUE");
    let missing = worker
        .call(
            "GET",
            "/Patient?family=Smith&birthdate=2010-10-22",
            &[("X-Request-ID", "")],
            b"",
        )
        .await;
    missing.refused(400, "MISSING_VALUE");
}

#[tokio::test]
async fn an_application_by_itself_gets_one_result_and_only_a_unique_one() {
    let sandbox = Sandbox::shared();
    let mut application = sandbox.application().await;
    let one = application.search(&[&SMITH[..], &JANES_CONTACT].concat()).await;
    assert_eq!(one.ok(200).ids(), [JANE]);
    application.search(&wild()).await.refused(200, "TOO_MANY_MATCHES");
    let explicit = [&SMITH[..], &JANES_CONTACT, &[("_max-results", "1")]].concat();
    assert_eq!(application.search(&explicit).await.ok(200).ids(), [JANE]);
    let several = [&SMITH[..], &[("_max-results", "2")]].concat();
    application.search(&several).await.refused(403, "INVALID_VALUE");
}

async fn search_of(client: &mut Client, record: &Value, more: &[(&str, &str)]) -> vertebra_tests::pds::Reply {
    let family = record["name"][0]["family"].as_str().expect("a family").to_owned();
    let born = record["birthDate"].as_str().expect("a day").to_owned();
    let base = [("family", family.as_str()), ("birthdate", born.as_str())];
    client.search(&[&base[..], more].concat()).await
}

#[tokio::test]
async fn more_matches_than_were_asked_for_are_too_many() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let mut first = someone();
    for _ in 0..3 {
        // Another person of that family, born on that day.
        first["name"][0]["given"] = json!([word(), word()]);
        worker.create(&first).await.ok(201);
    }
    assert_eq!(search_of(&mut worker, &first, &[]).await.ok(200).ids().len(), 3);
    assert_eq!(
        search_of(&mut worker, &first, &[("_max-results", "3")])
            .await
            .ok(200)
            .ids()
            .len(),
        3
    );
    for max in ["1", "2"] {
        let many = search_of(&mut worker, &first, &[("_max-results", max)]).await;
        many.refused(200, "TOO_MANY_MATCHES");
        assert_eq!(many.header("content-type"), Some("application/fhir+json"));
    }
}

#[tokio::test]
async fn a_search_sees_what_was_acknowledged_and_history_finds_what_was() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let made = newcomer(&mut worker).await;
    assert_eq!(
        search_of(&mut worker, &made.json, &[]).await.ok(200).ids(),
        [made.id()],
        "right after the 201"
    );
    let changed = worker.patch(made.id(), 1, &renamed(&made.json, &word())).await;
    assert_eq!(
        search_of(&mut worker, &changed.ok(200).json, &[]).await.ok(200).ids(),
        [made.id()]
    );
    assert!(
        search_of(&mut worker, &made.json, &[]).await.ok(200).ids().is_empty(),
        "under the name before"
    );
    let exact = search_of(&mut worker, &changed.json, &[("_exact-match", "true")]).await;
    assert_eq!(
        (exact.ok(200).ids(), &exact.json["entry"][0]["search"]["score"]),
        (vec![made.id()], &json!(1.0))
    );
}

#[tokio::test]
async fn an_invalidated_record_is_not_found() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let made = newcomer(&mut worker).await;
    sandbox.ok(&["patient", "invalidate", made.id()]);
    assert!(search_of(&mut worker, &made.json, &[]).await.ok(200).ids().is_empty());
}
