use super::*;

#[test]
fn a_request_shows_in_its_route_class_and_histogram() {
    let metrics = Metrics::new();
    metrics.request("mesh.send", 202, 3_000);
    metrics.request("mesh.send", 403, 1_000);
    metrics.request("mesh.list", 200, 1_000);
    metrics.upkeep();
    let page = metrics.render(&Sample::default());
    for want in [
        "vertebra_requests_total{route=\"mesh.send\",class=\"2xx\"} 1",
        "vertebra_requests_total{route=\"mesh.send\",class=\"4xx\"} 1",
        "vertebra_requests_total{route=\"mesh.list\",class=\"2xx\"} 1",
        "vertebra_request_seconds_bucket{route=\"mesh.send\",le=\"0.005\"} 2",
        "vertebra_request_seconds_count{route=\"mesh.send\"} 2",
        "vertebra_authentications_refused_total 1",
        "vertebra_build_info{release=",
    ] {
        assert!(page.contains(want), "{want} in {page}");
    }
}

#[test]
fn a_status_outside_the_known_classes_is_counted_without_a_panic() {
    let metrics = Metrics::new();
    for status in [0, 100, 199, 499, 600, 999, u16::MAX] {
        metrics.request("other", status, u64::MAX);
    }
}

#[test]
fn routes_beyond_the_bound_share_the_last_place() {
    let metrics = Metrics::new();
    let names: Vec<&'static str> = (0..ROUTES_MAX + 9)
        .map(|n| &*Box::leak(format!("route-{n}").into_boxed_str()))
        .collect();
    names.iter().for_each(|name| metrics.request(name, 200, 1));
    let page = metrics.render(&Sample::default());
    assert_eq!(page.matches("class=\"2xx\"").count(), ROUTES_MAX);
    let last = format!(
        "vertebra_requests_total{{route=\"route-{}\",class=\"2xx\"}} 10",
        ROUTES_MAX - 1
    );
    assert!(page.contains(&last), "{page}");
}

#[test]
fn sampled_figures_stand_in_one_block_a_name_with_harmless_labels() {
    let mut sample = Sample::default();
    sample.add_for("mailbox_inbox_messages", "mailbox", "BOX\"} 1\n", 9.0);
    sample.add("journal_batches_total", 7.0);
    sample.add_for("mailbox_inbox_messages", "mailbox", "X26ABC1", 3.0);
    let page = Metrics::new().render(&sample);
    assert!(
        page.contains("# TYPE vertebra_journal_batches_total counter\nvertebra_journal_batches_total 7\n"),
        "{page}"
    );
    let block = "# TYPE vertebra_mailbox_inbox_messages gauge\nvertebra_mailbox_inbox_messages{mailbox=\"BOX1\"} 9\n\
                 vertebra_mailbox_inbox_messages{mailbox=\"X26ABC1\"} 3\n";
    assert!(page.contains(block), "{page}");
}

#[test]
fn the_process_tells_its_memory_and_descriptors() {
    let seen = process();
    assert!(seen.resident_bytes > 0 && seen.anonymous_bytes > 0 && seen.anonymous_bytes <= seen.resident_bytes);
    assert!(seen.descriptors >= 3 && seen.descriptors_max >= seen.descriptors);
}
