//! RabbitMQ as a site runs it, from Debian's package, in a folder and on ports of its own; and a subscriber.

use crate::certificates::{Identity, service_certificates};
use crate::node::{Folder, free_port};
use crate::process::{Process, signal};
use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// The server's own programs: Debian's wrapper would change the user.
const PROGRAMS: &str = "/usr/lib/rabbitmq/lib";
/// Longest wait until a broker serves.
const START_WAIT_MAX: Duration = Duration::from_secs(120);
/// `USER:PASSWORD` of every broker here.
const LOGIN: &str = "vertebra:not-a-secret";
/// The exchange that a node publishes to unless it is told otherwise.
pub const EXCHANGE: &str = "events";
/// The queue that it declares unless it is told otherwise.
pub const QUEUE: &str = "events.all";

/// Where the package has its programs.
fn programs() -> PathBuf {
    let found = fs::read_dir(PROGRAMS).into_iter().flatten().flatten();
    let mut folders = found.map(|entry| entry.path().join("sbin"));
    let folder = folders.find(|folder| folder.join("rabbitmq-server").is_file());
    folder.expect("rabbitmq-server is installed: `make test` does it")
}

/// One broker, or one of a cluster.
pub struct Broker {
    folder: PathBuf,
    node: String,
    epmd_port: u16,
    distribution_port: u16,
    /// Its port without TLS.
    pub port: u16,
    /// Its port with TLS.
    pub tls_port: u16,
    process: Option<Process>,
}

/// Brokers that form one cluster, and the folder of them all.
pub struct Rabbit {
    /// The brokers.
    pub brokers: Vec<Broker>,
    folder: Folder,
    _names: Process,
}

impl Rabbit {
    /// Starts one broker and waits until it serves.
    pub fn start() -> Rabbit {
        Rabbit::cluster(1)
    }

    /// Starts `count` brokers that form a cluster, and waits until all serve.
    pub fn cluster(count: usize) -> Rabbit {
        let folder = Folder::new("rabbit");
        let (ca, server, client) = service_certificates();
        let epmd_port = free_port();
        let names = Process::start(
            Command::new("epmd").args(["-port", &epmd_port.to_string()]),
            &folder.path().join("epmd.log"),
        );
        fs::write(folder.path().join("ca.pem"), &ca).expect("the folder can be written");
        fs::write(folder.path().join("client.pem"), &client.certificate).expect("the folder can be written");
        fs::write(folder.path().join("client.key"), &client.key).expect("the folder can be written");
        fs::write(folder.path().join("login"), LOGIN).expect("the folder can be written");
        let mut brokers: Vec<Broker> = (0..count)
            .map(|number| Broker {
                folder: folder.path().join(format!("broker-{number}")),
                node: format!("broker{number}-{}@localhost", free_port()),
                epmd_port,
                distribution_port: free_port(),
                port: free_port(),
                tls_port: free_port(),
                process: None,
            })
            .collect();
        let all: Vec<String> = brokers.iter().map(|broker| broker.node.clone()).collect();
        for broker in &brokers {
            broker.prepare(&ca, &server, &all);
        }
        for broker in &mut brokers {
            broker.launch();
        }
        for broker in &mut brokers {
            broker.await_ready();
        }
        Rabbit {
            brokers,
            folder,
            _names: names,
        }
    }

    /// File with user and password.
    pub fn credentials(&self) -> PathBuf {
        self.folder.path().join("login")
    }

    /// File with the authority of the brokers' certificates.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Arguments of a sandbox that sends its events to the first broker without TLS, as a program beside it may.
    pub fn plain_arguments(&self) -> Vec<String> {
        let url = format!("amqp://127.0.0.1:{}", self.brokers[0].port);
        let login = self.credentials().display().to_string();
        ["--rabbitmq", &url, "--rabbitmq-credentials", &login]
            .map(str::to_owned)
            .to_vec()
    }

    /// Arguments of a sandbox that sends its events here over TLS.
    pub fn arguments(&self) -> Vec<String> {
        let text = |path: PathBuf| path.display().to_string();
        let url = |broker: &Broker| format!("amqps://localhost:{}", broker.tls_port);
        let urls = self
            .brokers
            .iter()
            .flat_map(|broker| ["--rabbitmq".to_owned(), url(broker)]);
        urls.chain([
            "--rabbitmq-credentials".to_owned(),
            text(self.credentials()),
            "--rabbitmq-ca".to_owned(),
            text(self.ca()),
            "--rabbitmq-certificate".to_owned(),
            text(self.folder.path().join("client.pem")),
            "--rabbitmq-key".to_owned(),
            text(self.folder.path().join("client.key")),
        ])
        .collect()
    }
}

impl Broker {
    fn prepare(&self, ca: &str, server: &Identity, all: &[String]) {
        let path = |name: &str| self.folder.join(name);
        fs::create_dir_all(path("home")).expect("the folder can be written");
        let write = |name: &str, text: &str| fs::write(path(name), text).expect("the folder can be written");
        write("ca.pem", ca);
        write("server.pem", &server.certificate);
        write("server.key", &server.key);
        write("plugins", "[].\n");
        write("home/.erlang.cookie", "VERTEBRATESTS");
        let cookie = fs::Permissions::from(std::os::unix::fs::PermissionsExt::from_mode(0o400));
        fs::set_permissions(path("home/.erlang.cookie"), cookie).expect("the folder can be written");
        let (user, password) = LOGIN.split_once(':').expect("user and password");
        let mut text = format!(
            "listeners.tcp.1 = 127.0.0.1:{}\nlisteners.ssl.1 = 127.0.0.1:{}\n\
             ssl_options.cacertfile = {}\nssl_options.certfile = {}\nssl_options.keyfile = {}\n\
             ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n\
             default_user = {user}\ndefault_pass = {password}\ndisk_free_limit.absolute = 1MB\n",
            self.port,
            self.tls_port,
            path("ca.pem").display(),
            path("server.pem").display(),
            path("server.key").display(),
        );
        if all.len() > 1 {
            text.push_str("cluster_formation.peer_discovery_backend = classic_config\n");
            for (number, node) in all.iter().enumerate() {
                text.push_str(&format!(
                    "cluster_formation.classic_config.nodes.{} = {node}\n",
                    number + 1
                ));
            }
        }
        write("rabbitmq.conf", &text);
    }

    fn command(&self, program: &str) -> Command {
        let path = |name: &str| self.folder.join(name);
        let mut command = Command::new(programs().join(program));
        command
            .env("HOME", path("home"))
            .env("RABBITMQ_NODENAME", &self.node)
            .env("RABBITMQ_MNESIA_BASE", path("data"))
            .env("RABBITMQ_LOG_BASE", path("logs"))
            .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
            .env("RABBITMQ_CONF_ENV_FILE", path("none"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins"))
            .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            // Two schedulers that sleep when there is nothing to do: several share the machine.
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
            )
            // The script then becomes the server instead of waiting for it.
            .env("RUNNING_UNDER_SYSTEMD", "1");
        command
    }

    fn launch(&mut self) {
        let logs = self.folder.join("output.log");
        self.process = Some(Process::start(&mut self.command("rabbitmq-server"), &logs));
    }

    fn await_ready(&mut self) {
        let started = Instant::now();
        while !self.is_ready(started) {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Whether it serves; fails when it has ended, or was started too long ago.
    fn is_ready(&mut self, started: Instant) -> bool {
        if let Some(status) = self.process.as_mut().and_then(Process::ended) {
            panic!("the broker ended with {status}:\n{}", self.log_tail());
        }
        assert!(
            started.elapsed() < START_WAIT_MAX,
            "the broker is not ready:\n{}",
            self.log_tail()
        );
        let open = |port: u16| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        open(self.port) && open(self.tls_port)
    }

    fn log_tail(&self) -> String {
        let text = fs::read(self.folder.join("output.log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again after a kill, and waits until it serves. A load on the same thread goes on meanwhile.
    pub async fn restart(&mut self) {
        self.launch();
        let started = Instant::now();
        while !self.is_ready(started) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Freezes it (`true`) or lets it go on: a machine that swaps, a partition that nobody notices.
    pub fn freeze(&self, frozen: bool) {
        let process = self.process.as_ref().expect("a running broker");
        let stop = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        assert!(signal(process.pid(), stop), "the broker runs");
    }

    /// Runs `rabbitmqctl` and gives what it prints. A load on the same thread goes on meanwhile.
    pub async fn control(&self, arguments: &[&str]) -> String {
        let mut command = self.command("rabbitmqctl");
        command.arg("--quiet").args(arguments);
        let done = tokio::task::spawn_blocking(move || command.output()).await;
        let Output { status, stdout, stderr } = done.expect("no panic").expect("rabbitmqctl starts");
        let text = String::from_utf8_lossy(&stdout).into_owned();
        assert!(
            status.success(),
            "{arguments:?}: {text}{}",
            String::from_utf8_lossy(&stderr)
        );
        text
    }

    /// Its address without TLS, user and password included.
    pub fn url(&self) -> String {
        format!("amqp://{LOGIN}@127.0.0.1:{}", self.port)
    }
}

/// An event as a subscriber got it.
#[derive(Clone, Debug)]
pub struct Got {
    /// CloudEvents JSON.
    pub json: Value,
    /// Routing key.
    pub routing_key: String,
    /// `message_id` of the AMQP properties.
    pub message_id: String,
}

impl Got {
    /// A member of the event, as text.
    pub fn text(&self, name: &str) -> &str {
        self.json[name].as_str().unwrap_or("")
    }
}

/// A subscriber on a connection of its own.
pub struct Subscriber {
    /// Its channel, for what only a test does.
    pub channel: Channel,
    _connection: Connection,
}

impl Subscriber {
    /// Connects; waits for a broker that just came up.
    pub async fn connect(broker: &Broker) -> Subscriber {
        let started = Instant::now();
        loop {
            let opened = async {
                let connection = Connection::connect(&broker.url(), ConnectionProperties::default()).await?;
                let channel = connection.create_channel().await?;
                channel.basic_qos(500, BasicQosOptions::default()).await?;
                Ok::<_, lapin::Error>(Subscriber {
                    channel,
                    _connection: connection,
                })
            };
            match opened.await {
                Ok(subscriber) => return subscriber,
                Err(error) => assert!(
                    started.elapsed() < START_WAIT_MAX,
                    "no connection to the broker: {error}"
                ),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// A quorum queue of its own, bound by `key`.
    pub async fn queue(&self, name: &str, key: &str) {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let declared = self.channel.queue_declare(name.into(), durable, arguments).await;
        declared.expect("the broker declares a queue");
        let options = QueueBindOptions::default();
        let bound = self
            .channel
            .queue_bind(name.into(), EXCHANGE.into(), key.into(), options, FieldTable::default());
        bound.await.expect("the broker binds a queue");
    }

    /// Takes a key from a queue.
    pub async fn unbind(&self, queue: &str, key: &str) {
        let unbound = self
            .channel
            .queue_unbind(queue.into(), EXCHANGE.into(), key.into(), FieldTable::default());
        unbound.await.expect("the broker takes a binding away");
    }

    /// Takes events until none has come for `quiet`.
    pub async fn take_all(&self, queue: &str, quiet: Duration) -> Vec<Got> {
        self.take(queue, quiet, usize::MAX).await
    }

    /// Takes events until there are `count` of them; fails when they do not come.
    pub async fn take_some(&self, queue: &str, count: usize) -> Vec<Got> {
        let got = self.take(queue, Duration::from_secs(30), count).await;
        assert_eq!(got.len(), count, "events in {queue}");
        got
    }

    async fn take(&self, queue: &str, quiet: Duration, max: usize) -> Vec<Got> {
        let tag = format!("test-{}", rand::random::<u64>());
        let options = BasicConsumeOptions::default();
        let consumer = self
            .channel
            .basic_consume(queue.into(), tag.as_str().into(), options, FieldTable::default());
        let mut consumer = consumer.await.expect("the queue is there");
        let mut got = Vec::new();
        while got.len() < max {
            let Ok(next) = tokio::time::timeout(quiet, consumer.next()).await else {
                break;
            };
            let delivery = next.expect("the subscription stands").expect("a delivery");
            delivery
                .ack(BasicAckOptions::default())
                .await
                .expect("the broker hears it");
            got.push(Got {
                json: serde_json::from_slice(&delivery.data).expect("an event is JSON"),
                routing_key: delivery.routing_key.to_string(),
                message_id: delivery
                    .properties
                    .message_id()
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            });
        }
        let cancelled = self
            .channel
            .basic_cancel(tag.as_str().into(), lapin::options::BasicCancelOptions::default());
        cancelled.await.expect("the broker ends a subscription");
        got
    }
}
