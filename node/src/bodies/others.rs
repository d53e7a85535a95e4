//! The other members' bodies, as far as this module needs them: how it reaches them is the log's.

use crate::base::UploadId;
use bytes::Bytes;
use tokio::sync::oneshot;

/// Told once enough other members have a piece that a majority of voters does; dropped when they do not in time.
pub type Sent = oneshot::Receiver<()>;

/// What can be asked of them, from any thread.
pub struct Others {
    /// Sends a piece to the other members.
    pub send: Box<dyn Fn(UploadId, u32, Vec<Bytes>) -> Sent + Send + Sync>,
    /// Fetches a piece from whoever has it; dropped when nobody does.
    pub fetch: Box<dyn Fn(UploadId, u32) -> oneshot::Receiver<Bytes> + Send + Sync>,
    /// State names an upload whose pieces are not all here: they are to be fetched.
    pub lacking: Box<dyn Fn(UploadId) + Send + Sync>,
}
