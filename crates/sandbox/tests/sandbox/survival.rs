//! Spawners that die, and what the next one finds.

use std::{collections::BTreeSet, fs, os::fd::AsFd as _, time::Duration};

use boatyard_sandbox::{
    client,
    protocol::{Reply, Request, SnapshotMode},
};

use crate::harness::{Host, LIMIT, Who, levels, name, new_id, plain_start};

#[test]
fn sandboxes_outlive_the_spawner() {
    for who in levels() {
        let mut host = Host::new(who);
        let (one, two) = (host.running(), host.running());
        host.sh(one, "echo kept > /work/file");
        host.restart(libc::SIGKILL);
        assert_eq!(host.ready.running, 2);
        assert_eq!(host.ping(one).unwrap().generation, 1);
        assert_eq!(host.sh(one, "cat /work/file"), "kept\n");
        // The new one can do everything with what it has not started.
        host.kill(one);
        assert!(host.ping(one).is_err());
        host.start(one, 2);
        assert_eq!(host.sh(one, "cat /work/file"), "kept\n");
        host.kill(two);
        let Reply::Workspaces { entries, .. } = host.call(&Request::List { after: 0 }) else {
            panic!("not a list");
        };
        let pids: Vec<bool> = entries.iter().map(|entry| entry.pid != 0).collect();
        assert_eq!(pids, [true, false]);
    }
}

#[test]
fn a_spawner_ends_with_its_server() {
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.running();
        // The other end closes, as it does when the server is killed.
        let (ours, _) = std::os::unix::net::UnixDatagram::pair().unwrap();
        host.client = client::Client::new(ours.into());
        assert!(host.child.wait().unwrap().success());
        assert_eq!(host.ping(ws).unwrap().generation, 1);
        host.restart(libc::SIGKILL);
        assert_eq!(host.ready.running, 1);
    }
}

#[test]
fn a_death_between_two_spawners_is_seen() {
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.create();
        let started = host.start(ws, 1);
        // SAFETY: integers only: our own children, the sandbox's first process last.
        unsafe {
            libc::kill(host.child.id().cast_signed(), libc::SIGSTOP);
            libc::kill(started.pid.cast_signed(), libc::SIGKILL);
        }
        host.restart(libc::SIGKILL);
        assert_eq!(host.ready.running, 0);
        host.start(ws, 2);
        assert_eq!(host.ping(ws).unwrap().generation, 2);
    }
}

/// The spawner is killed at some moment of a start, of a kill, of a copy: afterwards a new one
/// knows everything that runs, and nothing is left over.
#[test]
fn a_spawner_killed_at_any_moment_leaves_nothing_behind() {
    for who in levels() {
        let mut host = Host::new(who);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
        let ws = host.create();
        let mut generation = 0;
        for round in 0..rounds() {
            generation += 1;
            let start = Request::Start(plain_start(ws, generation));
            client::send(host.client.as_fd(), 1_000_000 + round, &start).unwrap();
            if round % 3 == 2 {
                client::send(host.client.as_fd(), 2_000_000 + round, &Request::Kill { ws })
                    .unwrap();
            }
            // Not to wait for something, but to hit another moment each time.
            std::thread::sleep(Duration::from_micros(150 * (round % 48)));
            host.restart(libc::SIGKILL);
            let Reply::Workspaces { entries, .. } = host.call(&Request::List { after: 0 }) else {
                panic!("not a list");
            };
            if entries[0].pid != 0 {
                // It runs, or was past the gate and is about to.
                let deadline = std::time::Instant::now() + LIMIT;
                while host.ping(ws).is_err() && is_running(&mut host, ws) {
                    assert!(std::time::Instant::now() < deadline, "round {round}");
                }
            }
            host.kill(ws);
            assert_eq!(first_processes(&host), 0, "round {round}");
            if who == Who::Root {
                assert_eq!(groups(&host), BTreeSet::new(), "round {round}");
            }
        }
        assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count(), mounts);
        host.start(ws, generation + 1);
        assert_eq!(host.run(ws, &["/bin/echo", "well"]), "well\n");
    }
}

#[test]
fn a_copy_that_was_cut_short_is_no_layer() {
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.running();
        host.sh(ws, "mkdir /work/many; cd /work/many; seq 3000 | xargs touch");
        for round in 0..4u64 {
            let copy = Request::Snapshot { ws, layer: new_id(), mode: SnapshotMode::Copy };
            client::send(host.client.as_fd(), 1_000_000 + round, &copy).unwrap();
            std::thread::sleep(Duration::from_millis(3 * round));
            host.restart(libc::SIGKILL);
            let Reply::Ids { ids: layers, .. } = host.call(&Request::ListLayers { after: 0 })
            else {
                panic!("not a list");
            };
            // Either it is whole, or it is not there.
            for layer in layers {
                let folder = host
                    .config
                    .data
                    .join("sandboxes/layers")
                    .join(crate::harness::named("lay", layer))
                    .join("work/many");
                assert_eq!(fs::read_dir(folder).unwrap().count(), 3000);
                host.call(&Request::RemoveLayer { layer });
            }
            assert_eq!(host.run(ws, &["/bin/echo", "not frozen"]), "not frozen\n");
        }
    }
}

#[test]
fn the_mark_of_a_host_crash_makes_the_next_start_unclean() {
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.running();
        host.kill(ws);
        assert!(!host.start(ws, 2).unclean, "the same boot");
        host.kill(ws);
        let meta = host.config.data.join("sandboxes/ws").join(name(ws)).join("meta");
        let mut record = fs::read(&meta).unwrap();
        // Another boot.
        record[32] ^= 0xff;
        fs::write(&meta, &record).unwrap();
        // A sync comes too late now, and must not hide it.
        assert_eq!(host.call(&Request::Sync { ws }), Reply::Done);
        assert!(host.start(ws, 3).unclean);
        host.kill(ws);
        assert_eq!(host.call(&Request::Sync { ws }), Reply::Done);
        let mut record = fs::read(&meta).unwrap();
        record[32] ^= 0xff;
        fs::write(&meta, &record).unwrap();
        assert!(!host.start(ws, 4).unclean, "it was synced after it was stopped");
    }
}

/// How often the spawner is killed: `BOATYARD_SOAK` times, or a few.
fn rounds() -> u64 {
    std::env::var("BOATYARD_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(24)
}

fn is_running(host: &mut Host, ws: u128) -> bool {
    let Reply::Workspaces { entries, .. } = host.call(&Request::List { after: 0 }) else {
        panic!("not a list");
    };
    entries.iter().any(|entry| entry.ws == ws && entry.pid != 0)
}

/// Live processes that run from the sealed memory file of this host's helper, spawners aside.
fn first_processes(host: &Host) -> usize {
    let data = host.config.data.to_str().unwrap().to_owned();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|pid| {
            // Its mounts come from this data folder: known by the workspace's overlay.
            fs::read_to_string(format!("/proc/{pid}/mountinfo"))
                .is_ok_and(|mounts| mounts.contains("upperdir=mnt/ws/") && mounts.contains(&data))
        })
        .count()
}

/// Groups of workspaces of this host, in any hierarchy.
fn groups(host: &Host) -> BTreeSet<String> {
    let base = format!("boatyard-{}", host.config.instance());
    let mut found = BTreeSet::new();
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let Ok(entries) = fs::read_dir(hierarchy.path().join(&base)) else { continue };
        found.extend(
            entries
                .flatten()
                .map(|entry| entry.path().display().to_string())
                .filter(|path| path.contains("ws_")),
        );
    }
    found
}
