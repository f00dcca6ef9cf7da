//! What every runtime must do. Each test makes workspaces of its own and removes them.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use boatyard_model::{LayerId, WorkspaceId, WorkspaceLimits};
use boatyard_runtime::{Error, Existing, Runtime, SnapshotKind, StartSpec};

use crate::{
    harness::{Test, test},
    inside::{Inside, PATIENCE},
};

mod fence;
mod files;
mod limits;
mod network;
mod process;
mod tools;

/// The runtime under test, and what it says that it can.
pub struct Suite {
    pub runtime: Arc<dyn Runtime>,
    /// Whether limits on memory and processes hold for a workspace as a whole.
    pub limits: bool,
}

/// All tests.
pub fn tests() -> Vec<Test<Suite>> {
    vec![
        test!(files::survive_kill_and_start),
        test!(files::are_refused_where_they_do_not_exist),
        test!(files::of_a_fork_and_its_source_do_not_disturb_each_other),
        test!(files::of_a_running_workspace_are_copied),
        test!(files::take_disk_that_is_counted),
        test!(files::left_in_the_spool_can_be_read),
        test!(process::a_start_is_idempotent),
        test!(process::nothing_outlives_a_kill),
        test!(process::a_lost_link_is_made_again),
        test!(process::a_frozen_workspace_stands_still),
        test!(limits::a_fork_bomb_stays_inside),
        test!(limits::a_memory_bomb_is_killed),
        test!(fence::nothing_of_the_host_is_seen),
        test!(fence::the_worker_has_no_way_up),
        test!(tools::are_kept_and_appear_everywhere),
        test!(network::there_is_none_but_the_listeners),
        test!(network::connections_wait_for_whoever_takes_a_listener),
        test!(network::what_knows_of_no_proxy_is_caught),
        test!(network::names_are_kept_for_the_next_server),
        test!(network::who_connects_is_told),
    ]
}

/// A workspace that a test made; it must call [`Place::remove`] at its end.
pub struct Place<'s> {
    pub suite: &'s Suite,
    pub id: WorkspaceId,
    pub layers: Vec<LayerId>,
    pub generation: u64,
    pub limits: WorkspaceLimits,
}

impl<'s> Place<'s> {
    /// One that is not there yet: its first start makes it.
    pub fn unmade(suite: &'s Suite) -> Self {
        let limits = WorkspaceLimits { memory_bytes: 1 << 30, ..WorkspaceLimits::default() };
        Self { suite, id: WorkspaceId::new(), layers: Vec::new(), generation: 0, limits }
    }

    /// Makes one that does not run.
    pub async fn create(suite: &'s Suite) -> Self {
        let place = Self::unmade(suite);
        suite.runtime.create(place.id).await.unwrap();
        place
    }

    /// Makes one on these layers and starts it.
    pub async fn start_on(suite: &'s Suite, layers: &[LayerId]) -> (Self, Inside) {
        let mut place = Self { layers: layers.to_vec(), ..Self::unmade(suite) };
        let inside = place.start().await;
        (place, inside)
    }

    /// Makes one and starts it.
    pub async fn started(suite: &'s Suite) -> (Self, Inside) {
        Self::start_on(suite, &[]).await
    }

    pub fn spec(&self) -> StartSpec {
        StartSpec {
            generation: self.generation,
            layers: self.layers.clone(),
            mirror: None,
            limits: self.limits,
        }
    }

    /// Starts it and connects.
    pub async fn start(&mut self) -> Inside {
        self.generation += 1;
        let started = self.suite.runtime.start(self.id, &self.spec()).await.unwrap();
        let known = self.suite.runtime.tried().map(|known| known.isolation);
        assert_eq!(Some(started.isolation), known);
        assert!(!started.unclean);
        self.connect().await
    }

    pub async fn connect(&self) -> Inside {
        Inside::connect(&*self.suite.runtime, self.id).await.unwrap()
    }

    /// Ends it, and says how long that took.
    pub async fn kill(&self) -> Duration {
        let begin = Instant::now();
        self.suite.runtime.kill(self.id).await.unwrap();
        begin.elapsed()
    }

    /// Makes its changes a layer.
    pub async fn snapshot(&self, kind: SnapshotKind) -> LayerId {
        let layer = LayerId::new();
        self.suite.runtime.snapshot(self.id, layer, kind).await.unwrap();
        layer
    }

    pub async fn existing(&self) -> Option<Existing> {
        let all = self.suite.runtime.list().await.unwrap();
        all.into_iter().find(|existing| existing.workspace == self.id)
    }

    /// Ends and removes it.
    pub async fn remove(self) {
        self.kill().await;
        self.suite.runtime.remove(self.id).await.unwrap();
        assert_eq!(self.existing().await, None);
    }
}

/// The process ids on this host of processes that have `mark` as a word of their arguments.
pub fn marked(mark: &str) -> HashSet<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid = entry.ok()?.file_name().to_str()?.parse::<u32>().ok()?;
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let is_marked = arguments.split(|byte| *byte == 0).any(|word| word == mark.as_bytes());
        is_marked.then_some(pid)
    });
    processes.collect()
}

/// Waits until something outside of our control has happened.
#[track_caller]
pub fn until(what: &'static str, mut happened: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + PATIENCE;
        while !happened() {
            assert!(Instant::now() < deadline, "{what} did not happen ({caller})");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Asserts on the kind of error, with the error in the message.
macro_rules! assert_error {
    ($result:expr, $pattern:pat) => {
        match $result {
            Err($pattern) => {}
            other => panic!("expected {}, found {other:?}", stringify!($pattern)),
        }
    };
}
use assert_error;

/// The error when a workspace is not there.
async fn connect_fails(runtime: &dyn Runtime, workspace: WorkspaceId) -> Error {
    match runtime.connect(workspace).await {
        Ok(_) => panic!("it can be connected to"),
        Err(error) => error,
    }
}
