//! Who a data folder belongs to: `cluster.json` in it.
//!
//! Invariants: the file is replaced as a whole and synced before anything relies on it; a folder belongs to one node and,
//! once it does, to one cluster, for ever.

use super::OpenError;
use crate::base::NodeId;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

const FORMAT: u32 = 1;
const FILE: &str = "cluster.json";

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
}

impl Identity {
    /// Reads the file or makes one for a folder without.
    ///
    /// # Errors
    /// `Identity` when the folder is another node's, `Ledger` when the file cannot be read or written.
    pub fn open(folder: &Path, node: NodeId) -> Result<Identity, OpenError> {
        let file = folder.join(FILE);
        match fs::read(&file) {
            Ok(bytes) => {
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

    fn save(&self) -> io::Result<()> {
        let stored = Stored {
            format: FORMAT,
            node: self.node,
            incarnation: format!("{:032x}", self.incarnation),
            cluster: self.cluster.map(|cluster| format!("{cluster:032x}")),
            epoch: self.epoch,
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
    })
}
