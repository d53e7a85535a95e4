//! HTTP/2 over TLS.

use super::tls::{Authority, client_config, shared};
use super::*;
use h2::client::SendRequest;
use rustls::ClientConfig;
use tokio::net::TcpStream;

/// Runs a client with a connection of its own.
fn with_client<T>(node: &Node, config: &Arc<ClientConfig>, run: impl AsyncFnOnce(SendRequest<Bytes>) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    let tasks = tokio::task::LocalSet::new();
    let work = async {
        let tcp = TcpStream::connect(node.address).await.expect("connect");
        let name = "localhost".try_into().expect("a name");
        let stream = tokio_rustls::TlsConnector::from(Arc::clone(config))
            .connect(name, tcp)
            .await
            .expect("handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        run(client).await
    };
    runtime.block_on(tasks.run_until(async { tokio::time::timeout(DEADLINE, work).await.expect("in time") }))
}

fn request(method: &str, path: &str) -> ::http::Request<()> {
    ::http::Request::builder()
        .method(method)
        .uri(format!("https://localhost{path}"))
        .body(())
        .expect("a request")
}

async fn body_of(response: ::http::Response<h2::RecvStream>) -> Result<Vec<u8>, h2::Error> {
    let mut body = response.into_body();
    let mut whole = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len()).expect("held");
        whole.extend_from_slice(&piece);
    }
    Ok(whole)
}

async fn get(client: &mut SendRequest<Bytes>, path: &str) -> Result<(u16, Vec<u8>), h2::Error> {
    let (answer, _) = client.clone().ready().await?.send_request(request("GET", path), true)?;
    let answer = answer.await?;
    Ok((answer.status().as_u16(), body_of(answer).await?))
}

async fn post(client: &mut SendRequest<Bytes>, path: &str, body: &[u8]) -> Result<(u16, Vec<u8>), h2::Error> {
    let (answer, mut stream) = client
        .clone()
        .ready()
        .await?
        .send_request(request("POST", path), false)?;
    let mut rest = Bytes::copy_from_slice(body);
    while !rest.is_empty() {
        stream.reserve_capacity(rest.len());
        let Some(Ok(room)) = std::future::poll_fn(|context| stream.poll_capacity(context)).await else {
            break;
        };
        let piece = rest.split_to(room.min(rest.len()));
        if stream.send_data(piece, rest.is_empty()).is_err() {
            break;
        }
    }
    let answer = answer.await?;
    Ok((answer.status().as_u16(), body_of(answer).await?))
}

fn node(limits: Limits) -> (Node, Authority, Arc<TlsShared>) {
    let authority = Authority::new("Test CA");
    let tls = shared(&authority, ClientAuthentication::Optional);
    (Node::tls(limits, &tls), authority, tls)
}

#[test]
fn many_requests_at_once_are_answered_on_one_connection() {
    let (node, authority, _tls) = node(Limits::default());
    let identity = authority.issue("mailbox.example", 7);
    with_client(
        &node,
        &client_config(&authority, Some(&identity), b"h2"),
        async |mut client| {
            assert_eq!(
                get(&mut client, "/who").await.expect("answer"),
                (200, b"mailbox.example".to_vec())
            );
            let body = pattern(0, 1_000_000);
            let (status, back) = post(&mut client, "/echo", &body).await.expect("answer");
            assert!(status == 200 && back == body);
            let (_, streamed) = get(&mut client, "/pattern/3000001").await.expect("answer");
            assert!(streamed == pattern(0, 3_000_001));
            let mut tasks = Vec::new();
            for _ in 0..100 {
                let mut client = client.clone();
                tasks.push(tokio::task::spawn_local(
                    async move { get(&mut client, "/slow/50").await },
                ));
            }
            for task in tasks {
                assert_eq!(task.await.expect("task").expect("answer").1, b"late");
            }
            let (answer, _) = client.send_request(request("HEAD", "/full/1234"), true).expect("sent");
            let answer = answer.await.expect("answer");
            assert_eq!(answer.headers()["content-length"], "1234");
            assert!(body_of(answer).await.expect("no body").is_empty());
        },
    );
    assert_eq!(read(&node.door.figures().connections), 1);
    node.until_empty();
    node.stop();
}

#[test]
fn limits_hold_for_each_stream_and_spare_the_others() {
    let limits = Limits {
        body_bytes_max: 100_000,
        header_bytes_max: 4096,
        ..limits::short()
    };
    let (node, authority, _tls) = node(limits);
    with_client(&node, &client_config(&authority, None, b"h2"), async |mut client| {
        for (bytes, status) in [(99_999, 200), (100_000, 200), (100_001, 413)] {
            let answer = post(&mut client, "/sum", &pattern(0, bytes)).await.expect("answer");
            assert_eq!(answer.0, status, "{bytes}");
        }
        // A body that does not come.
        let (answer, stream) = client.send_request(request("POST", "/sum"), false).expect("sent");
        assert_eq!(answer.await.expect("answer").status(), 408);
        drop(stream);
        let mut large = request("GET", "/hello");
        large
            .headers_mut()
            .insert("x-fill", "a".repeat(8000).parse().expect("a value"));
        let (answer, _) = client.send_request(large, true).expect("sent");
        assert_eq!(answer.await.expect("answer").status(), 431);
        assert_eq!(get(&mut client, "/hello").await.expect("answer").0, 200);
    });
    node.stop();
}

#[test]
fn a_flood_of_resets_ends_the_connection() {
    let (node, authority, _tls) = node(Limits::default());
    with_client(&node, &client_config(&authority, None, b"h2"), async |client| {
        let mut failed = false;
        for _ in 0..5000 {
            let Ok(mut ready) = client.clone().ready().await else {
                failed = true;
                break;
            };
            let Ok((answer, mut stream)) = ready.send_request(request("POST", "/slow/1000"), false) else {
                failed = true;
                break;
            };
            stream.send_reset(h2::Reason::CANCEL);
            drop(answer);
        }
        // The end may also show on the next request.
        if !failed {
            let mut client = client.clone();
            assert!(
                get(&mut client, "/hello").await.is_err(),
                "the flood must end the connection"
            );
        }
    });
    node.until_empty();
    assert_eq!(node_is_well(&node, &authority), 200);
    node.stop();
}

fn node_is_well(node: &Node, authority: &Authority) -> u16 {
    let config = client_config(authority, None, b"http/1.1");
    Client::tls(node.address, &config)
        .expect("handshake")
        .get("/hello")
        .status
}

#[test]
fn a_stream_that_is_not_read_ends_its_connection() {
    let (node, authority, _tls) = node(limits::short());
    with_client(&node, &client_config(&authority, None, b"h2"), async |mut client| {
        let (answer, _) = client
            .send_request(request("GET", "/pattern/50000000"), true)
            .expect("sent");
        let answer = answer.await.expect("answer");
        assert_eq!(answer.status(), 200);
        // Pings are answered and other frames are read, but no window is given back.
        while read(&node.door.figures().slow_reader) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(answer);
    });
    node.until_empty();
    node.stop();
}

#[test]
fn an_idle_connection_is_told_to_go_away_although_pings_are_answered() {
    let limits = Limits {
        ping_ms: 100,
        ..limits::short()
    };
    let (node, authority, _tls) = node(limits);
    with_client(&node, &client_config(&authority, None, b"h2"), async |mut client| {
        assert_eq!(get(&mut client, "/hello").await.expect("answer").0, 200);
        while read(&node.door.figures().idle) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let error = loop {
            match get(&mut client, "/hello").await {
                Err(error) => break error,
                Ok(_) => tokio::task::yield_now().await,
            }
        };
        assert!(error.is_go_away() || error.is_io(), "{error}");
    });
    node.until_empty();
    node.stop();
}

#[test]
fn shutdown_finishes_the_streams_that_run() {
    let (node, authority, _tls) = node(Limits::default());
    let config = client_config(&authority, None, b"h2");
    let trigger = std::cell::Cell::new(None);
    let mut node = node;
    trigger.set(node.trigger.take());
    with_client(&node, &config, async |mut client| {
        let (answer, _) = client.send_request(request("GET", "/slow/300"), true).expect("sent");
        while read(&node.door.figures().requests_now) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(trigger.take());
        let answer = answer.await.expect("answer");
        assert_eq!(body_of(answer).await.expect("body"), b"late");
    });
    node.stop();
}

#[test]
fn a_revoked_certificate_ends_an_open_connection() {
    let (node, authority, tls) = node(Limits::default());
    let identity = authority.issue("client", 66);
    with_client(
        &node,
        &client_config(&authority, Some(&identity), b"h2"),
        async |mut client| {
            assert_eq!(get(&mut client, "/who").await.expect("answer").0, 200);
            tls::reload_revoking(&tls, &authority, 66);
            assert_eq!(get(&mut client, "/who").await.expect("answer").0, 403);
            node_ends(&mut client).await;
        },
    );
    node.until_empty();
    node.stop();
}

async fn node_ends(client: &mut SendRequest<Bytes>) {
    while get(client, "/who").await.is_ok() {
        tokio::task::yield_now().await;
    }
}
