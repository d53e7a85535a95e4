//! The front door: TLS, HTTP/1.1 and HTTP/2, limits, load shedding. It knows requests, never what they mean.
//!
//! `server` accepts on one reactor, `connection` carries one client, `tls` holds certificates and trust, `limits`
//! every bound, `body` what streams in and out. Invariants: whatever waits for a client has a deadline; whatever a
//! client can make grow has a bound; a handler sees only requests that passed both; no path or query of a client
//! reaches a log or a metric.

mod body;
mod certificate;
mod connection;
mod door;
mod figures;
mod limits;
mod problem;
mod pulse;
mod server;
mod tls;

#[cfg(test)]
mod tests;

pub use body::{BodyError, NextPiece, PieceStream, RequestBody, ResponseBody};
pub use certificate::ClientCertificate;
pub use door::{Answered, Door, Observer, Shed};
pub use figures::DoorFigures;
pub use limits::Limits;
pub use problem::{Problem, problem};
pub use server::{Shutdown, ShutdownTrigger, serve};
pub use tls::{
    ClientAuthentication, RevocationPolicy, TlsError, TlsFiles, TlsMaterial, TlsPolicy, TlsShared, TlsStatus,
};

use crate::base::RequestId;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

/// Who is at the other end of the connection, as TLS proved it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address; loopback with port 0 for a Unix socket.
    pub address: SocketAddr,
    /// Its certificate, verified against the client CA and the CRLs; `None` where TLS does not demand one.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// One request.
pub struct Request {
    /// Method, path, headers.
    pub head: ::http::request::Parts,
    /// The body, bounded by the limit on size and time.
    pub body: RequestBody,
    /// The other end.
    pub peer: Peer,
    /// Our identifier of it, for logs and audit.
    pub id: RequestId,
}

/// The name of the route that answered, which a handler puts into the response's extensions for metrics and the
/// access log. One of a fixed few names, never a client's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route(pub &'static str);

/// An answer.
pub type Response = ::http::Response<ResponseBody>;

/// What answers requests on one reactor thread. Handlers never panic and never block. The future of a handler is
/// dropped when its client goes away, so what must not stop half-way belongs in a task of its own.
pub type Handler = Rc<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Response>>>>;
