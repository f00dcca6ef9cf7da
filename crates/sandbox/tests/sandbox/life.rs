//! From creation to removal.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};

use boatyard_sandbox::{
    Error,
    fds::{Hello, Kind, LISTENER_OK, Listener},
    protocol::{FailureKind, Outcome, Reply, Request, SnapshotMode},
};
use serde_json::json;

use crate::harness::{Host, LIMIT, levels, name, new_id, plain_start};

#[test]
fn a_workspace_runs_commands_and_forgets_nothing_when_it_sleeps() {
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.running();
        assert_eq!(host.ping(ws).unwrap().generation, 1);
        assert_eq!(host.sh(ws, "pwd; cat /etc/hostname; hostname"), "/work\nboatyard\nboatyard\n");
        host.sh(ws, "echo kept > /work/file; echo mine > ~/dot; echo gone > /tmp/temporary");
        host.kill(ws);
        assert!(UnixStream::connect(host.socket(ws)).is_err());
        // As an earlier version left it.
        let changes = host.config.data.join("sandboxes/ws").join(name(ws)).join("u");
        fs::remove_dir(changes.join("home/sessions")).unwrap();
        host.start(ws, 2);
        assert_eq!(host.ping(ws).unwrap().generation, 2);
        assert_eq!(host.sh(ws, "cat /work/file ~/dot; ls /tmp"), "kept\nmine\n");
        assert!(changes.join("home/sessions").is_dir());
        host.kill(ws);
        assert_eq!(host.call(&Request::Remove { ws }), Reply::Done);
        let left = host.try_call(&Request::Start(plain_start(ws, 3)));
        assert!(
            matches!(left, Err(Error::Refused(failure)) if failure.kind == FailureKind::Missing)
        );
    }
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.running();
        let mut refused = |request: Request| match host.try_call(&request) {
            Err(Error::Refused(failure)) => failure.kind,
            other => panic!("{request:?}: {other:?}"),
        };
        assert_eq!(refused(Request::Create { ws }), FailureKind::Exists);
        assert_eq!(refused(Request::Remove { ws }), FailureKind::Running);
        assert_eq!(refused(Request::Start(plain_start(ws, 2))), FailureKind::Running);
        let rename = Request::Snapshot { ws, layer: new_id(), mode: SnapshotMode::Rename };
        assert_eq!(refused(rename), FailureKind::Running);
        let unknown = new_id();
        assert_eq!(refused(Request::Freeze { ws: unknown }), FailureKind::NotRunning);
        assert_eq!(refused(Request::Usage { ws: unknown }), FailureKind::Missing);
        assert_eq!(refused(Request::OpenSpool { ws: unknown }), FailureKind::Missing);
        assert_eq!(refused(Request::RemoveLayer { layer: unknown }), FailureKind::Missing);
        assert_eq!(host.call(&Request::Kill { ws }), Reply::Done);
        assert_eq!(host.call(&Request::Kill { ws }), Reply::Done, "killing the dead is no error");
        let mut refused = |request: Request| match host.try_call(&request) {
            Err(Error::Refused(failure)) => failure.kind,
            other => panic!("{request:?}: {other:?}"),
        };
        assert_eq!(refused(Request::Start(plain_start(ws, 1))), FailureKind::Invalid);
        let mut start = plain_start(ws, 2);
        start.lowers = vec![new_id()];
        assert_eq!(refused(Request::Start(start)), FailureKind::Missing);
        let mut start = plain_start(ws, 2);
        start.mirror = Some(new_id());
        assert_eq!(refused(Request::Start(start)), FailureKind::Missing);
        let mut start = plain_start(ws, 2);
        start.limits.processes = 1;
        assert_eq!(refused(Request::Start(start)), FailureKind::Invalid);
    }
}

#[test]
fn serve_is_started_when_needed_and_its_death_is_told_to_the_next() {
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.running();
        assert_eq!(host.ping(ws).unwrap().serve_pid, 0, "an idle workspace is its first process");
        let story = host.order(ws, &json!({ "op": "story" }));
        let text = story["output"].as_str().unwrap().to_owned();
        assert!(text.starts_with("generation 1 starts 1 last None"), "{text}");
        assert_eq!(host.ping(ws).unwrap().serve_pid, story["pid"].as_u64().unwrap() as u32);

        // What it started dies with it.
        let sleeper =
            host.order(ws, &json!({ "op": "run", "argv": ["/bin/sleep", "1000"], "detach": true }));
        assert!(sleeper["pid"].as_u64().unwrap() > 1);
        let mut stream = host.link(ws);
        std::io::Write::write_all(&mut stream, b"{\"op\":\"exit\",\"code\":3}\n").unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        let text = host.order(ws, &json!({ "op": "story" }))["output"].to_string();
        assert!(text.contains("starts 2 last Exited(3)"), "{text}");
        assert_eq!(
            host.sh(ws, "ps -e -o args= 2>/dev/null | grep -c '^sleep 1000' || true").trim(),
            "0"
        );
    }
}

#[test]
fn a_connection_that_serve_did_not_take_is_the_next_ones() {
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.running();
        // It takes one order, then ends without looking at the queue again.
        let mut slow = host.link(ws);
        std::io::Write::write_all(&mut slow, b"{\"op\":\"linger\",\"ms\":200}\n").unwrap();
        let text = host.order(ws, &json!({ "op": "story" }))["output"].to_string();
        assert!(text.contains("starts 2 last Exited(0)"), "{text}");
        drop(slow);
        host.kill(ws);
    }
}

#[test]
fn greetings_are_checked() {
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.running();
        for wrong in [&b"GET / HTTP/1.1\r\n"[..], &[0; 16], b"BYLK\x02\x01\0\0\0\0\0\0\0\0\0\0"] {
            let mut stream = UnixStream::connect(host.socket(ws)).unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            std::io::Write::write_all(&mut stream, wrong).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
        }
        // Silent ones are closed after a second, and do not keep others out.
        let silent: Vec<UnixStream> =
            (0..40).map(|_| UnixStream::connect(host.socket(ws)).unwrap()).collect();
        assert_eq!(host.ping(ws).unwrap().generation, 1);
        for mut stream in silent {
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
        }
    }
}

#[test]
fn the_spool_is_shared_with_the_host_and_kept() {
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.running();
        host.order(ws, &json!({ "op": "spool", "append": "an event" }));
        let read = |host: &mut Host| {
            let (reply, fd) = host.client.call(&Request::OpenSpool { ws }, LIMIT).unwrap();
            assert_eq!(reply, Reply::Spool);
            let mut text = String::new();
            fs::File::from(fd.unwrap()).read_to_string(&mut text).unwrap();
            text
        };
        assert_eq!(read(&mut host), "an event");
        host.kill(ws);
        assert_eq!(read(&mut host), "an event");
        host.start(ws, 2);
        assert_eq!(host.order(ws, &json!({ "op": "spool" }))["output"], "8");
    }
}

#[test]
fn what_ends_by_itself_is_told() {
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.create();
        let started = host.start(ws, 1);
        // SAFETY: integers only: the first process of our own sandbox.
        unsafe { libc::kill(started.pid.cast_signed(), libc::SIGKILL) };
        let notice = host.client.notice(LIMIT).unwrap();
        assert_eq!(notice, Some(Reply::Exited { ws, generation: 1 }));
        host.start(ws, 2);
        assert_eq!(host.ping(ws).unwrap().generation, 2);
    }
}

#[test]
fn lists_come_in_pages_in_order() {
    for who in levels() {
        let mut host = Host::new(who);
        let mut made: Vec<u128> = (0..600).map(|_| host.create()).collect();
        made.sort_unstable();
        host.start(made[0], 1);
        let (mut seen, mut after) = (Vec::new(), 0);
        loop {
            let Reply::Workspaces { entries, more } = host.call(&Request::List { after }) else {
                panic!("not a list");
            };
            after = entries.last().map_or(after, |entry| entry.ws);
            seen.extend(entries);
            if !more {
                break;
            }
        }
        assert_eq!(seen.iter().map(|entry| entry.ws).collect::<Vec<_>>(), made);
        assert_ne!(seen[0].pid, 0);
        assert_eq!((seen[1].pid, seen[1].generation), (0, 0));
    }
}

#[test]
fn a_probe_says_what_works() {
    for who in levels() {
        let mut host = Host::new(who);
        let Reply::Probed(report) = host.call(&Request::Probe) else { panic!("not a report") };
        assert_eq!(report.isolation, Some(host.ready.isolation), "{report:?}");
        assert!(report.checks.iter().all(|check| check.outcome != Outcome::Fails), "{report:#?}");
        assert!(report.checks.iter().any(|check| check.name == "landlock"));
        let Reply::Workspaces { entries, .. } = host.call(&Request::List { after: 0 }) else {
            panic!("not a list");
        };
        assert_eq!(entries, [], "nothing is left of it");
    }
}

#[test]
fn the_listeners_are_handed_out_and_reached_from_inside() {
    for (who, kind) in levels().into_iter().flat_map(|who| Listener::ALL.map(|kind| (who, kind))) {
        let mut host = Host::new(who);
        let ws = host.running();
        let mut stream = UnixStream::connect(host.socket(ws)).unwrap();
        stream.write_all(&Hello { kind: Kind::Listener(kind) }.encode()).unwrap();
        let listener = receive_listener(&stream);
        let server = std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            writeln!(connection, "from the host to {}", kind.port()).unwrap();
        });
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/{}; cat <&3", kind.port());
        let text = host.run(ws, &["/bin/bash", "-c", &script]);
        assert_eq!(text, format!("from the host to {}\n", kind.port()));
        server.join().unwrap();
    }
}

/// Takes the descriptor that comes with the byte.
fn receive_listener(stream: &UnixStream) -> std::net::TcpListener {
    use std::os::fd::{AsRawFd as _, FromRawFd as _};
    let mut byte = [0u8];
    let mut control = [0u64; 8];
    let mut iov = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: a valid message header with room for a descriptor, which the kernel fills.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut iov;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        assert_eq!(libc::recvmsg(stream.as_raw_fd(), &raw mut message, 0), 1);
        assert_eq!(byte[0], LISTENER_OK);
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let fd = libc::CMSG_DATA(header).cast::<i32>().read_unaligned();
        let listener = std::net::TcpListener::from_raw_fd(fd);
        listener.set_nonblocking(false).unwrap();
        listener
    }
}
