//! Rates by address, connections by address and in all.

use crate::config::Serve;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Addresses that are remembered at once; beyond that the fullest buckets are forgotten first.
const ADDRESSES_MAX: usize = 4_096;
/// Connections of one address at once.
const CONNECTIONS_EACH: u32 = 16;

/// What is being limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Any request.
    Request,
    /// One that tries a secret or asks for one.
    Enrolment,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

/// All limits of the machines' door.
pub(super) struct Limits {
    requests_per_minute: f64,
    enrolments_per_minute: f64,
    connections_max: u32,
    buckets: Mutex<HashMap<(IpAddr, Kind), Bucket>>,
    connections: Arc<Mutex<Connections>>,
}

#[derive(Default)]
struct Connections {
    all: u32,
    each: HashMap<IpAddr, u32>,
}

/// A connection's place; given back when dropped.
pub(super) struct Place {
    address: IpAddr,
    connections: Arc<Mutex<Connections>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.all = connections.all.saturating_sub(1);
        if let Some(count) = connections.each.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                connections.each.remove(&self.address);
            }
        }
    }
}

impl Limits {
    pub(super) fn new(serve: &Serve) -> Limits {
        Limits {
            requests_per_minute: f64::from(serve.requests_per_minute),
            enrolments_per_minute: f64::from(serve.enrolments_per_minute),
            connections_max: u32::try_from(serve.connections_max).unwrap_or(u32::MAX),
            buckets: Mutex::new(HashMap::new()),
            connections: Arc::default(),
        }
    }

    fn per_minute(&self, kind: Kind) -> f64 {
        match kind {
            Kind::Request => self.requests_per_minute,
            Kind::Enrolment => self.enrolments_per_minute,
        }
    }

    /// Takes one from the address's bucket, which holds a minute's worth. `false`: too many.
    pub(super) fn allows(&self, address: IpAddr, kind: Kind, now: Instant) -> bool {
        let size = self.per_minute(kind);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let level = |bucket: &Bucket, size: f64| {
            let filled = now.saturating_duration_since(bucket.at).as_secs_f64() * size / 60.0;
            (bucket.tokens + filled).min(size)
        };
        if buckets.len() >= ADDRESSES_MAX && !buckets.contains_key(&(address, kind)) {
            // A full bucket says the same as none.
            buckets.retain(|(_, kind), bucket| level(bucket, self.per_minute(*kind)) < self.per_minute(*kind));
            if buckets.len() >= ADDRESSES_MAX {
                return false;
            }
        }
        let bucket = buckets
            .entry((address, kind))
            .or_insert(Bucket { tokens: size, at: now });
        let tokens = level(bucket, size);
        let allowed = tokens >= 1.0;
        bucket.tokens = if allowed { tokens - 1.0 } else { tokens };
        bucket.at = now;
        allowed
    }

    /// A place for a connection, unless there are too many.
    pub(super) fn connection(&self, address: IpAddr) -> Option<Place> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let each = connections.each.get(&address).copied().unwrap_or(0);
        if connections.all >= self.connections_max || each >= CONNECTIONS_EACH {
            return None;
        }
        connections.all += 1;
        connections.each.insert(address, each + 1);
        Some(Place {
            address,
            connections: self.connections.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn one_address_s_excess_is_not_another_s() {
        let serve = Serve {
            requests_per_minute: 60,
            enrolments_per_minute: 2,
            connections_max: 20,
            ..Serve::default()
        };
        let limits = Limits::new(&serve);
        let [one, two]: [IpAddr; 2] = ["10.1.0.1", "10.1.0.2"].map(|text| text.parse().expect("an address"));
        let start = Instant::now();
        assert!((0..60).all(|_| limits.allows(one, Kind::Request, start)));
        assert!(!limits.allows(one, Kind::Request, start));
        assert!(limits.allows(two, Kind::Request, start));
        assert!(
            limits.allows(one, Kind::Enrolment, start),
            "each kind has a bucket of its own"
        );
        let later = start + Duration::from_millis(1_100);
        assert!(limits.allows(one, Kind::Request, later));
        assert!(!limits.allows(one, Kind::Request, later));
        let mut places: Vec<Place> = (0..16).filter_map(|_| limits.connection(one)).collect();
        assert_eq!(places.len(), 16);
        assert!(limits.connection(one).is_none());
        places.extend((0..16).filter_map(|_| limits.connection(two)));
        assert_eq!(places.len(), 20, "the limit of all");
        drop(places);
        assert!(limits.connection(one).is_some());
    }
}
