//! What an agent's failures mean, in words, and what mends them.
//!
//! Agents tell the same failure in their own ways. That a key is missing or not taken comes as
//! `-32000 Authentication required` (Claude, Codex), as a code `401` (Gemini), as words of the
//! provider (OpenCode) or as a message of the agent before a turn's seemingly good end (Copilot).
//! [`Blame`] makes one sentence of them all.

use serde_json::Value;

use super::wire::RpcError;
use crate::capture::{plain, prefix};

/// What of an agent's own words an error or notice repeats.
pub(super) const QUOTED: usize = 2 << 10;
/// What of them is repeated where they only tell that a key is not taken.
const SHORT: usize = 300;

/// The code of the Agent Client Protocol for "authentication required". JSON-RPC leaves it to
/// anybody, so the words must fit as well.
const AUTH_REQUIRED: i64 = -32000;
/// HTTP's codes for a missing or refused key, which Gemini uses as they are.
const HTTP_AUTH: [i64; 2] = [401, 403];

/// Who is to be named when something fails.
#[derive(Debug, Clone, Default)]
pub(crate) struct Blame {
    agent: String,
    provider: Option<String>,
}

impl Blame {
    /// An agent of the catalogue, and whose key it needs.
    pub(crate) fn new(agent: &str, provider: Option<&str>) -> Self {
        Self { agent: agent.to_owned(), provider: provider.map(str::to_owned) }
    }

    /// A refused request, and what to do about it.
    pub(crate) fn refused(&self, error: &RpcError) -> String {
        let text = rpc_text(error);
        if HTTP_AUTH.contains(&error.code)
            || (error.code == AUTH_REQUIRED && lower(&text).contains("auth"))
        {
            return self.no_key(&text);
        }
        self.explain(&text)
    }

    /// An error in the agent's or its provider's words, and what to do about it.
    pub(crate) fn explain(&self, error: &str) -> String {
        let lower = lower(error);
        let any = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        let code = |code: &str| has_number(&lower, code);
        let key = ["authenti", "unauthor", "api key", "api_key", "log in", "login"];
        let next = if any(&key) || code("401") || code("403") {
            return self.no_key(error);
        } else if any(&["rate limit", "high demand", "overloaded", "quota"]) || code("429") {
            "The provider is busy or a quota is used up: wait, then prompt again."
        } else if any(&["too long", "context length", "context window"]) {
            "The conversation is too long for the model: begin a new session, or choose another model."
        } else if any(&["model not found", "unknown model", "does not exist"]) {
            "Choose another model."
        } else {
            "Prompt again to let it go on."
        };
        let stop = if error.ends_with(['.', '!', '?']) { "" } else { "." };
        format!("{error}{stop} {next}")
    }

    /// The key is missing or not taken.
    fn no_key(&self, words: &str) -> String {
        // What comes after the first line is the agent's own advice, which does not hold here.
        let words = words.lines().next().unwrap_or_default();
        let words = words.strip_prefix("Error: ").unwrap_or(words).trim_end_matches('.').trim();
        let words = prefix(words, SHORT);
        let Some(provider) = &self.provider else {
            return format!(
                "Authentication failed ({words}). Sign the agent in, or name its provider in [agents.{}] of boatyard.toml; then prompt again.",
                self.agent
            );
        };
        let variable = match provider.as_str() {
            "anthropic" => " or the variable ANTHROPIC_API_KEY",
            "openai" => " or the variable OPENAI_API_KEY",
            "gemini" => " or the variable GEMINI_API_KEY",
            _ => "",
        };
        format!(
            "Authentication failed ({words}): the key for {provider} is missing or not accepted. Set [providers.{provider}] key_file in boatyard.toml{variable}, start Boatyard again, then prompt again."
        )
    }
}

/// An agent's error in a sentence.
pub(crate) fn rpc_text(error: &RpcError) -> String {
    // Gemini puts the provider's JSON into the message.
    let inner = serde_json::from_str::<Value>(&error.message).unwrap_or_default();
    let message = inner["error"]["message"].as_str().unwrap_or(&error.message);
    let details = [&error.data["details"], &error.data["message"]]
        .iter()
        .find_map(|value| value.as_str())
        .or(error.data.as_str())
        .unwrap_or_default();
    let details = if details == message { "" } else { details };
    let text = sentence(message, details);
    if text.is_empty() { format!("the agent answered with error {}", error.code) } else { text }
}

/// A message and its details as one text, without control characters and bounded.
pub(super) fn sentence(message: &str, details: &str) -> String {
    let message = plain(prefix(message.trim(), QUOTED));
    let details = plain(prefix(details.trim(), QUOTED));
    match (message.as_str(), details.as_str()) {
        (message, "") => message.to_owned(),
        ("", details) => details.to_owned(),
        (message, details) => format!("{message}: {details}"),
    }
}

fn lower(text: &str) -> String {
    text.to_ascii_lowercase()
}

/// Whether a number stands in a text by itself, not as a part of a longer one.
fn has_number(text: &str, number: &str) -> bool {
    text.match_indices(number).any(|(at, _)| {
        let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
        !digit(text[..at].chars().next_back()) && !digit(text[at + number.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_to_do_next_fits_what_went_wrong() {
        for (error, next) in [
            ("Authentication required", "Set [providers.acme] key_file in boatyard.toml, start"),
            ("status 429 Too Many Requests", "wait, then prompt again"),
            ("prompt is too long: 210401 tokens", "begin a new session"),
            ("terminated", "Prompt again"),
            ("listening on port 4010", "Prompt again"),
        ] {
            let text = Blame::new("mine", Some("acme")).explain(error);
            assert!(text.contains(next), "{text}");
        }
    }

    #[test]
    fn every_way_to_say_that_a_key_is_not_taken_becomes_one() {
        let blame = Blame::new("mine", Some("anthropic"));
        let refused = |code, message: &str, data: Value| {
            blame.refused(&RpcError { code, message: message.into(), data })
        };
        let all = [
            refused(-32000, "Authentication required", Value::Null),
            refused(401, r#"{"error":{"code":401,"message":"no such key"}}"#, Value::Null),
            refused(403, "the key may not do this", Value::Null),
            refused(-32603, "Internal error", json!({ "message": "unexpected status 401" })),
            blame.explain("Error: Authentication failed with provider (HTTP 401).\n  Check X."),
        ];
        for text in all {
            assert!(text.starts_with("Authentication failed ("), "{text}");
            assert!(text.contains("[providers.anthropic] key_file"), "{text}");
            assert!(text.contains("the variable ANTHROPIC_API_KEY"), "{text}");
            assert!(!text.contains("Check X"), "{text}");
        }
        // The same code with other words is something else.
        let other = refused(-32000, "the database is locked", Value::Null);
        assert!(other.ends_with("Prompt again to let it go on."), "{other}");
        // An agent that signs in by itself.
        let text = Blame::new("mine", None).explain("Please log in");
        assert!(text.contains("[agents.mine]"), "{text}");
    }

    #[test]
    fn providers_errors_are_dug_out() {
        let check = |code, message: &str, data: Value, text: &str| {
            let error = RpcError { code, message: message.into(), data };
            assert_eq!(rpc_text(&error), text);
        };
        check(401, r#"{"error":{"code":401,"message":"bad key"}}"#, Value::Null, "bad key");
        check(
            -32603,
            "Internal error",
            json!({ "details": "no session" }),
            "Internal error: no session",
        );
        check(-32000, "", Value::Null, "the agent answered with error -32000");
    }
}
