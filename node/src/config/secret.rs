//! A secret read from its file; never shown.

use std::fmt;
use std::path::{Path, PathBuf};

/// Largest secret, bytes: a larger file is not one.
pub const SECRET_BYTES_MAX: u64 = 4_096;

/// A secret's bytes. `Debug` shows nothing of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

/// Why a secret could not be read. The text never holds any of it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The operating system refused.
    #[error("{file}: {cause}", file = file.display())]
    Io {
        /// Which file.
        file: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// Nothing in it.
    #[error("{file}: the file is empty", file = file.display())]
    Empty {
        /// Which file.
        file: PathBuf,
    },
    /// Larger than [`SECRET_BYTES_MAX`].
    #[error("{file}: the file is larger than 4096 bytes, so it is no key", file = file.display())]
    TooLarge {
        /// Which file.
        file: PathBuf,
    },
}

impl Secret {
    /// Reads `file`; one line end at its end is not part of the secret.
    pub fn read(file: &Path) -> Result<Secret, SecretError> {
        let io = |cause| SecretError::Io {
            file: file.to_owned(),
            cause,
        };
        if std::fs::metadata(file).map_err(io)?.len() > SECRET_BYTES_MAX {
            return Err(SecretError::TooLarge { file: file.to_owned() });
        }
        let mut bytes = std::fs::read(file).map_err(io)?;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        if bytes.is_empty() {
            return Err(SecretError::Empty { file: file.to_owned() });
        }
        Ok(Secret(bytes))
    }

    /// The bytes, for the one computation that needs them.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
