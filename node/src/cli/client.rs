//! Asks the running node through its operator's door: HTTP/1.1 over the Unix socket, or over loopback in the sandbox.

use super::CliError;
use super::sandbox::Sandbox;
use crate::config::{self, FILE_DEFAULT};
use serde::de::DeserializeOwned;
use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest answer, bytes.
const ANSWER_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Longest head of an answer, bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long most questions may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Which node a command means. Without any: the one that the default configuration file names.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct Target {
    /// Configuration file of the node
    #[arg(long, value_name = "FILE", conflicts_with_all = ["socket", "sandbox"])]
    pub(super) config: Option<PathBuf>,
    /// The node's operator socket
    #[arg(long, value_name = "PATH", conflicts_with = "sandbox")]
    pub(super) socket: Option<PathBuf>,
    /// Folder of a sandbox
    #[arg(long, value_name = "DIR")]
    pub(super) sandbox: Option<PathBuf>,
}

/// Where the node answers operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// The Unix socket.
    Socket(PathBuf),
    /// The sandbox's loopback listener.
    Loopback(SocketAddr),
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Door::Socket(path) => write!(f, "{}", path.display()),
            Door::Loopback(address) => write!(f, "http://{address}"),
        }
    }
}

impl Target {
    /// The door. A sandbox that does not run has no `sandbox.json`.
    pub(super) fn door(&self) -> Result<Door, CliError> {
        if let Some(socket) = &self.socket {
            return Ok(Door::Socket(socket.clone()));
        }
        if let Some(folder) = &self.sandbox {
            return Sandbox::read(folder)?.door();
        }
        match &self.config {
            Some(file) => Ok(Door::Socket(config::admin_socket(file)?)),
            None if Path::new(FILE_DEFAULT).exists() => {
                Ok(Door::Socket(config::admin_socket(Path::new(FILE_DEFAULT))?))
            }
            None => Ok(Door::Socket(config::Admin::default().socket)),
        }
    }
}

/// The body of an answer on its way: it ends with the connection, whole or not.
pub(super) type Answering = Box<dyn Stream>;

pub(super) trait Stream: Read + Write + Send {}
impl Stream for UnixStream {}
impl Stream for TcpStream {}

impl Door {
    fn connect(&self, patience: Duration) -> std::io::Result<Box<dyn Stream>> {
        match self {
            Door::Socket(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                Ok(Box::new(stream))
            }
            Door::Loopback(address) => {
                let stream = TcpStream::connect_timeout(address, Duration::from_secs(5))?;
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                Ok(Box::new(stream))
            }
        }
    }

    /// Asks; gives status and body. `NotRunning` when nobody listens.
    pub(super) fn ask(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
        patience: Duration,
    ) -> Result<(u16, Vec<u8>), CliError> {
        let mut stream = self.connect(patience).map_err(|cause| CliError::NotRunning {
            door: self.to_string(),
            cause: cause.to_string(),
        })?;
        let broken = |cause: std::io::Error| CliError::Failed(format!("the node broke off its answer: {cause}"));
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            body.len()
        );
        stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(body))
            .map_err(broken)?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).map_err(broken)?;
        split(&answer).ok_or_else(|| CliError::Failed("the node's answer is not HTTP, or it is cut off".to_owned()))
    }

    /// Asks for an answer that is too long for memory. A refusal becomes the node's own sentence.
    pub(super) fn begin(&self, method: &str, path: &str, patience: Duration) -> Result<Answering, CliError> {
        let mut stream = self.connect(patience).map_err(|cause| CliError::NotRunning {
            door: self.to_string(),
            cause: cause.to_string(),
        })?;
        let broken = |cause: std::io::Error| CliError::Failed(format!("the node broke off its answer: {cause}"));
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).map_err(broken)?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0; 1];
            if head.len() == HEAD_BYTES_MAX || stream.read(&mut byte).map_err(broken)? == 0 {
                return Err(CliError::Failed(
                    "the node's answer is not HTTP, or it is cut off".to_owned(),
                ));
            }
            head.push(byte[0]);
        }
        if !head.starts_with(b"HTTP/1.1 200") {
            stream.take(ANSWER_BYTES_MAX).read_to_end(&mut head).map_err(broken)?;
            let (status, body) = split(&head).unwrap_or((500, Vec::new()));
            return Err(CliError::Refused(refusal(status, &body)));
        }
        Ok(stream)
    }

    /// Asks for JSON; a refusal becomes the node's own sentence.
    pub(super) fn json<T: DeserializeOwned>(&self, method: &str, path: &str, body: &[u8]) -> Result<T, CliError> {
        self.json_within(method, path, body, PATIENCE)
    }

    /// The same with a patience of one's own.
    pub(super) fn json_within<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
        patience: Duration,
    ) -> Result<T, CliError> {
        let (status, body) = self.ask(method, path, body, patience)?;
        if status >= 400 {
            return Err(CliError::Refused(refusal(status, &body)));
        }
        serde_json::from_slice(&body).map_err(|cause| {
            CliError::Failed(format!(
                "the node's answer cannot be read ({cause}); is it of another release?"
            ))
        })
    }
}

/// The sentence of a refusal.
pub(super) fn refusal(status: u16, body: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    match value["message"].as_str() {
        Some(message) => message.to_owned(),
        None => format!("the node answered {status}"),
    }
}

/// Status and body of an HTTP/1.1 answer that ends with its connection, or says its length, or comes in chunks.
pub(super) fn split(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let body = &answer[end + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let header = |name: &str| {
        lines.clone().find_map(|line| {
            line.split_once(':')
                .filter(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, v)| v.trim())
        })
    };
    if header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
        return Some((status, unchunk(body)?));
    }
    match header("content-length") {
        Some(length) => Some((status, body.get(..length.parse().ok()?)?.to_vec())),
        None => Some((status, body.to_vec())),
    }
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..line_end]).ok()?.split(';').next()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        rest = &rest[line_end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size.checked_add(2)?..)?;
    }
}

/// Makes one segment of a path of `text`.
pub(super) fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
