//! A backup as it lies in its folder: read, and proved whole before anything is done with it.

use super::super::level;
use super::{FORMAT, MANIFEST, Manifest, is_file_name};
use crate::base::release;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Bytes read at a time.
const CHUNK_BYTES: usize = 1024 * 1024;

/// A folder that says it is a backup.
pub struct Source {
    /// The folder.
    pub folder: PathBuf,
    /// What it says.
    pub manifest: Manifest,
}

/// Why a folder cannot be restored from. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No manifest.
    #[error("{folder} has no manifest.json: it is no backup, or one that was broken off; take another one", folder = .0.display())]
    NoManifest(PathBuf),
    /// A manifest that cannot be read, or whose values are not those that were written.
    #[error("manifest.json of the backup is damaged: {0}; use another backup")]
    Manifest(String),
    /// Written by a later release.
    #[error("the backup has format {found}, this release reads up to {known}; use the newer release", known = FORMAT)]
    Newer {
        /// Its format.
        found: u32,
    },
    /// Of a format level that this release does not speak.
    #[error("the backup cannot be restored by this release: {0}")]
    Level(String),
    /// A file is not there.
    #[error("{0} of the backup is missing; use another backup")]
    Missing(String),
    /// A file is longer or shorter than it was.
    #[error("{file} of the backup has {found} bytes instead of {written}; use another backup")]
    Length {
        /// Which.
        file: String,
        /// Its length.
        found: u64,
        /// What the manifest says.
        written: u64,
    },
    /// A file holds other bytes than it did.
    #[error("{0} of the backup is damaged: it does not have the digest that the manifest names; use another backup")]
    Damaged(String),
    /// The system could not read.
    #[error("{file} of the backup cannot be read: {cause}")]
    Io {
        /// Which.
        file: String,
        /// Why.
        cause: io::Error,
    },
}

impl Source {
    /// Reads the manifest.
    ///
    /// # Errors
    /// `NoManifest`, `Io`, `Level`, `Newer`, `Manifest`.
    pub fn open(folder: &Path) -> Result<Source, SourceError> {
        let bytes = fs::read(folder.join(MANIFEST)).map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => SourceError::NoManifest(folder.to_owned()),
            _ => SourceError::Io {
                file: MANIFEST.to_owned(),
                cause,
            },
        })?;
        let damaged = |what: &str| SourceError::Manifest(what.to_owned());
        #[derive(serde::Deserialize)]
        struct Format {
            format: u32,
            #[serde(default = "super::first_level")]
            level: u32,
            #[serde(default)]
            level_release: String,
        }
        // Only the number is read first: what else a later release writes is not known here.
        let told: Format = serde_json::from_slice(&bytes).map_err(|cause| damaged(&cause.to_string()))?;
        if let Some(why) = level::cannot_open(release::this(), told.level, &told.level_release) {
            return Err(SourceError::Level(why));
        }
        if told.format > FORMAT {
            return Err(SourceError::Newer { found: told.format });
        }
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|cause| damaged(&cause.to_string()))?;
        if manifest.seal != manifest.sealed() {
            return Err(damaged("its values do not have the digest that it ends with"));
        }
        if let Some(file) = manifest.files.iter().find(|file| !is_file_name(&file.name)) {
            return Err(damaged(&format!("it names {:?}", file.name)));
        }
        manifest.stored_membership().map_err(damaged)?;
        let folder = folder.to_owned();
        Ok(Source { folder, manifest })
    }

    /// Compares every file with what the manifest says of it, in its order; blocking. `read` is told the bytes of each
    /// step.
    ///
    /// # Errors
    /// `Missing`, `Length`, `Damaged`, `Io` of the first file that does not fit.
    pub fn verify_blocking(&self, read: &mut dyn FnMut(u64)) -> Result<(), SourceError> {
        let mut chunk = vec![0; CHUNK_BYTES];
        for info in &self.manifest.files {
            let failed = |cause: io::Error| match cause.kind() {
                io::ErrorKind::NotFound => SourceError::Missing(info.name.clone()),
                _ => SourceError::Io {
                    file: info.name.clone(),
                    cause,
                },
            };
            let mut file = File::open(self.folder.join(&info.name)).map_err(failed)?;
            let found = file.metadata().map_err(failed)?.len();
            if found != info.bytes {
                return Err(SourceError::Length {
                    file: info.name.clone(),
                    found,
                    written: info.bytes,
                });
            }
            let mut hasher = blake3::Hasher::new();
            loop {
                let bytes = file.read(&mut chunk).map_err(failed)?;
                if bytes == 0 {
                    break;
                }
                hasher.update(&chunk[..bytes]);
                read(bytes as u64);
            }
            if hasher.finalize().to_hex().as_str() != info.blake3 {
                return Err(SourceError::Damaged(info.name.clone()));
            }
        }
        Ok(())
    }

    /// The files of one folder, in order.
    pub(super) fn files_of(&self, folder: &str) -> Vec<PathBuf> {
        let inside = |name: &str| name.split_once('/').is_some_and(|(first, _)| first == folder);
        let files = self.manifest.files.iter().filter(|file| inside(&file.name));
        files.map(|file| self.folder.join(&file.name)).collect()
    }
}
