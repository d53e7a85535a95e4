//! Each limit one below, at and above.

use super::*;

/// Limits short enough for a test.
pub(super) fn short() -> Limits {
    Limits {
        header_ms_max: 600,
        idle_ms_max: 1000,
        handshake_ms_max: 600,
        body_progress_ms_max: 600,
        write_progress_ms_max: 600,
        ..Limits::default()
    }
}

/// A request whose line and headers have exactly this many bytes.
fn request_of(bytes: usize) -> String {
    let rest = "GET /hello HTTP/1.1\r\nhost: localhost\r\nx-fill: \r\n\r\n".len();
    let fill = "a".repeat(bytes - rest);
    format!("GET /hello HTTP/1.1\r\nhost: localhost\r\nx-fill: {fill}\r\n\r\n")
}

#[test]
fn headers_over_the_limit_are_refused_with_431() {
    let limits = Limits {
        header_bytes_max: 4096,
        ..Limits::default()
    };
    let node = Node::plain(limits);
    for (bytes, status) in [(4095, 200), (4096, 200), (4097, 431), (60_000, 431), (600_000, 431)] {
        let mut client = node.client();
        let request = request_of(bytes);
        assert_eq!(request.len(), bytes);
        // A client that sends far more than the limit may be cut off while it sends.
        let _ = client.wire.write_all(request.as_bytes());
        assert_eq!(
            client.receive(false).expect("an answer").status,
            status,
            "{bytes} bytes"
        );
    }
    node.until("three refusals", |figures| read(&figures.refused_header) == 3);
    node.stop();
}

#[test]
fn too_many_headers_are_refused_with_431() {
    let limits = Limits {
        headers_max: 20,
        ..Limits::default()
    };
    let node = Node::plain(limits);
    for (headers, status) in [(19, 200), (20, 200), (21, 431)] {
        let mut client = node.client();
        let fill = "x: y\r\n".repeat(headers - 1);
        client.send(format!("GET /hello HTTP/1.1\r\nhost: localhost\r\n{fill}\r\n"));
        assert_eq!(
            client.receive(false).expect("an answer").status,
            status,
            "{headers} headers"
        );
    }
    node.stop();
}

#[test]
fn a_body_over_the_limit_is_refused_with_413_whether_announced_or_not() {
    let limits = Limits {
        body_bytes_max: 100_000,
        ..Limits::default()
    };
    let node = Node::plain(limits);
    for (bytes, status) in [(99_999, 200), (100_000, 200), (100_001, 413)] {
        let body = pattern(0, bytes);
        let announced = node.client().post("/sum", &body);
        assert_eq!(announced.status, status, "{bytes} announced");
        let mut client = node.client();
        client.send("POST /sum HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n");
        client.send(format!("{bytes:x}\r\n"));
        client.send(&body);
        client.send("\r\n0\r\n\r\n");
        let chunked = client.receive(false).expect("an answer");
        assert_eq!(chunked.status, status, "{bytes} chunked");
        if status == 413 {
            assert_eq!(chunked.header("connection"), Some("close"));
            assert!(client.ends());
        }
    }
    assert_eq!(read(&node.door.figures().refused_body), 2);
    node.stop();
}

#[test]
fn a_client_that_sends_all_of_a_refused_body_still_reads_the_answer() {
    let limits = Limits {
        body_bytes_max: 1000,
        ..Limits::default()
    };
    let node = Node::plain(limits);
    let answer = node.client().post("/sum", &pattern(0, 5_000_000));
    assert_eq!(answer.status, 413);
    node.until_empty();
    node.stop();
}

#[test]
fn a_collected_body_keeps_to_the_handlers_limit() {
    let node = Node::plain(Limits::default());
    let limit = 1 << 20;
    for (bytes, status) in [(limit - 1, 200), (limit, 200), (limit + 1, 413)] {
        let answer = node.client().post("/echo", &pattern(0, bytes));
        assert_eq!(answer.status, status, "{bytes}");
        if status == 200 {
            assert!(answer.body == pattern(0, bytes));
        }
    }
    node.stop();
}

#[test]
fn connections_over_the_limit_are_closed_at_once() {
    let limits = Limits {
        connections_max: 3,
        ..Limits::default()
    };
    let node = Node::plain(limits);
    let mut clients: Vec<Client> = (0..3).map(|_| node.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/hello").status, 200);
    }
    node.client().ends();
    assert_eq!(read(&node.door.figures().refused_connections), 1);
    assert_eq!(clients[0].get("/hello").status, 200);
    clients.pop();
    node.until("a free place", |figures| read(&figures.connections_now) == 2);
    assert_eq!(node.client().get("/hello").status, 200);
    node.stop();
}

#[test]
fn requests_over_the_limit_are_shed_with_retry_after() {
    let limits = Limits {
        requests_max: 2,
        retry_after_s: 7,
        ..Limits::default()
    };
    let node = Node::plain(limits);
    let mut busy: Vec<Client> = (0..2).map(|_| node.client()).collect();
    for client in &mut busy {
        client.send("GET /slow/500 HTTP/1.1\r\nhost: localhost\r\n\r\n");
    }
    node.until("two requests run", |figures| read(&figures.requests_now) == 2);
    let mut third = node.client();
    let refused = third.get("/hello");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("7")));
    assert!(String::from_utf8_lossy(&refused.body).contains("OVERLOADED"));
    for client in &mut busy {
        assert_eq!(client.receive(false).expect("an answer").body, b"late");
    }
    node.until("they have ended", |figures| read(&figures.requests_now) == 0);
    assert_eq!(
        third.get("/hello").status,
        200,
        "the same connection is served when there is room"
    );
    assert_eq!(read(&node.door.figures().shed), 1);
    node.stop();
}

#[test]
fn load_is_shed_before_memory_grows() {
    let limits = Limits {
        requests_bytes_max: 2 * 1024 * 1024,
        ..Limits::default()
    };
    let node = Node::plain(limits);
    let mut uploads: Vec<Client> = (0..2).map(|_| node.client()).collect();
    for client in &mut uploads {
        client.send("POST /sum HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5000000\r\n\r\n");
    }
    node.until("two uploads run", |figures| read(&figures.requests_now) == 2);
    assert_eq!(node.client().get("/hello").status, 503);
    uploads.pop();
    node.until("one upload runs", |figures| read(&figures.requests_now) == 1);
    assert_eq!(node.client().get("/hello").status, 200);
    node.stop();
}

#[test]
fn another_part_may_have_load_shed() {
    let node = Node::plain(Limits::default());
    let mut client = node.client();
    node.door.shed().on(9);
    let refused = client.get("/hello");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("9")));
    node.door.shed().off();
    assert_eq!(client.get("/hello").status, 200);
    node.stop();
}

#[test]
fn slow_headers_are_answered_408_and_silence_is_closed() {
    let node = Node::plain(short());
    let mut silent = node.client();
    let mut slow = node.client();
    slow.send("GET /hello HTTP/1.1\r\nhost: ");
    assert_eq!(slow.receive(false).expect("an answer").status, 408);
    assert!(slow.ends());
    assert!(silent.ends());
    // A second request on a kept connection is held to the same limit.
    let mut kept = node.client();
    assert_eq!(kept.get("/hello").status, 200);
    kept.send("GET /hel");
    assert_eq!(kept.receive(false).expect("an answer").status, 408);
    assert_eq!(read(&node.door.figures().slow_header), 3);
    drop((slow, silent, kept));
    node.until_empty();
    node.stop();
}

#[test]
fn headers_that_trickle_do_not_extend_the_limit() {
    let node = Node::plain(short());
    let mut client = node.client();
    let began = Instant::now();
    let _ = client.wire.write_all(b"GET /hello HTTP/1.1\r\n");
    while client.wire.write_all(b"x: y\r\n").is_ok() {
        std::thread::sleep(Duration::from_millis(20));
        assert!(began.elapsed() < DEADLINE, "the connection must end");
    }
    node.until("counted", |figures| read(&figures.slow_header) == 1);
    node.stop();
}

#[test]
fn an_idle_connection_is_closed_and_one_that_is_used_is_not() {
    let node = Node::plain(short());
    let mut client = node.client();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2500) {
        assert_eq!(client.get("/hello").status, 200);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(client.ends());
    assert_eq!(read(&node.door.figures().idle), 1);
    node.stop();
}

#[test]
fn a_slow_body_is_answered_408_and_a_slow_handler_is_not_blamed_on_the_client() {
    let node = Node::plain(short());
    let mut client = node.client();
    client.send("POST /sum HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\nabc");
    let answer = client.receive(false).expect("an answer");
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    assert!(client.ends());
    assert_eq!(read(&node.door.figures().slow_body), 1);
    // Longer than every window, but it is the node that is slow.
    let mut client = node.client();
    assert_eq!(client.get("/slow/1500").body, b"late");
    node.stop();
}

#[test]
fn a_body_that_trickles_does_not_extend_the_limit() {
    let node = Node::plain(short());
    let mut client = node.client();
    client.send("POST /sum HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n");
    let began = Instant::now();
    while client.wire.write_all(b"x").is_ok() && read(&node.door.figures().slow_body) == 0 {
        std::thread::sleep(Duration::from_millis(20));
        assert!(began.elapsed() < DEADLINE, "the request must end");
    }
    assert_eq!(client.receive(false).expect("an answer").status, 408);
    node.stop();
}

#[test]
fn a_body_at_a_fair_rate_may_take_longer_than_the_window() {
    let node = Node::plain(short());
    let mut client = node.client();
    client.send("POST /sum HTTP/1.1\r\nhost: localhost\r\ncontent-length: 50000\r\n\r\n");
    for _ in 0..10 {
        // Ten times a tenth of a second is well over the window, each pause well below.
        client.send(pattern(0, 5000));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(client.receive(false).expect("an answer").status, 200);
    node.stop();
}

#[test]
fn a_reader_that_stops_is_cut_off() {
    for path in ["/pattern/50000000", "/full/50000000"] {
        let node = Node::plain(short());
        let mut client = node.client();
        client.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
        node.until("cut off", |figures| read(&figures.slow_reader) == 1);
        node.until_empty();
        node.stop();
    }
}

#[test]
fn a_reader_at_a_fair_rate_may_take_longer_than_the_window() {
    let node = Node::plain(short());
    let mut client = node.client();
    // Far more than the kernel's buffers hold.
    client.send("GET /pattern/20000000 HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert_eq!(client.receive(true).expect("an answer").status, 200);
    let mut piece = vec![0; 1_000_000];
    for _ in 0..19 {
        client.wire.read_exact(&mut piece).expect("the body goes on");
        std::thread::sleep(Duration::from_millis(60));
    }
    assert_eq!(read(&node.door.figures().slow_reader), 0);
    node.stop();
}
