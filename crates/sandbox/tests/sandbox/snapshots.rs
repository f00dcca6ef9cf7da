//! Layers: freezing, forking, deleting what lies below, measuring.

use boatyard_sandbox::{
    Error,
    protocol::{FailureKind, Reply, Request, SnapshotMode},
};

use crate::harness::{Host, levels, new_id};

#[test]
fn a_fork_shares_the_past_and_nothing_of_the_future() {
    for who in levels() {
        let mut host = Host::new(who);
        let first = host.running();
        host.sh(first, "mkdir -p /work/folder; echo one > /work/folder/file; echo old > /work/gone; ln -s file /work/folder/link; chmod 4755 /work/folder/file");
        host.kill(first);
        let layer = new_id();
        let snapshot = |ws, layer, mode| Request::Snapshot { ws, layer, mode };
        assert_eq!(host.call(&snapshot(first, layer, SnapshotMode::Rename)), Reply::Done);
        let again = host.try_call(&snapshot(first, layer, SnapshotMode::Rename));
        assert!(
            matches!(again, Err(Error::Refused(failure)) if failure.kind == FailureKind::Exists)
        );

        // Two that stand on it.
        let second = host.create();
        for (ws, generation) in [(first, 2), (second, 1)] {
            host.start_with(ws, generation, |start| start.lowers = vec![layer]);
            assert_eq!(host.sh(ws, "cat /work/folder/link /work/gone"), "one\nold\n");
        }
        host.sh(first, "rm /work/gone; rm -r /work/folder; mkdir /work/folder; echo first > /work/folder/new; mv /work/folder /work/moved");
        host.sh(second, "echo second >> /work/folder/file");
        assert_eq!(host.sh(first, "ls /work /work/moved"), "/work:\nmoved\n\n/work/moved:\nnew\n");
        assert_eq!(host.sh(second, "cat /work/folder/file /work/gone"), "one\nsecond\nold\n");

        // A second layer on the first: whiteouts and opaque folders hold.
        host.kill(first);
        let top = new_id();
        assert_eq!(host.call(&snapshot(first, top, SnapshotMode::Rename)), Reply::Done);
        host.start_with(first, 3, |start| start.lowers = vec![top, layer]);
        assert_eq!(host.sh(first, "ls /work /work/moved"), "/work:\nmoved\n\n/work/moved:\nnew\n");

        let Reply::Ids { ids: mut layers, more } = host.call(&Request::ListLayers { after: 0 })
        else {
            panic!("not a list");
        };
        layers.sort_unstable();
        let mut expected = vec![layer, top];
        expected.sort_unstable();
        assert_eq!((layers, more), (expected, false));
        host.kill(first);
        assert_eq!(host.call(&Request::Remove { ws: first }), Reply::Done);
        assert_eq!(host.call(&Request::RemoveLayer { layer: top }), Reply::Done);
        assert_eq!(host.sh(second, "cat /work/gone"), "old\n");
    }
}

#[test]
fn a_running_workspace_is_copied_as_it_is_at_one_moment() {
    for who in levels() {
        let mut host = Host::new(who);
        let base = host.running();
        host.sh(base, "echo old > /work/gone; mkdir /work/replaced; echo x > /work/replaced/x");
        host.kill(base);
        let layer = new_id();
        let rename = Request::Snapshot { ws: base, layer, mode: SnapshotMode::Rename };
        assert_eq!(host.call(&rename), Reply::Done);
        let ws = host.create();
        host.start_with(ws, 1, |start| start.lowers = vec![layer]);
        host.sh(ws, "rm /work/gone; rm -r /work/replaced; mkdir /work/replaced; echo y > /work/replaced/y; echo n > ~/note; ln ~/note ~/again; truncate -s 10M /work/sparse");
        // Something that writes all the time, and has begun.
        host.sh(ws, "(while :; do echo line >> /work/log; done) >/dev/null 2>&1 & until [ -s /work/log ]; do :; done");
        let copy = new_id();
        let request = Request::Snapshot { ws, layer: copy, mode: SnapshotMode::Copy };
        assert_eq!(host.call(&request), Reply::Done);
        let fork = host.create();
        host.start_with(fork, 1, |start| start.lowers = vec![copy, layer]);
        assert_eq!(
            host.sh(fork, "ls /work /work/replaced"),
            "/work:\nlog\nreplaced\nsparse\n\n/work/replaced:\ny\n"
        );
        assert_eq!(host.sh(fork, "stat -c '%h %U %s' ~/note /work/sparse"), {
            let user = "agent";
            format!("2 {user} 2\n1 {user} 10485760\n")
        });
        // The original goes on.
        host.sh(ws, "a=$(wc -l < /work/log); while [ $(wc -l < /work/log) = $a ]; do :; done");
    }
}

#[test]
fn usage_is_what_was_written() {
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.running();
        let usage = |host: &mut Host| match host.call(&Request::Usage { ws }) {
            Reply::Usage { bytes, inodes } => (bytes, inodes),
            other => panic!("{other:?}"),
        };
        let (bytes, inodes) = usage(&mut host);
        host.sh(ws, "head -c 5000000 /dev/urandom > /work/big; for i in $(seq 100); do : > /work/$i; done; sync");
        let (more_bytes, more_inodes) = usage(&mut host);
        assert_eq!(more_inodes - inodes, 101);
        assert!(more_bytes - bytes >= 5_000_000 && more_bytes - bytes < 6_000_000, "{more_bytes}");
        assert_eq!(host.call(&Request::Sync { ws }), Reply::Done);
    }
}

#[test]
fn many_layers_are_fine() {
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.create();
        let mut layers: Vec<u128> = Vec::new();
        for generation in 1..=boatyard_sandbox::protocol::LOWERS_MAX as u64 {
            host.start_with(ws, generation, |start| start.lowers.clone_from(&layers));
            if generation % 16 == 1 {
                host.sh(ws, &format!("echo {generation} > /work/{generation}"));
            }
            host.kill(ws);
            let layer = new_id();
            let rename = Request::Snapshot { ws, layer, mode: SnapshotMode::Rename };
            assert_eq!(host.call(&rename), Reply::Done);
            layers.insert(0, layer);
        }
        host.start_with(ws, 65, |start| start.lowers.clone_from(&layers));
        assert_eq!(host.sh(ws, "ls /work"), "1\n17\n33\n49\n");
    }
}

#[test]
fn a_mirror_is_shown_read_only() {
    for who in levels() {
        let mut host = Host::new(who);
        let repository = new_id();
        let mirror = host
            .config
            .data
            .join("mirrors")
            .join(format!("{}.git", crate::harness::named("rep", repository)));
        std::fs::create_dir_all(&mirror).unwrap();
        std::fs::write(mirror.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        if crate::harness::is_root() {
            for path in [mirror.parent().unwrap(), &mirror, &mirror.join("HEAD")] {
                std::os::unix::fs::chown(
                    path,
                    Some(host.config.server_uid),
                    Some(host.config.server_gid),
                )
                .unwrap();
            }
        }
        let ws = host.create();
        host.start_with(ws, 1, |start| start.mirror = Some(repository));
        let text = host.sh(ws, "cat /mirror/HEAD; touch /mirror/x 2>/dev/null || echo read-only");
        assert_eq!(text, "ref: refs/heads/main\nread-only\n");
    }
}
