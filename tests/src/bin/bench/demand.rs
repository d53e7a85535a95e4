//! Clients of demographics that drive load from one thread, each on a connection that it keeps.

use crate::people::Person;
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;
use vertebra_tests::wire::{Answer, Connection, Target};

const BASE: &str = "/personal-demographics/FHIR/R4";

/// One kept connection with a worker's token.
pub struct Door {
    connection: Connection,
    host: String,
    authorization: String,
}

impl Door {
    /// Connects.
    pub async fn open(target: &Target, token: &str) -> Door {
        Door {
            connection: Connection::open(target).await.expect("the server accepts"),
            host: target.host.clone(),
            authorization: format!("Bearer {token}"),
        }
    }

    /// As many as wanted.
    pub async fn several(count: usize, target: &Target, token: &str) -> Vec<Door> {
        let mut doors = Vec::new();
        for _ in 0..count {
            doors.push(Door::open(target, token).await);
        }
        doors
    }

    async fn ask(&mut self, method: &str, path: &str, extra: &[(&str, &str)], body: &[u8]) -> Answer {
        let request = new_uuid();
        let mut headers = vec![
            ("Host", self.host.as_str()),
            ("Authorization", self.authorization.as_str()),
            ("X-Request-ID", request.as_str()),
        ];
        headers.extend_from_slice(extra);
        let answer = self.connection.exchange(method, path, &headers, body).await;
        answer.unwrap_or_else(|error| panic!("{method} got no answer: {error}"))
    }
}

fn new_uuid() -> String {
    let bits = rand::random::<u128>();
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        (bits >> 96) as u32,
        (bits >> 80) as u16,
        (bits >> 68) as u16 & 0xfff,
        (bits >> 56) as u16 & 0xfff,
        bits as u64 & 0xffff_ffff_ffff
    )
}

/// A client that does one thing again and again.
pub trait Client: Send + 'static {
    /// Once.
    fn step(&mut self) -> impl Future<Output = ()> + Send;
}

/// Lets each client do its thing `rounds` times, all at once; the clients, and the time of each step in seconds, sorted.
pub async fn together<C: Client>(clients: Vec<C>, rounds: u64) -> (Vec<C>, Vec<f64>) {
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            tokio::spawn(async move {
                let mut times = Vec::with_capacity(rounds as usize);
                for _ in 0..rounds {
                    let started = Instant::now();
                    client.step().await;
                    times.push(started.elapsed().as_secs_f64());
                }
                (client, times)
            })
        })
        .collect();
    let (mut clients, mut all) = (Vec::new(), Vec::new());
    for task in tasks {
        let (client, times) = task.await.expect("no client panics");
        clients.push(client);
        all.extend(times);
    }
    all.sort_by(f64::total_cmp);
    (clients, all)
}

/// The time that so many per cent of the sorted `times` are not above, in milliseconds.
pub fn percentile_ms(times: &[f64], percent: usize) -> f64 {
    times
        .get(times.len().saturating_sub(1) * percent / 100)
        .map_or(f64::NAN, |time| time * 1e3)
}

/// Reads patients, or the same file of a peer.
pub struct Reader {
    door: Door,
    what: What,
    /// Bytes of all answers' bodies.
    pub bytes: u64,
}

enum What {
    Patients(Arc<[u64]>),
    File(&'static str),
}

impl Reader {
    /// Random ones of these.
    pub fn of_patients(door: Door, numbers: &Arc<[u64]>) -> Reader {
        Reader {
            door,
            what: What::Patients(numbers.clone()),
            bytes: 0,
        }
    }

    /// This path.
    pub fn of_file(door: Door, path: &'static str) -> Reader {
        Reader {
            door,
            what: What::File(path),
            bytes: 0,
        }
    }
}

impl Client for Reader {
    async fn step(&mut self) {
        let path = match &self.what {
            What::Patients(numbers) => {
                let number = numbers[rand::random_range(0..numbers.len())];
                format!("{BASE}/Patient/{number:010}")
            }
            What::File(path) => (*path).to_owned(),
        };
        let answer = self.door.ask("GET", &path, &[], b"").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        self.bytes += answer.body.len() as u64;
    }
}

/// Changes the telephone numbers of its own patients, one after the other, each change on the version before.
pub struct Updater {
    door: Door,
    own: Vec<Own>,
    done: usize,
}

struct Own {
    path: String,
    place: usize,
    element: String,
    etag: String,
}

impl Updater {
    /// Those of `people` who have a telephone number. Each is read once for its version.
    pub async fn of(mut door: Door, people: Vec<Person>) -> Updater {
        let mut own = Vec::new();
        for person in people {
            let Some((place, element)) = person.phone else {
                continue;
            };
            let path = format!("{BASE}/Patient/{}", person.number);
            let answer = door.ask("GET", &path, &[], b"").await;
            let etag = answer.header("etag").expect("a patient has a version").to_owned();
            own.push(Own {
                path,
                place,
                element,
                etag,
            });
        }
        assert!(!own.is_empty(), "somebody has a telephone number");
        Updater { door, own, done: 0 }
    }
}

impl Client for Updater {
    async fn step(&mut self) {
        let at = self.done % self.own.len();
        let own = &mut self.own[at];
        // A new one for each round, so that every request changes something.
        let value = format!("01632960{:03}", (self.done / 7 + self.done) % 1000);
        let body = format!(
            "{{\"patches\":[{{\"op\":\"test\",\"path\":\"/telecom/{0}/id\",\"value\":\"{1}\"}},\
             {{\"op\":\"replace\",\"path\":\"/telecom/{0}/value\",\"value\":\"{value}\"}}]}}",
            own.place, own.element
        );
        let headers = [
            ("If-Match", own.etag.as_str()),
            ("Content-Type", "application/json-patch+json"),
        ];
        let answer = self.door.ask("PATCH", &own.path, &headers, body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        own.etag = answer.header("etag").expect("an update tells the version").to_owned();
        self.done += 1;
    }
}

/// Searches for people that are there.
pub struct Searcher {
    door: Door,
    people: Arc<[Person]>,
    fuzzy: bool,
}

impl Searcher {
    /// Random ones of `people`.
    pub fn of(door: Door, people: &Arc<[Person]>, fuzzy: bool) -> Searcher {
        Searcher {
            door,
            people: people.clone(),
            fuzzy,
        }
    }
}

impl Client for Searcher {
    async fn step(&mut self) {
        let person = &self.people[rand::random_range(0..self.people.len())];
        let (family, birth) = (escaped(&person.family), &person.birth);
        let path = if self.fuzzy {
            let given = escaped(&person.given);
            format!("{BASE}/Patient?_fuzzy-match=true&family={family}&given={given}&birthdate=eq{birth}")
        } else {
            let gender = &person.gender;
            format!("{BASE}/Patient?family={family}&gender={gender}&birthdate=eq{birth}")
        };
        let answer = self.door.ask("GET", &path, &[], b"").await;
        let text = std::str::from_utf8(&answer.body).expect("an answer is text");
        assert!(
            answer.status == 200 && text.contains(&person.number),
            "not found: {text}"
        );
    }
}

fn escaped(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}
