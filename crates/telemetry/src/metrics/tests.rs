//! What is exported after what was counted.

use alula_model::{
    ErrorCode, InstanceId, InvocationId, Phases, Run, RunStatus, Tier, Timestamp, TriggerKind, VersionKey,
};

use super::*;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn run(status: RunStatus, error: Option<ErrorCode>, tier: Tier) -> Run {
    Run {
        degraded: None,
        id: InvocationId::new("r").unwrap(),
        key: VersionKey { namespace: name("shop"), function: name("cart"), version: 1 },
        qualifier: "latest".to_owned(),
        trigger: TriggerKind::Http,
        attempt: 1,
        status,
        http_status: None,
        error,
        message: None,
        started_at: Timestamp(0),
        phases: Phases { queue_us: 10, start_us: 20_000, init_us: 30_000, run_us: 700, total_us: 60_000 },
        tier,
        instance: Some(InstanceId::new("i")),
        request_bytes: 3,
        response_bytes: 5,
        parent: None,
        caller: None,
    }
}

fn check(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "{line} is missing in:\n{text}");
    }
}

#[test]
fn a_run_is_counted_by_status_blame_phase_and_size() {
    let metrics = Metrics::new();
    let cart = metrics.function(&name("shop"), &name("cart"));
    cart.record(&run(RunStatus::Done, None, Tier::Cold));
    cart.record(&run(RunStatus::Done, None, Tier::Warm));
    cart.record(&run(RunStatus::Failed, Some(ErrorCode::HandlerError), Tier::Warm));
    let refused = Run { instance: None, ..run(RunStatus::Rejected, Some(ErrorCode::Draining), Tier::Warm) };
    cart.record(&refused);
    let in_flight = cart.begin();
    let labels = r#"namespace="shop",function="cart""#;
    let text = metrics.render();
    check(
        &text,
        &[
            &format!(r#"alula_function_calls_total{{{labels},status="done",blame="none"}} 2"#),
            &format!(r#"alula_function_calls_total{{{labels},status="failed",blame="function"}} 1"#),
            &format!(r#"alula_function_calls_total{{{labels},status="rejected",blame="platform"}} 1"#),
            &format!("alula_function_cold_starts_total{{{labels}}} 1"),
            &format!("alula_function_in_flight{{{labels}}} 1"),
            &format!("alula_function_request_bytes_total{{{labels}}} 12"),
            &format!("alula_function_response_bytes_total{{{labels}}} 20"),
            &format!("alula_function_duration_seconds_count{{{labels}}} 4"),
            &format!("alula_function_queue_seconds_count{{{labels}}} 3"),
            &format!(r#"alula_function_run_seconds_bucket{{le="0.0005",{labels}}} 0"#),
            &format!(r#"alula_function_run_seconds_bucket{{le="0.001",{labels}}} 3"#),
            &format!(r#"alula_function_start_seconds_sum{{{labels},phase="init"}} 0.03"#),
            &format!(r#"alula_function_start_seconds_count{{{labels},phase="start"}} 1"#),
        ],
    );
    assert!(!text.contains(r#"status="timeout""#), "what never happened is not exported");
    assert!(text.ends_with("# EOF\n"));
    drop(in_flight);
    check(&metrics.render(), &[&format!("alula_function_in_flight{{{labels}}} 0")]);
}

#[test]
fn every_metric_has_our_prefix_and_a_description() {
    let metrics = Metrics::new();
    metrics.show_dropped_log_lines(&Counter::default());
    metrics.show_dropped_runs(&Counter::default());
    metrics.instances(InstanceState::Idle).set(2);
    metrics.http_connections(Listener::Control).inc();
    metrics.builds(BuildOutcome::Cached).inc();
    let text = metrics.render();
    check(
        &text,
        &[
            r#"alula_instances{state="idle"} 2"#,
            r#"alula_http_connections{listener="control"} 1"#,
            r#"alula_builds_total{outcome="cached"} 1"#,
            "alula_log_lines_dropped_total 0",
            "alula_runs_dropped_total 0",
        ],
    );
    for line in text.lines().filter(|line| *line != "# EOF") {
        let name = line.strip_prefix("# HELP ").or(line.strip_prefix("# TYPE ")).unwrap_or(line);
        assert!(name.starts_with("alula_"), "{line}");
    }
}

/// The names of all metrics, as the source has them.
fn named_in_source() -> std::collections::BTreeSet<&'static str> {
    let quoted = include_str!("names.rs").split('"').skip(1).step_by(2);
    quoted.filter(|text| text.starts_with("alula_")).collect()
}

#[test]
fn the_page_lists_every_metric_and_no_other() {
    let (_, page) = include_str!("../../../../docs/observing.md").split_once("## Metrics").unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let listed: std::collections::BTreeSet<&str> = rows.map(|(name, _)| name).collect();
    assert_eq!(listed, named_in_source());
    let metrics = Metrics::new();
    metrics.show_functions(3);
    metrics.alarms().message("sent");
    for line in metrics.render().lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap();
        assert!(listed.contains(name), "docs/observing.md has no row for {name}");
    }
}

#[test]
fn functions_without_series_are_counted() {
    let metrics = Metrics::new();
    let namespace = name("shop");
    (0..FUNCTIONS_MAX + 20)
        .for_each(|number| drop(metrics.function(&namespace, &name(&format!("f{number}")))));
    metrics.show_functions(FUNCTIONS_MAX + 20);
    check(&metrics.render(), &["alula_functions_called 1020", "alula_functions_without_series 20"]);
}

#[test]
fn functions_beyond_the_limit_share_one_series_and_room_is_given_back() {
    let metrics = Metrics::new();
    let namespace = name("shop");
    let function = |number: usize| metrics.function(&namespace, &name(&format!("f{number}")));
    let first = function(0);
    (1..FUNCTIONS_MAX).for_each(|number| drop(function(number)));
    let beyond = function(FUNCTIONS_MAX);
    assert!(Arc::ptr_eq(&beyond, &function(FUNCTIONS_MAX + 1)));
    assert!(Arc::ptr_eq(&first, &function(0)), "known functions keep their handles");
    beyond.record(&run(RunStatus::Done, None, Tier::Warm));
    check(
        &metrics.render(),
        &[r#"alula_function_calls_total{namespace="_other",function="_other",status="done",blame="none"} 1"#],
    );
    first.record(&run(RunStatus::Done, None, Tier::Warm));
    metrics.forget_function(&namespace, &name("f0"));
    assert!(!metrics.render().contains(r#"function="f0""#), "a removed function leaves no series");
    assert!(!Arc::ptr_eq(&beyond, &function(FUNCTIONS_MAX + 2)));
}

#[test]
fn the_queue_is_counted_by_class_and_by_function() {
    let metrics = Metrics::new();
    assert!(!metrics.render().contains("alula_async_dead_total{"), "nothing is exported that never happened");
    let general = metrics.queue_class("general");
    general.accepted.inc();
    general.waited.observe(0.2);
    general.depth.set(7);
    general.oldest.set(1.5);
    metrics.async_imbalance().set(0);
    let hello = Name::new("hello").unwrap();
    metrics.function(&Name::default_namespace(), &hello).async_dead();
    let text = metrics.render();
    for line in [
        "alula_async_accepted_total{class=\"general\"} 1",
        "alula_async_wait_seconds_count{class=\"general\"} 1",
        "alula_async_depth{class=\"general\"} 7",
        "alula_async_oldest_seconds{class=\"general\"} 1.5",
        "alula_async_dead_total{namespace=\"default\",function=\"hello\"} 1",
        "alula_async_imbalance 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    metrics.forget_function(&Name::default_namespace(), &hello);
    assert!(!metrics.render().contains("alula_async_dead_total{"));
}
