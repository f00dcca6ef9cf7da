//! Samples and their percentiles, and the machine that they were taken on.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde::Serialize;

/// One line of the outcome.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Measured {
    /// The suite.
    pub(super) suite: &'static str,
    /// What was measured.
    pub(super) name: String,
    /// What the percentiles count.
    pub(super) unit: &'static str,
    /// How many samples there were.
    pub(super) n: usize,
    /// Half of the samples are at most this.
    pub(super) p50: f64,
    /// Nine of ten are.
    pub(super) p90: f64,
    /// 99 of 100 are.
    pub(super) p99: f64,
    /// All are.
    pub(super) max: f64,
    /// How many were done in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) per_second: Option<f64>,
}

impl Measured {
    /// Of samples in any order.
    pub(super) fn of(
        suite: &'static str,
        name: impl Into<String>,
        unit: &'static str,
        mut samples: Vec<f64>,
    ) -> Self {
        samples.sort_by(f64::total_cmp);
        // The smallest sample that is not below so many of a hundred.
        let at = |percent: usize| {
            let rank = (samples.len() * percent).div_ceil(100).max(1) - 1;
            samples.get(rank).copied().unwrap_or(f64::NAN)
        };
        Self {
            suite,
            name: name.into(),
            unit,
            n: samples.len(),
            p50: at(50),
            p90: at(90),
            p99: at(99),
            max: at(100),
            per_second: None,
        }
    }

    /// Of a rate: `n` in all, done in this time.
    pub(super) fn rate(
        suite: &'static str,
        name: impl Into<String>,
        n: usize,
        took: Duration,
    ) -> Self {
        let seconds = took.as_secs_f64();
        let measured = Self::of(suite, name, "s", vec![seconds]);
        // As many as anybody counts fit into a float.
        Self { n, per_second: Some(n as f64 / seconds), ..measured }
    }
}

/// A time in milliseconds.
pub(super) fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// A time in microseconds.
pub(super) fn micros(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}

/// The machine.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    kernel: String,
    processor: String,
    cores: usize,
    memory_bytes: u64,
    version: &'static str,
}

impl Machine {
    /// As /proc tells it; no name that would give it away.
    pub(super) fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kib: u64 =
            memory.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or_default();
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: field(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kib * 1024,
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// The memory of a process that is its own, its share of what is shared included, in bytes; none if
/// it is gone or not ours to see.
pub(super) fn memory(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Pss:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// What a process has used of the processors, of its own and of the kernel's; none if it is gone.
pub(super) fn cpu(pid: u32) -> Option<Duration> {
    /// Linux counts it for programs in hundredths of a second, on every machine that we run on.
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which may hold anything, the state is the first; these are the 12th and 13th.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some(TICK * (ticks()? + ticks()?))
}

/// How many files this process may have open; none if there is no telling.
pub(super) fn files_max() -> Option<usize> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// How often all threads of a process have gone to sleep and been woken since it began.
pub(super) fn wakeups(pid: u32) -> u64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("status")).ok())
        .filter_map(|text| {
            let line = text.lines().find(|line| line.starts_with("voluntary_ctxt_switches"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .sum()
}

/// A process with all that descend from it.
pub(super) fn family(root: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // After the name, which may hold anything: the state, then the parent.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if let Some(parent) = parent.and_then(|parent| parent.parse::<u32>().ok()) {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![root];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        found.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let samples: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let measured = Measured::of("s", "n", "ms", samples);
        assert_eq!(
            (measured.p50, measured.p90, measured.p99, measured.max),
            (100.0, 180.0, 198.0, 200.0)
        );
        let one = Measured::of("s", "n", "ms", vec![7.0]);
        assert_eq!((one.p50, one.p99, one.max), (7.0, 7.0, 7.0));
    }

    #[test]
    fn a_process_has_memory_and_a_family() {
        let own = std::process::id();
        assert!(memory(own).is_some_and(|bytes| bytes > 100_000));
        assert!(cpu(own).is_some());
        assert!(files_max().is_none_or(|files| files > 0));
        assert!(family(own).contains(&own));
    }
}
