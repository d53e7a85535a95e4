//! Clients that misbehave, and a process at the end of its descriptors.

use super::limits::short;
use super::*;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io::{Read, Write};

#[test]
fn slow_clients_leave_no_descriptor_behind_and_honest_ones_are_served() {
    isolated(
        "http::tests::faults::slow_clients_leave_no_descriptor_behind_and_honest_ones_are_served",
        || {
            let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("limit");
            setrlimit(Resource::RLIMIT_NOFILE, most.min(16_384), most).expect("limit");
            let node = Node::plain(short());
            node.client().get("/hello");
            node.until_empty();
            let before = descriptors();
            let mut slow = Vec::new();
            for number in 0..900 {
                let mut client = node.client();
                client.send(match number % 3 {
                    0 => "GET /hello HTTP/1.1\r\nhost: ",
                    1 => "POST /sum HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nabc",
                    _ => "GET /pattern/30000000 HTTP/1.1\r\nhost: localhost\r\n\r\n",
                });
                slow.push(client);
                if number % 50 == 0 {
                    assert_eq!(node.client().get("/hello").status, 200, "honest clients are served");
                }
            }
            node.until("all are judged", |figures| {
                read(&figures.slow_header) >= 300
                    && read(&figures.slow_body) >= 300
                    && read(&figures.slow_reader) >= 300
            });
            node.until_empty();
            // The clients still hold their ends, two descriptors each; only ours are gone.
            assert_eq!(descriptors(), before + 2 * slow.len());
            drop(slow);
            assert_eq!(node.client().get("/hello").status, 200);
            node.until_empty();
            assert_eq!(descriptors(), before);
            node.stop();
        },
    );
}

#[test]
fn accepting_goes_on_after_the_process_ran_out_of_descriptors() {
    isolated(
        "http::tests::faults::accepting_goes_on_after_the_process_ran_out_of_descriptors",
        || {
            for transport in [Transport::Ring, Transport::Readiness] {
                // Before the accept is armed: the kernel notes the limit when it takes the operation.
                let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("limit");
                setrlimit(Resource::RLIMIT_NOFILE, descriptors() as u64 + 60, most).expect("limit");
                let node = Node::start(Limits::default(), None, transport);
                let mut before = node.client();
                assert_eq!(before.get("/hello").status, 200);
                let mut hoard = Vec::new();
                while let Ok(file) = std::fs::File::open("/dev/null") {
                    hoard.push(file);
                }
                // One descriptor for the client's end, none for ours.
                hoard.pop();
                let mut late = std::net::TcpStream::connect(node.address).expect("connect");
                late.write_all(b"GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n")
                    .expect("send");
                if let Some(ring) = &node.ring {
                    until("accepting has paused", || read(&ring.accepts_paused) > 0);
                    assert!(read(&ring.accepts_paused) < 100, "a pause, not a spin");
                }
                assert_eq!(before.get("/hello").status, 200, "open connections are served");
                drop(hoard);
                late.set_read_timeout(Some(DEADLINE)).expect("timeout");
                let mut answer = [0; 12];
                late.read_exact(&mut answer).expect("an answer");
                assert_eq!(&answer, b"HTTP/1.1 200");
                node.stop();
            }
        },
    );
}

#[test]
fn abrupt_resets_at_every_stage_leave_nothing_behind() {
    let node = Node::plain(Limits::default());
    let requests = [
        "",
        "GET /hel",
        "GET /slow/50 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "POST /sum HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\nabc",
        "GET /pattern/30000000 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET /full/3000000 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ];
    for request in requests {
        for wait_ms in [0, 20] {
            let mut client = node.client();
            client.send(request);
            std::thread::sleep(Duration::from_millis(wait_ms));
            let at_once = libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            nix::sys::socket::setsockopt(&client.tcp, nix::sys::socket::sockopt::Linger, &at_once).expect("linger");
        }
    }
    node.until_empty();
    assert_eq!(node.client().get("/hello").status, 200);
    node.stop();
}

#[test]
fn a_thousand_quick_connections_in_a_row_leave_nothing_behind() {
    for transport in [Transport::Ring, Transport::Readiness] {
        let node = Node::start(Limits::default(), None, transport);
        for _ in 0..1000 {
            assert_eq!(node.client().get("/hello").status, 200);
        }
        node.until_empty();
        node.stop();
    }
}

/// A generator of numbers from a seed (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// One client that does a few random things and goes away in a random manner.
fn misbehave(node: &Node, dice: &mut Dice) {
    let mut client = node.client();
    client
        .tcp
        .set_read_timeout(Some(Duration::from_millis(50)))
        .expect("timeout");
    client
        .tcp
        .set_write_timeout(Some(Duration::from_millis(50)))
        .expect("timeout");
    let mut sink = vec![0; 40_000];
    for _ in 0..=dice.below(4) {
        let bytes = dice.below(400_000);
        let request = match dice.below(6) {
            0 => format!("GET /pattern/{bytes} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
            1 => format!("GET /full/{bytes} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
            2 => "GET /slow/5 HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(3),
            3 => format!("POST /sum HTTP/1.1\r\nhost: localhost\r\ncontent-length: {bytes}\r\n\r\n"),
            4 => format!("POST /ignore HTTP/1.1\r\nhost: localhost\r\ncontent-length: {bytes}\r\n\r\n"),
            _ => "POST /echo HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab".to_owned(),
        };
        let cut = request.len() - dice.below(2) as usize;
        let _ = client.wire.write_all(&request.as_bytes()[..cut]);
        if dice.below(2) == 0 {
            let _ = client.wire.write_all(&pattern(0, dice.below(bytes + 1) as usize));
        }
        if dice.below(2) == 0 {
            let _ = client.wire.read(&mut sink);
        }
    }
    match dice.below(3) {
        0 => {
            let at_once = libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            nix::sys::socket::setsockopt(&client.tcp, nix::sys::socket::sockopt::Linger, &at_once).expect("linger");
        }
        1 => {
            let _ = client.tcp.shutdown(std::net::Shutdown::Write);
            let _ = client.wire.read(&mut sink);
        }
        _ => {}
    }
}

#[test]
fn whatever_clients_do_nothing_is_left_and_honest_ones_get_their_bytes() {
    let seed = std::env::var("VERTEBRA_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(rand::random::<u64>)
        .max(1);
    println!("VERTEBRA_SEED={seed}");
    for transport in [Transport::Ring, Transport::Readiness] {
        let node = Node::start(limits::short(), None, transport);
        std::thread::scope(|scope| {
            for thread in 0..6 {
                let node = &node;
                scope.spawn(move || {
                    let mut dice = Dice(seed.wrapping_add(thread).max(1));
                    for _ in 0..40 {
                        misbehave(node, &mut dice);
                    }
                });
            }
            let body = pattern(0, 700_000);
            for _ in 0..40 {
                let mut honest = node.client();
                assert!(honest.post("/echo", &body).body == body, "seed {seed}");
                assert!(honest.get("/pattern/700000").body == body, "seed {seed}");
            }
        });
        node.until_empty();
        assert_eq!(node.client().get("/hello").status, 200, "seed {seed}");
        node.stop();
    }
}
