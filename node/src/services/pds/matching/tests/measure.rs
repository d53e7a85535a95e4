//! How long a search takes. Prints; asserts nothing about time.

use super::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::{Duration, Instant};

const PEOPLE: u32 = 200_000;
const SEARCHES: usize = 20_000;

fn syllables(rng: &mut StdRng, most: usize) -> String {
    const SYLLABLES: [&str; 24] = [
        "ba", "ber", "car", "den", "el", "fen", "gar", "hol", "in", "jon", "ke", "lar", "mith", "nor", "os", "pel",
        "rob", "son", "ton", "ul", "vin", "wil", "yor", "zan",
    ];
    // Skewed, as names are: the first few are many people's.
    let pick = |rng: &mut StdRng| SYLLABLES[(rng.random::<f64>().powi(2) * 24.0) as usize];
    let length = rng.random_range(2..=most);
    (0..length).map(|_| pick(rng)).collect()
}

fn somebody(rng: &mut StdRng, nine: u32) -> Person {
    let names = [syllables(rng, 3), syllables(rng, 2), syllables(rng, 2)];
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (year, month, day) = (
        rng.random_range(1935..2025),
        rng.random_range(1..=12),
        rng.random_range(1..=28),
    );
    let gender = if rng.random() { "male" } else { "female" };
    let postcode = format!("LS{} {}AE", rng.random_range(1..30), rng.random_range(1..10));
    let mut person = person(0, &names, gender, &format!("{year}-{month:02}-{day:02}"))
        .at(&postcode)
        .practice(&format!("Y{:05}", rng.random_range(0..100)))
        .reached(&format!("p{nine}@example.com"), &format!("07{nine:09}"));
    person.number = number(900_000_000 + nine * 3);
    person
}

fn percentiles(what: &str, mut times: Vec<Duration>, found: usize) {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_nanos() as f64 / 1000.0;
    println!(
        "{what}: p50 {:.1} us, p99 {:.1} us, {found} found by {}",
        at(50),
        at(99),
        times.len()
    );
}

#[test]
#[ignore = "a measurement: loads 200,000 people"]
fn how_long_a_search_takes() {
    let mut rng = StdRng::seed_from_u64(1);
    let mut world = World::new();
    let started = Instant::now();
    let mut asked = Vec::new();
    let (mut keys, mut card_bytes) = (0, 0);
    for nine in 0..PEOPLE {
        let person = somebody(&mut rng, nine);
        let card = person.card();
        (keys, card_bytes) = (keys + card.keys().len(), card_bytes + card.encode().len());
        put(&mut world, &person);
        if nine % (PEOPLE / 2000) == 0 {
            let text = |pointer: &str| {
                person
                    .patient
                    .pointer(pointer)
                    .and_then(Value::as_str)
                    .expect("it is there")
                    .to_owned()
            };
            asked.push((
                text("/name/0/family"),
                text("/name/0/given/0"),
                text("/gender"),
                text("/birthDate"),
            ));
        }
        if nine % 50_000 == 49_999 {
            world.checkpoint();
        }
    }
    world.checkpoint();
    let people = f64::from(PEOPLE);
    println!(
        "loaded in {:.1} s, {:.1} keys and {:.0} bytes of card each, ledger {} MB",
        started.elapsed().as_secs_f64(),
        keys as f64 / people,
        f64::from(card_bytes as u32) / people,
        world.ledger.sizes().expect("sizes").file_bytes >> 20
    );
    for (what, more) in [
        ("family, birth date, gender", ""),
        ("fuzzy", "&_fuzzy-match=true"),
        ("fuzzy, 31 days", "&_fuzzy-match=true&range"),
        ("wildcard, 31 days", "&wild&range"),
        ("family, all days", "&all"),
    ] {
        let (mut times, mut found) = (Vec::with_capacity(SEARCHES), 0);
        for at in 0..SEARCHES {
            let (family, given, gender, birth) = &asked[at * 7 % asked.len()];
            let given = if more.contains("fuzzy") {
                format!("&given={given}")
            } else {
                String::new()
            };
            let family = if more.contains("wild") {
                format!("{}*", &family[..3])
            } else {
                family.clone()
            };
            let birth = match (more.contains("range"), more.contains("all")) {
                (true, _) => format!("birthdate=ge{month}-01&birthdate=le{month}-28", month = &birth[..7]),
                (false, true) => "birthdate=ge1900-01-01".to_owned(),
                (false, false) => format!("birthdate={birth}"),
            };
            let flags = more.replace("&range", "").replace("&wild", "").replace("&all", "");
            let pairs = pairs(&format!("family={family}{given}&gender={gender}&{birth}{flags}"));
            let started = Instant::now();
            let search = Search::parse(&pairs, Mode::Worker).expect("a search");
            let matches = super::super::search(&world.ledger, &search);
            times.push(started.elapsed());
            found += usize::from(matches.is_ok_and(|matches| !matches.is_empty()));
        }
        percentiles(what, times, found);
    }
    let card = somebody(&mut rng, PEOPLE).card();
    let started = Instant::now();
    for _ in 0..1000 {
        let (twins, _) = super::super::creating::twins(&world.ledger, &card);
        assert!(twins.len() < 50);
    }
    println!("twins: mean {:.1} us", started.elapsed().as_micros() as f64 / 1000.0);
}
