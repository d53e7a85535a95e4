//! The boot server's configuration file, parsed once. Relative paths are relative to the file.

use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where the configuration is looked for.
pub const FILE_DEFAULT: &str = "/etc/vertebra/provisioning.toml";

/// Why a configuration was not taken. Exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No such file, or it cannot be read.
    #[error("{file}: {cause}; write it as provisioning/README.md shows, or name another with --config")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's words.
        cause: std::io::Error,
    },
    /// Not TOML, an unknown key, a wrong type.
    #[error("{file}: {cause}")]
    Shape {
        /// The file.
        file: PathBuf,
        /// The parser's words, with line and key.
        cause: Box<toml::de::Error>,
    },
    /// A value that makes no sense.
    #[error("{file}: {key}: {what}")]
    Value {
        /// The file.
        file: PathBuf,
        /// The key.
        key: &'static str,
        /// What to write instead.
        what: String,
    },
}

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The inventory, YAML.
    pub inventory: PathBuf,
    /// Folder of Hiera's data (`common.yaml`, `datacentre/`, `role/`). Without one, roles are `node` and `witness`.
    pub hiera: Option<PathBuf>,
    /// Folder of state: machines, releases. Default `/var/lib/vertebra-provisioning`.
    #[serde(default = "state_default")]
    pub state: PathBuf,
    /// Folder that is rendered. Default `/srv/vertebra-boot`.
    #[serde(default = "output_default")]
    pub output: PathBuf,
    /// Folder with `undionly.kpxe` and `ipxe.efi`; Debian's package `ipxe` has them. Default `/usr/lib/ipxe`.
    #[serde(default = "ipxe_default")]
    pub ipxe: PathBuf,
    /// The boot service.
    #[serde(default)]
    pub serve: Serve,
    /// Tokens.
    #[serde(default)]
    pub enrolment: Enrolment,
    /// Back to the release before.
    #[serde(default)]
    pub fallback: Fallback,
    /// How requests of the Puppet CA are judged.
    #[serde(default)]
    pub autosign: Autosign,
}

/// `[serve]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Serve {
    /// HTTPS for machines. Default `0.0.0.0:8443`.
    pub listen: SocketAddr,
    /// Status page and nginx's notes: loopback only. Default `127.0.0.1:8480`.
    pub operator_listen: SocketAddr,
    /// Certificate chain of the boot CA for `vertebra-boot`, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM; `$CREDENTIALS_DIRECTORY` is expanded.
    pub key: PathBuf,
    /// Connections at once. Default 256.
    pub connections_max: usize,
    /// Requests of one address a minute, all calls together. Default 120.
    pub requests_per_minute: u32,
    /// Enrolments and redemptions that one address may try in a minute. Default 12.
    pub enrolments_per_minute: u32,
    /// Longest time for a handshake, for a head, for a body, milliseconds. Default 5,000.
    pub patience_ms: u64,
}

impl Default for Serve {
    fn default() -> Serve {
        Serve {
            listen: SocketAddr::from(([0, 0, 0, 0], 8443)),
            operator_listen: SocketAddr::from(([127, 0, 0, 1], 8480)),
            certificate: PathBuf::from("/etc/vertebra/boot.pem"),
            key: PathBuf::from("$CREDENTIALS_DIRECTORY/boot.key"),
            connections_max: 256,
            requests_per_minute: 120,
            enrolments_per_minute: 12,
            patience_ms: 5_000,
        }
    }
}

/// `[enrolment]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Enrolment {
    /// How long a token is good once it was handed out. Default 30; 1 to 240.
    pub token_minutes: i64,
    /// Whether a machine must ask from the address that the inventory gives it. Default true.
    pub check_address: bool,
}

impl Default for Enrolment {
    fn default() -> Enrolment {
        Enrolment {
            token_minutes: 30,
            check_address: true,
        }
    }
}

/// `[fallback]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fallback {
    /// Boots without a check-in after which a machine gets the release before. Default 3; 1 to 20.
    pub boots: u32,
    /// How long after a boot's first request its files stay what they are, and further requests are the same boot. Default 20.
    pub settle_seconds: i64,
}

impl Default for Fallback {
    fn default() -> Fallback {
        Fallback {
            boots: 3,
            settle_seconds: 20,
        }
    }
}

/// `[autosign]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Autosign {
    /// Boot services that are asked instead of this host's own state, `https://NAME:PORT`: for a CA on another host.
    pub services: Vec<String>,
    /// The boot CA, PEM; needed with `services`.
    pub boot_ca: Option<PathBuf>,
}

fn state_default() -> PathBuf {
    PathBuf::from("/var/lib/vertebra-provisioning")
}

fn output_default() -> PathBuf {
    PathBuf::from("/srv/vertebra-boot")
}

fn ipxe_default() -> PathBuf {
    PathBuf::from("/usr/lib/ipxe")
}

/// `path` from the folder of the configuration, with `$CREDENTIALS_DIRECTORY` expanded.
fn resolved(folder: &Path, path: &Path) -> PathBuf {
    let text = path.to_string_lossy();
    match (
        text.strip_prefix("$CREDENTIALS_DIRECTORY/"),
        std::env::var_os("CREDENTIALS_DIRECTORY"),
    ) {
        (Some(name), Some(credentials)) => PathBuf::from(credentials).join(name),
        _ => folder.join(path),
    }
}

impl Config {
    /// Reads and checks a file. Errors in this order: unreadable, shape, values.
    pub fn load(file: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|cause| ConfigError::Unreadable {
            file: file.to_owned(),
            cause,
        })?;
        let mut config: Config = toml::from_str(&text).map_err(|cause| ConfigError::Shape {
            file: file.to_owned(),
            cause: Box::new(cause),
        })?;
        let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let folder = absolute.parent().unwrap_or(Path::new("/"));
        for path in [
            &mut config.inventory,
            &mut config.state,
            &mut config.output,
            &mut config.ipxe,
            &mut config.serve.certificate,
            &mut config.serve.key,
        ] {
            *path = resolved(folder, path);
        }
        for path in [&mut config.hiera, &mut config.autosign.boot_ca].into_iter().flatten() {
            *path = resolved(folder, path);
        }
        match config.mistake() {
            Some((key, what)) => Err(ConfigError::Value {
                file: file.to_owned(),
                key,
                what,
            }),
            None => Ok(config),
        }
    }

    fn mistake(&self) -> Option<(&'static str, String)> {
        let range = |value: i64, low: i64, high: i64| {
            let inside = (low..=high).contains(&value);
            (!inside).then(|| format!("{value} is not between {low} and {high}"))
        };
        let plain = |path: &Path| {
            let text = path.to_string_lossy();
            let odd = text
                .chars()
                .any(|c| c.is_whitespace() || c.is_control() || "\"';{}$#,".contains(c));
            odd.then(|| "a path in dnsmasq's and nginx's files has no spaces, quotes, commas or braces".to_owned())
        };
        let operator = self.serve.operator_listen.ip();
        let loopback =
            (!operator.is_loopback()).then(|| format!("{operator} is not loopback; the status page has no login"));
        let alone = self.autosign.services.len() as i64 > 0 && self.autosign.boot_ca.is_none();
        [
            ("enrolment.token_minutes", range(self.enrolment.token_minutes, 1, 240)),
            ("fallback.boots", range(i64::from(self.fallback.boots), 1, 20)),
            ("fallback.settle_seconds", range(self.fallback.settle_seconds, 0, 600)),
            (
                "serve.patience_ms",
                range(i64::try_from(self.serve.patience_ms).unwrap_or(i64::MAX), 100, 60_000),
            ),
            (
                "serve.connections_max",
                range(i64::try_from(self.serve.connections_max).unwrap_or(i64::MAX), 1, 65_536),
            ),
            (
                "serve.requests_per_minute",
                range(i64::from(self.serve.requests_per_minute), 1, 1_000_000),
            ),
            (
                "serve.enrolments_per_minute",
                range(i64::from(self.serve.enrolments_per_minute), 1, 1_000_000),
            ),
            ("serve.operator_listen", loopback),
            ("output", plain(&self.output)),
            ("state", plain(&self.state)),
            (
                "autosign.boot_ca",
                alone.then(|| "is needed with autosign.services".to_owned()),
            ),
        ]
        .into_iter()
        .find_map(|(key, what)| what.map(|what| (key, what)))
    }
}
