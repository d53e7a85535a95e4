//! A configuration file. What must hold: what is taken is in range and reads back as itself from its own output; what
//! is refused says why, and repeats no text that a value held.
//!
//! `PLANTED` stands for a secret that somebody wrote where a path belongs.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use vertebra::config::{Config, ConfigError, numbers};

const SECRET: &str = "PLANTED";

/// A folder with the files that the seeds name.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join("vertebra-fuzz-config");
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    for file in ["server.pem", "server.key", "ca.pem", "shared.key", "clients.crl"] {
        std::fs::write(folder.join(file), "a file\n").expect("just made");
    }
    folder
});

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if names_paths_elsewhere(text) {
        return;
    }
    let folder: &Path = &FOLDER;
    match Config::parse(text, &folder.join("vertebra.toml"), Some(folder)) {
        Ok(config) => taken(&config, folder),
        Err(refusal) => refused(text, &refusal),
    }
});

/// Opening a device may do something, so a case keeps to the folder: no path of it may leave.
fn names_paths_elsewhere(text: &str) -> bool {
    let kept = text.replace("$CREDENTIALS_DIRECTORY/", "");
    kept.contains(['/', '\\']) || kept.contains("..")
}

fn taken(config: &Config, folder: &Path) {
    for number in numbers(config) {
        assert!(
            number.range.contains(&number.value),
            "{} = {}",
            number.key,
            number.value
        );
    }
    assert!(config.http.reactors >= 1);
    assert!(config.admin.listen.ip().is_loopback());
    for name in [&config.node.name, &config.node.site] {
        assert!((1..=63).contains(&name.len()) && name.is_ascii());
    }
    for path in [
        &config.tls.key,
        &config.mesh.shared_key,
        &config.node.data,
        &config.admin.socket,
    ] {
        assert!(path.is_absolute(), "paths are whole");
    }
    let shown = config.effective();
    let again = Config::parse(&shown, &folder.join("vertebra.toml"), None);
    assert_eq!(again.as_ref(), Ok(config), "its own output reads back as itself");
}

fn refused(text: &str, refusal: &ConfigError) {
    let shown = refusal.to_string();
    assert!(!refusal.problems.is_empty());
    for problem in &refusal.problems {
        assert!(!problem.what.is_empty());
        let lines = text.split('\n').count();
        assert!(
            problem.line.is_none_or(|line| (1..=lines).contains(&line)),
            "{problem:?}"
        );
    }
    if text.contains(SECRET) && only_in_values(text) {
        assert!(!shown.contains(SECRET), "a value is repeated: {shown}");
    }
}

/// Whether the secret stands where values stand. Of text that is no TOML only whole `key = "…"` lines tell.
fn only_in_values(text: &str) -> bool {
    if let Ok(table) = text.parse::<toml::Table>() {
        return !toml_keys(&toml::Value::Table(table))
            .iter()
            .any(|key| key.contains(SECRET))
            && !text
                .lines()
                .any(|line| line.trim_start().starts_with('#') && line.contains(SECRET));
    }
    text.lines().filter(|line| line.contains(SECRET)).all(|line| {
        let plain = |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        line.split_once(" = \"")
            .is_some_and(|(key, value)| plain(key) && value.matches(['"', '=']).count() == 1 && value.ends_with('"'))
    })
}

fn toml_keys(value: &toml::Value) -> Vec<String> {
    let mut keys = Vec::new();
    match value {
        toml::Value::Table(table) => {
            for (key, inner) in table {
                keys.push(key.clone());
                keys.extend(toml_keys(inner));
            }
        }
        toml::Value::Array(items) => items.iter().for_each(|item| keys.extend(toml_keys(item))),
        toml::Value::String(_)
        | toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_) => {}
    }
    keys
}
