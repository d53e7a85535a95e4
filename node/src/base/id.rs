//! Identifiers. Each is a type of its own, so that one is never passed for another.

use serde::{Deserialize, Serialize};
use std::fmt;

use super::time::Timestamp;

/// A member of the cluster. 1 on a cluster of one.
pub type NodeId = u64;

/// Position in the replicated log; openraft numbers from 0.
pub type LogIndex = u64;

/// BLAKE3 digest of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", hex::encode(&self.0[..8]))
    }
}

/// One upload of a large body: 48 bits of start time in milliseconds of log time, then 80 random bits.
/// The time in it is the start of the upload's lease.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UploadId(pub u128);

impl UploadId {
    /// A new identifier for an upload that starts at `at`.
    pub fn new(at: Timestamp, random: u128) -> UploadId {
        UploadId((u128::from(at.ms()) << 80) | (random & ((1 << 80) - 1)))
    }

    /// When the upload started.
    pub fn started(self) -> Timestamp {
        Timestamp::from_ms((self.0 >> 80) as u64)
    }
}

impl fmt::Debug for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Identifies one request in logs, audit and answers. Ours, never a client's text.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether a text has the form of a UUID, of any version.
pub fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Code of an organisation in the Organisation Data Service: 1 to 12 upper-case letters and digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct OdsCode(String);

impl TryFrom<String> for OdsCode {
    type Error = &'static str;

    fn try_from(text: String) -> Result<OdsCode, Self::Error> {
        OdsCode::parse(&text).ok_or("an ODS code is 1 to 12 letters and digits")
    }
}

impl OdsCode {
    /// Parses an ODS code; letters are made upper-case. `None` when empty, too long, or with other characters.
    pub fn parse(text: &str) -> Option<OdsCode> {
        let fits = (1..=12).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        fits.then(|| OdsCode(text.to_ascii_uppercase()))
    }

    /// The code as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OdsCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for OdsCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A patient's NHS number: ten digits, the last a check digit. Its `Debug` shows nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64")]
pub struct NhsNumber(u64);

/// Bytes of an NHS number in a ledger key.
pub const NHS_NUMBER_KEY_BYTES: usize = 5;

impl TryFrom<u64> for NhsNumber {
    type Error = &'static str;

    fn try_from(number: u64) -> Result<NhsNumber, Self::Error> {
        NhsNumber::from_digits(number).ok_or("not an NHS number")
    }
}

impl NhsNumber {
    /// Parses ten digits; `None` for other lengths, other characters or a check digit that does not fit.
    pub fn parse(text: &str) -> Option<NhsNumber> {
        let fits = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| text.parse().ok().and_then(NhsNumber::from_digits))
            .flatten()
    }

    fn from_digits(number: u64) -> Option<NhsNumber> {
        let nine = u32::try_from(number / 10).ok().filter(|nine| *nine < 1_000_000_000)?;
        NhsNumber::with_check_digit(nine).filter(|checked| checked.0 == number)
    }

    /// The number that starts with these nine digits; `None` where there is none (the check digit would be ten).
    ///
    /// # Panics
    /// With more than nine digits.
    pub fn with_check_digit(nine: u32) -> Option<NhsNumber> {
        assert!(nine < 1_000_000_000, "nine digits");
        let (mut rest, mut sum) = (nine, 0);
        // Weights 10 to 2 from the first digit, so 2 to 10 from the last.
        for weight in 2..=10 {
            sum += (rest % 10) * weight;
            rest /= 10;
        }
        match 11 - sum % 11 {
            10 => None,
            11 => Some(NhsNumber(u64::from(nine) * 10)),
            check => Some(NhsNumber(u64::from(nine) * 10 + u64::from(check))),
        }
    }

    /// As a ledger key: big-endian, so that keys sort as the numbers do.
    pub fn key(self) -> [u8; NHS_NUMBER_KEY_BYTES] {
        let [_, _, _, key @ ..] = self.0.to_be_bytes();
        key
    }

    /// From a ledger key, or the end of one.
    ///
    /// # Panics
    /// When the last five bytes are no NHS number: only keys that we wrote are read.
    pub fn of_key(key: &[u8]) -> NhsNumber {
        let at = key
            .len()
            .checked_sub(NHS_NUMBER_KEY_BYTES)
            .expect("a key ends in an NHS number");
        let number = key[at..].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        NhsNumber::from_digits(number).expect("a key ends in an NHS number")
    }
}

impl fmt::Display for NhsNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010}", self.0)
    }
}

impl fmt::Debug for NhsNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NhsNumber")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nhs_numbers_have_ten_digits_and_a_check_digit() {
        for good in [
            "9000000009",
            "9000000017",
            "9000000025",
            "9000000033",
            "9449304424",
            "4010232137",
        ] {
            let number = NhsNumber::parse(good).expect(good);
            assert_eq!(number.to_string(), good);
            assert_eq!(NhsNumber::of_key(&number.key()), number);
            assert_eq!(format!("{number:?}"), "NhsNumber");
        }
        for bad in [
            "",
            "9000000000",
            "900000000",
            "90000000090",
            "900 000 009",
            "90000O0009",
            "-900000009",
            "9000000008",
        ] {
            assert_eq!(NhsNumber::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn nine_digits_whose_check_would_be_ten_start_no_number() {
        let none = (0..1000)
            .filter(|nine| NhsNumber::with_check_digit(*nine).is_none())
            .count();
        assert!(
            (60..=120).contains(&none),
            "about one in eleven, not {none} in a thousand"
        );
        assert_eq!(
            NhsNumber::with_check_digit(0).map(|zero| zero.to_string()).as_deref(),
            Some("0000000000")
        );
    }

    #[test]
    fn keys_sort_as_the_numbers_do() {
        let mut numbers: Vec<NhsNumber> = (0..2000)
            .filter_map(|n| NhsNumber::with_check_digit(n * 499_999))
            .collect();
        numbers.sort();
        assert!(numbers.windows(2).all(|two| two[0].key() < two[1].key()));
    }
}
