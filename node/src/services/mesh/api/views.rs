//! The shapes of answers, v1 and v2 (MESH API specification, "responses" of each call). Absent values are left out.

use crate::base::{RequestId, Timestamp};
use crate::http::{Response, ResponseBody};
use crate::services::mesh::MessageId;
use crate::services::mesh::command::{Mailbox, Status};
use crate::services::mesh::state::{Event, Message};
use ::http::{HeaderValue, StatusCode, header};
use bytes::Bytes;
use serde::Serialize;

/// Version of the answers' shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

impl Version {
    fn media_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Version::V1 => "application/json",
            Version::V2 => "application/vnd.mesh.v2+json",
        })
    }
}

/// An answer with a JSON body.
pub(super) fn json(status: StatusCode, version: Version, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("our shapes have string keys and no failing serializers");
    let mut response = Response::new(ResponseBody::Full(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, version.media_type());
    response
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = status;
    response
}

/// A header's value from text that came as Latin-1 (or is ASCII of ours); `None` when it cannot be one.
pub(super) fn header_value(text: &str) -> Option<HeaderValue> {
    if text.is_ascii() {
        return HeaderValue::from_str(text).ok();
    }
    let bytes: Result<Vec<u8>, _> = text.chars().map(|c| u8::try_from(u32::from(c))).collect();
    HeaderValue::from_bytes(&bytes.ok()?).ok()
}

/// `yyyyMMddHHmmss` in UTC, as v1 and the status header write times.
pub(super) fn compact(at: Timestamp) -> String {
    at.calendar().strftime("%Y%m%d%H%M%S").to_string()
}

/// A status as v2 writes it.
pub(super) fn status_name(status: Status) -> &'static str {
    match status {
        Status::Uploading => "uploading",
        Status::Accepted => "accepted",
        Status::Acknowledged => "acknowledged",
        Status::Undeliverable => "undeliverable",
        Status::Error => "error",
    }
}

/// A status as v1 writes it.
fn status_title(status: Status) -> &'static str {
    match status {
        Status::Uploading => "Uploading",
        Status::Accepted => "Accepted",
        Status::Acknowledged => "Acknowledged",
        Status::Undeliverable => "Undeliverable",
        Status::Error => "Error",
    }
}

/// A status by its name; `None` when there is none of this name.
pub(super) fn status_named(name: &str) -> Option<Status> {
    [
        Status::Uploading,
        Status::Accepted,
        Status::Acknowledged,
        Status::Undeliverable,
        Status::Error,
    ]
    .into_iter()
    .find(|status| status_name(*status).eq_ignore_ascii_case(name))
}

/// The newest event that tells of a failure.
pub(super) fn failure(message: &Message) -> Option<&Event> {
    message.events.iter().find(|event| is_failure(event.status))
}

fn is_failure(status: Status) -> bool {
    match status {
        Status::Error | Status::Undeliverable => true,
        Status::Uploading | Status::Accepted | Status::Acknowledged => false,
    }
}

/// `DATA` or `REPORT`.
pub(super) fn message_type(message: &Message) -> &'static str {
    if message.report { "REPORT" } else { "DATA" }
}

/// The file name the recipient sees: the sender's, or one made of the identifier.
pub(super) fn file_name(message: &Message) -> String {
    message
        .metadata
        .file_name
        .clone()
        .unwrap_or_else(|| format!("{}.dat", message.id))
}

fn yes(flag: bool) -> &'static str {
    if flag { "Y" } else { "" }
}

#[derive(Serialize)]
pub(super) struct Pong {
    pub env: &'static str,
    pub build_label: &'static str,
    pub status: &'static str,
    pub outcome: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HandshakeV1<'a> {
    pub mailbox_id: &'a str,
}

#[derive(Serialize)]
pub(super) struct SentV1<'a> {
    #[serde(rename = "messageID")]
    pub message: &'a str,
    #[serde(rename = "blockID", skip_serializing_if = "Option::is_none")]
    pub chunk: Option<u32>,
}

#[derive(Serialize)]
pub(super) struct SentV2<'a> {
    pub message_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AcknowledgedV1<'a> {
    pub message_id: &'a str,
}

#[derive(Serialize)]
pub(super) struct InboxV1<'a> {
    pub messages: Vec<&'a str>,
}

#[derive(Serialize)]
pub(super) struct InboxV2<'a> {
    pub messages: Vec<&'a str>,
    pub links: Links,
    pub approx_inbox_count: u64,
}

/// Paths from the server's root, encoded.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Links {
    #[serde(rename = "self")]
    pub this: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[derive(Serialize)]
pub(super) struct CountV1 {
    pub count: u64,
    #[serde(rename = "internalID")]
    pub internal_id: String,
    #[serde(rename = "allResultsIncluded")]
    pub all_results_included: bool,
}

#[derive(Serialize)]
pub(super) struct CountV2 {
    pub count: u64,
}

#[derive(Serialize)]
pub(super) struct LookupV1<'a> {
    pub query_id: String,
    pub results: Vec<LookupItemV1<'a>>,
}

#[derive(Serialize)]
pub(super) struct LookupItemV1<'a> {
    pub address: &'a str,
    pub description: &'a str,
    pub endpoint_type: &'static str,
}

#[derive(Serialize)]
pub(super) struct LookupV2<'a> {
    pub results: Vec<LookupItemV2<'a>>,
}

#[derive(Serialize)]
pub(super) struct LookupItemV2<'a> {
    pub mailbox_id: &'a str,
    pub mailbox_name: &'a str,
}

/// Mailboxes found, in the older shape of endpointlookup.
pub(super) fn lookup_v1(request: RequestId, found: &[Mailbox]) -> LookupV1<'_> {
    fn item(mailbox: &Mailbox) -> LookupItemV1<'_> {
        LookupItemV1 {
            address: mailbox.id.as_str(),
            description: &mailbox.name,
            endpoint_type: "MESH",
        }
    }
    LookupV1 {
        query_id: request.to_string(),
        results: found.iter().map(item).collect(),
    }
}

/// Mailboxes found.
pub(super) fn lookup_v2(found: &[Mailbox]) -> LookupV2<'_> {
    fn item(mailbox: &Mailbox) -> LookupItemV2<'_> {
        LookupItemV2 {
            mailbox_id: mailbox.id.as_str(),
            mailbox_name: &mailbox.name,
        }
    }
    LookupV2 {
        results: found.iter().map(item).collect(),
    }
}

/// A message with its two ends, where they still exist.
pub(super) struct Traced<'a> {
    pub message: &'a Message,
    pub sender: Option<&'a Mailbox>,
    pub recipient: Option<&'a Mailbox>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TrackingV1<'a> {
    address_type: &'static str,
    checksum: &'a str,
    chunk_count: u32,
    compress_flag: &'static str,
    content_encoding: &'a str,
    download_timestamp: String,
    dts_id: &'a str,
    encrypted_flag: &'static str,
    expiry_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_diagnostic: Option<&'a str>,
    file_name: String,
    file_size: u64,
    is_compressed: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    linked_msg_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    local_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mesh_recipient_ods_code: Option<&'a str>,
    message_id: &'a str,
    message_type: &'static str,
    partner_id: &'a str,
    recipient: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient_org_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient_org_name: Option<&'a str>,
    recipient_smtp: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender_ods_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender_org_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender_org_name: Option<&'a str>,
    sender_smtp: &'static str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_event: Option<&'a str>,
    status_success: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    upload_timestamp: String,
    version: &'static str,
    workflow_id: &'a str,
}

/// When the message reached a status, if it did.
pub(super) fn reached(message: &Message, status: Status) -> Option<Timestamp> {
    message
        .events
        .iter()
        .find(|event| event.status == status)
        .map(|event| event.at)
}

/// Tracking in the older shape.
pub(super) fn tracking_v1<'a>(traced: &Traced<'a>) -> TrackingV1<'a> {
    let message = traced.message;
    let metadata = &message.metadata;
    let failure = failure(message);
    let recipient_ods = traced.recipient.map(|mailbox| mailbox.ods.as_str());
    let sender_ods = traced.sender.map(|mailbox| mailbox.ods.as_str());
    TrackingV1 {
        address_type: "ALL",
        checksum: metadata.checksum.as_deref().unwrap_or_default(),
        chunk_count: message.chunks,
        compress_flag: yes(metadata.compressed),
        content_encoding: metadata.content_encoding.as_deref().unwrap_or_default(),
        download_timestamp: reached(message, Status::Acknowledged).map(compact).unwrap_or_default(),
        dts_id: message.id.as_str(),
        encrypted_flag: yes(metadata.encrypted),
        expiry_time: compact(message.expires),
        failure_date: failure.map(|event| compact(event.at)),
        failure_diagnostic: failure.and_then(|event| event.description.as_deref()),
        file_name: file_name(message),
        file_size: message.bytes,
        is_compressed: yes(metadata.compressed),
        linked_msg_id: failure.and_then(|event| event.linked.as_deref()),
        local_id: metadata.local_id.as_deref(),
        mesh_recipient_ods_code: recipient_ods,
        message_id: message.id.as_str(),
        message_type: if message.report { "Report" } else { "Data" },
        partner_id: metadata.partner_id.as_deref().unwrap_or_default(),
        recipient: message.recipient.as_str(),
        recipient_name: traced.recipient.map(|mailbox| mailbox.name.as_str()),
        recipient_org_code: recipient_ods,
        recipient_org_name: traced.recipient.map(|mailbox| mailbox.organisation.as_str()),
        recipient_smtp: "",
        sender: message.sender.as_ref().map(|sender| sender.as_str()),
        sender_name: traced.sender.map(|mailbox| mailbox.name.as_str()),
        sender_ods_code: sender_ods,
        sender_org_code: sender_ods,
        sender_org_name: traced.sender.map(|mailbox| mailbox.organisation.as_str()),
        sender_smtp: "",
        status: status_title(message.status()),
        status_code: failure.and_then(|event| event.code.as_deref()),
        status_description: failure.and_then(|event| event.description.as_deref()),
        status_event: failure.and_then(|event| event.event.as_deref()),
        status_success: if failure.is_none() { "SUCCESS" } else { "ERROR" },
        status_timestamp: failure.map(|event| compact(event.at)),
        subject: metadata.subject.as_deref(),
        upload_timestamp: compact(message.created),
        version: "1.0",
        workflow_id: &metadata.workflow,
    }
}

#[derive(Debug, Serialize)]
pub(super) struct TrackingV2<'a> {
    message_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    local_id: Option<&'a str>,
    workflow_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<&'a str>,
    expiry_time: String,
    upload_timestamp: String,
    recipient: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient_ods_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient_org_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient_org_name: Option<&'a str>,
    status_success: bool,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<&'a str>,
}

/// Tracking.
pub(super) fn tracking_v2<'a>(traced: &Traced<'a>) -> TrackingV2<'a> {
    let message = traced.message;
    let failure = failure(message);
    let recipient_ods = traced.recipient.map(|mailbox| mailbox.ods.as_str());
    TrackingV2 {
        message_id: message.id.as_str(),
        local_id: message.metadata.local_id.as_deref(),
        workflow_id: &message.metadata.workflow,
        filename: message.metadata.file_name.as_deref(),
        expiry_time: message.expires.iso(),
        upload_timestamp: message.created.iso(),
        recipient: message.recipient.as_str(),
        recipient_name: traced.recipient.map(|mailbox| mailbox.name.as_str()),
        recipient_ods_code: recipient_ods,
        recipient_org_code: recipient_ods,
        recipient_org_name: traced.recipient.map(|mailbox| mailbox.organisation.as_str()),
        status_success: failure.is_none(),
        status: status_name(message.status()),
        status_event: failure.and_then(|event| event.event.as_deref()),
        status_timestamp: failure.map(|event| event.at.iso()),
        status_description: failure.and_then(|event| event.description.as_deref()),
        status_code: failure.and_then(|event| event.code.as_deref()),
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Rich<'a> {
    pub valid_at: String,
    pub messages: Vec<RichMessage<'a>>,
    pub links: Links,
}

#[derive(Debug, Serialize)]
pub(super) struct RichMessage<'a> {
    message_id: &'a str,
    expiry_timestamp: String,
    local_id: &'a str,
    message_type: &'static str,
    recipient: &'a str,
    recipient_name: &'a str,
    sender: &'a str,
    sender_name: &'a str,
    sent_date: String,
    status: &'static str,
    status_code: &'a str,
    workflow_id: &'a str,
    total_chunks: u32,
}

/// Name of the sender of reports.
const CENTRAL_SYSTEM: &str = "Central System Mailbox";

/// A message in a rich listing; every field is there, empty where nothing is known.
pub(super) fn rich_message<'a>(traced: &Traced<'a>) -> RichMessage<'a> {
    let message = traced.message;
    let name = |mailbox: Option<&'a Mailbox>| mailbox.map_or("", |mailbox| mailbox.name.as_str());
    RichMessage {
        message_id: message.id.as_str(),
        expiry_timestamp: message.expires.iso(),
        local_id: message.metadata.local_id.as_deref().unwrap_or_default(),
        message_type: message_type(message),
        recipient: message.recipient.as_str(),
        recipient_name: name(traced.recipient),
        sender: message.sender.as_ref().map_or("", |sender| sender.as_str()),
        sender_name: if message.report {
            CENTRAL_SYSTEM
        } else {
            name(traced.sender)
        },
        sent_date: message.created.iso(),
        status: status_name(message.status()),
        status_code: failure(message)
            .and_then(|event| event.code.as_deref())
            .unwrap_or_default(),
        workflow_id: &message.metadata.workflow,
        total_chunks: if message.report { 0 } else { message.chunks },
    }
}

#[derive(Serialize)]
pub(super) struct MailboxDetails<'a> {
    mailbox_id: &'a str,
    mailbox_name: &'a str,
    billing_entity: &'a str,
    ods_code: &'a str,
    org_code: &'a str,
    org_name: &'a str,
    active: bool,
}

/// A mailbox without its password.
pub(super) fn mailbox_details(mailbox: &Mailbox) -> MailboxDetails<'_> {
    MailboxDetails {
        mailbox_id: mailbox.id.as_str(),
        mailbox_name: &mailbox.name,
        billing_entity: &mailbox.billing_entity,
        ods_code: mailbox.ods.as_str(),
        org_code: mailbox.ods.as_str(),
        org_name: &mailbox.organisation,
        active: mailbox.active,
    }
}

/// A message's details: its tracking, with the names that the test-only call uses.
pub(super) fn message_details(traced: &Traced<'_>) -> serde_json::Value {
    let message = traced.message;
    let metadata = &message.metadata;
    let failure = failure(message);
    let ods = |mailbox: Option<&Mailbox>| mailbox.map(|mailbox| mailbox.ods.as_str().to_owned());
    let name = |mailbox: Option<&Mailbox>| mailbox.map(|mailbox| mailbox.name.clone());
    let organisation = |mailbox: Option<&Mailbox>| mailbox.map(|mailbox| mailbox.organisation.clone());
    let mut details = serde_json::json!({
        "checksum": metadata.checksum.as_deref().unwrap_or_default(),
        "chunk_count": message.chunks,
        "content_encoding": metadata.content_encoding.as_deref().unwrap_or_default(),
        "download_timestamp": reached(message, Status::Acknowledged).map(Timestamp::iso),
        "expiry_time": message.expires.iso(),
        "failure_date": failure.map(|event| event.at.iso()),
        "failure_diagnostic": failure.and_then(|event| event.description.as_deref()),
        "filename": file_name(message),
        "file_size": message.bytes,
        "is_compressed": metadata.compressed,
        "is_encrypted": metadata.encrypted,
        "linked_msg_id": failure.and_then(|event| event.linked.as_deref()),
        "local_id": metadata.local_id,
        "message_id": message.id.as_str(),
        "message_type": if message.report { "Report" } else { "Data" },
        "recipient": message.recipient.as_str(),
        "recipient_name": name(traced.recipient),
        "recipient_ods_code": ods(traced.recipient),
        "recipient_org_code": ods(traced.recipient),
        "recipient_org_name": organisation(traced.recipient),
        "sender": message.sender.as_ref().map(|sender| sender.as_str()),
        "sender_name": name(traced.sender),
        "sender_ods_code": ods(traced.sender),
        "sender_org_code": ods(traced.sender),
        "sender_org_name": organisation(traced.sender),
        "status": status_title(message.status()),
        "status_code": failure.and_then(|event| event.code.as_deref()),
        "status_description": failure.and_then(|event| event.description.as_deref()),
        "status_event": failure.and_then(|event| event.event.as_deref()),
        "status_success": if failure.is_none() { "SUCCESS" } else { "ERROR" },
        "status_timestamp": failure.map(|event| event.at.iso()),
        "subject": metadata.subject,
        "upload_timestamp": message.created.iso(),
        "workflow_id": metadata.workflow,
    });
    if let Some(fields) = details.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    details
}

/// The identifiers of a page as text.
pub(super) fn identifiers(messages: &[MessageId]) -> Vec<&str> {
    messages.iter().map(MessageId::as_str).collect()
}

#[cfg(test)]
#[path = "views_tests.rs"]
mod tests;
