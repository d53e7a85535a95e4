//! `Mex-Chunk-Range` and the chunk number of a path: what is taken is a number between 1 and the total, written in
//! digits, and every such text is taken.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vertebra::services::mesh::api::{chunk_number, chunk_range};

/// The same grammar, worded the long way: digits alone, no sign, leading zeros allowed, within 32 bits.
fn number(text: &str) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    let mut value: u64 = 0;
    for character in text.chars() {
        let digit = "0123456789".find(character)?;
        value = (value * 10 + digit as u64).min(u64::from(u32::MAX) + 1);
    }
    u32::try_from(value).ok()
}

fuzz_target!(|input: (u32, &str)| {
    let (chunk, text) = input;
    assert_eq!(chunk_number(text), number(text));
    let expected = match text.splitn(2, ':').collect::<Vec<_>>()[..] {
        [first, total] => number(first.trim()).zip(number(total.trim())),
        _ => None,
    };
    let expected = expected.filter(|(first, total)| *first >= 1 && first <= total);
    // For the number that the range itself names, and for one that has nothing to do with it.
    for asked in [chunk, expected.map_or(chunk, |(first, _)| first)] {
        let taken = chunk_range(text, asked);
        assert_eq!(
            taken,
            expected.filter(|(first, _)| *first == asked).map(|(_, total)| total)
        );
        assert!(taken.is_none_or(|total| (1..=total).contains(&asked)));
    }
    if let Some((first, total)) = expected {
        assert_eq!(chunk_range(&format!("{first}:{total}"), first), Some(total));
    }
});
