//! Clients that hang on: they cost the honest ones nothing and leave no descriptor behind.

use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use vertebra_tests::mesh::{Mailbox, WORKFLOW};
use vertebra_tests::node::{Folder, Node};
use vertebra_tests::process::{descriptors, raise_descriptor_limit};
use vertebra_tests::wire::Connection;

const SLOW_CLIENTS: usize = 1000;

/// How a client hangs on.
#[derive(Clone, Copy, Debug)]
enum Habit {
    /// Connects and says nothing.
    Handshake,
    /// Half a request line.
    Header,
    /// A part of the announced body.
    Body,
    /// Asks for much and reads nothing.
    Reader,
}

/// A connection that is kept open and not used.
type Held = Box<dyn std::any::Any>;

/// The two ends that slow clients pretend to be. Their TLS sessions are resumed, so that a thousand come quickly.
struct Ends {
    alice: Mailbox,
    bob: Mailbox,
    large: String,
}

async fn hang_on(ends: &Ends, habit: Habit) -> Held {
    let Ends { alice, bob, large } = ends;
    let (target, bytes) = match habit {
        Habit::Handshake => {
            return Box::new(
                TcpStream::connect(alice.target.address)
                    .await
                    .expect("the node accepts"),
            );
        }
        Habit::Header => (
            &alice.target,
            format!("GET {} HTTP/1.1\r\nHost: a\r\nX-Slow", alice.path("inbox")),
        ),
        Habit::Body => (
            &alice.target,
            format!(
                "POST {} HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\nMex-To: X26ABC2\r\nMex-WorkflowID: {WORKFLOW}\r\n\
                 Content-Length: 100000\r\n\r\nbut this is all",
                alice.path("outbox"),
                alice.credentials.token()
            ),
        ),
        Habit::Reader => (
            &bob.target,
            format!(
                "GET {} HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\n\r\n",
                bob.path(&format!("inbox/{large}")),
                bob.credentials.token()
            ),
        ),
    };
    let mut connection = Connection::open(target).await.expect("the node accepts");
    connection.write(bytes.as_bytes()).await.expect("the node reads");
    Box::new(connection)
}

#[tokio::test]
async fn a_thousand_slow_clients_leave_no_descriptor_and_honest_ones_are_served() {
    raise_descriptor_limit();
    let folder = Folder::new("slow");
    let mut node = Node::start_on_two(&folder.path().join("data"));
    let large = node
        .mailbox(0)
        .send("X26ABC2", WORKFLOW, &[], &vec![5; 20_000_000])
        .await;
    // Everything that opens lazily has opened once the first messages have gone through.
    let warm = node.mailbox(0).send("X26ABC2", WORKFLOW, &[], b"warm").await;
    node.mailbox(1).acknowledge(&warm).await;
    node.mailbox(1).download(&large).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = descriptors(node.pid());

    let habits = [Habit::Handshake, Habit::Header, Habit::Body, Habit::Reader];
    let ends = Ends {
        alice: node.mailbox(0),
        bob: node.mailbox(1),
        large: large.clone(),
    };
    let mut held: Vec<Held> = Vec::new();
    for number in 0..SLOW_CLIENTS {
        held.push(hang_on(&ends, habits[number % habits.len()]).await);
    }
    assert!(
        descriptors(node.pid()) >= before + SLOW_CLIENTS * 9 / 10,
        "they do hang on"
    );
    let (mut alice, mut bob) = (node.mailbox(0), node.mailbox(1));
    let mut slowest = Duration::ZERO;
    for number in 0..200 {
        let started = Instant::now();
        let message = alice
            .send("X26ABC2", WORKFLOW, &[], format!("honest {number}").as_bytes())
            .await;
        assert_eq!(bob.download(&message).await.status, 200);
        bob.acknowledge(&message).await;
        slowest = slowest.max(started.elapsed());
    }
    println!("slowest honest cycle beside {SLOW_CLIENTS} slow clients: {slowest:?}");
    drop((alice, bob));

    // Nobody closes them from our side: the node's own limits must.
    let started = Instant::now();
    while descriptors(node.pid()) > before {
        let open = descriptors(node.pid());
        assert!(
            started.elapsed() < Duration::from_secs(150),
            "{open} descriptors and not {before}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("all closed after {:?}", started.elapsed());
    drop(held);
    assert!(node.ended().is_none());
    assert_eq!(
        node.mailbox(1).inbox().await,
        [large],
        "no slow client's half message was delivered"
    );
}

#[tokio::test]
async fn clients_that_vanish_leave_no_descriptor() {
    let folder = Folder::new("vanish");
    let node = Node::start_on_two(&folder.path().join("data"));
    let large = node
        .mailbox(0)
        .send("X26ABC2", WORKFLOW, &[], &vec![5; 5_000_000])
        .await;
    node.mailbox(1).download(&large).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = descriptors(node.pid());
    let ends = Ends {
        alice: node.mailbox(0),
        bob: node.mailbox(1),
        large,
    };
    for number in 0..200 {
        let habits = [Habit::Handshake, Habit::Header, Habit::Body, Habit::Reader];
        drop(hang_on(&ends, habits[number % habits.len()]).await);
    }
    let started = Instant::now();
    while descriptors(node.pid()) > before {
        let open = descriptors(node.pid());
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{open} descriptors and not {before}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
