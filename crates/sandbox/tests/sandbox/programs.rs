//! What people run: the programs of this host that workspaces should be able to use.

use std::path::Path;

use serde_json::json;

use crate::harness::{Host, levels};

/// Whether the host has it where workspaces see it.
fn have(program: &str) -> bool {
    ["/usr/local/bin", "/usr/bin"].iter().any(|folder| Path::new(folder).join(program).exists())
}

#[test]
fn the_worker_is_an_ordinary_user_with_a_home() {
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.running();
        assert_eq!(
            host.sh(ws, "id -un; echo ~; cd; pwd; umask; stat -c %U /work ."),
            "agent\n/home/agent\n/home/agent\n0022\nagent\nagent\n"
        );
        assert_eq!(host.sh(ws, "ls -d /sys /proc/1 2>/dev/null || true"), "/proc/1\n");
    }
}

#[test]
fn git_makes_repositories() {
    if !have("git") {
        return;
    }
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.running();
        let text = host.sh(
            ws,
            "git init -q -b main repo; cd repo; git config user.email a@b; git config user.name a; \
             echo x > x; git add x; git commit -q -m first; git clone -q . ../clone; \
             git -C ../clone log --format=%s; git gc -q; git worktree add -q ../tree; cat ../tree/x",
        );
        assert_eq!(text, "first\nx\n");
    }
}

#[test]
fn node_and_npm_run() {
    if !have("node") {
        return;
    }
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.create();
        host.start_with(ws, 1, |start| start.limits.memory_bytes = 2 << 30);
        let text = host.sh(
            ws,
            "node -e 'const w=require(\"worker_threads\");const n=require(\"net\");\
             if(w.isMainThread){new w.Worker(process.argv[1]?0:\"console.log(1+1)\",{eval:true});\
             n.createServer().listen(0,\"127.0.0.1\",function(){this.close();console.log(\"listening\")})}' \
             | sort",
        );
        assert_eq!(text, "2\nlistening\n");
        if have("npm") {
            assert!(
                host.sh(ws, "mkdir p; cd p; npm init -y >/dev/null; npm pkg get name")
                    .contains("\"p\"")
            );
        }
    }
}

#[test]
fn debuggers_may_trace_their_own() {
    if !have("strace") {
        return;
    }
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.running();
        let text = host
            .sh(ws, "strace -f -e trace=execve -o /tmp/trace /bin/true; grep -c execve /tmp/trace");
        assert_eq!(text, "1\n");
    }
}

#[test]
fn tools_of_the_host_are_shown_where_they_are() {
    // A home below /tmp can't be shown: a workspace has a /tmp of its own.
    let usable = |home: &std::ffi::OsString| {
        Path::new(home).is_dir() && !Path::new(home).starts_with("/tmp")
    };
    let Some(home) = std::env::var_os("HOME").filter(usable) else { return };
    for who in levels() {
        // A home that only its owner may enter, as homes are; with something to hide.
        let home = tempfile::Builder::new().prefix(".boatyard-test-").tempdir_in(&home).unwrap();
        let tool = home.path().join("tool");
        std::fs::create_dir(&tool).unwrap();
        std::fs::write(tool.join("hello"), "#!/bin/sh\necho from the tool\n").unwrap();
        std::fs::write(home.path().join("private"), "secret").unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(tool.join("hello"), executable).unwrap();
        if who == crate::harness::Who::User && crate::harness::is_root() {
            // Another user's home: that user has no way there either.
            continue;
        }
        let mut host = Host::with(who, |config, _| config.tools = vec![tool.clone()]);
        let ws = host.running();
        let hello = tool.join("hello");
        assert_eq!(host.run(ws, &[hello.to_str().unwrap()]), "from the tool\n");
        let text = host.sh(
            ws,
            &format!(
                "ls -A {}; touch {}/x 2>/dev/null || echo read-only",
                home.path().display(),
                tool.display()
            ),
        );
        assert_eq!(text, "tool\nread-only\n");
    }
}

#[test]
fn tools_that_would_open_a_way_are_refused() {
    for who in levels() {
        for path in ["/", "/proc", "/etc/shadow", "/run/docker.sock", "relative", "/usr/../root"] {
            let refused = crate::harness::refused(who, |config| {
                config.tools = vec![std::path::PathBuf::from(path)];
            });
            assert!(refused.contains("can't be shown"), "{path}: {refused}");
        }
    }
}

#[test]
fn a_program_that_is_missing_is_named_as_such() {
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.running();
        let answer = host.order(ws, &json!({ "op": "run", "argv": ["no-such-program"] }));
        assert!(
            answer["error"].as_str().unwrap().starts_with("find program failed: No such file"),
            "{answer}"
        );
        let answer =
            host.order(ws, &json!({ "op": "run", "argv": ["/bin/true"], "cwd": "/nowhere" }));
        assert!(answer["error"].as_str().unwrap().starts_with("enter folder failed"), "{answer}");
    }
}
