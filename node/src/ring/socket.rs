//! The socket driver: multishot accept and receive on a ring of its own, one a reactor thread.
//!
//! Owns every socket of the front door. A socket is `AsyncRead + AsyncWrite`, so hyper, h2 and rustls run over it
//! unmodified. Where the kernel lacks something, or configuration says so, the same types run over `tokio::net`.
//! It must never know what the bytes mean. Invariants: a descriptor is closed only after its last completion, and
//! never leaks; memory in the kernel's hands is neither moved nor freed; received and unread bytes are bounded for
//! each connection; output that was written is delivered when the socket is shut down or dropped, unless aborted.

mod acceptor;
mod buffers;
mod connection;
mod driver;
mod figures;

#[cfg(test)]
mod tests;

pub use figures::RingFigures;

use acceptor::Acceptor;
use connection::Connection;
use driver::Driver;
use nix::sys::socket::{Backlog, sockopt};
use std::any::Any;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Connections that the kernel keeps for us before we accept them; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Pause after the process ran out of descriptors, on the fallback.
const ACCEPT_PAUSE_MS: u64 = 100;

/// Which driver carries the sockets of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// The ring, and `tokio::net` where the kernel cannot.
    #[default]
    Ring,
    /// `tokio::net`, because configuration says so.
    Readiness,
}

/// A listening socket on the current reactor.
pub struct Listener {
    kind: ListenerKind,
}

enum ListenerKind {
    Ring(Rc<Acceptor>),
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

/// One connection. Dropping it closes the descriptor after its last completion, whatever is in flight.
pub struct Socket {
    kind: SocketKind,
}

enum SocketKind {
    Ring(Rc<Connection>),
    Tcp(tokio::net::TcpStream, Option<Box<dyn Any>>),
    Unix(tokio::net::UnixStream, Option<Box<dyn Any>>),
}

/// Breaks a connection off from outside of whatever owns the socket.
pub struct Aborter {
    connection: Option<Weak<Connection>>,
}

/// The counters of this thread's ring; `None` before the first listener or where the fallback is in use.
pub fn figures() -> Option<Arc<RingFigures>> {
    Driver::running().map(|driver| Arc::clone(driver.figures()))
}

/// Binds a TCP listener that shares its port with the other reactors' (`SO_REUSEPORT`), so that each reactor accepts
/// for itself.
///
/// # Errors
/// What the kernel says, address in use first of all.
pub fn bind_shared(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket};
    let family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    setsockopt(&fd, sockopt::ReusePort, &true)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&fd, Backlog::new(BACKLOG)?)?;
    Ok(std::net::TcpListener::from(fd))
}

impl Listener {
    /// Takes over a listening descriptor (bound by us or passed in by systemd). Inside a `LocalSet` only.
    ///
    /// # Errors
    /// When the descriptor cannot be set up.
    pub fn new(listener: std::net::TcpListener) -> io::Result<Listener> {
        Listener::with_transport(listener, Transport::Ring)
    }

    /// The same, with the driver chosen.
    ///
    /// # Errors
    /// When the descriptor cannot be set up.
    pub fn with_transport(listener: std::net::TcpListener, transport: Transport) -> io::Result<Listener> {
        // Accepted sockets inherit it: answers go out at once.
        nix::sys::socket::setsockopt(&listener, sockopt::TcpNoDelay, &true)?;
        if transport == Transport::Ring {
            match Driver::current() {
                Ok(driver) => {
                    // The ring waits by itself; with a non-blocking descriptor it would give up at once.
                    listener.set_nonblocking(false)?;
                    let acceptor = Acceptor::start(driver, OwnedFd::from(listener));
                    return Ok(Listener {
                        kind: ListenerKind::Ring(acceptor),
                    });
                }
                Err(error) => tracing::warn!(%error, "the socket ring is not available, sockets use epoll instead"),
            }
        }
        listener.set_nonblocking(true)?;
        Ok(Listener {
            kind: ListenerKind::Tcp(tokio::net::TcpListener::from_std(listener)?),
        })
    }

    /// Takes over a listening Unix socket, for administration on this host.
    ///
    /// # Errors
    /// When the descriptor cannot be set up.
    pub fn unix(listener: std::os::unix::net::UnixListener) -> io::Result<Listener> {
        listener.set_nonblocking(true)?;
        Ok(Listener {
            kind: ListenerKind::Unix(tokio::net::UnixListener::from_std(listener)?),
        })
    }

    /// Whether its sockets run on the ring.
    pub fn is_on_ring(&self) -> bool {
        matches!(self.kind, ListenerKind::Ring(_))
    }

    /// The next connection and its peer's address (loopback, port 0, for a Unix socket). Survives EMFILE: waits and
    /// goes on.
    ///
    /// # Errors
    /// Only when the descriptor can never accept again.
    pub async fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        loop {
            let accepted = match &self.kind {
                ListenerKind::Ring(acceptor) => {
                    let fd = poll_fn(|context| acceptor.poll_accept(context)).await?;
                    Socket::on_ring(acceptor.driver(), fd)
                }
                ListenerKind::Tcp(listener) => listener.accept().await.map(|(stream, address)| {
                    let kind = SocketKind::Tcp(stream, None);
                    (Socket { kind }, address)
                }),
                ListenerKind::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                    let kind = SocketKind::Unix(stream, None);
                    (Socket { kind }, SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0))
                }),
            };
            match accepted {
                Ok(connection) => return Ok(connection),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP) if !self.is_on_ring() => {
                        return Err(error);
                    }
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                        tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                    }
                    // The one connection went away before we could look at it.
                    Some(_) | None => {}
                },
            }
        }
    }
}

impl Listener {
    /// Accepts no more from the kernel; what it handed over already is given out by [`rest`](Self::rest).
    pub fn finish(&self) {
        match &self.kind {
            ListenerKind::Ring(acceptor) => acceptor.finish(),
            ListenerKind::Tcp(_) | ListenerKind::Unix(_) => {}
        }
    }

    /// After [`finish`](Self::finish): the next connection that the ring had accepted ahead; `None` after the last.
    pub async fn rest(&self) -> Option<(Socket, SocketAddr)> {
        let ListenerKind::Ring(acceptor) = &self.kind else {
            return None;
        };
        loop {
            let fd = poll_fn(|context| acceptor.poll_rest(context)).await?;
            // One that went away meanwhile is nobody's loss.
            if let Ok(connection) = Socket::on_ring(acceptor.driver(), fd) {
                return Some(connection);
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let ListenerKind::Ring(acceptor) = &self.kind {
            acceptor.close();
        }
    }
}

impl Socket {
    fn on_ring(driver: &Rc<Driver>, fd: OwnedFd) -> io::Result<(Socket, SocketAddr)> {
        let stream = std::net::TcpStream::from(fd);
        let address = stream.peer_addr()?;
        let connection = Connection::start(Rc::clone(driver), OwnedFd::from(stream));
        let kind = SocketKind::Ring(connection);
        Ok((Socket { kind }, address))
    }

    /// Keeps `what` until the descriptor is closed, which may be after the drop: a permit of a connection limit.
    pub fn hold(&mut self, what: Box<dyn Any>) {
        match &mut self.kind {
            SocketKind::Ring(connection) => connection.hold(what),
            SocketKind::Tcp(_, held) | SocketKind::Unix(_, held) => *held = Some(what),
        }
    }

    /// A handle that breaks the connection off. On the fallback it does nothing: there the drop closes at once.
    pub fn aborter(&self) -> Aborter {
        let connection = match &self.kind {
            SocketKind::Ring(connection) => Some(Rc::downgrade(connection)),
            SocketKind::Tcp(..) | SocketKind::Unix(..) => None,
        };
        Aborter { connection }
    }
}

impl Aborter {
    /// Resets the connection: unsent output is discarded, every pending read and write ends.
    pub fn abort(&self) {
        if let Some(connection) = self.connection.as_ref().and_then(Weak::upgrade) {
            connection.abort();
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let SocketKind::Ring(connection) = &self.kind {
            connection.release();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            SocketKind::Ring(connection) => connection.poll_read(context, into),
            SocketKind::Tcp(stream, _) => Pin::new(stream).poll_read(context, into),
            SocketKind::Unix(stream, _) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.kind {
            SocketKind::Ring(connection) => connection.poll_write(context, &[io::IoSlice::new(bytes)]),
            SocketKind::Tcp(stream, _) => Pin::new(stream).poll_write(context, bytes),
            SocketKind::Unix(stream, _) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.kind {
            SocketKind::Ring(connection) => connection.poll_write(context, parts),
            SocketKind::Tcp(stream, _) => Pin::new(stream).poll_write_vectored(context, parts),
            SocketKind::Unix(stream, _) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            SocketKind::Ring(connection) => connection.poll_flush(),
            SocketKind::Tcp(stream, _) => Pin::new(stream).poll_flush(context),
            SocketKind::Unix(stream, _) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            SocketKind::Ring(connection) => connection.poll_shutdown(context),
            SocketKind::Tcp(stream, _) => Pin::new(stream).poll_shutdown(context),
            SocketKind::Unix(stream, _) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
