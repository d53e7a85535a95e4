//! Work that blocks, away from the thread that must not.

use std::io;

/// Runs `work` on the blocking pool; in a simulation after a while in virtual time, on its own thread.
///
/// # Errors
/// The work panicked or the runtime ends.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    #[cfg(test)]
    if let Some(wait) = simulated::wait() {
        wait.await;
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

/// What a simulation puts in the pool's place.
#[cfg(test)]
pub mod simulated {
    use std::cell::RefCell;
    use std::pin::Pin;
    use std::rc::Rc;

    /// Waits until the pool would have come to it.
    pub type Wait = Pin<Box<dyn Future<Output = ()>>>;
    type Pool = Rc<dyn Fn() -> Wait>;

    thread_local! {
        static POOL: RefCell<Option<Pool>> = const { RefCell::new(None) };
    }

    /// From now on this thread has no pool.
    pub fn set(pool: Option<Pool>) {
        POOL.with(|own| *own.borrow_mut() = pool);
    }

    pub(super) fn wait() -> Option<Wait> {
        let pool = POOL.with(|pool| pool.borrow().clone());
        pool.map(|pool| pool())
    }
}
