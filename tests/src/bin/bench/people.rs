//! Synthetic people for the demographics benches: written to a file by `vertebra synth`, read back here for what clients ask.

use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;
use vertebra_tests::node::binary;

/// Of how many people more than their number is kept, about.
const KEPT_MAX: u64 = 100_000;
/// How a line of a patient begins; the number follows.
const START: &str = r#"{"resourceType":"Patient","id":""#;
/// What a line says of a patient whose record is shown and changed like most.
const OPEN: &str = r#""code":"U","display":"unrestricted""#;

/// What is asked of one person.
#[derive(Clone, Debug)]
pub struct Person {
    /// NHS number.
    pub number: String,
    /// Family name.
    pub family: String,
    /// First given name.
    pub given: String,
    /// Date of birth, YYYY-MM-DD.
    pub birth: String,
    /// Gender.
    pub gender: String,
    /// Place and identifier of a telephone number in `telecom`.
    pub phone: Option<(usize, String)>,
}

impl Person {
    /// The person of a line; `None` when it is none who can be searched for.
    pub fn of(line: &str) -> Option<Person> {
        if !line.starts_with(START) || !line.contains(OPEN) {
            return None;
        }
        let patient: Value = serde_json::from_str(line).expect("synthetic people are JSON");
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let names = patient["name"].as_array()?;
        let name = names.iter().find(|name| name["use"] == "usual")?;
        let telecom = patient["telecom"].as_array().map(Vec::as_slice).unwrap_or_default();
        let phone = telecom.iter().position(|one| one["system"] == "phone");
        Some(Person {
            number: text(&patient["id"])?,
            family: text(&name["family"])?,
            given: text(&name["given"][0])?,
            birth: text(&patient["birthDate"])?,
            gender: text(&patient["gender"])?,
            phone: phone.and_then(|at| Some((at, text(&telecom[at]["id"])?))),
        })
    }
}

/// Writes people `from` up to `from + count`.
pub fn write(folder: &Path, from: u64, count: u64) -> PathBuf {
    let path = folder.join(format!("people-{from}-{count}.ndjson"));
    let mut command = Command::new(binary());
    command.args(["synth", "patients", "--seed", "7"]);
    command.args(["--from", &from.to_string(), "--count", &count.to_string()]);
    let status = command.arg("--output").arg(&path).status().expect("the binary starts");
    assert!(status.success(), "the people are written");
    path
}

/// Calls `each` with every line of a file.
pub fn lines(file: &Path, mut each: impl FnMut(&str)) {
    let mut reader = BufReader::with_capacity(1 << 20, File::open(file).expect("the people are there"));
    let mut line = String::new();
    while reader.read_line(&mut line).expect("people are UTF-8") > 0 {
        each(line.trim_end());
        line.clear();
    }
}

/// Who is in the node.
#[derive(Default)]
pub struct People {
    /// Everybody whose record is open, by number.
    pub numbers: Vec<u64>,
    /// Some of them, evenly drawn.
    pub some: Vec<Person>,
}

impl People {
    /// Adds those of a file of `count`.
    pub fn add(&mut self, file: &Path, count: u64) {
        let every = (count / KEPT_MAX).max(1);
        let mut met = 0;
        lines(file, |line| {
            let Some(rest) = line.strip_prefix(START).filter(|_| line.contains(OPEN)) else {
                return;
            };
            let number = rest.get(..10).and_then(|digits| digits.parse().ok());
            self.numbers.push(number.expect("a patient has a number of ten digits"));
            met += 1;
            if met % every == 0 {
                self.some.extend(Person::of(line));
            }
        });
    }
}
