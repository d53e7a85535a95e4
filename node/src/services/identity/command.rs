//! What travels in the log, and what `apply` answers. Encoded by postcard behind a version byte; variants are only ever
//! added at the end, fields never changed (a new variant instead): the golden bytes in the tests hold it.

use super::ClientId;
use crate::base::{OdsCode, Timestamp};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// How a client may use the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// By itself: application-restricted access.
    Application,
    /// For healthcare workers who sign in.
    Worker,
    /// For patients who sign in.
    Patient,
}

impl Mode {
    /// All, in the order in which they are shown.
    pub const ALL: [Mode; 3] = [Mode::Application, Mode::Worker, Mode::Patient];

    /// As the command line writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Application => "application",
            Mode::Worker => "worker",
            Mode::Patient => "patient",
        }
    }

    /// Reads it; `None` when it is none.
    pub fn parse(text: &str) -> Option<Mode> {
        Mode::ALL.into_iter().find(|mode| mode.as_str() == text)
    }
}

/// A public RSA key of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientKey {
    /// Its identifier.
    pub kid: String,
    /// Modulus, big-endian, 2048 to 4096 bits.
    pub n: Vec<u8>,
    /// Exponent, big-endian.
    pub e: Vec<u8>,
}

/// A client as administered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Its API key.
    pub id: ClientId,
    /// Its name, for people.
    pub name: String,
    /// The organisation that it belongs to, and that an application acts for.
    pub ods: OdsCode,
    /// Keys that sign its assertions; several while they rotate.
    pub keys: Vec<ClientKey>,
    /// How it may use the service.
    pub modes: Vec<Mode>,
    /// What its tokens may be for.
    pub scopes: Vec<String>,
    /// Requests a second; on each node, where nodes share no Redis.
    pub requests_per_second: u32,
    /// May be used.
    pub active: bool,
}

impl Client {
    /// Whether it may be used in this mode.
    pub fn allows(&self, mode: Mode) -> bool {
        self.modes.contains(&mode)
    }
}

/// Commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Adds or changes a client.
    PutClient(Client),
    /// Uses up a client assertion, so that a token may be issued for it.
    IssueToken {
        /// Whose assertion.
        client: ClientId,
        /// First 16 bytes of BLAKE3 over client, NUL and `jti`.
        fingerprint: [u8; 16],
        /// End of the assertion; its fingerprint is kept until then plus skew.
        expires: Timestamp,
    },
}

/// What `apply` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done, nothing to say.
    Done,
    /// The token may be issued: no other will be for this assertion.
    Issued,
    /// Refused; nothing changed.
    Refused(Refusal),
}

/// Why a command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The assertion was used before.
    Replayed,
    /// The assertion's end is past.
    AssertionExpired,
    /// No such client.
    ClientUnknown,
    /// The client is disabled.
    ClientDisabled,
    /// The client may not act by itself.
    ModeNotAllowed,
}

/// Why bytes are no command, or no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed command of the identity service")]
pub struct DecodeError;

/// First byte of every command and outcome: the service, and the version of its encoding. Another encoding takes another
/// byte, which an older release does not know at all.
pub const COMMAND_VERSION: u8 = 2;

impl Command {
    /// Encodes.
    pub fn encode(&self) -> Bytes {
        Bytes::from(postcard::to_stdvec(&(COMMAND_VERSION, self)).expect("commands serialise into memory"))
    }

    /// Decodes.
    pub fn decode(bytes: &[u8]) -> Result<Command, DecodeError> {
        decode(bytes)
    }
}

impl Outcome {
    /// Encodes.
    pub fn encode(&self) -> Bytes {
        Bytes::from(postcard::to_stdvec(&(COMMAND_VERSION, self)).expect("outcomes serialise into memory"))
    }

    /// Decodes.
    pub fn decode(bytes: &[u8]) -> Result<Outcome, DecodeError> {
        decode(bytes)
    }
}

fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, DecodeError> {
    match bytes.split_first() {
        Some((&COMMAND_VERSION, rest)) => match postcard::take_from_bytes::<T>(rest) {
            Ok((value, [])) => Ok(value),
            Ok(_) | Err(_) => Err(DecodeError),
        },
        Some(_) | None => Err(DecodeError),
    }
}

/// What single use of an assertion is judged by.
pub fn fingerprint(client: &ClientId, jti: &str) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in [client.as_str().as_bytes(), &[0], jti.as_bytes()] {
        hasher.update(part);
    }
    *hasher
        .finalize()
        .as_bytes()
        .first_chunk()
        .expect("a digest has 32 bytes")
}

#[cfg(test)]
mod tests;
