//! The runner: a static program, built by `build.rs` and carried in this one.

/// The program's bytes.
pub(super) static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/boatyard-runner"));

/// Its file name in the data folder, which tells builds apart.
pub(super) fn file_name() -> String {
    format!("runner-{}", env!("BOATYARD_RUNNER_HASH"))
}
