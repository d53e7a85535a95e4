//! 100 MB uploads over TLS against nginx that writes bodies to files.

use crate::drive::taken;
use crate::peers::Peer;
use crate::{Bound, Row};
use vertebra_tests::mesh::WORKFLOW;
use vertebra_tests::node::{Folder, Node};
use vertebra_tests::wire::{Connection, Target};

const UPLOADS: u64 = 5;
const BYTES: usize = 100_000_000;

/// Measures both.
pub async fn measure() -> Vec<Row> {
    let folder = Folder::new("bench-upload");
    let node = Node::start(&folder.path().join("data"));
    let mut alice = node.mailbox(0);
    let mut body = vec![0u8; BYTES];
    body.iter_mut()
        .enumerate()
        .for_each(|(at, byte)| *byte = (at * 7 + at / 1000) as u8);
    alice.send("X26ABC2", WORKFLOW, &[], &body[..1_000_000]).await;
    let (_, our) = taken(node.pid(), async {
        for _ in 0..UPLOADS {
            alice.send("X26ABC2", WORKFLOW, &[], &body).await;
        }
    })
    .await;

    let nginx_folder = Folder::new("bench-nginx");
    let (certificate, key) = (nginx_folder.path().join("c.pem"), nginx_folder.path().join("k.pem"));
    let identity = node.identity();
    std::fs::write(&certificate, &identity.certificate).expect("the folder can be written");
    std::fs::write(&key, &identity.key).expect("the folder can be written");
    let peer = Peer::nginx(nginx_folder.path(), &certificate, &key);
    let target = Target {
        address: ([127, 0, 0, 1], peer.port).into(),
        host: "localhost".into(),
        tls: Some(crate::peers::trust_anything()),
    };
    let mut connection = Connection::open(&target).await.expect("nginx accepts");
    let upload = async |connection: &mut Connection| {
        let answer = connection.exchange("POST", "/", &[("Host", "localhost")], &body).await;
        assert_eq!(answer.expect("nginx answers").status, 202);
    };
    upload(&mut connection).await;
    let (_, their) = taken(peer.worker(), async {
        for _ in 0..UPLOADS {
            upload(&mut connection).await;
        }
    })
    .await;
    let per_gb = |time: std::time::Duration| time.as_secs_f64() / (UPLOADS as f64 * BYTES as f64 / 1e9);
    vec![Row {
        measure: "100 MB upload over TLS, CPU".into(),
        ours: format!("{:.2} s/GB", per_gb(our.server)),
        peer: format!("nginx {:.2} s/GB", per_gb(their.server)),
        figure: our.server.as_secs_f64() / their.server.as_secs_f64(),
        unit: "×",
        least: Bound::AtMost(1.2),
        aim: Bound::AtMost(0.8),
        own_cpu: our.own,
    }]
}
