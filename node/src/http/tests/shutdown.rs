//! The end of a front door.

use super::*;

#[test]
fn a_running_request_is_finished_and_idle_connections_are_closed() {
    let node = Node::plain(Limits::default());
    let mut untouched = node.client();
    let mut idle = node.client();
    idle.get("/hello");
    let mut running = node.client();
    running.send("GET /slow/400 HTTP/1.1\r\nhost: localhost\r\n\r\n");
    node.until("it runs", |figures| read(&figures.requests_now) == 1);
    let address = node.address;
    let began = Instant::now();
    node.stop();
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "it did not wait for the deadline"
    );
    let answer = running.receive(false).expect("an answer");
    assert_eq!(answer.body, b"late");
    assert!(running.ends() && idle.ends() && untouched.ends());
    std::net::TcpStream::connect(address).expect_err("nobody accepts any more");
}

#[test]
fn a_request_that_does_not_end_is_cut_off_at_the_deadline() {
    let limits = Limits {
        shutdown_ms_max: 200,
        ..Limits::default()
    };
    let node = Node::plain(limits);
    let mut running = node.client();
    running.send("GET /slow/600000 HTTP/1.1\r\nhost: localhost\r\n\r\n");
    node.until("it runs", |figures| read(&figures.requests_now) == 1);
    let began = Instant::now();
    node.stop();
    assert!(began.elapsed() < Duration::from_secs(5));
    running.receive(false).expect_err("cut off");
}
