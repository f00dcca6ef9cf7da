//! Browsers in which people are signed in.
