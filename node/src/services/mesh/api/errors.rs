//! Refusals: one closed list, each with one status, one event and code, one public sentence that says what to do.
//!
//! Rendered in the shape of the version the client asked for: v1 `{messageID, errorEvent, errorCode, errorDescription}`,
//! v2 `{message_id, internal_id, detail: [{event, code, msg}]}`. Bad fields are in `detail` as `{loc, msg, type}` in
//! both. No sentence holds anything that a client sent but the name of a field.

use super::views::{self, Version};
use crate::base::RequestId;
use crate::http::Response;
use crate::services::mesh::MessageId;
use crate::services::mesh::command::Refusal;
use ::http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};

/// Seconds a client waits before it tries again after a 503.
const RETRY_AFTER_S: &str = "1";

/// Everything that can be refused. The numbers of the specification's error codes are in [`Refused::terms`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// No route has this path.
    UnknownPath,
    /// The path has other methods.
    MethodNotAllowed,
    /// The Authorization header is missing or has another form.
    AuthorizationUnreadable,
    /// The token speaks for another mailbox than the path.
    MailboxMismatch,
    /// The token's timestamp is too far from the node's clock.
    TokenOutOfTime,
    /// Unknown mailbox, wrong password or wrong key: nobody learns which.
    TokenInvalid,
    /// The token was used before.
    TokenReplayed,
    /// The mailbox is switched off; said only to who knows its password.
    MailboxInactive,
    /// TLS gave no client certificate.
    CertificateMissing,
    /// The certificate belongs to another organisation or mailbox.
    CertificateForeign,
    /// The cache of spent tokens is at its bound.
    NoncesFull,
    /// The Accept header names no version of the API.
    AcceptMalformed,
    /// A field is missing or out of range; the fields say which.
    Invalid,
    /// Control characters or a URL in a header; the fields say which.
    HeadersMalformed,
    /// Mex-Content-Checksum has characters that a checksum has not.
    ChecksumMalformed,
    /// No Mex-To.
    RecipientMissing,
    /// Mex-From is not the mailbox that sends.
    FromMismatch,
    /// Mex-Version is not 1.0.
    VersionUnknown,
    /// Mex-MessageType is not DATA.
    NotData,
    /// The first chunk is empty.
    DataMissing,
    /// Mex-Chunk-Range is malformed, or does not fit the path or the message.
    ChunkRange,
    /// Content-Encoding is neither absent nor gzip.
    EncodingUnknown,
    /// A later chunk has another Content-Encoding than the first.
    EncodingChanged,
    /// No such recipient.
    RecipientUnknown,
    /// The sender may not send this workflow.
    SenderNotAllowed,
    /// The recipient does not take this workflow.
    RecipientNotAllowed,
    /// No such message, or not for this mailbox to know of.
    MessageUnknown,
    /// The message belongs to another mailbox.
    MessageForeign,
    /// The message has left the inbox.
    MessageGone,
    /// All chunks are in.
    MessageComplete,
    /// The chunk number is beyond the message's chunks.
    ChunkBeyondEnd,
    /// Several messages have the local identifier.
    LocalIdAmbiguous,
    /// A request's body is beyond the limit.
    BodyTooLarge,
    /// A message's chunks together are beyond the limit.
    MessageTooLarge,
    /// The body did not arrive in time.
    BodyTimedOut,
    /// The upload took longer than its lease.
    UploadExpired,
    /// Test-only calls: no such mailbox.
    MailboxUnknown,
    /// It may or may not have been done.
    OutcomeUnknown,
    /// Too much waits.
    Overloaded,
    /// The disk is full up to its reserve.
    DiskFull,
    /// The audit or a large body could not be written.
    CannotWrite,
    /// No leader, or shutting down.
    Unavailable,
    /// The clock jumped; an operator must look.
    ClockJumped,
    /// What is stored cannot be read here just now.
    Unreadable,
}

/// Status, event, code and sentence of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub status: StatusCode,
    pub event: &'static str,
    pub code: &'static str,
    pub sentence: &'static str,
}

/// `06`: the code of malformed headers.
pub(super) const CODE_MALFORMED: &str = "06";
/// `14`: the code of a message that nobody collected.
pub(super) const CODE_UNDELIVERED: &str = "14";

const fn terms(status: StatusCode, event: &'static str, code: &'static str, sentence: &'static str) -> Terms {
    Terms {
        status,
        event,
        code,
        sentence,
    }
}

impl Refused {
    /// Every refusal, for the generated document and the tests.
    pub(super) const ALL: &[Refused] = &[
        Refused::UnknownPath,
        Refused::MethodNotAllowed,
        Refused::AuthorizationUnreadable,
        Refused::MailboxMismatch,
        Refused::TokenOutOfTime,
        Refused::TokenInvalid,
        Refused::TokenReplayed,
        Refused::MailboxInactive,
        Refused::CertificateMissing,
        Refused::CertificateForeign,
        Refused::NoncesFull,
        Refused::AcceptMalformed,
        Refused::Invalid,
        Refused::HeadersMalformed,
        Refused::ChecksumMalformed,
        Refused::RecipientMissing,
        Refused::FromMismatch,
        Refused::VersionUnknown,
        Refused::NotData,
        Refused::DataMissing,
        Refused::ChunkRange,
        Refused::EncodingUnknown,
        Refused::EncodingChanged,
        Refused::RecipientUnknown,
        Refused::SenderNotAllowed,
        Refused::RecipientNotAllowed,
        Refused::MessageUnknown,
        Refused::MessageForeign,
        Refused::MessageGone,
        Refused::MessageComplete,
        Refused::ChunkBeyondEnd,
        Refused::LocalIdAmbiguous,
        Refused::BodyTooLarge,
        Refused::MessageTooLarge,
        Refused::BodyTimedOut,
        Refused::UploadExpired,
        Refused::MailboxUnknown,
        Refused::OutcomeUnknown,
        Refused::Overloaded,
        Refused::DiskFull,
        Refused::CannotWrite,
        Refused::Unavailable,
        Refused::ClockJumped,
        Refused::Unreadable,
    ];

    /// Its status, event, code and sentence.
    pub(super) const fn terms(self) -> Terms {
        match self {
            Refused::UnknownPath => terms(
                StatusCode::NOT_FOUND,
                "",
                "",
                "no call has this path; see the MESH API specification for the paths under /messageexchange",
            ),
            Refused::MethodNotAllowed => terms(
                StatusCode::METHOD_NOT_ALLOWED,
                "",
                "",
                "this path has other methods; the Allow header lists them",
            ),
            Refused::AuthorizationUnreadable => terms(
                StatusCode::FORBIDDEN,
                "",
                "",
                "Error reading from Authorization header: send NHSMESH mailbox:nonce:nonce_count:yyyyMMddHHmm:hash",
            ),
            Refused::MailboxMismatch => terms(
                StatusCode::FORBIDDEN,
                "SEND",
                "07",
                "Mailbox id does not match token: use the path's mailbox, in upper case, in the Authorization header",
            ),
            Refused::TokenOutOfTime => terms(
                StatusCode::FORBIDDEN,
                "",
                "",
                "Invalid Authentication Token: its timestamp is not within 2 hours of the server's UTC time; set your clock",
            ),
            Refused::TokenInvalid => terms(
                StatusCode::FORBIDDEN,
                "",
                "",
                "Invalid Authentication Token: check mailbox, password and shared key, and how the hash is made",
            ),
            Refused::TokenReplayed => terms(
                StatusCode::FORBIDDEN,
                "",
                "",
                "Error Duplicated Authentication Token: make a new token, with another nonce or nonce count, for each request",
            ),
            Refused::MailboxInactive => terms(
                StatusCode::FORBIDDEN,
                "",
                "",
                "Request Received from Inactive Mailbox: ask the service desk to activate it",
            ),
            Refused::CertificateMissing => terms(
                StatusCode::FORBIDDEN,
                "",
                "",
                "no client certificate: connect with the one issued to you",
            ),
            Refused::CertificateForeign => terms(
                StatusCode::FORBIDDEN,
                "",
                "",
                "the client certificate does not belong to this mailbox: its name must be local_id.ods_code.api.mesh-client.nhs.uk with the mailbox's organisation",
            ),
            Refused::NoncesFull => terms(
                StatusCode::SERVICE_UNAVAILABLE,
                "",
                "",
                "too many tokens are in use to tell whether this one is new: try again later with a new token",
            ),
            Refused::AcceptMalformed => terms(
                StatusCode::BAD_REQUEST,
                "",
                "",
                "Accept header api format incorrect: use application/json, application/vnd.mesh.v1+json or application/vnd.mesh.v2+json",
            ),
            Refused::Invalid => terms(
                StatusCode::BAD_REQUEST,
                "",
                "",
                "the request is not valid: correct the fields named",
            ),
            Refused::HeadersMalformed => terms(
                StatusCode::BAD_REQUEST,
                "TRANSFER",
                CODE_MALFORMED,
                "MalformedControlFile: remove control characters and URLs from the headers named",
            ),
            Refused::ChecksumMalformed => terms(
                StatusCode::BAD_REQUEST,
                "",
                "",
                "Invalid checksum: use letters, digits, spaces and : - / in Mex-Content-Checksum",
            ),
            Refused::RecipientMissing => terms(
                StatusCode::BAD_REQUEST,
                "SEND",
                "08",
                "TO_DTS missing: name the recipient's mailbox in Mex-To",
            ),
            Refused::FromMismatch => terms(
                StatusCode::EXPECTATION_FAILED,
                "SEND",
                "07",
                "Invalid From Address: Mex-From must be the mailbox of the path, or absent",
            ),
            Refused::VersionUnknown => terms(
                StatusCode::EXPECTATION_FAILED,
                "SEND",
                "09",
                "Invalid version: Mex-Version must be 1.0, or absent",
            ),
            Refused::NotData => terms(
                StatusCode::EXPECTATION_FAILED,
                "SEND",
                "11",
                "Invalid message type: Mex-MessageType must be DATA, or absent",
            ),
            Refused::DataMissing => terms(
                StatusCode::EXPECTATION_FAILED,
                "COLLECT",
                "02",
                "MissingDataFile: the body of the first chunk must not be empty",
            ),
            Refused::ChunkRange => terms(
                StatusCode::EXPECTATION_FAILED,
                "SEND",
                "InvalidHeaderChunks",
                "Invalid chunk values: Mex-Chunk-Range must be chunk:total with 1 <= chunk <= total, as in the path and in the first chunk",
            ),
            Refused::EncodingUnknown => terms(
                StatusCode::UNPROCESSABLE_ENTITY,
                "SEND",
                "UnsupportedContentEncoding",
                "Unsupported content encoding: compress with gzip, or not at all",
            ),
            Refused::EncodingChanged => terms(
                StatusCode::EXPECTATION_FAILED,
                "SEND",
                "",
                "cannot change content encoding: send every chunk with the Content-Encoding of the first",
            ),
            Refused::RecipientUnknown => terms(
                StatusCode::EXPECTATION_FAILED,
                "SEND",
                "12",
                "Unregistered to address: check the mailbox in Mex-To, for example by endpointlookup",
            ),
            Refused::SenderNotAllowed => terms(
                StatusCode::EXPECTATION_FAILED,
                "SEND",
                "16",
                "Sender is not allowed to send messages of this type: register your mailbox as a sender of the workflow",
            ),
            Refused::RecipientNotAllowed => terms(
                StatusCode::EXPECTATION_FAILED,
                "SEND",
                "17",
                "Workflow ID not registered for mailbox: find the recipient of this workflow by workflowsearch",
            ),
            Refused::MessageUnknown => terms(
                StatusCode::NOT_FOUND,
                "RECEIVE",
                "20",
                "Message does not exist: check the identifier and the mailbox",
            ),
            Refused::MessageForeign => terms(
                StatusCode::FORBIDDEN,
                "",
                "",
                "the message belongs to another mailbox: use that mailbox's credentials",
            ),
            Refused::MessageGone => terms(
                StatusCode::GONE,
                "RECEIVE",
                "",
                "Message no longer available for download: it was acknowledged, is not complete, has expired or failed; if you have not collected it, ask the sender to send it again",
            ),
            Refused::MessageComplete => terms(
                StatusCode::LOCKED,
                "SEND",
                "",
                "the message is complete: no chunk may be added or changed; send a new message",
            ),
            Refused::ChunkBeyondEnd => terms(
                StatusCode::NOT_ACCEPTABLE,
                "SEND",
                "",
                "the chunk number is beyond the chunks announced with the first: send only those",
            ),
            Refused::LocalIdAmbiguous => terms(
                StatusCode::MULTIPLE_CHOICES,
                "",
                "",
                "several messages have this local identifier: track them by message identifier (outbox/tracking?messageID=)",
            ),
            Refused::BodyTooLarge => terms(
                StatusCode::PAYLOAD_TOO_LARGE,
                "SEND",
                "",
                "the body is larger than one request may be: split the message into chunks",
            ),
            Refused::MessageTooLarge => terms(
                StatusCode::PAYLOAD_TOO_LARGE,
                "SEND",
                "",
                "the chunks together are larger than one message may be (100 GB): send several messages",
            ),
            Refused::BodyTimedOut => terms(
                StatusCode::REQUEST_TIMEOUT,
                "SEND",
                "",
                "the body did not arrive in time: send it again over a faster connection, or in smaller chunks",
            ),
            Refused::UploadExpired => terms(
                StatusCode::SERVICE_UNAVAILABLE,
                "SEND",
                "",
                "the upload took longer than it may and was dropped: send it again with the same identifiers, or in smaller chunks",
            ),
            Refused::MailboxUnknown => terms(
                StatusCode::NOT_FOUND,
                "",
                "",
                "mailbox does not exist: see sandbox.json for those that do",
            ),
            Refused::OutcomeUnknown => terms(
                StatusCode::SERVICE_UNAVAILABLE,
                "",
                "",
                "it is not known whether the request was carried out: send it again with the same identifiers and a new token",
            ),
            Refused::Overloaded => terms(
                StatusCode::SERVICE_UNAVAILABLE,
                "",
                "",
                "too many requests wait: send it again later with the same identifiers and a new token",
            ),
            Refused::DiskFull => terms(
                StatusCode::SERVICE_UNAVAILABLE,
                "",
                "",
                "there is no room for new data at present: send it again later with the same identifiers and a new token",
            ),
            Refused::CannotWrite => terms(
                StatusCode::SERVICE_UNAVAILABLE,
                "",
                "",
                "nothing more can be written here at present: send it again later with the same identifiers and a new token",
            ),
            Refused::Unavailable => terms(
                StatusCode::SERVICE_UNAVAILABLE,
                "",
                "",
                "this node cannot take requests at present: send it again with the same identifiers and a new token, here or to another node",
            ),
            Refused::ClockJumped => terms(
                StatusCode::SERVICE_UNAVAILABLE,
                "",
                "",
                "this node does not trust its clock: send it again later with the same identifiers and a new token",
            ),
            Refused::Unreadable => terms(
                StatusCode::SERVICE_UNAVAILABLE,
                "",
                "",
                "the stored data cannot be read here at present: try again later, here or on another node",
            ),
        }
    }
}

/// Where a bad field stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Place {
    Header,
    Query,
    Path,
    Body,
}

/// A field that is missing or wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub place: Place,
    pub name: &'static str,
    /// What to do, after the name; never what the client sent.
    pub msg: String,
    /// Kind of fault: `missing`, `string_too_long`, …
    pub kind: &'static str,
}

/// A refusal of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub refused: Refused,
    pub message: Option<String>,
    pub fields: Vec<Field>,
    /// Methods of the path, for 405.
    pub allow: Option<String>,
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Failure {
        Failure {
            refused,
            message: None,
            fields: Vec::new(),
            allow: None,
        }
    }
}

impl From<Field> for Failure {
    fn from(field: Field) -> Failure {
        Failure::with_fields(Refused::Invalid, vec![field])
    }
}

impl Failure {
    /// A refusal that names fields.
    pub(super) fn with_fields(refused: Refused, fields: Vec<Field>) -> Failure {
        Failure {
            refused,
            message: None,
            fields,
            allow: None,
        }
    }

    /// The same, about a message.
    pub(super) fn about(mut self, message: &MessageId) -> Failure {
        self.message = Some(message.as_str().to_owned());
        self
    }

    /// What the record keeps: the status, and the code where there is one.
    pub(super) fn outcome(&self) -> String {
        let terms = self.refused.terms();
        match terms.code {
            "" => terms.status.as_str().to_owned(),
            code => format!("{} {code}", terms.status.as_str()),
        }
    }

    /// The answer.
    pub(super) fn response(&self, version: Version, request: RequestId) -> Response {
        let terms = self.refused.terms();
        let mut response = match version {
            Version::V1 => views::json(terms.status, version, &self.v1(terms)),
            Version::V2 => views::json(terms.status, version, &self.v2(terms, request)),
        };
        let headers = response.headers_mut();
        if terms.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
        if let Some(allow) = self.allow.as_ref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
            headers.insert(header::ALLOW, allow);
        }
        response
    }

    fn v1(&self, terms: Terms) -> Value {
        let mut body = json!({
            "errorEvent": terms.event,
            "errorCode": terms.code,
            "errorDescription": terms.sentence,
        });
        if let Some(message) = &self.message {
            body["messageID"] = json!(message);
        }
        if !self.fields.is_empty() {
            body["detail"] = self.fields.iter().map(|field| field.value()).collect();
        }
        body
    }

    fn v2(&self, terms: Terms, request: RequestId) -> Value {
        let detail: Vec<Value> = if self.fields.is_empty() {
            vec![json!({"event": terms.event, "code": terms.code, "msg": terms.sentence})]
        } else {
            self.fields
                .iter()
                .map(|field| {
                    let mut value = field.value();
                    value["event"] = json!(terms.event);
                    value["code"] = json!(terms.code);
                    value
                })
                .collect()
        };
        let mut body = json!({"internal_id": request.to_string(), "detail": detail});
        if let Some(message) = &self.message {
            body["message_id"] = json!(message);
        }
        body
    }
}

impl Field {
    fn value(&self) -> Value {
        let msg = format!("{} {}", self.name, self.msg);
        json!({"loc": [self.place, self.name], "msg": msg, "type": self.kind})
    }
}

impl From<crate::log::ProposeError> for Failure {
    fn from(error: crate::log::ProposeError) -> Failure {
        use crate::log::ProposeError;
        Failure::from(match error {
            ProposeError::Unknown => Refused::OutcomeUnknown,
            ProposeError::Overloaded => Refused::Overloaded,
            ProposeError::DiskFull => Refused::DiskFull,
            ProposeError::NoLeader | ProposeError::Closing | ProposeError::NotYet => Refused::Unavailable,
            ProposeError::ClockJumped => Refused::ClockJumped,
        })
    }
}

impl From<crate::http::BodyError> for Failure {
    fn from(error: crate::http::BodyError) -> Failure {
        use crate::http::BodyError;
        match error {
            BodyError::TooLarge(bytes_max) => {
                let msg = format!("must have at most {bytes_max} bytes");
                let field = Field {
                    place: Place::Body,
                    name: "body",
                    msg,
                    kind: "too_large",
                };
                Failure::with_fields(Refused::BodyTooLarge, vec![field])
            }
            // Nobody reads the answer to a connection that the client closed.
            BodyError::TimedOut | BodyError::Closed => Refused::BodyTimedOut.into(),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure::from(match refusal {
            Refusal::Replayed => Refused::TokenReplayed,
            Refusal::UnknownRecipient => Refused::RecipientUnknown,
            Refusal::SenderNotAllowed => Refused::SenderNotAllowed,
            Refusal::RecipientNotAllowed => Refused::RecipientNotAllowed,
            Refusal::UnknownMessage => Refused::MessageUnknown,
            Refusal::NotYours => Refused::MessageForeign,
            Refusal::Gone => Refused::MessageGone,
            Refusal::AlreadyComplete => Refused::MessageComplete,
            Refusal::ChunkBeyondEnd => Refused::ChunkBeyondEnd,
            Refusal::ChunkTotalChanged => Refused::ChunkRange,
            Refusal::ContentEncodingChanged => Refused::EncodingChanged,
            Refusal::UploadExpired => Refused::UploadExpired,
            // Switched off or removed between the token's check and the command.
            Refusal::UnknownMailbox => Refused::MailboxInactive,
            Refusal::MessageTooLarge => Refused::MessageTooLarge,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_says_what_to_do_and_bad_input_is_never_a_5xx() {
        for refused in Refused::ALL {
            let terms = refused.terms();
            assert!(terms.sentence.len() > 20 && terms.sentence.is_ascii(), "{refused:?}");
            assert!(
                terms.status.as_u16() < 500 || terms.status == StatusCode::SERVICE_UNAVAILABLE,
                "{refused:?}"
            );
        }
    }

    #[test]
    fn a_503_says_when_to_retry_and_with_which_identifiers() {
        for refused in Refused::ALL
            .iter()
            .filter(|r| r.terms().status == StatusCode::SERVICE_UNAVAILABLE)
        {
            let response = Failure::from(*refused).response(Version::V1, RequestId(1));
            assert!(response.headers().contains_key(header::RETRY_AFTER), "{refused:?}");
        }
        for error in [
            crate::log::ProposeError::Unknown,
            crate::log::ProposeError::Overloaded,
            crate::log::ProposeError::DiskFull,
            crate::log::ProposeError::NoLeader,
            crate::log::ProposeError::ClockJumped,
            crate::log::ProposeError::Closing,
            crate::log::ProposeError::NotYet,
        ] {
            let terms = Failure::from(error).refused.terms();
            assert_eq!(terms.status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(terms.sentence.contains("with the same identifiers"), "{error:?}");
        }
    }

    #[test]
    fn a_417_has_the_shapes_of_the_specification() {
        let message = MessageId::parse("20210311101813838554_1B8F53").expect("well formed");
        let failure = Failure::from(Refused::RecipientUnknown).about(&message);
        let terms = failure.refused.terms();
        assert_eq!(
            failure.v1(terms),
            json!({
                "messageID": "20210311101813838554_1B8F53",
                "errorEvent": "SEND",
                "errorCode": "12",
                "errorDescription": terms.sentence,
            })
        );
        assert_eq!(
            failure.v2(terms, RequestId(0xAB)),
            json!({
                "message_id": "20210311101813838554_1B8F53",
                "internal_id": "00000000000000ab",
                "detail": [{"event": "SEND", "code": "12", "msg": terms.sentence}],
            })
        );
    }

    #[test]
    fn a_400_names_the_field_in_both_shapes() {
        let field = Field {
            place: Place::Header,
            name: "mex-to",
            msg: "is required".into(),
            kind: "missing",
        };
        let failure = Failure::with_fields(Refused::RecipientMissing, vec![field]);
        let terms = failure.refused.terms();
        let detail = json!({"loc": ["header", "mex-to"], "msg": "mex-to is required", "type": "missing"});
        assert_eq!(failure.v1(terms)["detail"], json!([detail]));
        let v2 = failure.v2(terms, RequestId(1));
        assert_eq!(v2["detail"][0]["loc"], json!(["header", "mex-to"]));
        assert_eq!(v2["detail"][0]["code"], "08");
        assert_eq!(v2["detail"][0]["msg"], "mex-to is required");
        assert_eq!(failure.outcome(), "400 08");
    }
}
