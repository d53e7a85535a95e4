//! The effective configuration as text that is itself a valid configuration.

use super::{Config, numbers};

impl Config {
    /// Every key with the value in force, numbers with their unit and range behind. Paths of secrets, never values.
    pub fn effective(&self) -> String {
        let text = toml::to_string(self).expect("every value of a checked configuration has a TOML form");
        let numbers = numbers(self);
        let mut out = String::with_capacity(text.len() * 2);
        let mut section = String::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name.to_owned();
            }
            out.push_str(line);
            let key = line.split_once(" = ").map(|(key, _)| format!("{section}.{key}"));
            if let Some(number) = key.and_then(|key| numbers.iter().find(|n| n.key == key)) {
                let width = 44_usize.saturating_sub(line.len()).max(1);
                let unit = if number.unit.is_empty() { "count" } else { number.unit };
                let (min, max) = (number.range.start(), number.range.end());
                out.push_str(&format!("{:width$}# {unit}, {min} to {max}", ""));
            }
            out.push('\n');
        }
        out
    }
}
