//! A connection to RabbitMQ: exchange and queues declared, publisher confirms on. All that knows lapin.
//!
//! lapin reads and writes on a thread of its own; what it would log holds whole messages, so its lines are switched off
//! (`systemd::logging`) and every refusal is told here, in words that hold no event.

use super::event::{Published, RESYNC_KEY};
use super::publisher::Broker;
use super::tls::TlsReactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind, PublisherConfirm};
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

/// Without a sign of life for twice this the connection counts as lost, s.
const HEARTBEAT_SECONDS: u16 = 10;

/// How long the broker may take to say goodbye.
const CLOSE_MS_MAX: u64 = 1_000;

/// What the broker said to an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is in every queue that wants it, on a quorum.
    Taken,
    /// No queue wants it.
    Unroutable,
    /// A queue refused it.
    Refused,
}

/// Why a connection is of no more use, for operators; holds nothing of an event.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Lost(String);

impl Lost {
    pub(super) fn because(why: impl Into<String>) -> Lost {
        Lost(why.into())
    }
}

impl From<lapin::Error> for Lost {
    fn from(error: lapin::Error) -> Lost {
        Lost(error.to_string())
    }
}

/// A publish that waits for its confirm.
pub(super) struct Pending(PublisherConfirm);

impl Pending {
    /// Waits for the broker's word.
    pub(super) async fn verdict(&mut self) -> Result<Verdict, Lost> {
        match (&mut self.0).await? {
            Confirmation::Ack(None) => Ok(Verdict::Taken),
            Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => Ok(Verdict::Unroutable),
            Confirmation::Nack(None) => Ok(Verdict::Refused),
            Confirmation::NotRequested => Err(Lost::because("the broker confirms nothing")),
        }
    }
}

/// An open connection.
pub(super) struct Session {
    connection: Connection,
    channel: Channel,
    exchange: ShortString,
}

impl Session {
    /// Connects to the broker's `nth` address (counted round) and declares exchange, queues and bindings; what is there
    /// already must be the same.
    pub(super) async fn open(broker: &Broker, nth: usize) -> Result<Session, Lost> {
        let url = &broker.urls[nth % broker.urls.len()];
        let mut uri: AMQPUri = url.parse().map_err(Lost::because)?;
        (uri.authority.userinfo.username, uri.authority.userinfo.password) = broker.login()?;
        uri.query.heartbeat = Some(HEARTBEAT_SECONDS);
        let properties = ConnectionProperties::default().with_connection_name(broker.name.as_str().into());
        let connection = match uri.scheme {
            AMQPScheme::AMQP => Connection::connect_uri_with_runtime(uri, properties, Runtime::tokio_current()).await?,
            AMQPScheme::AMQPS => {
                let ca = broker.ca()?.ok_or_else(|| Lost::because("rabbitmq.ca is missing"))?;
                let streams = TlsReactor::new(&uri.authority.host, &ca, broker.identity()?.as_ref())?;
                uri.scheme = AMQPScheme::AMQP;
                let runtime = Runtime::new(RuntimeParts::new(Tokio::current(), streams));
                Connection::connect_uri_with_runtime(uri, properties, runtime).await?
            }
        };
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let exchange: ShortString = broker.exchange.as_str().into();
        let durable = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        channel
            .exchange_declare(exchange.clone(), ExchangeKind::Topic, durable, FieldTable::default())
            .await?;
        for (queue, keys) in &broker.queues {
            declare_queue(&channel, &exchange, queue, keys).await?;
        }
        Ok(Session {
            connection,
            channel,
            exchange,
        })
    }

    /// Whether the broker has said that it takes nothing at present: an alarm of memory or disk.
    pub(super) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Whether the connection stands.
    pub(super) fn is_open(&self) -> bool {
        self.connection.status().connected()
    }

    /// Hands events over in this order; gives, in this order, what waits for their confirms. Returns once all are on their
    /// way, which a broker with an alarm holds up.
    pub(super) async fn publish(&self, events: &[Published]) -> Result<Vec<Pending>, Lost> {
        let mut handed: Vec<Handing<'_>> = events
            .iter()
            .map(|event| Handing::Under(Box::pin(self.publish_one(event))))
            .collect();
        // Each is polled in order before any is waited for: so they enter the channel in order and travel together.
        std::future::poll_fn(|context| {
            let mut all = true;
            for handing in &mut handed {
                if let Handing::Under(future) = handing {
                    match future.as_mut().poll(context) {
                        Poll::Ready(done) => *handing = Handing::Done(done),
                        Poll::Pending => all = false,
                    }
                }
            }
            if all { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let done = handed.into_iter().filter_map(|handing| match handing {
            Handing::Done(done) => Some(done.map(Pending).map_err(Lost::from)),
            Handing::Under(_) => None,
        });
        done.collect()
    }

    async fn publish_one(&self, event: &Published) -> lapin::Result<PublisherConfirm> {
        let properties = BasicProperties::default()
            .with_content_type("application/cloudevents+json".into())
            .with_delivery_mode(2)
            .with_message_id(event.id.as_str().into())
            .with_type(event.kind.into())
            .with_timestamp(event.at.ms() / 1000)
            .with_app_id("vertebra".into());
        let mandatory = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let key = event.routing_key.as_str().into();
        self.channel
            .basic_publish(self.exchange.clone(), key, mandatory, &event.body, properties)
            .await
    }

    /// Says goodbye, so that the broker's log shows no fault; a broker that does not answer is left.
    pub(super) async fn close(self) {
        let goodbye = self.connection.close(200, "bye".into());
        let _unheard = tokio::time::timeout(Duration::from_millis(CLOSE_MS_MAX), goodbye).await;
    }
}

/// A publish until it is on its way.
enum Handing<'a> {
    Under(Pin<Box<dyn Future<Output = lapin::Result<PublisherConfirm>> + Send + 'a>>),
    Done(lapin::Result<PublisherConfirm>),
}

/// A durable quorum queue, bound by its keys and by that of resync events.
async fn declare_queue(channel: &Channel, exchange: &ShortString, queue: &str, keys: &[String]) -> Result<(), Lost> {
    let queue: ShortString = queue.into();
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel.queue_declare(queue.clone(), durable, arguments).await?;
    for key in keys.iter().map(String::as_str).chain([RESYNC_KEY]) {
        let (exchange, options) = (exchange.clone(), QueueBindOptions::default());
        channel
            .queue_bind(queue.clone(), exchange, key.into(), options, FieldTable::default())
            .await?;
    }
    Ok(())
}
