//! TLS below lapin: connections by our own rustls, which trust the configured authorities and nobody else.
//!
//! lapin's own TLS comes with public root certificates or not at all, and without it `amqps` would go out in the clear. So
//! lapin is always told to speak plainly, and the streams it is given are these.

use super::broker::Lost;
use crate::base::trust;
use async_compat::{Compat, CompatExt as _};
use async_rs::traits::Reactor;
use async_rs::{Tokio, traits};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::Stream;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Makes TLS connections to one broker; all else is tokio's.
#[derive(Clone, Debug)]
pub(super) struct TlsReactor {
    plain: Tokio,
    config: Arc<ClientConfig>,
    host: ServerName<'static>,
}

impl TlsReactor {
    /// Connections to `host`, whose certificate must be signed by an authority in `ca` (PEM). `identity` is certificate and
    /// key (PEM) for a broker that asks for them.
    pub(super) fn new(host: &str, ca: &str, identity: Option<&(String, String)>) -> Result<TlsReactor, Lost> {
        let identity = identity.map(|(certificate, key)| (certificate.as_str(), key.as_str()));
        let config = trust::client(ca, identity).map_err(|cause| Lost::because(format!("rabbitmq.{cause}")))?;
        let unusable = |cause: String| Lost::because(format!("the broker's name cannot be used: {cause}"));
        let host = ServerName::try_from(host.to_owned()).map_err(|cause| unusable(cause.to_string()))?;
        Ok(TlsReactor {
            plain: Tokio::current(),
            config,
            host,
        })
    }
}

impl Reactor for TlsReactor {
    type TcpStream = Compat<TlsStream<TcpStream>>;
    type Sleep = <Tokio as traits::Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.plain.register(socket)
    }

    fn sleep(&self, dur: Duration) -> Self::Sleep {
        self.plain.sleep(dur)
    }

    fn interval(&self, dur: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.plain.interval(dur)
    }

    fn tcp_connect_addr(&self, addr: SocketAddr) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let (connector, host) = (TlsConnector::from(self.config.clone()), self.host.clone());
        async move {
            let stream = TcpStream::connect(addr).await?;
            stream.set_nodelay(true)?;
            Ok(connector.connect(host, stream).await?.compat())
        }
    }
}
