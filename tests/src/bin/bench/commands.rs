//! Three logs of ours that store what clients put, as etcd does: journal, consensus and peers' TLS, without the front door.
//!
//! Each member is a process of this binary (`bench member …`) under a user of its own, because the memory that rings lock is
//! counted by user. A client sends frames over TCP and gets an answer to each.

use crate::trios::ports;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};
use std::collections::VecDeque;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vertebra::base::Clock;
use vertebra::journal::JournalConfig;
use vertebra::ledger::{Hold, Table};
use vertebra::log::{Log, LogConfig, PeerTls, PeerTlsFiles, Peering, level};
use vertebra_tests::cluster::{Papers, user};
use vertebra_tests::node::Folder;
use vertebra_tests::process::Process;

/// The first argument of a member's process.
pub const MEMBER: &str = "member";
const SITES: [&str; 3] = ["north", "south", "witness"];
/// Where a value lies, by its key: the index of the log's entry that holds it.
const PLACES: Table = Table::permanent(1);
const FRAME_BYTES_MAX: usize = 64 * 1024;
const FORMED_MAX: Duration = Duration::from_secs(120);

/// Three members and their ports for clients.
pub struct Trio {
    _members: Vec<Process>,
    /// Ports on 127.0.0.1.
    pub ports: [u16; 3],
    _folder: Folder,
}

/// Starts three members and waits until all vote.
pub async fn ours() -> Trio {
    let folder = Folder::new("bench-commands");
    let papers = Papers::new(folder.path());
    let program = folder.path().join("bench");
    let own = std::env::current_exe().expect("a program has a path");
    fs::copy(own, &program).expect("the folder can be written");
    let (clients, peers) = (ports(), ports());
    let members = (0..3).map(|at| {
        let home = folder.path().join(format!("m{at}"));
        let identity = papers.peer(&format!("m{at}"));
        fs::create_dir(&home).expect("the folder can be written");
        for (name, text) in [
            ("peer.pem", identity.certificate.as_str()),
            ("peer.key", identity.key.as_str()),
            ("ca.pem", papers.members_ca()),
        ] {
            fs::write(home.join(name), text).expect("the folder can be written");
        }
        let owner = user(at as u64 + 1);
        let given = Command::new("chown")
            .arg("-R")
            .arg(owner.to_string())
            .arg(&home)
            .status();
        assert!(given.is_ok_and(|status| status.success()), "needs root");
        let mut command = Command::new(&program);
        command.arg(MEMBER).arg(&home).uid(owner);
        command.args([at as u16, clients[at], peers[at], peers[0]].map(|number| number.to_string()));
        Process::start(&mut command, &folder.path().join("log"))
    });
    let members = members.collect();
    let voters = async {
        for port in clients {
            while voters_at(port).await != Some(3) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    if tokio::time::timeout(FORMED_MAX, voters).await.is_err() {
        panic!(
            "no three voters: {}",
            fs::read_to_string(folder.path().join("log")).unwrap_or_default()
        );
    }
    Trio {
        _members: members,
        ports: clients,
        _folder: folder,
    }
}

async fn voters_at(port: u16) -> Option<u64> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
    Client(stream).ask(&[]).await
}

fn put_of(key: &[u8], value: &[u8]) -> BytesMut {
    let mut frame = BytesMut::with_capacity(1 + key.len() + value.len());
    frame.put_u8(u8::try_from(key.len()).expect("a short key"));
    frame.put_slice(key);
    frame.put_slice(value);
    frame
}

/// One connection.
pub struct Client(TcpStream);

impl Client {
    /// Connects to 127.0.0.1.
    pub async fn open(port: u16) -> Client {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .expect("a member accepts");
        stream.set_nodelay(true).expect("a TCP socket");
        Client(stream)
    }

    async fn ask(&mut self, frame: &[u8]) -> Option<u64> {
        let mut bytes = BytesMut::with_capacity(4 + frame.len());
        bytes.put_u32(frame.len() as u32);
        bytes.put_slice(frame);
        self.0.write_all(&bytes).await.ok()?;
        self.0.read_u64().await.ok()
    }

    /// Puts a value, which must succeed.
    pub async fn put(&mut self, key: &[u8], value: &[u8]) {
        self.ask(&put_of(key, value)).await.expect("a member answers");
    }

    /// Puts `count` values, at most `window` of them unanswered at once; gives how long each took.
    pub async fn put_many(&mut self, value: &[u8], count: usize, window: usize) -> Vec<Duration> {
        let (mut took, mut sent) = (Vec::new(), VecDeque::new());
        let mut answers = BytesMut::new();
        while took.len() < count {
            let mut out = BytesMut::new();
            for number in took.len() + sent.len()..count.min(took.len() + window) {
                let frame = put_of(format!("w{number}").as_bytes(), value);
                out.put_u32(frame.len() as u32);
                out.put_slice(&frame);
                sent.push_back(Instant::now());
            }
            self.0.write_all(&out).await.expect("a member reads");
            let read = self.0.read_buf(&mut answers).await.expect("a member answers");
            assert!(read > 0, "the member closed the connection");
            while answers.len() >= 8 {
                answers.advance(8);
                took.push(sent.pop_front().expect("one answer for each").elapsed());
            }
        }
        took
    }
}

/// Runs a member until it is killed: folder, number, port for clients, port for peers, the founder's port for peers.
pub fn member(arguments: &[String]) {
    let [folder, numbers @ ..] = arguments else {
        panic!("a folder")
    };
    let numbers: Vec<u16> = numbers.iter().map(|text| text.parse().expect("a number")).collect();
    let [at, client_port, peer_port, founder] = numbers[..] else {
        panic!("four numbers")
    };
    let folder = PathBuf::from(folder);
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
    let tls = PeerTls::open(PeerTlsFiles {
        certificate: folder.join("peer.pem"),
        key: folder.join("peer.key"),
        ca: folder.join("ca.pem"),
    });
    let peering = Peering {
        listeners: vec![bind(peer_port)],
        address: format!("127.0.0.1:{peer_port}"),
        tls: Arc::new(tls.expect("papers that were just made")),
        peers: (at != 0).then(|| format!("127.0.0.1:{founder}")).into_iter().collect(),
    };
    peering.listeners[0].set_nonblocking(true).expect("a TCP socket");
    let clients = bind(client_port);
    clients.set_nonblocking(true).expect("a TCP socket");
    let runtime = vertebra::ring::reactor::runtime().expect("a ring can be made");
    runtime.block_on(serve(&folder, at, clients, peering));
}

async fn serve(folder: &Path, at: u16, clients: TcpListener, peering: Peering) {
    let number = u64::from(at) + 1;
    let log = LogConfig {
        node: number,
        name: format!("m{at}"),
        site: SITES[usize::from(at)].to_owned(),
        release: "bench",
        folder: folder.to_path_buf(),
        checkpoint_bytes: 64 << 20,
        checkpoint_ms: 10_000,
        queue_bytes_max: 64 << 20,
        propose_timeout_ms: 30_000,
        clock_jump_ms_max: 60_000,
        stale_ms_max: 60_000,
        reclaim_bytes_per_second: 4 << 20,
        level_of: |_| level::FIRST,
    };
    let journal = JournalConfig {
        folder: folder.join("journal"),
        node: number,
        segment_bytes: [64 << 20; 3],
        reserve_bytes: 0,
        queue_bytes_max: 64 << 20,
    };
    let apply = Box::new(
        |writer: &mut vertebra::ledger::Writer<'_>, at: vertebra::log::At, command: &[u8]| {
            let key = &command[1..=usize::from(command[0])];
            writer.put(PLACES, key, &at.index.to_be_bytes());
            writer.hold(Hold::Entry(at.index));
            Bytes::new()
        },
    );
    let opened = Log::open(log, journal, 1 << 30, Clock::default(), Some(peering), apply)
        .await
        .expect("an empty folder opens");
    let clients = tokio::net::TcpListener::from_std(clients).expect("a socket that does not block");
    loop {
        let (stream, _) = clients.accept().await.expect("few connections");
        stream.set_nodelay(true).expect("a TCP socket");
        let log = opened.log.clone();
        tokio::task::spawn_local(answer(stream, log));
    }
}

/// Answers frames, in their order, until the client goes: an empty one with the number of voters, another with the index of its
/// entry. A client may send many before it reads an answer.
async fn answer(mut stream: TcpStream, log: Log) -> Option<()> {
    let (mut read, mut write) = stream.split();
    let mut bytes = BytesMut::with_capacity(FRAME_BYTES_MAX);
    let mut proposed = FuturesOrdered::new();
    loop {
        tokio::select! {
            got = read.read_buf(&mut bytes) => {
                if got.ok()? == 0 {
                    return None;
                }
                while let Some(frame) = take_frame(&mut bytes) {
                    proposed.push_back(carry_out(&log, frame));
                }
            }
            Some(first) = proposed.next(), if !proposed.is_empty() => {
                let mut answers = BytesMut::new();
                answers.put_u64(first);
                while let Some(Some(next)) = proposed.next().now_or_never() {
                    answers.put_u64(next);
                }
                write.write_all(&answers).await.ok()?;
            }
        }
    }
}

fn take_frame(bytes: &mut BytesMut) -> Option<Bytes> {
    let length = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    assert!(length <= FRAME_BYTES_MAX, "a client of this file");
    if bytes.len() < 4 + length {
        return None;
    }
    bytes.advance(4);
    Some(bytes.split_to(length).freeze())
}

async fn carry_out(log: &Log, frame: Bytes) -> u64 {
    if frame.is_empty() {
        let view = log.cluster();
        return u64::from(view.voter) + view.others.iter().filter(|other| other.voter).count() as u64;
    }
    let applied = log.propose(frame).await;
    applied.expect("a healthy cluster takes it").at.index
}
