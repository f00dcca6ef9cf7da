//! The escape suite: in sandboxes, where every attack must fail, and outside, where many succeed.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    os::unix::{fs::PermissionsExt as _, net::UnixStream, process::CommandExt as _},
    process::{Command, Stdio},
};

use boatyard_sandbox::escape::{
    ARGUMENT, Bait, Baits, Group, House, Limited, NEIGHBOUR_ARGUMENT, Neighbour, Outcome, Report,
};
use boatyard_sandbox::fds::{Hello, Kind, Listener};
use serde_json::{Value, json};

use crate::{
    harness::{Host, LIMIT, Who, is_root, levels, name},
    network::{capture, receive},
};

const RUNNER: &str = "/opt/boatyard/boatyard-runner";
/// The groups without bombs, which have a test of their own, and without the server's.
const GROUPS: usize = Group::ALL.len() - 2;

fn reports(output: &str) -> Vec<Report> {
    output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}")))
        .collect()
}

/// Those with an outcome, as text.
fn of(reports: &[Report], wanted: &[Outcome]) -> Vec<String> {
    reports
        .iter()
        .filter(|report| wanted.contains(&report.outcome))
        .map(|report| format!("{} {}: {}", report.outcome, report.name, report.detail))
        .collect()
}

fn groups() -> Vec<&'static str> {
    Group::ALL[..GROUPS].iter().map(|group| group.as_str()).collect()
}

/// What is laid out for attacks from a workspace of this host.
fn bait(host: &Host, baits: &Baits, neighbour: u128) -> Bait {
    let data = &host.config.data;
    let told = host.order(
        neighbour,
        &json!({
            "op": "run",
            "first_line": true,
            "argv": [RUNNER, NEIGHBOUR_ARGUMENT, "boatyard-bait-of-the-neighbour"],
        }),
    );
    let told: Neighbour = serde_json::from_str(told["output"].as_str().unwrap()).unwrap();
    let folder = data.join("sandboxes/ws").join(name(neighbour));
    let files = ["u/work", "u/home/agent"]
        .iter()
        .flat_map(|place| told.shared.file.file_name().map(|file| folder.join(place).join(file)));
    Bait {
        data: Some(data.clone()),
        secrets: vec![data.join("client.json"), folder.join("spool"), folder.join("meta")],
        neighbour: Some(Neighbour {
            files: files.collect(),
            link: Some(data.join("run").join(format!("{}.sock", name(neighbour)))),
            ..told
        }),
        ..baits.bait.clone()
    }
}

fn lay() -> (Baits, tempfile::TempDir) {
    let folder = tempfile::Builder::new().prefix("boatyard-bait-").tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    (Baits::lay(folder.path()).unwrap(), folder)
}

/// Answers in the server's place: closes every connection, refuses every name.
fn refuse(host: &Host, ws: u128) {
    let caught = capture(host, ws);
    let mut listeners = caught.listeners;
    for listener in Listener::ALL {
        let mut stream = UnixStream::connect(host.socket(ws)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(&Hello { kind: Kind::Listener(listener) }.encode()).unwrap();
        listeners.extend(receive(&stream).into_iter().map(Into::into));
    }
    for listener in listeners {
        std::thread::spawn(move || while listener.accept().is_ok() {});
    }
    let dns = caught.dns;
    dns.set_read_timeout(None).unwrap();
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = dns.recv_from(&mut question) {
            (question[2], question[3]) = (0x80 | question[2], 5);
            // Who asked may have gone.
            let _ = dns.send_to(&question[..length], from);
        }
    });
}

fn run(host: &Host, ws: u128, bait: &Bait, wanted: &[&str], as_runner: bool) -> Vec<Report> {
    let argv: Vec<&str> = [RUNNER, ARGUMENT].iter().chain(wanted).copied().collect();
    let input = serde_json::to_string(bait).unwrap();
    let order = json!({ "op": "run", "argv": argv, "input": input, "as_runner": as_runner });
    let answer = host.order(ws, &order);
    assert_eq!(answer["error"], "", "{answer}");
    assert_eq!(answer["status"], 0, "{answer}");
    reports(answer["output"].as_str().unwrap())
}

#[test]
fn every_attack_fails_in_a_sandbox() {
    for who in levels() {
        let mut host = Host::new(who);
        let (ws, neighbour) = (host.running(), host.running());
        let (baits, _folder) = lay();
        let bait = bait(&host, &baits, neighbour);
        refuse(&host, ws);
        let reports = run(&host, ws, &bait, &groups(), false);
        let open = of(&reports, &[Outcome::Escaped, Outcome::Skipped, Outcome::Unlimited]);
        assert!(open.is_empty(), "{who:?}: {open:#?}");
        let expected: usize = Group::ALL[..GROUPS].iter().map(|g| g.attacks().len()).sum();
        assert_eq!(reports.len(), expected);
        assert!(expected >= 90, "{expected} attacks");
        assert_eq!(baits.touched(), [], "{who:?}");
        // It is still alive and well.
        assert_eq!(host.ping(ws).unwrap().generation, 1);
    }
}

#[test]
fn the_runner_itself_gets_out_no_more_than_the_worker() {
    // What is the runner's own is open to it, of course.
    let own = [
        "become-root",
        "become-others",
        "root-group",
        "take-capabilities",
        "has-capabilities",
        "ambient-capabilities",
        "own-set-user-id-program",
        "file-capabilities",
        "give-files-away",
        "kill-first",
        "signal-runner",
        "limits-of-runner",
        "priority-of-runner",
        "memory-score-of-runner",
        "write-spool",
        "open-descriptors-of-runner",
        "out-of-memory-score",
    ];
    for who in levels() {
        let mut host = Host::new(who);
        let (ws, neighbour) = (host.running(), host.running());
        let (baits, _folder) = lay();
        let bait = bait(&host, &baits, neighbour);
        refuse(&host, ws);
        let reports = run(&host, ws, &bait, &groups(), true);
        let others: Vec<Report> =
            reports.into_iter().filter(|report| !own.contains(&report.name.as_str())).collect();
        let open = of(&others, &[Outcome::Escaped, Outcome::Skipped]);
        assert!(open.is_empty(), "{who:?}: {open:#?}");
        assert!(others.len() > 90);
        assert_eq!(baits.touched(), [], "{who:?}");
    }
}

#[test]
fn bombs_stay_within_limits() {
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.create();
        host.start_with(ws, 1, |start| {
            (start.limits.memory_bytes, start.limits.processes) = (128 << 20, 64);
            start.limits.tmp_bytes = 32 << 20;
        });
        let other = host.running();
        let (baits, _folder) = lay();
        // As an ordinary user here: by resource limits, for each process.
        let memory = (who == Who::Root).then_some(128 << 20);
        let limited = Limited { processes: Some(64), memory, disk: None, inodes: None };
        let bait = Bait { limited, ..baits.bait.clone() };
        let names = Group::Bombs.attacks().iter().map(|attack| attack.name);
        for name in names {
            let argv = [RUNNER, ARGUMENT, name];
            let input = serde_json::to_string(&bait).unwrap();
            let answer = host.order(ws, &json!({ "op": "run", "argv": argv, "input": input }));
            // The kernel may choose the program itself to be ended.
            let killed = answer["signal"] == libc::SIGKILL;
            let reports = reports(answer["output"].as_str().unwrap());
            let wrong = of(&reports, &[Outcome::Escaped, Outcome::Skipped, Outcome::Blocked]);
            assert!(wrong.is_empty(), "{who:?}: {wrong:?}");
            assert!(killed || reports.len() == 1, "{who:?}: {name}: {answer}");
            if who == Who::Root && !killed && !name.contains("disk") && !name.contains("inode") {
                assert_eq!(reports[0].outcome, Outcome::Contained, "{reports:?}");
            }
        }
        // Nobody else notices.
        assert_eq!(host.run(other, &["/bin/echo", "here"]), "here\n");
        assert_eq!(host.run(ws, &["/bin/echo", "here"]), "here\n");
    }
}

/// What would speak to others than this machine.
const ABROAD: &[&str] = &[
    "metadata-aws",
    "metadata-azure",
    "metadata-alibaba",
    "metadata-v6",
    "container-metadata",
    "private-networks",
    "internet",
    "internet-v6",
    "other-ports",
    "udp-to-internet",
    "multicast",
    "ping",
    "dns-direct",
    "dns-direct-by-stream",
    "dns-of-host",
    "dns-over-https",
    "tunnel-to-metadata",
    "tunnel-to-private-network",
    "tunnel-to-unlisted-host",
    "tunnel-to-suffix",
    "tunnel-to-other-ports",
    "tunnel-with-user",
];

/// An attack that can't succeed anywhere proves nothing by failing.
#[test]
fn outside_a_sandbox_many_attacks_succeed() {
    if !is_root() {
        return;
    }
    let host = Host::new(Who::Root);
    let (baits, _folder) = lay();
    let door = open_door();
    let house = House::open(([127, 0, 0, 1], 0).into(), &baits.bait.token, baits.bait.host.tcp[0]);
    let house = house.unwrap();
    let neighbour = Neighbour {
        token: baits.bait.token.clone(),
        shared: baits.bait.host.clone(),
        files: vec![baits.bait.host.file.clone()],
        link: Some(baits.bait.host.socket.clone()),
    };
    let bait = Bait {
        outside: true,
        data: Some(host.config.data.clone()),
        secrets: vec![baits.bait.host.file.clone()],
        neighbour: Some(neighbour),
        proxy: door,
        gateway: house.address(),
        resolver: baits.bait.host.udp[0],
        house: Some(house.address()),
        placeholder: Some("byph_of_this_one".to_owned()),
        neighbours_placeholder: Some("byph_of_another".to_owned()),
        ..baits.bait.clone()
    };
    let local = Group::ALL[..GROUPS].iter().flat_map(|group| group.attacks());
    let local = local.map(|attack| attack.name).filter(|name| !ABROAD.contains(name));
    let mut command = Command::new(host.helper());
    command.arg(ARGUMENT).args(local).stdin(Stdio::piped()).stdout(Stdio::piped());
    // Mounts that succeed stay with the program.
    // SAFETY: one system call that allocates nothing.
    unsafe {
        command.pre_exec(|| match libc::unshare(libc::CLONE_NEWNS) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let mut child = command.spawn().unwrap();
    let input = serde_json::to_vec(&bait).unwrap();
    child.stdin.take().unwrap().write_all(&input).unwrap();
    let output = child.wait_with_output().unwrap();
    let reports = reports(&String::from_utf8(output.stdout).unwrap());
    let mut by_group: BTreeMap<Group, usize> = BTreeMap::new();
    for report in reports.iter().filter(|report| report.outcome == Outcome::Escaped) {
        *by_group.entry(report.group).or_default() += 1;
    }
    let escaped: usize = by_group.values().sum();
    let lines = of(&reports, &[Outcome::Blocked, Outcome::Contained, Outcome::Skipped]);
    assert!(escaped * 2 > reports.len(), "{escaped} of {}: {lines:#?}", reports.len());
    for group in &Group::ALL[..GROUPS] {
        assert!(by_group.contains_key(group), "{group}: {lines:#?}");
    }
    let touched = baits.touched();
    for attack in ["abstract-socket", "host-port", "udp-to-host", "terminal-of-host"] {
        assert!(touched.iter().any(|touch| touch.attack == attack), "{attack}: {touched:?}");
    }
}

/// A proxy that lets everything through.
fn open_door() -> std::net::SocketAddr {
    use std::{
        io::{Read as _, copy},
        net::{TcpListener, TcpStream},
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for inside in listener.incoming() {
            let Ok(mut inside) = inside else { return };
            std::thread::spawn(move || {
                let mut head = vec![0; 8192];
                let length = inside.read(&mut head).unwrap_or(0);
                let text = String::from_utf8_lossy(&head[..length]).into_owned();
                let target = text.split(' ').nth(1).unwrap_or("").to_owned();
                let is_tunnel = text.starts_with("CONNECT ");
                let rest = target.split_once("://").map_or(target.as_str(), |(_, rest)| rest);
                let authority =
                    rest.split('/').next().unwrap_or("").replace("localhost.", "localhost");
                let Ok(outside) = TcpStream::connect(&authority) else { return };
                if is_tunnel {
                    let _ = inside.write_all(b"HTTP/1.1 200 Open\r\n\r\n");
                } else {
                    let _ = (&outside).write_all(&head[..length]);
                }
                let (mut from, mut to) =
                    (inside.try_clone().unwrap(), outside.try_clone().unwrap());
                std::thread::spawn(move || copy(&mut from, &mut to));
                let _ = copy(&mut &outside, &mut inside);
            });
        }
    });
    address
}

#[test]
fn names_are_distinct_and_said_in_a_sentence() {
    let mut names = std::collections::BTreeSet::new();
    for attack in Group::ALL.iter().flat_map(|group| group.attacks()) {
        assert!(names.insert(attack.name), "{} is there twice", attack.name);
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(attack.name.chars().all(plain), "{}", attack.name);
        assert!(attack.tries.starts_with(char::is_uppercase) && !attack.tries.ends_with('.'));
    }
    assert!(names.len() >= 110, "{}", names.len());
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

/// What is open on purpose, and what is writable.
#[test]
fn what_work_needs_is_open() {
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.running();
        let writable = host.sh(
            ws,
            "for place in /work /home/agent /tmp /dev/shm; do echo x > $place/x; rm $place/x; done; \
             awk '$6 ~ /^rw/ && $5 !~ /^\\/(proc|dev\\/)/ { print $5 }' /proc/self/mountinfo",
        );
        assert_eq!(writable, "/tmp\n/work\n/home/agent\n/home/sessions\n");
        let script = "import socket; [socket.socket(f, socket.SOCK_STREAM) for f in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)]";
        if !host.sh(ws, "command -v python3 || true").is_empty() {
            host.run(ws, &["/usr/bin/env", "python3", "-c", script]);
        }
        let status: Value = json!(host.sh(ws, "grep Seccomp: /proc/self/status"));
        assert_eq!(status, "Seccomp:\t2\n");
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
