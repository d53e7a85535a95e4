//! Values of the ledger: a version byte, then postcard. Golden bytes in each service's tests hold every one of them.
//!
//! Upgrade rule: a release reads every version up to its own and writes its own; a value changes shape only together
//! with a new version and a conversion in [`read`]. A later version than ours means that an older release was started
//! on newer data: the process ends rather than misread it.

use crate::ledger::{Read, Table, Writer};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Version of every value of this release.
pub(super) const VALUE_VERSION: u8 = 1;

/// The value of a key that says everything itself.
pub(super) const NOTHING: [u8; 1] = [VALUE_VERSION];

/// The bytes of a value.
pub(super) fn write<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(&(VALUE_VERSION, value)).expect("values serialise into memory")
}

/// The value of such bytes. The ledger has checked them, so anything else is a bug or an older release on newer data.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> T {
    postcard::from_bytes(behind_version(bytes)).expect("the ledger gives back what was written")
}

/// The first field of a value, borrowed from its bytes; what follows is not looked at.
pub(super) fn read_first<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> T {
    let first = postcard::take_from_bytes(behind_version(bytes));
    first.expect("the ledger gives back what was written").0
}

fn behind_version(bytes: &[u8]) -> &[u8] {
    let (&version, rest) = bytes.split_first().expect("a value has a version byte");
    assert!(
        version == VALUE_VERSION,
        "a value has format {version}, this release reads {VALUE_VERSION}: start the newer release"
    );
    rest
}

/// Reads and decodes.
pub(super) fn get<T: DeserializeOwned>(state: &impl Read, table: Table, key: &[u8]) -> Option<T> {
    let mut value = None;
    state.with(table, key, &mut |bytes| value = Some(read(bytes)));
    value
}

/// Whether there is a value.
pub(super) fn exists(state: &impl Read, table: Table, key: &[u8]) -> bool {
    state.with(table, key, &mut |_| {})
}

/// Encodes and writes.
pub(super) fn put<T: Serialize>(writer: &mut Writer<'_>, table: Table, key: &[u8], value: &T) {
    writer.put(table, key, &write(value));
}
