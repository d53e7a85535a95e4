//! What all reactors of the front door share: limits, permits, the shed flag, counters, request identifiers.

use super::figures::{self, DoorFigures};
use super::limits::Limits;
use crate::base::RequestId;
use ::http::Method;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The least and the most memory that one request is taken to need.
const REQUEST_BYTES_ESTIMATE: (u64, u64) = (16 * 1024, 1024 * 1024);

/// One answered request, for metrics and the access log. Nothing in it is a client's text.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Our identifier.
    pub id: RequestId,
    /// Method; one that we do not know is `"OTHER"`.
    pub method: &'static str,
    /// The handler's name of the route, `"unnamed"` without one.
    pub route: &'static str,
    /// Status; 499 when the client went away before there was an answer.
    pub status: u16,
    /// From the headers' arrival to the end of the answer's body.
    pub micros: u64,
    /// Body bytes sent.
    pub bytes_out: u64,
}

/// Told of each answered request, on the reactor that answered it. Must be quick and must not block.
pub type Observer = Arc<dyn Fn(&Answered) + Send + Sync>;

/// A switch by which other parts have new requests answered 503: a full disk, a long queue. 0 is off.
#[derive(Clone, Debug, Default)]
pub struct Shed {
    retry_after_s: Arc<AtomicU32>,
}

impl Shed {
    /// Sheds, and tells clients to come back after this many seconds (at least 1).
    pub fn on(&self, retry_after_s: u32) {
        self.retry_after_s.store(retry_after_s.max(1), Ordering::Relaxed);
    }

    /// Lets requests in again.
    pub fn off(&self) {
        self.retry_after_s.store(0, Ordering::Relaxed);
    }

    /// Seconds for Retry-After while it is on.
    pub fn retry_after_s(&self) -> Option<u32> {
        Some(self.retry_after_s.load(Ordering::Relaxed)).filter(|seconds| *seconds > 0)
    }
}

/// What the reactors share. One a listener kind (public, administration), so that neither starves the other.
pub struct Door {
    limits: Limits,
    shed: Shed,
    observer: Option<Observer>,
    figures: DoorFigures,
    requests_bytes: AtomicU64,
    by_address: Mutex<FxHashMap<IpAddr, usize>>,
    id_high: u64,
    id_next: AtomicU64,
}

impl Door {
    /// A door with these limits; `observer` is told of each answered request.
    pub fn new(limits: Limits, observer: Option<Observer>) -> Arc<Door> {
        Arc::new(Door {
            limits,
            shed: Shed::default(),
            observer,
            figures: DoorFigures::default(),
            requests_bytes: AtomicU64::new(0),
            by_address: Mutex::default(),
            id_high: u64::from(rand::random::<u32>()) << 32,
            id_next: AtomicU64::new(0),
        })
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The switch by which other parts shed load.
    pub fn shed(&self) -> Shed {
        self.shed.clone()
    }

    /// The counters.
    pub fn figures(&self) -> &DoorFigures {
        &self.figures
    }

    /// A new request identifier: random upper half, drawn at start, and a counter, so that it is unique on this
    /// node and, but for one chance in four thousand million, across restarts and nodes.
    pub fn next_id(&self) -> RequestId {
        let low = self.id_next.fetch_add(1, Ordering::Relaxed) & u64::from(u32::MAX);
        RequestId(self.id_high | low)
    }

    pub(super) fn tell(&self, answered: &Answered) {
        if let Some(observer) = &self.observer {
            observer(answered);
        }
    }

    /// Lets a connection in, or not: too many in all, too many of one address.
    pub(super) fn admit_connection(self: &Arc<Door>, address: IpAddr) -> Option<ConnectionPermit> {
        let before = self.figures.connections_now.fetch_add(1, Ordering::Relaxed);
        if before >= self.limits.connections_max as u64 {
            figures::uncount(&self.figures.connections_now);
            figures::count(&self.figures.refused_connections);
            return None;
        }
        let counted = (!address.to_canonical().is_loopback()).then(|| address.to_canonical());
        if let Some(address) = counted {
            let mut by_address = self.by_address.lock();
            let open = by_address.entry(address).or_default();
            if *open >= self.limits.connections_per_address_max {
                drop(by_address);
                figures::uncount(&self.figures.connections_now);
                figures::count(&self.figures.refused_address);
                return None;
            }
            *open += 1;
        }
        figures::count(&self.figures.connections);
        Some(ConnectionPermit {
            door: Arc::clone(self),
            address: counted,
        })
    }

    /// Lets a request in, or says after how many seconds to come back.
    pub(super) fn admit_request(self: &Arc<Door>, announced_bytes: Option<u64>) -> Result<RequestPermit, u32> {
        let (least, most) = REQUEST_BYTES_ESTIMATE;
        // Without an announced length it may be anything.
        let bytes = announced_bytes.unwrap_or(most).clamp(least, most);
        let before = self.figures.requests_now.fetch_add(1, Ordering::Relaxed);
        let bytes_before = self.requests_bytes.fetch_add(bytes, Ordering::Relaxed);
        let permit = RequestPermit {
            door: Arc::clone(self),
            bytes,
        };
        if let Some(seconds) = self.shed.retry_after_s() {
            return Err(seconds);
        }
        let full = before >= self.limits.requests_max as u64
            || bytes_before.saturating_add(bytes) > self.limits.requests_bytes_max;
        if full {
            Err(self.limits.retry_after_s)
        } else {
            Ok(permit)
        }
    }
}

/// An open connection; counted until it is dropped.
pub(super) struct ConnectionPermit {
    door: Arc<Door>,
    address: Option<IpAddr>,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        figures::uncount(&self.door.figures.connections_now);
        if let Some(address) = self.address {
            let mut by_address = self.door.by_address.lock();
            if let Some(open) = by_address.get_mut(&address) {
                *open -= 1;
                if *open == 0 {
                    by_address.remove(&address);
                }
            }
        }
    }
}

/// A request being answered; counted until it is dropped.
pub(super) struct RequestPermit {
    door: Arc<Door>,
    bytes: u64,
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        figures::uncount(&self.door.figures.requests_now);
        self.door.requests_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A method's name, from a fixed set.
pub(super) fn method_name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "OTHER",
    }
}
