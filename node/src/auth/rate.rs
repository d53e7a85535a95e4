//! How often a client may ask.
//!
//! One bucket a client holds one second's worth of requests and fills steadily. A bucket is kept as the moment at which it
//! will be full again, so one that is full need not be kept at all, and forgetting is exact. The clock is monotone: setting
//! the time does not open a bucket.
//!
//! Each node judges by its own bucket, at once. Where there is a Redis ([`Rates::share`]) it tells there what it took and learns
//! what others took, up to a hundred times a second, and its own bucket is emptied by that. So over time a client gets its
//! rate however many nodes it asks; within one such turn it may get a bucket from each, which it pays for afterwards. Without
//! Redis buckets are the node's own, and a client that asks N nodes gets N times its rate.

use crate::redis::Redis;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Locks; the threads of a node seldom meet at one.
const SHARDS: usize = 16;
/// Default bound on buckets that are not full: about 1 MB.
pub const CLIENTS_MAX: usize = 16 * 1024;
const SECOND_NS: u64 = 1_000_000_000;
/// Between two turns of sharing, ms.
const SHARE_MS: u64 = 10;
/// Buckets in one turn.
const SHARED_MAX: usize = 256;
/// What others took counts for at most so long: a wrong value in Redis holds nobody back for longer.
const AHEAD_NS_MAX: u64 = 10 * SECOND_NS;
/// Where Redis keeps them.
const KEY: &str = "vertebra:rate:";

/// A bucket that is not full.
#[derive(Clone, Copy, Default)]
struct Bucket {
    /// When it is full again.
    full_at: u64,
    /// Of what was taken, what Redis was not told yet.
    untold: u64,
    /// It waits for the next turn.
    due: bool,
}

/// The buckets; shared by all threads of a node.
pub struct Rates {
    shards: Vec<Mutex<FxHashMap<Box<str>, Bucket>>>,
    key: RandomState,
    began: Instant,
    shard_clients_max: usize,
    sharing: AtomicBool,
    /// Clients of whose buckets something was taken since the last turn.
    due: Mutex<Vec<Box<str>>>,
    some_due: Notify,
}

impl Rates {
    /// Full buckets, of which at most `clients_max` are kept while they are not.
    pub fn new(clients_max: usize) -> Rates {
        Rates {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            key: RandomState::new(),
            began: Instant::now(),
            shard_clients_max: clients_max.div_ceil(SHARDS),
            sharing: AtomicBool::new(false),
            due: Mutex::default(),
            some_due: Notify::new(),
        }
    }

    /// Takes one request of `client` out of its bucket of `per_second` (at least 1).
    ///
    /// # Errors
    /// The bucket is empty: the whole seconds, at least 1, after which the client may ask again.
    pub fn take(&self, client: &str, per_second: u32) -> Result<(), u32> {
        self.take_at(client, per_second, self.began.elapsed())
    }

    fn take_at(&self, client: &str, per_second: u32, now: Duration) -> Result<(), u32> {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let each = SECOND_NS / u64::from(per_second.max(1));
        let mut shard = self.shard(client).lock();
        let full_at = shard.get(client).map_or(now, |bucket| now.max(bucket.full_at));
        let next = full_at.saturating_add(each);
        let over = next.saturating_sub(now).saturating_sub(SECOND_NS);
        if over > 0 {
            return Err(u32::try_from(over.div_ceil(SECOND_NS)).unwrap_or(u32::MAX));
        }
        let bucket = self.kept(&mut shard, client, now);
        bucket.full_at = next;
        if self.sharing.load(Ordering::Relaxed) {
            bucket.untold = bucket.untold.saturating_add(each);
            if !std::mem::replace(&mut bucket.due, true) {
                drop(shard);
                self.due.lock().push(client.into());
                self.some_due.notify_one();
            }
        }
        Ok(())
    }

    fn shard(&self, client: &str) -> &Mutex<FxHashMap<Box<str>, Bucket>> {
        &self.shards[self.key.hash_one(client) as usize % SHARDS]
    }

    /// The client's bucket; a full one is made when none is kept.
    fn kept<'a>(&self, shard: &'a mut FxHashMap<Box<str>, Bucket>, client: &str, now: u64) -> &'a mut Bucket {
        if !shard.contains_key(client) {
            if shard.len() >= self.shard_clients_max {
                make_room(shard, now);
            }
            shard.insert(client.into(), Bucket::default());
        }
        shard.get_mut(client).expect("it was just made")
    }

    /// Tells `redis` what is taken here and learns what is taken elsewhere, for ever. What cannot be told is forgotten: the
    /// buckets of this node hold it anyway.
    pub async fn share(&self, redis: Redis) -> Infallible {
        self.sharing.store(true, Ordering::Relaxed);
        loop {
            self.some_due.notified().await;
            loop {
                let charges = self.charges();
                if charges.is_empty() {
                    break;
                }
                if let Some(ahead_us) = redis.charge(&charges).await {
                    self.learn(&charges, &ahead_us, self.began.elapsed());
                }
                tokio::time::sleep(Duration::from_millis(SHARE_MS)).await;
            }
        }
    }

    /// What was taken since the last turn, µs for each client's key.
    fn charges(&self) -> Vec<(String, u64)> {
        let clients: Vec<Box<str>> = {
            let mut due = self.due.lock();
            let kept = due.len().saturating_sub(SHARED_MAX);
            due.split_off(kept)
        };
        let mut charges = Vec::with_capacity(clients.len());
        for client in clients {
            if let Some(bucket) = self.shard(&client).lock().get_mut(&client) {
                bucket.due = false;
                let told_us = bucket.untold / 1_000;
                bucket.untold -= told_us * 1_000;
                charges.push((format!("{KEY}{client}"), told_us));
            }
        }
        charges
    }

    /// Empties the buckets by what others took: each is full in `ahead_us` by Redis's clock, with all that it was told.
    fn learn(&self, charges: &[(String, u64)], ahead_us: &[u64], now: Duration) {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        for ((key, _), ahead_us) in charges.iter().zip(ahead_us) {
            let client = key.strip_prefix(KEY).unwrap_or(key);
            let ahead = ahead_us.saturating_mul(1_000).min(AHEAD_NS_MAX);
            let mut shard = self.shard(client).lock();
            let bucket = self.kept(&mut shard, client, now);
            let shared = now.saturating_add(ahead).saturating_add(bucket.untold);
            bucket.full_at = bucket.full_at.max(shared);
        }
    }
}

/// Forgets the buckets that are full, or, when none is, the one that is full first.
fn make_room(shard: &mut FxHashMap<Box<str>, Bucket>, now: u64) {
    let before = shard.len();
    shard.retain(|_, bucket| bucket.full_at > now);
    if shard.len() == before
        && let Some(first) = shard
            .iter()
            .min_by_key(|(_, bucket)| bucket.full_at)
            .map(|(client, _)| client.clone())
    {
        shard.remove(&first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_second_s_worth_may_come_at_once_and_then_one_at_a_time() {
        let rates = Rates::new(100);
        for n in 0..5 {
            assert_eq!(rates.take_at("a", 5, ms(0)), Ok(()), "{n}");
        }
        assert_eq!(rates.take_at("a", 5, ms(0)), Err(1));
        assert_eq!(rates.take_at("a", 5, ms(199)), Err(1));
        assert_eq!(rates.take_at("a", 5, ms(200)), Ok(()));
        assert_eq!(rates.take_at("a", 5, ms(200)), Err(1));
        assert_eq!(rates.take_at("b", 5, ms(200)), Ok(()), "each client has its own");
        for n in 0..5 {
            assert_eq!(rates.take_at("a", 5, ms(10_000)), Ok(()), "{n}");
        }
    }

    #[test]
    fn over_time_no_more_than_the_rate_is_let_through() {
        let rates = Rates::new(100);
        let taken = (0..10_000).filter(|at| rates.take_at("a", 7, ms(*at)).is_ok()).count();
        assert!((69..=77).contains(&taken), "{taken} in ten seconds at 7 a second");
    }

    #[test]
    fn a_rate_of_one_and_of_none_waits_a_second() {
        let rates = Rates::new(100);
        assert_eq!(rates.take_at("a", 0, ms(0)), Ok(()));
        assert_eq!(rates.take_at("a", 1, ms(1)), Err(1));
        assert_eq!(rates.take_at("a", 1, ms(1_000)), Ok(()));
    }

    #[test]
    fn a_rate_that_is_lowered_tells_how_long_it_takes() {
        let rates = Rates::new(100);
        for _ in 0..1_000 {
            assert_eq!(rates.take_at("a", 1_000, ms(0)), Ok(()));
        }
        assert_eq!(rates.take_at("a", 1, ms(0)), Err(1));
        assert_eq!(rates.take_at("a", 1, ms(1_000)), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_the_emptiest_are_kept() {
        let rates = Rates::new(SHARDS * 4);
        for _ in 0..5 {
            assert_eq!(rates.take_at("greedy", 5, ms(0)), Ok(()));
        }
        for n in 0..10_000 {
            assert_eq!(rates.take_at(&format!("client-{n}"), 5, ms(0)), Ok(()));
        }
        let kept: usize = rates.shards.iter().map(|shard| shard.lock().len()).sum();
        assert!(kept <= SHARDS * 4, "{kept}");
        assert_eq!(
            rates.take_at("greedy", 5, ms(0)),
            Err(1),
            "filling the table empties no bucket"
        );
    }

    /// Two nodes and a Redis between them whose clock starts at the same time, played.
    fn turn(nodes: &[&Rates], full_at_us: &mut u64, now: Duration) {
        for node in nodes {
            let charges = node.charges();
            let now_us = now.as_micros() as u64;
            for (_, cost_us) in &charges {
                *full_at_us = (*full_at_us).max(now_us) + cost_us;
            }
            let ahead = vec![full_at_us.saturating_sub(now_us); charges.len()];
            node.learn(&charges, &ahead, now);
        }
    }

    #[test]
    fn two_nodes_that_share_let_through_one_rate() {
        let (north, south) = (Rates::new(100), Rates::new(100));
        let nodes = [&north, &south];
        for node in nodes {
            node.sharing.store(true, Ordering::Relaxed);
        }
        let (mut full_at_us, mut taken) = (0, 0);
        for at in 0..10_000 {
            taken += nodes
                .iter()
                .filter(|node| node.take_at("a", 50, ms(at)).is_ok())
                .count();
            if at % SHARE_MS == 0 {
                turn(&nodes, &mut full_at_us, ms(at));
            }
        }
        // A bucket and ten seconds' worth; at most one bucket more at the beginning.
        assert!((540..=600).contains(&taken), "{taken}");
    }

    #[test]
    fn what_was_taken_before_the_others_were_heard_of_is_paid_for_and_told_in_retry_after() {
        let (north, south) = (Rates::new(100), Rates::new(100));
        for node in [&north, &south] {
            node.sharing.store(true, Ordering::Relaxed);
            for _ in 0..5 {
                assert_eq!(node.take_at("a", 5, ms(0)), Ok(()));
            }
        }
        let mut full_at_us = 0;
        turn(&[&north, &south], &mut full_at_us, ms(0));
        assert_eq!(full_at_us, 2_000_000);
        // South heard of both buckets; north hears of south's with its next charge alone.
        assert_eq!(south.take_at("a", 5, ms(0)), Err(2));
        assert_eq!(south.take_at("a", 5, ms(1_199)), Err(1));
        assert_eq!(south.take_at("a", 5, ms(1_200)), Ok(()));
        assert_eq!(north.take_at("a", 5, ms(200)), Ok(()));
        turn(&[&north], &mut full_at_us, ms(200));
        assert_eq!(north.take_at("a", 5, ms(200)), Err(2));
    }

    #[test]
    fn a_wrong_value_elsewhere_holds_back_for_a_bounded_time() {
        let rates = Rates::new(100);
        rates.learn(&[(format!("{KEY}a"), 1)], &[u64::MAX], ms(0));
        assert_eq!(rates.take_at("a", 5, ms(0)), Err(10));
        assert_eq!(rates.take_at("a", 5, ms(9_200)), Ok(()));
    }

    #[test]
    fn nobody_waits_to_share_where_nobody_shares() {
        let rates = Rates::new(100);
        assert_eq!(rates.take_at("a", 5, ms(0)), Ok(()));
        assert!(rates.charges().is_empty());
    }

    #[test]
    fn threads_share_a_bucket() {
        let rates = std::sync::Arc::new(Rates::new(100));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let rates = rates.clone();
                std::thread::spawn(move || (0..100).filter(|_| rates.take_at("a", 50, ms(0)).is_ok()).count())
            })
            .collect();
        let taken: usize = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
        assert_eq!(taken, 50);
    }
}
