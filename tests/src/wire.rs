//! HTTP/1.1 by hand over TCP or TLS: every byte of a request is the test's own choice, and one thread can drive
//! thousands of connections.

use rustls_pki_types::ServerName;
use serde_json::Value;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Longest wait for one answer: it only catches hangs.
pub const ANSWER_WAIT_MAX: Duration = Duration::from_secs(60);
/// Bodies above this are written while the answer is awaited, so that an early refusal is seen.
const BODY_AT_ONCE_BYTES_MAX: usize = 64 * 1024;

/// Where to connect, and how.
#[derive(Clone)]
pub struct Target {
    /// Address of the listener.
    pub address: SocketAddr,
    /// Name the server's certificate must bear.
    pub host: String,
    /// TLS, with or without a client certificate; `None`: plain.
    pub tls: Option<TlsConnector>,
}

/// A byte stream, plain or TLS.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What the server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers as sent, in order.
    pub headers: Vec<(String, String)>,
    /// Body, after chunked coding.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of that name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON; `Null` when it is none, so that an assertion shows it.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The body as text, for messages of failed assertions.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The server will take no further request on this connection.
    pub fn closes(&self) -> bool {
        self.header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// One connection.
pub struct Connection {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
    /// The server's own certificate, DER; empty without TLS.
    pub server_certificate: Vec<u8>,
}

impl Connection {
    /// Connects and finishes the TLS handshake.
    pub async fn open(target: &Target) -> io::Result<Connection> {
        let tcp = tokio::time::timeout(ANSWER_WAIT_MAX, TcpStream::connect(target.address)).await??;
        tcp.set_nodelay(true)?;
        let Some(connector) = &target.tls else {
            return Ok(Connection::over(tcp));
        };
        let name = ServerName::try_from(target.host.clone()).map_err(io::Error::other)?;
        let tls = tokio::time::timeout(ANSWER_WAIT_MAX, connector.connect(name, tcp)).await??;
        let certificate = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let server_certificate = certificate.map(|leaf| leaf.to_vec()).unwrap_or_default();
        Ok(Connection {
            server_certificate,
            ..Connection::over(tls)
        })
    }

    /// A connection over a stream that is open already.
    pub fn over(stream: impl Stream + 'static) -> Connection {
        Connection {
            stream: Box::new(stream),
            read: Vec::new(),
            server_certificate: Vec::new(),
        }
    }

    /// Writes bytes as they are.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Sends a request and reads its answer.
    pub async fn exchange(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        for (name, value) in headers {
            head.push_str(name);
            head.push_str(": ");
            head.push_str(value);
            head.push_str("\r\n");
        }
        if !body.is_empty() || matches!(method, "POST" | "PUT") {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        if body.len() <= BODY_AT_ONCE_BYTES_MAX {
            bytes.extend_from_slice(body);
            self.write(&bytes).await?;
            return self.answer(method == "HEAD").await;
        }
        self.write(&bytes).await?;
        self.upload(body).await?;
        self.answer(method == "HEAD").await
    }

    /// Writes a large body, and stops early when the server answers before its end.
    async fn upload(&mut self, body: &[u8]) -> io::Result<()> {
        let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
        let mut early = [0u8; 4096];
        let read = reader.read(&mut early);
        tokio::pin!(read);
        let mut pieces = body.chunks(BODY_AT_ONCE_BYTES_MAX);
        loop {
            let Some(piece) = pieces.next() else {
                return writer.flush().await;
            };
            tokio::select! {
                biased;
                count = &mut read => {
                    let count = count?;
                    if count == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    self.read.extend_from_slice(&early[..count]);
                    return Ok(());
                }
                written = writer.write_all(piece) => {
                    // A server that refuses may close its side: the answer is still there to be read.
                    if written.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Reads one answer; `bodiless` for HEAD.
    pub async fn answer(&mut self, bodiless: bool) -> io::Result<Answer> {
        tokio::time::timeout(ANSWER_WAIT_MAX, self.answer_unbounded(bodiless)).await?
    }

    async fn answer_unbounded(&mut self, bodiless: bool) -> io::Result<Answer> {
        loop {
            let head = self.read_until_blank_line().await?;
            let (status, headers) = parse_head(&head)?;
            let mut answer = Answer {
                status,
                headers,
                body: Vec::new(),
            };
            if status == 100 {
                continue;
            }
            if bodiless || status == 204 || status == 304 {
                return Ok(answer);
            }
            let chunked = answer
                .header("transfer-encoding")
                .is_some_and(|v| v.eq_ignore_ascii_case("chunked"));
            let announced = answer.header("content-length").map(str::to_owned);
            answer.body = match (chunked, announced) {
                (true, _) => self.read_chunked().await?,
                (false, Some(bytes)) => {
                    let bytes: usize = bytes.parse().map_err(|_| malformed("Content-Length"))?;
                    self.read_exactly(bytes).await?
                }
                (false, None) => self.read_to_end().await?,
            };
            return Ok(answer);
        }
    }

    /// Reads whatever comes, up to `bytes_max`; empty at the end of the stream.
    pub async fn read_some(&mut self, bytes_max: usize) -> io::Result<Vec<u8>> {
        if !self.read.is_empty() {
            return Ok(std::mem::take(&mut self.read));
        }
        let mut bytes = vec![0; bytes_max];
        let count = self.stream.read(&mut bytes).await?;
        bytes.truncate(count);
        Ok(bytes)
    }

    async fn fill(&mut self) -> io::Result<()> {
        self.read.reserve(64 * 1024);
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn read_until_blank_line(&mut self) -> io::Result<Vec<u8>> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.read[searched..]
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
            {
                let rest = self.read.split_off(searched + at + 4);
                return Ok(std::mem::replace(&mut self.read, rest));
            }
            searched = self.read.len().saturating_sub(3);
            self.fill().await?;
        }
    }

    async fn read_exactly(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        while self.read.len() < bytes {
            self.fill().await?;
        }
        let rest = self.read.split_off(bytes);
        Ok(std::mem::replace(&mut self.read, rest))
    }

    async fn read_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.read.windows(2).position(|window| window == b"\r\n") {
                let line = self.read_exactly(at + 2).await?;
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            self.fill().await?;
        }
    }

    async fn read_chunked(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.read_line().await?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or("").trim(), 16)
                .map_err(|_| malformed("chunk size"))?;
            if size == 0 {
                while !self.read_line().await?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.read_exactly(size).await?);
            self.read_line().await?;
        }
    }

    async fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.fill().await {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(std::mem::take(&mut self.read));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the server sent a malformed {what}"),
    )
}

fn parse_head(head: &[u8]) -> io::Result<(u16, Vec<(String, String)>)> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let status_line = lines.next().unwrap_or("");
    let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| malformed("status line"))?;
    let mut headers = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or_else(|| malformed("header"))?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    Ok((status, headers))
}
