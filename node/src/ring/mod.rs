//! Rings: the socket driver and the storage under the journal. All `unsafe` of the node is in here.
//!
//! `socket` is the seam between the front door and the kernel (own driver, or `tokio::net` as fallback);
//! `storage` is the seam between the journal and the disk (real rings, or a simulated disk with faults);
//! `reactor` builds the runtime of a core thread.

use std::io;
use std::time::{Duration, Instant};

pub mod reactor;
pub mod socket;
pub mod storage;

/// How long memory that a killed predecessor's rings had locked may stay charged to this user.
const PREDECESSOR_GONE_MAX: Duration = Duration::from_secs(3);

/// Makes a ring at start. A predecessor that was killed has its rings taken apart after its end, and until then their
/// memory counts against the user's limit of locked memory, so `ENOMEM` is tried again for a moment.
fn make_patiently<T>(mut make: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let began = Instant::now();
    loop {
        match make() {
            Err(cause) if cause.raw_os_error() == Some(libc::ENOMEM) && began.elapsed() < PREDECESSOR_GONE_MAX => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(cause) if cause.raw_os_error() == Some(libc::ENOMEM) => {
                let advice = "locked memory is short: raise LimitMEMLOCK= (ulimit -l) to 64 MiB, or stop what else this user runs";
                return Err(io::Error::new(
                    io::ErrorKind::OutOfMemory,
                    format!("a ring cannot be made ({cause}); {advice}"),
                ));
            }
            made => return made,
        }
    }
}
