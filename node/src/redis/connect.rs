//! A connection to the primary: found by Sentinel, over TLS or to loopback, proved to be primary.
//!
//! The crate's own TLS trusts the system's authorities as well; so it is given streams of our rustls, which trust the configured ones
//! alone.

use crate::base::trust;
use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, ErrorKind, RedisConnectionInfo, RedisError, Value, cmd};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Largest file of a password, bytes.
const PASSWORD_BYTES_MAX: u64 = 4_096;
/// One server may take so long from the connection to its first answer.
const OPEN_MS_MAX: u64 = 1_000;
/// Requests that may wait for the connection to take them.
const WAITING_MAX: usize = 1_024;

/// Where the primary is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Always at this `HOST:PORT`.
    One(String),
    /// Where one of these sentinels says.
    Sentinels {
        /// `HOST:PORT` of each; never empty.
        addresses: Vec<String>,
        /// What they call the primary.
        primary: String,
    },
}

/// PEM files of TLS, read at every connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities that servers are checked against.
    pub ca: PathBuf,
    /// Certificate and key for servers that ask for them.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// How Redis is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where.
    pub place: Place,
    /// User; `None` is Redis's default one.
    pub username: Option<String>,
    /// File with the password.
    pub password: Option<PathBuf>,
    /// File with the sentinels' password.
    pub sentinel_password: Option<PathBuf>,
    /// Without TLS everything must be on loopback.
    pub tls: Option<TlsFiles>,
    /// The longest that a request waits.
    pub wait: Duration,
}

/// Why a connection is of no more use, for operators; holds no key, no value, no password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Lost(String);

impl Lost {
    pub(super) fn because(why: impl Into<String>) -> Lost {
        Lost(why.into())
    }
}

impl From<RedisError> for Lost {
    fn from(error: RedisError) -> Lost {
        // The crate's sentence for a refused login says only that there was one.
        if error.kind() == ErrorKind::AuthenticationFailed {
            return Lost::because(format!(
                "the login was refused: {}",
                error.detail().unwrap_or("no reason given")
            ));
        }
        Lost(error.to_string())
    }
}

/// What the crate reads and writes through.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What turns a connection's wheel; it ends when the connection does.
pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An open connection.
pub(super) struct Session {
    pub(super) connection: MultiplexedConnection,
    pub(super) driver: Driver,
    /// `HOST:PORT`.
    pub(super) address: String,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.address)
    }
}

impl Settings {
    /// Connects to the primary; of several sentinels the `nth` (counted round) is asked first, the others after it.
    pub(super) async fn open(&self, nth: usize) -> Result<Session, Lost> {
        let address = match &self.place {
            Place::One(address) => address.clone(),
            Place::Sentinels { addresses, .. } => {
                let mut last = Lost::because("no sentinel is configured");
                let mut found = None;
                for at in 0..addresses.len() {
                    match self.primary_by(&addresses[(nth + at) % addresses.len()]).await {
                        Ok(address) => {
                            found = Some(address);
                            break;
                        }
                        Err(why) => last = why,
                    }
                }
                found.ok_or(last)?
            }
        };
        let session = self
            .connect(&address, self.username.as_deref(), self.password.as_deref())
            .await?;
        let mut connection = session.connection.clone();
        let asked = async {
            let role = cmd("ROLE");
            role.query_async::<Value>(&mut connection).await
        };
        let (session, role) = session.drive(asked).await?;
        match role {
            Value::Array(parts) if is_text(parts.first(), "master") => Ok(session),
            _ => Err(Lost::because(format!("{address} is not primary"))),
        }
    }

    /// Where this sentinel says that the primary is.
    pub(super) async fn primary_by(&self, sentinel: &str) -> Result<String, Lost> {
        let Place::Sentinels { primary, .. } = &self.place else {
            return Err(Lost::because("no sentinel is configured"));
        };
        let told = |why: Lost| Lost::because(format!("sentinel {sentinel}: {why}"));
        let session = self
            .connect(sentinel, None, self.sentinel_password.as_deref())
            .await
            .map_err(told)?;
        let mut connection = session.connection.clone();
        let asked = async {
            let mut command = cmd("SENTINEL");
            command.arg("get-master-addr-by-name").arg(primary);
            command.query_async::<Option<(String, u16)>>(&mut connection).await
        };
        let (_, answer) = session.drive(asked).await.map_err(told)?;
        let (host, port) =
            answer.ok_or_else(|| told(Lost::because(format!("it knows no primary named `{primary}`"))))?;
        Ok(match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        })
    }

    /// Connects and logs in, within a second.
    async fn connect(&self, address: &str, user: Option<&str>, password: Option<&Path>) -> Result<Session, Lost> {
        let told = |why: String| Lost::because(format!("{address}: {why}"));
        let mut info = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(file) = password {
            info = info.set_password(read_password(file)?);
        }
        if let Some(user) = user {
            info = info.set_username(user);
        }
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_pipeline_buffer_size(WAITING_MAX);
        let opened = async {
            let stream = self.stream(address).await?;
            MultiplexedConnection::new_with_config(&info, stream, config)
                .await
                .map_err(|cause| told(Lost::from(cause).to_string()))
        };
        let in_time = tokio::time::timeout(Duration::from_millis(OPEN_MS_MAX), opened).await;
        let (connection, driver) = in_time.map_err(|_| told("no answer in a second".to_owned()))??;
        Ok(Session {
            connection,
            driver: Box::pin(driver),
            address: address.to_owned(),
        })
    }

    /// A connection to `HOST:PORT`.
    async fn stream(&self, address: &str) -> Result<Box<dyn Stream>, Lost> {
        let told = |why: String| Lost::because(format!("{address}: {why}"));
        let found: Vec<SocketAddr> = tokio::net::lookup_host(address)
            .await
            .map_err(|cause| told(cause.to_string()))?
            .collect();
        if self.tls.is_none() && !found.iter().all(|found| found.ip().is_loopback()) {
            return Err(told(
                "it is not on loopback and redis.ca is missing: nothing is sent there in the clear".into(),
            ));
        }
        let stream = TcpStream::connect(&found[..])
            .await
            .map_err(|cause| told(cause.to_string()))?;
        stream.set_nodelay(true).map_err(|cause| told(cause.to_string()))?;
        let Some(files) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let host = self.name_of(address, &found).await;
        let host = ServerName::try_from(host).map_err(|cause| told(cause.to_string()))?;
        let stream = TlsConnector::from(files.client()?).connect(host, stream).await;
        Ok(Box::new(stream.map_err(|cause| told(cause.to_string()))?))
    }

    /// The name that the certificate at `address` must carry. Sentinel names a primary by its address, certificates carry names:
    /// it is the name of the sentinel that is at the same address.
    async fn name_of(&self, address: &str, found: &[SocketAddr]) -> String {
        let host = host(address);
        let is_address = host.parse::<std::net::IpAddr>().is_ok();
        let Place::Sentinels { addresses, .. } = &self.place else {
            return host.to_owned();
        };
        if !is_address {
            return host.to_owned();
        }
        for sentinel in addresses {
            let Ok(there) = tokio::net::lookup_host(sentinel).await else {
                continue;
            };
            let there: Vec<SocketAddr> = there.collect();
            if there
                .iter()
                .any(|there| found.iter().any(|found| found.ip() == there.ip()))
            {
                return self::host(sentinel).to_owned();
            }
        }
        host.to_owned()
    }
}

/// The host of `HOST:PORT`, without brackets.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_matches(['[', ']'])
}

impl TlsFiles {
    fn client(&self) -> Result<Arc<ClientConfig>, Lost> {
        let read = |file: &Path| {
            std::fs::read_to_string(file).map_err(|cause| Lost::because(format!("{}: {cause}", file.display())))
        };
        let ca = read(&self.ca)?;
        let identity = match &self.identity {
            Some((certificate, key)) => Some((read(certificate)?, read(key)?)),
            None => None,
        };
        let identity = identity
            .as_ref()
            .map(|(certificate, key)| (certificate.as_str(), key.as_str()));
        trust::client(&ca, identity).map_err(|cause| Lost::because(format!("redis.{cause}")))
    }
}

/// A password less the line end of its file.
fn read_password(file: &Path) -> Result<String, Lost> {
    let unusable = |why: String| Lost::because(format!("{}: {why}", file.display()));
    let length = std::fs::metadata(file)
        .map_err(|cause| unusable(cause.to_string()))?
        .len();
    if length > PASSWORD_BYTES_MAX {
        return Err(unusable(
            "the file is larger than 4096 bytes, so it is no password".to_owned(),
        ));
    }
    let text = std::fs::read_to_string(file).map_err(|cause| unusable(cause.to_string()))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    match text {
        "" => Err(unusable("the file is empty".to_owned())),
        text => Ok(text.to_owned()),
    }
}

fn is_text(value: Option<&Value>, wanted: &str) -> bool {
    match value {
        Some(Value::BulkString(bytes)) => bytes == wanted.as_bytes(),
        Some(Value::SimpleString(text)) => text == wanted,
        _ => false,
    }
}

impl Session {
    /// Waits for one answer of a connection that nobody drives yet, at most a second.
    pub(super) async fn drive<T>(
        mut self,
        asked: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<(Session, T), Lost> {
        let answer = tokio::select! {
            answer = asked => answer?,
            () = &mut self.driver => return Err(Lost::because("the connection was closed")),
            () = tokio::time::sleep(Duration::from_millis(OPEN_MS_MAX)) => {
                return Err(Lost::because("no answer in a second"));
            }
        };
        Ok((self, answer))
    }
}
