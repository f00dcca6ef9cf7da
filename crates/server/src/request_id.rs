//! The name of a request: in its answer, in problems, in the log.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header that carries it, both ways.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The longest name that is taken from a client.
const MAX: usize = 64;

/// The name of a request: a client's own if it is harmless, else a fresh one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The name of the request with these headers.
    pub fn of(headers: &HeaderMap) -> Self {
        let harmless = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let own = headers.get(HEADER).filter(|value| {
            (1..=MAX).contains(&value.len()) && value.as_bytes().iter().all(harmless)
        });
        own.cloned().map_or_else(Self::fresh, Self)
    }

    fn fresh() -> Self {
        let id = boatyard_model::JobId::new().to_string();
        // The digits of a ULID are a header's value in any case.
        let digits = id.trim_start_matches("job_");
        Self(HeaderValue::from_str(digits).unwrap_or(HeaderValue::from_static("unknown")))
    }

    /// For the answer's header.
    pub fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_harmless_name_is_kept_and_any_other_replaced() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, value.parse().unwrap());
            RequestId::of(&headers).to_string()
        };
        assert_eq!(of("abc-1_Z"), "abc-1_Z");
        for bad in ["", "a b", "a\"b", &"x".repeat(65), "{x}"] {
            assert_eq!(of(bad).len(), 26, "{bad}");
        }
    }
}
