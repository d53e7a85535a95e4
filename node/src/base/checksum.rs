//! CRC-32C (Castagnoli, as in iSCSI), the checksum of everything on disk.

use crc_fast::{CrcAlgorithm, Digest, crc32_iscsi};

/// The checksum of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32_iscsi(bytes)
}

/// The checksum of what `crc` is the checksum of, followed by `bytes`.
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    // The library keeps the register, which is the checksum's complement.
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!crc));
    digest.update(bytes);
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, section B.4.
    #[test]
    fn the_values_of_the_standard_come_out() {
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&ascending), 0x46dd_794e);
        assert_eq!(crc32c(b""), 0);
    }

    #[test]
    fn appended_parts_give_the_checksum_of_the_whole_wherever_they_are_cut() {
        let bytes: Vec<u8> = (0..3000u32).map(|at| (at * 31 % 251) as u8).collect();
        for cut in [0, 1, 3, 15, 16, 17, 255, 256, 1023, 2999, 3000] {
            let (first, second) = bytes.split_at(cut);
            assert_eq!(crc32c_append(crc32c(first), second), crc32c(&bytes), "cut at {cut}");
        }
    }
}
