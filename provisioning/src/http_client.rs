//! One small request, one small answer: HTTP/1.1 over TLS that is pinned to one CA, or over a Unix socket.
//!
//! Blocking, with a deadline over all of it. Nothing is followed, nothing is kept open.

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Largest answer, bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 32;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// `https://NAME[:PORT]` was expected.
    #[error("`{0}` is not https://NAME:PORT")]
    Url(String),
    /// The CA's file.
    #[error("{file}: {what}")]
    Ca {
        /// The file.
        file: String,
        /// What is wrong with it.
        what: String,
    },
    /// Nobody there, not the pinned CA, too slow.
    #[error("{host}: {cause}")]
    Io {
        /// Whom we asked.
        host: String,
        /// What happened.
        cause: io::Error,
    },
    /// Something that is not HTTP/1.1, or too large.
    #[error("{host}: not an answer: {what}")]
    Answer {
        /// Whom we asked.
        host: String,
        /// What is wrong.
        what: String,
    },
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// Where to ask: a host, a port, and the one CA that its certificate must be of.
#[derive(Clone)]
pub struct Service {
    host: String,
    port: u16,
    tls: Arc<ClientConfig>,
}

impl Service {
    /// `url` is `https://NAME[:PORT]`; only certificates of `ca` are taken.
    pub fn new(url: &str, ca: &Path) -> Result<Service, ClientError> {
        let bad = || ClientError::Url(crate::names::shown(url));
        let rest = url.strip_prefix("https://").ok_or_else(bad)?.trim_end_matches('/');
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| bad())?),
            None => (rest, 8443),
        };
        if host.is_empty() || host.contains(['/', '@', '?', ' ']) {
            return Err(bad());
        }
        let file = |what: String| ClientError::Ca {
            file: ca.display().to_string(),
            what,
        };
        let pem = crate::files::read(ca).map_err(|error| file(error.to_string()))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| file(error.to_string()))?;
            roots.add(certificate).map_err(|error| file(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(file("there is no certificate in it".to_owned()));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| file(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Service {
            host: host.to_owned(),
            port,
            tls: Arc::new(tls),
        })
    }

    /// Posts JSON. `key` goes along as a bearer token.
    pub fn post(
        &self,
        path: &str,
        body: &serde_json::Value,
        key: Option<&str>,
        patience: Duration,
    ) -> Result<Answer, ClientError> {
        let deadline = Instant::now() + patience;
        let io = |cause| ClientError::Io {
            host: format!("{}:{}", self.host, self.port),
            cause,
        };
        let name = ServerName::try_from(self.host.clone()).map_err(|_| ClientError::Url(self.host.clone()))?;
        let stream = connect(&self.host, self.port, deadline).map_err(io)?;
        let session = ClientConnection::new(self.tls.clone(), name).map_err(|error| io(io::Error::other(error)))?;
        let body = body.to_string();
        let mut head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n",
            self.host,
            body.len()
        );
        if let Some(key) = key {
            head.push_str(&format!("Authorization: Bearer {key}\r\n"));
        }
        head.push_str("\r\n");
        head.push_str(&body);
        let mut stream = StreamOwned::new(session, stream);
        exchange(&mut stream, head.as_bytes(), deadline, &self.host)
    }
}

fn connect(host: &str, port: u16, deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host.trim_start_matches('[').trim_end_matches(']'), port).to_socket_addrs()? {
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => {
                // Each wait is bounded too, so that a silent peer cannot outlast the deadline by much.
                stream.set_read_timeout(Some(Duration::from_secs(1)))?;
                stream.set_write_timeout(Some(Duration::from_secs(1)))?;
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Asks over a Unix socket.
pub fn get_unix(socket: &Path, path: &str, patience: Duration) -> Result<Answer, ClientError> {
    let host = socket.display().to_string();
    let deadline = Instant::now() + patience;
    let mut stream = UnixStream::connect(socket)
        .and_then(|stream| {
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.set_write_timeout(Some(Duration::from_secs(1)))?;
            Ok(stream)
        })
        .map_err(|cause| ClientError::Io {
            host: host.clone(),
            cause,
        })?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    exchange(&mut stream, head.as_bytes(), deadline, &host)
}

fn waits(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

fn exchange(
    stream: &mut (impl Read + Write),
    request: &[u8],
    deadline: Instant,
    host: &str,
) -> Result<Answer, ClientError> {
    let io = |cause| ClientError::Io {
        host: host.to_owned(),
        cause,
    };
    let late = || io(io::Error::new(io::ErrorKind::TimedOut, "no whole answer in time"));
    let mut sent = 0;
    while sent < request.len() {
        match stream.write(&request[sent..]) {
            Ok(0) => return Err(io(io::ErrorKind::WriteZero.into())),
            Ok(count) => sent += count,
            Err(error) if waits(&error) && Instant::now() < deadline => {}
            Err(error) => return Err(io(error)),
        }
    }
    loop {
        match stream.flush() {
            Ok(()) => break,
            Err(error) if waits(&error) && Instant::now() < deadline => {}
            Err(error) => return Err(io(error)),
        }
    }
    let mut bytes = Vec::new();
    let mut buffer = [0u8; 4096];
    loop {
        if let Some(answer) = whole(&bytes, false, host)? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            return Err(late());
        }
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if waits(&error) => {}
            // A peer may close without TLS's own farewell; what it said then counts if it is whole.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(io(error)),
        }
        if bytes.len() > ANSWER_BYTES_MAX {
            let what = format!("larger than {ANSWER_BYTES_MAX} bytes");
            return Err(ClientError::Answer {
                host: host.to_owned(),
                what,
            });
        }
    }
    whole(&bytes, true, host)?.ok_or_else(|| io(io::ErrorKind::UnexpectedEof.into()))
}

/// The answer, once all of it is there. Without a length it ends where the connection does.
fn whole(bytes: &[u8], closed: bool, host: &str) -> Result<Option<Answer>, ClientError> {
    let bad = |what: &str| ClientError::Answer {
        host: host.to_owned(),
        what: what.to_owned(),
    };
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let parsed = head.parse(bytes).map_err(|error| bad(&error.to_string()))?;
    let httparse::Status::Complete(start) = parsed else {
        return Ok(None);
    };
    let status = head.code.ok_or_else(|| bad("no status"))?;
    let mut length = None;
    for header in head.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).map_err(|_| bad("its length is no number"))?;
            length = Some(
                text.trim()
                    .parse::<usize>()
                    .map_err(|_| bad("its length is no number"))?,
            );
        }
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(bad("it comes in chunks"));
        }
    }
    let body = &bytes[start..];
    match length {
        Some(length) if length > ANSWER_BYTES_MAX => Err(bad("it is too large")),
        Some(length) if body.len() < length => Ok(None),
        Some(length) => Ok(Some(Answer {
            status,
            body: body[..length].to_vec(),
        })),
        None if closed => Ok(Some(Answer {
            status,
            body: body.to_vec(),
        })),
        None => Ok(None),
    }
}
