//! GET /Patient/{id}: the specification's scenarios, what became of a number, and what of a restricted patient is shown.

use crate::{BARE, JANE, NOBODY, RESTRICTED, Sandbox, UNSOUND, newcomer, registered, renamed, replace};
use serde_json::json;

/// What of a patient tells where they are.
const PLACE: [&str; 4] = ["address", "telecom", "generalPractitioner", "managingOrganization"];

#[tokio::test]
async fn the_specification_s_scenarios_of_a_read() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    for (number, family, security) in [
        (JANE, "Smith", "U"),
        (RESTRICTED, "Smythe", "R"),
        (BARE, "Unknown", "U"),
    ] {
        let read = worker.read(number).await;
        assert_eq!(read.ok(200).id(), number);
        assert_eq!(read.json["meta"]["versionId"], json!(read.version().to_string()));
        assert_eq!(read.json["meta"]["security"][0]["code"], security);
        assert_eq!(read.json["name"][0]["family"], family);
        assert_eq!(read.json["identifier"][0]["value"], number);
        assert_eq!(read.header("content-type"), Some("application/fhir+json"));
        assert_eq!(read.header("cache-control"), Some("no-store"));
    }
    let restricted = worker.read(RESTRICTED).await;
    for part in PLACE {
        assert!(restricted.json.get(part).is_none(), "{part}: {}", restricted.json);
    }
    let refusals = [
        (NOBODY, 404, "RESOURCE_NOT_FOUND"),
        (UNSOUND, 400, "INVALID_RESOURCE_ID"),
        ("900000000", 400, "INVALID_RESOURCE_ID"),
        ("90000000090", 400, "INVALID_RESOURCE_ID"),
        ("abc", 400, "INVALID_RESOURCE_ID"),
        ("%39000000009", 400, "INVALID_RESOURCE_ID"),
        ("9000000009%00", 400, "INVALID_RESOURCE_ID"),
        ("", 400, "UNSUPPORTED_SERVICE"),
        ("9000000076", 404, "INVALIDATED_RESOURCE"),
    ];
    for (number, status, code) in refusals {
        let refused = worker.read(number).await;
        refused.refused(status, code);
        assert!(
            number.is_empty() || !refused.answer.text().contains(number),
            "it repeats what was sent"
        );
    }
    let missing = worker
        .call("GET", "/Patient/9000000009", &[("X-Request-ID", "")], b"")
        .await;
    missing.refused(400, "MISSING_VALUE");
}

#[tokio::test]
async fn the_example_patients_have_the_versions_that_the_specification_s_scenarios_name() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    // `If-Match: W/"2"` changes 9000000009, and `W/"1"` is a mismatch.
    for (number, version) in [(JANE, 2), (RESTRICTED, 1), (BARE, 1)] {
        assert_eq!(worker.read(number).await.ok(200).version(), version, "{number}");
    }
}

#[tokio::test]
async fn a_superseded_number_gives_the_record_that_took_its_place() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let seeded = worker.read("9000000068").await;
    assert_eq!(seeded.ok(200).id(), "9000000041");
    let (old, new) = (newcomer(&mut worker).await, newcomer(&mut worker).await);
    let (old, new) = (old.id(), new.id());
    sandbox.ok(&["patient", "supersede", old, "--by", new]);
    let read = worker.read(old).await;
    assert_eq!((read.ok(200).id(), read.version()), (new, 1));
    assert_eq!(worker.related(old).await.ok(200).version(), 1);
    let history = sandbox.history(old);
    assert_eq!(
        (&history[0]["version"], &history[0]["superseded_by"]),
        (&json!(2), &json!(new))
    );
    assert_eq!(history[0]["security"], "REDACTED");
    assert_eq!(history.len(), 2);
    // Nothing takes the place of what is itself gone, or of itself.
    for wrong in [[old, new], [new, new]] {
        let output = sandbox.run(&["patient", "supersede", wrong[1], "--by", wrong[0]]);
        assert!(!output.status.success() && !output.stderr.is_empty(), "{wrong:?}");
    }
    sandbox.ok(&["patient", "invalidate", new]);
    worker.read(old).await.refused(404, "INVALIDATED_RESOURCE");
}

#[tokio::test]
async fn an_invalidated_number_is_told_apart_from_one_that_never_was() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let made = newcomer(&mut worker).await;
    let number = made.id();
    sandbox.ok(&["patient", "invalidate", number]);
    worker.read(number).await.refused(404, "INVALIDATED_RESOURCE");
    worker.related(number).await.refused(404, "INVALIDATED_RESOURCE");
    let patches = json!([replace("/gender", json!("male"))]);
    worker
        .patch(number, 2, &patches)
        .await
        .refused(404, "INVALIDATED_RESOURCE");
    let mut patient = sandbox.patient(number);
    patient.coverage(number).await.refused(404, "INVALIDATED_RESOURCE");
    sandbox.ok(&["patient", "open", number]);
    let again = worker.read(number).await;
    assert_eq!(
        (again.ok(200).version(), &again.json["name"]),
        (3, &made.json["name"]),
        "an error of the office is taken back"
    );
}

#[tokio::test]
async fn a_restricted_record_loses_its_place_and_cannot_be_changed() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    for very in [false, true] {
        let number = registered(&mut worker).await;
        let open = worker.read(&number).await;
        for part in &PLACE[..3] {
            assert!(open.ok(200).json[part].is_array(), "{part} is there before");
        }
        let arguments = ["patient", "restrict", &number, "--very"];
        sandbox.ok(if very { &arguments } else { &arguments[..3] });
        for mut client in [sandbox.worker(), sandbox.application().await, sandbox.patient(&number)] {
            let read = client.read(&number).await;
            assert_eq!((read.ok(200).version(), &read.json["name"]), (3, &open.json["name"]));
            assert_eq!(read.json["meta"]["security"][0]["code"], if very { "V" } else { "R" });
            let text = read.answer.text();
            for part in PLACE {
                assert!(!text.contains(part), "{part}: {text}");
            }
            for hidden in ["High Street", "LS", "B86001"] {
                assert!(!text.contains(hidden), "{hidden}: {text}");
            }
        }
        worker
            .patch(&number, 3, &renamed(&open.json, "Changed"))
            .await
            .refused(403, "FORBIDDEN_UPDATE");
        // Neither does a guess at what is hidden tell anything.
        let guess =
            json!([{"op": "test", "path": "/address/0/postalCode", "value": open.json["address"][0]["postalCode"]}]);
        worker.patch(&number, 3, &guess).await.refused(403, "FORBIDDEN_UPDATE");
        let family = open.json["name"][0]["family"].as_str().expect("a family");
        let born = open.json["birthDate"].as_str().expect("a day");
        let by_name = [("family", family), ("birthdate", born)];
        let found = worker.search(&by_name).await;
        assert_eq!(found.ok(200).ids(), if very { vec![] } else { vec![number.as_str()] });
        assert!(!found.answer.text().contains("High Street") && !found.answer.text().contains("telecom"));
        let postcode = open.json["address"][0]["postalCode"].as_str().expect("a postcode");
        let by_place = [
            ("family", family),
            ("birthdate", born),
            ("address-postalcode", postcode),
        ];
        assert!(
            worker.search(&by_place).await.ok(200).ids().is_empty(),
            "a place finds nobody who is restricted"
        );
        sandbox.ok(&["patient", "open", &number]);
        let again = worker.read(&number).await;
        assert_eq!(
            (again.ok(200).version(), &again.json["address"]),
            (4, &open.json["address"])
        );
        assert_eq!(worker.search(&by_place).await.ids(), [&number]);
    }
}

#[tokio::test]
async fn every_version_can_be_shown_to_the_office_as_it_was() {
    let sandbox = Sandbox::shared();
    let mut worker = sandbox.worker();
    let made = newcomer(&mut worker).await;
    let number = made.id();
    let families: Vec<String> = (0..5).map(|_| crate::word()).collect();
    for (at, family) in families.iter().enumerate() {
        let version = u32::try_from(at).expect("few") + 1;
        let changed = worker.patch(number, version, &renamed(&made.json, family)).await;
        assert_eq!(changed.ok(200).version(), version + 1);
    }
    let history = sandbox.history(number);
    let versions: Vec<_> = history.iter().map(|one| one["version"].as_u64()).collect();
    assert_eq!(versions, [6, 5, 4, 3, 2, 1].map(Some));
    let earlier = sandbox.json(&["patient", "history", number, "--before", "3", "--json"]);
    assert_eq!(earlier.as_array().map(Vec::as_slice), Some(&history[4..]));
    for (at, family) in families.iter().enumerate() {
        let shown = sandbox.json(&["patient", "show", number, "--version", &(at + 2).to_string()]);
        assert_eq!(
            (&shown["name"][0]["family"], &shown["meta"]["versionId"]),
            (&json!(family), &json!((at + 2).to_string()))
        );
    }
    assert_eq!(
        sandbox.json(&["patient", "show", number]),
        worker.read(number).await.json
    );
    for wrong in [
        ["patient", "show", NOBODY],
        ["patient", "history", NOBODY],
        ["patient", "show", UNSOUND],
    ] {
        assert!(!sandbox.run(&wrong).status.success(), "{wrong:?}");
    }
}
