//! One process at a time in a data folder.

use super::Config;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::PathBuf;

/// The data folder is ours until this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

/// Why the data folder could not be had.
#[derive(Debug, thiserror::Error)]
pub enum DataLockError {
    /// Another process has it.
    #[error("{folder} is in use by another vertebra process; stop that one, or name another folder", folder = folder.display())]
    InUse {
        /// The data folder.
        folder: PathBuf,
    },
    /// The operating system refused.
    #[error("{folder}: {cause}; make the folder writable for this user", folder = folder.display())]
    Io {
        /// The data folder.
        folder: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

impl Config {
    /// Makes the data folder when it is absent and takes it. The kernel gives the lock back when the process dies, so a
    /// crash never leaves one behind.
    pub fn lock_data(&self) -> Result<DataLock, DataLockError> {
        let folder = &self.node.data;
        let io = |cause| DataLockError::Io {
            folder: folder.clone(),
            cause,
        };
        fs::create_dir_all(folder).map_err(io)?;
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(folder.join("lock"))
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(DataLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(DataLockError::InUse { folder: folder.clone() }),
            Err(TryLockError::Error(cause)) => Err(io(cause)),
        }
    }
}
