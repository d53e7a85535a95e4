//! The NHSMESH authorization header. What must hold: a header that parses is signed by nobody unless its hash is the
//! one that key and password give; the right hash makes it good under that key, alone or as the previous one, and
//! under no other key or password; of all spellings of one token exactly one is accepted, once.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vertebra::auth::nhsmesh::{SharedKeys, Token};
use vertebra::auth::nonces::{Nonces, Spend};
use vertebra::base::Timestamp;
use vertebra_fuzz::hash;

const KEY: &[u8] = b"TestKey";
const PASSWORD: &str = "password";
const VALIDITY_MS: u64 = 2 * 3600 * 1000;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Some(token) = Token::parse(text) else { return };
    let keys = SharedKeys::new(KEY, None);
    let other = SharedKeys::new(b"OtherKey", None);
    let rotated = SharedKeys::new(b"OtherKey", Some(KEY));

    let (scheme, rest) = text.trim().split_once(' ').expect("it parsed");
    assert!(scheme.eq_ignore_ascii_case("NHSMESH"));
    let parts: Vec<&str> = rest.split(':').collect();
    let [mailbox, nonce, count, timestamp, given] = parts[..] else {
        panic!("it parsed with {} parts", parts.len());
    };
    assert_eq!(token.mailbox, mailbox);
    assert!(!format!("{token:?}").contains(nonce) || "Token(redacted)".contains(nonce));
    assert_eq!(token.stamped.calendar().strftime("%Y%m%d%H%M").to_string(), timestamp);

    let right = hash(KEY, mailbox, nonce, count, PASSWORD, timestamp);
    assert_eq!(token.signed_by(&keys, PASSWORD), given.eq_ignore_ascii_case(&right));
    assert!(!token.signed_by(&other, PASSWORD), "a token of another key");

    let good = format!("NHSMESH {mailbox}:{nonce}:{count}:{timestamp}:{right}");
    let signed = Token::parse(&good).expect("only its hash is another");
    assert!(signed.signed_by(&keys, PASSWORD) && signed.signed_by(&rotated, PASSWORD));
    assert!(!signed.signed_by(&other, PASSWORD) && !signed.signed_by(&keys, "Password"));

    accepted_once(&signed, &good);
    moved_parts_are_other_tokens(&signed, &keys, &parts, &right);
});

/// Every spelling of a token is one token, good within its time and once.
fn accepted_once(signed: &Token<'_>, good: &str) {
    let (rest, right) = good.rsplit_once(':').expect("five parts");
    let upper = format!(" nhsmesh{}:{} ", &rest[7..], right.to_ascii_uppercase());
    let spellings = [good, &upper, good];
    let nonces = Nonces::new(1 << 16, VALIDITY_MS);
    let now = signed.stamped.plus_ms(1);
    assert!(signed.in_time(now, VALIDITY_MS));
    let mut first = 0;
    for spelling in spellings {
        let token = Token::parse(spelling).expect("the same token in another spelling");
        assert_eq!(token.fingerprint(), signed.fingerprint());
        match nonces.spend(&token.fingerprint(), token.stamped, now) {
            Spend::First => first += 1,
            Spend::Replayed => {}
            Spend::TooOld | Spend::Full => panic!("it is in time and the cache has room"),
        }
    }
    assert_eq!(first, 1, "one of several is the first");
    // Once its time is over it is refused, also when the clock is set back.
    let late = Timestamp::from_ms(signed.stamped.ms() + 2 * VALIDITY_MS);
    assert!(!signed.in_time(late, VALIDITY_MS));
    for now in [late, now] {
        assert_ne!(nonces.spend(&signed.fingerprint(), signed.stamped, now), Spend::First);
    }
}

/// The hash of one token does not sign another: not one with a part changed, and not one with two parts exchanged.
fn moved_parts_are_other_tokens(signed: &Token<'_>, keys: &SharedKeys, parts: &[&str], right: &str) {
    let (mailbox, nonce, count, timestamp) = (parts[0], parts[1], parts[2], parts[3]);
    let longer = format!("{mailbox}{nonce}");
    for (mailbox, nonce, count) in [
        (nonce, mailbox, count),
        (longer.as_str(), nonce, count),
        (mailbox, nonce, "7"),
        (mailbox, count, count),
    ] {
        if (mailbox, nonce, count) == (parts[0], parts[1], parts[2]) {
            continue;
        }
        let forged = format!("NHSMESH {mailbox}:{nonce}:{count}:{timestamp}:{right}");
        let Some(forged) = Token::parse(&forged) else { continue };
        assert!(!forged.signed_by(keys, PASSWORD), "a forged token");
        assert_ne!(forged.fingerprint(), signed.fingerprint());
    }
}
