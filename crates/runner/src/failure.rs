//! Errors as the server gets them.

use std::error::Error;

/// The most that one message tells, in bytes.
const MESSAGE_MAX: usize = 4 << 10;

/// An error with its causes, each after a colon.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // A transparent error says the same as its cause.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    crate::bounds::cut(&mut text, MESSAGE_MAX);
    text
}
