//! `vertebra sandbox --members N`: a cluster on one machine, each member a process of its own with a configuration file
//! like a real one's. This process makes the files, starts the members, fills the cluster once it can be written, and
//! looks after the processes: one that ends by itself is started again, one that was killed stays down until the reader
//! says so.

use super::{Sandbox, SandboxMember, fill, make_folder, prepare, quoted, tokens};
use crate::admin::status::Status;
use crate::cli::certificates::{self, make_peers};
use crate::cli::client::Door;
use crate::cli::{CliError, print};
use crate::config::{Cluster, Config, LogLevel, Redis, sandbox_socket};
use crate::node::Started;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{self, BufRead as _};
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Name and site of each member, in the order of their numbers.
const PLACES: [(&str, &str); 5] = [
    ("n1.north", "north"),
    ("n1.south", "south"),
    ("w1.witness", "witness"),
    ("n2.north", "north"),
    ("n2.south", "south"),
];
/// The most members.
pub(super) const MEMBERS_MAX: u64 = PLACES.len() as u64;
/// Ports after the front door's at which administration and peers are.
const ADMIN_AFTER: u16 = 10;
const PEER_AFTER: u16 = 20;
/// How long until all members vote; it only catches hangs.
const READY_MAX: Duration = Duration::from_secs(60);
/// How long a member may take to stop.
const STOP_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// As `RestartSec=` of the unit.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// What a cluster is made of.
pub(super) struct Wanted {
    /// Its folder, absolute.
    pub(super) folder: PathBuf,
    /// The first member's front door; each further member has the port after.
    pub(super) listen: SocketAddr,
    pub(super) members: u64,
    pub(super) level: LogLevel,
    pub(super) redis: Option<Redis>,
}

/// One member and its process.
struct Member {
    shown: SandboxMember,
    log: PathBuf,
    pid: PathBuf,
    child: Option<Child>,
    /// When it is started again by itself.
    again: Option<Instant>,
}

fn failed(file: &Path, cause: impl std::fmt::Display) -> CliError {
    CliError::Failed(format!("{}: {cause}", file.display()))
}

/// Runs until SIGINT or SIGTERM.
pub(super) fn run(wanted: &Wanted) -> Result<u8, CliError> {
    make_folder(&wanted.folder)?;
    let mut members = members(wanted)?;
    prepare(&wanted.folder)?;
    tokens::make_application_key(&wanted.folder)?;
    for (member, config) in members.iter().zip(configs(wanted)?) {
        write_config(member, &config)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| CliError::Failed(cause.to_string()))?;
    let ended = runtime.block_on(look_after(wanted, &mut members));
    stop(&mut members);
    let _ = fs::remove_file(wanted.folder.join(super::FILE));
    ended.map(|()| 0)
}

/// The configuration of each member: the sandbox's, with an identity, a data folder and peers.
fn configs(wanted: &Wanted) -> Result<Vec<Config>, CliError> {
    let folder = &wanted.folder;
    let address = |n: u16, after: u16| {
        let port = wanted.listen.port().checked_add(after + n).ok_or_else(|| {
            CliError::Usage("--listen: a cluster takes 25 ports from there on; give a lower one".to_owned())
        })?;
        Ok::<SocketAddr, CliError>(SocketAddr::new(wanted.listen.ip(), port))
    };
    let mut token_urls = Vec::new();
    for n in 0..wanted.members as u16 {
        token_urls.push(format!("https://{}/oauth2/token", address(n, 0)?));
    }
    let founder = address(0, PEER_AFTER)?.to_string();
    let mut configs = Vec::new();
    for (n, (name, site)) in (0..wanted.members as u16).zip(PLACES) {
        let peer = address(n, PEER_AFTER)?;
        let mut config = Config::sandbox(folder, address(n, 0)?, address(n, ADMIN_AFTER)?);
        config.node.id = u64::from(n) + 1;
        name.clone_into(&mut config.node.name);
        site.clone_into(&mut config.node.site);
        config.node.data = folder.join(name);
        config.http.reactors = 1;
        config.admin.socket = sandbox_socket(folder, name);
        config.tokens.token_urls.clone_from(&token_urls);
        config.logging.level = wanted.level;
        config.redis.clone_from(&wanted.redis);
        let mut cluster = Cluster::sandbox(&folder.join("peers"), name, peer);
        cluster.peers.extend((n > 0).then(|| founder.clone()));
        config.cluster = Some(cluster);
        configs.push(config);
    }
    Ok(configs)
}

fn members(wanted: &Wanted) -> Result<Vec<Member>, CliError> {
    let names: Vec<&str> = PLACES.iter().map(|(name, _)| *name).collect();
    let peers = wanted.folder.join("peers");
    make_folder(&peers)?;
    make_peers(&peers, &names)?;
    let member = |config: Config| {
        let file = |suffix: &str| wanted.folder.join(format!("{}.{suffix}", config.node.name));
        Member {
            shown: SandboxMember {
                id: config.node.id,
                url: format!("https://{}", config.http.listen),
                config: file("toml"),
                socket: config.admin.socket.clone(),
                site: config.node.site.clone(),
                name: config.node.name.clone(),
            },
            log: file("log"),
            pid: file("pid"),
            child: None,
            again: None,
        }
    };
    Ok(configs(wanted)?.into_iter().map(member).collect())
}

/// Writes the member's file. Members know each other by the addresses with which they were made, so these stay.
fn write_config(member: &Member, config: &Config) -> Result<(), CliError> {
    let file = &member.shown.config;
    if file.exists() {
        let before = Config::read(file)?;
        let address = |config: &Config| config.cluster.as_ref().map(|cluster| cluster.address.clone());
        if address(&before) != address(config) {
            return Err(CliError::Usage(format!(
                "the cluster in this folder was made for {}; give the same --listen, or remove the folder",
                before.http.listen
            )));
        }
    }
    let text = toml::to_string(config).expect("every configuration has a TOML form");
    Ok(certificates::write(file, &text, 0o600)?)
}

impl Member {
    fn door(&self) -> Door {
        Door::Socket(self.shown.socket.clone())
    }

    /// Starts the process, its lines going to the member's own file.
    fn start(&mut self) -> Result<(), CliError> {
        let program = std::env::current_exe().map_err(|cause| CliError::Failed(cause.to_string()))?;
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(|cause| failed(&self.log, cause))?;
        let mut command = Command::new(&program);
        command
            .args(["node", "--with-parent", "--config"])
            .arg(&self.shown.config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // Ctrl-C is for this process, which stops the members one by one.
        command.process_group(0);
        let child = command.spawn().map_err(|cause| failed(&program, cause))?;
        certificates::write(&self.pid, &format!("{}\n", child.id()), 0o600)?;
        (self.child, self.again) = (Some(child), None);
        Ok(())
    }

    /// How its process ended, if it did.
    fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok().flatten()?;
        self.child = None;
        let _ = fs::remove_file(&self.pid);
        Some(status)
    }

    fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            let _gone = kill(Pid::from_raw(child.id() as i32), signal);
        }
    }
}

async fn look_after(wanted: &Wanted, members: &mut [Member]) -> Result<(), CliError> {
    let io = |cause: io::Error| CliError::Failed(cause.to_string());
    let mut interrupted = signal(SignalKind::interrupt()).map_err(io)?;
    let mut terminated = signal(SignalKind::terminate()).map_err(io)?;
    for member in members.iter_mut() {
        member.start()?;
    }
    tokio::select! {
        _ = interrupted.recv() => return Ok(()),
        _ = terminated.recv() => return Ok(()),
        ready = all_vote(members) => ready?,
    }
    print(&greet(wanted, members)?);
    let mut lines = lines();
    loop {
        tokio::select! {
            _ = interrupted.recv() => return Ok(()),
            _ = terminated.recv() => return Ok(()),
            Some(()) = lines.recv() => start_those_down(members)?,
            () = tokio::time::sleep(LOOK_EVERY) => look(members)?,
        }
    }
}

/// Waits until every member says that it and all others serve.
async fn all_vote(members: &mut [Member]) -> Result<(), CliError> {
    let began = Instant::now();
    let count = members.len();
    loop {
        let mut ready = 0;
        for member in members.iter_mut() {
            if let Some(status) = member.ended() {
                let text = fs::read_to_string(&member.log).unwrap_or_default();
                let last = text.lines().last().unwrap_or_default();
                return Err(CliError::Failed(format!(
                    "{} did not start ({status}): {last}",
                    member.shown.name
                )));
            }
            let status = member.door().json::<Status>("GET", "/admin/status", b"");
            let votes = |role: &str| matches!(role, "leader" | "follower");
            let serves = |status: &Status| {
                status.members.len() == count && status.members.iter().all(|member| votes(&member.role))
            };
            ready += usize::from(status.is_ok_and(|status| serves(&status)));
        }
        if ready == count {
            return Ok(());
        }
        if began.elapsed() > READY_MAX {
            let logs = members[0].log.with_file_name("*.log");
            return Err(failed(&logs, "the members do not form a cluster; see these files"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Lines from the keyboard, each as nothing but the fact.
fn lines() -> mpsc::UnboundedReceiver<()> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for _line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(()).is_err() {
                return;
            }
        }
    });
    receiver
}

fn start_those_down(members: &mut [Member]) -> Result<(), CliError> {
    for member in members.iter_mut().filter(|member| member.child.is_none()) {
        member.start()?;
        print(&format!("{} is started again\n", member.shown.name));
    }
    Ok(())
}

fn look(members: &mut [Member]) -> Result<(), CliError> {
    for member in members.iter_mut() {
        if member.again.is_some_and(|at| Instant::now() >= at) {
            member.start()?;
        }
        let Some(status) = member.ended() else {
            continue;
        };
        let name = &member.shown.name;
        // Who ends by itself with another code than 0 wants to be started again, which systemd would do.
        if status.code().is_some_and(|code| code != 0) {
            member.again = Some(Instant::now() + RESTART_AFTER);
            print(&format!("{name} ended ({status}) and is started again\n"));
        } else {
            let how = status.signal().map_or("was stopped", |_| "was killed");
            print(&format!("{name} {how}; Enter starts it again\n"));
        }
    }
    Ok(())
}

/// Stops all at once, frozen ones too.
fn stop(members: &mut [Member]) {
    for member in members.iter() {
        member.signal(Signal::SIGTERM);
        member.signal(Signal::SIGCONT);
    }
    let began = Instant::now();
    while members.iter().any(|member| member.child.is_some()) {
        for member in members.iter_mut() {
            let _status = member.ended();
            if began.elapsed() > STOP_MAX {
                member.signal(Signal::SIGKILL);
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Fills the cluster through its first member, says so in `sandbox.json`, and gives the text for the reader.
fn greet(wanted: &Wanted, members: &[Member]) -> Result<String, CliError> {
    let address = |after: u16| SocketAddr::new(wanted.listen.ip(), wanted.listen.port() + after);
    let started = Started {
        http: address(0),
        admin: address(ADMIN_AFTER),
    };
    let shown = members.iter().map(|member| member.shown.clone()).collect();
    let sandbox = fill(&wanted.folder, started, shown)?;
    Ok(greeting(&wanted.folder, &sandbox))
}

/// What to try; every command works as pasted.
fn greeting(folder: &Path, sandbox: &Sandbox) -> String {
    let program =
        std::env::current_exe().map_or_else(|_| "vertebra".to_owned(), |path| quoted(&path.to_string_lossy()));
    let path = |file: &Path| quoted(&file.to_string_lossy());
    let at = |name: &str, suffix: &str| path(&folder.join(format!("{name}.{suffix}")));
    let (first, second) = (&sandbox.members[0], &sandbox.members[1]);
    let dir = path(folder);
    let mut text = format!(
        "Vertebra cluster is ready: {} members  (Ctrl-C stops all)\n\n",
        sandbox.members.len()
    );
    for member in &sandbox.members {
        text += &format!("  {:<12}{}   node {}\n", member.name, member.url, member.id);
    }
    text += &format!(
        "\nHow it is, in another terminal; any member answers for all:\n\n  {program} status --config {} --watch\n\n",
        path(&second.config)
    );
    let curl = |mailbox: usize| {
        let mailbox = &sandbox.mesh.mailboxes[mailbox];
        format!(
            "curl -sS --cacert {} --cert {} --key {} \\\n    -H \"$({program} mailbox token --sandbox {dir} {})\"",
            path(&sandbox.ca),
            path(&mailbox.client_certificate),
            path(&mailbox.client_key),
            mailbox.id
        )
    };
    let (one, two) = (&sandbox.mesh.mailboxes[0].id, &sandbox.mesh.mailboxes[1].id);
    let patient = format!(
        "curl -sS --cacert {} -H @{} \\\n    -H \"X-Request-ID: $(cat /proc/sys/kernel/random/uuid)\"",
        path(&sandbox.ca),
        path(&folder.join("worker.header"))
    );
    text += &format!(
        "Send a message through {}, see it through {}; a patient is the same at both:\n\n  {} \\\n    \
         -H 'Mex-To: {two}' -H 'Mex-WorkflowID: TEST_WORKFLOW' --data-binary 'hello' \\\n    {}/messageexchange/{one}/outbox\n\n  \
         {} \\\n    {}/messageexchange/{two}/inbox\n\n  {patient} \\\n    {}/personal-demographics/FHIR/R4/Patient/{}\n\n",
        first.name,
        second.name,
        curl(0),
        first.url,
        curl(1),
        second.url,
        second.url,
        tokens::NHS_NUMBER,
    );
    text += &format!(
        "Kill one, send again, watch; Enter in this terminal starts it again, and it catches up:\n\n  kill -9 $(cat {})\n\n\
         Freeze one, as a machine that hangs, and let it go on:\n\n  kill -STOP $(cat {})\n  kill -CONT $(cat {})\n\n",
        at(&first.name, "pid"),
        at(&first.name, "pid"),
        at(&first.name, "pid"),
    );
    text += &match sandbox.members.as_slice() {
        [_, _] => format!(
            "Two sites without a witness: with one frozen nothing can be written. Then one can go on alone, for good:\n\n  \
             {program} go-alone --yes --config {}\n\n",
            path(&second.config)
        ),
        [first, _, third, ..] => format!(
            "Cut {} off by freezing the others: it reads (Vertebra-State-Age says how old that may be) and refuses writes\n\
             with 503. That one member goes on alone (`vertebra go-alone`) is for two sites without a witness: see\n\
             `make cluster MEMBERS=2`.\n\n  kill -STOP $(cat {} {})\n\n",
            second.name,
            at(&first.name, "pid"),
            at(&third.name, "pid"),
        ),
        [] | [_] => String::new(),
    };
    text += &format!(
        "Configuration, log and data of each: {dir}/NAME.toml, NAME.log, NAME/; what clients need: {}\n",
        path(&folder.join(super::FILE))
    );
    text
}
