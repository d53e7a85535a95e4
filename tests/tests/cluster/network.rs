//! The network of the tests does what it says: cut is cut, silently, one way or both, and clients go on reaching everybody.

use crate::Turn;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use vertebra_tests::cluster::{Network, between};
use vertebra_tests::process::{Process, wait_until};

const PORT: u16 = 7000;
/// Sends a datagram; says every sender that reaches it.
const LISTEN: &str = "import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\ns.bind(('0.0.0.0',7000))\nwhile True: print(s.recvfrom(9)[1][0],flush=True)";
const SEND: &str = "import socket,sys\nsocket.socket(socket.AF_INET,socket.SOCK_DGRAM).sendto(b'x',(sys.argv[1],7000))";
/// Exit code 0: connected; 3: refused; 4: no answer.
const CONNECT: &str = "import socket,sys\ntry: socket.create_connection((sys.argv[1],7000),0.7)\nexcept ConnectionRefusedError: sys.exit(3)\nexcept TimeoutError: sys.exit(4)";

fn connects(network: &Network, from: u64, to: u64) -> Option<i32> {
    let mut command = network.command(from, "python3");
    command.args(["-c", CONNECT]).arg(network.address(to).to_string());
    command.status().expect("python3 starts").code()
}

#[test]
fn what_is_cut_is_silent_and_what_is_not_goes_on() {
    let _turn = Turn::take();
    let folder = vertebra_tests::node::Folder::new("network");
    let mut network = Network::new();
    let mut servers = Vec::new();
    for id in 1..=3 {
        network.add(id);
        let mut server = network.command(id, "python3");
        server.args(["-m", "http.server", &PORT.to_string()]);
        servers.push(Process::start(&mut server, &folder.path().join("log")));
        let address: SocketAddr = (network.address(id), PORT).into();
        wait_until("the server listens", Duration::from_secs(20), || {
            TcpStream::connect_timeout(&address, Duration::from_millis(300)).is_ok()
        });
    }
    assert_eq!(connects(&network, 1, 2), Some(0));
    network.set_cut(between(&[1], &[2, 3]));
    for (from, to, expected) in [(1, 2, 4), (2, 1, 4), (3, 1, 4), (2, 3, 0)] {
        assert_eq!(connects(&network, from, to), Some(expected), "from {from} to {to}");
    }
    let address: SocketAddr = (network.address(1), PORT).into();
    assert!(
        TcpStream::connect_timeout(&address, Duration::from_secs(5)).is_ok(),
        "clients reach a node that is cut off from the others"
    );
    network.set_cut([(1, 2)].into());
    assert_eq!(connects(&network, 1, 2), Some(4), "the way there is cut");
    assert_eq!(connects(&network, 2, 1), Some(4), "and so is the way back of an answer");
    assert_eq!(connects(&network, 1, 3), Some(0));

    let mut listener = network.command(1, "python3");
    let mut listener = listener
        .args(["-c", LISTEN])
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let mut heard = listener.stdout.take().expect("its output is piped");
    let send = |network: &Network| {
        let mut command: Command = network.command(2, "python3");
        command.args(["-c", SEND]).arg(network.address(1).to_string());
        assert!(command.status().expect("python3 starts").success());
    };
    // One way is one way: datagrams from 2 still reach 1.
    let sender = network.address(2).to_string();
    let told = std::thread::scope(|scope| {
        let told = scope.spawn(move || {
            let mut line = vec![0; 11];
            heard
                .read_exact(&mut line)
                .map(|()| String::from_utf8_lossy(&line).into_owned())
        });
        while !told.is_finished() {
            send(&network);
            std::thread::sleep(Duration::from_millis(50));
        }
        told.join().expect("the listener's reader does not panic")
    });
    let _ = listener.kill();
    let _ = listener.wait();
    assert_eq!(told.expect("the listener says whom it heard"), sender);

    network.set_cut([].into());
    assert_eq!(connects(&network, 1, 2), Some(0), "healed");
    servers[1].kill();
    assert_eq!(
        connects(&network, 1, 2),
        Some(3),
        "a dead process is refused, not silent"
    );
    network.throttle(1, 64);
    network.throttle(1, 0);
    assert_eq!(connects(&network, 1, 3), Some(0));

    let late = Duration::from_millis(80);
    network.delay(1, late);
    let began = Instant::now();
    let address: SocketAddr = (network.address(1), PORT).into();
    assert!(TcpStream::connect_timeout(&address, Duration::from_secs(5)).is_ok());
    assert!(began.elapsed() >= 2 * late, "it came there late, and back");
    network.delay(1, Duration::ZERO);
    assert_eq!(connects(&network, 1, 3), Some(0));
    network.set_cut(between(&[1], &[3]));
    assert_eq!(connects(&network, 1, 3), Some(4), "a late link can be cut too");
}
