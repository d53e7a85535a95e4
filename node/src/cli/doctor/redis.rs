//! Redis as a node would use it: reached, primary, and what it should be; or its absence, with what that means.

use super::{Line, open_to_others};
use crate::config::Config;
use crate::node::redis_settings;
use crate::redis::{Place, look};

/// What a node does without Redis.
const ALONE: &str = "each node keeps nonces of reads and clients' rates to itself: a read's token can be used once on each node within \
                     two hours, and a client that asks N nodes gets N times its rate; writes, assertions and records are not affected";

pub(super) fn lines(config: &Config) -> Vec<Line> {
    let (Some(redis), Some(settings)) = (&config.redis, redis_settings(config)) else {
        return vec![Line::ok("Redis", format!("not configured: {ALONE}"))];
    };
    let mut lines = Vec::new();
    for (key, file) in [
        ("redis.password", &redis.password),
        ("redis.sentinel_password", &redis.sentinel_password),
        ("redis.key", &redis.key),
    ] {
        lines.extend(file.as_ref().map(|file| open_to_others(key, file)));
    }
    let looked = match look(&settings) {
        Ok(looked) => looked,
        Err(why) => {
            lines.push(Line::warn(
                "Redis",
                format!("cannot be used ({why}); meanwhile {ALONE}"),
                "start it, or correct [redis]; see node/runbooks/redis-lost.md",
            ));
            return lines;
        }
    };
    let server = &looked.server;
    let by = match &settings.place {
        Place::One(_) => "",
        Place::Sentinels { .. } => ", as Sentinel says",
    };
    lines.push(Line::ok(
        "Redis",
        format!(
            "{} is primary{by}: release {}, {} replicas",
            looked.address, server.version, server.replicas
        ),
    ));
    for worry in server.worries() {
        let (found, advice) = worry
            .split_once("; ")
            .unwrap_or((worry.as_str(), "see node/runbooks/redis-lost.md"));
        lines.push(Line::warn("Redis", found, advice));
    }
    lines
}
