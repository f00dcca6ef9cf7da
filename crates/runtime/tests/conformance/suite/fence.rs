//! What a process inside can see and do.

use super::{Place, Suite};

pub async fn nothing_of_the_host_is_seen(suite: &Suite) {
    let folder = tempfile::tempdir().unwrap();
    let on_host = folder.path().join("secret");
    std::fs::write(&on_host, "secret").unwrap();
    let (place, inside) = Place::started(suite).await;
    let path = on_host.display().to_string();
    let seen = inside
        .run(&["/bin/sh", "-c", "ls -d \"$1\" /var/lib/boatyard /run/docker.sock /var/run/docker.sock /etc/shadow /etc/sudoers /root/.* /boot /proc/sys/kernel/../../1/root/etc/shadow 2>/dev/null; true", "sh", &path])
        .await
        .ok();
    let unwanted: Vec<_> =
        seen.lines().filter(|line| !matches!(*line, "/root/." | "/root/..")).collect();
    assert!(unwanted.is_empty(), "{unwanted:?}");
    assert_eq!(inside.sh("ls -A /home /tmp").await.ok(), "/home:\nagent\nsessions\n\n/tmp:\n");
    assert_eq!(inside.sh("cat /proc/sys/kernel/hostname").await.ok(), "boatyard\n");
    // Only its own processes.
    let pids = inside.sh("ls /proc | grep -c '^[0-9]'").await.ok();
    assert!(pids.trim().parse::<u32>().unwrap() < 12, "{pids}");
    // No disk, memory, or device of the machine.
    let devices = inside.sh("find /dev -type b; ls -d /dev/mem /dev/kmsg /dev/kvm /dev/fuse /dev/net 2>/dev/null; true").await;
    assert_eq!(devices.ok(), "");
    // No variable of ours leaks in.
    let environment = inside.sh("env").await.ok();
    assert!(!environment.contains("CARGO"), "{environment}");
    // No descriptor beside the three.
    let descriptors = inside.run(&["/bin/ls", "/proc/self/fd"]).await.ok();
    assert_eq!(descriptors.split_whitespace().count(), 4, "{descriptors}");
    // Two workspaces don't see each other.
    let (other, in_other) = Place::started(suite).await;
    inside.sh("touch /tmp/mine /work/mine /home/agent/mine /dev/shm/mine").await.ok();
    assert_eq!(
        in_other.sh("ls -A /tmp /work /dev/shm").await.ok(),
        "/dev/shm:\n\n/tmp:\n\n/work:\n"
    );
    other.remove().await;
    place.remove().await;
}

pub async fn the_worker_has_no_way_up(suite: &Suite) {
    let (place, inside) = Place::started(suite).await;
    let status =
        inside.sh("grep -E '^(NoNewPrivs|CapEff|CapPrm|CapBnd|Seccomp):' /proc/self/status").await;
    let status = status.ok();
    for line in
        ["CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"]
    {
        assert!(status.contains(line), "{status}");
    }
    for attempt in [
        "mount -t tmpfs none /mnt",
        "unshare -Ur true",
        "touch /usr/x",
        "touch /etc/x",
        "touch /opt/boatyard/x",
        "touch /opt/boatyard/tools/x",
        "echo x > /proc/sys/kernel/core_pattern",
        "echo x > /proc/sysrq-trigger",
        "mknod /tmp/null c 1 3",
        "chroot / true",
    ] {
        let output = inside.sh(attempt).await;
        assert!(
            !matches!(output.exit, boatyard_link::message::ExecExit::Exited { code: 0 }),
            "`{attempt}` works"
        );
    }
    place.remove().await;
}
