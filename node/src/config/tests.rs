use super::*;
use std::fs;

/// A folder with every file the smallest configuration names.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("vertebra-config-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("the temporary folder is writable");
        for file in ["server.pem", "server.key", "ca.pem", "shared.key"] {
            fs::write(path.join(file), "PLANTED-SECRET\n").expect("just made");
        }
        Folder(path)
    }

    fn parse(&self, text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, &self.0.join("vertebra.toml"), None)
    }

    /// The smallest configuration with `change` appended to a section.
    fn with(&self, section: &str, change: &str) -> Result<Config, ConfigError> {
        self.parse(&with(section, change))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const SMALLEST: &str = "[tls]\ncertificate = \"server.pem\"\nkey = \"server.key\"\nclient_ca = \"ca.pem\"\n\n\
                        [mesh]\nshared_key = \"shared.key\"\n";

fn with(section: &str, change: &str) -> String {
    match SMALLEST.contains(&format!("[{section}]")) {
        true => SMALLEST.replace(&format!("[{section}]\n"), &format!("[{section}]\n{change}\n")),
        false => format!("{SMALLEST}\n[{section}]\n{change}\n"),
    }
}

/// The one problem of a refused configuration.
fn refused(result: Result<Config, ConfigError>) -> Problem {
    let error = result.expect_err("must be refused");
    assert_eq!(error.problems.len(), 1, "{error}");
    assert!(error.to_string().contains("vertebra.toml"), "{error}");
    assert!(!error.to_string().contains("PLANTED"), "{error}");
    error.problems[0].clone()
}

#[test]
fn the_smallest_configuration_is_taken_and_its_paths_are_whole() {
    let folder = Folder::new("smallest");
    let config = folder.parse(SMALLEST).expect("valid");
    assert_eq!(config.tls.key, folder.0.join("server.key"));
    assert_eq!(config.mesh.shared_key, folder.0.join("shared.key"));
    assert!(config.mesh.restrict_workflows && config.tls.require_client_certificate);
    assert!(config.http.reactors >= 1, "0 became one for each core but the log's");
}

#[test]
fn the_effective_configuration_reads_back_as_itself_and_holds_no_secret() {
    let folder = Folder::new("effective");
    let config = folder
        .parse(&with("logging", "format = \"json\"\nlevel = \"debug\""))
        .expect("valid");
    let text = config.effective();
    assert!(text.contains("# bytes, 1024 to 61440"), "{text}");
    assert!(!text.contains("PLANTED"));
    assert_eq!(folder.parse(&text).expect("its own output"), config);
    for number in numbers(&config) {
        let (section, key) = number.key.split_once('.').expect("section.key");
        assert!(
            text.contains(&format!("[{section}]")) && text.contains(&format!("{key} = ")),
            "{}",
            number.key
        );
    }
}

#[test]
fn every_number_is_refused_one_below_and_one_above_its_range() {
    let folder = Folder::new("numbers");
    let config = folder.parse(SMALLEST).expect("valid");
    for number in numbers(&config) {
        let (section, key) = number.key.split_once('.').expect("section.key");
        let mut outside = vec![number.range.end() + 1];
        outside.extend(number.range.start().checked_sub(1));
        for value in outside {
            let problem = refused(folder.with(section, &format!("{key} = {value}")));
            assert_eq!(problem.key, number.key);
            assert!(
                problem.what.contains(&number.range.end().to_string()),
                "{}",
                problem.what
            );
            assert!(problem.line.is_some());
        }
        for value in [number.range.start(), number.range.end()] {
            folder.with(section, &format!("{key} = {value}")).expect("at the bound");
        }
    }
}

#[test]
fn an_unknown_key_in_any_section_is_named_with_its_line() {
    let folder = Folder::new("unknown");
    for section in [
        "node", "http", "tls", "admin", "mesh", "tokens", "pds", "journal", "ledger", "log", "logging",
    ] {
        let text = with(section, "lisen = 1");
        let problem = refused(folder.parse(&text));
        assert_eq!(problem.key, format!("{section}.lisen"));
        let line = text.lines().position(|l| l.starts_with("lisen")).expect("just written") + 1;
        assert_eq!(problem.line, Some(line));
    }
    let problem = refused(folder.parse(&format!("{SMALLEST}\n[htttp]\nlisten = \"127.0.0.1:1\"\n")));
    assert_eq!(problem.key, "htttp");
}

#[test]
fn every_missing_required_key_is_named() {
    let folder = Folder::new("missing");
    for (section, key) in [
        ("tls", "certificate"),
        ("tls", "key"),
        ("tls", "client_ca"),
        ("mesh", "shared_key"),
    ] {
        let text: String = SMALLEST
            .lines()
            .filter(|line| !line.starts_with(&format!("{key} ")))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(refused(folder.parse(&text)).key, format!("{section}.{key}"));
    }
    assert_eq!(
        refused(folder.parse("[mesh]\nshared_key = \"shared.key\"\n")).key,
        "tls"
    );
}

#[test]
fn every_missing_or_empty_secret_file_is_named() {
    let folder = Folder::new("secrets");
    for (file, key) in [
        ("server.pem", "tls.certificate"),
        ("server.key", "tls.key"),
        ("ca.pem", "tls.client_ca"),
        ("shared.key", "mesh.shared_key"),
    ] {
        let path = folder.0.join(file);
        fs::write(&path, "").expect("writable");
        assert_eq!(refused(folder.parse(SMALLEST)).key, key);
        fs::remove_file(&path).expect("there");
        assert_eq!(refused(folder.parse(SMALLEST)).key, key);
        fs::write(&path, "PLANTED-SECRET\n").expect("writable");
    }
    assert_eq!(refused(folder.with("tls", "crl = [\"none.pem\"]")).key, "tls.crl");
    assert_eq!(
        refused(folder.with("mesh", "previous_shared_key = \"none\"")).key,
        "mesh.previous_shared_key"
    );
    assert_eq!(
        refused(folder.with("mesh", "previous_shared_key = \"\"")).key,
        "mesh.previous_shared_key"
    );
}

#[test]
fn credentials_are_found_in_the_folder_that_systemd_names() {
    let folder = Folder::new("credentials");
    let text = SMALLEST.replace("\"shared.key\"", "\"$CREDENTIALS_DIRECTORY/shared.key\"");
    let file = Path::new("/nowhere/vertebra.toml");
    let absolute = text.replace("= \"", &format!("= \"{}/", folder.0.display())).replace(
        &format!("{}/$CREDENTIALS_DIRECTORY", folder.0.display()),
        "$CREDENTIALS_DIRECTORY",
    );
    let config = Config::parse(&absolute, file, Some(&folder.0)).expect("valid");
    assert_eq!(config.mesh.shared_key, folder.0.join("shared.key"));
    let problem = refused(Config::parse(&absolute, file, None));
    assert_eq!(problem.key, "mesh.shared_key");
    assert!(problem.what.contains("LoadCredential="));
}

#[test]
fn a_wrong_type_or_value_is_named_without_repeating_it() {
    let folder = Folder::new("types");
    for (section, line, key) in [
        ("http", "listen = \"PLANTED\"", "http.listen"),
        ("http", "connections_max = \"PLANTED\"", "http.connections_max"),
        ("http", "connections_max = -1", "http.connections_max"),
        ("mesh", "restrict_workflows = \"PLANTED\"", "mesh.restrict_workflows"),
        ("logging", "format = \"PLANTED\"", "logging.format"),
        ("logging", "level = \"loud\"", "logging.level"),
        ("tls", "crl = \"PLANTED\"", "tls.crl"),
    ] {
        assert_eq!(refused(folder.with(section, line)).key, key, "{line}");
    }
    assert_eq!(refused(folder.parse("[tls\n")).line, Some(1));
    refused(folder.parse(&with("http", "listen = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"")));
}

#[test]
fn addresses_names_sizes_and_sockets_are_checked() {
    let folder = Folder::new("rest");
    assert_eq!(
        refused(folder.with("admin", "listen = \"0.0.0.0:9443\"")).key,
        "admin.listen"
    );
    assert_eq!(
        refused(folder.with("admin", "listen = \"10.0.0.1:1\"")).key,
        "admin.listen"
    );
    let long = "x".repeat(108);
    assert_eq!(
        refused(folder.with("admin", &format!("socket = \"/{long}\""))).key,
        "admin.socket"
    );
    assert_eq!(refused(folder.with("node", "name = \"a b\"")).key, "node.name");
    assert_eq!(refused(folder.with("node", "name = \"\"")).key, "node.name");
    assert_eq!(
        refused(folder.with("node", &format!("site = \"{}\"", "x".repeat(64)))).key,
        "node.site"
    );
    assert_eq!(refused(folder.with("node", "data = \"\"")).key, "node.data");
    let odd = refused(folder.with("journal", "log_segment_bytes = 1048577"));
    assert_eq!(odd.key, "journal.log_segment_bytes");
    let same = format!("{SMALLEST}\n[http]\nlisten = \"127.0.0.1:9443\"\n");
    assert_eq!(refused(folder.parse(&same)).key, "admin.listen");
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let folder = Folder::new("all");
    let text = format!("{SMALLEST}\n[http]\nconnections_max = 0\nstreams_max = 0\n\n[log]\nqueue_bytes_max = 1\n");
    let error = folder.parse(&text).expect_err("three problems");
    assert_eq!(error.problems.len(), 3, "{error}");
    assert_eq!(error.to_string().lines().count(), 3);
}

#[test]
fn token_keys_issuers_and_urls_are_checked() {
    let folder = Folder::new("tokens");
    let config = folder
        .with("node", "name = \"spine-a1\"")
        .expect("tokens are not required");
    assert_eq!(config.tokens.token_urls, ["https://spine-a1/oauth2/token"]);
    fs::write(folder.0.join("a.jwks"), "{}").expect("writable");
    let whole = "signing_key = \"server.key\"\nauthority_jwks = \"a.jwks\"\nauthority_issuer = \"https://a\"";
    let config = folder.with("tokens", whole).expect("valid");
    assert_eq!(config.tokens.signing_key, Some(folder.0.join("server.key")));
    for (text, key) in [
        ("signing_key = \"none.key\"", "tokens.signing_key"),
        ("previous_signing_key = \"\"", "tokens.previous_signing_key"),
        ("authority_jwks = \"a.jwks\"", "tokens.authority_issuer"),
        ("authority_issuer = \"https://a\"", "tokens.authority_jwks"),
        ("issuer = \"\"", "tokens.issuer"),
        ("audience = \"a b\"", "tokens.audience"),
        ("token_urls = [\"\"]", "tokens.token_urls"),
        (
            "authority_jwks = \"a.jwks\"\nauthority_issuer = \"vertebra\"",
            "tokens.authority_issuer",
        ),
    ] {
        assert_eq!(refused(folder.with("tokens", text)).key, key, "{text}");
    }
    let many = format!("token_urls = [{}]", "\"https://a\",".repeat(21));
    assert_eq!(refused(folder.with("tokens", &many)).key, "tokens.token_urls");
}

#[test]
fn a_broker_is_reached_over_tls_and_its_password_stands_in_no_address() {
    let folder = Folder::new("rabbitmq");
    let broker = |more: &str| folder.with("rabbitmq", &format!("credentials = \"shared.key\"\n{more}"));
    let whole = "urls = [\"amqps://b1.south\", \"amqps://10.0.0.2:5000/spine\"]\nca = \"ca.pem\"\n\
                 certificate = \"server.pem\"\nkey = \"server.key\"\n\
                 [rabbitmq.queues]\n\"events.patients\" = [\"patient.#\"]";
    let config = broker(whole).expect("valid");
    assert_eq!(folder.parse(&config.effective()).expect("its own output"), config);
    let rabbitmq = config.rabbitmq.expect("the section is there");
    assert_eq!(rabbitmq.ca, Some(folder.0.join("ca.pem")));
    assert_eq!(rabbitmq.exchange, "events");
    assert_eq!(rabbitmq.queues.len(), 1, "what is named takes the default's place");
    let plain = "urls = [\"amqp://127.0.0.1:1\", \"amqp://localhost\", \"amqp://[::1]\"]";
    broker(plain).expect("on loopback no TLS is needed");
    for (text, key) in [
        ("urls = []", "rabbitmq.urls"),
        ("urls = [\"http://b1\"]", "rabbitmq.urls"),
        ("urls = [\"amqp://b1.south\"]", "rabbitmq.urls"),
        ("urls = [\"amqp://u:PLANTED@127.0.0.1\"]", "rabbitmq.urls"),
        ("urls = [\"amqps://b1:port\"]\nca = \"ca.pem\"", "rabbitmq.urls"),
        ("urls = [\"amqps://\"]\nca = \"ca.pem\"", "rabbitmq.urls"),
        ("urls = [\"amqps://b1\"]", "rabbitmq.ca"),
        ("urls = [\"amqps://b1\"]\nca = \"none.pem\"", "rabbitmq.ca"),
        (
            "urls = [\"amqp://localhost\"]\nkey = \"server.key\"",
            "rabbitmq.certificate",
        ),
        (
            "urls = [\"amqp://localhost\"]\ncertificate = \"server.pem\"",
            "rabbitmq.key",
        ),
        (
            "urls = [\"amqp://localhost\"]\nexchange = \"amq.topic\"",
            "rabbitmq.exchange",
        ),
        ("urls = [\"amqp://localhost\"]\nqueues = {}", "rabbitmq.queues"),
        ("urls = [\"amqp://localhost\"]\nqueues = { a = [] }", "rabbitmq.queues"),
    ] {
        assert_eq!(refused(broker(text)).key, key, "{text}");
    }
    let missing = "urls = [\"amqp://localhost\"]\ncredentials = \"none\"";
    assert_eq!(refused(folder.with("rabbitmq", missing)).key, "rabbitmq.credentials");
}

#[test]
fn redis_is_one_or_behind_sentinels_and_in_the_clear_on_loopback_alone() {
    let folder = Folder::new("redis");
    let redis = |text: &str| folder.with("redis", text);
    let whole = "sentinels = [\"n1.north:26379\", \"10.0.0.2:26379\"]\nprimary = \"spine\"\nusername = \"node\"\n\
                 password = \"shared.key\"\nsentinel_password = \"shared.key\"\nca = \"ca.pem\"\n\
                 certificate = \"server.pem\"\nkey = \"server.key\"\nwait_ms_max = 5";
    let config = redis(whole).expect("valid");
    let effective = config.effective();
    assert!(
        effective.contains("wait_ms_max = 5") && effective.contains("# ms, 5 to 100"),
        "{effective}"
    );
    assert_eq!(folder.parse(&effective).expect("its own output"), config);
    let taken = config.redis.expect("the section is there");
    assert_eq!(taken.ca, Some(folder.0.join("ca.pem")));
    for plain in [
        "address = \"127.0.0.1:6379\"",
        "address = \"[::1]:1\"",
        "sentinels = [\"localhost:1\"]",
    ] {
        let taken = redis(plain).expect("on loopback no TLS is needed").redis;
        assert_eq!(taken.map(|redis| redis.wait_ms_max), Some(25));
    }
    for (text, key) in [
        ("primary = \"x\"", "redis.sentinels"),
        (
            "address = \"127.0.0.1:1\"\nsentinels = [\"127.0.0.1:2\"]",
            "redis.address",
        ),
        ("address = \"127.0.0.1\"\nca = \"ca.pem\"", "redis.address"),
        ("address = \"redis://127.0.0.1:1\"\nca = \"ca.pem\"", "redis.address"),
        ("sentinels = [\"127.0.0.1:0\"]", "redis.sentinels"),
        ("address = \"10.0.0.1:6379\"", "redis.ca"),
        ("address = \"127.evil.example:6379\"", "redis.ca"),
        ("address = \"127.0.0.1:1\"\nusername = \"node\"", "redis.password"),
        ("address = \"127.0.0.1:1\"\nprimary = \"two words\"", "redis.primary"),
        (
            "address = \"127.0.0.1:1\"\nca = \"ca.pem\"\nkey = \"server.key\"",
            "redis.certificate",
        ),
        (
            "address = \"127.0.0.1:1\"\nca = \"ca.pem\"\ncertificate = \"server.pem\"",
            "redis.key",
        ),
        (
            "address = \"127.0.0.1:1\"\ncertificate = \"server.pem\"\nkey = \"server.key\"",
            "redis.ca",
        ),
        ("address = \"127.0.0.1:1\"\npassword = \"none\"", "redis.password"),
        ("address = \"127.0.0.1:1\"\nwait_ms_max = 4", "redis.wait_ms_max"),
        ("address = \"127.0.0.1:1\"\nwait_ms_max = 101", "redis.wait_ms_max"),
        ("address = \"127.0.0.1:1\"\nlisen = 1", "redis.lisen"),
    ] {
        assert_eq!(refused(redis(text)).key, key, "{text}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::read(Path::new("/nowhere/at/all.toml")).expect_err("no such file");
    assert!(error.to_string().starts_with("/nowhere/at/all.toml: cannot be read"));
}

#[test]
fn the_sandbox_configuration_is_in_range_and_its_socket_path_fits() {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let deep = PathBuf::from(format!("/tmp/{}", "deep/".repeat(40)));
    for folder in [Path::new("/tmp/box"), deep.as_path()] {
        let config = Config::sandbox(folder, loopback, loopback);
        for number in numbers(&config) {
            assert!(number.range.contains(&number.value), "{}", number.key);
        }
        assert!(config.admin.socket.as_os_str().len() <= check::SOCKET_PATH_BYTES_MAX);
        assert!(!config.mesh.restrict_workflows && !config.tls.require_client_certificate);
    }
}

#[test]
fn a_secret_loses_one_line_end_and_never_shows() {
    let folder = Folder::new("secret");
    let file = folder.0.join("k");
    for (text, want) in [
        ("key", "key"),
        ("key\n", "key"),
        ("key\r\n", "key"),
        ("key\n\n", "key\n"),
    ] {
        fs::write(&file, text).expect("writable");
        let secret = Secret::read(&file).expect("readable");
        assert_eq!(secret.bytes(), want.as_bytes());
        assert!(!format!("{secret:?}").contains("key"));
    }
    fs::write(&file, "\n").expect("writable");
    assert!(matches!(Secret::read(&file), Err(SecretError::Empty { .. })));
    fs::write(&file, "x".repeat(5_000)).expect("writable");
    assert!(matches!(Secret::read(&file), Err(SecretError::TooLarge { .. })));
    assert!(matches!(
        Secret::read(&folder.0),
        Err(SecretError::Io { .. } | SecretError::TooLarge { .. })
    ));
}

#[test]
fn a_data_folder_has_one_process_at_a_time() {
    let folder = Folder::new("lock");
    let config = folder.with("node", "data = \"not/made/yet\"").expect("valid");
    let lock = config.lock_data().expect("nobody has it");
    let refused = config.lock_data().expect_err("taken");
    assert!(
        matches!(refused, DataLockError::InUse { .. }) && refused.to_string().contains("not/made/yet"),
        "{refused}"
    );
    drop(lock);
    config.lock_data().expect("given back");
    let blocked = folder.with("node", "data = \"server.pem\"").expect("valid");
    assert!(matches!(blocked.lock_data(), Err(DataLockError::Io { .. })));
}

#[test]
fn a_refusal_repeats_no_line_of_a_value_that_looks_like_a_section_or_a_key() {
    let folder = Folder::new("lines");
    let name = "name = \"\"\"\n[PLANTED]\nPLANTED = 1\n\"\"\"";
    refused(folder.with("node", &format!("{name}\nid = \"x\"")));
    for text in [
        format!("{SMALLEST}[node]\n{name}\nid = "),
        "[tls]\nkey = \"\"\"\nPLANTED==\n[PLANTED]\n".to_owned(),
        "[tls]\ncrl = [\n[\"PLANTED\"],\n1,\n]\n".to_owned(),
        "[mesh]\nshared_key =\nPLANTED==\n".to_owned(),
    ] {
        refused(folder.parse(&text));
    }
}
