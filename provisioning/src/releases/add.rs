//! A release enters the store: every digest checked, copied, synced, renamed into place.

use super::{EFI_FILE, FILES_NEEDED, Manifest};
use crate::files;
use crate::names::ReleaseId;
use crate::secret::sha256_of;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Why a release was not added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The manifest is missing or not what it must be.
    #[error("{file}: {what}")]
    Manifest {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A file is not what the manifest says.
    #[error("{file}: {what}; build or fetch the release again")]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Already there with other content.
    #[error(
        "release {0} is in the store with other content; a release is never changed, give the new one its own name"
    )]
    Different(ReleaseId),
    /// The store could not be written.
    #[error("{file}: {cause}")]
    Io {
        /// The file.
        file: PathBuf,
        /// The system's words.
        cause: io::Error,
    },
}

/// Name of the manifest in a release's folder.
const MANIFEST: &str = "manifest.json";

fn read_manifest(folder: &Path) -> Result<Manifest, AddError> {
    let file = folder.join(MANIFEST);
    let bad = |what: String| AddError::Manifest {
        file: file.clone(),
        what,
    };
    let bytes = files::read(&file).map_err(|error| bad(error.to_string()))?;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    if manifest.format != 1 {
        return Err(bad(format!(
            "format {} is not known here; this program reads 1",
            manifest.format
        )));
    }
    for name in FILES_NEEDED {
        if !manifest.files.contains_key(name) {
            return Err(bad(format!("it names no {name}")));
        }
    }
    for name in manifest.files.keys() {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if name.is_empty() || name.starts_with('.') || name == MANIFEST || !name.bytes().all(plain) {
            return Err(bad(format!(
                "`{}` is not a file name for a release",
                crate::names::shown(name)
            )));
        }
    }
    Ok(manifest)
}

/// Checks every file of a folder against its manifest.
pub fn verify(folder: &Path) -> Result<Manifest, AddError> {
    let manifest = read_manifest(folder)?;
    for name in manifest.files.keys() {
        check(folder, name, &manifest)?;
    }
    Ok(manifest)
}

fn check(folder: &Path, name: &str, manifest: &Manifest) -> Result<(), AddError> {
    let file = folder.join(name);
    let bad = |what: String| AddError::File {
        file: file.clone(),
        what,
    };
    let named = &manifest.files[name];
    let opened = File::open(&file).map_err(|error| bad(error.to_string()))?;
    let (sha256, bytes) = sha256_of(opened).map_err(|error| bad(error.to_string()))?;
    if bytes != named.bytes {
        return Err(bad(format!("{bytes} bytes, and the manifest says {}", named.bytes)));
    }
    if sha256 != named.sha256 {
        return Err(bad(format!("SHA-256 {sha256}, and the manifest says {}", named.sha256)));
    }
    // A UKI is a PE program; anything else would be found out at the machine.
    let mut magic = [0u8; 2];
    let starts = File::open(&file).and_then(|mut opened| opened.read_exact(&mut magic));
    if name == EFI_FILE && (starts.is_err() || magic != *b"MZ") {
        return Err(bad("it is not an EFI program".to_owned()));
    }
    Ok(())
}

/// Copies a release into `store`. `known` is what the list says of this release, if it is on it.
pub fn add(folder: &Path, store: &Path, known: impl Fn(&ReleaseId) -> Option<Manifest>) -> Result<Manifest, AddError> {
    let manifest = verify(folder)?;
    let place = store.join(manifest.release.as_str());
    match known(&manifest.release) {
        Some(known) if known == manifest => {
            // On the list already: whole, or it is made whole again.
            if verify(&place).is_ok() {
                return Ok(manifest);
            }
        }
        Some(_) => return Err(AddError::Different(manifest.release)),
        None => {}
    }
    let new = store.join(format!(".{}.new", manifest.release));
    let io = |file: &Path, cause| AddError::Io {
        file: file.to_owned(),
        cause,
    };
    for stale in [&new, &place] {
        if stale.symlink_metadata().is_ok() {
            fs::remove_dir_all(stale).map_err(|cause| io(stale, cause))?;
        }
    }
    fs::create_dir(&new).map_err(|cause| io(&new, cause))?;
    let open = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|cause| io(path, cause))
    };
    open(&new, 0o755)?;
    for name in manifest.files.keys().map(String::as_str).chain([MANIFEST]) {
        let (from, to) = (folder.join(name), new.join(name));
        fs::copy(&from, &to).map_err(|cause| io(&from, cause))?;
        open(&to, 0o644)?;
        File::open(&to)
            .and_then(|file| file.sync_all())
            .map_err(|cause| io(&to, cause))?;
    }
    // What was copied is judged again: a folder that changes meanwhile is not taken.
    let copied = verify(&new)?;
    if copied != manifest {
        return Err(AddError::Different(manifest.release));
    }
    files::sync_folder(&new).map_err(|cause| io(&new, cause))?;
    fs::rename(&new, &place).map_err(|cause| io(&place, cause))?;
    files::sync_folder(store).map_err(|cause| io(store, cause))?;
    Ok(manifest)
}
