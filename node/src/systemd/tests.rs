use super::*;
use std::sync::Mutex;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

fn counters(n: usize) -> Vec<Arc<AtomicU64>> {
    (0..n).map(|_| Arc::new(AtomicU64::new(0))).collect()
}

#[test]
fn a_thread_that_stands_still_for_longer_than_the_patience_is_named_and_forgiven_when_it_turns_again() {
    let beats = counters(3);
    let start = Instant::now();
    let patience = Duration::from_secs(10);
    let mut watchdog = Watchdog::with_patience(beats.clone(), patience, start);
    let alive = watchdog.alive();
    assert!(
        watchdog.look(start + patience).is_empty(),
        "at the patience is not beyond it"
    );
    beats[0].fetch_add(1, Ordering::Relaxed);
    beats[2].fetch_add(1, Ordering::Relaxed);
    let later = start + patience + Duration::from_millis(1);
    assert_eq!(watchdog.look(later), [1]);
    assert!(!alive.load(Ordering::Relaxed));
    beats[1].fetch_add(1, Ordering::Relaxed);
    assert!(watchdog.look(later + Duration::from_millis(1)).is_empty());
    assert!(alive.load(Ordering::Relaxed));
}

#[test]
fn a_counter_that_wraps_still_counts_as_turning() {
    let beats = vec![Arc::new(AtomicU64::new(u64::MAX))];
    let start = Instant::now();
    let mut watchdog = Watchdog::with_patience(beats.clone(), Duration::from_secs(1), start);
    beats[0].fetch_add(1, Ordering::Relaxed);
    assert!(watchdog.look(start + Duration::from_secs(60)).is_empty());
}

#[test]
fn the_watchdog_ends_when_it_is_told_to() {
    let (stop, stopped) = std::sync::mpsc::channel();
    let watchdog = Watchdog::new(counters(1));
    let thread = std::thread::spawn(move || watchdog.run(&stopped));
    drop(stop);
    thread.join().expect("ends without a panic");
}

#[test]
fn all_rights_are_gone_after_the_drop_and_stay_gone() {
    // Capabilities and no_new_privs belong to the thread, so the other tests keep theirs.
    let thread = std::thread::spawn(|| {
        drop_privileges().expect("dropping is always allowed");
        for set in [
            caps::CapSet::Effective,
            caps::CapSet::Permitted,
            caps::CapSet::Inheritable,
            caps::CapSet::Ambient,
        ] {
            assert!(caps::read(None, set).expect("readable").is_empty(), "{set:?}");
        }
        assert!(nix::sys::prctl::get_no_new_privs().expect("readable"));
        assert!(!nix::sys::prctl::get_dumpable().expect("readable"));
        assert!(caps::raise(None, caps::CapSet::Effective, caps::Capability::CAP_CHOWN).is_err());
        drop_privileges().expect("a second time changes nothing");
    });
    thread.join().expect("no assertion failed");
    // Dumpable belongs to the whole process; give it back for the debugger of a failing test.
    nix::sys::prctl::set_dumpable(true).expect("own process");
}

#[test]
fn without_systemd_there_are_no_sockets_and_every_notification_succeeds() {
    let passed = listen_sockets().expect("no LISTEN_PID");
    assert!(passed.http.is_empty() && passed.peer.is_empty() && passed.http_own.is_none());
    assert!(!is_supervised(), "tests run without a supervisor");
    let socket = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    keep_socket(&socket);
    forget_socket();
    ready("serving");
    reloading();
    status("still serving");
    extend_timeout(Duration::from_secs(1));
    stopping();
}

/// Keeps the fields of every event, as the journal would get them.
struct Keep(Arc<Mutex<Vec<Vec<String>>>>);

impl<S: tracing::Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        self.0
            .lock()
            .expect("no test panics here")
            .push(logging::fields_of(event));
    }
}

#[test]
fn an_event_becomes_journal_fields_with_request_route_and_status() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let subscriber = tracing_subscriber::registry().with(Keep(kept.clone()));
    tracing::subscriber::with_default(subscriber, || {
        tracing::warn!(request = "00ff", route = "mesh.send", status = 503_u16, "slow\ndisk");
        tracing::error!(cause.io = ?std::io::ErrorKind::NotFound, text = %"é".repeat(9_000), "gone");
    });
    let kept = kept.lock().expect("no test panics here");
    for want in [
        "VERTEBRA_REQUEST=00ff",
        "VERTEBRA_ROUTE=mesh.send",
        "VERTEBRA_STATUS=503",
        "MESSAGE=slow\ndisk",
        "PRIORITY=4",
    ] {
        assert!(kept[0].iter().any(|field| field == want), "{want} in {:?}", kept[0]);
    }
    assert!(
        kept[1].iter().any(|field| field == "VERTEBRA_CAUSE_IO=NotFound") && kept[1].iter().any(|f| f == "PRIORITY=3")
    );
    assert!(kept[1].iter().all(|field| field.len() <= 8 * 1024));
}

#[test]
fn openraft_is_quiet_at_info_and_speaks_at_debug() {
    use tracing::Level;
    let lets = |level, target, at: &Level| logging::targets(level).would_enable(target, at);
    assert!(lets(Level::INFO, "vertebra::node", &Level::INFO));
    assert!(!lets(Level::INFO, "openraft::core", &Level::WARN) && lets(Level::INFO, "openraft::core", &Level::ERROR));
    assert!(lets(Level::DEBUG, "openraft::core", &Level::DEBUG));
    assert!(!lets(Level::ERROR, "openraft::core", &Level::WARN));
}

#[test]
fn sockets_are_told_apart_by_name_and_a_name_that_nobody_knows_is_refused() {
    let socket = || TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let mut passed = Passed::default();
    for name in ["peer", "http", "http-own", "http"] {
        passed.take(socket(), name).expect(name);
    }
    assert_eq!((passed.http.len(), passed.peer.len()), (2, 1));
    assert!(passed.http_own.is_some());
    for name in ["", "unknown", "vertebra.socket", "HTTP"] {
        let refused = passed.take(socket(), name).expect_err(name).to_string();
        assert!(refused.contains("FileDescriptorName=http"), "{refused}");
    }
    assert_eq!((passed.http.len(), passed.peer.len()), (2, 1));
}
