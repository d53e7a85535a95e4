//! The rendered tree goes to disk: only what differs is written, what is rendered no longer is removed, what somebody
//! else put there is left alone or refused.

use super::{Rendered, Tree};
use crate::files;
use crate::secret::sha256_of;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Why the folder was not (wholly) written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The system refused.
    #[error("{file}: {cause}")]
    Io {
        /// The file.
        file: PathBuf,
        /// The system's words.
        cause: io::Error,
    },
    /// Something that was not rendered stands where something rendered belongs. Nothing was changed.
    #[error("these were not rendered by this program and stand in its way; move them, or render elsewhere:\n{}", .0.join("\n"))]
    Foreign(Vec<String>),
}

/// The list of what was rendered: one path a line.
const LIST: &str = ".rendered";
const LIST_HEADING: &str = "# What vertebra-provisioning rendered here, and may replace or remove.";

/// Operators and the service may be different users of one group.
const FOLDER_MODE: u32 = 0o2775;

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Files and links that were new or other ones.
    pub changed: usize,
    /// Files and links that are rendered no longer.
    pub removed: usize,
}

fn io_error(file: &Path) -> impl FnOnce(io::Error) -> WriteError {
    let file = file.to_owned();
    move |cause| WriteError::Io { file, cause }
}

/// Paths from an earlier list that lie below the folder.
fn earlier(output: &Path) -> Result<BTreeSet<String>, WriteError> {
    let list = output.join(LIST);
    let bytes = files::read_if_there(&list)
        .map_err(io_error(&list))?
        .unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let inside = |line: &&str| {
        !line.starts_with('#') && !line.starts_with('/') && line.split('/').all(|part| !part.is_empty() && part != "..")
    };
    Ok(text.lines().filter(inside).map(str::to_owned).collect())
}

fn same(path: &Path, rendered: &Rendered) -> bool {
    match rendered {
        Rendered::Link(target) => fs::read_link(path).is_ok_and(|there| there == Path::new(target)),
        Rendered::File(bytes) => {
            let plain = path
                .symlink_metadata()
                .is_ok_and(|there| there.is_file() && there.len() == bytes.len() as u64);
            plain
                && File::open(path)
                    .and_then(sha256_of)
                    .is_ok_and(|(there, _)| there == crate::secret::sha256(bytes))
        }
    }
}

fn write_list(output: &Path, paths: &BTreeSet<String>) -> Result<(), WriteError> {
    let list = output.join(LIST);
    let mut text = format!("{LIST_HEADING}\n");
    for path in paths {
        text.push_str(path);
        text.push('\n');
    }
    if files::read_if_there(&list).map_err(io_error(&list))?.as_deref() == Some(text.as_bytes()) {
        return Ok(());
    }
    files::write(&list, text.as_bytes(), 0o644).map_err(io_error(&list))
}

/// Brings the folder to what was rendered. The caller holds the store's lock.
pub fn write(output: &Path, tree: &Tree) -> Result<Written, WriteError> {
    files::make_folder(output, FOLDER_MODE).map_err(io_error(output))?;
    let before = earlier(output)?;
    let foreign: Vec<String> = tree
        .keys()
        .filter(|path| !before.contains(*path) && output.join(path).symlink_metadata().is_ok())
        .map(|path| output.join(path).display().to_string())
        .collect();
    if !foreign.is_empty() {
        return Err(WriteError::Foreign(foreign));
    }
    let now: BTreeSet<String> = tree.keys().cloned().collect();
    // On the list first: a crash in the middle leaves nothing that the next run would take for somebody else's.
    write_list(output, &before.union(&now).cloned().collect())?;
    let mut written = Written::default();
    // Artefacts before the checksums of them: CHECKSUMS never names what is not there yet. It sorts first, so it goes last.
    for (path, rendered) in tree.iter().rev() {
        let place = output.join(path);
        if same(&place, rendered) {
            continue;
        }
        let folder = place.parent().unwrap_or(output);
        files::make_folder(folder, FOLDER_MODE).map_err(io_error(folder))?;
        match rendered {
            Rendered::File(bytes) => files::write(&place, bytes, 0o644).map_err(io_error(&place))?,
            Rendered::Link(target) => files::link(&place, target).map_err(io_error(&place))?,
        }
        written.changed += 1;
    }
    for path in before.difference(&now) {
        let place = output.join(path);
        match fs::remove_file(&place) {
            Ok(()) => written.removed += 1,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(WriteError::Io { file: place, cause }),
        }
        // Folders that are empty now go too; one that holds something foreign stays.
        for folder in place.ancestors().skip(1).take_while(|folder| *folder != output) {
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }
    write_list(output, &now)?;
    Ok(written)
}
