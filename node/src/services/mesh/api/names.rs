//! Header names, made once. Clients treat them without regard to case, as HTTP does.

use ::http::HeaderName;

macro_rules! names {
    ($($constant:ident = $text:literal),* $(,)?) => {
        $(pub(super) static $constant: HeaderName = HeaderName::from_static($text);)*
    };
}

names! {
    MEX_FROM = "mex-from",
    MEX_TO = "mex-to",
    MEX_WORKFLOW_ID = "mex-workflowid",
    MEX_CHUNK_RANGE = "mex-chunk-range",
    MEX_TOTAL_CHUNKS = "mex-total-chunks",
    MEX_ADDRESS_TYPE = "mex-addresstype",
    MEX_LOCAL_ID = "mex-localid",
    MEX_PARTNER_ID = "mex-partnerid",
    MEX_FILE_NAME = "mex-filename",
    MEX_SUBJECT = "mex-subject",
    MEX_VERSION = "mex-version",
    MEX_MESSAGE_TYPE = "mex-messagetype",
    MEX_MESSAGE_ID = "mex-messageid",
    MEX_LINKED_MESSAGE_ID = "mex-linkedmsgid",
    MEX_STATUS_CODE = "mex-statuscode",
    MEX_STATUS_EVENT = "mex-statusevent",
    MEX_STATUS_DESCRIPTION = "mex-statusdescription",
    MEX_STATUS_SUCCESS = "mex-statussuccess",
    MEX_STATUS_TIMESTAMP = "mex-statustimestamp",
    MEX_CONTENT_COMPRESSED = "mex-content-compressed",
    MEX_CONTENT_ENCRYPTED = "mex-content-encrypted",
    MEX_CONTENT_CHECKSUM = "mex-content-checksum",
    MEX_CONTENT_TYPE = "mex-content-type",
    MEX_CLIENT_VERSION = "mex-clientversion",
    MEX_OS_NAME = "mex-osname",
    MEX_OS_VERSION = "mex-osversion",
    MEX_OS_ARCHITECTURE = "mex-osarchitecture",
    MEX_JAVA_VERSION = "mex-javaversion",
    CONTENT_TYPE = "content-type",
    CONTENT_ENCODING = "content-encoding",
    LAST_MODIFIED = "last-modified",
    STATE_AGE = "vertebra-state-age",
}
