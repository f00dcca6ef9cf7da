//! Installed tools: kept from a workspace, shown in all.

use std::{fs, os::fd::AsFd as _, path::PathBuf, process::Command, time::Duration};

use boatyard_sandbox::{
    Error, client,
    protocol::{FailureKind, Reply, Request},
};

use crate::harness::{Host, Who, is_root, levels, named, new_id};

const INSTALL: &str = "cd /work && mkdir -p bin lib/deep && \
    printf '#!/bin/sh\\necho runs as $(id -u)\\n' > bin/tool && chmod 755 bin/tool && \
    cp /usr/bin/id bin/rootly && chmod 6755 bin/rootly && \
    ln -s ../../../../../../etc/shadow lib/out && ln -s nowhere lib/dangling && \
    echo data > lib/deep/file && chmod 700 lib";

#[test]
fn a_tool_is_seen_by_all_and_written_by_nobody() {
    for who in levels() {
        let mut host = Host::new(who);
        // This one runs before there is any tool.
        let early = host.running();
        let builder = host.running();
        host.sh(builder, INSTALL);
        let tool = new_id();
        let keep = Request::KeepTool { ws: builder, tool };
        assert_eq!(refusal(&mut host, &keep), FailureKind::Running);
        host.kill(builder);
        assert_eq!(host.call(&keep), Reply::Done);
        assert_eq!(refusal(&mut host, &keep), FailureKind::Exists);
        host.start(builder, 2);
        assert_eq!(host.sh(builder, "ls -A /work; touch /work/again"), "");
        host.kill(builder);
        assert_eq!(host.call(&Request::Remove { ws: builder }), Reply::Done);
        assert_eq!(refusal(&mut host, &keep), FailureKind::Missing);

        let late = host.running();
        let folder = format!("/opt/boatyard/tools/{}", named("tol", tool));
        for ws in [early, late] {
            let uid = host.sh(ws, "id -u");
            assert_eq!(host.sh(ws, &format!("{folder}/bin/tool")), format!("runs as {uid}"));
            assert_eq!(host.sh(ws, &format!("cat {folder}/lib/deep/file")), "data\n");
            // The set-user-id bit is there and without effect.
            let ids = format!("stat -c %a {folder}/bin/rootly; {folder}/bin/rootly -u");
            assert_eq!(host.sh(ws, &ids), format!("6755\n{uid}"));
            let flags = "grep ' /opt/boatyard/tools ' /proc/self/mountinfo | cut -d' ' -f6";
            let flags = host.sh(ws, flags);
            for flag in ["ro", "nosuid", "nodev"] {
                assert!(flags.trim().split(',').any(|known| known == flag), "{flags}");
            }
            assert!(!flags.contains("noexec"), "{flags}");
            for attempt in
                ["rm bin/tool", "echo x >> bin/tool", "chmod 777 bin", "mkdir x", "rm lib/out"]
            {
                let attempt =
                    format!("cd {folder} && ({attempt}) 2>/dev/null && echo done || echo no");
                assert_eq!(host.sh(ws, &attempt), "no\n", "{attempt}");
            }
        }

        assert_eq!(tools(&mut host), [tool]);
        let Reply::Usage { bytes, inodes } = host.call(&Request::ToolUsage { tool }) else {
            panic!("not a usage");
        };
        assert!(bytes > 4096 && inodes == 8, "{bytes} {inodes}");
        host.restart(libc::SIGKILL);
        assert_eq!(tools(&mut host), [tool]);
        assert_eq!(host.call(&Request::RemoveTool { tool }), Reply::Done);
        assert_eq!(host.sh(late, "ls /opt/boatyard/tools"), "");
        assert_eq!(refusal(&mut host, &Request::RemoveTool { tool }), FailureKind::Missing);
        assert_eq!(refusal(&mut host, &Request::ToolUsage { tool }), FailureKind::Missing);
        assert_eq!(tools(&mut host), []);
    }
}

#[test]
fn what_sandboxes_could_talk_through_is_no_tool() {
    for who in levels() {
        let mut host = Host::new(who);
        let builder = host.running();
        host.sh(builder, "mkdir -p /work/a/b && mkfifo /work/a/b/pipe");
        host.kill(builder);
        let keep = Request::KeepTool { ws: builder, tool: new_id() };
        match host.try_call(&keep) {
            Err(Error::Refused(failure)) => {
                assert_eq!(failure.kind, FailureKind::Invalid);
                assert!(failure.hint.contains("pipe"), "{failure:?}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(tools(&mut host), []);
        // It is as it was, and without the pipe it will do.
        host.start(builder, 2);
        assert_eq!(host.sh(builder, "rm -v /work/a/b/pipe | wc -l"), "1\n");
        host.kill(builder);
        assert_eq!(host.call(&keep), Reply::Done);
    }
}

#[test]
fn a_tool_is_whole_or_not_there_whenever_the_spawner_dies() {
    for who in levels() {
        let mut host = Host::new(who);
        for round in 0..8u64 {
            let builder = host.running();
            host.sh(builder, "cd /work; seq 300 | xargs touch");
            host.kill(builder);
            let tool = new_id();
            let keep = Request::KeepTool { ws: builder, tool };
            client::send(host.client.as_fd(), 1_000_000 + round, &keep).unwrap();
            // Not to wait for something, but to hit another moment each time.
            std::thread::sleep(Duration::from_millis(2 * round));
            host.restart(libc::SIGKILL);
            // As the server does it: what it has no answer to, it asks again.
            match host.try_call(&keep) {
                Ok(reply) => assert_eq!(reply, Reply::Done),
                Err(Error::Refused(failure)) => assert_eq!(failure.kind, FailureKind::Exists),
                Err(error) => panic!("{error}"),
            }
            let folder = host.config.data.join("sandboxes/tools").join(named("tol", tool));
            assert_eq!(fs::read_dir(folder).unwrap().count(), 300, "round {round}");
            host.start(builder, 2);
            assert_eq!(host.sh(builder, "ls -A /work; touch /work/x"), "");
            host.kill(builder);
            assert_eq!(host.call(&Request::Remove { ws: builder }), Reply::Done);
        }
        assert_eq!(tools(&mut host).len(), 8);
    }
}

/// As on machines that are hardened: the file system of the data folder is mounted `noexec`.
#[test]
fn tools_run_as_root_wherever_the_data_folder_is() {
    if !is_root() {
        return;
    }
    let mut host = Host::new(Who::Root);
    let data = host.config.data.clone();
    mount(&["--bind", data.to_str().unwrap(), data.to_str().unwrap()]);
    let _mounted = Mounted(data.clone());
    mount(&["-o", "remount,bind,noexec", data.to_str().unwrap()]);
    host.restart(libc::SIGKILL);
    let builder = host.running();
    host.sh(builder, INSTALL);
    host.kill(builder);
    let tool = new_id();
    assert_eq!(host.call(&Request::KeepTool { ws: builder, tool }), Reply::Done);
    let ws = host.running();
    let program = format!("/opt/boatyard/tools/{}/bin/tool", named("tol", tool));
    assert_eq!(host.run(ws, &[&program]), "runs as 1000\n");
}

fn mount(arguments: &[&str]) {
    let status = Command::new("mount").args(arguments).status().unwrap();
    assert!(status.success(), "mount {arguments:?}");
}

/// Taken away in the end, however the test went.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        // What is left is seen by whoever removes the folder.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn tools(host: &mut Host) -> Vec<u128> {
    let Reply::Ids { ids, more: false } = host.call(&Request::ListTools { after: 0 }) else {
        panic!("not a list");
    };
    ids
}

fn refusal(host: &mut Host, request: &Request) -> FailureKind {
    match host.try_call(request) {
        Err(Error::Refused(failure)) => failure.kind,
        other => panic!("{other:?}"),
    }
}
