//! A client that writes and reads bytes, so that a test can be as rude as it likes.

use super::DEADLINE;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

pub(super) trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

/// A blocking HTTP/1.1 client.
pub(super) struct Client {
    pub(super) wire: Box<dyn Wire>,
    pub(super) tcp: TcpStream,
    pub(super) resumed: bool,
    buffer: Vec<u8>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

impl Client {
    pub(super) fn plain(address: SocketAddr) -> Client {
        let tcp = TcpStream::connect(address).expect("connect");
        tcp.set_read_timeout(Some(DEADLINE)).expect("timeout");
        tcp.set_write_timeout(Some(DEADLINE)).expect("timeout");
        Client {
            wire: Box::new(tcp.try_clone().expect("clone")),
            tcp,
            resumed: false,
            buffer: Vec::new(),
        }
    }

    /// Connects with TLS; the error of a refused handshake may come with the first read.
    pub(super) fn tls(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Client> {
        let mut tcp = TcpStream::connect(address)?;
        tcp.set_read_timeout(Some(DEADLINE))?;
        let name = "localhost".try_into().expect("a name");
        let mut session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut tcp)?;
        }
        let resumed = session.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        Ok(Client {
            tcp: tcp.try_clone()?,
            wire: Box::new(StreamOwned::new(session, tcp)),
            resumed,
            buffer: Vec::new(),
        })
    }

    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.write_all(bytes.as_ref()).expect("send");
        self.wire.flush().expect("flush");
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 65536];
        let read = match self.wire.read(&mut bytes) {
            // A peer that closes without saying so in TLS.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            other => other?,
        };
        self.buffer.extend_from_slice(&bytes[..read]);
        Ok(read)
    }

    /// The next answer; `head_only` for an answer to HEAD.
    pub(super) fn receive(&mut self, head_only: bool) -> io::Result<Answer> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).expect("text");
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .expect("a status line");
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut answer = Answer {
            status: status.parse().expect("a number"),
            headers,
            body: Vec::new(),
        };
        let length: usize = answer
            .header("content-length")
            .map_or(0, |text| text.parse().expect("a number"));
        if !head_only {
            while self.buffer.len() < length {
                if self.fill()? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            answer.body = self.buffer.drain(..length).collect();
        }
        Ok(answer)
    }

    /// One request without a body.
    pub(super) fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
        self.receive(false).expect("an answer")
    }

    /// One request with a body.
    pub(super) fn post(&mut self, path: &str, body: &[u8]) -> Answer {
        let length = body.len();
        self.send(format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n"
        ));
        self.send(body);
        self.receive(false).expect("an answer")
    }

    /// Reads until the peer ends; `true` when it ended in order, `false` when it reset.
    pub(super) fn ends(&mut self) -> bool {
        loop {
            match self.fill() {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("the connection stays open"),
                Err(_) => return false,
            }
        }
    }

    /// Body bytes that came with the headers.
    pub(super) fn take_buffered(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// Whether nothing more was received than what was taken.
    pub(super) fn is_drained(&self) -> bool {
        self.buffer.is_empty()
    }
}
