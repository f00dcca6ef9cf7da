//! Faults on request: what a provider does on a bad day.
//!
//! `[[fault:NAME]]` in a prompt makes every answer to it fail so, `[[fault:NAME*2]]` the first two.

use std::time::Duration;

use http::StatusCode;

/// How long `pause` lasts, in seconds: as long as models are silent at times.
const PAUSE: u64 = 60;

/// The longest pause that can be asked for, in seconds.
const LONGEST_PAUSE: u64 = 900;

/// A fault that a prompt asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    /// How many times; without it, always.
    pub(super) times: Option<u32>,
}

/// How an answer fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An error of this status in the provider's own shape; 429 and 503 say when to try again.
    Status(StatusCode),
    /// `cut`: the connection breaks off in the middle of the answer.
    Cut,
    /// `silent`: nothing comes after the middle of the answer.
    Silent,
    /// `pause`: nothing comes for a minute in the middle of the answer, then the rest; `pause5`: for
    /// five seconds.
    Pause(Duration),
    /// `malformed`: an event in the middle is not JSON.
    Malformed,
}

/// The fault of this name.
pub(super) fn parse(argument: &str) -> Option<Fault> {
    let (name, times) = match argument.trim().split_once('*') {
        Some((name, times)) => (name.trim(), Some(times.trim().parse().ok()?)),
        None => (argument.trim(), None),
    };
    let kind = match name {
        "cut" => Kind::Cut,
        "silent" => Kind::Silent,
        "malformed" => Kind::Malformed,
        pause if pause.starts_with("pause") => {
            let seconds = match &pause["pause".len()..] {
                "" => PAUSE,
                seconds => seconds.parse().ok().filter(|seconds| *seconds <= LONGEST_PAUSE)?,
            };
            Kind::Pause(Duration::from_secs(seconds))
        }
        status => {
            let status = StatusCode::from_bytes(status.as_bytes()).ok()?;
            let is_error = status.is_client_error() || status.is_server_error();
            is_error.then_some(Kind::Status(status))?
        }
    };
    Some(Fault { kind, times })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_have_names_and_numbers() {
        let check = |text, kind, times| assert_eq!(parse(text), Some(Fault { kind, times }));
        check("429", Kind::Status(StatusCode::TOO_MANY_REQUESTS), None);
        check("500*2", Kind::Status(StatusCode::INTERNAL_SERVER_ERROR), Some(2));
        check(" cut * 1 ", Kind::Cut, Some(1));
        check("pause", Kind::Pause(Duration::from_secs(60)), None);
        check("pause5*1", Kind::Pause(Duration::from_secs(5)), Some(1));
        for wrong in ["", "200", "x", "cut*", "cut*x", "pause-1", "pause901"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
