//! Figures for Prometheus.
//!
//! Anybody in the server counts with the macros of the `metrics` crate, as does the store
//! (`boatyard_store::figures`); here is the recorder behind them and the figures of HTTP. Names begin with `boatyard_`. There is one recorder in a
//! process.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use boatyard_model::SessionState;
use boatyard_store::Figures;
use http::{Method, StatusCode};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// Bounds of the histograms, in seconds.
const SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    10.0, 60.0,
];

/// After so many requests what was observed is put into its buckets, so that it does not pile up
/// where nobody asks for it.
const UPKEEP: u32 = 1024;

static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Begins to record. Where another recorder is installed already, that one records, and
/// [`render`] gives nothing.
pub fn install() {
    RECORDER.get_or_init(|| {
        // Bounds are there, so that it can't fail.
        let builder = PrometheusBuilder::new().set_buckets(SECONDS).ok()?;
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).ok()?;
        describe();
        Some(handle)
    });
}

fn describe() {
    metrics::describe_counter!("boatyard_http_requests_total", "Requests answered.");
    metrics::describe_histogram!("boatyard_http_request_seconds", "Time until the answer began.");
    metrics::describe_gauge!("boatyard_http_requests_under_way", "Requests being worked on.");
    metrics::describe_gauge!("boatyard_watchers", "Streams of events that are followed.");
    metrics::describe_gauge!(
        "boatyard_watchers_behind",
        "Streams of events that read what they missed: new ones, and those with a slow reader."
    );
    metrics::describe_counter!("boatyard_events_appended_total", "Events stored.");
    metrics::describe_gauge!(
        "boatyard_events_lag_seconds",
        "From the happening of the oldest event that was stored last until it was stored."
    );
    metrics::describe_gauge!("boatyard_sessions", "Sessions that are not over, by state.");
    metrics::describe_gauge!("boatyard_jobs_due", "Jobs that are due and wait for a worker.");
    metrics::describe_gauge!("boatyard_jobs_oldest_seconds", "How long the oldest of them waits.");
    metrics::describe_gauge!("boatyard_jobs_running", "Jobs that are worked on.");
    metrics::describe_counter!("boatyard_jobs_enqueued_total", "Jobs put into the queue.");
    metrics::describe_counter!("boatyard_jobs_claimed_total", "Jobs begun, retries included.");
    metrics::describe_counter!("boatyard_jobs_completed_total", "Jobs done.");
    metrics::describe_counter!("boatyard_jobs_failed_total", "Jobs that failed for good.");
    metrics::describe_counter!("boatyard_jobs_retried_total", "Jobs that are to be tried again.");
    metrics::describe_counter!(
        "boatyard_model_requests_total",
        "Requests to model providers, by the provider, its answer, and how it ended."
    );
    metrics::describe_counter!("boatyard_model_bytes_total", "Bytes of bodies to and from them.");
    metrics::describe_histogram!("boatyard_model_request_seconds", "How long they took in full.");
    metrics::describe_counter!(
        "boatyard_egress_requests_total",
        "Requests and tunnels of workspaces that are over, by what became of them and their way."
    );
    metrics::describe_counter!("boatyard_egress_bytes_total", "Bytes of them, by direction.");
    metrics::describe_histogram!("boatyard_egress_request_seconds", "How long they took.");
    metrics::describe_counter!(
        "boatyard_egress_log_dropped_total",
        "Requests that the log lacks: more came at once than could be written."
    );
    metrics::describe_gauge!(
        "boatyard_egress_asks_open",
        "Questions to people about requests that wait."
    );
    metrics::describe_counter!("boatyard_egress_asks_total", "Those that are over, by outcome.");
    metrics::describe_gauge!("boatyard_uptime_seconds", "Seconds since the start.");
    metrics::describe_gauge!("boatyard_build_info", "The version, as a label.");
    metrics::describe_gauge!("process_resident_memory_bytes", "Memory of the server.");
    metrics::describe_gauge!("process_open_fds", "Descriptors of the server.");
}

/// Counts a request.
pub fn request(method: &Method, route: &str, status: StatusCode, took: Duration) {
    static SEEN: AtomicU32 = AtomicU32::new(0);
    let class = match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    };
    // Words of the protocol's own only: a label must not grow with what clients invent.
    let method = match method.as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known,
        _ => "other",
    };
    let labels =
        [("method", method.to_owned()), ("route", route.to_owned()), ("status", class.to_owned())];
    metrics::counter!("boatyard_http_requests_total", &labels).increment(1);
    metrics::histogram!("boatyard_http_request_seconds", "route" => route.to_owned())
        .record(took.as_secs_f64());
    if SEEN.fetch_add(1, Ordering::Relaxed) % UPKEEP == UPKEEP - 1
        && let Some(Some(handle)) = RECORDER.get()
    {
        handle.run_upkeep();
    }
}

/// What the store says there is now.
pub fn store(figures: &Figures) {
    metrics::gauge!("boatyard_jobs_due").set(figures.jobs_due as f64);
    metrics::gauge!("boatyard_jobs_oldest_seconds").set(figures.jobs_oldest.as_secs_f64());
    metrics::gauge!("boatyard_jobs_running").set(figures.jobs_running as f64);
    for state in SessionState::ALL.iter().filter(|state| **state != SessionState::Ended) {
        let count = figures.sessions.iter().find(|(of, _)| of == state).map_or(0, |(_, n)| *n);
        metrics::gauge!("boatyard_sessions", "state" => state.as_str()).set(count as f64);
    }
}

/// Everything that was recorded, in the text form of Prometheus.
pub fn render() -> String {
    process();
    RECORDER.get().and_then(Option::as_ref).map(PrometheusHandle::render).unwrap_or_default()
}

/// The server's own process, as the kernel sees it.
fn process() {
    metrics::gauge!("boatyard_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    let resident = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches("kB").trim().parse::<f64>().ok()
    });
    if let Some(kib) = resident {
        metrics::gauge!("process_resident_memory_bytes").set(kib * 1024.0);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        metrics::gauge!("process_open_fds").set(open.count() as f64);
    }
}
