//! The services beside a node: a thread for each that is configured. A node runs whole without them.

use super::NodeError;
use super::threads::Thread;
use crate::auth::rate::Rates;
use crate::base::{Clock, release};
use crate::config::{Config, Rabbitmq};
use crate::http::Door;
use crate::log::Opened;
use crate::outbox::{self, Broker, Publisher};
use crate::redis::{self, Announcement, Keeper, Place, Redis, Settings, TlsFiles};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

type OutboxThread = (Thread, outbox::Stop);
type RedisThread = (Thread, redis::Stop);

/// Their threads, and what ends each.
pub(super) struct Beside {
    outbox: Option<OutboxThread>,
    redis: Option<RedisThread>,
}

impl Beside {
    /// Starts what is configured; gives also what the publisher of events counts, and Redis for those that ask it.
    pub(super) fn start(
        config: &Config,
        opened: &Opened,
        door: &Arc<Door>,
        rates: &Arc<Rates>,
    ) -> Result<(Beside, Option<Arc<outbox::Figures>>, Option<Redis>), NodeError> {
        let (outbox, events) = start_outbox(config, opened)?.unzip();
        let (thread, handle) = start_redis(config, door, rates)?.unzip();
        let beside = Beside { outbox, redis: thread };
        Ok((beside, events, handle))
    }

    /// Ends them.
    pub(super) fn stop(self) -> Result<(), NodeError> {
        let mut ended = Ok(());
        if let Some((thread, stop)) = self.outbox {
            stop.trigger();
            ended = ended.and(thread.join());
        }
        if let Some((thread, stop)) = self.redis {
            stop.trigger();
            ended = ended.and(thread.join());
        }
        ended
    }
}

/// Starts the publisher where a broker is configured; gives its thread with what ends it, and what it counts.
fn start_outbox(config: &Config, opened: &Opened) -> Result<Option<(OutboxThread, Arc<outbox::Figures>)>, NodeError> {
    let Some(rabbitmq) = &config.rabbitmq else {
        return Ok(None);
    };
    let broker = broker(&config.node.name, rabbitmq);
    let (publisher, figures, stop) = Publisher::new(broker, opened.log.clone(), opened.ledger.clone());
    let thread = Thread::spawn("outbox", move || publisher.run())?;
    Ok(Some(((thread, stop), figures)))
}

/// The broker as the publisher knows it.
fn broker(name: &str, rabbitmq: &Rabbitmq) -> Broker {
    Broker {
        name: format!("vertebra {name}"),
        urls: rabbitmq.urls.clone(),
        credentials: rabbitmq.credentials.clone(),
        ca: rabbitmq.ca.clone(),
        identity: rabbitmq.certificate.clone().zip(rabbitmq.key.clone()),
        exchange: rabbitmq.exchange.clone(),
        queues: rabbitmq.queues.clone(),
    }
}

/// Starts what keeps the connection to Redis and shares rates through it, where there is one.
fn start_redis(
    config: &Config,
    door: &Arc<Door>,
    rates: &Arc<Rates>,
) -> Result<Option<(RedisThread, Redis)>, NodeError> {
    let Some(settings) = redis_settings(config) else {
        return Ok(None);
    };
    let node = config.node.clone();
    let (since, door, rates) = (Clock::default().now().iso(), door.clone(), rates.clone());
    let about = move || Announcement {
        id: node.id,
        name: node.name.clone(),
        site: node.site.clone(),
        release: release::this().name.clone(),
        since: since.clone(),
        requests: door.figures().requests_now.load(Ordering::Relaxed),
    };
    let (keeper, handle, stop) = Keeper::new(settings, Box::new(about));
    let shared = handle.clone();
    let thread = Thread::spawn("redis", move || keeper.run(async move { rates.share(shared).await }))?;
    Ok(Some(((thread, stop), handle)))
}

/// How the configuration says that Redis is reached; `None` without one.
pub fn redis_settings(config: &Config) -> Option<Settings> {
    let redis = config.redis.as_ref()?;
    let place = match &redis.address {
        Some(address) => Place::One(address.clone()),
        None => Place::Sentinels {
            addresses: redis.sentinels.clone(),
            primary: redis.primary.clone(),
        },
    };
    Some(Settings {
        place,
        username: redis.username.clone(),
        password: redis.password.clone(),
        sentinel_password: redis.sentinel_password.clone(),
        tls: redis.ca.clone().map(|ca| TlsFiles {
            ca,
            identity: redis.certificate.clone().zip(redis.key.clone()),
        }),
        wait: Duration::from_millis(redis.wait_ms_max),
    })
}
