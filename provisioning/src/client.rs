//! What runs on a node: enrol, tell how far the boot came, check in.
//!
//! Owns: the node's own copy of who it is, and the files that Puppet reads. Must never know: the inventory. Invariants:
//! the boot service is believed only under the boot CA; an enrolled node needs no boot service to boot again; the token
//! stands in two files of mode 0600 until there is a certificate, then in none.

mod host;
mod puppet;

pub use host::Host;

use crate::http_client::{ClientError, Service, get_unix};
use crate::names::{HostName, Mac, Moment, ReleaseId, Stage, Word, now, shown, shown_long};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Waits between two tries to enrol: doubled from the first to the last.
const WAIT_FIRST: Duration = Duration::from_millis(500);
const WAIT_LAST: Duration = Duration::from_secs(15);

/// Why a node did not get on.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// No service, no CA, no answer.
    #[error("boot service: {0}")]
    Client(#[from] ClientError),
    /// A file of this host.
    #[error("{file}: {cause}")]
    Io {
        /// The file.
        file: PathBuf,
        /// The system's words.
        cause: io::Error,
    },
    /// Nothing to be found by.
    #[error("no network interface with a MAC address; name one with --mac")]
    NoMac,
    /// Too long.
    #[error("not enrolled after {seconds} seconds: {last}; arm the machine: vertebra-provisioning arm NODE")]
    Deadline {
        /// How long it was tried.
        seconds: u64,
        /// What was heard last.
        last: String,
    },
    /// The answer is not a node document.
    #[error("the boot service's node document is not what it must be: {0}")]
    Document(String),
    /// Nobody said which release this is.
    #[error("the kernel's command line names no vertebra.release; name one with --release")]
    NoRelease,
    /// Never enrolled.
    #[error("this machine is not enrolled yet: {0} is not there")]
    NotEnrolled(PathBuf),
    /// The node does not take writes.
    #[error("the node is not ready: {0}")]
    NotReady(String),
    /// The service said no.
    #[error("the boot service refused: {0}")]
    Refused(String),
}

/// The answer to an enrolment. Fields that are not known here are left alone.
#[derive(Deserialize)]
struct NodeDocument {
    format: u32,
    certname: HostName,
    role: Word,
    datacentre: Word,
    puppet_server: HostName,
    token: String,
    token_expires: Moment,
    report_key: String,
}

/// What the node keeps on its data disk: `/var/lib/vertebra/host/enrolment.json`.
#[derive(Clone, Serialize, Deserialize)]
pub struct Enrolled {
    /// 1.
    pub format: u32,
    /// The node.
    pub certname: HostName,
    /// Its role, as Puppet's trusted fact.
    pub role: Word,
    /// Its data centre, as Puppet's trusted fact.
    pub datacentre: Word,
    /// Whom Puppet asks.
    pub puppet_server: HostName,
    /// The key of its reports. Secret.
    pub report_key: String,
    /// The token, until there is a certificate. Secret.
    pub token: Option<String>,
    /// When it is worth nothing.
    pub token_expires: Moment,
    /// When this was.
    pub enrolled_at: Moment,
}

/// How an enrolment ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was enrolled before; files were brought back.
    Already,
    /// It is enrolled now.
    Now,
}

fn hexadecimal(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

impl NodeDocument {
    fn parse(body: &[u8]) -> Result<NodeDocument, NodeError> {
        let bad = |what: String| NodeError::Document(shown_long(&what));
        let document: NodeDocument = serde_json::from_slice(body).map_err(|error| bad(error.to_string()))?;
        if document.format != 1 {
            return Err(bad(format!("format {}", document.format)));
        }
        if !hexadecimal(&document.token) || !hexadecimal(&document.report_key) {
            return Err(bad("a secret in it is not 64 hexadecimal digits".to_owned()));
        }
        Ok(document)
    }
}

/// Makes this machine a known one: once over the network, later from its own disk.
/// `service` is called when there is somebody to ask.
pub fn enrol(
    host: &Host,
    service: impl FnOnce() -> Result<Service, NodeError>,
    mac: Option<&Mac>,
    patience: Duration,
) -> Result<Outcome, NodeError> {
    if let Some(enrolled) = host.enrolled()? {
        let certified = host.has_certificate(&enrolled.certname);
        if certified || (enrolled.token.is_some() && now() < enrolled.token_expires) {
            let mut enrolled = enrolled;
            if certified && enrolled.token.take().is_some() {
                host.keep(&enrolled)?;
            }
            puppet::write(host, &enrolled)?;
            return Ok(Outcome::Already);
        }
    }
    let macs = match mac {
        Some(mac) => vec![mac.clone()],
        None => host.macs(),
    };
    if macs.is_empty() {
        return Err(NodeError::NoMac);
    }
    let service = service()?;
    let document = ask(host, &service, &macs, patience)?;
    let enrolled = Enrolled {
        format: 1,
        certname: document.certname,
        role: document.role,
        datacentre: document.datacentre,
        puppet_server: document.puppet_server,
        report_key: document.report_key,
        token: Some(document.token),
        token_expires: document.token_expires,
        enrolled_at: now(),
    };
    // On the disk first: the token is not handed out a second time.
    host.keep(&enrolled)?;
    puppet::write(host, &enrolled)?;
    // For the status page alone.
    let _ = report(host, &service, None, Stage::Enrolled, None);
    Ok(Outcome::Now)
}

/// Asks until the machine is armed, or it took too long.
fn ask(host: &Host, service: &Service, macs: &[Mac], patience: Duration) -> Result<NodeDocument, NodeError> {
    let serial = host.serial();
    let start = Instant::now();
    let mut wait = WAIT_FIRST;
    let mut told = String::new();
    loop {
        let mut last = String::new();
        for mac in macs {
            let mut body = json!({"mac": mac.as_str()});
            if let Some(serial) = &serial {
                body["serial"] = json!(serial);
            }
            match service.post("/v1/enrol", &body, None, PATIENCE) {
                Ok(answer) if answer.status == 200 => return NodeDocument::parse(&answer.body),
                Ok(answer) => last = sentence(&answer.body),
                Err(error @ (ClientError::Url(_) | ClientError::Ca { .. })) => return Err(error.into()),
                Err(error @ (ClientError::Io { .. } | ClientError::Answer { .. })) => last = error.to_string(),
            }
        }
        if last != told {
            eprintln!("waiting: {last}");
            told.clone_from(&last);
        }
        if start.elapsed() + wait > patience {
            let seconds = start.elapsed().as_secs();
            return Err(NodeError::Deadline { seconds, last });
        }
        std::thread::sleep(wait);
        wait = (wait * 2).min(WAIT_LAST);
    }
}

/// The sentence of a refusal.
fn sentence(body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    shown_long(value["sentence"].as_str().unwrap_or("it gave no reason"))
}

/// Tells the boot service how far the boot came.
pub fn report(
    host: &Host,
    service: &Service,
    mac: Option<&Mac>,
    stage: Stage,
    failed: Option<&str>,
) -> Result<(), NodeError> {
    let mut body = json!({"stage": stage.as_str()});
    if let Some(release) = host.release() {
        body["release"] = json!(release.as_str());
    }
    if let Some(failed) = failed {
        body["failed"] = json!(shown_long(failed));
    }
    // A machine that is enrolled proves who it is; before that its MAC must do.
    let enrolled = host.enrolled().ok().flatten();
    let key = match (&enrolled, mac) {
        (Some(enrolled), None) => {
            body["certname"] = json!(enrolled.certname.as_str());
            Some(enrolled.report_key.as_str())
        }
        (_, mac) => {
            let mac = mac
                .cloned()
                .or_else(|| host.macs().into_iter().next())
                .ok_or(NodeError::NoMac)?;
            body["mac"] = json!(mac.as_str());
            None
        }
    };
    let answer = service.post("/v1/stage", &body, key, PATIENCE)?;
    match answer.status {
        204 => Ok(()),
        _ => Err(NodeError::Refused(sentence(&answer.body))),
    }
}

/// Tells the boot service that this node takes writes with this release; or why it does not.
pub fn check_in(host: &Host, service: &Service, release: Option<ReleaseId>) -> Result<ReleaseId, NodeError> {
    let enrolled = host
        .enrolled()?
        .ok_or_else(|| NodeError::NotEnrolled(host.enrolment_file()))?;
    let release = release.or_else(|| host.release()).ok_or(NodeError::NoRelease)?;
    let ready = get_unix(&host.admin_socket(), "/health/ready", PATIENCE);
    let why = match ready {
        Ok(answer) if answer.status == 200 => None,
        Ok(answer) => Some(format!(
            "{} {}",
            answer.status,
            shown(String::from_utf8_lossy(&answer.body).trim())
        )),
        Err(error) => Some(error.to_string()),
    };
    if let Some(why) = why {
        // That the report fails too changes nothing: the node's own trouble is the answer.
        let _ = report(host, service, None, Stage::Serving, Some(&why));
        return Err(NodeError::NotReady(why));
    }
    let body = json!({"certname": enrolled.certname.as_str(), "release": release.as_str()});
    let answer = service.post("/v1/check-in", &body, Some(&enrolled.report_key), PATIENCE)?;
    match answer.status {
        204 => Ok(release),
        _ => Err(NodeError::Refused(sentence(&answer.body))),
    }
}
