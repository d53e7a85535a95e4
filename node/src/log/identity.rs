//! Who a data folder belongs to: `cluster.json` in it.
//!
//! Invariants: the file is replaced as a whole and synced before anything relies on it; a folder belongs to one node and,
//! once it does, to one cluster, for ever; the format level that it says is in force here or about to be.

use super::OpenError;
use super::level;
use crate::base::NodeId;
use crate::base::release;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// The newest format, written from format level 2 on: releases that know no levels do not start on it.
const FORMAT: u32 = 2;
/// Its name.
pub const FILE: &str = "cluster.json";

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    format: u32,
    /// Number of the node whose folder this is.
    node: NodeId,
    /// Made up when the folder was new, 32 hexadecimal digits.
    incarnation: String,
    /// The cluster, 32 hexadecimal digits; none until the node is taken in.
    cluster: Option<String>,
    /// Counts how often a site went on alone; who was left behind is not let in again.
    epoch: u64,
    /// The format level; since format 2.
    #[serde(default = "first_level", skip_serializing_if = "is_first_level")]
    level: u32,
    /// The release that raised it; since format 2.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    level_release: String,
}

fn first_level() -> u32 {
    level::FIRST
}

fn is_first_level(level: &u32) -> bool {
    *level == level::FIRST
}

/// The folder's owner and cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    file: PathBuf,
    /// Number of the node.
    pub node: NodeId,
    /// Tells this folder from any other.
    pub incarnation: u128,
    /// The cluster, once the node belongs to one.
    pub cluster: Option<u128>,
    /// The cluster's epoch.
    pub epoch: u64,
    /// The format level in force, and the release that raised it.
    pub level: (u32, String),
}

impl Identity {
    /// Reads the file or makes one for a folder without.
    ///
    /// # Errors
    /// `Identity` when the folder is another node's, or of a format level that this release does not speak; `Ledger` when
    /// the file cannot be read or written.
    pub fn open(folder: &Path, node: NodeId) -> Result<Identity, OpenError> {
        let file = folder.join(FILE);
        match fs::read(&file) {
            Ok(bytes) => {
                refuse_level(&bytes)?;
                let identity = parse(file, &bytes).ok_or_else(|| {
                    OpenError::Identity(format!(
                        "{FILE} in the data folder cannot be read by this release; restore it or give the node a new folder"
                    ))
                })?;
                if identity.node != node {
                    return Err(OpenError::Identity(format!(
                        "the data folder belongs to node {}, the configuration says {node}; correct [node] id or data",
                        identity.node
                    )));
                }
                Ok(identity)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(folder).map_err(OpenError::Ledger)?;
                let identity = Identity {
                    file,
                    node,
                    incarnation: rand::random(),
                    cluster: None,
                    epoch: 0,
                    level: (level::FIRST, String::new()),
                };
                identity.save().map_err(OpenError::Ledger)?;
                Ok(identity)
            }
            Err(error) => Err(OpenError::Ledger(error)),
        }
    }

    /// From now on the folder belongs to this cluster. Durable when it returns.
    pub fn enter(&mut self, cluster: u128, epoch: u64) -> io::Result<()> {
        self.cluster = Some(cluster);
        self.epoch = epoch;
        self.save()
    }

    /// From now on no release that does not speak this level starts here. Durable when it returns.
    pub fn raise(&mut self, level: u32, release: &str) -> io::Result<()> {
        if level > self.level.0 {
            self.level = (level, release.to_owned());
            self.save()?;
        }
        Ok(())
    }

    fn save(&self) -> io::Result<()> {
        let (level, level_release) = self.level.clone();
        let stored = Stored {
            format: if is_first_level(&level) { 1 } else { FORMAT },
            node: self.node,
            incarnation: format!("{:032x}", self.incarnation),
            cluster: self.cluster.map(|cluster| format!("{cluster:032x}")),
            epoch: self.epoch,
            level,
            level_release,
        };
        let mut bytes = serde_json::to_vec_pretty(&stored).map_err(io::Error::other)?;
        bytes.push(b'\n');
        let fresh = self.file.with_extension("json.new");
        let mut file = File::create(&fresh)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, &self.file)?;
        let folder = self.file.parent().unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}

/// Only the level is read first: what else a later release writes is not known here.
fn refuse_level(bytes: &[u8]) -> Result<(), OpenError> {
    #[derive(Deserialize)]
    struct Level {
        #[serde(default = "first_level")]
        level: u32,
        #[serde(default)]
        level_release: String,
        #[serde(default)]
        cluster: Option<String>,
    }
    let told = serde_json::from_slice::<Level>(bytes).ok();
    // Who belongs nowhere yet gets its cluster's.
    let told = told.filter(|told| told.cluster.is_some() || !is_first_level(&told.level));
    let refused = told.and_then(|told| level::cannot_open(release::this(), told.level, &told.level_release));
    refused.map_or(Ok(()), |why| Err(OpenError::Identity(why)))
}

fn parse(file: PathBuf, bytes: &[u8]) -> Option<Identity> {
    let stored: Stored = serde_json::from_slice(bytes).ok()?;
    let number = |text: &str| u128::from_str_radix(text, 16).ok();
    if stored.format > FORMAT {
        return None;
    }
    Some(Identity {
        file,
        node: stored.node,
        incarnation: number(&stored.incarnation)?,
        cluster: match &stored.cluster {
            Some(text) => Some(number(text)?),
            None => None,
        },
        epoch: stored.epoch,
        level: (stored.level, stored.level_release),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_that_of_the_first_release_until_the_level_is_raised_and_then_too_new_for_it() {
        let folder = std::env::temp_dir().join(format!("vertebra-identity-{}", std::process::id()));
        let mut identity = Identity::open(&folder, 7).expect("a fresh folder");
        identity.enter(5, 1).expect("it is written");
        let text = fs::read_to_string(folder.join(FILE)).expect("it is there");
        assert!(text.contains("\"format\": 1,") && !text.contains("level"), "{text}");
        identity.raise(1, "a").expect("nothing to do");
        identity.raise(2, "b").expect("it is written");
        identity.raise(1, "c").expect("nothing to do");
        let text = fs::read_to_string(folder.join(FILE)).expect("it is there");
        assert!(
            text.contains("\"format\": 2,") && text.contains("\"level\": 2,"),
            "{text}"
        );
        assert_eq!(
            Identity::open(&folder, 7).expect("its own file").level,
            (2, "b".to_owned())
        );
        // A later level is told apart from a file that cannot be read, whatever else stands in it.
        fs::write(
            folder.join(FILE),
            r#"{"format": 9, "level": 900, "level_release": "z", "new": []}"#,
        )
        .expect("written");
        let refused = Identity::open(&folder, 7).expect_err("a later level").to_string();
        assert!(
            refused.contains("is 900") && refused.contains("start release z"),
            "{refused}"
        );
        fs::write(folder.join(FILE), "{}").expect("written");
        let refused = Identity::open(&folder, 7).expect_err("no such file").to_string();
        assert!(refused.contains("cannot be read"), "{refused}");
        let _ = fs::remove_dir_all(&folder);
    }
}
