//! `vertebra restore`: a backup back into an empty data folder of a node that does not run; and `vertebra drill`, which does
//! that in a scratch folder, proves what came out of it, and removes it again.

use super::progress::Progress;
use super::sandbox::stored_config;
use super::table::grouped;
use super::{CliError, print, verify};
use crate::admin::verify::{Check, Report, Store, verify as verify_store};
use crate::base::Timestamp;
use crate::config::{Config, FILE_DEFAULT};
use crate::log::backup::{RestoreError, Restored, Source};
use crate::node;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, geteuid};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, lchown};
use std::path::{Path, PathBuf};

/// Scratch folders of drills begin with this.
const SCRATCH: &str = "vertebra-drill-";
/// A scratch folder's disk may be filled up to here, bytes.
const SCRATCH_RESERVE_BYTES: u64 = 64 * 1024 * 1024;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Folder of the backup
    #[arg(value_name = "BACKUP")]
    source: PathBuf,
    /// Configuration file of the node that is restored
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "sandbox"])]
    config: Option<PathBuf>,
    /// Data folder of the node that is restored, where its configuration cannot be read here
    #[arg(long, value_name = "DIR", conflicts_with = "sandbox")]
    data: Option<PathBuf>,
    /// Its number, with --data: the one in its configuration
    #[arg(long, value_name = "ID", default_value_t = 1, requires = "data")]
    node: u64,
    /// Folder of a sandbox
    #[arg(long, value_name = "DIR")]
    sandbox: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
pub(super) struct DrillArgs {
    /// Folder of the backup
    #[arg(value_name = "BACKUP")]
    source: PathBuf,
    /// Where to make the scratch folder; it needs as much room as the backup
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<u8, CliError> {
    let config = match (&args.config, &args.data, &args.sandbox) {
        (Some(file), _, _) => Config::read(file)?,
        (_, Some(data), _) => config_of(data, args.node)?,
        (_, _, Some(folder)) => stored_config(folder)?,
        (None, None, None) => Config::read(Path::new(FILE_DEFAULT))?,
    };
    close_to_others();
    let source = Source::open(&args.source).map_err(failed)?;
    let data = config.node.data.clone();
    let _data = config.lock_data().map_err(failed)?;
    // The cheap refusals first.
    node::check_restorable(&config).map_err(failed)?;
    check_files(&source)?;
    let restored = put_back(&config, &source)?;
    give_to_owner(&data).map_err(|cause| {
        CliError::Failed(format!(
            "everything was restored, but {} could not be given to its owner: {cause}",
            data.display()
        ))
    })?;
    report(args, &config, &source, &restored);
    Ok(0)
}

fn failed(error: impl std::fmt::Display) -> CliError {
    CliError::Failed(error.to_string())
}

/// What is made from here on is records: for their owner alone.
fn close_to_others() {
    umask(Mode::from_bits_truncate(0o077));
}

/// Everything that storing needs, for a data folder without a configuration file.
fn config_of(data: &Path, node: u64) -> Result<Config, CliError> {
    let mut config = stored_config(data)?;
    config.node.data = std::path::absolute(data).map_err(failed)?;
    config.node.id = node;
    config.journal = crate::config::Journal::default();
    config.ledger = crate::config::Ledger::default();
    Ok(config)
}

fn check_files(source: &Source) -> Result<(), CliError> {
    let mut progress = Progress::new("checking", source.manifest.bytes);
    source.verify_blocking(&mut |bytes| progress.add(bytes)).map_err(failed)
}

fn put_back(config: &Config, source: &Source) -> Result<Restored, CliError> {
    let mut progress = Progress::new("restoring", source.manifest.bytes);
    let restored: Result<Restored, RestoreError> =
        tokio_uring::start(async { node::restore(config, source, &mut |bytes| progress.add(bytes)).await });
    restored.map_err(|error| match &error {
        RestoreError::NotEmpty { .. } => failed(&error),
        _ => CliError::Failed(format!(
            "{error}\nNothing was restored; the data folder is empty as before."
        )),
    })
}

/// A restore by root leaves files that the node may use: those of whoever owns the data folder.
fn give_to_owner(folder: &Path) -> io::Result<()> {
    let owner = fs::metadata(folder)?;
    if !geteuid().is_root() || Uid::from_raw(owner.uid()).is_root() {
        return Ok(());
    }
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for found in fs::read_dir(folder)? {
            let found = found?;
            lchown(found.path(), Some(owner.uid()), Some(owner.gid()))?;
            if found.file_type()?.is_dir() {
                folders.push(found.path());
            }
        }
    }
    Ok(())
}

fn report(args: &Args, config: &Config, source: &Source, restored: &Restored) {
    let manifest = &source.manifest;
    let (_, _, index) = manifest.applied;
    if args.json {
        let told = serde_json::json!({
            "data": config.node.data, "node": config.node.id, "index": index, "time_ms": manifest.time_ms,
            "digest": manifest.digest, "held_entries": restored.held_entries, "pieces": restored.pieces,
            "audit": restored.audit.sequence,
        });
        return print(&format!("{told:#}\n"));
    }
    print(&format!(
        "{} holds everything up to log index {index}, {}\n{} held entries, {} pieces of large bodies, {} audit entries\n\
         state {}, as in the backup\nThe node is a cluster of one, number {}. Start it, then: vertebra verify --deep\n",
        config.node.data.display(),
        Timestamp::from_ms(manifest.time_ms).iso(),
        grouped(restored.held_entries),
        grouped(restored.pieces),
        grouped(restored.audit.sequence),
        manifest.digest,
        config.node.id
    ));
}

pub(super) fn run_drill(args: &DrillArgs) -> Result<u8, CliError> {
    close_to_others();
    let source = Source::open(&args.source).map_err(failed)?;
    check_files(&source)?;
    let base = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let scratch = Scratch::make(&base).map_err(|cause| CliError::Failed(format!("{}: {cause}", base.display())))?;
    // As the node that the backup is of, so that its audit chain is held against its own heads.
    let mut config = config_of(&scratch.0, source.manifest.node.id)?;
    config.journal.reserve_bytes = SCRATCH_RESERVE_BYTES;
    let lock = config.lock_data().map_err(failed)?;
    let mut report = Report::default();
    let mut add = |name: &str, ok, detail| {
        let name = name.to_owned();
        report.checks.push(Check { name, ok, detail });
    };
    let manifest = &source.manifest;
    add(
        "files of the backup",
        true,
        format!("{} files, {} bytes", manifest.files.len(), manifest.bytes),
    );
    let restored = put_back(&config, &source)?;
    add(
        "restored",
        true,
        format!(
            "up to log index {}, {} held entries, {} pieces, {} audit entries",
            manifest.applied.2, restored.held_entries, restored.pieces, restored.audit.sequence
        ),
    );
    let (digest, checks) = tokio_uring::start(async {
        let store = node::open_store(&config).await.map_err(failed)?;
        let digest = digest(&store).await;
        let checks = verify_store(&store, true).await.checks;
        store.log.close().await;
        Ok::<_, CliError>((digest, checks))
    })?;
    let same = digest.as_ref() == Ok(&manifest.digest);
    add(
        "state digest",
        same,
        match (same, digest) {
            (true, Ok(digest)) => digest,
            (_, Ok(digest)) => format!("{digest} instead of {}", manifest.digest),
            (_, Err(why)) => why,
        },
    );
    report.checks.extend(checks);
    drop((lock, scratch));
    match args.json {
        true => print(&format!(
            "{}\n",
            serde_json::to_string_pretty(&report).expect("a report has a JSON form")
        )),
        false => print(&render(&report)),
    }
    Ok(u8::from(!report.ok()))
}

fn render(report: &Report) -> String {
    let mut text = verify::lines(report);
    text.push_str(match report.ok() {
        true => "\nThis backup restores, and what it restores is whole.\n",
        false => "\nThis backup does not restore whole: take another one now, and keep the older ones.\n",
    });
    text
}

/// Digest of the state of a store that has just been opened.
async fn digest(store: &Store) -> Result<String, String> {
    let ledger = store.ledger.clone();
    match tokio::task::spawn_blocking(move || ledger.digest_blocking()).await {
        Ok(Ok(state)) => Ok(hex::encode(state.digest.0)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// A folder that is removed with its owner.
struct Scratch(PathBuf);

impl Scratch {
    /// Makes one, and removes those of drills that were killed.
    fn make(base: &Path) -> io::Result<Scratch> {
        for found in fs::read_dir(base)? {
            let path = found?.path();
            let ours = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(SCRATCH));
            if ours && is_left(&path) {
                // Somebody else's may not be removed by us.
                let _ = fs::remove_dir_all(path);
            }
        }
        let path = base.join(format!("{SCRATCH}{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(cause) = fs::remove_dir_all(&self.0) {
            eprintln!(
                "vertebra: {} could not be removed ({cause}); it holds records: remove it",
                self.0.display()
            );
        }
    }
}

/// Nobody has the lock of this scratch folder.
fn is_left(folder: &Path) -> bool {
    File::open(folder.join("lock")).is_ok_and(|lock| lock.try_lock().is_ok())
}
