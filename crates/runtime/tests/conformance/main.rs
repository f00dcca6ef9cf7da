//! The conformance suite of runtimes, on real sandboxes with the real runner.
//!
//! ```text
//! this test (as started) ─┬─ spawner ── workspaces
//!                         ├─ supervisor ─┬─ spawner
//!                         │              └─ server of `supervised.rs`
//!                         └─ this test as an ordinary user, when started as root
//! ```
//!
//! [`suite`] holds what every runtime must do and knows only the trait; a later driver hands its
//! own to [`suite::tests`]. [`native`] and [`supervised`] hold what concerns this driver's
//! processes. The same program plays every part, chosen by an environment variable.

#![allow(unreachable_pub, missing_docs, reason = "a program, not a library")]

use std::{os::unix::process::CommandExt as _, process::ExitCode, sync::Arc};

use boatyard_runtime::{Isolation, Runtime as _};

mod data;
mod harness;
mod inside;
mod native;
mod suite;
mod supervised;

/// Which part this process plays; unset for the test itself.
const PART: &str = "BOATYARD_CONFORMANCE_PART";
/// Where the data folder is, for the other parts.
const DATA: &str = "BOATYARD_CONFORMANCE_DATA";
/// Some user that is nobody's.
const ORDINARY_USER: u32 = 4242;

fn main() -> ExitCode {
    boatyard_runtime::native::launch::run_if_spawner();
    if std::env::var(PART).is_ok_and(|part| part == "supervisor") {
        return supervised::main();
    }
    // `cargo test` asks every test program for its list now and then.
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a tokio runtime");
    let mut failed = runtime.block_on(run());
    drop(runtime);
    if rustix::process::geteuid().is_root() {
        let test = std::env::current_exe().expect("this program");
        let status = std::process::Command::new(test)
            .args(std::env::args_os().skip(1))
            .current_dir("/")
            .uid(ORDINARY_USER)
            .gid(ORDINARY_USER)
            .env("HOME", "/nonexistent")
            .status()
            .expect("the test runs as an ordinary user");
        failed += usize::from(!status.success());
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs everything as the user that this process has.
async fn run() -> usize {
    let group = if rustix::process::geteuid().is_root() { "root" } else { "ordinary user" };
    let machine = match native::Machine::new().await {
        Ok(machine) => machine,
        Err(error) => {
            harness::tell(format_args!("{group}: no sandboxes here: {error:?} ... FAILED"));
            return 1;
        }
    };
    let capabilities = machine.runtime.tried().expect("what the machine can do");
    harness::tell(format_args!("{group}: isolation {}", capabilities.isolation));
    for check in &capabilities.checks {
        harness::tell(format_args!(
            "  {:<24} {:?}: {} {}",
            check.name, check.outcome, check.detail, check.hint
        ));
    }
    // An ordinary user has control groups only where a service manager gave it some.
    let has_groups = matches!(capabilities.isolation, Isolation::Full | Isolation::FullV1);
    let suite = Arc::new(suite::Suite { runtime: machine.runtime.clone(), limits: has_groups });
    let mut failed = harness::run(group, suite::tests(), &suite).await;
    failed += harness::run(group, native::tests(), &Arc::new(machine)).await;
    failed + harness::run(group, supervised::tests(), &Arc::new(())).await
}
