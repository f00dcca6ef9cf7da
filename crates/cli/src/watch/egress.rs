//! Requests that wait for a person, in words.

use boatyard_api::model::{AskAnswer, AskState};

use crate::text::clean_line;

/// What a request wants, in a line: `GET https://example.com/a`, or `example.com:443` where its
/// inside is not seen.
pub(crate) fn wanted(method: Option<&str>, host: &str, port: u16, path: Option<&str>) -> String {
    let host = clean_line(host);
    let Some(method) = method else { return format!("{host}:{port}") };
    let place = match port {
        443 => format!("https://{host}"),
        80 => format!("http://{host}"),
        port => format!("{host}:{port}"),
    };
    format!("{} {place}{}", clean_line(method), clean_line(path.unwrap_or_default()))
}

/// What an answer means, for who chooses one.
pub(crate) const fn meaning(answer: AskAnswer) -> &'static str {
    match answer {
        AskAnswer::Once => "Yes, this time",
        AskAnswer::TenMinutes => "Yes, for ten minutes",
        AskAnswer::Workspace => "Yes, in this workspace from now on",
        AskAnswer::Repository => "Yes, for this repository from now on",
        AskAnswer::No => "No, not this time",
        AskAnswer::Never => "No, never in this workspace",
    }
}

/// What came of it.
pub(crate) fn answered(state: AskState, answer: Option<AskAnswer>, by: Option<&str>) -> String {
    let who = by.map(|by| format!(" ({})", clean_line(by))).unwrap_or_default();
    match (state, answer) {
        (AskState::Open, _) => "It waits for an answer.".to_owned(),
        (AskState::Expired, _) => "Nobody answered in time: it was refused.".to_owned(),
        (AskState::Withdrawn, _) => "What asked is gone.".to_owned(),
        (AskState::Allowed, Some(AskAnswer::TenMinutes)) => {
            format!("Allowed for ten minutes{who}.")
        }
        (AskState::Allowed, Some(AskAnswer::Workspace)) => {
            format!("Allowed in this workspace from now on{who}.")
        }
        (AskState::Allowed, Some(AskAnswer::Repository)) => {
            format!("Allowed for this repository from now on{who}.")
        }
        (AskState::Allowed, _) => format!("Allowed, this time{who}."),
        (AskState::Denied, Some(AskAnswer::Never)) => {
            format!("Refused in this workspace from now on{who}.")
        }
        (AskState::Denied, _) => format!("Refused, this time{who}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_line_without_what_a_terminal_would_obey() {
        assert_eq!(wanted(None, "a.example", 443, None), "a.example:443");
        assert_eq!(wanted(Some("GET"), "a.example", 443, Some("/x")), "GET https://a.example/x");
        assert_eq!(wanted(Some("POST"), "a.example", 8080, Some("/")), "POST a.example:8080/");
        assert!(
            !wanted(Some("G\x1b[2J"), "a\nb", 80, Some("/\x07")).contains(['\x1b', '\n', '\x07'])
        );
    }
}
