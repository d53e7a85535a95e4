//! `vertebra sandbox`: a cluster of one, or of several, that a newcomer starts with one command.

mod beside;
mod cluster;
mod tokens;

pub(super) use tokens::SandboxTokens;

use super::certificates::{self, CertificateError};
use super::client::{Door, PATIENCE, refusal};
use super::directory::{mailbox, put_mailbox, put_workflow, workflows};
use super::{CliError, print};
use crate::admin::directory::{MailboxChange, WorkflowChange};
use crate::admin::patients::VersionView;
use crate::admin::status::Status;
use crate::config::{Config, LogLevel};
use crate::node::{self, Started};
use crate::services::pds::api::ReadEntries;
use crate::services::pds::load::BATCH_LINES_MAX;
use crate::services::pds::synth::{People, WELL_KNOWN};
use serde::{Deserialize, Serialize};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Folder of everything: certificates, data, sandbox.json; made when absent, kept across restarts
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where clients connect; port 0 takes a free one. Of several members each has the port after the one before
    #[arg(long, default_value = "127.0.0.1:8700")]
    listen: SocketAddr,
    /// How many members, each a process of its own: one; two in two sites; three with a witness; at most five
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=cluster::MEMBERS_MAX))]
    members: u64,
    /// Loopback address of metrics, health and administration [default: the port after --listen]
    #[arg(long, conflicts_with = "members")]
    admin_listen: Option<SocketAddr>,
    /// Threads that serve, 1 to 256 [default: one for each core but the log's, at most 4]
    #[arg(long, conflicts_with = "members", value_parser = clap::value_parser!(u64).range(1..=256))]
    reactors: Option<u64>,
    #[command(flatten)]
    beside: beside::Args,
    /// error, warn, info, debug or trace, to standard error
    #[arg(long, value_name = "LEVEL", default_value = "warn", value_parser = level)]
    log_level: LogLevel,
    /// For the bench: answers reads of demographics before their audit entries are durable, or without any
    #[arg(long, value_name = "behind|absent", hide = true, value_parser = read_entries)]
    read_entries: Option<ReadEntries>,
}

fn level(text: &str) -> Result<LogLevel, String> {
    match text {
        "error" => Ok(LogLevel::Error),
        "warn" => Ok(LogLevel::Warn),
        "info" => Ok(LogLevel::Info),
        "debug" => Ok(LogLevel::Debug),
        "trace" => Ok(LogLevel::Trace),
        _ => Err("give error, warn, info, debug or trace".to_owned()),
    }
}

fn read_entries(text: &str) -> Result<ReadEntries, String> {
    match text {
        "behind" => Ok(ReadEntries::Behind),
        "absent" => Ok(ReadEntries::Absent),
        _ => Err("give behind or absent".to_owned()),
    }
}

/// `sandbox.json`: what a client or a test needs to know. Its shape is stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sandbox {
    /// The front door.
    pub(super) url: String,
    /// Administration, metrics, health.
    pub(super) admin_url: String,
    /// PEM file of the authority.
    pub(super) ca: PathBuf,
    /// A client certificate that may act for every seeded mailbox.
    pub(super) client_certificate: PathBuf,
    /// Its key.
    pub(super) client_key: PathBuf,
    /// Message exchange.
    pub(super) mesh: SandboxMesh,
    /// Demographics.
    pub(super) pds: SandboxPds,
    /// Access tokens and how to get them.
    pub(super) tokens: SandboxTokens,
    /// The members, where there are several; `url` is the first one's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) members: Vec<SandboxMember>,
}

/// One member of several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SandboxMember {
    /// Number.
    pub(super) id: u64,
    /// Name.
    pub(super) name: String,
    /// Data centre.
    pub(super) site: String,
    /// Its front door.
    pub(super) url: String,
    /// Its configuration file.
    pub(super) config: PathBuf,
    /// Its operator's socket.
    pub(super) socket: PathBuf,
}

/// The part on message exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SandboxMesh {
    /// HMAC key of tokens.
    pub(super) shared_key: String,
    /// The seeded mailboxes.
    pub(super) mailboxes: Vec<SandboxMailbox>,
}

/// A seeded mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SandboxMailbox {
    /// Identifier.
    pub(super) id: String,
    /// Password.
    pub(super) password: String,
    /// Its client certificate.
    pub(super) client_certificate: PathBuf,
    /// Its key.
    pub(super) client_key: PathBuf,
}

/// The part on demographics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SandboxPds {
    /// The specification's example patients, then synthetic people.
    pub(super) nhs_numbers: Vec<String>,
}

const FILE: &str = "sandbox.json";
const SHARED_KEY: &str = "TestKey";
const PASSWORD: &str = "password";
/// Synthetic people, beside the specification's example patients.
const PEOPLE: u64 = 500;
/// Which people: always the same.
const PEOPLE_SEED: u64 = 1;
/// Identifier and ODS code of each seeded mailbox.
const MAILBOXES: [(&str, &str); 3] = [("X26ABC1", "X26"), ("X26ABC2", "X26"), ("X26ABC3", "X27")];
/// Identifier, senders and receivers of each seeded workflow.
const WORKFLOWS: [(&str, &[&str], &[&str]); 3] = [
    ("TEST_WORKFLOW", &["X26ABC1"], &["X26ABC2"]),
    ("TEST_WORKFLOW_ACK", &["X26ABC2"], &["X26ABC1", "X26ABC3"]),
    ("TEST_WORKFLOW2", &["X26ABC1"], &["X26ABC1", "X26ABC2", "X26ABC3"]),
];

impl From<CertificateError> for CliError {
    fn from(error: CertificateError) -> CliError {
        CliError::Failed(error.to_string())
    }
}

impl Sandbox {
    /// What is true of a sandbox of one in `folder` that answers at `started`.
    pub(super) fn of(folder: &Path, started: Started, tokens: SandboxTokens) -> Sandbox {
        let mailboxes = MAILBOXES.iter().map(|(id, _)| SandboxMailbox {
            id: (*id).to_owned(),
            password: PASSWORD.to_owned(),
            client_certificate: folder.join(format!("{id}.pem")),
            client_key: folder.join(format!("{id}.key")),
        });
        Sandbox {
            url: format!("https://{}", started.http),
            admin_url: format!("http://{}", started.admin),
            ca: folder.join("ca.pem"),
            client_certificate: folder.join("sandbox.pem"),
            client_key: folder.join("sandbox.key"),
            mesh: SandboxMesh {
                shared_key: SHARED_KEY.to_owned(),
                mailboxes: mailboxes.collect(),
            },
            tokens,
            pds: SandboxPds {
                nhs_numbers: nhs_numbers(),
            },
            members: Vec::new(),
        }
    }

    /// Reads `sandbox.json`, which is there while the sandbox runs.
    pub(super) fn read(folder: &Path) -> Result<Sandbox, CliError> {
        let file = folder.join(FILE);
        let text = fs::read(&file).map_err(|cause| CliError::NotRunning {
            door: file.display().to_string(),
            cause: cause.to_string(),
        })?;
        serde_json::from_slice(&text).map_err(|cause| CliError::Failed(format!("{}: {cause}", file.display())))
    }

    /// Its door for operators; of several members the first one's.
    pub(super) fn door(&self) -> Result<Door, CliError> {
        if let Some(first) = self.members.first() {
            return Ok(Door::Socket(first.socket.clone()));
        }
        let address = self
            .admin_url
            .strip_prefix("http://")
            .and_then(|text| text.parse().ok());
        address
            .map(Door::Loopback)
            .ok_or_else(|| CliError::Failed(format!("{FILE}: admin_url is not an address")))
    }
}

/// The configuration with which a stopped sandbox's data is opened.
pub(super) fn stored_config(folder: &Path) -> Result<Config, CliError> {
    let folder =
        std::path::absolute(folder).map_err(|cause| CliError::Usage(format!("{}: {cause}", folder.display())))?;
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Ok(Config::sandbox(&folder, nowhere, nowhere))
}

pub(super) fn run(args: &Args) -> Result<u8, CliError> {
    let folder = std::path::absolute(&args.data)
        .map_err(|cause| CliError::Usage(format!("{}: {cause}", args.data.display())))?;
    if args.members > 1 {
        return cluster::run(&cluster::Wanted {
            folder,
            listen: args.listen,
            members: args.members,
            redis: args.beside.redis()?,
            // Their lines go to files, where nobody minds more of them.
            level: match args.log_level {
                LogLevel::Error | LogLevel::Warn => LogLevel::Info,
                more => more,
            },
        });
    }
    let admin = match args.admin_listen {
        Some(address) => address,
        None => {
            let port = args.listen.port();
            SocketAddr::from((
                Ipv4Addr::LOCALHOST,
                if port == 0 { 0 } else { port.checked_add(1).unwrap_or(0) },
            ))
        }
    };
    if !admin.ip().is_loopback() {
        return Err(CliError::Usage(
            "--admin-listen must be a loopback address, 127.0.0.1:8701 say".to_owned(),
        ));
    }
    let mut config = Config::sandbox(&folder, args.listen, admin);
    if let Some(reactors) = args.reactors {
        config.http.reactors = reactors;
    }
    config.logging.level = args.log_level;
    config.rabbitmq = args.beside.rabbitmq()?;
    config.redis = args.beside.redis()?;
    if args.read_entries.is_some() {
        eprintln!("vertebra: --read-entries is for the bench: reads are answered without waiting for the audit");
    }
    // A second sandbox on this folder ends here, before it touches the files of the first.
    make_folder(&folder)?;
    drop(
        config
            .lock_data()
            .map_err(|error| CliError::Failed(error.to_string()))?,
    );
    prepare(&folder)?;
    let application_key = {
        let folder = folder.clone();
        std::thread::spawn(move || tokens::make_application_key(&folder))
    };
    let failed = Arc::new(AtomicBool::new(false));
    let greeter = {
        let (folder, failed) = (folder.clone(), failed.clone());
        Box::new(move |started| greet(&folder, started, application_key, &failed))
    };
    let mode = node::Mode::Sandbox {
        data: folder.clone(),
        started: greeter,
        read_entries: args.read_entries.unwrap_or_default(),
    };
    let ended = node::run(config, mode);
    let _ = fs::remove_file(folder.join(FILE));
    ended.map_err(|error| CliError::Failed(error.to_string()))?;
    Ok(u8::from(failed.load(Ordering::Relaxed)))
}

/// Makes the folder, closed to others.
fn make_folder(folder: &Path) -> Result<(), CliError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|cause| CliError::Failed(format!("{}: {cause}", folder.display())))
}

/// Makes folder, certificates and key; removes what an earlier run left behind to say that it is ready.
pub(super) fn prepare(folder: &Path) -> Result<(), CliError> {
    make_folder(folder)?;
    let io = |cause: std::io::Error| CliError::Failed(format!("{}: {cause}", folder.display()));
    match fs::remove_file(folder.join(FILE)) {
        Ok(()) => {}
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
        Err(cause) => return Err(io(cause)),
    }
    let names: Vec<(String, String)> = MAILBOXES
        .iter()
        .map(|(id, ods)| ((*id).to_owned(), format!("{id}.{ods}.api.mesh-client.nhs.uk")))
        .chain([("sandbox".to_owned(), "sandbox".to_owned())])
        .collect();
    let clients: Vec<(&str, &str)> = names
        .iter()
        .map(|(file, name)| (file.as_str(), name.as_str()))
        .collect();
    certificates::make_missing(folder, &clients)?;
    let key = folder.join("shared.key");
    if !key.is_file() {
        certificates::write(&key, &format!("{SHARED_KEY}\n"), 0o600)?;
    }
    tokens::make_missing(folder)
}

/// The application's key, as a thread makes it.
type KeyThread = std::thread::JoinHandle<Result<(), CliError>>;

/// Seeds a node that serves, says so in `sandbox.json` and on standard output.
fn greet(folder: &Path, started: Started, application_key: KeyThread, failed: &AtomicBool) {
    let made = application_key
        .join()
        .unwrap_or_else(|_| Err(CliError::Failed("the application's key was not made".to_owned())));
    let filled = made.and_then(|()| fill(folder, started, Vec::new()));
    let greeted = filled.and_then(|sandbox| Ok(greeting(folder, &sandbox, version(&sandbox.door()?)?)));
    match greeted {
        Ok(text) => print(&text),
        Err(error) => {
            eprintln!("vertebra: the sandbox could not be filled: {error}");
            failed.store(true, Ordering::Relaxed);
            // The node ends as on Ctrl-C: a sandbox without its mailboxes helps nobody.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGTERM);
        }
    }
}

/// Seeds, and writes `sandbox.json`.
fn fill(folder: &Path, started: Started, members: Vec<SandboxMember>) -> Result<Sandbox, CliError> {
    let tokens = tokens::describe(folder, &format!("https://{}", started.http))?;
    let mut sandbox = Sandbox::of(folder, started, tokens);
    sandbox.members = members;
    let door = sandbox.door()?;
    seed(&door)?;
    tokens::seed(folder, &door)?;
    for (who, token) in [("worker", &sandbox.tokens.worker), ("patient", &sandbox.tokens.patient)] {
        let header = format!("Authorization: Bearer {token}\n");
        certificates::write(&folder.join(format!("{who}.header")), &header, 0o600)?;
    }
    let text = serde_json::to_string_pretty(&sandbox).expect("it has a JSON form");
    certificates::write(&folder.join(FILE), &format!("{text}\n"), 0o600)?;
    Ok(sandbox)
}

/// The version of the record that the greeting changes.
fn version(door: &Door) -> Result<u32, CliError> {
    #[derive(Deserialize)]
    struct History {
        versions: Vec<VersionView>,
    }
    let wanted = format!("{{\"number\":\"{}\"}}", tokens::NHS_NUMBER);
    let history: History = door.json("POST", "/admin/patients/history", wanted.as_bytes())?;
    Ok(history.versions.first().map_or(1, |newest| newest.version))
}

/// Adds people, mailboxes and workflows that are not there yet; what a user changed stays.
fn seed(door: &Door) -> Result<(), CliError> {
    seed_people(door)?;
    for (id, ods) in MAILBOXES {
        if mailbox(door, id)?.is_none() {
            let change = MailboxChange {
                name: Some(format!("{id} test mailbox")),
                ods: Some(ods.to_owned()),
                organisation: Some(format!("{ods} test organisation")),
                billing_entity: Some(ods.to_owned()),
                password: Some(PASSWORD.to_owned()),
                only_new: true,
                ..MailboxChange::default()
            };
            put_mailbox(door, id, &change)?;
        }
    }
    let there = workflows(door)?;
    for (id, senders, receivers) in WORKFLOWS {
        if !there.iter().any(|workflow| workflow.id == id) {
            let own = |members: &[&str]| members.iter().map(|member| (*member).to_owned()).collect();
            put_workflow(
                door,
                id,
                &WorkflowChange {
                    senders: own(senders),
                    receivers: own(receivers),
                },
            )?;
        }
    }
    Ok(())
}

/// The numbers of everybody that [`seed_people`] loads.
fn nhs_numbers() -> Vec<String> {
    let people = People::new(PEOPLE_SEED);
    let well_known = WELL_KNOWN.lines().filter_map(|line| {
        let resource: serde_json::Value = serde_json::from_str(line).ok()?;
        let patient = resource["resourceType"] == "Patient";
        resource["id"].as_str().filter(|_| patient).map(str::to_owned)
    });
    well_known
        .chain((0..PEOPLE).map(|index| people.number(index).to_string()))
        .collect()
}

/// Loads the people unless they are all there: records are never removed, so counting them tells. A start that needs
/// nothing writes nothing.
fn seed_people(door: &Door) -> Result<(), CliError> {
    let status: Status = door.json("GET", "/admin/status", b"")?;
    if status.patients >= nhs_numbers().len() as u64 {
        return Ok(());
    }
    let people = People::new(PEOPLE_SEED);
    let mut lines = WELL_KNOWN.as_bytes().to_vec();
    for index in 0..PEOPLE {
        people.write(index, &mut lines);
    }
    assert!(
        memchr::memchr_iter(b'\n', &lines).count() <= BATCH_LINES_MAX,
        "one batch holds them"
    );
    match door.ask("POST", "/admin/load", &lines, PATIENCE)? {
        (200, _) => Ok(()),
        (status, answer) => Err(CliError::Refused(refusal(status, &answer))),
    }
}

/// A word for the shell, quoted when it needs to be.
pub(super) fn quoted(text: &str) -> String {
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | ':' | '=' | '@' | '%' | '+' | ',');
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// How to read, find and change a patient; every command works as pasted.
fn demographics(folder: &Path, sandbox: &Sandbox, version: u32) -> String {
    let path = |file: &Path| quoted(&file.to_string_lossy());
    let curl = format!(
        "curl -sS --cacert {} -H @{} \\\n    -H \"X-Request-ID: $(cat /proc/sys/kernel/random/uuid)\"",
        path(&sandbox.ca),
        path(&folder.join("worker.header"))
    );
    let url = format!("{}/personal-demographics/FHIR/R4/Patient", sandbox.url);
    let number = tokens::NHS_NUMBER;
    let change = r#"{"patches": [{"op": "replace", "path": "/gender", "value": "male"}]}"#;
    format!(
        "Read a patient as a healthcare worker, and search:\n\n  {curl} \\\n    {url}/{number}\n\n  {curl} \\\n    \
         '{url}?family=Sm*&gender=female&birthdate=eq2010-10-22'\n\n\
         Change the version that you read; the same again is a 409, for by then it is stale:\n\n  {curl} \\\n    \
         -X PATCH -H 'If-Match: W/\"{version}\"' -H 'Content-Type: application/json-patch+json' \\\n    \
         -d '{change}' \\\n    {url}/{number}\n\n"
    )
}

/// How to send a first message; every command works as pasted.
pub(super) fn greeting(folder: &Path, sandbox: &Sandbox, version: u32) -> String {
    let program =
        std::env::current_exe().map_or_else(|_| "vertebra".to_owned(), |path| quoted(&path.to_string_lossy()));
    let path = |file: &Path| quoted(&file.to_string_lossy());
    let dir = path(folder);
    let curl = |mailbox: &SandboxMailbox| {
        format!(
            "curl -sS --cacert {} --cert {} --key {} \\\n    -H \"$({program} mailbox token --sandbox {dir} {})\"",
            path(&sandbox.ca),
            path(&mailbox.client_certificate),
            path(&mailbox.client_key),
            mailbox.id
        )
    };
    let (one, two) = (&sandbox.mesh.mailboxes[0], &sandbox.mesh.mailboxes[1]);
    let url = &sandbox.url;
    let venv = path(&folder.join("venv"));
    let py = |file: &Path| format!("{:?}", file.to_string_lossy());
    let mut text = format!(
        "Vertebra sandbox is ready at {url}  (stop it with Ctrl-C)\nClient certificates are optional here; a node demands them.\n\n"
    );
    text += &format!(
        "Send a message from {} to {}:\n\n  {} \\\n    -H 'Mex-To: {}' -H 'Mex-WorkflowID: TEST_WORKFLOW' --data-binary 'hello' \\\n    {url}/messageexchange/{}/outbox\n\n",
        one.id,
        two.id,
        curl(one),
        two.id,
        one.id
    );
    text += &format!(
        "See it in the inbox of {}:\n\n  {} \\\n    {url}/messageexchange/{}/inbox\n\n",
        two.id,
        curl(two),
        two.id
    );
    text += &format!(
        "The same in Python, with the published client in an environment of its own:\n\n  \
         python3 -m venv {venv} && {venv}/bin/pip install -q mesh-client\n\n\
         {venv}/bin/python3 - <<'EOF'\n\
         from mesh_client import MeshClient\n\
         def mailbox(name, cert, key):\n    \
             return MeshClient({url:?}, name, {PASSWORD:?}, shared_key=b{SHARED_KEY:?}, verify={}, cert=(cert, key))\n\
         with mailbox({:?}, {}, {}) as one, mailbox({:?}, {}, {}) as two:\n    \
             print(\"sent\", one.send_message({:?}, b\"hello\", workflow_id=\"TEST_WORKFLOW\"))\n    \
             for message in two.iterate_all_messages():\n        \
                 print(\"received\", message.id(), message.read())\n        \
                 message.acknowledge()\n\
         EOF\n\n",
        py(&sandbox.ca),
        one.id,
        py(&one.client_certificate),
        py(&one.client_key),
        two.id,
        py(&two.client_certificate),
        py(&two.client_key),
        two.id,
    );
    text += &demographics(folder, sandbox, version);
    text += &format!(
        "Everything else: {}\n  {program} status --sandbox {dir}\n  {program} mailbox list --sandbox {dir}\n  curl -s {}/metrics\n",
        path(&folder.join(FILE)),
        sandbox.admin_url
    );
    text
}
