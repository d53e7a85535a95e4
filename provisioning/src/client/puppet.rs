//! The files that Puppet's agent reads: `puppet.conf` and, until there is a certificate, `csr_attributes.yaml`.

use super::{Enrolled, Host, NodeError};
use std::fs;
use std::io;

/// Brings the files to what the enrolment says. Names and words in it were checked, so nothing needs quoting.
pub(super) fn write(host: &Host, enrolled: &Enrolled) -> Result<(), NodeError> {
    host.set_name(&enrolled.certname)?;
    let file = host.path("etc/puppet/puppet.conf");
    let before = fs::read_to_string(&file).unwrap_or_default();
    let after = with_settings(
        &before,
        &[
            ("certname", enrolled.certname.as_str()),
            ("server", enrolled.puppet_server.as_str()),
        ],
    );
    if before != after {
        host.write(&file, after.as_bytes(), 0o644)?;
    }
    let file = host.path("etc/puppet/csr_attributes.yaml");
    match &enrolled.token {
        Some(token) => {
            let text = format!(
                "---\ncustom_attributes:\n  1.2.840.113549.1.9.7: \"{token}\"\nextension_requests:\n  pp_role: \"{}\"\n  \
                 pp_datacenter: \"{}\"\n",
                enrolled.role, enrolled.datacentre
            );
            host.write(&file, text.as_bytes(), 0o600)
        }
        None => match fs::remove_file(&file) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(NodeError::Io { file, cause }),
            _ => Ok(()),
        },
    }
}

/// `puppet.conf` with these settings in `[main]`, and nowhere else; all other lines stay.
fn with_settings(text: &str, settings: &[(&str, &str)]) -> String {
    let ours = |line: &str| {
        let key = line.split('=').next().unwrap_or("").trim();
        line.contains('=') && settings.iter().any(|(name, _)| *name == key)
    };
    let mut lines: Vec<String> = text.lines().filter(|line| !ours(line)).map(str::to_owned).collect();
    let at = match lines.iter().position(|line| line.trim() == "[main]") {
        Some(at) => at + 1,
        None => {
            lines.insert(0, "[main]".to_owned());
            1
        }
    };
    for (offset, (name, value)) in settings.iter().enumerate() {
        lines.insert(at + offset, format!("{name} = {value}"));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::with_settings;

    #[test]
    fn a_puppet_conf_keeps_what_is_not_ours_and_is_the_same_the_second_time() {
        let settings = [("certname", "n1.north.example"), ("server", "puppet.example")];
        let debian = "[main]\nssldir = /var/lib/puppet/ssl\nserver=old\n\n[agent]\ncertname = other\n# server = x\n";
        let once = with_settings(debian, &settings);
        let right = "[main]\ncertname = n1.north.example\nserver = puppet.example\nssldir = /var/lib/puppet/ssl\n\n[agent]\n# server = x\n";
        assert_eq!(once, right);
        assert_eq!(with_settings(&once, &settings), once);
        assert_eq!(
            with_settings("", &settings),
            "[main]\ncertname = n1.north.example\nserver = puppet.example\n"
        );
    }
}
