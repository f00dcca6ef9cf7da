//! API keys and what was called with them.
