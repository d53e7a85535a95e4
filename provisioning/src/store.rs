//! The state of the boot server: one folder, small JSON files, one lock. `STORE.md` draws it.
//!
//! Owns: where and how state lies on disk. Must never know: what a change means. Invariants: a file is whole or absent;
//! whoever writes holds the lock; readers need none, because files are replaced by rename.

use crate::files;
use crate::machine::{self, MachineState};
use crate::names::{HostName, ReleaseId};
use crate::releases::{self, Releases};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Why state was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused.
    #[error("{file}: {cause}")]
    Io {
        /// The file.
        file: PathBuf,
        /// The system's words.
        cause: io::Error,
    },
    /// Not what this program writes.
    #[error("{file}: {what}; it was not written by this program, or by a newer one: restore it from a backup")]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Somebody else holds the lock.
    #[error("{file}: another process has held the lock for {seconds} seconds; see who: fuser -v {file}")]
    Locked {
        /// The lock.
        file: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
}

/// The version of the folder.
const FORMAT: &str = "vertebra-provisioning 1\n";
/// Longest wait for the lock.
const LOCK_WAIT: Duration = Duration::from_secs(20);
/// Files can be changed by the group: the service and the Puppet CA are different users.
const FILE_MODE: u32 = 0o660;
const FOLDER_MODE: u32 = 0o2770;

/// The folder.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

/// The folder while this process alone may write.
pub struct Locked<'a> {
    store: &'a Store,
    _lock: File,
}

fn io_error(file: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let file = file.to_owned();
    move |cause| StoreError::Io { file, cause }
}

impl Store {
    /// Opens the folder; makes it when it is not there.
    pub fn open(folder: &Path) -> Result<Store, StoreError> {
        let store = Store {
            folder: folder.to_owned(),
        };
        let format = folder.join("format");
        match files::read_if_there(&format).map_err(io_error(&format))? {
            Some(text) if text == FORMAT.as_bytes() => return Ok(store),
            Some(text) => {
                let what = format!("format `{}`", crate::names::shown(&String::from_utf8_lossy(&text)));
                return Err(StoreError::Damaged { file: format, what });
            }
            None => {}
        }
        // nginx reads the releases below the folder, and only those.
        let made = [
            (folder.to_owned(), FOLDER_MODE | 0o001),
            (folder.join("machines"), FOLDER_MODE),
            (store.releases_folder(), FOLDER_MODE | 0o005),
        ];
        for (folder, mode) in made {
            files::make_folder(&folder, mode).map_err(io_error(&folder))?;
        }
        let locked = store.lock()?;
        files::write(&format, FORMAT.as_bytes(), FILE_MODE).map_err(io_error(&format))?;
        drop(locked);
        Ok(store)
    }

    /// Where releases lie.
    pub fn releases_folder(&self) -> PathBuf {
        self.folder.join("releases")
    }

    /// Waits for the lock.
    pub fn lock(&self) -> Result<Locked<'_>, StoreError> {
        let file = self.folder.join("lock");
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE);
        let existed = file.exists();
        let lock = options.open(&file).map_err(io_error(&file))?;
        if !existed {
            lock.set_permissions(fs::Permissions::from_mode(FILE_MODE))
                .map_err(io_error(&file))?;
        }
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            match lock.try_lock() {
                Ok(()) => {
                    return Ok(Locked {
                        store: self,
                        _lock: lock,
                    });
                }
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5))
                }
                Err(TryLockError::WouldBlock) => {
                    let seconds = LOCK_WAIT.as_secs();
                    return Err(StoreError::Locked { file, seconds });
                }
                Err(TryLockError::Error(cause)) => return Err(StoreError::Io { file, cause }),
            }
        }
    }

    fn machine_file(&self, certname: &HostName) -> PathBuf {
        self.folder.join("machines").join(format!("{certname}.json"))
    }

    /// One machine's state; a new one when nothing is known.
    pub fn machine(&self, certname: &HostName) -> Result<MachineState, StoreError> {
        let file = self.machine_file(certname);
        let Some(state) = read_json::<MachineState>(&file)? else {
            return Ok(MachineState::new(certname));
        };
        if state.format != machine::FORMAT || state.certname != *certname {
            let what = format!("format {}, machine {}", state.format, state.certname);
            return Err(StoreError::Damaged { file, what });
        }
        Ok(state)
    }

    /// The releases.
    pub fn releases(&self) -> Result<Releases, StoreError> {
        let file = self.folder.join("releases.json");
        let releases = read_json::<Releases>(&file)?.unwrap_or_default();
        if releases.format != releases::FORMAT {
            let what = format!("format {}", releases.format);
            return Err(StoreError::Damaged { file, what });
        }
        Ok(releases)
    }
}

fn read_json<T: DeserializeOwned>(file: &Path) -> Result<Option<T>, StoreError> {
    let Some(bytes) = files::read_if_there(file).map_err(io_error(file))? else {
        return Ok(None);
    };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|error| StoreError::Damaged {
        file: file.to_owned(),
        what: error.to_string(),
    })
}

impl Locked<'_> {
    fn write(&self, file: &Path, value: &impl Serialize) -> Result<(), StoreError> {
        let mut bytes = serde_json::to_vec_pretty(value).expect("state has a JSON form");
        bytes.push(b'\n');
        files::write(file, &bytes, FILE_MODE).map_err(io_error(file))
    }

    /// Reads one machine, lets `change` work on it, and writes it when it is another one then.
    pub fn change<R>(&self, certname: &HostName, change: impl FnOnce(&mut MachineState) -> R) -> Result<R, StoreError> {
        let before = self.store.machine(certname)?;
        let mut state = before.clone();
        let result = change(&mut state);
        if state != before {
            self.write(&self.store.machine_file(certname), &state)?;
        }
        Ok(result)
    }

    /// Writes the releases.
    pub fn write_releases(&self, releases: &Releases) -> Result<(), StoreError> {
        self.write(&self.store.folder.join("releases.json"), releases)
    }

    /// Removes the files of a release that is on no list any more.
    pub fn remove_release(&self, release: &ReleaseId) -> Result<(), StoreError> {
        let folder = self.store.releases_folder();
        let place = folder.join(release.as_str());
        let gone = folder.join(format!(".{release}.gone"));
        if place.is_dir() {
            fs::rename(&place, &gone).map_err(io_error(&place))?;
        }
        match fs::remove_dir_all(&gone) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(StoreError::Io { file: gone, cause }),
            _ => files::sync_folder(&folder).map_err(io_error(&folder)),
        }
    }
}

/// Changes whenever state does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp(Vec<Option<std::time::SystemTime>>);

impl Store {
    /// Files are replaced by rename, so the times of the two folders tell of every change.
    pub fn stamp(&self) -> Stamp {
        let time = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
        Stamp(vec![time(&self.folder), time(&self.folder.join("machines"))])
    }
}
