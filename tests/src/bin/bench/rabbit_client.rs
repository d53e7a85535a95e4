//! A publisher to a RabbitMQ quorum queue with confirms: AMQP 0-9-1, as much of it as that takes.

use bytes::{Buf, BufMut, BytesMut};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xCE;
const ACK: (u16, u16) = (60, 80);

/// A connection with one channel.
pub struct Publisher {
    stream: TcpStream,
    read: BytesMut,
    queue: String,
    next: u64,
    /// Published and not confirmed: number and when.
    waiting: VecDeque<(u64, Instant)>,
}

fn short(out: &mut BytesMut, text: &str) {
    out.put_u8(u8::try_from(text.len()).expect("a short text"));
    out.put_slice(text.as_bytes());
}

fn long(out: &mut BytesMut, text: &str) {
    out.put_u32(u32::try_from(text.len()).expect("a text"));
    out.put_slice(text.as_bytes());
}

fn frame(out: &mut BytesMut, kind: u8, channel: u16, payload: &[u8]) {
    out.put_u8(kind);
    out.put_u16(channel);
    out.put_u32(u32::try_from(payload.len()).expect("a small frame"));
    out.put_slice(payload);
    out.put_u8(FRAME_END);
}

fn method(class: u16, number: u16, fill: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut payload = BytesMut::new();
    payload.put_u16(class);
    payload.put_u16(number);
    fill(&mut payload);
    payload
}

impl Publisher {
    /// Connects to a broker on 127.0.0.1 and declares a durable quorum queue of this name.
    pub async fn open(port: u16, queue: &str) -> Publisher {
        let stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("the broker accepts");
        stream.set_nodelay(true).expect("a TCP socket");
        let mut publisher = Publisher {
            stream,
            read: BytesMut::new(),
            queue: queue.to_owned(),
            next: 1,
            waiting: VecDeque::new(),
        };
        publisher.write(b"AMQP\0\0\x09\x01").await;
        publisher.expect((10, 10)).await;
        let start = method(10, 11, |out| {
            out.put_u32(0);
            short(out, "PLAIN");
            long(out, "\0guest\0guest");
            short(out, "en_US");
        });
        publisher.call(0, &start).await;
        let mut tune = publisher.expect((10, 30)).await;
        let (channels, frame_bytes) = (tune.get_u16(), tune.get_u32());
        let tuned = method(10, 31, |out| {
            out.put_u16(channels);
            out.put_u32(frame_bytes);
            out.put_u16(0);
        });
        publisher.call(0, &tuned).await;
        let open = method(10, 40, |out| {
            short(out, "/");
            short(out, "");
            out.put_u8(0);
        });
        publisher.call(0, &open).await;
        publisher.expect((10, 41)).await;
        publisher.call(1, &method(20, 10, |out| short(out, ""))).await;
        publisher.expect((20, 11)).await;
        let declare = method(50, 10, |out| {
            out.put_u16(0);
            short(out, queue);
            out.put_u8(0b10);
            let mut table = BytesMut::new();
            short(&mut table, "x-queue-type");
            table.put_u8(b'S');
            long(&mut table, "quorum");
            out.put_u32(u32::try_from(table.len()).expect("a small table"));
            out.put_slice(&table);
        });
        publisher.call(1, &declare).await;
        publisher.expect((50, 11)).await;
        publisher.call(1, &method(85, 10, |out| out.put_u8(0))).await;
        publisher.expect((85, 11)).await;
        publisher
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the broker reads");
    }

    async fn call(&mut self, channel: u16, payload: &[u8]) {
        let mut out = BytesMut::new();
        frame(&mut out, METHOD, channel, payload);
        self.write(&out).await;
    }

    /// The next method: its class and number, and its arguments.
    async fn next_method(&mut self) -> ((u16, u16), BytesMut) {
        loop {
            if self.read.len() >= 7 {
                let bytes = u32::from_be_bytes(self.read[3..7].try_into().expect("four bytes")) as usize;
                if self.read.len() >= bytes + 8 {
                    let mut whole = self.read.split_to(bytes + 8);
                    if whole[0] != METHOD {
                        continue;
                    }
                    let mut payload = whole.split_off(7);
                    payload.truncate(bytes);
                    return ((payload.get_u16(), payload.get_u16()), payload);
                }
            }
            let read = self.stream.read_buf(&mut self.read).await.expect("the broker answers");
            assert!(read > 0, "the broker closed the connection");
        }
    }

    async fn expect(&mut self, expected: (u16, u16)) -> BytesMut {
        let (got, arguments) = self.next_method().await;
        assert_eq!(got, expected, "{:?}", String::from_utf8_lossy(&arguments));
        arguments
    }

    /// Publishes `count` persistent messages, at most `window` of them unconfirmed at once; gives how long each took.
    pub async fn publish(&mut self, body: &[u8], count: u64, window: usize) -> Vec<Duration> {
        let mut took = Vec::new();
        let last = self.next + count;
        while self.next < last || !self.waiting.is_empty() {
            let mut out = BytesMut::new();
            while self.next < last && self.waiting.len() < window {
                let publish = method(60, 40, |out| {
                    out.put_u16(0);
                    short(out, "");
                    short(out, &self.queue);
                    out.put_u8(0);
                });
                frame(&mut out, METHOD, 1, &publish);
                let mut header = BytesMut::new();
                header.put_u16(60);
                header.put_u16(0);
                header.put_u64(body.len() as u64);
                header.put_u16(0x1000);
                header.put_u8(2);
                frame(&mut out, HEADER, 1, &header);
                frame(&mut out, BODY, 1, body);
                self.waiting.push_back((self.next, Instant::now()));
                self.next += 1;
            }
            self.write(&out).await;
            let (got, mut arguments) = self.next_method().await;
            assert_eq!(got, ACK, "a message is confirmed");
            let (tag, multiple) = (arguments.get_u64(), arguments.get_u8() == 1);
            self.waiting.retain(|(number, published)| {
                let confirmed = *number == tag || multiple && *number < tag;
                if confirmed {
                    took.push(published.elapsed());
                }
                !confirmed
            });
        }
        took
    }
}
