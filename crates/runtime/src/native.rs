//! The driver for Linux itself: the `sandbox` crate behind a spawner process.
