//! The runtime of test builds, as openraft and the log see it: tokio's, as in the shipped binary, or on a thread that runs a
//! simulation one whose time is virtual and whose chance comes from a seed. (openraft-rt-sim does not build with openraft's
//! feature `single-threaded`.)
//!
//! Which of the tasks that can go on is next is drawn from a sorted set, so that the order in which they were woken means
//! nothing: tokio's channels wake in an order of their own. A simulated task belongs to a process, whose end takes all its
//! tasks with it wherever they stand.

use crate::journal::Dice;
use openraft::async_runtime::{AsyncRuntime, Instant as _};
use parking_lot::Mutex;
use rand_core::TryRng;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use tokio::sync::oneshot;

/// As openraft takes it.
#[derive(Debug)]
pub struct Runtime;

type Task = Pin<Box<dyn Future<Output = ()>>>;
type Ready = Arc<Mutex<BTreeSet<u64>>>;
/// The steps of a run: which task, and when.
pub type Steps = Vec<(u64, Duration)>;

/// The future that a simulation runs for.
const MAIN: u64 = 0;
/// So many steps without any time are a loop.
const STEPS_AT_ONCE_MAX: usize = 200_000;

thread_local! {
    static SIMULATION: RefCell<Option<Rc<Simulation>>> = const { RefCell::new(None) };
    /// Whose task runs now.
    static CURRENT: RefCell<Option<Rc<Process>>> = const { RefCell::new(None) };
}

fn simulation() -> Option<Rc<Simulation>> {
    SIMULATION.with(|simulation| simulation.borrow().clone())
}

/// Wakes a task.
struct Wakes {
    task: u64,
    ready: Ready,
}

impl Wake for Wakes {
    fn wake(self: Arc<Wakes>) {
        self.ready.lock().insert(self.task);
    }
}

struct Owned {
    process: Option<Rc<Process>>,
    /// None while it runs.
    task: Option<Task>,
}

/// All tasks of one thread, their time and their chance.
struct Simulation {
    tasks: RefCell<BTreeMap<u64, Owned>>,
    timers: RefCell<BTreeMap<(Duration, u64), Waker>>,
    ready: Ready,
    dice: RefCell<Dice>,
    now: Cell<Duration>,
    next: Cell<u64>,
    steps: RefCell<Option<Steps>>,
}

/// Runs `main` in virtual time, with the chance that follows from `seed`; gives its steps where they are asked for.
pub fn simulate<T>(seed: u64, traced: bool, main: impl Future<Output = T>) -> (T, Steps) {
    let simulation = Rc::new(Simulation {
        tasks: RefCell::default(),
        timers: RefCell::default(),
        ready: Arc::new(Mutex::new(BTreeSet::from([MAIN]))),
        dice: RefCell::new(Dice::new(seed ^ 0x7a5c)),
        now: Cell::new(Duration::ZERO),
        next: Cell::new(MAIN + 1),
        steps: RefCell::new(traced.then(Vec::new)),
    });
    SIMULATION.with(|own| *own.borrow_mut() = Some(simulation.clone()));
    let _left = Left;
    let given = simulation.run(pin!(main));
    let steps = simulation.steps.take().unwrap_or_default();
    (given, steps)
}

/// Leaves the simulation, also when it panics.
struct Left;

impl Drop for Left {
    fn drop(&mut self) {
        let Some(simulation) = simulation() else { return };
        loop {
            // What is dropped may spawn, wake and look at the time.
            let next = simulation.tasks.borrow_mut().pop_first();
            let Some((_, owned)) = next else { break };
            drop(owned);
        }
        SIMULATION.with(|own| own.borrow_mut().take());
    }
}

impl Simulation {
    fn run<T>(&self, mut main: Pin<&mut impl Future<Output = T>>) -> T {
        let mut at_once = 0;
        loop {
            let Some(task) = self.pick() else {
                self.pass_time();
                at_once = 0;
                continue;
            };
            at_once += 1;
            assert!(at_once < STEPS_AT_ONCE_MAX, "task {task} of the simulation never rests");
            if let Some(steps) = self.steps.borrow_mut().as_mut() {
                steps.push((task, self.now.get()));
            }
            let waker = Waker::from(Arc::new(Wakes {
                task,
                ready: self.ready.clone(),
            }));
            let mut cx = Context::from_waker(&waker);
            if task == MAIN {
                if let Poll::Ready(given) = main.as_mut().poll(&mut cx) {
                    return given;
                }
            } else {
                self.turn(task, &mut cx);
            }
        }
    }

    fn pick(&self) -> Option<u64> {
        let mut ready = self.ready.lock();
        if ready.is_empty() {
            return None;
        }
        let chosen = self.dice.borrow_mut().below(ready.len());
        let task = ready.iter().nth(chosen).copied()?;
        ready.remove(&task);
        Some(task)
    }

    fn pass_time(&self) {
        let mut timers = self.timers.borrow_mut();
        let due = timers
            .keys()
            .next()
            .expect("something in the simulation waits for a time")
            .0;
        self.now.set(due.max(self.now.get()));
        while let Some(timer) = timers.first_entry().filter(|timer| timer.key().0 <= due) {
            timer.remove().wake();
        }
    }

    fn turn(&self, number: u64, cx: &mut Context<'_>) {
        let taken = self.tasks.borrow_mut().get_mut(&number).and_then(|owned| {
            let task = owned.task.take()?;
            Some((task, owned.process.clone()))
        });
        let Some((mut task, process)) = taken else { return };
        let _entered = Entered::new(process.clone());
        let pending = match catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(cx))) {
            Ok(polled) => polled.is_pending(),
            Err(panic) => {
                let Some(process) = process else {
                    std::panic::resume_unwind(panic)
                };
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                process.panicked.borrow_mut().get_or_insert(text.unwrap_or_default());
                false
            }
        };
        if pending && let Some(owned) = self.tasks.borrow_mut().get_mut(&number) {
            owned.task = Some(task);
            return;
        }
        let ended = self.tasks.borrow_mut().remove(&number);
        drop((task, ended));
    }

    fn spawn(&self, process: Option<Rc<Process>>, task: impl Future<Output = ()> + 'static) {
        let number = self.next.replace(self.next.get() + 1);
        let task: Option<Task> = Some(Box::pin(task));
        self.tasks.borrow_mut().insert(number, Owned { process, task });
        self.ready.lock().insert(number);
    }
}

/// Waits in virtual time.
struct Timer {
    simulation: Rc<Simulation>,
    key: (Duration, u64),
}

impl Future for Timer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.simulation.now.get() >= self.key.0 {
            return Poll::Ready(());
        }
        self.simulation.timers.borrow_mut().insert(self.key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.simulation.timers.borrow_mut().remove(&self.key);
    }
}

/// A simulated process.
#[derive(Default)]
pub struct Process {
    ended: Cell<bool>,
    panicked: RefCell<Option<String>>,
}

/// Makes a process the current one while it lives.
struct Entered(Option<Rc<Process>>);

impl Entered {
    fn new(process: Option<Rc<Process>>) -> Entered {
        Entered(CURRENT.with(|current| std::mem::replace(&mut *current.borrow_mut(), process)))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.with(|current| *current.borrow_mut() = self.0.take());
    }
}

impl Process {
    /// Runs a task in this process.
    pub fn spawn(self: &Rc<Process>, task: impl Future<Output = ()> + 'static) {
        if let Some(simulation) = simulation().filter(|_| !self.ended.get()) {
            simulation.spawn(Some(self.clone()), task);
        }
    }

    /// Runs `work` as a task of this process; `None` when the process ends before it.
    pub async fn run<T: 'static>(self: &Rc<Process>, work: impl Future<Output = T> + 'static) -> Option<T> {
        let (tell, told) = oneshot::channel();
        self.spawn(async move {
            // Who asked may have given up.
            let _gone = tell.send(work.await);
        });
        told.await.ok()
    }

    /// Ends it where it stands: nothing of it runs on. To be called by another process or by none.
    pub fn end(self: &Rc<Process>) {
        self.ended.set(true);
        let Some(simulation) = simulation() else { return };
        let _entered = Entered::new(Some(self.clone()));
        let own = |owned: &Owned| owned.process.as_ref().is_some_and(|process| Rc::ptr_eq(process, self));
        let tasks = &simulation.tasks;
        let numbers: Vec<u64> = tasks
            .borrow()
            .iter()
            .filter(|(_, owned)| own(owned))
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            let ended = tasks.borrow_mut().remove(&number);
            drop(ended);
        }
    }

    /// What one of its tasks panicked with.
    pub fn panicked(&self) -> Option<String> {
        self.panicked.borrow().clone()
    }
}

/// What a spawned task gives.
pub struct Joined<T>(oneshot::Receiver<T>);

/// The task was dropped before its end.
#[derive(Debug)]
pub struct Dropped;

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the task was dropped before its end")
    }
}

impl<T> Future for Joined<T> {
    type Output = Result<T, Dropped>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_err(|_| Dropped)
    }
}

/// Out of time.
#[derive(Debug)]
pub struct Late;

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of time")
    }
}

/// A future with a limit.
pub struct Limited<F> {
    work: Pin<Box<F>>,
    sleep: Task,
}

impl<F: Future> Future for Limited<F> {
    type Output = Result<F::Output, Late>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(value) = self.work.as_mut().poll(cx) {
            return Poll::Ready(Ok(value));
        }
        self.sleep.as_mut().poll(cx).map(|()| Err(Late))
    }
}

/// Time since some start, virtual in a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Duration);

/// Far from zero, because openraft goes back from now.
const BEGAN: Duration = Duration::from_secs(24 * 3_600);

impl Instant {
    /// Since the simulation began.
    pub fn virtual_time(self) -> Duration {
        self.0.saturating_sub(BEGAN)
    }
}

impl openraft::async_runtime::Instant for Instant {
    fn now() -> Instant {
        static STARTED: OnceLock<std::time::Instant> = OnceLock::new();
        let since = match simulation() {
            Some(simulation) => simulation.now.get(),
            None => STARTED.get_or_init(std::time::Instant::now).elapsed(),
        };
        Instant(BEGAN + since)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, by: Duration) -> Instant {
        Instant(self.0 + by)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, by: Duration) {
        self.0 += by;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;
    fn sub(self, by: Duration) -> Instant {
        Instant(self.0 - by)
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, by: Duration) {
        self.0 -= by;
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;
    fn sub(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

#[allow(deprecated)]
type Tokio = openraft::impls::TokioRuntime;

/// Chance: the simulation's, or the system's.
pub struct Chance(Option<Rc<Simulation>>);

impl TryRng for Chance {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|bits| (bits >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(match &self.0 {
            Some(simulation) => simulation.dice.borrow_mut().bits(),
            None => rand::random(),
        })
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Infallible> {
        for piece in into.chunks_mut(8) {
            let bits = self.try_next_u64()?;
            piece.copy_from_slice(&bits.to_le_bytes()[..piece.len()]);
        }
        Ok(())
    }
}

impl AsyncRuntime for Runtime {
    type JoinError = Dropped;
    type JoinHandle<T: 'static> = Joined<T>;
    type Sleep = Task;
    type Instant = Instant;
    type TimeoutError = Late;
    type Timeout<R, T: Future<Output = R>> = Limited<T>;
    type ThreadLocalRng = Chance;

    fn spawn<T>(future: T) -> Joined<T::Output>
    where
        T: Future + 'static,
        T::Output: 'static,
    {
        let (tell, told) = oneshot::channel();
        let task = async move {
            // Nobody may wait for it.
            let _gone = tell.send(future.await);
        };
        match (CURRENT.with(|current| current.borrow().clone()), simulation()) {
            (Some(process), _) => process.spawn(task),
            (None, Some(simulation)) => simulation.spawn(None, task),
            (None, None) => drop(tokio::task::spawn_local(task)),
        }
        Joined(told)
    }

    fn sleep(duration: Duration) -> Task {
        let Some(simulation) = simulation() else {
            return Box::pin(tokio::time::sleep(duration));
        };
        let number = simulation.next.replace(simulation.next.get() + 1);
        let key = (simulation.now.get() + duration, number);
        Box::pin(Timer { simulation, key })
    }

    fn sleep_until(deadline: Instant) -> Task {
        Runtime::sleep(deadline - Instant::now())
    }

    fn timeout<R, F: Future<Output = R>>(duration: Duration, future: F) -> Limited<F> {
        Limited {
            work: Box::pin(future),
            sleep: Runtime::sleep(duration),
        }
    }

    fn timeout_at<R, F: Future<Output = R>>(deadline: Instant, future: F) -> Limited<F> {
        Runtime::timeout(deadline - Instant::now(), future)
    }

    fn is_panic(_error: &Dropped) -> bool {
        false
    }

    fn thread_rng() -> Chance {
        Chance(simulation())
    }

    type Mpsc = <Tokio as AsyncRuntime>::Mpsc;
    type Watch = <Tokio as AsyncRuntime>::Watch;
    type Oneshot = <Tokio as AsyncRuntime>::Oneshot;
    type Mutex<T: 'static> = <Tokio as AsyncRuntime>::Mutex<T>;

    fn new(_threads: usize) -> Runtime {
        Runtime
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        tokio::task::LocalSet::new().block_on(&runtime, future)
    }
}
