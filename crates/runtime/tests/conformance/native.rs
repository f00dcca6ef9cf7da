//! What concerns the processes of the native driver: who may die, and what is left.

use std::{
    collections::BTreeSet,
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use boatyard_model::{RepositoryId, WorkspaceId};
use boatyard_runtime::{
    Error, Isolation, Runtime as _, SnapshotKind,
    native::{NativeRuntime, Source, launch::Launched, layout},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    data::{Data, Spawner},
    harness::{Test, test},
    inside::{Inside, PATIENCE},
    suite::{Place, Suite, marked, until},
};

pub fn tests() -> Vec<Test<Machine>> {
    vec![
        test!(a_killed_server_finds_its_workspaces_again),
        test!(a_killed_spawner_is_replaced),
        test!(a_killed_serve_is_replaced_and_its_work_is_gone),
        test!(a_workspace_that_ends_by_itself_is_told),
        test!(nothing_is_left_of_removed_workspaces),
        test!(a_mirror_is_shown_and_not_written),
        test!(many_starts_at_once_all_succeed),
    ]
}

/// A data folder with a spawner and a runtime.
pub struct Machine {
    pub runtime: Arc<NativeRuntime>,
    spawner: std::sync::Mutex<Spawner>,
    next: mpsc::Sender<OwnedFd>,
    // After the spawner: what is left is removed by another.
    data: Arc<Data>,
}

impl Machine {
    /// A new one.
    pub async fn new() -> Result<Self, Error> {
        Self::on(Arc::new(Data::new())).await
    }

    async fn on(data: Arc<Data>) -> Result<Self, Error> {
        layout::prepare(data.path())?;
        let Launched { child, socket } = data.settings.launch()?;
        let spawner = Spawner(child).into();
        let (next, sockets) = mpsc::channel(4);
        next.send(socket).await.unwrap();
        let source = Source::channel(sockets);
        let runtime = Arc::new(NativeRuntime::connect_spawner(source, data.path()).await?);
        Ok(Self { runtime, spawner, next, data })
    }

    fn suite(&self) -> Suite {
        let isolation = self.runtime.tried().map(|known| known.isolation);
        let has_groups = matches!(isolation, Some(Isolation::Full | Isolation::FullV1));
        Suite { runtime: self.runtime.clone(), limits: has_groups }
    }

    /// Drops everything that this process has of it, as a killed server would, and begins anew.
    async fn restart(self) -> Self {
        let Self { runtime, spawner, next, data } = self;
        drop((runtime, next));
        // A spawner ends with its server.
        let mut spawner = spawner.into_inner().unwrap();
        let waited = tokio::task::spawn_blocking(move || spawner.0.wait());
        timeout(PATIENCE, waited).await.expect("the spawner ends").unwrap().unwrap();
        Self::on(data).await.unwrap()
    }
}

fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z')))
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
}

fn parent(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:\t")).unwrap();
    line.parse().unwrap()
}

/// A process that runs inside until it is killed; its mark, and its id on the host.
async fn sleeper(inside: &Inside) -> (crate::inside::Running, String, u32) {
    let mark = WorkspaceId::new().to_string();
    // One process that never forks: a fork of it would bear the mark as well.
    let script = format!("echo up; exec -a {mark} sleep 100000");
    let (running, _) = inside.start_until_line(&script).await;
    until("the sleeper sleeps", || !marked(&mark).is_empty()).await;
    let pid = *marked(&mark).iter().next().expect("it sleeps");
    (running, mark, pid)
}

async fn a_killed_server_finds_its_workspaces_again(_: &Machine) {
    let machine = Machine::new().await.unwrap();
    let suite = machine.suite();
    let (place, inside) = Place::started(&suite).await;
    let (asleep, ..) = Place::started(&suite).await;
    asleep.kill().await;
    let (id, other) = (place.id, asleep.id);
    drop((place, asleep));
    // Not of this server's doing, so it is to survive it.
    inside
        .sh("setsid sh -c 'while :; do date +%s%N >> /work/tick; sleep 0.01; done' & true")
        .await
        .ok();
    drop((inside, suite));
    let machine = machine.restart().await;

    let found: BTreeSet<_> = machine
        .runtime
        .list()
        .await
        .unwrap()
        .into_iter()
        .map(|existing| (existing.workspace, existing.running))
        .collect();
    assert_eq!(found, BTreeSet::from([(id, Some(1)), (other, None)]));
    assert_eq!(machine.runtime.generation(id).await.unwrap(), 1);
    let inside = Inside::connect(&*machine.runtime, id).await.unwrap();
    let grows =
        "a=$(wc -l < /work/tick); until [ $(wc -l < /work/tick) -gt $a ]; do sleep 0.01; done";
    inside.sh(grows).await.ok();
    machine.runtime.egress_listener(id).await.unwrap();
    // The new spawner can end what the old one started.
    machine.runtime.kill(id).await.unwrap();
    inside.ended().await;
    for id in [id, other] {
        machine.runtime.remove(id).await.unwrap();
    }
}

async fn a_killed_spawner_is_replaced(_: &Machine) {
    let machine = Machine::new().await.unwrap();
    let suite = machine.suite();
    let (place, inside) = Place::started(&suite).await;
    let (_running, _, pid) = sleeper(&inside).await;
    {
        let mut spawner = machine.spawner.lock().unwrap();
        spawner.0.kill().unwrap();
        spawner.0.wait().unwrap();
    }
    // Whatever runs goes on, over the same link, without a spawner.
    assert_eq!(inside.sh("echo well").await.ok(), "well\n");
    // A request waits for the next spawner.
    let runtime = machine.runtime.clone();
    let waiting = tokio::spawn(async move { runtime.list().await });
    let Launched { child, socket } = machine.data.settings.launch().unwrap();
    *machine.spawner.lock().unwrap() = Spawner(child);
    machine.next.send(socket).await.unwrap();
    let found = timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap();
    assert!(found.iter().any(|found| found.workspace == place.id && found.running == Some(1)));
    assert!(is_alive(pid));
    let (other, in_other) = Place::started(&suite).await;
    assert_eq!(in_other.sh("echo well").await.ok(), "well\n");
    other.remove().await;
    place.snapshot(SnapshotKind::Copied).await;
    place.remove().await;
    assert!(!is_alive(pid));
}

async fn a_killed_serve_is_replaced_and_its_work_is_gone(machine: &Machine) {
    let suite = machine.suite();
    let (place, inside) = Place::started(&suite).await;
    let (_running, mark, pid) = sleeper(&inside).await;
    kill(parent(pid));
    inside.ended().await;
    until("what serve had started ends", || marked(&mark).is_empty()).await;
    // The workspace lives: the first process starts another.
    let inside = place.connect().await;
    assert_eq!(inside.sh("echo well").await.ok(), "well\n");
    assert_eq!(machine.runtime.generation(place.id).await.unwrap(), 1);
    place.remove().await;
}

async fn a_workspace_that_ends_by_itself_is_told(machine: &Machine) {
    let suite = machine.suite();
    let mut exits = machine.runtime.exits();
    let (mut place, inside) = Place::started(&suite).await;
    let (_running, _, pid) = sleeper(&inside).await;
    let init = parent(parent(pid));
    kill(init);
    let exited = timeout(PATIENCE, exits.recv()).await.unwrap().unwrap();
    assert_eq!((exited.workspace, exited.generation), (place.id, 1));
    assert!(!is_alive(pid));
    assert_eq!(place.existing().await.unwrap().running, None);
    let inside = place.start().await;
    assert_eq!(inside.sh("echo well").await.ok(), "well\n");
    place.remove().await;
}

/// What a workspace may leave behind on the host, by the texts that name it.
fn traces(machine: &Machine, ids: &[WorkspaceId]) -> Vec<String> {
    let mut found = Vec::new();
    let ids: Vec<String> = ids.iter().map(|id| id.to_string()).collect();
    let bare = |id: &str| id.trim_start_matches("ws_").to_owned();
    let names =
        |text: &str| ids.iter().any(|id| text.to_uppercase().contains(&bare(id).to_uppercase()));
    for process in fs::read_dir("/proc").unwrap().flatten() {
        if process.file_name().to_string_lossy().parse::<u32>().is_err() {
            continue;
        }
        for file in ["mountinfo", "cgroup"] {
            let text = fs::read_to_string(process.path().join(file)).unwrap_or_default();
            found.extend(
                text.lines()
                    .filter(|line| names(line))
                    .map(|line| format!("{}/{file}: {line}", process.path().display())),
            );
        }
    }
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup"), machine.data.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if names(&entry.file_name().to_string_lossy()) {
                found.push(path.display().to_string());
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            }
        }
    }
    found
}

async fn nothing_is_left_of_removed_workspaces(machine: &Machine) {
    let suite = machine.suite();
    let spawner = machine.spawner.lock().unwrap().0.id();
    let descriptors =
        || fs::read_dir(format!("/proc/{spawner}/fd")).map_or(0, |folder| folder.count());
    // The first may open what is kept open.
    let (place, _inside) = Place::started(&suite).await;
    place.remove().await;
    let before = descriptors();
    let mut ids = Vec::new();
    for round in 0..8 {
        let (mut place, inside) = Place::started(&suite).await;
        ids.push(place.id);
        inside.sh("echo x > /work/x; mkdir -p /work/a/b/c; (setsid sleep 1000 &)").await.ok();
        if round == 0 {
            assert!(
                !traces(machine, &ids).is_empty(),
                "the search finds a workspace that is there"
            );
        }
        if round % 2 == 0 {
            place.kill().await;
            place.start().await;
        }
        place.remove().await;
    }
    let left = traces(machine, &ids);
    assert!(left.is_empty(), "{left:#?}");
    assert_eq!(descriptors(), before);
}

async fn a_mirror_is_shown_and_not_written(machine: &Machine) {
    let suite = machine.suite();
    let repository = RepositoryId::new();
    let bare = layout::mirrors(machine.data.path()).join(format!("{repository}.git"));
    make_mirror(&bare);
    let mut place = Place::create(&suite).await;
    place.generation = 1;
    let mut spec = place.spec();
    spec.mirror = Some(repository);
    machine.runtime.start(place.id, &spec).await.unwrap();
    let inside = place.connect().await;
    let subject = inside.sh("git --git-dir=/mirror log -1 --format=%s main").await.ok();
    assert_eq!(subject, "first\n");
    let touched = inside.sh("touch /mirror/x").await;
    assert!(
        touched.stderr.contains("Read-only") || touched.stderr.contains("denied"),
        "{touched:?}"
    );
    inside.sh("git clone -q --shared /mirror /work/copy && cat /work/copy/file").await.ok();
    place.remove().await;
    spec.mirror = Some(RepositoryId::new());
    let place = Place::create(&suite).await;
    let refused = machine.runtime.start(place.id, &spec).await;
    assert!(matches!(refused, Err(Error::Step { .. } | Error::NotFound(_))), "{refused:?}");
    machine.runtime.remove(place.id).await.unwrap();
}

/// A bare repository with one commit.
fn make_mirror(bare: &Path) {
    let work = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        let status = Command::new("git")
            .current_dir(work.path())
            .args(["-c", "user.name=T", "-c", "user.email=t@example.com"])
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .status()
            .unwrap();
        assert!(status.success(), "{arguments:?}");
    };
    fs::write(work.path().join("file"), "content\n").unwrap();
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "first"]);
    git(&["clone", "-q", "--bare", ".", &bare.display().to_string()]);
    // The server owns its mirrors.
    if rustix::process::geteuid().is_root() {
        let mut all = vec![bare.to_owned()];
        while let Some(path) = all.pop() {
            let owner = Some(layout::SERVER_UID);
            std::os::unix::fs::chown(&path, owner, owner).unwrap();
            if path.is_dir() {
                all.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
    }
}

async fn many_starts_at_once_all_succeed(machine: &Machine) {
    const MANY: usize = 100;
    let suite = Arc::new(machine.suite());
    let tasks: Vec<_> = (0..MANY)
        .map(|n| {
            let suite = suite.clone();
            tokio::spawn(async move {
                let (place, inside) = Place::started(&suite).await;
                let said = inside.sh(&format!("echo {n} > /work/n; cat /work/n")).await.ok();
                assert_eq!(said, format!("{n}\n"));
                place.remove().await;
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}
