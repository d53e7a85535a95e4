use super::*;
use crate::services::mesh::api::routes::{CONTINUE_FROM, MAX_RESULTS};
use ::http::HeaderValue;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).expect("a header name");
        map.insert(name, HeaderValue::from_bytes(value.as_bytes()).expect("a header value"));
    }
    map
}

fn sender() -> MailboxId {
    MailboxId::parse("X26ABC1").expect("a mailbox")
}

fn refused(pairs: &[(&str, &str)]) -> Failure {
    sending(&headers(pairs), &sender()).expect_err("refused")
}

#[test]
fn the_accept_header_chooses_the_version() {
    for (accept, expected) in [
        ("application/json", Ok(Version::V1)),
        ("*/*", Ok(Version::V1)),
        ("", Ok(Version::V1)),
        ("application/vnd.mesh.v1+json", Ok(Version::V1)),
        ("application/vnd.mesh.v2+json", Ok(Version::V2)),
        ("application/vnd.mesh.v2+json;q=0.9", Ok(Version::V2)),
        ("text/html; application/vnd.mesh.v2+json", Ok(Version::V2)),
        ("application/vnd.mesh.v2+json, application/json", Ok(Version::V2)),
        ("application/vnd.mesh.v3+json", Err(())),
        ("application/vnd.mesh.v2", Err(())),
        ("application/vnd.mesh+json", Err(())),
        ("vnd.mesh.v2+json", Err(())),
        ("application/vnd.mesh.v2+json+xml", Err(())),
    ] {
        let version = version(&headers(&[("accept", accept)])).map_err(|failure| {
            assert_eq!(failure.refused, Refused::AcceptMalformed);
        });
        assert_eq!(version, expected, "{accept}");
    }
    assert_eq!(version(&HeaderMap::new()), Ok(Version::V1));
}

#[test]
fn gzip_is_accepted_only_when_named() {
    for (accept, expected) in [
        ("gzip", true),
        ("gzip, deflate", true),
        ("br,GZIP;q=0.5", true),
        ("gzip;q=0", false),
        ("", false),
        ("x-gzip", false),
    ] {
        assert_eq!(
            accepts_gzip(&headers(&[("accept-encoding", accept)])),
            expected,
            "{accept}"
        );
    }
}

#[test]
fn chunk_ranges() {
    for (range, chunk, total) in [
        ("1:1", 1, Some(1)),
        ("1:2", 1, Some(2)),
        (" 2 : 3 ", 2, Some(3)),
        ("2:2", 2, Some(2)),
        ("2:2", 1, None),
        ("3:2", 3, None),
        ("0:2", 0, None),
        ("1", 1, None),
        ("1:", 1, None),
        (":1", 1, None),
        ("", 1, None),
        ("1:2:3", 1, None),
        ("-1:2", 1, None),
        ("+1:2", 1, None),
        ("one:two", 1, None),
        ("1:4294967296", 1, None),
        ("1:4294967295", 1, Some(u32::MAX)),
    ] {
        assert_eq!(chunk_range(range, chunk), total, "{range}");
    }
}

#[test]
fn workflow_filters() {
    let filter = |negated, pattern| Some(WorkflowFilter { negated, pattern });
    for (text, expected) in [
        ("WORKFLOW1", filter(false, Pattern::Equals("WORKFLOW1".into()))),
        ("!WORKFLOW1", filter(true, Pattern::Equals("WORKFLOW1".into()))),
        ("WORKFL*", filter(false, Pattern::StartsWith("WORKFL".into()))),
        ("!WORKFL*", filter(true, Pattern::StartsWith("WORKFL".into()))),
        ("*_ACK*", filter(false, Pattern::Contains("_ACK".into()))),
        ("!*_ACK*", filter(true, Pattern::Contains("_ACK".into()))),
        (" X* ", filter(false, Pattern::StartsWith("X".into()))),
        ("*", None),
        ("**", None),
        ("!", None),
        ("!*", None),
        ("!**", None),
        ("*X", None),
        ("A*B", None),
        ("*A*B*", None),
        ("", None),
    ] {
        assert_eq!(workflow_filter(text), expected, "{text}");
    }
}

#[test]
fn a_whole_set_of_send_headers_is_read() {
    let all = headers(&[
        ("Mex-To", " x26abc2 "),
        ("Mex-WorkflowID", "TEST_WORKFLOW"),
        ("Mex-Chunk-Range", "1:3"),
        ("Mex-Subject", "a subject"),
        ("Mex-LocalID", "local"),
        ("Mex-PartnerID", "partner"),
        ("Mex-FileName", "file.txt"),
        ("Mex-Content-Encrypted", "yes"),
        ("Mex-Content-Compressed", "N"),
        ("Mex-Content-Checksum", "sha256: b10a8db1"),
        ("Content-Type", "text/csv"),
        ("Content-Encoding", "GZIP"),
        ("Mex-From", "x26abc1"),
        ("Mex-Version", "1.0"),
        ("Mex-MessageType", "data"),
    ]);
    let sending = sending(&all, &sender()).expect("good");
    assert_eq!((sending.recipient.as_str(), sending.chunks), ("X26ABC2", 3));
    let metadata = sending.metadata;
    assert_eq!(metadata.subject.as_deref(), Some("a subject"));
    assert_eq!(metadata.content_type.as_deref(), Some("text/csv"));
    assert_eq!(metadata.content_encoding.as_deref(), Some("gzip"));
    assert!(metadata.encrypted && !metadata.compressed);
}

#[test]
fn the_content_type_of_the_message_overrides_that_of_the_request() {
    let both = headers(&[
        ("Mex-To", "A"),
        ("Mex-WorkflowID", "W"),
        ("Content-Type", "a/b"),
        ("Mex-Content-Type", "c/d"),
    ]);
    assert_eq!(
        sending(&both, &sender())
            .expect("good")
            .metadata
            .content_type
            .as_deref(),
        Some("c/d")
    );
}

#[test]
fn each_fault_of_the_send_headers_has_its_own_refusal() {
    let with = |name: &'static str, value: &'static str| {
        let mut pairs = vec![("Mex-To", "X26ABC2"), ("Mex-WorkflowID", "W")];
        pairs.retain(|(kept, _)| !kept.eq_ignore_ascii_case(name));
        pairs.push((name, value));
        refused(&pairs).refused
    };
    assert_eq!(refused(&[("Mex-WorkflowID", "W")]).refused, Refused::RecipientMissing);
    assert_eq!(with("Mex-To", "  "), Refused::RecipientMissing);
    assert_eq!(with("Mex-To", "no such/box"), Refused::RecipientUnknown);
    assert_eq!(with("Mex-To", "HTTPS://evil.example"), Refused::HeadersMalformed);
    assert_eq!(with("Mex-WorkflowID", "http://evil.example"), Refused::HeadersMalformed);
    assert_eq!(
        with("Mex-Content-Checksum", "http://evil.example"),
        Refused::HeadersMalformed
    );
    assert_eq!(with("Mex-Subject", "a\tb"), Refused::HeadersMalformed);
    assert_eq!(with("Mex-WorkflowID", " "), Refused::Invalid);
    assert_eq!(
        with("Mex-Content-Checksum", "`#!@+&=*,|~;._"),
        Refused::ChecksumMalformed
    );
    assert_eq!(with("Mex-From", "X26ABC2"), Refused::FromMismatch);
    assert_eq!(with("Mex-Version", "2.0"), Refused::VersionUnknown);
    assert_eq!(with("Mex-MessageType", "REPORT"), Refused::NotData);
    assert_eq!(with("Content-Encoding", "br"), Refused::EncodingUnknown);
    assert_eq!(with("Mex-Chunk-Range", "2:3"), Refused::ChunkRange);
}

#[test]
fn every_length_is_allowed_at_its_limit_and_refused_above() {
    for rule in SEND_HEADERS.iter().filter(|rule| rule.chars_max >= 100) {
        for (length, fits) in [
            (rule.chars_max - 1, true),
            (rule.chars_max, true),
            (rule.chars_max + 1, false),
        ] {
            let mut map = headers(&[("Mex-To", "A"), ("Mex-WorkflowID", "W")]);
            map.insert(rule.name, HeaderValue::from_str(&"a".repeat(length)).expect("plain"));
            let result = sending(&map, &sender());
            let too_long = result
                .as_ref()
                .is_err_and(|failure| failure.fields.iter().any(|f| f.kind == "string_too_long"));
            assert_eq!(!too_long, fits, "{} {length}", rule.text);
        }
    }
}

#[test]
fn bytes_beyond_ascii_survive() {
    let mut map = headers(&[("Mex-To", "A"), ("Mex-WorkflowID", "W")]);
    let bytes = b"caf\xe9 \xc3\xa9";
    map.insert(&names::MEX_SUBJECT, HeaderValue::from_bytes(bytes).expect("allowed"));
    let subject = sending(&map, &sender()).expect("good").metadata.subject.expect("there");
    assert_eq!(
        crate::services::mesh::api::views::header_value(&subject)
            .expect("fits")
            .as_bytes(),
        bytes
    );
}

#[test]
fn query_numbers_are_refused_outside_their_bounds() {
    for (query, expected) in [
        ("max_results=10", Ok(Some(10))),
        ("max_results=5000", Ok(Some(5000))),
        ("", Ok(None)),
        ("max_results=20&max_results=30", Ok(Some(30))),
        ("other=1", Ok(None)),
        ("max_results=9", Err("greater_than_equal")),
        ("max_results=-1", Err("greater_than_equal")),
        ("max_results=5001", Err("less_than_equal")),
        ("max_results=", Err("int_parsing")),
        ("max_results=ten", Err("int_parsing")),
        ("max_results=10.5", Err("int_parsing")),
        ("max_results=99999999999999999999", Err("int_parsing")),
    ] {
        let number = Query::parse(Some(query))
            .number(&MAX_RESULTS)
            .map_err(|failure| failure.fields[0].kind);
        assert_eq!(number, expected, "{query}");
    }
}

#[test]
fn query_texts_are_refused_outside_their_lengths() {
    for (length, kind) in [
        (23, Some("string_too_short")),
        (24, None),
        (1000, None),
        (1001, Some("string_too_long")),
    ] {
        let query = format!("continue_from={}", "a".repeat(length));
        let result = Query::parse(Some(&query))
            .text(&CONTINUE_FROM)
            .map(|_| ())
            .map_err(|f| f.fields[0].kind);
        assert_eq!(result.err(), kind, "{length}");
    }
}

#[test]
fn moments_in_iso_8601() {
    for (text, expected) in [
        ("2022-05-20T14:35:52Z", Some("2022-05-20T14:35:52.000Z")),
        ("2022-05-20T14:35:52", Some("2022-05-20T14:35:52.000Z")),
        ("2022-05-20T14:35:52.5", Some("2022-05-20T14:35:52.500Z")),
        ("2022-05-20T14:35:52+01:00", Some("2022-05-20T13:35:52.000Z")),
        ("2022-05-20T14:35:52 01:00", Some("2022-05-20T13:35:52.000Z")),
        ("2022-05-20 14:35:52", Some("2022-05-20T14:35:52.000Z")),
        ("2022-05-20", Some("2022-05-20T00:00:00.000Z")),
        ("yesterday", None),
        ("", None),
        ("2022-13-20", None),
        ("1969-01-01", None),
    ] {
        assert_eq!(moment(text).map(|at| at.iso()).as_deref(), expected, "{text}");
    }
}
