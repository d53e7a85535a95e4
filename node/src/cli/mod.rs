//! The command line: parse, call, print, exit. It knows people and scripts, never how a thing is stored.
//!
//! Exit codes: 0 done; 1 failed; 2 wrong usage or configuration. `status` says more: 0 healthy, 10 degraded, 20 cannot
//! write (or not running); `upgrade compare`: 0 as good, 10 too few requests to tell, 20 worse.

mod audit;
mod backup;
mod certificates;
mod client;
mod clients;
mod cluster;
mod directory;
mod doctor;
mod event;
mod export;
mod import;
mod outbox;
mod patient;
mod progress;
mod restore;
mod sandbox;
mod status;
mod synth;
mod table;
#[cfg(test)]
mod tests;
mod token;
mod trace;
mod upgrade;
mod verify;

use crate::base::release;
use crate::config::{Config, ConfigError, FILE_DEFAULT};
use crate::node;
use clap::{CommandFactory, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

const EXIT_CODES: &str = "Exit codes:\n  0  done\n  1  failed\n  2  wrong usage or configuration\n  \
                          10, 20  status: degraded, cannot write; upgrade compare: cannot tell, worse";

/// A node of the spine: messages that are acknowledged are never lost.
#[derive(Parser, Debug)]
#[command(name = "vertebra", version = release::this().name.as_str(), about, max_term_width = 110, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// A cluster of one, or of several, with throw-away certificates and test mailboxes, ready in seconds
    #[command(after_help = "Examples:\n  vertebra sandbox --data ./box\n  \
                            vertebra sandbox --data /tmp/box --listen 127.0.0.1:0   # a free port, told in sandbox.json")]
    Sandbox(sandbox::Args),
    /// The daemon, as systemd starts it (Type=notify)
    #[command(after_help = "Example:\n  vertebra node --config /etc/vertebra/node.toml")]
    Node {
        /// Configuration file
        #[arg(long, default_value = FILE_DEFAULT)]
        config: PathBuf,
        /// Stop when the process that started this one ends: the sandbox's members
        #[arg(long, hide = true)]
        with_parent: bool,
    },
    /// Look at a configuration file
    #[command(subcommand, after_help = "Example:\n  vertebra config check /etc/vertebra/node.toml")]
    Config(ConfigCommand),
    /// How the cluster is doing, as a table
    #[command(
        after_help = "Examples:\n  vertebra status\n  vertebra status --sandbox ./box --watch\n  \
                            vertebra status --json | jq .members[0].lag\n  vertebra status --exit-when-healthy   # in \
                            scripts, after a start\n\nExit codes: 0 healthy, 10 degraded, 20 cannot write or not running"
    )]
    Status(status::Args),
    /// Wait until this node, which asks by itself, is a member that votes
    #[command(
        after_help = "Example:\n  vertebra join --timeout 600   # after the node was started with [cluster] peers"
    )]
    Join(cluster::JoinArgs),
    /// Take a member out, for good: its number never comes back
    #[command(after_help = "Examples:\n  vertebra leave        # this node\n  vertebra leave 3      # a dead one")]
    Leave(cluster::LeaveArgs),
    /// Send this node's clients elsewhere: not ready, and leadership to another
    #[command(after_help = "Example:\n  vertebra drain && systemctl restart vertebra")]
    Drain(cluster::DrainArgs),
    /// The other site is lost and nothing can be written: let this node go on by itself
    #[command(
        name = "go-alone",
        after_help = "Example:\n  vertebra go-alone --yes\n\nOf several survivors only the one that has most can; it refuses on the others."
    )]
    GoAlone(cluster::GoAloneArgs),
    /// Take clients again
    #[command(after_help = "Example:\n  vertebra undrain")]
    Undrain(cluster::DrainArgs),
    /// Check this host and this node, and say what to do
    #[command(
        after_help = "Examples:\n  vertebra doctor\n  vertebra doctor --config ./vertebra.toml\n\n\
                            Exit codes: 0 nothing failed (warnings may be there), 1 something failed"
    )]
    Doctor(doctor::Args),
    /// Prove that what is stored is whole: checksums, audit chain, ledger against journal
    #[command(
        after_help = "Examples:\n  vertebra verify\n  vertebra verify --deep --sandbox ./box   # reads every body \
                            back\n\nAsks the running node; on a stopped one it reads the data folder itself."
    )]
    Verify(verify::Args),
    /// Mailboxes: add, change, list, show, disable, make a token
    #[command(
        subcommand,
        after_help = "Examples:\n  vertebra mailbox list\n  vertebra mailbox add X26CLINIC --ods X26 --password-file ./password"
    )]
    Mailbox(directory::MailboxCommand),
    /// Workflows: who may send and receive what
    #[command(
        subcommand,
        after_help = "Examples:\n  vertebra workflow list\n  vertebra workflow add GP_RESULTS --sender X26LAB --receiver X26GP1"
    )]
    Workflow(directory::WorkflowCommand),
    /// Clients of access tokens: add, change, list, show, disable
    #[command(
        subcommand,
        after_help = "Examples:\n  vertebra client list\n  \
                            vertebra client add clinic-app --ods X26 --mode application --jwks ./jwks.json"
    )]
    Client(clients::ClientCommand),
    /// Patients, as the National Back Office sees them: versions of a record, restrictions, replacements
    #[command(
        subcommand,
        after_help = "Examples:\n  vertebra patient history 9000000009 --sandbox ./box\n  \
                            vertebra patient restrict 9000000009 --sandbox ./box"
    )]
    Patient(patient::PatientCommand),
    /// Events to RabbitMQ: on and off, what waits, what was parked
    #[command(
        subcommand,
        after_help = "Examples:\n  vertebra events status\n  vertebra events parked\n  vertebra events requeue --all"
    )]
    Events(outbox::EventsCommand),
    /// The life of one message or request: what happened, who did it, when
    #[command(
        after_help = "Examples:\n  vertebra trace 20261122150405123456_00002A\n  vertebra trace 4f1c00a2b7d90e13 \
                            --sandbox ./box"
    )]
    Trace(trace::Args),
    /// The record of every access: prove it, ask it, export it
    #[command(
        subcommand,
        after_help = "Examples:\n  vertebra audit verify\n  vertebra audit query --subject X26ABC1 --limit 20\n  \
                            vertebra audit export --output audit.ndjson"
    )]
    Audit(audit::AuditCommand),
    /// Load files into the running node, and prove that nothing was lost
    #[command(
        after_help = "Examples:\n  vertebra import --kind patients people.ndjson.zst --state people.state --rejects people.rejects\n  \
                            vertebra synth patients --count 1000 | vertebra import --kind patients - --sandbox ./box\n\n\
                            A run that was broken off goes on from its state file. The same records again change nothing.\n\n\
                            Exit codes: 0 all loaded or there already, 1 some lines rejected, 2 failed"
    )]
    Import(import::Args),
    /// Take every record out of the running node, restricted ones whole
    #[command(
        after_help = "Examples:\n  vertebra export --kind patients --output people.ndjson\n  \
                            vertebra export --kind patients | zstd > people.ndjson.zst\n\n\
                            Every page is an entry of the audit chain."
    )]
    Export(export::Args),
    /// Take a consistent copy of everything out of the running node
    #[command(after_help = "Examples:\n  vertebra backup /mnt/backup/2026-11-26\n  \
                            vertebra backup /mnt/backup/now --rate 0   # as fast as it goes, clients feel it\n\n\
                            A backup is a copy of people's records: keep it as you keep the node. A folder without a\n\
                            manifest.json is no backup.\n\nExit codes: 0 taken, 1 not taken and nothing left")]
    Backup(backup::Args),
    /// Put a backup into the empty data folder of a node that does not run
    #[command(
        after_help = "Examples:\n  vertebra restore /mnt/backup/2026-11-26 --config /etc/vertebra/node.toml\n  \
                            vertebra restore /mnt/backup/2026-11-26 --data /var/lib/vertebra/node --node 1\n\n\
                            Every file is checked before the first byte is written. The node is a cluster of one afterwards.\n\n\
                            Exit codes: 0 restored, 1 not restored and the folder empty as before"
    )]
    Restore(restore::Args),
    /// Prove that a backup restores: into a scratch folder, everything read back, the scratch removed
    #[command(
        after_help = "Example:\n  vertebra drill /mnt/backup/2026-11-26 --scratch /mnt/scratch\n\n\
                            Exit codes: 0 it restores whole, 1 it does not"
    )]
    Drill(restore::DrillArgs),
    /// Two releases at once: who runs what, the new one against the others, the point of no return
    #[command(
        subcommand,
        after_help = "Examples:\n  vertebra upgrade status\n  vertebra upgrade compare --canary n1.south --soak 30m\n  \
                            vertebra upgrade finalize"
    )]
    Upgrade(upgrade::UpgradeCommand),
    /// Synthetic people: the same seed gives the same people
    #[command(
        subcommand,
        after_help = "Example:\n  vertebra synth patients --count 10000 --seed 7 --output people.ndjson"
    )]
    Synth(synth::SynthCommand),
    /// Completions for a shell, on standard output
    #[command(
        after_help = "Examples:\n  vertebra completions bash > /etc/bash_completion.d/vertebra\n  \
                            vertebra completions fish > ~/.config/fish/completions/vertebra.fish"
    )]
    Completions {
        /// Which shell
        shell: Shell,
    },
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Subcommand, Debug)]
enum ConfigCommand {
    /// Parse, validate, print the effective configuration (paths of secrets, never values)
    #[command(after_help = "Example:\n  vertebra config check /etc/vertebra/node.toml\n\n\
                            Exit codes: 0 valid, 2 not: every problem with file, line, key and what to do")]
    Check {
        /// Configuration file
        #[arg(default_value = FILE_DEFAULT)]
        file: PathBuf,
    },
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum CliError {
    /// Exit 2: the configuration.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// Exit 2: how it was called.
    #[error("{0}")]
    Usage(String),
    /// Exit 1: nobody listens at the operator's door.
    #[error(
        "the node does not run, or not here: {door}: {cause}\nStart it (`vertebra node`, `vertebra sandbox`), or say where it is with --socket, --config or --sandbox."
    )]
    NotRunning {
        /// Where it was looked for.
        door: String,
        /// What the system said.
        cause: String,
    },
    /// Exit 1: the node refused; its own sentence.
    #[error("{0}")]
    Refused(String),
    /// Exit 1: a stopped node's audit stream is damaged, so that its stores do not open.
    #[error("{0}")]
    AuditDamaged(String),
    /// Exit 1: anything else, as a sentence.
    #[error("{0}")]
    Failed(String),
}

impl CliError {
    fn exit(&self) -> u8 {
        match self {
            CliError::Config(_) | CliError::Usage(_) => 2,
            CliError::NotRunning { .. } | CliError::Refused(_) | CliError::AuditDamaged(_) | CliError::Failed(_) => 1,
        }
    }
}

/// A panic is a bug, after which nothing in memory can be trusted: it ends the process, on whichever thread it happens. By
/// a hook and not by the build profile, so that the binary and the tests, which unwind, share what is compiled.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

/// Runs the command line.
pub fn main() -> ExitCode {
    end_on_panic();
    let cli = Cli::parse(); // wrong usage: exit 2, --help and --version: exit 0
    match run(cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("vertebra: {error}");
            ExitCode::from(error.exit())
        }
    }
}

fn run(command: Command) -> Result<u8, CliError> {
    match command {
        Command::Sandbox(args) => sandbox::run(&args),
        Command::Node { config, with_parent } => {
            if with_parent {
                let asked = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM);
                asked.map_err(|cause| CliError::Failed(cause.to_string()))?;
            }
            run_node(Config::read(&config)?)
        }
        Command::Config(ConfigCommand::Check { file }) => {
            let config = Config::read(&file)?;
            node::check(&config).map_err(|error| CliError::Usage(format!("{}: {error}", file.display())))?;
            print(&config.effective());
            Ok(0)
        }
        Command::Status(args) => status::run(&args),
        Command::Join(args) => cluster::join(&args),
        Command::Leave(args) => cluster::leave(&args),
        Command::Drain(args) => cluster::drain(&args, true),
        Command::GoAlone(args) => cluster::go_alone(&args),
        Command::Undrain(args) => cluster::drain(&args, false),
        Command::Doctor(args) => doctor::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Mailbox(command) => directory::run_mailbox(command),
        Command::Workflow(command) => directory::run_workflow(command),
        Command::Client(command) => clients::run(command),
        Command::Patient(command) => patient::run(command),
        Command::Events(command) => outbox::run(&command),
        Command::Trace(args) => trace::run(&args),
        Command::Audit(command) => audit::run(&command),
        Command::Import(args) => Ok(import::run(&args)),
        Command::Export(args) => export::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::Drill(args) => restore::run_drill(&args),
        Command::Upgrade(command) => upgrade::run(&command),
        Command::Synth(command) => synth::run(&command),
        Command::Completions { shell } => {
            let mut out = Vec::new();
            let shell = match shell {
                Shell::Bash => clap_complete::Shell::Bash,
                Shell::Zsh => clap_complete::Shell::Zsh,
                Shell::Fish => clap_complete::Shell::Fish,
            };
            clap_complete::generate(shell, &mut Cli::command(), "vertebra", &mut out);
            print(&String::from_utf8_lossy(&out));
            Ok(0)
        }
    }
}

fn run_node(config: Config) -> Result<u8, CliError> {
    match node::run(config, node::Mode::Node) {
        Ok(()) => Ok(0),
        Err(error) => {
            tracing::error!(%error, "the node ended");
            Err(CliError::Failed(error.to_string()))
        }
    }
}

/// Writes to standard output; a reader that went away (`| head`) is no error.
fn print(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
