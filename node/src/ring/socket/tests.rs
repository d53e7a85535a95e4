//! The driver over real sockets on loopback.

use super::*;
use std::io::{Read, Write};
use std::net::TcpStream as Client;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Runs `server` on a reactor of its own while `client` runs here; both must end within the deadline.
fn with_listener<T: Send + 'static>(
    transport: Transport,
    server: impl AsyncFnOnce(Listener) -> T + Send + 'static,
    client: impl FnOnce(SocketAddr),
) -> T {
    let bound = bind_shared("127.0.0.1:0".parse().expect("an address")).expect("bind");
    let address = bound.local_addr().expect("bound");
    let thread = std::thread::spawn(move || {
        let runtime = crate::ring::reactor::runtime().expect("reactor");
        runtime.block_on(async move {
            let listener = Listener::with_transport(bound, transport).expect("listener");
            assert_eq!(listener.is_on_ring(), transport == Transport::Ring);
            tokio::time::timeout(Duration::from_secs(30), server(listener))
                .await
                .expect("in time")
        })
    });
    client(address);
    thread.join().expect("the server's thread")
}

fn read(counter: &std::sync::atomic::AtomicU64) -> u64 {
    counter.load(std::sync::atomic::Ordering::Relaxed)
}

async fn echo(listener: Listener, connections: usize) {
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let (mut socket, _) = listener.accept().await.expect("accept");
        tasks.push(tokio::task::spawn_local(async move {
            let mut bytes = vec![0; 5000];
            loop {
                let read = socket.read(&mut bytes).await.expect("read");
                if read == 0 {
                    break;
                }
                socket.write_all(&bytes[..read]).await.expect("write");
            }
            socket.shutdown().await.expect("shutdown");
        }));
    }
    for task in tasks {
        task.await.expect("task");
    }
}

/// A pattern that shows lost, doubled and swapped bytes.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes as u64)
        .map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
        .collect()
}

fn echo_check(address: SocketAddr, bytes: usize) {
    let mut stream = Client::connect(address).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
    let sent = pattern(bytes);
    let mut writer = stream.try_clone().expect("clone");
    let to_send = sent.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&to_send).expect("send");
        // Half-closed: the answer still comes.
        writer.shutdown(std::net::Shutdown::Write).expect("half-close");
    });
    let mut received = Vec::new();
    stream.read_to_end(&mut received).expect("receive");
    writing.join().expect("writer");
    assert!(received == sent, "{} bytes came back of {}", received.len(), sent.len());
}

#[test]
fn bytes_come_back_unchanged_after_a_half_close() {
    for transport in [Transport::Ring, Transport::Readiness] {
        with_listener(
            transport,
            async |listener| echo(listener, 4).await,
            |address| {
                for bytes in [0, 1, 4096, 5_000_000] {
                    echo_check(address, bytes);
                }
            },
        );
    }
}

#[test]
fn many_connections_share_few_buffers_without_starving() {
    let figures = with_listener(
        Transport::Ring,
        async |listener| {
            // Nobody reads until all have sent more than all buffers hold.
            let mut sockets = Vec::new();
            for _ in 0..80 {
                sockets.push(listener.accept().await.expect("accept").0);
            }
            let figures = figures().expect("on the ring");
            // Until all has come that comes while nobody reads.
            let mut before = 0;
            while read(&figures.completions) != before {
                before = read(&figures.completions);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            assert!(read(&figures.receives_stopped) + read(&figures.receives_starved) > 0);
            for socket in &mut sockets {
                let mut received = Vec::new();
                socket.read_to_end(&mut received).await.expect("read");
                assert!(received == pattern(600_000), "{} bytes", received.len());
            }
            drop(sockets);
            while read(&figures.sockets_now) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            figures
        },
        |address| {
            let clients: Vec<_> = (0..80)
                .map(|_| {
                    std::thread::spawn(move || {
                        let mut stream = Client::connect(address).expect("connect");
                        stream.write_all(&pattern(600_000)).expect("send");
                    })
                })
                .collect();
            for client in clients {
                client.join().expect("client");
            }
        },
    );
    let read = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
    assert!(
        read(&figures.receives_stopped) > 0,
        "a reader that is behind stops its receive"
    );
    assert!(
        read(&figures.completions) < 200_000,
        "starving must not spin: {} completions",
        read(&figures.completions)
    );
    assert_eq!(read(&figures.buffers_held_now), 0, "every buffer went back");
    assert_eq!(read(&figures.sockets_now), 0, "every descriptor was closed");
}

#[test]
fn output_written_before_a_drop_is_delivered() {
    for transport in [Transport::Ring, Transport::Readiness] {
        with_listener(
            transport,
            async |listener| {
                let (mut socket, _) = listener.accept().await.expect("accept");
                socket.write_all(&pattern(3_000_000)).await.expect("write");
                drop(socket);
                // The runtime must live until the last byte has left.
                if let Some(figures) = figures() {
                    let deadline = Instant::now() + Duration::from_secs(10);
                    while read(&figures.sockets_now) > 0 {
                        assert!(Instant::now() < deadline, "the socket ends");
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            },
            |address| {
                let mut stream = Client::connect(address).expect("connect");
                std::thread::sleep(Duration::from_millis(200));
                let mut received = Vec::new();
                stream.read_to_end(&mut received).expect("receive");
                assert!(received == pattern(3_000_000), "{} bytes arrived", received.len());
            },
        );
    }
}

#[test]
fn a_writer_waits_for_a_reader_that_does_not_read_and_an_abort_frees_it() {
    with_listener(
        Transport::Ring,
        async |listener| {
            let (mut socket, _) = listener.accept().await.expect("accept");
            let aborter = socket.aborter();
            let writing = tokio::task::spawn_local(async move {
                let chunk = vec![1; 100_000];
                let mut written = 0_u64;
                while socket.write_all(&chunk).await.is_ok() {
                    written += chunk.len() as u64;
                    assert!(written < 100_000_000, "output must be bounded");
                }
            });
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert!(!writing.is_finished());
            aborter.abort();
            writing.await.expect("the writer ends");
            let figures = figures().expect("on the ring");
            let deadline = Instant::now() + Duration::from_secs(5);
            while read(&figures.sockets_now) > 0 {
                assert!(Instant::now() < deadline, "the socket ends");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        },
        |address| {
            let stream = Client::connect(address).expect("connect");
            std::thread::sleep(Duration::from_millis(600));
            drop(stream);
        },
    );
}

#[test]
fn a_reset_by_the_peer_is_an_error_and_not_an_end() {
    with_listener(
        Transport::Ring,
        async |listener| {
            let (mut socket, _) = listener.accept().await.expect("accept");
            socket.write_all(b"!").await.expect("write");
            let mut bytes = Vec::new();
            let error = socket.read_to_end(&mut bytes).await.expect_err("reset");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        },
        |address| {
            let mut stream = Client::connect(address).expect("connect");
            stream.read_exact(&mut [0]).expect("accepted");
            let at_once = libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            nix::sys::socket::setsockopt(&stream, sockopt::Linger, &at_once).expect("linger");
            drop(stream);
        },
    );
}

#[test]
fn a_runtime_may_end_with_sockets_open_and_another_begin_on_the_thread() {
    for _ in 0..3 {
        let runtime = crate::ring::reactor::runtime().expect("reactor");
        let bound = bind_shared("127.0.0.1:0".parse().expect("an address")).expect("bind");
        let address = bound.local_addr().expect("bound");
        let client = Client::connect(address).expect("connect");
        let (listener, mut socket) = runtime.block_on(async {
            let listener = Listener::new(bound).expect("listener");
            let (mut socket, _) = listener.accept().await.expect("accept");
            // More than the kernel takes, so that a send is in flight when the runtime ends.
            let chunk = vec![7; 1 << 20];
            let _ = tokio::time::timeout(Duration::from_millis(100), async {
                while socket.write_all(&chunk).await.is_ok() {}
            })
            .await;
            (listener, socket)
        });
        drop(runtime);
        let other = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime");
        other.block_on(async {
            assert!(
                socket.write_all(b"late").await.is_err(),
                "a socket without a ring says so"
            );
        });
        drop((listener, socket, client));
    }
}
