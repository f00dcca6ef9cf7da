//! The phases of an attempt as lines: what was done to prepare and end it, with times.

use std::time::Duration;

use boatyard_api::model::Timestamp;

use crate::{
    output::Look,
    text::{clean_line, duration},
};

/// What the server tells of a phase that is over.
pub(super) struct Told {
    pub(super) name: String,
    pub(super) millis: u64,
    pub(super) detail: String,
}

impl Told {
    /// Of a notice's data; none if it is about something else.
    pub(super) fn read(data: &serde_json::Value) -> Option<Self> {
        Some(Self {
            name: data.get("name")?.as_str()?.to_owned(),
            millis: data.get("millis")?.as_u64()?,
            detail: data.get("detail").and_then(|d| d.as_str()).unwrap_or_default().to_owned(),
        })
    }
}

/// A phase that is over: its name, its time, what was found.
pub(crate) fn phase_line(look: Look, name: &str, millis: u64, detail: &str) -> String {
    let time = duration(Duration::from_millis(millis));
    let line = format!(
        "  {} {:<11} {}  {}",
        look.good("✓"),
        clean_line(name),
        look.dim(format!("{time:>9}")),
        look.dim(clean_line(detail))
    );
    line.trim_end().to_owned()
}

/// A phase that is under way.
pub(crate) fn phase_under_way(look: Look, name: &str, since: Timestamp, now: Timestamp) -> String {
    let time = look.dim(format!("{:>9}", duration(now.since(since))));
    format!("  {} {:<11} {time}", look.name("◐"), clean_line(name))
}
