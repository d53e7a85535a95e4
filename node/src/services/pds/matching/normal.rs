//! The form in which names, postcodes, addresses and numbers are compared. Every function here gives its own result
//! when it is given that result again.
//!
//! Names lose accents and case through `deunicode` (é→E, ø→O, ł→L, ß→SS, Æ→AE, Ж→ZH): two spellings that a keyboard or a
//! transfer between systems makes different are the same here. Apostrophes and dots go without a trace, hyphens and spaces
//! end a word; comparisons leave the words' limits out, so that O'Reilly, OReilly and O Reilly are one name, and so are
//! Smith-Jones and Smith Jones. What a change here would change is in the indexes already: see `FORMAT.md`.

use deunicode::deunicode_char;

/// Longest name in this form, in bytes; what is longer is cut off, on both sides of a comparison.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest postcode, in bytes.
pub const POSTCODE_BYTES_MAX: usize = 10;
/// Longest email address, in bytes.
pub const EMAIL_BYTES_MAX: usize = 190;
/// Longest telephone number, in digits.
pub const PHONE_DIGITS_MAX: usize = 24;
/// Bytes of a phonetic code.
pub const CODE_BYTES: usize = 4;

/// How a name sounds: its Soundex.
pub type Code = [u8; CODE_BYTES];

/// Words of a name that many names share: alone they say nothing.
const PARTICLES: [&str; 16] = [
    "ABU", "BIN", "BINT", "DAS", "DEL", "DELA", "DEN", "DER", "DOS", "IBN", "LES", "MAC", "SAN", "THE", "VAN", "VON",
];

/// Shortest word of a name that is compared on its own, in letters.
const WORD_LETTERS_MIN: usize = 3;

/// A name: upper-case ASCII letters and digits in words with one space between; empty when nothing is left of it.
pub fn name(text: &str) -> String {
    let mut normal = String::new();
    let mut gap = false;
    for c in text.chars() {
        if c.is_whitespace() || ends_word(c) {
            gap = !normal.is_empty();
            continue;
        }
        for ascii in deunicode_char(c)
            .unwrap_or("")
            .chars()
            .filter(char::is_ascii_alphanumeric)
        {
            if normal.len() + 1 + usize::from(gap) > NAME_BYTES_MAX {
                return normal;
            }
            if std::mem::take(&mut gap) {
                normal.push(' ');
            }
            normal.push(ascii.to_ascii_uppercase());
        }
    }
    normal
}

fn ends_word(c: char) -> bool {
    matches!(
        c,
        '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '_' | '/' | ',' | '&' | '+'
    )
}

/// A name in normal form without the limits of its words.
pub fn squeezed(name: &str) -> String {
    name.replace(' ', "")
}

/// Whether two names in normal form are the same but for the limits of words.
pub fn same(one: &str, other: &str) -> bool {
    let letters = |name: &str| name.bytes().filter(|byte| *byte != b' ').collect::<Vec<u8>>();
    one == other || letters(one) == letters(other)
}

/// American Soundex (as the National Archives write it): the first letter, then the digits of the consonants that
/// follow, three in all. Of neighbours with one digit only the first counts, also across H and W and for the first letter
/// itself; vowels and Y keep them apart. `None` for a name without letters.
pub fn soundex(name: &str) -> Option<Code> {
    let mut letters = name
        .bytes()
        .filter(u8::is_ascii_alphabetic)
        .map(|byte| byte.to_ascii_uppercase());
    let first = letters.next()?;
    let mut code = [first, b'0', b'0', b'0'];
    let mut filled = 1;
    let mut before = digit(first);
    for letter in letters {
        let sound = digit(letter);
        if let Sound::Digit(digit) = sound
            && sound != before
        {
            code[filled] = digit;
            filled += 1;
            if filled == CODE_BYTES {
                break;
            }
        }
        if sound != Sound::Silent {
            before = sound;
        }
    }
    Some(code)
}

/// What a letter is to Soundex.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sound {
    Digit(u8),
    Vowel,
    /// H and W: as if they were not there.
    Silent,
}

fn digit(letter: u8) -> Sound {
    match letter {
        b'B' | b'F' | b'P' | b'V' => Sound::Digit(b'1'),
        b'C' | b'G' | b'J' | b'K' | b'Q' | b'S' | b'X' | b'Z' => Sound::Digit(b'2'),
        b'D' | b'T' => Sound::Digit(b'3'),
        b'L' => Sound::Digit(b'4'),
        b'M' | b'N' => Sound::Digit(b'5'),
        b'R' => Sound::Digit(b'6'),
        b'H' | b'W' => Sound::Silent,
        _ => Sound::Vowel,
    }
}

/// The codes of a name in normal form: of the whole first, then of its words where it has several, none twice. Two names
/// sound alike where they share one.
pub fn codes(name: &str) -> Vec<Code> {
    let mut codes: Vec<Code> = soundex(name).into_iter().collect();
    if name.contains(' ') {
        for word in name.split(' ') {
            if word.len() >= WORD_LETTERS_MIN
                && !PARTICLES.contains(&word)
                && let Some(code) = soundex(word)
                && !codes.contains(&code)
            {
                codes.push(code);
            }
        }
    }
    codes
}

/// A postcode, or the beginning of one: upper-case letters and digits without a space. `None` when nothing or too much
/// is left.
pub fn postcode(text: &str) -> Option<String> {
    let normal: String = text
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_uppercase())
        .collect();
    (1..=POSTCODE_BYTES_MAX).contains(&normal.len()).then_some(normal)
}

/// An email address: lower case, without spaces around. `None` when it is empty or too long.
pub fn email(text: &str) -> Option<String> {
    let normal = text.trim().to_lowercase();
    (1..=EMAIL_BYTES_MAX).contains(&normal.len()).then_some(normal)
}

/// A telephone number: digits alone, `+` as 00, and without the code of the United Kingdom in front. `None` when there
/// are none or too many.
pub fn phone(text: &str) -> Option<String> {
    let text = text.trim();
    let mut normal = String::from(if text.starts_with('+') { "00" } else { "" });
    normal.extend(text.chars().filter(char::is_ascii_digit));
    while let Some(rest) = normal.strip_prefix("0044") {
        // `+44 (0)113` is written as often as `+44 113`.
        normal = format!("0{}", rest.strip_prefix('0').unwrap_or(rest));
    }
    let digits = text.bytes().any(|byte| byte.is_ascii_digit());
    (digits && normal.len() <= PHONE_DIGITS_MAX).then_some(normal)
}
