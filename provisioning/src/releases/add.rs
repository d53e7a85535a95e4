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

/// A release that lies whole in the store, under a name that nobody looks at yet. Removed again when it is dropped.
pub struct Copied {
    folder: PathBuf,
    /// What it is.
    pub manifest: Manifest,
}

impl Drop for Copied {
    fn drop(&mut self) {
        // Renamed into place, or not wanted; what stays behind after a crash is removed by the next `add`.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn io(file: &Path) -> impl FnOnce(io::Error) -> AddError {
    let file = file.to_owned();
    move |cause| AddError::Io { file, cause }
}

/// The process that copies, from a name that [`copy`] gave.
fn copier(name: &str) -> Option<u32> {
    name.strip_prefix(".copy.")?.parse().ok()
}

/// Checks a release and copies it into `store`; needs no lock, so that nobody waits for large files.
pub fn copy(folder: &Path, store: &Path) -> Result<Copied, AddError> {
    let manifest = verify(folder)?;
    for entry in fs::read_dir(store).map_err(io(store))?.flatten() {
        let process = copier(&entry.file_name().to_string_lossy());
        if process.is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists()) {
            fs::remove_dir_all(entry.path()).map_err(io(&entry.path()))?;
        }
    }
    let new = store.join(format!(".copy.{}", std::process::id()));
    fs::create_dir(&new).map_err(io(&new))?;
    let mut copied = Copied { folder: new, manifest };
    let new = &copied.folder;
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(io(path));
    open(new, 0o2775)?;
    for name in copied.manifest.files.keys().map(String::as_str).chain([MANIFEST]) {
        let (from, to) = (folder.join(name), new.join(name));
        fs::copy(&from, &to).map_err(io(&from))?;
        open(&to, 0o644)?;
        File::open(&to).and_then(|file| file.sync_all()).map_err(io(&to))?;
    }
    files::sync_folder(new).map_err(io(new))?;
    // What was copied is what counts: a folder that changed meanwhile is not taken.
    copied.manifest = verify(new)?;
    Ok(copied)
}

/// Puts it into its place, under the store's lock. `known` is what the list says of this release.
pub fn place(copied: &Copied, store: &Path, known: Option<&Manifest>) -> Result<(), AddError> {
    let release = &copied.manifest.release;
    if known.is_some_and(|known| *known != copied.manifest) {
        return Err(AddError::Different(release.clone()));
    }
    let place = store.join(release.as_str());
    if known.is_some() && verify(&place).is_ok() {
        return Ok(());
    }
    // On no list, or damaged: nobody boots it.
    if place.symlink_metadata().is_ok() {
        fs::remove_dir_all(&place).map_err(io(&place))?;
    }
    fs::rename(&copied.folder, &place).map_err(io(&place))?;
    files::sync_folder(store).map_err(io(store))
}
