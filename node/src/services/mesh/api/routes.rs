//! Every call, in one table: its path, method, access, parameters and statuses. The router, the validation of headers and
//! queries, the metrics' labels, the audit's actions and the generated document all read it.

use super::names;
use ::http::{HeaderName, Method};
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// What a call does, by what its caller has to prove; one handler each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    /// Nothing is to be proved: it says only that the node runs.
    Open(OpenCall),
    /// The mailbox of the path; the token is spent on this node.
    Read(ReadCall),
    /// The mailbox of the path; the token is spent on this node and in the log.
    Write(WriteCall),
    /// A client certificate; a token where there is one.
    LookUp(LookUpCall),
    /// Nothing is to be proved, and there is no such call outside the sandbox.
    Test(TestCall),
}

/// Pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpenCall {
    Ping,
    DeepPing,
}

/// Calls that read a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadCall {
    Inbox,
    RichInbox,
    Head,
    Download,
    DownloadChunk,
    Count,
    Track,
    TrackLocal,
    RichOutbox,
}

/// Calls that are one command each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteCall {
    Handshake,
    Update,
    Acknowledge,
    Send,
    SendChunk,
}

/// Look-ups of mailboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LookUpCall {
    EndpointLookup,
    WorkflowSearch,
}

/// Test-only calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TestCall {
    Report,
    AddEvent,
    Reset,
    ResetMailbox,
    MailboxDetails,
    MessageDetails,
}

/// A part of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(&'static str),
    MailboxId,
    MessageId,
    ChunkNumber,
    LocalId,
    OdsCode,
    WorkflowId,
}

impl Segment {
    /// The parameter's name in the specification; `None` for a literal.
    pub(super) fn parameter(self) -> Option<&'static str> {
        match self {
            Segment::Literal(_) => None,
            Segment::MailboxId => Some("mailbox_id"),
            Segment::MessageId => Some("message_id"),
            Segment::ChunkNumber => Some("chunk_number"),
            Segment::LocalId => Some("local_id"),
            Segment::OdsCode => Some("ods_code"),
            Segment::WorkflowId => Some("workflow_id"),
        }
    }
}

/// A header that a call reads.
#[derive(Debug)]
pub(super) struct HeaderRule {
    pub name: &'static HeaderName,
    pub text: &'static str,
    pub required: bool,
    /// Longest value, in characters (Latin-1: bytes).
    pub chars_max: usize,
    /// A value that starts as a URL is malformed.
    pub never_url: bool,
    pub meaning: &'static str,
}

/// A query parameter that a call reads.
#[derive(Debug)]
pub(super) struct QueryRule {
    pub name: &'static str,
    pub required: bool,
    /// A whole number; else text.
    pub number: bool,
    /// Least value, or fewest characters.
    pub min: usize,
    /// Greatest value, or most characters.
    pub max: usize,
    pub meaning: &'static str,
}

impl QueryRule {
    /// A fault in this parameter.
    pub(super) fn fault(&self, msg: &str, kind: &'static str) -> super::errors::Field {
        super::errors::Field {
            place: super::errors::Place::Query,
            name: self.name,
            msg: msg.to_owned(),
            kind,
        }
    }
}

/// One call at one path.
#[derive(Debug)]
pub(super) struct Route {
    pub method: Method,
    pub path: &'static [Segment],
    pub does: Does,
    /// Metrics' label and, after `mesh.`, the audit's action.
    pub label: &'static str,
    pub headers: &'static [HeaderRule],
    pub query: &'static [&'static QueryRule],
    pub statuses: &'static [u16],
    pub deprecated: bool,
    pub summary: &'static str,
}

impl Route {
    const fn with_headers(mut self, headers: &'static [HeaderRule]) -> Route {
        self.headers = headers;
        self
    }

    const fn with_query(mut self, query: &'static [&'static QueryRule]) -> Route {
        self.query = query;
        self
    }

    const fn outdated(mut self) -> Route {
        self.deprecated = true;
        self
    }

    /// The path with its parameters in braces.
    pub(super) fn template(&self) -> String {
        let mut template = String::new();
        for segment in self.path {
            template.push('/');
            match (segment, segment.parameter()) {
                (Segment::Literal(text), _) => template.push_str(text),
                (_, Some(parameter)) => {
                    template.push('{');
                    template.push_str(parameter);
                    template.push('}');
                }
                (_, None) => unreachable!("only literals have no parameter"),
            }
        }
        template
    }
}

const fn header_rule(
    name: &'static HeaderName,
    text: &'static str,
    required: bool,
    chars_max: usize,
    meaning: &'static str,
) -> HeaderRule {
    HeaderRule {
        name,
        text,
        required,
        chars_max,
        never_url: false,
        meaning,
    }
}

/// Headers of POST /outbox (specification, "Send message"; those after the checksum are used by clients beside it).
#[rustfmt::skip]
pub(super) static SEND_HEADERS: &[HeaderRule] = &[
    HeaderRule { name: &names::MEX_TO, text: "mex-to", required: true, chars_max: 100, never_url: true, meaning: "mailbox of the recipient" },
    HeaderRule { name: &names::MEX_WORKFLOW_ID, text: "mex-workflowid", required: true, chars_max: 300, never_url: true, meaning: "kind of message" },
    header_rule(&names::MEX_CHUNK_RANGE, "mex-chunk-range", false, 20, "chunk:total; 1:1 when absent"),
    header_rule(&names::MEX_SUBJECT, "mex-subject", false, 500, "subject, given to the recipient"),
    header_rule(&names::MEX_LOCAL_ID, "mex-localid", false, 300, "the sender's own identifier; with it a retried send is safe"),
    header_rule(&names::MEX_PARTNER_ID, "mex-partnerid", false, 500, "the sender's identifier of the partner"),
    header_rule(&names::MEX_FILE_NAME, "mex-filename", false, 300, "file name, given to the recipient"),
    header_rule(&names::MEX_CONTENT_ENCRYPTED, "mex-content-encrypted", false, 20, "Y when the content is encrypted"),
    header_rule(&names::MEX_CONTENT_COMPRESSED, "mex-content-compressed", false, 20, "Y when the content is compressed"),
    HeaderRule { name: &names::MEX_CONTENT_CHECKSUM, text: "mex-content-checksum", required: false, chars_max: 100, never_url: true, meaning: "checksum of the whole content, given to the recipient" },
    header_rule(&names::MEX_CONTENT_TYPE, "mex-content-type", false, 100, "content type of the whole message"),
    header_rule(&names::CONTENT_TYPE, "content-type", false, 300, "content type, where mex-content-type is absent"),
    header_rule(&names::CONTENT_ENCODING, "content-encoding", false, 20, "gzip or absent"),
    header_rule(&names::MEX_FROM, "mex-from", false, 100, "the sending mailbox or absent"),
    header_rule(&names::MEX_VERSION, "mex-version", false, 20, "1.0 or absent"),
    header_rule(&names::MEX_MESSAGE_TYPE, "mex-messagetype", false, 20, "DATA or absent"),
];

/// Headers of POST /outbox/{message}/{chunk}.
#[rustfmt::skip]
pub(super) static CHUNK_HEADERS: &[HeaderRule] = &[
    header_rule(&names::MEX_CHUNK_RANGE, "mex-chunk-range", false, 20, "chunk:total, as in the path and the first chunk"),
    header_rule(&names::CONTENT_ENCODING, "content-encoding", false, 20, "as in the first chunk"),
];

/// Headers of the handshake.
#[rustfmt::skip]
pub(super) static HANDSHAKE_HEADERS: &[HeaderRule] = &[
    header_rule(&names::MEX_CLIENT_VERSION, "mex-clientversion", true, 500, "name and version of the client"),
    header_rule(&names::MEX_OS_NAME, "mex-osname", true, 500, "operating system"),
    header_rule(&names::MEX_OS_VERSION, "mex-osversion", true, 500, "its version"),
    header_rule(&names::MEX_OS_ARCHITECTURE, "mex-osarchitecture", false, 500, "its architecture"),
    header_rule(&names::MEX_JAVA_VERSION, "mex-javaversion", false, 500, "version of Java"),
];

#[rustfmt::skip]
mod query_rules {
    use super::QueryRule;
    pub const MAX_RESULTS: QueryRule = QueryRule { name: "max_results", required: false, number: true, min: 10, max: 5000, meaning: "results at most; 500 when absent" };
    pub const RICH_INBOX_MAX: QueryRule = QueryRule { name: "max_results", required: false, number: true, min: 1, max: 2000, meaning: "results at most; 100 when absent" };
    pub const RICH_OUTBOX_MAX: QueryRule = QueryRule { name: "max_results", required: false, number: true, min: 10, max: 5000, meaning: "results at most, never more than 100; 100 when absent" };
    pub const CONTINUE_FROM: QueryRule = QueryRule { name: "continue_from", required: false, number: false, min: 24, max: 1000, meaning: "from links.next; in version 1 also the last message identifier" };
    pub const WORKFLOW_FILTER: QueryRule = QueryRule { name: "workflow_filter", required: false, number: false, min: 2, max: 255, meaning: "X, X* or *X*, each also with a leading !" };
    pub const START_TIME: QueryRule = QueryRule { name: "start_time", required: false, number: false, min: 1, max: 64, meaning: "ISO 8601; 30 days ago when absent" };
    pub const MESSAGE_ID: QueryRule = QueryRule { name: "messageID", required: true, number: false, min: 1, max: 100, meaning: "message identifier" };
}
pub(super) use query_rules::{
    CONTINUE_FROM, MAX_RESULTS, MESSAGE_ID, RICH_INBOX_MAX, RICH_OUTBOX_MAX, START_TIME, WORKFLOW_FILTER,
};

use Does::{LookUp, Open, Read, Test, Write};
use Segment::{ChunkNumber, Literal, LocalId, MailboxId, MessageId, OdsCode, WorkflowId};

const ROOT: Segment = Literal("messageexchange");
const ADMIN: Segment = Literal("admin");

const fn route(
    method: Method,
    path: &'static [Segment],
    does: Does,
    label: &'static str,
    statuses: &'static [u16],
    summary: &'static str,
) -> Route {
    Route {
        method,
        path,
        does,
        label,
        headers: &[],
        query: &[],
        statuses,
        deprecated: false,
        summary,
    }
}

/// All calls; of two that fit a path the first counts, so literals stand before parameters.
#[rustfmt::skip]
pub(super) static ROUTES: &[Route] = &[
    route(Method::GET, &[ROOT, Literal("_ping")], Open(OpenCall::Ping), "ping", &[200], "Whether the node runs"),
    route(Method::GET, &[ROOT, Literal("deepping")], Open(OpenCall::DeepPing), "deepping", &[200, 503], "Whether the node serves current state"),
    route(Method::GET, &[Literal("_ping")], Open(OpenCall::Ping), "ping", &[200], "Whether the node runs"),
    route(Method::GET, &[Literal("_status")], Open(OpenCall::Ping), "ping", &[200], "Whether the node runs"),
    route(Method::GET, &[Literal("health")], Open(OpenCall::Ping), "ping", &[200], "Whether the node runs"),
    route(Method::GET, &[Literal("healthcheck")], Open(OpenCall::Ping), "ping", &[200], "Whether the node runs"),
    route(Method::DELETE, &[ADMIN, Literal("reset")], Test(TestCall::Reset), "reset", &[200, 503], "Test only: removes all messages"),
    route(Method::DELETE, &[ROOT, ADMIN, Literal("reset")], Test(TestCall::Reset), "reset", &[200, 503], "Test only: removes all messages"),
    route(Method::DELETE, &[ADMIN, Literal("reset"), MailboxId], Test(TestCall::ResetMailbox), "reset_mailbox", &[200, 404, 503], "Test only: removes a mailbox's messages"),
    route(Method::DELETE, &[ROOT, ADMIN, Literal("reset"), MailboxId], Test(TestCall::ResetMailbox), "reset_mailbox", &[200, 404, 503], "Test only: removes a mailbox's messages"),
    route(Method::POST, &[ADMIN, Literal("report")], Test(TestCall::Report), "report", &[200, 400, 404, 503], "Test only: puts a report into an inbox"),
    route(Method::POST, &[ROOT, ADMIN, Literal("report")], Test(TestCall::Report), "report", &[200, 400, 404, 503], "Test only: puts a report into an inbox"),
    route(Method::POST, &[ADMIN, Literal("message"), MessageId, Literal("event")], Test(TestCall::AddEvent), "add_event", &[200, 400, 404, 503], "Test only: adds an event to a message"),
    route(Method::POST, &[ROOT, ADMIN, Literal("message"), MessageId, Literal("event")], Test(TestCall::AddEvent), "add_event", &[200, 400, 404, 503], "Test only: adds an event to a message"),
    route(Method::GET, &[ADMIN, Literal("message"), MessageId], Test(TestCall::MessageDetails), "message_details", &[200, 404, 503], "Test only: a message's details"),
    route(Method::GET, &[ROOT, ADMIN, Literal("message"), MessageId], Test(TestCall::MessageDetails), "message_details", &[200, 404, 503], "Test only: a message's details"),
    route(Method::GET, &[ADMIN, Literal("mailbox"), MailboxId], Test(TestCall::MailboxDetails), "mailbox_details", &[200, 404, 503], "Test only: a mailbox's details"),
    route(Method::GET, &[ROOT, ADMIN, Literal("mailbox"), MailboxId], Test(TestCall::MailboxDetails), "mailbox_details", &[200, 404, 503], "Test only: a mailbox's details"),
    route(Method::GET, &[ROOT, Literal("mailbox"), MailboxId], Test(TestCall::MailboxDetails), "mailbox_details", &[200, 404, 503], "Test only: a mailbox's details"),
    route(Method::GET, &[ROOT, Literal("endpointlookup"), OdsCode, WorkflowId], LookUp(LookUpCall::EndpointLookup), "endpointlookup", &[200, 400, 403, 503], "Mailboxes of an organisation that receive a workflow"),
    route(Method::GET, &[ROOT, Literal("workflowsearch"), WorkflowId], LookUp(LookUpCall::WorkflowSearch), "workflowsearch", &[200, 400, 403, 503], "Mailboxes that receive a workflow"),
    route(Method::POST, &[ROOT, MailboxId], Write(WriteCall::Handshake), "handshake", &[200, 400, 403, 503], "Validates the mailbox and notes its client").with_headers(HANDSHAKE_HEADERS),
    route(Method::GET, &[ROOT, MailboxId], Write(WriteCall::Handshake), "handshake", &[200, 400, 403, 503], "Validates the mailbox and notes its client").with_headers(HANDSHAKE_HEADERS),
    route(Method::POST, &[ROOT, MailboxId, Literal("update")], Write(WriteCall::Update), "update", &[200, 400, 403, 503], "Accepts a client's note of its update"),
    route(Method::GET, &[ROOT, MailboxId, Literal("inbox")], Read(ReadCall::Inbox), "inbox", &[200, 400, 403, 503], "Messages that wait").with_query(&[&MAX_RESULTS, &CONTINUE_FROM, &WORKFLOW_FILTER]),
    route(Method::GET, &[ROOT, MailboxId, Literal("inbox"), Literal("rich")], Read(ReadCall::RichInbox), "inbox_rich", &[200, 400, 403, 503], "Messages received, with details").with_query(&[&START_TIME, &RICH_INBOX_MAX, &CONTINUE_FROM]),
    route(Method::HEAD, &[ROOT, MailboxId, Literal("inbox"), MessageId], Read(ReadCall::Head), "head", &[200, 400, 403, 404, 410, 503], "A message's headers"),
    route(Method::GET, &[ROOT, MailboxId, Literal("inbox"), MessageId], Read(ReadCall::Download), "download", &[200, 206, 400, 403, 404, 410, 503], "A message, or its first chunk"),
    route(Method::GET, &[ROOT, MailboxId, Literal("inbox"), MessageId, ChunkNumber], Read(ReadCall::DownloadChunk), "download_chunk", &[200, 206, 400, 403, 404, 410, 503], "One chunk of a message"),
    route(Method::PUT, &[ROOT, MailboxId, Literal("inbox"), MessageId, Literal("status"), Literal("acknowledged")], Write(WriteCall::Acknowledge), "acknowledge", &[200, 400, 403, 404, 410, 503], "Takes a message out of the inbox"),
    route(Method::GET, &[ROOT, MailboxId, Literal("count")], Read(ReadCall::Count), "count", &[200, 400, 403, 503], "How many messages wait").outdated(),
    route(Method::POST, &[ROOT, MailboxId, Literal("outbox")], Write(WriteCall::Send), "send", &[202, 400, 403, 408, 413, 417, 422, 503], "Sends a message, or its first chunk").with_headers(SEND_HEADERS),
    route(Method::GET, &[ROOT, MailboxId, Literal("outbox"), Literal("rich")], Read(ReadCall::RichOutbox), "outbox_rich", &[200, 400, 403, 503], "Messages sent, with details").with_query(&[&START_TIME, &RICH_OUTBOX_MAX, &CONTINUE_FROM]),
    route(Method::GET, &[ROOT, MailboxId, Literal("outbox"), Literal("tracking")], Read(ReadCall::Track), "track", &[200, 400, 403, 404, 503], "What became of a message").with_query(&[&MESSAGE_ID]),
    route(Method::GET, &[ROOT, MailboxId, Literal("outbox"), Literal("tracking"), LocalId], Read(ReadCall::TrackLocal), "track_local", &[200, 300, 400, 403, 404, 503], "What became of a message, by the sender's identifier").outdated(),
    route(Method::POST, &[ROOT, MailboxId, Literal("outbox"), MessageId, ChunkNumber], Write(WriteCall::SendChunk), "send_chunk", &[202, 400, 403, 404, 406, 408, 410, 413, 417, 423, 503], "Sends a further chunk").with_headers(CHUNK_HEADERS),
];

/// The parameters of a path, decoded.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    pub mailbox: String,
    pub message: String,
    pub chunk: String,
    /// Local identifier or workflow.
    pub name: String,
    pub ods: String,
}

/// What a path and method lead to.
#[derive(Debug)]
pub(super) enum Found {
    Route(&'static Route, Parameters),
    /// The path has other methods: these.
    OtherMethods(String),
    Nothing,
}

/// Longest path in segments.
const SEGMENTS_MAX: usize = 6;

/// Finds the call; test-only ones exist only when `sandbox`. A slash at the end does not matter.
pub(super) fn find(method: &Method, path: &str, sandbox: bool) -> Found {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut segments = [""; SEGMENTS_MAX];
    let mut count = 0;
    for segment in path.split('/') {
        if count == SEGMENTS_MAX || segment.is_empty() {
            return Found::Nothing;
        }
        segments[count] = segment;
        count += 1;
    }
    let segments = &segments[..count];
    let mut others: Vec<&str> = Vec::new();
    for route in ROUTES {
        if !fits(route.path, segments) || (matches!(route.does, Test(_)) && !sandbox) {
            continue;
        }
        if route.method == *method {
            return parameters(route, segments).map_or(Found::Nothing, |found| Found::Route(route, found));
        }
        if !others.contains(&route.method.as_str()) {
            others.push(route.method.as_str());
        }
    }
    if others.is_empty() {
        Found::Nothing
    } else {
        Found::OtherMethods(others.join(", "))
    }
}

fn fits(path: &[Segment], segments: &[&str]) -> bool {
    path.len() == segments.len()
        && path.iter().zip(segments).all(|(part, given)| match part {
            Literal(text) => text == given,
            MailboxId | MessageId | ChunkNumber | LocalId | OdsCode | WorkflowId => true,
        })
}

/// Decodes the parameters; `None` when one is not UTF-8.
fn parameters(route: &Route, segments: &[&str]) -> Option<Parameters> {
    let mut found = Parameters::default();
    for (part, given) in route.path.iter().zip(segments) {
        let slot = match part {
            Literal(_) => continue,
            MailboxId => &mut found.mailbox,
            MessageId => &mut found.message,
            ChunkNumber => &mut found.chunk,
            LocalId | WorkflowId => &mut found.name,
            OdsCode => &mut found.ods,
        };
        *slot = percent_decode_str(given).decode_utf8().ok().map(Cow::into_owned)?;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(method: Method, path: &str, sandbox: bool) -> Option<&'static str> {
        match find(&method, path, sandbox) {
            Found::Route(route, _) => Some(route.label),
            Found::OtherMethods(_) | Found::Nothing => None,
        }
    }

    #[test]
    fn paths_lead_to_their_calls() {
        let id = "20210311101813838554_1B8F53";
        for (method, path, expected) in [
            (Method::GET, "/messageexchange/_ping".to_owned(), Some("ping")),
            (Method::GET, "/_ping".to_owned(), Some("ping")),
            (Method::POST, "/messageexchange/X26ABC1".to_owned(), Some("handshake")),
            (Method::GET, "/messageexchange/X26ABC1/".to_owned(), Some("handshake")),
            (Method::GET, "/messageexchange/X26ABC1/inbox".to_owned(), Some("inbox")),
            (
                Method::GET,
                "/messageexchange/X26ABC1/inbox/rich".to_owned(),
                Some("inbox_rich"),
            ),
            (
                Method::GET,
                format!("/messageexchange/X26ABC1/inbox/{id}"),
                Some("download"),
            ),
            (
                Method::HEAD,
                format!("/messageexchange/X26ABC1/inbox/{id}"),
                Some("head"),
            ),
            (
                Method::GET,
                format!("/messageexchange/X26ABC1/inbox/{id}/2"),
                Some("download_chunk"),
            ),
            (
                Method::PUT,
                format!("/messageexchange/X26ABC1/inbox/{id}/status/acknowledged"),
                Some("acknowledge"),
            ),
            (Method::POST, "/messageexchange/X26ABC1/outbox".to_owned(), Some("send")),
            (
                Method::POST,
                format!("/messageexchange/X26ABC1/outbox/{id}/2"),
                Some("send_chunk"),
            ),
            (
                Method::GET,
                "/messageexchange/X26ABC1/outbox/rich".to_owned(),
                Some("outbox_rich"),
            ),
            (
                Method::GET,
                "/messageexchange/X26ABC1/outbox/tracking".to_owned(),
                Some("track"),
            ),
            (
                Method::GET,
                "/messageexchange/X26ABC1/outbox/tracking/a%20b".to_owned(),
                Some("track_local"),
            ),
            (Method::GET, "/messageexchange/X26ABC1/count".to_owned(), Some("count")),
            (
                Method::POST,
                "/messageexchange/X26ABC1/update".to_owned(),
                Some("update"),
            ),
            (
                Method::GET,
                "/messageexchange/endpointlookup/X26/W".to_owned(),
                Some("endpointlookup"),
            ),
            (
                Method::GET,
                "/messageexchange/workflowsearch/W".to_owned(),
                Some("workflowsearch"),
            ),
            (Method::GET, "/messageexchange".to_owned(), None),
            (Method::GET, "/".to_owned(), None),
            (Method::GET, String::new(), None),
            (Method::GET, "//messageexchange/_ping".to_owned(), None),
            (Method::GET, "/messageexchange//inbox".to_owned(), None),
            (Method::GET, "/messageexchange/a/b/c/d/e/f/g/h".to_owned(), None),
            (Method::GET, "/messageexchange/%ff/inbox".to_owned(), None),
        ] {
            assert_eq!(label(method, &path, false), expected, "{path}");
        }
    }

    #[test]
    fn test_only_calls_exist_only_in_the_sandbox() {
        for route in ROUTES.iter().filter(|route| matches!(route.does, Test(_))) {
            let path = route.template().replace(['{', '}'], "");
            assert_eq!(label(route.method.clone(), &path, true), Some(route.label), "{path}");
            assert_ne!(label(route.method.clone(), &path, false), Some(route.label), "{path}");
        }
    }

    #[test]
    fn another_method_names_those_there_are() {
        let Found::OtherMethods(allow) = find(&Method::DELETE, "/messageexchange/X26ABC1", false) else {
            panic!("405 expected");
        };
        assert_eq!(allow, "POST, GET");
    }

    #[test]
    fn parameters_are_decoded() {
        let Found::Route(_, found) = find(&Method::GET, "/messageexchange/endpointlookup/X26/A%20B%2FC", false) else {
            panic!("found");
        };
        assert_eq!((found.ods.as_str(), found.name.as_str()), ("X26", "A B/C"));
    }

    #[test]
    fn no_path_is_longer_than_the_router_reads() {
        assert!(ROUTES.iter().all(|route| route.path.len() <= SEGMENTS_MAX));
    }
}
