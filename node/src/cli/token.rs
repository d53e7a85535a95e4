//! Makes an NHSMESH authorization header, for curl and for trying things out.

use super::CliError;
use super::sandbox::Sandbox;
use crate::base::{Clock, Timestamp};
use crate::config::Secret;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::path::PathBuf;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Which mailbox, X26ABC1 say
    mailbox: String,
    /// Folder of a sandbox: its key and password are used
    #[arg(long, value_name = "DIR", required_unless_present = "shared_key_file")]
    sandbox: Option<PathBuf>,
    /// File with the shared key
    #[arg(long, value_name = "FILE", requires = "password_file", conflicts_with = "sandbox")]
    shared_key_file: Option<PathBuf>,
    /// File with the mailbox's password
    #[arg(long, value_name = "FILE", conflicts_with = "sandbox")]
    password_file: Option<PathBuf>,
}

/// The header's value. Source: MESH API specification, securitySchemes.
pub(super) fn value(mailbox: &str, password: &[u8], key: &[u8], nonce: &str, at: Timestamp) -> String {
    let stamp = at.calendar().strftime("%Y%m%d%H%M").to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(format!("{mailbox}:{nonce}:1:").as_bytes());
    mac.update(password);
    mac.update(format!(":{stamp}").as_bytes());
    format!(
        "NHSMESH {mailbox}:{nonce}:1:{stamp}:{}",
        hex::encode(mac.finalize().into_bytes())
    )
}

pub(super) fn run(args: &Args) -> Result<u8, CliError> {
    let read = |file: &PathBuf| Secret::read(file).map_err(|error| CliError::Usage(error.to_string()));
    let nonce = hex::encode(rand::random::<[u8; 16]>());
    let value = match (&args.sandbox, &args.shared_key_file, &args.password_file) {
        (Some(folder), _, _) => {
            let sandbox = Sandbox::read(folder)?;
            let id = args.mailbox.to_ascii_uppercase();
            let mailbox = sandbox
                .mesh
                .mailboxes
                .iter()
                .find(|mailbox| mailbox.id == id)
                .ok_or_else(|| {
                    let known: Vec<&str> = sandbox.mesh.mailboxes.iter().map(|m| m.id.as_str()).collect();
                    CliError::Usage(format!("the sandbox has no mailbox {id}; it has {}", known.join(", ")))
                })?;
            // A test may have moved the clock of a sandbox of one. Members have the system's; the first may be frozen.
            let door = sandbox.members.is_empty().then(|| sandbox.door().ok()).flatten();
            let at = door
                .and_then(|door| now_of(&door))
                .unwrap_or_else(|| Clock::default().now());
            value(
                &id,
                mailbox.password.as_bytes(),
                sandbox.mesh.shared_key.as_bytes(),
                &nonce,
                at,
            )
        }
        (None, Some(key), Some(password)) => value(
            &args.mailbox,
            read(password)?.bytes(),
            read(key)?.bytes(),
            &nonce,
            Clock::default().now(),
        ),
        (None, _, _) => {
            return Err(CliError::Usage(
                "give --sandbox, or --shared-key-file and --password-file".to_owned(),
            ));
        }
    };
    super::print(&format!("Authorization: {value}\n"));
    Ok(0)
}

/// The node's own time.
fn now_of(door: &super::client::Door) -> Option<Timestamp> {
    let status: crate::admin::status::Status = door.json("GET", "/admin/status", b"").ok()?;
    let now: jiff::Timestamp = status.now.parse().ok()?;
    u64::try_from(now.as_millisecond()).ok().map(Timestamp::from_ms)
}
