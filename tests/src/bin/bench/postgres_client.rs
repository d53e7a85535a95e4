//! A client of PostgreSQL on a Unix socket that runs one prepared statement again and again: the front-end protocol, version
//! 3.0, as far as that goes. It drives load as the node's clients do, from the same thread, and is timed by the same clock.

use crate::demand::Client;
use crate::people::Person;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

const PROTOCOL: i32 = 196_608;

/// One connection with its statement.
pub struct Asker {
    stream: BufReader<UnixStream>,
    people: Arc<[Person]>,
    fuzzy: bool,
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend((body.len() as i32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

impl Asker {
    /// Connects and prepares `statement`; its parameters are family, birth, and gender or, when `fuzzy`, given name.
    pub async fn open(socket: &Path, statement: &str, people: &Arc<[Person]>, fuzzy: bool) -> Asker {
        let stream = UnixStream::connect(socket).await.expect("PostgreSQL accepts");
        let mut asker = Asker {
            stream: BufReader::with_capacity(64 * 1024, stream),
            people: people.clone(),
            fuzzy,
        };
        let mut start = PROTOCOL.to_be_bytes().to_vec();
        start.extend(b"user\0postgres\0database\0postgres\0\0");
        let mut bytes = (start.len() as i32 + 4).to_be_bytes().to_vec();
        bytes.extend(start);
        asker.exchange(&bytes).await;
        // Statement `s`, no types given.
        let parse = [b"s\0", statement.as_bytes(), b"\0\0\0"].concat();
        let mut bytes = message(b'P', &parse);
        bytes.extend(message(b'S', b""));
        asker.exchange(&bytes).await;
        asker
    }

    /// Sends, and reads until the server is ready again; how many rows came.
    async fn exchange(&mut self, bytes: &[u8]) -> usize {
        self.stream.write_all(bytes).await.expect("PostgreSQL reads");
        let (mut rows, mut body) = (0, Vec::new());
        loop {
            let kind = self.stream.read_u8().await.expect("PostgreSQL answers");
            let length = self.stream.read_i32().await.expect("PostgreSQL answers");
            body.resize(usize::try_from(length - 4).expect("a length"), 0);
            self.stream.read_exact(&mut body).await.expect("PostgreSQL answers");
            match kind {
                b'D' => rows += 1,
                b'E' => panic!("PostgreSQL: {}", String::from_utf8_lossy(&body)),
                b'Z' => return rows,
                _ => {}
            }
        }
    }
}

impl Client for Asker {
    async fn step(&mut self) {
        let person = &self.people[rand::random_range(0..self.people.len())];
        let third = if self.fuzzy { &person.given } else { &person.gender };
        // The unnamed portal of `s`; no formats given, three parameters, all results as text.
        let mut bind = b"\0s\0\0\0\0\x03".to_vec();
        for value in [&person.family, &person.birth, third] {
            bind.extend((value.len() as i32).to_be_bytes());
            bind.extend(value.as_bytes());
        }
        bind.extend(b"\0\0");
        let mut bytes = message(b'B', &bind);
        bytes.extend(message(b'E', b"\0\0\0\0\0"));
        bytes.extend(message(b'S', b""));
        assert!(self.exchange(&bytes).await > 0, "the person is found");
    }
}
