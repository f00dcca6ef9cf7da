//! Ways out of a sandbox, tried as the worker; what is allowed is a list kept here.

use std::collections::BTreeMap;

use serde_json::json;

use crate::harness::{Host, Who, levels};

/// What the probes of the helper may do. Everything else must be blocked.
const ALLOWED: &[&str] = &[
    "no randomization",
    "socket AF_UNIX",
    "socket AF_INET",
    "socket AF_INET6",
    "socket AF_NETLINK route",
    "trace own child",
    "make /work/x",
    "make /home/agent/x",
    "make /tmp/x",
    "make /dev/shm/x",
    "connect 127.0.0.1:3128",
    "connect 127.0.0.1:7080",
];

/// What the only id can do in addition, as documented: it owns the runner's processes and, on
/// disk, everything; signals to the first process do not arrive, so "allowed" there is harmless.
const ALLOWED_SINGLE: &[&str] = &[
    "setuid 0",
    "setgid 0",
    "signal 1",
    // The folder is the runner's.
    "make /home/sessions/x",
    // Their numbers only: none can be opened.
    "list /proc/1/fd",
    "list serve's descriptors",
];

#[test]
fn no_way_out_is_open() {
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.running();
        let output = host.part(ws, "probe");
        let mut wrong = Vec::new();
        let mut seen = BTreeMap::new();
        for line in output.lines() {
            let Some((name, result)) = line.split_once(": ") else { continue };
            seen.insert(name.to_owned(), result.to_owned());
            if result != "allowed" && !result.starts_with("blocked") {
                continue;
            }
            let expected =
                ALLOWED.contains(&name) || (who == Who::User && ALLOWED_SINGLE.contains(&name));
            if (result == "allowed") != expected {
                wrong.push(line.to_owned());
            }
        }
        assert!(seen.len() > 90, "the probes ended early:\n{output}");
        assert!(wrong.is_empty(), "{who:?}: {wrong:#?}\n{output}");
        for field in ["CapPrm", "CapEff", "CapBnd", "CapAmb", "CapInh"] {
            assert_eq!(seen[field], "0000000000000000", "{field}");
        }
        assert_eq!(seen["NoNewPrivs"], "1");
        assert_eq!(seen["Seccomp"], "2");
        assert_eq!(seen["descriptors beyond the three"], "[]");
        let writable: Vec<&str> = seen["writable mounts"].split(' ').collect();
        assert_eq!(writable, ["/tmp", "/work", "/home/agent", "/home/sessions"], "{output}");
        // It is still alive and well.
        assert_eq!(host.ping(ws).unwrap().generation, 1);
    }
}

#[test]
fn the_runner_itself_keeps_little() {
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.running();
        let answer = host.order(
            ws,
            &json!({
                "op": "run",
                "as_runner": true,
                "argv": ["/bin/sh", "-c", "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; mount -t tmpfs x /tmp 2>/dev/null || echo no mount"],
            }),
        );
        let text = answer["output"].as_str().unwrap();
        // CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID, SETPCAP.
        assert!(text.contains("CapEff:\t00000000000001eb"), "{text}");
        assert!(text.contains("CapBnd:\t00000000000001eb"), "{text}");
        assert!(text.contains("NoNewPrivs:\t1") && text.contains("no mount"), "{text}");
    }
}

#[test]
fn nothing_of_the_data_folder_or_another_workspace_is_seen() {
    for who in levels() {
        let mut host = Host::new(who);
        let (one, two) = (host.running(), host.running());
        host.sh(one, "echo secret-of-one > /work/secret; sleep 1000 >/dev/null 2>&1 &");
        let data = host.config.data.display().to_string();
        let text = host.sh(
            two,
            &format!(
                "ls {data} 2>/dev/null || echo no data; ls /work /home /mnt; \
                 ps -e -o args=; tr '\\0' ' ' < /proc/1/cmdline; cut -d' ' -f5 /proc/self/mountinfo"
            ),
        );
        assert!(text.starts_with("no data\n"), "{text}");
        for hidden in ["secret", "sleep 1000"] {
            assert!(!text.contains(hidden), "{hidden} in {text}");
        }
    }
}

#[test]
fn signals_do_not_end_the_first_process() {
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.running();
        let before = host.ping(ws).unwrap();
        host.sh(ws, "for s in 1 2 3 6 9 11 15 17 19 20; do kill -$s 1 2>/dev/null || true; done");
        assert_eq!(host.ping(ws).unwrap().generation, before.generation);
        // In one id the worker can end `serve`, which is documented; with two it can't.
        if who == Who::Root {
            let first = host.order(ws, &json!({ "op": "story" }))["pid"].clone();
            host.sh(ws, "kill -9 -1 2>/dev/null || true; kill -9 2 2>/dev/null || true");
            assert_eq!(host.order(ws, &json!({ "op": "story" }))["pid"], first);
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_32_bit_entry_kills() {
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.running();
        let argv = ["/opt/boatyard/boatyard-runner", "old-call"];
        let answer = host.order(ws, &json!({ "op": "run", "argv": argv }));
        // A kernel without that entry gives SIGSEGV.
        let signal = answer["signal"].as_i64().unwrap_or(0) as i32;
        assert!([libc::SIGSYS, libc::SIGSEGV].contains(&signal), "{answer}");
    }
}
