//! The command line: parse, call, print, exit.
//!
//! Exit codes: 0 done; 1 failed or refused; 2 wrong usage, configuration or inventory.

mod boot_server;
mod node;

use crate::config::{Config, ConfigError, FILE_DEFAULT};
use crate::names::ReleaseId;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

const EXIT_CODES: &str = "Exit codes:\n  0  done\n  1  failed or refused\n  2  wrong usage, configuration or inventory";

/// From a list of machines to machines that serve.
#[derive(Parser, Debug)]
#[command(name = "vertebra-provisioning", version, about, max_term_width = 110, after_help = EXIT_CODES)]
struct Cli {
    /// The boot server's configuration
    #[arg(long, global = true, default_value = FILE_DEFAULT)]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Boot server: inventory and releases to the files of dnsmasq and nginx
    #[command(
        after_help = "Examples:\n  vertebra-provisioning render\n  vertebra-provisioning render --check   # tells mistakes, writes nothing"
    )]
    Render {
        /// Tell mistakes and write nothing
        #[arg(long)]
        check: bool,
    },
    /// Boot server: enrolment, reports, back to the release before, status page
    Serve,
    /// Boot server: open a machine's window for its one token
    #[command(after_help = "Example:\n  vertebra-provisioning arm n1.north --minutes 15")]
    Arm {
        /// Name or certname
        node: String,
        /// How long the window is open, 1 to 240
        #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(i64).range(1..=240))]
        minutes: i64,
    },
    /// Boot server: close the window, and take back a token that is out
    Disarm {
        /// Name or certname
        node: String,
    },
    /// Boot server: every machine, as on the status page
    Status {
        /// JSON, as /status.json
        #[arg(long)]
        json: bool,
    },
    /// Boot server: releases in the store, and who boots which
    #[command(subcommand)]
    Release(ReleaseCommand),
    /// Puppet CA: judge a certificate request on standard input (`autosign = …/vertebra-autosign`)
    Autosign {
        /// The certname that the CA asks about
        certname: String,
    },
    /// Node: become a known machine; on later boots bring Puppet's files back without any service
    Enrol {
        #[command(flatten)]
        node: NodeArgs,
        /// How long to wait for being armed
        #[arg(long, default_value_t = 3600)]
        deadline_seconds: u64,
    },
    /// Node: tell how far the boot came: initrd, root, disk, enrolled, puppet, serving
    Stage {
        /// The stage
        stage: String,
        /// Why it went no further
        #[arg(long, value_name = "TEXT")]
        failed: Option<String>,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Node: tell that it takes writes, if it does
    CheckIn {
        /// The running release; by default the kernel's command line names it
        #[arg(long)]
        release: Option<ReleaseId>,
        #[command(flatten)]
        node: NodeArgs,
    },
}

#[derive(Subcommand, Debug)]
enum ReleaseCommand {
    /// Check a release's digests and copy it into the store
    Add {
        /// The release's folder, with manifest.json
        folder: PathBuf,
    },
    /// Releases, and who boots which
    List {
        /// JSON
        #[arg(long)]
        json: bool,
    },
    /// Check the digests of what is in the store
    Verify {
        /// One release instead of all
        release: Option<ReleaseId>,
    },
    /// Let sites boot a release
    #[command(
        after_help = "Examples:\n  vertebra-provisioning release promote 2026.11.26-1 --site north\n  \
                            vertebra-provisioning release promote 2026.11.26-1 --all"
    )]
    Promote {
        /// The release
        release: ReleaseId,
        #[command(flatten)]
        sites: Sites,
    },
    /// Hold a machine or a site to a release, whatever is promoted (a canary)
    #[command(
        after_help = "Examples:\n  vertebra-provisioning release pin 2026.11.26-1 --node n1.north\n  \
                            vertebra-provisioning release pin 2026.11.26-1 --site south"
    )]
    Pin {
        /// The release
        release: ReleaseId,
        #[command(flatten)]
        target: Target,
    },
    /// Let it go with the others again
    Unpin {
        #[command(flatten)]
        target: Target,
    },
    /// Nothing below this release's state version is ever booted again
    Finalise {
        /// The release
        release: ReleaseId,
    },
    /// Try the wanted release again on a machine that went back to an earlier one
    Retry {
        /// Name or certname
        node: String,
    },
    /// Remove a release that nobody boots
    Retire {
        /// The release
        release: ReleaseId,
    },
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Sites {
    /// One site
    #[arg(long)]
    site: Option<String>,
    /// Every site
    #[arg(long)]
    all: bool,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Target {
    /// A machine, by name or certname
    #[arg(long)]
    node: Option<String>,
    /// A site
    #[arg(long)]
    site: Option<String>,
}

#[derive(Args, Debug)]
struct NodeArgs {
    /// The boot service
    #[arg(long, default_value = "https://vertebra-boot:8443")]
    service: String,
    /// The one CA that its certificate may be of; by default the image's
    #[arg(long, value_name = "FILE")]
    boot_ca: Option<PathBuf>,
    /// The MAC to be found by; by default that of the default route
    #[arg(long)]
    mac: Option<crate::names::Mac>,
    /// A folder that stands for /
    #[arg(long, default_value = "/", value_name = "DIR")]
    root: PathBuf,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Inventory(#[from] crate::inventory::InventoryError),
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    #[error(transparent)]
    Publish(#[from] crate::publish::PublishError),
    #[error(transparent)]
    Serve(#[from] crate::serve::ServeError),
    #[error(transparent)]
    Add(#[from] crate::releases::AddError),
    #[error(transparent)]
    Rule(#[from] crate::releases::RuleError),
    #[error(transparent)]
    Autosign(#[from] crate::autosign::AutosignError),
    #[error(transparent)]
    Node(#[from] crate::client::NodeError),
    #[error(transparent)]
    Name(#[from] crate::names::BadName),
    #[error("there is no machine `{0}` in the inventory")]
    NoMachine(String),
    #[error("there is no site `{name}` in the inventory; known: {known}")]
    NoSite { name: String, known: String },
}

impl CliError {
    fn exit_code(&self) -> u8 {
        match self {
            CliError::Config(_) | CliError::Inventory(_) | CliError::Name(_) => 2,
            CliError::NoMachine(_) | CliError::NoSite { .. } => 2,
            _ => 1,
        }
    }
}

/// Prints; a reader that has gone away wants no more.
fn print(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("vertebra-provisioning: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(cli: Cli) -> Result<u8, CliError> {
    let config = || Config::load(&cli.config);
    match cli.command {
        Command::Render { check } => boot_server::render(&config()?, check)?,
        Command::Serve => crate::serve::run(config()?)?,
        Command::Arm { node, minutes } => boot_server::arm(&config()?, &node, minutes)?,
        Command::Disarm { node } => boot_server::disarm(&config()?, &node)?,
        Command::Status { json } => boot_server::status(&config()?, json)?,
        Command::Release(command) => boot_server::release(&config()?, command)?,
        Command::Autosign { certname } => boot_server::autosign(&config()?, &certname)?,
        Command::Enrol { node, deadline_seconds } => return node::enrol(&node, deadline_seconds),
        Command::Stage { stage, failed, node } => return node::stage(&node, &stage, failed.as_deref()),
        Command::CheckIn { release, node } => return node::check_in(&node, release),
    }
    Ok(0)
}
