//! The services beside a sandbox, as its arguments name them.

use crate::cli::CliError;
use crate::config::{Rabbitmq, Redis, broker_address, redis_problems};
use std::path::PathBuf;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// A RabbitMQ to send events to: amqp://127.0.0.1:5672 say; repeat for more brokers of its cluster; none leave without it
    #[arg(long, value_name = "URL", requires = "rabbitmq_credentials")]
    rabbitmq: Vec<String>,
    /// File with USER:PASSWORD of that RabbitMQ
    #[arg(long, value_name = "FILE", requires = "rabbitmq")]
    rabbitmq_credentials: Option<PathBuf>,
    /// Authorities of its certificate, PEM
    #[arg(long, value_name = "FILE", requires = "rabbitmq")]
    rabbitmq_ca: Option<PathBuf>,
    /// Certificate that the sandbox shows it, PEM
    #[arg(long, value_name = "FILE", requires = "rabbitmq_key")]
    rabbitmq_certificate: Option<PathBuf>,
    /// Key of that certificate, PEM
    #[arg(long, value_name = "FILE", requires = "rabbitmq_certificate")]
    rabbitmq_key: Option<PathBuf>,
    /// Routing key by which its queue is bound; repeat for more
    #[arg(long, value_name = "KEY", default_value = "#")]
    rabbitmq_bind: Vec<String>,
    /// A Redis to share nonces of reads and rates through: 127.0.0.1:6379 say; without it each member keeps them to itself
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "redis_sentinel")]
    redis: Option<String>,
    /// A Sentinel that knows the primary, named `vertebra` there; repeat for more
    #[arg(long, value_name = "HOST:PORT")]
    redis_sentinel: Vec<String>,
    /// File with the password of that Redis and of its sentinels
    #[arg(long, value_name = "FILE")]
    redis_password: Option<PathBuf>,
    /// Authorities of their certificates, PEM
    #[arg(long, value_name = "FILE")]
    redis_ca: Option<PathBuf>,
    /// Certificate that the sandbox shows them, PEM
    #[arg(long, value_name = "FILE", requires = "redis_key")]
    redis_certificate: Option<PathBuf>,
    /// Key of that certificate, PEM
    #[arg(long, value_name = "FILE", requires = "redis_certificate")]
    redis_key: Option<PathBuf>,
}

impl Args {
    /// The broker that the arguments name.
    pub(super) fn rabbitmq(&self) -> Result<Option<Rabbitmq>, CliError> {
        let Some(credentials) = &self.rabbitmq_credentials else {
            return Ok(None);
        };
        for url in &self.rabbitmq {
            broker_address(url).map_err(|what| CliError::Usage(format!("--rabbitmq {what}")))?;
        }
        let mut rabbitmq = Rabbitmq::new(self.rabbitmq.clone(), credentials.clone());
        rabbitmq.ca.clone_from(&self.rabbitmq_ca);
        rabbitmq.certificate.clone_from(&self.rabbitmq_certificate);
        rabbitmq.key.clone_from(&self.rabbitmq_key);
        for keys in rabbitmq.queues.values_mut() {
            keys.clone_from(&self.rabbitmq_bind);
        }
        Ok(Some(rabbitmq))
    }

    /// The Redis that the arguments name.
    pub(super) fn redis(&self) -> Result<Option<Redis>, CliError> {
        if self.redis.is_none() && self.redis_sentinel.is_empty() {
            return Ok(None);
        }
        let mut redis = Redis::new(self.redis.clone(), self.redis_sentinel.clone());
        redis.password.clone_from(&self.redis_password);
        if !redis.sentinels.is_empty() {
            redis.sentinel_password.clone_from(&self.redis_password);
        }
        redis.ca.clone_from(&self.redis_ca);
        redis.certificate.clone_from(&self.redis_certificate);
        redis.key.clone_from(&self.redis_key);
        match redis_problems(&redis).first() {
            Some(problem) => Err(CliError::Usage(format!("{}: {}", problem.key, problem.what))),
            None => Ok(Some(redis)),
        }
    }
}
