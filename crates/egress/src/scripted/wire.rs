//! Server-sent events, in the two ways that providers write them.

use serde_json::Value;

/// An event with its name, which is the `type` of its data too.
pub(super) fn named_event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default())
}

/// An event of only data.
pub(super) fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}
