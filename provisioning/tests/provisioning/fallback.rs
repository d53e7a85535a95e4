//! Three boots without a check-in, and the machine gets the release before.

use super::boot_server::{BootServer, N1, N1_MAC, Serving, json_of, wait_for};
use serde_json::{Value, json};

/// Every fetch is a boot of its own.
const SETTLE: &str = "[fallback]\nsettle_seconds = 0";

fn two_releases() -> (BootServer, Serving) {
    let server = BootServer::with(SETTLE);
    server.add("1", 1);
    server.add("2", 1);
    server.ok(&["release", "promote", "1", "--all"]);
    server.ok(&["release", "promote", "2", "--all"]);
    let serving = server.serve();
    (server, serving)
}

fn script(server: &BootServer) -> String {
    server.read("out/north/www/boot/52-54-00-00-00-11.ipxe")
}

/// Boots that nginx tells of, each of its own, until this many were counted.
fn boot(serving: &Serving, times: usize) {
    for _ in 0..times {
        wait_for("a boot counts", || serving.seen(N1_MAC, "127.0.0.1")["counted"] == true);
    }
}

fn served(server: &BootServer) -> Value {
    server.status("n1.north")["served"].clone()
}

#[test]
fn a_machine_goes_back_after_three_boots_without_a_check_in_and_on_with_another_release() {
    let (server, serving) = two_releases();
    server.ok(&["arm", "n1.north"]);
    let key = json_of(&serving.post("/v1/enrol", &json!({"mac": N1_MAC, "serial": "S1"}), None))["report_key"].clone();
    let check_in = |release: &str| {
        let body = json!({"certname": N1, "release": release});
        assert_eq!(serving.post("/v1/check-in", &body, key.as_str()).status, 204);
    };
    boot(&serving, 2);
    check_in("2");
    assert_eq!(server.status("n1.north")["attempts"], 0, "a check-in counts anew");
    boot(&serving, 2);
    assert!(script(&server).contains("/releases/2/"));
    boot(&serving, 1);
    wait_for("the boot file is the earlier release's", || {
        script(&server).contains("/releases/1/")
    });
    wait_for("and so is what firmware fetches itself", || {
        server.read("out/north/www/boot/52-54-00-00-00-11.efi") == "MZ image of 1"
    });
    assert!(
        server
            .read("out/north/www/boot/52-54-00-00-00-12.ipxe")
            .contains("/releases/2/"),
        "its neighbour stays"
    );
    let row = server.status("n1.north");
    assert_eq!(
        (&row["wanted"], &row["served"], &row["attempts"]),
        (&json!("2"), &json!("1"), &json!(3))
    );
    assert!(
        row["failed"]
            .as_str()
            .is_some_and(|why| why.contains("3 boots of 2 without a check-in; it gets 1")),
        "{row}"
    );
    assert!(serving.page("/").contains("boots 1"), "the page says so");
    // It stays there, healthy, until an operator decides.
    assert_eq!(serving.seen(N1_MAC, "127.0.0.1")["counted"], false);
    check_in("1");
    assert_eq!(served(&server), "1");
    server.ok(&["release", "retry", "n1.north"]);
    assert!(script(&server).contains("/releases/2/"));
    boot(&serving, 3);
    wait_for("back again", || script(&server).contains("/releases/1/"));
    server.add("3", 1);
    server.ok(&["release", "promote", "3", "--all"]);
    assert!(
        script(&server).contains("/releases/3/"),
        "another release is tried at once"
    );
    boot(&serving, 3);
    wait_for("to what was healthy here, not to what the site had", || {
        script(&server).contains("/releases/1/")
    });
    // The third boot may be late: when it checks in after all, the machine is back on what was wanted.
    check_in("3");
    wait_for("forward again", || script(&server).contains("/releases/3/"));
}

#[test]
fn boots_are_known_by_the_initrd_too_where_nginx_tells_nothing() {
    let (server, serving) = two_releases();
    let initrd = || {
        assert_eq!(
            serving
                .post(
                    "/v1/stage",
                    &json!({"mac": N1_MAC, "stage": "initrd", "release": "2"}),
                    None
                )
                .status,
            204
        )
    };
    for count in 1..=3 {
        wait_for("it counts", || {
            initrd();
            server.status("n1.north")["attempts"] == count
        });
    }
    wait_for("back", || served(&server) == "1");
    // A fetch and the report of the same boot are one.
    server.ok(&["release", "retry", "n1.north"]);
    boot(&serving, 1);
    initrd();
    assert_eq!(server.status("n1.north")["attempts"], 1);
}

#[test]
fn a_stranger_s_fetches_count_for_nobody() {
    let (server, serving) = two_releases();
    assert_eq!(serving.seen(N1_MAC, "127.0.0.66")["counted"], false);
    assert_eq!(serving.seen("52:54:00:66:66:66", "127.0.0.66")["counted"], false);
    assert_eq!(serving.seen("nonsense", "nonsense")["counted"], false);
    assert_eq!(server.status("n1.north")["attempts"], 0);
    assert!(
        serving
            .log()
            .contains("fetched by 127.0.0.66, not by the machine itself")
    );
}

#[test]
fn without_an_earlier_release_a_machine_stays_and_the_page_says_so() {
    let server = BootServer::with(SETTLE);
    server.add("1", 1);
    server.add("2", 2);
    server.ok(&["release", "promote", "1", "--all"]);
    server.ok(&["release", "promote", "2", "--all"]);
    server.ok(&["release", "finalise", "2"]);
    let serving = server.serve();
    boot(&serving, 3);
    wait_for("it is told", || {
        let failed = server.status("n1.north")["failed"].clone();
        failed
            .as_str()
            .is_some_and(|why| why.contains("no earlier release to go back to"))
    });
    assert_eq!(served(&server), "2", "never below a finalised release");
    assert!(script(&server).contains("/releases/2/"));
}

#[test]
fn with_the_service_down_machines_boot_what_was_rendered_last() {
    let (server, serving) = two_releases();
    boot(&serving, 3);
    wait_for("back", || script(&server).contains("/releases/1/"));
    serving.stop();
    assert!(script(&server).contains("/releases/1/"));
    server.ok(&["render"]);
    assert!(script(&server).contains("/releases/1/"), "render knows it too");
    server.ok(&["release", "promote", "1", "--all"]);
    assert!(script(&server).contains("/releases/1/"));
}

#[test]
fn requests_of_one_boot_count_once_and_its_files_stay_until_it_has_them() {
    let server = BootServer::with("[fallback]\nsettle_seconds = 600\nboots = 1");
    server.add("1", 1);
    server.add("2", 1);
    server.ok(&["release", "promote", "1", "--all"]);
    server.ok(&["release", "promote", "2", "--all"]);
    let serving = server.serve();
    assert_eq!(serving.seen(N1_MAC, "127.0.0.1")["counted"], true);
    assert_eq!(serving.seen(N1_MAC, "127.0.0.1")["counted"], false);
    let row = server.status("n1.north");
    assert_eq!((&row["attempts"], &row["served"]), (&json!(1), &json!("2")));
    server.ok(&["render"]);
    assert!(script(&server).contains("/releases/2/"));
}
