//! A client of etcd's key-value service: gRPC over HTTP/2, as much of it as a put takes.

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use tokio::net::TcpStream;

/// One connection.
pub struct Etcd(SendRequest<Bytes>);

impl Etcd {
    /// Connects to 127.0.0.1.
    pub async fn open(port: u16) -> Etcd {
        let tcp = TcpStream::connect(("127.0.0.1", port)).await.expect("etcd accepts");
        tcp.set_nodelay(true).expect("a TCP socket");
        let (send, connection) = h2::client::handshake(tcp).await.expect("etcd speaks HTTP/2");
        tokio::spawn(async move {
            let _ended = connection.await;
        });
        Etcd(send)
    }

    /// Puts a value, which must succeed.
    pub async fn put(&mut self, key: &[u8], value: &[u8]) {
        let request = http::Request::post("http://etcd/etcdserverpb.KV/Put")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .expect("a plain request");
        let mut ready = self.0.clone().ready().await.expect("the connection stands");
        let (response, mut stream) = ready.send_request(request, false).expect("the connection stands");
        stream
            .send_data(message(key, value), true)
            .expect("the connection stands");
        let response = response.await.expect("etcd answers");
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            let read = data.expect("etcd answers").len();
            body.flow_control().release_capacity(read).expect("it was received");
        }
        let trailers = body.trailers().await.expect("etcd answers");
        let status = trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
        assert_eq!(
            status.map(http::HeaderValue::as_bytes),
            Some(b"0".as_slice()),
            "a put succeeds"
        );
    }
}

/// The gRPC frame of `PutRequest { key = 1, value = 2 }`.
fn message(key: &[u8], value: &[u8]) -> Bytes {
    let mut inner = BytesMut::new();
    for (field, bytes) in [(1_u8, key), (2, value)] {
        inner.put_u8(field << 3 | 2);
        let mut left = bytes.len();
        while left > 0x7F {
            inner.put_u8(u8::try_from(left & 0x7F).expect("seven bits") | 0x80);
            left >>= 7;
        }
        inner.put_u8(u8::try_from(left).expect("seven bits"));
        inner.put_slice(bytes);
    }
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(inner.len()).expect("a small message"));
    framed.put_slice(&inner);
    framed.freeze()
}
