//! The name in a client certificate: `local_id.ods_code.api.mesh-client.nhs.uk`.
//!
//! The specification calls the local identifier a server's name or a mailbox identifier, so the organisation is what
//! binds; a local identifier that names a mailbox binds to that mailbox too (whoever knows the mailboxes checks it).

use crate::base::OdsCode;

/// What follows the organisation in the common name.
const SUFFIX: &str = ".api.mesh-client.nhs.uk";

/// Common name of the sandbox's own client certificate, which may act for every mailbox of the sandbox and for none elsewhere.
pub const SANDBOX_COMMON_NAME: &str = "sandbox";

/// A common name taken apart; borrowed, so that it costs no allocation but the organisation's code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name<'a> {
    /// Server name or mailbox identifier.
    pub local_id: &'a str,
    /// Organisation.
    pub ods: OdsCode,
}

/// Takes a common name apart; `None` when it has another form. Letter case does not matter, as in any host name.
pub fn parse(common_name: &str) -> Option<Name<'_>> {
    let stem_bytes = common_name.len().checked_sub(SUFFIX.len())?;
    let suffix = common_name.get(stem_bytes..)?;
    if !suffix.eq_ignore_ascii_case(SUFFIX) {
        return None;
    }
    let (local_id, ods) = common_name[..stem_bytes].rsplit_once('.')?;
    if local_id.is_empty() {
        return None;
    }
    Some(Name {
        local_id,
        ods: OdsCode::parse(ods)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_name_gives_local_id_and_organisation() {
        let name = parse("SERVER001.x26.API.mesh-client.nhs.uk").expect("well formed");
        assert_eq!((name.local_id, name.ods.as_str()), ("SERVER001", "X26"));
        let dotted = parse("a.b.X27.api.mesh-client.nhs.uk").expect("a local id may hold dots");
        assert_eq!((dotted.local_id, dotted.ods.as_str()), ("a.b", "X27"));
    }

    #[test]
    fn other_names_are_nobody() {
        for name in [
            "",
            "sandbox",
            "X26.api.mesh-client.nhs.uk",
            ".X26.api.mesh-client.nhs.uk",
            "a..api.mesh-client.nhs.uk",
            "a.X26.api.mesh-client.nhs.uk.evil.example",
            "a.X26-1.api.mesh-client.nhs.uk",
            "a.X26.mesh-client.nhs.uk",
            "ünïcode.api.mesh-client.nhs.u\u{212a}",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
