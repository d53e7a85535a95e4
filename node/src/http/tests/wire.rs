//! Requests and answers as clients see them.

use super::*;

#[test]
fn a_connection_is_kept_for_many_requests() {
    for transport in [Transport::Ring, Transport::Readiness] {
        let node = Node::start(Limits::default(), None, transport);
        let mut client = node.client();
        for _ in 0..200 {
            let answer = client.get("/hello");
            assert_eq!((answer.status, answer.body.as_slice()), (200, b"hello".as_slice()));
            assert!(answer.header("date").is_some());
        }
        assert_eq!(read(&node.door.figures().connections), 1);
        drop(client);
        node.until_empty();
        node.stop();
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let node = Node::plain(Limits::default());
    let mut client = node.client();
    let mut burst = Vec::new();
    for number in 0..100 {
        let body = format!("number {number}");
        let length = body.len();
        burst.extend(
            format!("POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes(),
        );
    }
    client.send(&burst);
    for number in 0..100 {
        let answer = client.receive(false).expect("an answer");
        assert_eq!(answer.body, format!("number {number}").into_bytes());
    }
    node.stop();
}

#[test]
fn a_request_that_comes_byte_by_byte_is_answered() {
    let node = Node::plain(Limits::default());
    let mut client = node.client();
    for byte in b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\nabc" {
        client.send([*byte]);
    }
    assert_eq!(client.receive(false).expect("an answer").body, b"abc");
    node.stop();
}

#[test]
fn head_has_the_length_and_no_body() {
    let node = Node::plain(Limits::default());
    let mut client = node.client();
    client.send("HEAD /full/1234 HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let answer = client.receive(true).expect("an answer");
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("1234")));
    client.send("HEAD /pattern/5000000 HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let answer = client.receive(true).expect("an answer");
    assert_eq!(answer.header("content-length"), Some("5000000"));
    // The next answer begins right after the headers.
    assert_eq!(client.get("/hello").body, b"hello");
    assert!(client.is_drained());
    node.stop();
}

#[test]
fn an_answer_without_content_has_no_length() {
    let node = Node::plain(Limits::default());
    let mut client = node.client();
    let answer = client.get("/nocontent");
    assert_eq!((answer.status, answer.header("content-length")), (204, None));
    assert_eq!(client.get("/hello").body, b"hello");
    node.stop();
}

#[test]
fn a_client_that_expects_100_is_told_to_go_on() {
    let node = Node::plain(Limits::default());
    let mut client = node.client();
    client.send("POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n");
    assert_eq!(client.receive(true).expect("an interim answer").status, 100);
    client.send("tiger");
    assert_eq!(client.receive(false).expect("an answer").body, b"tiger");
    node.stop();
}

#[test]
fn a_chunked_body_is_read_and_the_connection_goes_on() {
    let node = Node::plain(Limits::default());
    let mut client = node.client();
    client.send("POST /echo HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n");
    client.send("4\r\nspin\r\n1\r\ne\r\n0\r\n\r\n");
    assert_eq!(client.receive(false).expect("an answer").body, b"spine");
    assert_eq!(client.get("/hello").body, b"hello");
    node.stop();
}

#[test]
fn a_client_that_closes_its_direction_still_gets_its_answer() {
    let node = Node::plain(Limits::default());
    let mut client = node.client();
    client.send("GET /slow/100 HTTP/1.1\r\nhost: localhost\r\n\r\n");
    client.tcp.shutdown(std::net::Shutdown::Write).expect("half-close");
    assert_eq!(client.receive(false).expect("an answer").body, b"late");
    assert!(client.ends());
    node.until_empty();
    node.stop();
}

#[test]
fn a_streamed_answer_has_its_exact_length_and_content() {
    let node = Node::plain(Limits::default());
    let mut client = node.client();
    for bytes in [0, 1, 65_536, 3_000_001] {
        let answer = client.get(&format!("/pattern/{bytes}"));
        assert_eq!(answer.header("content-length"), Some(bytes.to_string().as_str()));
        assert!(answer.body == pattern(0, bytes));
    }
    node.stop();
}

#[test]
fn an_answer_that_falls_short_of_its_promise_breaks_the_connection() {
    let node = Node::plain(Limits::default());
    let mut client = node.client();
    client.send("GET /short/100000 HTTP/1.1\r\nhost: localhost\r\n\r\n");
    client.receive(false).expect_err("a part must never pass for the whole");
    node.stop();
}

#[test]
fn what_is_not_http_is_refused_with_400() {
    let node = Node::plain(Limits::default());
    for bytes in [
        "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
        "GET\r\n\r\n",
        "GET /hello HTTP/9.9\r\nhost: localhost\r\n\r\n",
        "GET /hello HTTP/1.1\r\nhost localhost\r\n\r\n",
        "POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        "POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
    ] {
        let mut client = node.client();
        client.send(bytes);
        assert_eq!(client.receive(false).expect("an answer").status, 400, "{bytes:?}");
        assert!(client.ends(), "{bytes:?}");
    }
    node.stop();
}

#[test]
fn http_1_1_without_one_host_is_refused() {
    let node = Node::plain(Limits::default());
    for request in [
        "GET /hello HTTP/1.1\r\n\r\n",
        "GET /hello HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    ] {
        let mut client = node.client();
        client.send(request);
        let answer = client.receive(false).expect("an answer");
        assert_eq!(answer.status, 400);
        assert!(String::from_utf8_lossy(&answer.body).contains("HOST_MISSING"));
    }
    let mut client = node.client();
    client.send("GET /hello HTTP/1.0\r\n\r\n");
    assert_eq!(client.receive(false).expect("an answer").status, 200);
    assert!(client.ends(), "HTTP/1.0 closes");
    node.stop();
}

#[test]
fn a_hundred_megabytes_go_up_and_down_in_bounded_memory() {
    isolated(
        "http::tests::wire::a_hundred_megabytes_go_up_and_down_in_bounded_memory",
        || {
            let node = Node::plain(Limits::default());
            let bytes = 100 * 1024 * 1024;
            let body = pattern(0, bytes);
            let digest = blake3::hash(&body).to_hex().to_string();
            let mut client = node.client();
            client.get("/hello");
            let before = resident_kib("VmHWM:");
            let answer = client.post("/sum", &body);
            assert_eq!(String::from_utf8_lossy(&answer.body), format!("{bytes} {digest}"));
            client.send(format!("GET /pattern/{bytes} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
            assert_eq!(client.receive(true).expect("an answer").status, 200);
            let mut at = client.take_buffered().len();
            let mut piece = vec![0; 1 << 16];
            while at < bytes {
                let wanted = piece.len().min(bytes - at);
                client.wire.read_exact(&mut piece[..wanted]).expect("the body");
                assert!(piece[..wanted] == body[at..at + wanted], "other bytes from {at} on");
                at += wanted;
            }
            let grown = resident_kib("VmHWM:") - before;
            assert!(grown < 16 * 1024, "{grown} KiB for one upload and one download");
            node.stop();
        },
    );
}

/// A figure of this process, KiB.
pub(super) fn resident_kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with(name)).expect("the figure");
    line.split_whitespace()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .expect("a number")
}

#[test]
fn the_observer_hears_of_every_request_and_of_nothing_personal() {
    let (told, heard) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let observer: Observer = Arc::new(move |answered: &Answered| {
        told.lock()
            .expect("not poisoned")
            .send(answered.clone())
            .expect("the test listens");
    });
    let node = Node::observed(Limits::default(), None, Transport::Ring, Some(observer));
    let mut client = node.client();
    client.get("/full/1000?name=PLANTED");
    let answered = heard.recv_timeout(DEADLINE).expect("told");
    assert_eq!(
        (answered.method, answered.route, answered.status, answered.bytes_out),
        ("GET", "test", 200, 1000)
    );
    assert!(!format!("{answered:?}").contains("PLANTED"));
    // A client that goes away during the answer is heard of too.
    client.send("POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nabc");
    node.until("a second request", |figures| read(&figures.requests) == 2);
    drop(client);
    let second = heard.recv_timeout(DEADLINE).expect("told");
    assert_ne!(second.id, answered.id);
    assert_eq!(second.bytes_out.min(10), second.bytes_out);
    node.stop();
}

#[test]
fn the_unix_socket_serves_the_same_requests() {
    let directory = std::env::temp_dir().join(format!("vertebra-http-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let path = directory.join("admin.sock");
    let _ = std::fs::remove_file(&path);
    let bound = std::os::unix::net::UnixListener::bind(&path).expect("bind");
    let (trigger, shutdown) = ShutdownTrigger::new();
    let thread = std::thread::spawn(move || {
        crate::ring::reactor::runtime().expect("reactor").block_on(async move {
            let listener = Listener::unix(bound).expect("listener");
            serve(listener, None, Door::new(Limits::default(), None), handler(), shutdown).await
        })
    });
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(&path).expect("connect");
    stream
        .write_all(b"GET /hello HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .expect("send");
    let mut received = String::new();
    stream.read_to_string(&mut received).expect("receive");
    assert!(
        received.starts_with("HTTP/1.1 200") && received.ends_with("hello"),
        "{received}"
    );
    drop(trigger);
    thread.join().expect("thread").expect("serve");
    std::fs::remove_dir_all(&directory).expect("remove");
}
