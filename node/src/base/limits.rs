//! Every limit in one place, so that an operator and a test can find it. Configuration may lower or raise
//! those that name a configuration key; the others are part of the formats.

/// Largest body that travels inside a command; a larger one goes to the bodies stream in pieces.
pub const BODY_INLINE_BYTES_MAX: usize = 32 * 1024;
/// Largest piece of a large body.
pub const PIECE_BYTES_MAX: usize = 256 * 1024;
/// Largest command, inline body included. A larger one is a bug of the proposer and is refused.
pub const COMMAND_BYTES_MAX: usize = 64 * 1024;
/// Largest body of one request (`http.body_bytes_max`).
pub const REQUEST_BODY_BYTES_MAX: u64 = 100 * 1024 * 1024;
/// How long an upload's pieces wait for the command that names them, in log time.
pub const UPLOAD_LEASE_MS: u64 = 60 * 60 * 1000;
