//! Files: kept, shared, counted.

use std::io::Read as _;

use boatyard_model::{LayerId, WorkspaceId};
use boatyard_runtime::{Error, SnapshotKind};

use super::{Place, Suite, assert_error, connect_fails};

pub async fn survive_kill_and_start(suite: &Suite) {
    let (mut place, inside) = Place::started(suite).await;
    let wrote =
        inside.sh("echo one > /work/a && mkdir -p ~/deep && echo two > ~/deep/b && id -u").await;
    wrote.ok();
    assert_eq!(place.existing().await.unwrap().running, Some(1));
    assert_error!(suite.runtime.remove(place.id).await, Error::Running(_));

    place.kill().await;
    inside.ended().await;
    assert!(matches!(connect_fails(&*suite.runtime, place.id).await, Error::NotRunning(_)));
    assert_eq!(place.existing().await.unwrap().running, None);
    // A kill of what does not run is fine.
    place.kill().await;

    let inside = place.start().await;
    assert_eq!(inside.sh("cat /work/a /home/agent/deep/b; ls /tmp").await.ok(), "one\ntwo\n");
    suite.runtime.sync(place.id).await.unwrap();
    place.remove().await;
}

pub async fn are_refused_where_they_do_not_exist(suite: &Suite) {
    let nowhere = WorkspaceId::new();
    let runtime = &suite.runtime;
    assert!(matches!(connect_fails(&**runtime, nowhere).await, Error::NotRunning(_)));
    assert_error!(runtime.disk_usage(nowhere).await, Error::NotFound(_));
    assert_error!(runtime.spool(nowhere).await, Error::NotFound(_));
    assert_error!(
        runtime.snapshot(nowhere, LayerId::new(), SnapshotKind::Moved).await,
        Error::NotFound(_)
    );
    assert_error!(runtime.egress_listener(nowhere).await, Error::NotRunning(_));
    assert_error!(runtime.gateway_listener(nowhere).await, Error::NotRunning(_));
    runtime.remove_layer(LayerId::new()).await.unwrap();
    // What ran before must not come back empty.
    let gone = Place { generation: 2, ..Place::unmade(suite) };
    assert_error!(runtime.start(gone.id, &gone.spec()).await, Error::NotFound(_));

    let mut place = Place::create(suite).await;
    assert_error!(runtime.create(place.id).await, Error::Exists(_));
    place.layers = vec![LayerId::new()];
    place.generation = 1;
    let missing_layer = runtime.start(place.id, &place.spec()).await;
    assert!(missing_layer.is_err(), "{missing_layer:?}");
    place.layers.clear();
    place.generation = 1;
    place.start().await;
    place.remove().await;
}

pub async fn of_a_fork_and_its_source_do_not_disturb_each_other(suite: &Suite) {
    let (mut source, inside) = Place::started(suite).await;
    inside
        .sh("cd /work && echo base > kept && echo base > changed && echo base > gone && \
             mkdir -p tree/sub && echo leaf > tree/sub/leaf && ln -s kept link && chmod 750 kept")
        .await
        .ok();
    source.kill().await;
    let copied = suite.runtime.snapshot(source.id, LayerId::new(), SnapshotKind::Copied).await;
    assert_error!(copied, Error::NotRunning(_));
    let first = source.snapshot(SnapshotKind::Moved).await;
    assert!(suite.runtime.list_layers().await.unwrap().contains(&first));

    source.layers = vec![first];
    let in_source = source.start().await;
    let (mut fork, in_fork) = Place::start_on(suite, &[first]).await;
    const STATE: &str = "cd /work && for f in kept changed gone new tree/sub/leaf link; do \
                         printf '%s=%s ' $f \"$(cat $f 2>/dev/null)\"; done; stat -c %a kept";
    let base = "kept=base changed=base gone=base new= tree/sub/leaf=leaf link=base 750\n";
    assert_eq!(in_source.sh(STATE).await.ok(), base);
    assert_eq!(in_fork.sh(STATE).await.ok(), base);

    in_fork.sh("cd /work && echo fork > changed && rm gone && echo fork > new").await.ok();
    in_source.sh("cd /work && rm -r tree && echo source > changed && mv kept moved").await.ok();
    let forked = "kept=base changed=fork gone= new=fork tree/sub/leaf=leaf link=base 750\n";
    assert_eq!(in_fork.sh(STATE).await.ok(), forked);
    let changed =
        in_source.sh("cd /work && cat changed moved; ls tree kept 2>/dev/null; true").await;
    assert_eq!(changed.ok(), "source\nbase\n");

    // A fork of the fork sees what both layers say, deletions included.
    fork.kill().await;
    let second = fork.snapshot(SnapshotKind::Moved).await;
    fork.layers = vec![second, first];
    let in_fork = fork.start().await;
    assert_eq!(in_fork.sh(STATE).await.ok(), forked);
    let (third, in_third) = Place::start_on(suite, &[second, first]).await;
    assert_eq!(in_third.sh(STATE).await.ok(), forked);
    let (plain, in_plain) = Place::start_on(suite, &[first]).await;
    assert_eq!(in_plain.sh(STATE).await.ok(), base);

    for place in [source, fork, third, plain] {
        place.remove().await;
    }
    for layer in [second, first] {
        suite.runtime.remove_layer(layer).await.unwrap();
        suite.runtime.remove_layer(layer).await.unwrap();
        assert!(!suite.runtime.list_layers().await.unwrap().contains(&layer));
    }
}

pub async fn of_a_running_workspace_are_copied(suite: &Suite) {
    let (place, inside) = Place::started(suite).await;
    inside.sh("cd /work && mkdir d && echo one > d/file && mkfifo pipe && chmod 700 d").await.ok();
    let (mut writer, _) = inside
        .start_until_line("echo up; while read word; do echo $word >> d/file; echo $word; done")
        .await;
    let moved = suite.runtime.snapshot(place.id, LayerId::new(), SnapshotKind::Moved).await;
    assert_error!(moved, Error::Running(_));
    let layer = place.snapshot(SnapshotKind::Copied).await;
    // It goes on as if nothing had been, and what it writes now is not in the layer.
    writer.send(b"two\n").await;
    assert_eq!(writer.line().await, "two");
    let (fork, in_fork) = Place::start_on(suite, &[layer]).await;
    let found = in_fork.sh("cd /work && cat d/file && stat -c %a:%F d pipe").await.ok();
    assert_eq!(found, "one\n700:directory\n644:fifo\n");
    in_fork.sh("echo fork >> /work/d/file").await.ok();
    assert_eq!(inside.sh("cat /work/d/file").await.ok(), "one\ntwo\n");
    place.remove().await;
    fork.remove().await;
    suite.runtime.remove_layer(layer).await.unwrap();
}

pub async fn take_disk_that_is_counted(suite: &Suite) {
    let (place, inside) = Place::started(suite).await;
    let before = suite.runtime.disk_usage(place.id).await.unwrap();
    inside
        .sh("cd /work && head -c 3000000 /dev/urandom > blob && sync blob && touch a b c")
        .await
        .ok();
    let after = suite.runtime.disk_usage(place.id).await.unwrap();
    assert!(after.bytes >= before.bytes + 3_000_000, "{before:?} {after:?}");
    assert_eq!(after.inodes, before.inodes + 4);
    place.kill().await;
    let layer = place.snapshot(SnapshotKind::Moved).await;
    let frozen = suite.runtime.layer_usage(layer).await.unwrap();
    assert!(frozen.bytes >= 3_000_000, "{frozen:?}");
    let left = suite.runtime.disk_usage(place.id).await.unwrap();
    assert!(left.bytes < 1_000_000, "{left:?}");
    place.remove().await;
    suite.runtime.remove_layer(layer).await.unwrap();
    suite.runtime.layer_usage(layer).await.unwrap_err();
}

pub async fn left_in_the_spool_can_be_read(suite: &Suite) {
    let (place, inside) = Place::started(suite).await;
    inside.sh("true").await.ok();
    place.kill().await;
    let spool = suite.runtime.spool(place.id).await.unwrap();
    let mut spool = spool.expect("a workspace that ran has a spool");
    let mut bytes = Vec::new();
    spool.read_to_end(&mut bytes).unwrap();
    assert!(bytes.len() as u64 <= 64 << 20);
    place.remove().await;
}
