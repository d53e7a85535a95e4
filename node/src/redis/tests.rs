use super::*;
use std::path::PathBuf;

const INFO: &str = "# Server\r\nredis_version:7.0.15\r\n# Memory\r\nused_memory:950\r\nmaxmemory:1000\r\n\
                    maxmemory_policy:noeviction\r\n# Persistence\r\naof_enabled:1\r\n# Replication\r\nrole:master\r\nconnected_slaves:2\r\n";

fn settings(place: Place) -> Settings {
    Settings {
        place,
        username: None,
        password: None,
        sentinel_password: None,
        tls: None,
        wait: Duration::from_millis(25),
    }
}

#[test]
fn a_server_is_judged_by_what_it_says_of_itself() {
    let server = Server::read(INFO);
    assert_eq!((server.version.as_str(), server.replicas), ("7.0.15", 2));
    assert_eq!(server.worries().len(), 1, "nine tenths: {:?}", server.worries());
    let evicting = Server::read(&INFO.replace("noeviction", "allkeys-lru").replace(":950", ":1"));
    assert!(evicting.worries()[0].contains("allkeys-lru"));
    let forgetful = Server::read(&INFO.replace("aof_enabled:1", "aof_enabled:0").replace(":950", ":1"));
    assert!(forgetful.worries()[0].contains("append-only"));
    assert_eq!(Server::read("").worries().len(), 2, "what says nothing is not trusted");
}

#[tokio::test]
async fn without_a_connection_nobody_waits() {
    let redis = Redis::new(Duration::from_secs(10));
    assert_eq!(redis.claim(b"key", 1).await, Claim::Unknown);
    assert_eq!(redis.charge(&[("key".to_owned(), 1)]).await, None);
    assert_eq!(redis.figures().claims_unknown.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn nothing_is_sent_in_the_clear_to_another_machine() {
    // An address of the documentation's range: nobody is there, and nobody is called.
    let refused = settings(Place::One("192.0.2.1:6379".to_owned())).open(0).await;
    let why = refused.expect_err("refused").to_string();
    assert!(why.contains("redis.ca"), "{why}");
}

#[tokio::test]
async fn a_password_that_cannot_be_read_names_its_file_alone() {
    let mut settings = settings(Place::One("127.0.0.1:1".to_owned()));
    settings.password = Some(PathBuf::from("/nowhere/password"));
    let why = settings.open(0).await.expect_err("refused").to_string();
    assert!(why.contains("/nowhere/password"), "{why}");
}
