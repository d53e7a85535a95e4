//! The house rules that a machine can hold: direction of modules, sizes, words, `unsafe`, reasons of dependencies,
//! promises that name their tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use vertebra_tests::python::workspace;

/// Every module at the top of `node/src`, and which of its neighbours it may name. A new module needs a place here.
const DIRECTION: [(&str, &[&str]); 18] = [
    ("base", &[]),
    ("config", &["base"]),
    ("metrics", &["base"]),
    ("systemd", &["base"]),
    ("redis", &["base"]),
    ("ring", &["base", "metrics"]),
    ("journal", &["base", "metrics", "ring"]),
    ("ledger", &["base", "metrics", "journal"]),
    ("bodies", &["base", "metrics", "journal", "ledger"]),
    ("audit", &["base", "metrics", "journal"]),
    ("log", &["base", "metrics", "journal", "ledger", "bodies", "audit"]),
    ("http", &["base", "metrics", "ring"]),
    ("auth", &["base", "metrics", "http", "redis"]),
    (
        "services",
        &[
            "base", "metrics", "log", "ledger", "bodies", "audit", "auth", "http", "outbox",
        ],
    ),
    ("outbox", &["base", "metrics", "log", "ledger"]),
    (
        "admin",
        &[
            "base", "metrics", "http", "log", "ledger", "bodies", "audit", "journal", "services", "config", "auth",
            "outbox", "redis",
        ],
    ),
    ("node", &["*"]),
    ("cli", &["*"]),
];

/// Enums whose matches must name every case.
const STATE_ENUMS: [&str; 5] = ["Status::", "Outcome::", "Refusal::", "Command::", "Health::"];

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 100;

/// The repository's own files with one of these endings, as (path from the root, text).
fn files(endings: &[&str]) -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && name != ".git" && name != "__pycache__" {
                walk(&path, found);
            } else if path.is_file() {
                found.push(path);
            }
        }
    }
    let root = workspace();
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    paths.sort();
    let mut kept = Vec::new();
    for path in paths {
        let name = path
            .strip_prefix(&root)
            .expect("a walked file lies below the root")
            .display()
            .to_string();
        if endings.iter().any(|ending| name.ends_with(ending)) {
            if let Ok(text) = fs::read_to_string(&path) {
                kept.push((name, text));
            }
        }
    }
    assert!(!kept.is_empty(), "the repository has files that end in {endings:?}");
    kept
}

fn is_test_file(name: &str) -> bool {
    let shipped = ["node/src/", "provisioning/src/"]
        .iter()
        .any(|folder| name.starts_with(folder));
    !shipped || name.ends_with("tests.rs") || name.contains("/tests/")
}

/// The lines before the unit tests at a file's end, numbered from 1, comments left out when `code` says so.
fn shipped_lines(text: &str, code: bool) -> Vec<(usize, &str)> {
    let mut lines: Vec<(usize, &str)> = Vec::new();
    let all: Vec<&str> = text.lines().collect();
    for (at, line) in all.iter().enumerate() {
        let next = all.get(at + 1).copied().unwrap_or("");
        if line.trim() == "#[cfg(test)]" && next.trim().starts_with("mod ") && next.trim().ends_with('{') {
            break;
        }
        if !(code && line.trim_start().starts_with("//")) {
            lines.push((at + 1, line));
        }
    }
    lines
}

fn none(what: &str, violations: Vec<String>) {
    assert!(violations.is_empty(), "{what}:\n{}", violations.join("\n"));
}

/// The modules that a line names after `crate::`, groups included.
fn named_modules(line: &str) -> Vec<String> {
    let mut named = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let before = line[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &line[at + "crate::".len()..];
        let first = |text: &str| {
            text.trim()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect::<String>()
        };
        match rest.strip_prefix('{') {
            None => named.push(first(rest)),
            Some(group) => named.extend(group.split(',').map(first)),
        }
    }
    named.retain(|name| !name.is_empty());
    named
}

#[test]
fn modules_name_only_those_below_them() {
    let rules: BTreeMap<&str, &[&str]> = DIRECTION.into_iter().collect();
    let mut violations = Vec::new();
    for (name, text) in files(&[".rs"]) {
        let Some(inner) = name.strip_prefix("node/src/") else {
            continue;
        };
        let module = inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs");
        if matches!(module, "main" | "lib") || is_test_file(&name) {
            continue;
        }
        let Some(allowed) = rules.get(module) else {
            violations.push(format!(
                "{name}: module `{module}` has no place in the order of modules"
            ));
            continue;
        };
        for (number, line) in shipped_lines(&text, true) {
            for named in named_modules(line) {
                let known = rules.contains_key(named.as_str()) && named != module;
                if known && !allowed.contains(&named.as_str()) && !allowed.contains(&"*") {
                    violations.push(format!(
                        "{name}:{number}: `{module}` names `{named}`, which is not below it"
                    ));
                }
            }
            if module == "services" && ["openraft", "io_uring", "tokio_uring"].iter().any(|c| line.contains(c)) {
                violations.push(format!("{name}:{number}: a service names an engine: {}", line.trim()));
            }
        }
    }
    none("direction of modules", violations);
}

#[test]
fn files_and_functions_fit_their_sizes() {
    let mut violations = Vec::new();
    for (name, text) in files(&[".rs"]) {
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() > FILE_LINES_MAX {
            violations.push(format!(
                "{name}: {} lines, split it by concept before {FILE_LINES_MAX}",
                lines.len()
            ));
        }
        if is_test_file(&name) {
            continue;
        }
        for (at, line) in lines.iter().enumerate() {
            let body = line.trim_start();
            let indent = line.len() - body.len();
            let visible = ["pub ", "pub(super) ", "pub(crate) "];
            let body = visible.iter().find_map(|word| body.strip_prefix(word)).unwrap_or(body);
            let starts = ["fn ", "async fn ", "const fn ", "unsafe fn "];
            if !starts.iter().any(|start| body.starts_with(start)) {
                continue;
            }
            let end = lines[at..]
                .iter()
                .position(|end| *end == format!("{}}}", " ".repeat(indent)));
            if end.is_some_and(|length| length + 1 > FUNCTION_LINES_MAX) {
                violations.push(format!(
                    "{name}:{}: a function longer than {FUNCTION_LINES_MAX} lines",
                    at + 1
                ));
            }
        }
    }
    none("sizes", violations);
}

#[test]
fn no_file_or_module_has_a_name_that_says_nothing() {
    let empty = ["util", "utils", "common", "helper", "helpers", "misc", "manager"];
    let mut violations = Vec::new();
    for (name, _) in files(&[".rs", ".py", ".sh", ".toml", ".md"]) {
        let parts = name.split('/').map(|part| part.split('.').next().unwrap_or(part));
        violations.extend(
            parts
                .filter(|part| empty.contains(part))
                .map(|part| format!("{name}: `{part}`")),
        );
    }
    none("names", violations);
}

#[test]
fn unsafe_lives_in_the_ring_and_in_the_one_call_that_opens_lmdb() {
    let mut violations = Vec::new();
    let mut in_ledger = 0;
    for (name, text) in files(&[".rs"]) {
        if name == "tests/tests/tidy.rs" {
            continue;
        }
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
            if !words.any(|word| word == "unsafe") {
                continue;
            }
            in_ledger += usize::from(name.starts_with("node/src/ledger"));
            if !name.starts_with("node/src/ring/") && !name.starts_with("node/src/ledger") {
                violations.push(format!("{name}:{}: `unsafe` outside the ring", at + 1));
            }
            let reason = lines[at.saturating_sub(8)..=at]
                .iter()
                .any(|line| line.contains("SAFETY:"));
            if !reason {
                violations.push(format!("{name}:{}: `unsafe` without a SAFETY sentence", at + 1));
            }
        }
    }
    if in_ledger > 1 {
        violations.push(format!(
            "node/src/ledger: {in_ledger} uses of `unsafe`, and one opens LMDB"
        ));
    }
    none("unsafe", violations);
}

#[test]
fn shipped_code_has_no_stubs_and_no_silent_unwraps() {
    let words = [
        "todo!(",
        "unimplemented!(",
        "dbg!(",
        ".unwrap()",
        "TODO",
        "FIXME",
        "XXX",
        "for now",
        "HACK",
    ];
    let mut violations = Vec::new();
    for (name, text) in files(&[".rs"]) {
        if is_test_file(&name) {
            continue;
        }
        let storage = ["node/src/journal", "node/src/ledger", "node/src/log", "node/src/bodies"];
        for (number, line) in shipped_lines(&text, false) {
            for word in words.iter().filter(|word| line.contains(**word)) {
                violations.push(format!("{name}:{number}: {word}"));
            }
            if line.contains("debug_assert") && storage.iter().any(|folder| name.starts_with(folder)) {
                violations.push(format!("{name}:{number}: storage asserts in production: `assert!`"));
            }
        }
    }
    none("stubs", violations);
}

#[test]
fn nothing_names_a_machine_or_how_the_work_was_organised() {
    let words = [
        concat!("/wo", "rk/"),
        "/home/",
        concat!("/ro", "ot/"),
        "/Users/",
        "../shared",
        "crates.io",
        "pypi.org",
        "npmjs.org",
        "subagent",
        "sub-agent",
        "colleague",
        "Claude",
        "ChatGPT",
        "language model",
    ];
    let mut violations = Vec::new();
    for (name, text) in files(&[
        ".rs", ".md", ".toml", ".py", ".sh", "Makefile", ".pp", ".yaml", ".service", "run",
    ]) {
        if name == "tests/tests/tidy.rs" {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                violations.push(format!("{name}:{}: {word}", number + 1));
            }
        }
    }
    none("words", violations);
}

/// The text between a `match`'s braces and its arms' own braces: what stands at the depth of its arms.
fn arms(block: &str) -> String {
    let mut depth = 0;
    let mut kept = String::new();
    for c in block.chars() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            _ => {}
        }
        if depth < 0 {
            break;
        }
        if depth == 0 {
            kept.push(c);
        }
    }
    kept
}

#[test]
fn matches_over_states_name_every_case() {
    let mut violations = Vec::new();
    for (name, text) in files(&[".rs"]) {
        if is_test_file(&name) {
            continue;
        }
        let text: String = shipped_lines(&text, true)
            .into_iter()
            .map(|(_, line)| format!("{line}\n"))
            .collect();
        for (at, _) in text.match_indices("match ") {
            let Some(open) = text[at..].find('{') else { continue };
            let arms = arms(&text[at + open + 1..]);
            let patterns: Vec<&str> = arms.split('\n').filter(|line| line.contains("=>")).collect();
            let over_state = patterns.iter().any(|line| {
                let pattern = line.split("=>").next().unwrap_or("").trim();
                STATE_ENUMS.iter().any(|state| pattern.starts_with(state))
            });
            let wildcard = patterns.iter().any(|line| line.trim().starts_with("_ =>"));
            if over_state && wildcard {
                let number = text[..at].lines().count();
                violations.push(format!("{name}: near code line {number}: a wildcard arm over a state"));
            }
        }
    }
    none("wildcards", violations);
}

#[test]
fn every_public_item_is_documented() {
    for file in ["node/src/lib.rs", "provisioning/src/lib.rs", "tests/src/lib.rs"] {
        let text = fs::read_to_string(workspace().join(file)).expect("the crate has a root");
        assert!(
            text.contains("#![deny(missing_docs)]"),
            "{file} denies missing documentation"
        );
    }
    let mut violations = Vec::new();
    for (name, text) in files(&[".rs"]) {
        let opens = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("");
        if !is_test_file(&name) && !opens.starts_with("//!") {
            violations.push(format!("{name}: a module opens with what it owns"));
        }
    }
    none("documentation", violations);
}

#[test]
fn every_dependency_has_a_reason() {
    let mut violations = Vec::new();
    for (name, text) in files(&["Cargo.toml"]) {
        let mut inside = false;
        for line in text.lines() {
            if line.starts_with('[') {
                inside = line.contains("dependencies");
            } else if inside && line.contains('=') && !line.starts_with('#') && !line.contains('#') {
                violations.push(format!("{name}: {line}"));
            }
        }
    }
    none("dependencies without a reason", violations);
}

#[test]
fn the_readmes_promises_name_tests_that_exist() {
    let readme = fs::read_to_string(workspace().join("README.md")).expect("the repository has a README");
    let mut code = String::new();
    for (_, text) in files(&[".rs"]) {
        code.push_str(&text);
    }
    let mut named = 0;
    let mut violations = Vec::new();
    for word in readme.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
        if word.matches('_').count() >= 3
            && word
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        {
            named += 1;
            if !code.contains(&format!("fn {word}(")) {
                violations.push(word.to_owned());
            }
        }
    }
    none("promises without a test", violations);
    assert!(named > 0, "the README's promises name their tests");
}
