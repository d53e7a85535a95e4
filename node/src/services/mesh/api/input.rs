//! What clients send, parsed: versions, header fields, query parameters, chunk ranges, workflow filters.
//!
//! Header values are read as Latin-1, one character for each byte, as clients of HTTP/1.1 write them, and are given back
//! byte for byte.

use super::errors::{Failure, Field, Place, Refused};
use super::names;
use super::routes::{HeaderRule, QueryRule, SEND_HEADERS};
use super::views::Version;
use crate::base::Timestamp;
use crate::services::mesh::MailboxId;
use crate::services::mesh::command::Metadata;
use crate::services::mesh::state::{Pattern, WorkflowFilter};
use ::http::{HeaderMap, HeaderName, header};
use std::borrow::Cow;

/// A header as text; `None` when absent. The first of several counts.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, str>> {
    let bytes = headers.get(name)?.as_bytes();
    Some(match std::str::from_utf8(bytes) {
        Ok(ascii) if ascii.is_ascii() => Cow::Borrowed(ascii),
        _ => Cow::Owned(bytes.iter().map(|byte| char::from(*byte)).collect()),
    })
}

/// The version that `Accept` asks for: v1 unless a media type says v2. Other media types do not matter.
pub(super) fn version(headers: &HeaderMap) -> Result<Version, Failure> {
    let Some(accept) = headers.get(header::ACCEPT) else {
        return Ok(Version::V1);
    };
    let accept = accept.to_str().map_err(|_| Refused::AcceptMalformed)?;
    for item in accept.split([';', ',']).map(str::trim) {
        match item {
            "application/vnd.mesh.v1+json" => return Ok(Version::V1),
            "application/vnd.mesh.v2+json" => return Ok(Version::V2),
            other if other.contains("vnd.mesh") => return Err(Refused::AcceptMalformed.into()),
            _ => {}
        }
    }
    Ok(Version::V1)
}

/// Whether the client takes gzip.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| {
            let (name, weight) = item.split_once(';').unwrap_or((item, ""));
            let refused = weight
                .trim()
                .strip_prefix("q=")
                .is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q == 0.0));
            name.trim().eq_ignore_ascii_case("gzip") && !refused
        })
}

/// `Content-Encoding`: `None` or gzip; anything else is refused.
pub(super) fn content_encoding(headers: &HeaderMap) -> Result<Option<String>, Refused> {
    let value = text(headers, &names::CONTENT_ENCODING)
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match value.as_str() {
        "" | "identity" => Ok(None),
        "gzip" => Ok(Some(value)),
        _ => Err(Refused::EncodingUnknown),
    }
}

/// A header that must be there; control characters and too many of any are refused.
pub(super) fn required(headers: &HeaderMap, rules: &[HeaderRule]) -> Result<(), Failure> {
    let mut fields = Vec::new();
    let mut malformed = Vec::new();
    for rule in rules {
        check(headers, rule, &mut fields, &mut malformed);
    }
    verdict(fields, malformed)
}

fn check(headers: &HeaderMap, rule: &HeaderRule, fields: &mut Vec<Field>, malformed: &mut Vec<Field>) {
    let header = |msg, kind| Field {
        place: Place::Header,
        name: rule.text,
        msg,
        kind,
    };
    let Some(value) = headers.get(rule.name) else {
        if rule.required {
            fields.push(header("is required".into(), "missing"));
        }
        return;
    };
    let bytes = value.as_bytes();
    if bytes.len() > rule.chars_max {
        fields.push(header(
            format!("must have at most {} characters", rule.chars_max),
            "string_too_long",
        ));
    }
    if bytes.iter().any(|byte| byte.is_ascii_control()) {
        malformed.push(header("must not hold control characters".into(), "control_character"));
    }
    if rule.never_url && starts_as_url(bytes) {
        malformed.push(header("must not be a URL".into(), "url"));
    }
}

fn verdict(fields: Vec<Field>, malformed: Vec<Field>) -> Result<(), Failure> {
    if !fields.is_empty() {
        return Err(Failure::with_fields(Refused::Invalid, fields));
    }
    if !malformed.is_empty() {
        return Err(Failure::with_fields(Refused::HeadersMalformed, malformed));
    }
    Ok(())
}

fn starts_as_url(bytes: &[u8]) -> bool {
    let starts = |scheme: &[u8]| {
        bytes
            .get(..scheme.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(scheme))
    };
    starts(b"http://") || starts(b"https://")
}

/// What the headers of POST /outbox say, before the body is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sending {
    pub recipient: MailboxId,
    pub metadata: Metadata,
    pub chunks: u32,
}

/// Checks and reads the headers of POST /outbox. In order: presence and length, control characters and URLs, recipient,
/// checksum, sender, version, type, encoding, chunk range.
pub(super) fn sending(headers: &HeaderMap, sender: &MailboxId) -> Result<Sending, Failure> {
    let missing_to = headers
        .get(&names::MEX_TO)
        .is_none_or(|to| to.as_bytes().trim_ascii().is_empty());
    if missing_to {
        let field = Field {
            place: Place::Header,
            name: "mex-to",
            msg: "is required".into(),
            kind: "missing",
        };
        return Err(Failure::with_fields(Refused::RecipientMissing, vec![field]));
    }
    required(headers, SEND_HEADERS)?;
    let trimmed = |name| {
        text(headers, name)
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    };
    let kept = |name| {
        text(headers, name)
            .map(Cow::into_owned)
            .filter(|value| !value.is_empty())
    };
    let workflow = trimmed(&names::MEX_WORKFLOW_ID).ok_or_else(|| Field {
        place: Place::Header,
        name: "mex-workflowid",
        msg: "must not be empty".into(),
        kind: "string_too_short",
    })?;
    let checksum = kept(&names::MEX_CONTENT_CHECKSUM);
    if checksum
        .as_deref()
        .is_some_and(|sum| !sum.bytes().all(is_checksum_byte))
    {
        return Err(Refused::ChecksumMalformed.into());
    }
    if trimmed(&names::MEX_FROM).is_some_and(|from| !from.eq_ignore_ascii_case(sender.as_str())) {
        return Err(Refused::FromMismatch.into());
    }
    if trimmed(&names::MEX_VERSION).is_some_and(|version| version != "1.0") {
        return Err(Refused::VersionUnknown.into());
    }
    if trimmed(&names::MEX_MESSAGE_TYPE).is_some_and(|kind| !kind.eq_ignore_ascii_case("DATA")) {
        return Err(Refused::NotData.into());
    }
    let content_encoding = content_encoding(headers)?;
    let chunks = match trimmed(&names::MEX_CHUNK_RANGE) {
        None => 1,
        Some(range) => chunk_range(&range, 1).ok_or(Refused::ChunkRange)?,
    };
    let recipient = trimmed(&names::MEX_TO)
        .as_deref()
        .and_then(MailboxId::parse)
        .ok_or(Refused::RecipientUnknown)?;
    let content_type = kept(&names::MEX_CONTENT_TYPE).or_else(|| kept(&names::CONTENT_TYPE));
    let metadata = Metadata {
        workflow,
        subject: kept(&names::MEX_SUBJECT),
        local_id: kept(&names::MEX_LOCAL_ID),
        partner_id: kept(&names::MEX_PARTNER_ID),
        file_name: kept(&names::MEX_FILE_NAME),
        checksum,
        encrypted: flag(headers, &names::MEX_CONTENT_ENCRYPTED),
        compressed: flag(headers, &names::MEX_CONTENT_COMPRESSED),
        content_encoding,
        content_type,
    };
    Ok(Sending {
        recipient,
        metadata,
        chunks,
    })
}

fn is_checksum_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b':' | b'-' | b'/')
}

/// Whether a header says yes in one of the usual ways; anything else is no.
fn flag(headers: &HeaderMap, name: &HeaderName) -> bool {
    const YES: [&str; 6] = ["y", "yes", "t", "true", "on", "1"];
    text(headers, name).is_some_and(|value| YES.iter().any(|yes| value.trim().eq_ignore_ascii_case(yes)))
}

/// A chunk number as paths and chunk ranges write it: decimal digits alone; `None` for anything else, a sign included,
/// and above 32 bits.
pub fn chunk_number(text: &str) -> Option<u32> {
    let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| text.parse().ok()).flatten()
}

/// The total of a chunk range `chunk:total` with spaces around its numbers or not; `None` when it is malformed or its
/// chunk is not `chunk`, or is 0, or is above the total (MESH API specification, "Send message chunk").
pub fn chunk_range(range: &str, chunk: u32) -> Option<u32> {
    let (first, total) = range.split_once(':')?;
    let (first, total) = (chunk_number(first.trim())?, chunk_number(total.trim())?);
    (first == chunk && (1..=total).contains(&first)).then_some(total)
}

/// The query's pairs, decoded; of several with one name the last counts, unknown names do not matter.
pub(super) struct Query<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Query<'a> {
    /// Parses; `None` is an empty query.
    pub(super) fn parse(query: Option<&'a str>) -> Query<'a> {
        Query {
            pairs: form_urlencoded::parse(query.unwrap_or_default().as_bytes()).collect(),
        }
    }

    /// The value of `rule`'s parameter when it is there and within the rule's length.
    pub(super) fn text(&self, rule: &QueryRule) -> Result<Option<&str>, Failure> {
        let Some((_, value)) = self.pairs.iter().rev().find(|(name, _)| name == rule.name) else {
            return if rule.required {
                Err(rule.fault("is required", "missing").into())
            } else {
                Ok(None)
            };
        };
        let chars = value.chars().count();
        if chars < rule.min {
            return Err(rule
                .fault(
                    &format!("must have at least {} characters", rule.min),
                    "string_too_short",
                )
                .into());
        }
        if chars > rule.max {
            return Err(rule
                .fault(&format!("must have at most {} characters", rule.max), "string_too_long")
                .into());
        }
        Ok(Some(value))
    }

    /// The number in `rule`'s parameter when it is there, a number, and within the rule's bounds.
    pub(super) fn number(&self, rule: &QueryRule) -> Result<Option<usize>, Failure> {
        let Some((_, value)) = self.pairs.iter().rev().find(|(name, _)| name == rule.name) else {
            return Ok(None);
        };
        let number: i64 = value
            .trim()
            .parse()
            .map_err(|_| rule.fault("must be a whole number", "int_parsing"))?;
        if number < rule.min as i64 {
            return Err(rule
                .fault(&format!("must be at least {}", rule.min), "greater_than_equal")
                .into());
        }
        if number > rule.max as i64 {
            return Err(rule
                .fault(&format!("must be at most {}", rule.max), "less_than_equal")
                .into());
        }
        Ok(Some(number as usize))
    }
}

/// A workflow filter: `X`, `X*`, `*X*`, each also with a leading `!`; `None` when it has another form (a bare `!` or
/// `*`, or a star elsewhere).
pub(super) fn workflow_filter(text: &str) -> Option<WorkflowFilter> {
    let text = text.trim();
    let (negated, rest) = match text.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (inner, pattern): (&str, fn(String) -> Pattern) = match (rest.strip_prefix('*'), rest.strip_suffix('*')) {
        (Some(after), _) => (after.strip_suffix('*')?, Pattern::Contains),
        (None, Some(before)) => (before, Pattern::StartsWith),
        (None, None) => (rest, Pattern::Equals),
    };
    if inner.is_empty() || inner.contains('*') {
        return None;
    }
    Some(WorkflowFilter {
        negated,
        pattern: pattern(inner.to_owned()),
    })
}

/// A moment in ISO 8601: with an offset, or in UTC without one, or a date alone. A `+` that the query made a space is
/// taken back.
pub(super) fn moment(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let restored = match text.rfind(' ') {
        Some(at) if at > 10 => Cow::Owned(format!("{}+{}", &text[..at], &text[at + 1..])),
        _ => Cow::Borrowed(text),
    };
    let instant = restored.parse::<jiff::Timestamp>().ok().or_else(|| {
        let civil = restored.parse::<jiff::civil::DateTime>().ok()?;
        jiff::tz::Offset::UTC.to_timestamp(civil).ok()
    })?;
    u64::try_from(instant.as_millisecond()).ok().map(Timestamp::from_ms)
}

#[cfg(test)]
#[path = "input_tests.rs"]
mod tests;
