//! Runs tests one after the other; each is an async function over a shared value.
//!
//! The tests need a process whose first act, before any thread, is up to them, so there is no
//! libtest: `cargo test --test conformance -- WORD` runs the tests whose name contains the word.

use std::{panic::Location, pin::Pin, sync::Arc, time::Duration};

/// A test that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(240);

/// A test with its name.
pub struct Test<T> {
    pub name: &'static str,
    pub run: fn(Arc<T>) -> Boxed,
}

/// A test under way.
pub type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Names an async function as a test.
macro_rules! test {
    ($function:path) => {
        crate::harness::Test {
            name: stringify!($function),
            run: |shared| Box::pin(async move { $function(&shared).await }),
        }
    };
}
pub(crate) use test;

/// Runs those tests that were asked for; the number that failed.
pub async fn run<T: Send + Sync + 'static>(
    group: &str,
    tests: Vec<Test<T>>,
    shared: &Arc<T>,
) -> usize {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let mut failed = 0;
    for test in tests {
        let name = format!("{group}: {}", test.name.replace("::", " ").replace('_', " "));
        let is_wanted =
            |word: &String| test.name.contains(word.as_str()) || group.contains(word.as_str());
        if !wanted.is_empty() && !wanted.iter().any(is_wanted) {
            continue;
        }
        let begin = std::time::Instant::now();
        let task = tokio::spawn((test.run)(shared.clone()));
        let abort = task.abort_handle();
        let result = match tokio::time::timeout(DEADLINE, task).await {
            Ok(Ok(())) => "ok",
            Ok(Err(_)) => "FAILED",
            Err(_) => {
                abort.abort();
                "FAILED: hangs"
            }
        };
        failed += usize::from(result != "ok");
        tell(format_args!("{name} ... {result} ({} ms)", begin.elapsed().as_millis()));
    }
    failed
}

/// Says something on standard output, as a test runner does.
pub fn tell(what: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{what}").unwrap_or_else(|error| {
        panic!("standard output is gone: {error} ({})", Location::caller());
    });
}
