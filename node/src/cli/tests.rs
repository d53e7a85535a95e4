use super::client::{Door, Target, split};
use super::sandbox::{Sandbox, SandboxTokens, greeting, prepare, quoted};
use super::*;
use crate::admin::status::{ClusterStatus, Member, State, Status};
use crate::admin::trace::{Step, Trace, TracedMessage};
use crate::base::Timestamp;
use crate::node::Started;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split(' '))
}

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("vertebra-cli-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    path
}

fn started() -> Started {
    let address = |text: &str| text.parse().expect("an address");
    Started {
        http: address("127.0.0.1:8700"),
        admin: address("127.0.0.1:8701"),
    }
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_documented_call_parses() {
    for line in [
        "vertebra sandbox --data /tmp/box --listen 127.0.0.1:8700",
        "vertebra sandbox --data box --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --log-level debug",
        "vertebra sandbox --data box --read-entries behind",
        "vertebra sandbox --data box --members 3 --listen 127.0.0.1:8710",
        "vertebra node --config /etc/vertebra/node.toml",
        "vertebra config check /etc/vertebra/node.toml",
        "vertebra status",
        "vertebra status --json --sandbox box",
        "vertebra status --watch",
        "vertebra status --exit-when-healthy --timeout 5 --socket /run/v.sock",
        "vertebra doctor --config f.toml",
        "vertebra verify --deep",
        "vertebra mailbox add X --ods X26 --password-file p",
        "vertebra mailbox set X --active true --safe-retry false",
        "vertebra mailbox list",
        "vertebra mailbox show X --json",
        "vertebra mailbox disable X",
        "vertebra mailbox token --sandbox box X26ABC1",
        "vertebra mailbox token X --shared-key-file k --password-file p",
        "vertebra workflow add W --sender A --sender B --receiver C",
        "vertebra workflow list",
        "vertebra workflow show W",
        "vertebra client add a --ods X26 --mode application --mode worker --jwks k --scope s --scope t --rate 5 --active true",
        "vertebra client set a --name N",
        "vertebra client list --json",
        "vertebra client show a",
        "vertebra client disable a --sandbox box",
        "vertebra trace 20261122150405123456_00002A",
        "vertebra synth patients --count 10 --seed 7 --output people.ndjson",
        "vertebra synth patients --count 10 --from 100 --as-of 2025-01-31 --well-known",
        "vertebra import --kind patients a.ndjson.gz b.zst --state s --rejects r --rate 500 --json",
        "vertebra import --kind patients - --rejects r --rejects-with-lines --sandbox box",
        "vertebra export --kind patients",
        "vertebra export --kind patients --output - --socket /run/v.sock",
        "vertebra upgrade status --json",
        "vertebra upgrade compare --canary n1.south --soak 30m --watch",
        "vertebra upgrade compare --canary 2 --json --promote true --roll-back false",
        "vertebra upgrade finalize --sandbox box",
        "vertebra completions bash",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn wrong_calls_exit_with_2() {
    for line in [
        "vertebra",
        "vertebra sandbox",
        "vertebra sandbox --data box --listen nonsense",
        "vertebra sandbox --data box --log-level loud",
        "vertebra sandbox --data box --read-entries never",
        "vertebra node --config f.toml --read-entries behind",
        "vertebra status --watch --exit-when-healthy",
        "vertebra status --socket a --sandbox b",
        "vertebra mailbox token X",
        "vertebra mailbox token X --shared-key-file k",
        "vertebra mailbox add X --password secret",
        "vertebra client add",
        "vertebra client add a --rate often",
        "vertebra completions tcsh",
        "vertebra synth patients",
        "vertebra synth patients --count 0",
        "vertebra synth patients --count 90000000",
        "vertebra synth patients --count 1 --as-of 2025-02-30",
        "vertebra import people.ndjson",
        "vertebra import --kind patients",
        "vertebra import --kind bodies f",
        "vertebra import --kind patients f --rejects-with-lines",
        "vertebra import --kind patients f --rate 0",
        "vertebra join --timeout soon",
        "vertebra upgrade",
        "vertebra upgrade compare",
        "vertebra upgrade compare --canary 2 --soak long",
        "vertebra upgrade compare --canary 2 --json --watch",
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn every_help_page_has_an_example() {
    fn each(command: &clap::Command, path: &str) {
        let path = format!("{path} {}", command.get_name());
        if path != " vertebra" && command.get_name() != "help" {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{path} has no example");
        }
        command.get_subcommands().for_each(|sub| each(sub, &path));
    }
    each(&Cli::command(), "");
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in [
        clap_complete::Shell::Bash,
        clap_complete::Shell::Zsh,
        clap_complete::Shell::Fish,
    ] {
        let mut out = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "vertebra", &mut out);
        assert!(String::from_utf8_lossy(&out).contains("exit-when-healthy"), "{shell}");
    }
}

#[test]
fn a_token_is_the_hmac_that_the_specification_says() {
    let at = Timestamp::from_ms(1_795_359_840_000);
    assert_eq!(at.iso(), "2026-11-22T15:04:00.000Z");
    let value = token::value("X26ABC1", b"password", b"TestKey", "nonce-1", at);
    assert_eq!(
        value,
        "NHSMESH X26ABC1:nonce-1:1:202611221504:b07f42085b0b875ae57d686014ad75377a2cd82fb17b17204dd55e7439f12786"
    );
}

#[test]
fn the_sandbox_keeps_its_certificates_and_hides_its_keys() {
    let box_ = folder("keep");
    prepare(&box_).expect("made");
    let read = |name: &str| fs::read_to_string(box_.join(name)).expect(name);
    let before: Vec<String> = [
        "ca.pem",
        "server.pem",
        "X26ABC1.pem",
        "sandbox.pem",
        "tokens.key",
        "authority.jwks",
    ]
    .map(read)
    .to_vec();
    fs::write(box_.join("sandbox.json"), "{}").expect("writable");
    prepare(&box_).expect("a second time");
    assert_eq!(
        before,
        [
            "ca.pem",
            "server.pem",
            "X26ABC1.pem",
            "sandbox.pem",
            "tokens.key",
            "authority.jwks"
        ]
        .map(read)
        .to_vec()
    );
    assert!(
        !box_.join("sandbox.json").exists(),
        "an old one would say that the sandbox is ready"
    );
    let keys = [
        "ca.key",
        "server.key",
        "sandbox.key",
        "X26ABC3.key",
        "shared.key",
        "tokens.key",
        "authority.key",
    ];
    for key in keys {
        let mode = fs::metadata(box_.join(key)).expect(key).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    assert_eq!(fs::metadata(&box_).expect("there").permissions().mode() & 0o777, 0o700);
    fs::remove_file(box_.join("X26ABC2.key")).expect("there");
    prepare(&box_).expect("makes what is missing");
    assert!(box_.join("X26ABC2.key").is_file());
    fs::remove_dir_all(&box_).expect("own folder");
}

#[test]
fn sandbox_certificates_name_mailbox_and_organisation_and_chain_to_the_authority() {
    let box_ = folder("names");
    prepare(&box_).expect("made");
    let pem = |name: &str| {
        x509_parser::pem::parse_x509_pem(&fs::read(box_.join(name)).expect(name))
            .expect("PEM")
            .1
            .contents
    };
    let ca = pem("ca.pem");
    let (_, ca) = x509_parser::parse_x509_certificate(&ca).expect("X.509");
    for (file, common_name) in [
        ("server.pem", "localhost"),
        ("sandbox.pem", "sandbox"),
        ("X26ABC1.pem", "X26ABC1.X26.api.mesh-client.nhs.uk"),
        ("X26ABC3.pem", "X26ABC3.X27.api.mesh-client.nhs.uk"),
    ] {
        let der = pem(file);
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).expect("X.509");
        let name = certificate
            .subject()
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok());
        assert_eq!(name, Some(common_name));
        assert_eq!(certificate.issuer(), ca.subject(), "{file}");
    }
    fs::remove_dir_all(&box_).expect("own folder");
}

#[test]
fn sandbox_json_has_the_documented_shape() {
    let sandbox = Sandbox::of(Path::new("/tmp/box"), started(), SandboxTokens::default());
    let value = serde_json::to_value(&sandbox).expect("JSON");
    let keys = |value: &serde_json::Value| {
        value
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    let mut top = keys(&value);
    top.sort();
    assert_eq!(
        top,
        [
            "admin_url",
            "ca",
            "client_certificate",
            "client_key",
            "mesh",
            "pds",
            "tokens",
            "url"
        ]
    );
    assert_eq!(value["url"], "https://127.0.0.1:8700");
    assert_eq!(value["admin_url"], "http://127.0.0.1:8701");
    assert_eq!(value["mesh"]["shared_key"], "TestKey");
    assert!(value["pds"]["nhs_numbers"].is_array() && value["tokens"].is_object());
    let mailboxes = value["mesh"]["mailboxes"].as_array().expect("an array");
    let ids: Vec<&str> = mailboxes.iter().filter_map(|m| m["id"].as_str()).collect();
    assert_eq!(ids, ["X26ABC1", "X26ABC2", "X26ABC3"]);
    for mailbox in mailboxes {
        let mut fields = keys(mailbox);
        fields.sort();
        assert_eq!(fields, ["client_certificate", "client_key", "id", "password"]);
        assert!(
            mailbox["client_key"]
                .as_str()
                .is_some_and(|path| path.starts_with("/tmp/box/"))
        );
    }
    assert_eq!(sandbox.door().expect("an address"), Door::Loopback(started().admin));
}

#[test]
fn the_greeting_shows_curl_and_python_with_quoted_paths() {
    let folder = Path::new("/tmp/a box");
    let text = greeting(folder, &Sandbox::of(folder, started(), SandboxTokens::default()), 3);
    for want in [
        "--cacert '/tmp/a box/ca.pem'",
        "mailbox token --sandbox '/tmp/a box' X26ABC1)",
        "https://127.0.0.1:8700/messageexchange/X26ABC1/outbox",
        "verify=\"/tmp/a box/ca.pem\"",
        "shared_key=b\"TestKey\"",
        "'/tmp/a box/venv'/bin/pip install -q mesh-client",
    ] {
        assert!(text.contains(want), "{want} in\n{text}");
    }
    assert_eq!(quoted("it's"), r"'it'\''s'");
    assert_eq!(quoted("/plain/path-1.pem"), "/plain/path-1.pem");
    assert_eq!(quoted(""), "''");
    assert_eq!(quoted("$(x)"), "'$(x)'");
}

#[test]
fn answers_are_read_by_length_in_chunks_or_to_the_end() {
    let read = |text: &str| split(text.as_bytes());
    assert_eq!(
        read("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        Some((200, b"ok".to_vec()))
    );
    assert_eq!(read("HTTP/1.1 503 No\r\n\r\nwhy"), Some((503, b"why".to_vec())));
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3;x=y\r\nyes\r\n0\r\n\r\n";
    assert_eq!(read(chunked), Some((200, b"okyes".to_vec())));
    for cut in [
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
    ] {
        assert_eq!(read(cut), None, "{cut:?}");
    }
}

#[test]
fn the_client_asks_over_a_unix_socket_and_gives_a_refusals_own_sentence() {
    let dir = folder("socket");
    fs::create_dir_all(&dir).expect("writable");
    let path = dir.join("s");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    let server = std::thread::spawn(move || {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}",
            "HTTP/1.1 409 No\r\n\r\n{\"message\":\"why\"}",
        ] {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 1024];
            let read = stream.read(&mut request).expect("a request");
            assert!(request[..read].starts_with(b"PUT /x HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).expect("it reads");
        }
    });
    let door = Door::Socket(path);
    let value: serde_json::Value = door.json("PUT", "/x", b"").expect("200");
    assert_eq!(value["a"], 1);
    let refused = door.json::<serde_json::Value>("PUT", "/x", b"").expect_err("409");
    assert_eq!(refused.to_string(), "why");
    server.join().expect("no assertion failed");
    fs::remove_dir_all(&dir).expect("own folder");
    let absent = door
        .ask("GET", "/", b"", std::time::Duration::from_secs(1))
        .expect_err("nobody listens");
    assert!(absent.to_string().contains("the node does not run") && absent.exit() == 1);
}

#[test]
fn the_door_is_found_by_socket_configuration_or_sandbox() {
    let dir = folder("door");
    fs::create_dir_all(&dir).expect("writable");
    let file = dir.join("v.toml");
    fs::write(
        &file,
        "[admin]\nsocket = \"run.sock\"\n[tls]\ncertificate = \"/not/readable\"\n",
    )
    .expect("writable");
    let by_config = Target {
        config: Some(file.clone()),
        ..Target::default()
    };
    assert_eq!(by_config.door().expect("named"), Door::Socket(dir.join("run.sock")));
    fs::write(&file, "[admin\n").expect("writable");
    assert!(matches!(by_config.door(), Err(CliError::Config(_))));
    let by_sandbox = Target {
        sandbox: Some(dir.clone()),
        ..Target::default()
    };
    assert!(matches!(by_sandbox.door(), Err(CliError::NotRunning { .. })));
    let sandbox = serde_json::to_string(&Sandbox::of(&dir, started(), SandboxTokens::default())).expect("JSON");
    fs::write(dir.join("sandbox.json"), sandbox).expect("writable");
    assert_eq!(by_sandbox.door().expect("there"), Door::Loopback(started().admin));
    fs::remove_dir_all(&dir).expect("own folder");
}

fn status() -> Status {
    Status {
        state: State::Degraded,
        reasons: vec!["the disk has 1.5 GiB left; writes stop at 1.0 GiB".to_owned()],
        node: 1,
        cluster: ClusterStatus::default(),
        url: "https://127.0.0.1:8700".to_owned(),
        now: "2026-11-22T15:04:05.123Z".to_owned(),
        members: vec![Member {
            id: 1,
            name: "n1".to_owned(),
            site: "leeds".to_owned(),
            address: "10.0.0.1:8444".to_owned(),
            role: "leader".to_owned(),
            release: "0.1.0".to_owned(),
            applied: 1_234_567,
            lag: 0,
            fsync_us: 850,
            fsync_us_mean: 1_250,
            disk_free_bytes: 3 << 29,
            disk_bytes: 100 << 30,
            disk_reserve_bytes: 1 << 30,
            certificate_days: Some(364),
            cluster_certificate_days: None,
        }],
        mailboxes: 3,
        waiting: 1_200,
        oldest_seconds: 3_900,
        audit_entries: 9_876,
        patients: 507,
        events: Default::default(),
        redis: Default::default(),
    }
}

#[test]
fn status_is_a_table_with_the_reasons_above_it() {
    let text = status::render(&status());
    for want in [
        "degraded   https://127.0.0.1:8700   2026-11-22 15:04:05",
        "  ! the disk has 1.5 GiB left",
        "1,234,567",
        "850 µs (mean 1.2 ms)",
        "1.5 GiB of 100.0 GiB",
        "364 days",
        "3 mailboxes, 1,200 messages waiting, the oldest for 1 h 5 min; 507 patients; 9,876 audit entries",
    ] {
        assert!(text.contains(want), "{want} in\n{text}");
    }
    assert!(text.lines().all(|line| line == line.trim_end()));
    assert_eq!(
        [State::Healthy, State::Degraded, State::CannotWrite].map(status::exit_code),
        [0, 10, 20]
    );
    let json = serde_json::to_value(status()).expect("JSON");
    assert_eq!(json["state"], "degraded");
}

#[test]
fn status_of_a_cluster_tells_what_members_have_in_common_and_shows_no_figures_of_the_silent() {
    let alone = status();
    assert!(!status::render(&alone).contains("cluster"), "a node without peers");
    let first = Member {
        cluster_certificate_days: Some(20),
        ..alone.members[0].clone()
    };
    let member = |id, name: &str, site: &str, role: &str, lag| Member {
        id,
        name: name.to_owned(),
        site: site.to_owned(),
        role: role.to_owned(),
        applied: first.applied - lag,
        lag,
        ..first.clone()
    };
    let text = status::render(&Status {
        members: vec![
            first.clone(),
            member(2, "n2.north.example", "leeds", "follower", 12_345),
            member(3, "n1.south.example", "york", "unreachable", 0),
            member(4, "w1.example", "hull", "learner", 7),
        ],
        cluster: ClusterStatus {
            id: "0123456789abcdef0123456789abcdef".to_owned(),
            epoch: 2,
            term: 17,
            leader: 1,
            skew_ms_max: 3,
            state_age_seconds: 61,
            voters: 3,
            voters_answering: 2,
        },
        ..alone
    });
    for want in [
        "\ncluster 01234567   epoch 2   term 17   led by n1 (1)   2 of 3 voters answer   clocks within 3 ms   state 1 min old\n",
        "n1 (1)                leeds  leader       1,234,567  0       850 µs (mean 1.2 ms)  1.5 GiB of 100.0 GiB  20 days      0.1.0\n",
        "n2.north.example (2)  leeds  follower     1,222,222  12,345  ",
        "n1.south.example (3)  york   unreachable  -          -       -                     -                     -            -\n",
        "w1.example (4)        hull   learner      1,234,560  7       ",
    ] {
        assert!(text.contains(want), "{want} in\n{text}");
    }
}

#[test]
fn a_trace_tells_who_did_what_and_when() {
    let trace = Trace {
        id: "20261122150405123456_00002A".to_owned(),
        message: Some(TracedMessage {
            sender: Some("X26ABC1".to_owned()),
            recipient: "X26ABC2".to_owned(),
            workflow: "TEST_WORKFLOW".to_owned(),
            status: "Accepted".to_owned(),
            report: false,
            chunks: 1,
            bytes: 5,
            created: "2026-11-22T15:04:05.123Z".to_owned(),
            expires: "2026-11-27T15:04:05.123Z".to_owned(),
        }),
        steps: vec![Step {
            at: "2026-11-22T15:04:05.123Z".to_owned(),
            source: "audit".to_owned(),
            actor: "X26ABC1".to_owned(),
            action: "mesh.send".to_owned(),
            outcome: "202".to_owned(),
            request: "00000000000000ff".to_owned(),
        }],
        cut: true,
    };
    let text = trace::render(&trace);
    for want in [
        "message from X26ABC1 to X26ABC2",
        "5 bytes in 1 chunks",
        "mesh.send  202",
        "there is more",
    ] {
        assert!(text.contains(want), "{want} in\n{text}");
    }
}

#[test]
fn spans_numbers_and_times_are_shown_for_people() {
    use super::table::{grouped, micros, span};
    for (seconds, text) in [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3_900, "1 h 5 min"),
        (100_000, "1 d 3 h"),
    ] {
        assert_eq!(span(seconds), text);
    }
    for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
        assert_eq!(grouped(number), text);
    }
    assert_eq!((micros(999), micros(1_250)), ("999 µs".to_owned(), "1.2 ms".to_owned()));
}

#[test]
fn a_broken_store_is_told_check_by_check() {
    use crate::admin::verify::{Check, Report};
    let check = |ok| Check {
        name: "audit chain".to_owned(),
        ok,
        detail: "d".to_owned(),
    };
    assert!(
        verify::render(&Report {
            checks: vec![check(true)]
        })
        .contains("Everything is whole")
    );
    let broken = Report {
        checks: vec![check(true), check(false)],
    };
    assert!(!broken.ok() && verify::render(&broken).contains("BROKEN  audit chain"));
}
