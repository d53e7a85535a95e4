//! Identifiers, parsed once: MAC addresses, host names, releases, stages; and the clock's moments.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub type Moment = i64;

/// Now, by this host's clock.
pub fn now() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A moment for people, in UTC: `2026-11-26 14:03:05`.
pub fn moment_text(moment: Moment) -> String {
    match jiff::Timestamp::from_second(moment) {
        Ok(timestamp) => timestamp.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => "an impossible time".to_owned(),
    }
}

/// Why a name was not taken: one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadName(pub String);

macro_rules! text_type {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl $name {
            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

/// A hardware address, lower case with colons: `52:54:00:12:34:56`. Unicast, not all zero.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(String);

text_type!(Mac);

impl Mac {
    /// With hyphens, as in file names: `52-54-00-12-34-56`.
    pub fn hyphens(&self) -> String {
        self.0.replace(':', "-")
    }
}

impl FromStr for Mac {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Mac, BadName> {
        let bad = |why: &str| BadName(format!("`{}` is not a MAC address: {why}", shown(text)));
        let separator = if text.contains('-') { '-' } else { ':' };
        let pairs: Vec<&str> = text.split(separator).collect();
        let hexadecimal = |pair: &&str| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
        if pairs.len() != 6 || !pairs.iter().all(hexadecimal) {
            return Err(bad("write six pairs of hexadecimal digits, as 52:54:00:12:34:56"));
        }
        let mac = pairs.join(":").to_ascii_lowercase();
        let first = u8::from_str_radix(pairs[0], 16).map_err(|_| bad("its first pair is no number"))?;
        if first & 1 == 1 {
            return Err(bad("it is a multicast address, which no machine has"));
        }
        if mac == "00:00:00:00:00:00" {
            return Err(bad("it is all zero"));
        }
        Ok(Mac(mac))
    }
}

/// A host name in lower case, one or more labels: `n1.north.example.nhs.uk`. Certnames, names of machines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

text_type!(HostName);

impl HostName {
    /// With hyphens instead of dots: one label.
    pub fn hyphens(&self) -> String {
        self.0.replace('.', "-")
    }
}

impl FromStr for HostName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<HostName, BadName> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if text.len() > 253 || !text.split('.').all(label) {
            let why = "write lower-case letters, digits and hyphens, with dots between";
            return Err(BadName(format!("`{}` is not a host name: {why}", shown(text))));
        }
        Ok(HostName(text.to_owned()))
    }
}

/// One word in lower case: a site (data centre), a role, a network interface. At most 32 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Word(String);

text_type!(Word);

impl FromStr for Word {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Word, BadName> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        if !first || text.len() > 32 || !text.bytes().all(allowed) {
            let why = "write at most 32 lower-case letters, digits, hyphens and underscores, a letter first";
            return Err(BadName(format!("`{}` is not a word: {why}", shown(text))));
        }
        Ok(Word(text.to_owned()))
    }
}

/// A release: `2026.11.26-1`. Letters, digits, dots and hyphens, at most 64, a letter or digit first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleaseId(String);

text_type!(ReleaseId);

impl FromStr for ReleaseId {
    type Err = BadName;

    fn from_str(text: &str) -> Result<ReleaseId, BadName> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if !first || text.len() > 64 || text.contains("..") || !text.bytes().all(allowed) {
            let why = "write at most 64 letters, digits, single dots and hyphens, as 2026.11.26-1";
            return Err(BadName(format!("`{}` is not a release: {why}", shown(text))));
        }
        Ok(ReleaseId(text.to_owned()))
    }
}

/// A SHA-256 in 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256(String);

text_type!(Sha256);

impl FromStr for Sha256 {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Sha256, BadName> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 64 || !text.bytes().all(digit) {
            let why = "write 64 lower-case hexadecimal digits";
            return Err(BadName(format!("`{}` is not a SHA-256: {why}", shown(text))));
        }
        Ok(Sha256(text.to_owned()))
    }
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$each])* $variant),* }

        impl $name {
            /// As text.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),* }
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl FromStr for $name {
            type Err = BadName;
            fn from_str(text: &str) -> Result<$name, BadName> {
                match text {
                    $($text => Ok($name::$variant),)*
                    _ => Err(BadName(format!("`{}` is none of: {}", shown(text), [$($text),*].join(", ")))),
                }
            }
        }
    };
}

choice! {
    /// What a machine's firmware is.
    Firmware {
        /// Legacy BIOS: PXE, then iPXE.
        Bios = "bios",
        /// UEFI: HTTP boot of the signed image, or PXE, then iPXE.
        Uefi = "uefi",
    }
}

choice! {
    /// Which kernel and drivers a release carries.
    Flavour {
        /// Full kernel, firmware packages.
        Hardware = "hardware",
        /// Small kernel for virtual machines.
        Test = "test",
    }
}

choice! {
    /// How far a boot came, as the machine itself reports it.
    Stage {
        /// The small root runs and has an address.
        Initrd = "initrd",
        /// The root was fetched and its digest is right.
        Root = "root",
        /// The data disk is mounted.
        Disk = "disk",
        /// The machine knows who it is.
        Enrolled = "enrolled",
        /// The first Puppet run is over.
        Puppet = "puppet",
        /// The node takes writes.
        Serving = "serving",
    }
}

/// At most 60 characters of what somebody wrote, without control characters: what may stand in a message.
pub fn shown(text: &str) -> String {
    cut(text, 60)
}

/// As [`shown`], at most 400 characters: a sentence that a machine or a service sent.
pub fn shown_long(text: &str) -> String {
    cut(text, 400)
}

fn cut(text: &str, length: usize) -> String {
    let mut short: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(length)
        .collect();
    if text.chars().nth(length).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_told_from_what_only_looks_like_one() {
        assert_eq!(
            "52-54-00-AB-cd-0f".parse::<Mac>().expect("a MAC").as_str(),
            "52:54:00:ab:cd:0f"
        );
        let bad = [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:56:78",
            "52:54:00:12:34:5g",
            "525400123456",
            "53:54:00:12:34:56",
            "ff:ff:ff:ff:ff:ff",
            "00:00:00:00:00:00",
            "52:54:00-12:34:56",
            " 52:54:00:12:34:56",
            "5:54:00:12:34:56",
        ];
        for text in bad {
            assert!(text.parse::<Mac>().is_err(), "{text:?} is refused");
        }
    }

    #[test]
    fn names_that_could_leave_their_folder_or_line_are_refused() {
        for text in [
            "",
            ".",
            "..",
            "a..b",
            "a/b",
            "-a",
            "a-",
            "A.b",
            "a b",
            "a\nb",
            "ä.b",
            &"a".repeat(64),
        ] {
            assert!(text.parse::<HostName>().is_err(), "{text:?} is refused");
        }
        for text in [
            "",
            ".",
            "../x",
            "a/b",
            "a..b",
            "-1",
            "a b",
            "a\n",
            "a;b",
            &"a".repeat(65),
        ] {
            assert!(text.parse::<ReleaseId>().is_err(), "{text:?} is refused");
        }
        for text in ["", "North", "1north", "a.b", "a/b", "a,b", &"a".repeat(33)] {
            assert!(text.parse::<Word>().is_err(), "{text:?} is refused");
        }
        for text in ["", &"a".repeat(63), &"A".repeat(64), &"g".repeat(64)] {
            assert!(text.parse::<Sha256>().is_err(), "{text:?} is refused");
        }
    }
}
