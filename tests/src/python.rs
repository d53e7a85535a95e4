//! Clients written by others, unmodified, in the Python environment that the Makefile builds.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The interpreter: `VERTEBRA_PYTHON`, else that of `target/venv`.
pub fn interpreter() -> PathBuf {
    match std::env::var_os("VERTEBRA_PYTHON") {
        Some(path) => PathBuf::from(path),
        None => workspace().join("target/venv/bin/python"),
    }
}

/// The workspace's root folder.
pub fn workspace() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("the tests crate lies in the workspace")
        .to_owned()
}

/// Runs one of the scripts in `tests/python`; what it printed.
pub fn run(script: &str, arguments: &[&str]) -> Output {
    let path = workspace().join("tests/python").join(script);
    let output = Command::new(interpreter()).arg(&path).args(arguments).output();
    output.unwrap_or_else(|error| {
        panic!(
            "{} does not start ({error}): `make venv` builds it",
            interpreter().display()
        )
    })
}

/// Runs a script that must succeed; its standard output.
pub fn must_pass(script: &str, arguments: &[&str]) -> String {
    let output = run(script, arguments);
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{script} failed: {out}\n{err}");
    out.into_owned()
}
