//! A backup for who asks at the operator's socket: the manifest, then the bytes of all files, in one answer.
//!
//! The body: the manifest's length (4 bytes, little-endian), the manifest as JSON with empty digests of files, then the files
//! one behind the other in its order. Who takes it writes the files, their digests and the manifest.

use super::{Admin, Refused, query_value};
use crate::base::RequestId;
use crate::bodies::Manifest as Upload;
use crate::http::{NextPiece, PieceStream, Response, ResponseBody};
use crate::ledger::Ledger;
use crate::log::backup::{Backup, BackupError, NodeInfo, Wish};
use crate::services::mesh;
use ::http::{StatusCode, header};
use bytes::Bytes;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What an operator may ask for, bytes a second.
const RATE_MIN: u64 = 64 * 1024;

impl Admin {
    pub(super) async fn backup(&self, query: &str, id: RequestId) -> Result<Response, Refused> {
        let bytes_per_second = match query_value(query, "bytes_per_second").map(|text| text.parse::<u64>()) {
            None | Some(Ok(0)) => None,
            Some(Ok(rate)) if rate >= RATE_MIN => Some(rate),
            Some(_) => {
                let what = format!("bytes_per_second is 0 for no bound, or at least {RATE_MIN}");
                return Err(Refused::Malformed(what));
            }
        };
        // What was acknowledged anywhere before is in it.
        self.log.linearizable().await?;
        // Before anything leaves: who takes records out is on the record first, and the record is in the backup.
        self.record(id, "admin.backup", "node", "200").await?;
        let wish = Wish {
            node: NodeInfo {
                id: self.config.node.id,
                name: self.config.node.name.clone(),
                site: self.config.node.site.clone(),
                release: crate::base::release::this().name.clone(),
            },
            now: self.clock.now(),
            audit: self.audit.head(),
            bytes_per_second,
            each_upload,
        };
        let backup = self.log.backup(&self.bodies, wish).await?;
        let manifest = serde_json::to_vec(&backup.manifest).expect("a manifest has a JSON form");
        tracing::info!(request = %id, index = backup.manifest.applied.2, bytes = backup.manifest.bytes, "a backup is taken");
        let mut head = (manifest.len() as u32).to_le_bytes().to_vec();
        head.extend_from_slice(&manifest);
        let body = ResponseBody::Stream {
            bytes: head.len() as u64 + backup.manifest.bytes,
            pieces: Box::pin(Pieces {
                head: Some(Bytes::from(head)),
                backup,
                serving: self.serving.clone(),
            }),
        };
        Ok(::http::Response::builder()
            .status(StatusCode::OK)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CACHE_CONTROL, "no-store")
            .body(body)
            .expect("a status and two constant headers"))
    }
}

/// Every upload that some service's state names.
fn each_upload(ledger: &Ledger, each: &mut dyn FnMut(&Upload) -> bool) {
    mesh::state::each_upload(ledger, each);
}

impl From<BackupError> for Refused {
    fn from(error: BackupError) -> Refused {
        match error {
            BackupError::Running => Refused::Busy(error.to_string()),
            BackupError::Space { .. } => Refused::NoSpace(error.to_string()),
            BackupError::Pieces { .. } | BackupError::Closing => Refused::Unable(error.to_string()),
            BackupError::Ledger(_) | BackupError::Io(_) => {
                tracing::error!(%error, "no backup could be taken");
                Refused::Failed
            }
        }
    }
}

struct Pieces {
    head: Option<Bytes>,
    backup: Backup,
    /// A stop does not wait for a backup.
    serving: Arc<AtomicBool>,
}

impl PieceStream for Pieces {
    fn next(&mut self) -> NextPiece<'_> {
        Box::pin(async move {
            if !self.serving.load(Ordering::Relaxed) {
                return Some(Err(io::Error::other("the node is shutting down")));
            }
            match self.head.take() {
                Some(head) => Some(Ok(head)),
                None => self.backup.next().await,
            }
        })
    }
}
