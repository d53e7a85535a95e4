//! The rules of each element: a table of good and bad values.

use super::*;

fn add_bad(list: &str, value: Value, code: Code, below: &str) {
    let jane = jane();
    let at = jane[list].as_array().map_or(0, Vec::len);
    let path = if below.is_empty() {
        format!("{list}/{at}")
    } else {
        format!("{list}/{at}/{below}")
    };
    refused(
        &jane,
        json!([add(&format!("/{list}/-"), value)]),
        Mode::Worker,
        code,
        &path,
    );
}

#[test]
fn names() {
    let with = |key: &str, value: Value| {
        let mut name = json!({"use": "old", "family": "Brown"});
        name[key] = value;
        name
    };
    add_bad("name", json!({"family": "B"}), Code::MissingValue, "use");
    add_bad("name", json!({"use": "old"}), Code::MissingValue, "family");
    add_bad("name", with("use", json!("usual")), Code::ForbiddenUpdate, "");
    add_bad("name", with("use", json!("official")), Code::UnsupportedValue, "use");
    add_bad("name", with("use", json!("king")), Code::InvalidValue, "use");
    add_bad(
        "name",
        with("family", json!("Br0wn!")),
        Code::UnsupportedCharactersInField,
        "family",
    );
    add_bad(
        "name",
        with("family", json!("×")),
        Code::UnsupportedCharactersInField,
        "family",
    );
    add_bad("name", with("family", json!("")), Code::InvalidValue, "family");
    add_bad(
        "name",
        with("family", json!("x".repeat(36))),
        Code::InvalidValue,
        "family",
    );
    add_bad("name", with("family", json!(1)), Code::InvalidValue, "family");
    add_bad("name", with("given", json!([])), Code::TooFewValuesSubmitted, "given");
    add_bad(
        "name",
        with("given", json!(["A", "B", "C", "D", "E", "F"])),
        Code::TooManyValuesSubmitted,
        "given",
    );
    add_bad(
        "name",
        with("given", json!(["A", "B C D", "E", "F"])),
        Code::TooManyValuesSubmitted,
        "given",
    );
    add_bad(
        "name",
        with("suffix", json!(["mBE"])),
        Code::UnsupportedCharactersInField,
        "suffix/0",
    );
    add_bad("name", with("prefix", json!(["MRS"])), Code::InvalidValue, "prefix/0");
    add_bad("name", with("pets", json!("Rex")), Code::AdditionalProperties, "");
    add_bad(
        "name",
        with("period", json!({"end": "2020-01-01"})),
        Code::MissingValue,
        "period/start",
    );
    add_bad(
        "name",
        with("period", json!({"start": "2025-06-02"})),
        Code::InvalidUpdate,
        "period/start",
    );
    add_bad(
        "name",
        with("period", json!({"start": "2025-02-30"})),
        Code::InvalidValue,
        "period/start",
    );
    add_bad(
        "name",
        with("period", json!({"start": "2025"})),
        Code::InvalidValue,
        "period/start",
    );
    add_bad(
        "name",
        with("period", json!({"start": "2021-01-02", "end": "2021-01-01"})),
        Code::InvalidUpdate,
        "period/end",
    );
    let jane = jane();
    let nick = json!({"use": "nickname", "family": "Brown"});
    let twice = json!([add("/name/-", nick.clone()), add("/name/-", nick.clone())]);
    refused(&jane, twice, Mode::Worker, Code::ForbiddenUpdate, "name/2");
    let use_changed = json!([
        replace("/name/1/id", json!("124")),
        replace("/name/1/use", json!("maiden"))
    ]);
    refused(&jane, use_changed, Mode::Worker, Code::ForbiddenUpdate, "name/1/use");
    let usual = json!([test("/name/0/id", json!("123")), remove("/name/0")]);
    refused(&jane, usual, Mode::Worker, Code::ForbiddenUpdate, "patches/1");
    let good = json!({"use": "maiden", "family": "O'Reilly-Kociński Jr.", "prefix": ["Mrs.", "Prof..", "Dr"],
        "given": ["Jane Marie Anne", "Jo Adele"], "suffix": ["PhD", "Müller 2"], "period": {"start": "2025-06-01"}});
    let after = passes(&jane, json!([add("/name/-", good), add("/name/-", nick)]));
    assert_eq!(after["name"][2]["prefix"], json!(["Mrs", "Prof", "Dr"]));
    assert_eq!(after["name"][2]["given"], json!(["Jane Marie Anne", "Jo", "Adele"]));
    assert_eq!(
        (&after["name"][2]["id"], &after["name"][3]["id"]),
        (&json!("00000001"), &json!("00000002"))
    );
    assert_eq!(after["name"][3]["period"], json!({"start": "2025-06-01"}));
}

fn home_with(record: &Value, key: Value) -> Value {
    let mut home = record["address"][0].clone();
    home["extension"] = json!([key]);
    home
}

#[test]
fn addresses() {
    let temp = |key: &str, value: Value| {
        let mut address = json!({"use": "temp", "line": ["1 Road"], "postalCode": "LS1 1AA", "text": "Second Home",
            "period": {"start": "2025-05-01", "end": "2025-07-30"}});
        address[key] = value;
        address
    };
    add_bad("address", temp("use", json!("home")), Code::InvalidUpdate, "");
    add_bad("address", temp("use", json!("work")), Code::UnsupportedValue, "use");
    add_bad("address", temp("text", json!("Castle")), Code::InvalidValue, "text");
    add_bad(
        "address",
        temp("period", json!({"start": "2025-05-01"})),
        Code::MissingValue,
        "period/end",
    );
    add_bad(
        "address",
        temp("period", json!({"start": "2025-05-01", "end": "2025-07-31"})),
        Code::InvalidUpdate,
        "period/end",
    );
    add_bad("address", temp("line", json!(["", " "])), Code::MissingValue, "line");
    add_bad(
        "address",
        temp("line", json!(["1", "2", "3", "4", "5", "6"])),
        Code::TooManyValuesSubmitted,
        "line",
    );
    add_bad("address", temp("city", json!("Leeds")), Code::AdditionalProperties, "");
    let mut none = temp("text", json!("Mobile Home"));
    none.as_object_mut().expect("an address").remove("period");
    add_bad("address", none, Code::MissingValue, "period/start");
    let mut unsaid = temp("use", json!("temp"));
    unsaid.as_object_mut().expect("an address").remove("text");
    add_bad("address", unsaid, Code::MissingValue, "text");
    let key = |kind: &str, value: &str| {
        json!({"url": uk("AddressKey"), "extension": [{"url": "type", "valueCoding": {"code": kind,
            "system": "https://fhir.hl7.org.uk/CodeSystem/UKCore-AddressKeyType"}}, {"url": "value", "valueString": value}]})
    };
    add_bad(
        "address",
        temp("extension", json!([key("PAF", "123456789")])),
        Code::InvalidValue,
        "extension/0",
    );
    add_bad(
        "address",
        temp("extension", json!([key("UPRN", "1234567890123")])),
        Code::InvalidValue,
        "extension/0/extension/1/valueString",
    );
    add_bad(
        "address",
        temp("extension", json!([key("UPRN", "1"), key("UPRN", "2")])),
        Code::TooManyValuesSubmitted,
        "extension/1",
    );
    let billing =
        |end: &str| json!({"use": "billing", "postalCode": "zz99 3VZ", "period": {"start": "2025-06-01", "end": end}});
    add_bad("address", billing("2026-06-03"), Code::InvalidUpdate, "period/end");
    let jane = jane();
    let both = json!([
        add("/address/-", temp("line", json!(["", "23 Mill Lane", "", "Leeds", ""]))),
        add("/address/-", billing("2026-06-02"))
    ]);
    let after = passes(&jane, both);
    assert_eq!(after["address"][2]["line"], json!(["23 Mill Lane", "Leeds"]));
    let again = json!([
        add("/address/-", billing("2026-06-02")),
        add("/address/-", billing("2026-06-02"))
    ]);
    refused(&jane, again, Mode::Worker, Code::InvalidUpdate, "address/2");
    let (home, temporary) = (jane["address"][0].clone(), temp("line", json!(["1 Road"])));
    let mut two = jane.clone();
    two["address"] = json!([home, temporary]);
    two["address"][1]["id"] = json!("T456");
    let became = json!([
        test("/address/1/id", json!("T456")),
        replace("/address/1/use", json!("home"))
    ]);
    refused(&two, became, Mode::Worker, Code::InvalidUpdate, "address/1");
    let short = home_with(&jane, key("PAF", "9876543"));
    let after = passes(&jane, json!([replace("/address/0", short)]));
    assert_eq!(
        after.pointer("/address/0/extension/0/extension/1/valueString"),
        Some(&json!("09876543"))
    );
    // The legacy work address can be removed, and not changed.
    passes(
        &jane,
        json!([test("/address/1/id", json!("W456")), remove("/address/1")]),
    );
    let work = json!([
        replace("/address/1/id", json!("W456")),
        replace("/address/1/postalCode", json!("LS3 1AA"))
    ]);
    refused(&jane, work, Mode::Worker, Code::UnsupportedValue, "address/1/use");
    // A whole replacement without a period starts today; a part keeps the stored one.
    let whole = json!({"id": "456", "use": "home", "line": ["2 Whitehall Quay", "Leeds"], "postalCode": "LS1 4BU"});
    assert_eq!(
        passes(&jane, json!([replace("/address/0", whole)]))["address"][0]["period"],
        json!({"start": "2025-06-01"})
    );
    let part = json!([
        replace("/address/0/id", json!("456")),
        replace("/address/0/line/0", json!("2 Whitehall Quay"))
    ]);
    assert_eq!(
        passes(&jane, part)["address"][0]["period"],
        jane["address"][0]["period"]
    );
}

#[test]
fn telecoms_and_emergency_contacts() {
    let email = |value: &str| json!({"system": "email", "use": "work", "value": value});
    for bad in [
        "a@b.co",
        "john.smith",
        "john@smith",
        "jo hn@example.com",
        "@example.com",
        "a@b@example.com",
        "j..s@example.com",
        "john@-example.com",
        &format!("{}@example.com", "j".repeat(80)),
    ] {
        add_bad("telecom", email(bad), Code::InvalidValue, "value");
    }
    add_bad(
        "telecom",
        json!({"system": "phone", "use": "home", "value": "1"}),
        Code::InvalidUpdate,
        "",
    );
    add_bad(
        "telecom",
        json!({"system": "pager", "use": "home", "value": "1"}),
        Code::UnsupportedValue,
        "system",
    );
    add_bad(
        "telecom",
        json!({"system": "phone", "use": "old", "value": "1"}),
        Code::UnsupportedValue,
        "use",
    );
    add_bad(
        "telecom",
        json!({"system": "phone", "use": "work"}),
        Code::MissingValue,
        "value",
    );
    add_bad(
        "telecom",
        json!({"system": "fax", "use": "work", "value": " "}),
        Code::InvalidValue,
        "value",
    );
    let minicom = json!([{"url": uk("OtherContactSystem"), "valueCoding": {"code": "textphone"}}]);
    add_bad(
        "telecom",
        json!({"system": "phone", "use": "work", "value": "1", "extension": minicom}),
        Code::InvalidUpdate,
        "extension",
    );
    let jane = jane();
    passes(
        &jane,
        json!([
            add("/telecom/-", email("john.smith@example.com")),
            add(
                "/telecom/-",
                json!({"system": "other", "use": "home", "value": "1", "extension": minicom})
            )
        ]),
    );
    let moved = json!([replace(
        "/telecom/0",
        json!({"id": "789", "system": "phone", "use": "work", "value": "1"})
    )]);
    refused(&jane, moved, Mode::Worker, Code::InvalidUpdate, "telecom/0/use");
    let contact =
        |telecom: Value, code: &str| json!({"telecom": [telecom], "relationship": [{"coding": [{"code": code}]}]});
    add_bad(
        "contact",
        contact(json!({"system": "phone", "value": "1", "use": "home"}), "C"),
        Code::AdditionalProperties,
        "telecom/0",
    );
    add_bad(
        "contact",
        contact(json!({"system": "phone", "value": "1", "period": {}}), "C"),
        Code::AdditionalProperties,
        "telecom/0",
    );
    add_bad(
        "contact",
        contact(json!({"system": "fax", "value": "1"}), "C"),
        Code::UnsupportedValue,
        "telecom/0/system",
    );
    add_bad(
        "contact",
        contact(json!({"system": "email", "value": "a@b.c"}), "C"),
        Code::InvalidValue,
        "telecom/0/value",
    );
    add_bad(
        "contact",
        contact(json!({"system": "phone", "value": "1"}), "N"),
        Code::InvalidValue,
        "relationship/0/coding/0/code",
    );
    add_bad(
        "contact",
        json!({"relationship": [{"coding": [{"code": "C"}]}], "telecom": []}),
        Code::TooFewValuesSubmitted,
        "telecom",
    );
    let after = passes(
        &jane,
        json!([add(
            "/contact/-",
            contact(json!({"system": "phone", "value": "1"}), "C")
        )]),
    );
    assert_eq!(after["contact"][1]["period"], json!({"start": "2025-06-01"}));
}

#[test]
fn bounds_are_where_the_specification_puts_them() {
    let jane = jane();
    let email = |characters: usize| {
        let value = format!("{}@example.com", "j".repeat(characters - 12));
        json!([add(
            "/telecom/-",
            json!({"system": "email", "use": "work", "value": value})
        )])
    };
    passes(&jane, email(89));
    refused(&jane, email(90), Mode::Worker, Code::InvalidValue, "telecom/3/value");
    let seven = json!({"system": "email", "use": "work", "value": "a@b.com"});
    passes(&jane, json!([add("/telecom/-", seven)]));
    let one_day = json!({"start": "2025-06-01", "end": "2025-06-01"});
    let name = json!({"use": "old", "family": "B", "period": one_day});
    passes(&jane, json!([add("/name/-", name)]));
    let long = json!({"use": "old", "family": "é".repeat(35), "given": ["A", "B", "C", "D", "E"]});
    passes(&jane, json!([add("/name/-", long)]));
}

#[test]
fn single_values() {
    let jane = jane();
    let cases = [
        (replace("/gender", json!("other")), Code::UnsupportedValue, "gender"),
        (replace("/gender", json!("robot")), Code::InvalidValue, "gender"),
        (remove("/gender"), Code::ForbiddenUpdate, "patches/0"),
        (remove("/birthDate"), Code::ForbiddenUpdate, "patches/0"),
        (
            replace("/birthDate", json!("2025-06-02")),
            Code::InvalidUpdate,
            "birthDate",
        ),
        (
            replace("/birthDate", json!("1980-02-30")),
            Code::InvalidValue,
            "birthDate",
        ),
        (replace("/birthDate", json!("1980")), Code::InvalidValue, "birthDate"),
        (replace("/birthDate", json!(null)), Code::InvalidValue, "birthDate"),
        (
            replace("/multipleBirthInteger", json!(0)),
            Code::InvalidValue,
            "multipleBirthInteger",
        ),
        (
            replace("/multipleBirthInteger", json!(10)),
            Code::InvalidValue,
            "multipleBirthInteger",
        ),
        (
            replace("/multipleBirthInteger", json!("2")),
            Code::InvalidValue,
            "multipleBirthInteger",
        ),
        (
            add("/managingOrganization", json!({})),
            Code::MissingValue,
            "managingOrganization/identifier",
        ),
        (
            add("/managingOrganization", json!({"identifier": {"value": "y1"}})),
            Code::InvalidValue,
            "managingOrganization/identifier/value",
        ),
    ];
    for (operation, code, path) in cases {
        refused(&jane, json!([operation]), Mode::Worker, code, path);
    }
    for good in [
        replace("/gender", json!("unknown")),
        replace("/multipleBirthInteger", json!(9)),
        remove("/multipleBirthInteger"),
        replace("/birthDate", json!("2025-06-01")),
        add("/managingOrganization", json!({"identifier": {"value": "Y12345"}})),
    ] {
        passes(&jane, json!([good]));
    }
}

#[test]
fn death_and_its_notification() {
    let jane = jane();
    let died = |day: &str| add("/deceasedDateTime", json!(day));
    let notified = |code: &str| add("/extension/-", death(code));
    let cases = [
        (json!([died("2025-01-01")]), Code::InvalidUpdate, "deceasedDateTime"),
        (json!([notified("1")]), Code::InvalidUpdate, "extension"),
        (
            json!([died("2025-06-02"), notified("1")]),
            Code::InvalidUpdate,
            "deceasedDateTime",
        ),
        (
            json!([died("1980-10-21"), notified("1")]),
            Code::InvalidUpdate,
            "deceasedDateTime",
        ),
        (
            json!([died("2025-01-01T10:00:00+01:00"), notified("1")]),
            Code::InvalidValue,
            "deceasedDateTime",
        ),
        (
            json!([died("2025-01-01"), notified("2")]),
            Code::ForbiddenUpdate,
            "extension/4",
        ),
        (
            json!([died("2025-01-01"), notified("U")]),
            Code::UnsupportedValue,
            "extension/4/extension/0/valueCodeableConcept/coding/0/code",
        ),
        (
            json!([died("2025-01-01"), notified("7")]),
            Code::InvalidValue,
            "extension/4/extension/0/valueCodeableConcept/coding/0/code",
        ),
    ];
    for (operations, code, path) in cases {
        refused(&jane, operations, Mode::Worker, code, path);
    }
    let dead = passes(&jane, json!([died("2025-01-01T10:00:00+00:00"), notified("1")]));
    assert_eq!(
        dead["extension"][4]["extension"][1],
        json!({"url": "systemEffectiveDate", "valueDateTime": NOW})
    );
    refused(
        &dead,
        json!([remove("/deceasedDateTime")]),
        Mode::Worker,
        Code::ForbiddenUpdate,
        "patches/0",
    );
    let gone = json!([
        test("/extension/4/url", dead["extension"][4]["url"].clone()),
        remove("/extension/4")
    ]);
    refused(&dead, gone, Mode::Worker, Code::ForbiddenUpdate, "patches/1");
    refused(
        &dead,
        json!([replace("/birthDate", json!("2025-01-02"))]),
        Mode::Worker,
        Code::InvalidUpdate,
        "birthDate",
    );
    passes(&dead, json!([replace("/deceasedDateTime", json!("2025-01-02"))]));
    passes(&dead, json!([replace("/extension/4", death("1"))]));
    let mut formal = dead;
    formal["extension"][4] = death("2");
    refused(
        &formal,
        json!([replace("/deceasedDateTime", json!("2025-01-02"))]),
        Mode::Worker,
        Code::ForbiddenUpdate,
        "deceasedDateTime",
    );
    refused(
        &formal,
        json!([replace("/extension/4", death("1"))]),
        Mode::Worker,
        Code::ForbiddenUpdate,
        "extension/4",
    );
    passes(&formal, json!([replace("/gender", json!("male"))]));
}

#[test]
fn practices_and_pharmacies() {
    let jane = jane();
    let practice = |key: &str, value: Value| {
        let mut practice = json!({"id": "254406A3", "type": "Organization", "identifier": {"value": "B83010"}});
        practice["identifier"][key] = value;
        json!([replace("/generalPractitioner/0", practice)])
    };
    assert_eq!(
        passes(&jane, practice("value", json!("B83011")))["generalPractitioner"][0]["identifier"]["period"],
        json!({"start": "2025-06-01"})
    );
    let ended = practice("period", json!({"start": "2025-01-01", "end": "2025-02-01"}));
    refused(
        &jane,
        ended,
        Mode::Worker,
        Code::InvalidUpdate,
        "generalPractitioner/0/identifier/period/end",
    );
    refused(
        &jane,
        practice("value", json!("b83010")),
        Mode::Worker,
        Code::InvalidValue,
        "generalPractitioner/0/identifier/value",
    );
    let second = json!([add(
        "/generalPractitioner/-",
        json!({"identifier": {"value": "B83010"}})
    )]);
    refused(
        &jane,
        second.clone(),
        Mode::Worker,
        Code::TooManyValuesSubmitted,
        "generalPractitioner",
    );
    passes(&bare(), second);
    let removed = json!([
        test("/generalPractitioner/0/id", json!("254406A3")),
        remove("/generalPractitioner/0")
    ]);
    refused(&jane, removed, Mode::Worker, Code::ForbiddenUpdate, "patches/1");
    add_bad(
        "extension",
        pharmacy("NominatedPharmacy", "Y1"),
        Code::InvalidValue,
        "valueReference/identifier/value",
    );
    add_bad(
        "extension",
        pharmacy("NominatedPharmacy", "Y12"),
        Code::InvalidUpdate,
        "",
    );
    // The specification's own example sends a period, though pharmacies have none.
    let mut dated = pharmacy("MedicalApplianceSupplier", "Y12345");
    dated["valueReference"]["identifier"]["period"] = json!({"start": "2020-01-01", "end": "2021-12-31"});
    assert_eq!(
        passes(&jane, json!([add("/extension/-", dated)]))["extension"][4],
        pharmacy("MedicalApplianceSupplier", "Y12345")
    );
    passes(
        &jane,
        json!([
            test("/extension/0/url", json!(uk("NominatedPharmacy"))),
            remove("/extension/0")
        ]),
    );
}

#[test]
fn languages_preferences_and_places_of_birth() {
    let jane = jane();
    let code = "extension/1/extension/0/valueCodeableConcept/coding/0/code";
    refused(
        &jane,
        json!([replace("/extension/1", language("en"))]),
        Mode::Worker,
        Code::UnsupportedValue,
        code,
    );
    refused(
        &jane,
        json!([replace("/extension/1", language("qa"))]),
        Mode::Worker,
        Code::InvalidValue,
        code,
    );
    passes(&jane, json!([replace("/extension/1", language("q4"))]));
    let only =
        json!({"url": uk("NHSCommunication"), "extension": [{"url": "interpreterRequired", "valueBoolean": true}]});
    refused(
        &jane,
        json!([replace("/extension/1", only)]),
        Mode::Worker,
        Code::MissingValue,
        "extension/1/extension",
    );
    add_bad("extension", language("de"), Code::InvalidUpdate, "");
    let long = "x".repeat(41);
    refused(
        &jane,
        json!([replace("/extension/2", preference(&long))]),
        Mode::Worker,
        Code::InvalidValue,
        "extension/2/extension/1/valueString",
    );
    passes(&jane, json!([replace("/extension/2", preference(&"é".repeat(40)))]));
    let time =
        json!({"url": uk("ContactPreference"), "extension": [{"url": "PreferredContactTimes", "valueString": "noon"}]});
    refused(
        &jane,
        json!([replace("/extension/2", time)]),
        Mode::Worker,
        Code::MissingValue,
        "extension/2/extension",
    );
    let method =
        |code: &str| json!({"url": "PreferredContactMethod", "valueCodeableConcept": {"coding": [{"code": code}]}});
    let format =
        json!({"url": "PreferredWrittenCommunicationFormat", "valueCodeableConcept": {"coding": [{"code": "12"}]}});
    passes(
        &jane,
        json!([
            add("/extension/2/url", json!(uk("ContactPreference"))),
            add("/extension/2/extension/-", format)
        ]),
    );
    let twice = json!({"url": uk("ContactPreference"), "extension": [method("1"), method("2")]});
    refused(
        &jane,
        json!([replace("/extension/2", twice)]),
        Mode::Worker,
        Code::TooManyValuesSubmitted,
        "extension/2/extension/1",
    );
    refused(
        &jane,
        json!([replace("/extension/2/extension/0", method("9"))]),
        Mode::Worker,
        Code::InvalidValue,
        "extension/2/extension/0/valueCodeableConcept/coding/0/code",
    );
    let born = |place: Value| {
        json!([replace(
            "/extension/3",
            json!({"url": "http://hl7.org/fhir/StructureDefinition/patient-birthPlace", "valueAddress": place})
        )])
    };
    refused(
        &jane,
        born(json!({})),
        Mode::Worker,
        Code::MissingValue,
        "extension/3/valueAddress",
    );
    refused(
        &jane,
        born(json!({"country": "UK"})),
        Mode::Worker,
        Code::InvalidValue,
        "extension/3/valueAddress/country",
    );
    refused(
        &jane,
        born(json!({"state": "Kent"})),
        Mode::Worker,
        Code::AdditionalProperties,
        "extension/3/valueAddress",
    );
    passes(&jane, born(json!({"country": "10"})));
    passes(&jane, born(json!({"district": "Kent"})));
    add_bad(
        "extension",
        json!({"url": "http://example.org/pets", "valueString": "Rex"}),
        Code::AdditionalProperties,
        "",
    );
    add_bad("extension", json!({"valueString": "Rex"}), Code::MissingValue, "url");
    let removal = json!({"url": "https://fhir.nhs.uk/StructureDefinition/Extension-PDS-RemovalFromRegistration", "extension": []});
    refused(
        &jane,
        json!([add("/extension/-", removal)]),
        Mode::Worker,
        Code::ForbiddenUpdate,
        "patches/0",
    );
}

#[test]
fn what_a_record_holds_beyond_the_profile_may_be_sent_back() {
    let mut record = jane();
    record["name"][1]["text"] = json!("Jane Jones");
    let mut sent = record["name"][1].clone();
    sent["family"] = json!("Janes");
    let after = passes(&record, json!([replace("/name/1", sent.clone())]));
    assert_eq!(after["name"][1]["text"], json!("Jane Jones"));
    passes(
        &record,
        json!([
            test("/name/1/id", json!("124")),
            replace("/name/1/family", json!("Janes"))
        ]),
    );
    sent["pets"] = json!("Rex");
    let more = json!([replace("/name/1", sent.clone())]);
    refused(&record, more, Mode::Worker, Code::AdditionalProperties, "name/1");
    sent.as_object_mut().expect("a name").remove("pets");
    sent["text"] = json!("Somebody");
    refused(
        &record,
        json!([replace("/name/1", sent)]),
        Mode::Worker,
        Code::AdditionalProperties,
        "name/1",
    );
}

#[test]
fn no_diagnostics_repeat_what_was_sent_or_stored() {
    let marks = ["PLANTED", "Trevelyan", "jane.smith", "9000000009", "Smith"];
    let planted = || json!("PLANTED!");
    let operations = [
        json!([add(
            "/name/-",
            json!({"use": planted(), "family": planted(), "given": [planted()], "PLANTED": planted(), "suffix": ["pLANTED"]})
        )]),
        json!([add(
            "/address/-",
            json!({"use": planted(), "PLANTED": 1, "postalCode": planted(), "line": [1]})
        )]),
        json!([add("/telecom/-", json!({"system": "email", "value": "PLANTED"}))]),
        json!([add("/PLANTED", planted()), add("/name/PLANTED", planted()), {"op": "PLANTED", "path": "/x"}]),
        json!([test("/name/0/family", planted())]),
        json!([add("/extension/-", json!({"url": "PLANTED", "PLANTED": 1}))]),
        json!([replace(
            "/extension/1",
            json!({"url": uk("NHSCommunication"), "extension": [{"url": "PLANTED"}]})
        )]),
        json!([
            replace("/birthDate", planted()),
            replace("/gender", planted()),
            add("/multipleBirthInteger", planted())
        ]),
    ];
    for operations in operations {
        let issues = worker(operations.clone()).expect_err("nothing of this fits");
        let said = super::super::super::outcome::operation_outcome(&issues).to_string() + &format!("{issues:?}");
        for mark in marks {
            assert!(!said.contains(mark), "{operations}: {said}");
        }
    }
}
