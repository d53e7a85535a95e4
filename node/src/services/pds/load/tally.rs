//! How loads are reconciled: counts, and sums of digests that do not depend on the order.

use crate::base::Digest;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A Patient.
    Patient,
    /// A RelatedPerson.
    RelatedPerson,
    /// A Coverage.
    Coverage,
}

/// A sum of digests modulo 2^256, each read as a little-endian number; shown as its 32 bytes in hexadecimal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DigestSum([u8; 32]);

impl DigestSum {
    /// Adds a number.
    fn plus(&mut self, other: &[u8; 32]) {
        let mut carry = 0;
        for (byte, other) in self.0.iter_mut().zip(other) {
            let sum = u16::from(*byte) + u16::from(*other) + carry;
            *byte = (sum & 0xFF) as u8;
            carry = sum >> 8;
        }
    }
}

impl fmt::Display for DigestSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl From<DigestSum> for String {
    fn from(sum: DigestSum) -> String {
        sum.to_string()
    }
}

impl TryFrom<String> for DigestSum {
    type Error = &'static str;

    fn try_from(text: String) -> Result<DigestSum, Self::Error> {
        let mut sum = [0; 32];
        hex::decode_to_slice(text, &mut sum).map_err(|_| "a sum of digests is 64 hexadecimal digits")?;
        Ok(DigestSum(sum))
    }
}

/// Some records: how many, and the sum of their digests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// Sum of their digests.
    pub digest: DigestSum,
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, digest: Digest) {
        self.count += 1;
        self.digest.plus(&digest.0);
    }

    /// Counts others.
    pub fn add_all(&mut self, other: &Tally) {
        self.count += other.count;
        self.digest.plus(&other.digest.0);
    }
}

/// Records by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tallies {
    /// Patients.
    pub patients: Tally,
    /// Related people, each line one.
    pub related_people: Tally,
    /// Coverage.
    pub coverage: Tally,
}

impl Tallies {
    /// Counts one more.
    pub fn add(&mut self, kind: Kind, digest: Digest) {
        match kind {
            Kind::Patient => self.patients.add(digest),
            Kind::RelatedPerson => self.related_people.add(digest),
            Kind::Coverage => self.coverage.add(digest),
        }
    }

    /// Counts others.
    pub fn add_all(&mut self, other: &Tallies) {
        self.patients.add_all(&other.patients);
        self.related_people.add_all(&other.related_people);
        self.coverage.add_all(&other.coverage);
    }

    /// How many of any kind.
    pub fn count(&self) -> u64 {
        self.patients.count + self.related_people.count + self.coverage.count
    }

    /// One sum over all kinds.
    pub fn digest(&self) -> DigestSum {
        let mut all = self.patients.digest;
        all.plus(&self.related_people.digest.0);
        all.plus(&self.coverage.digest.0);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_do_not_depend_on_the_order_and_tell_one_record_from_another() {
        let digests: Vec<Digest> = (0..200_u32).map(|at| Digest::of(&at.to_le_bytes())).collect();
        let sum = |digests: &mut dyn Iterator<Item = &Digest>| {
            let mut tally = Tally::default();
            digests.for_each(|digest| tally.add(*digest));
            tally
        };
        let whole = sum(&mut digests.iter());
        assert_eq!(sum(&mut digests.iter().rev()), whole);
        assert_ne!(sum(&mut digests.iter().skip(1)), whole);
        let mut parts = sum(&mut digests.iter().take(70));
        parts.add_all(&sum(&mut digests.iter().skip(70)));
        assert_eq!(parts, whole);
        // The carry goes from byte to byte and is lost at the end.
        let mut full = Tally::default();
        full.add(Digest([0xFF; 32]));
        full.add(Digest({
            let mut one = [0; 32];
            one[0] = 1;
            one
        }));
        assert_eq!(full.digest, DigestSum::default());
    }

    #[test]
    fn a_sum_is_told_in_hexadecimal_and_read_back() {
        let mut tally = Tally::default();
        tally.add(Digest::of(b"x"));
        let text = serde_json::to_string(&tally).expect("JSON");
        assert_eq!(serde_json::from_str::<Tally>(&text).expect("JSON"), tally);
        assert!(serde_json::from_str::<Tally>(r#"{"count":1,"digest":"12"}"#).is_err());
    }
}
