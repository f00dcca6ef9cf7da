//! Figures, not checks: `cargo test -p boatyard-sandbox -- --ignored --nocapture bench`.

use std::{
    os::fd::AsFd as _,
    path::Path,
    time::{Duration, Instant},
};

use boatyard_sandbox::{
    client,
    protocol::{Network, Reply, Request, SnapshotMode},
    spawner::{CaptureSetting, Config},
};
use serde_json::json;

use crate::harness::{Host, levels, new_id, plain_start};

fn say(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at =
        |part: usize| times[(times.len() * part / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
    println!("  {what:34} p50 {:7.3} p95 {:7.3} p99 {:7.3} ms", at(50), at(95), at(99));
}

#[test]
#[ignore = "figures, not checks"]
fn bench() {
    for who in levels() {
        let mut host = Host::new(who);
        let mut restarted = vec![];
        for _ in 0..20 {
            let begun = Instant::now();
            host.restart(libc::SIGKILL);
            restarted.push(begun.elapsed());
        }
        println!("{who:?}: {}, limits by {}", host.ready.isolation, host.ready.limits);
        say("spawner killed, next one ready", restarted);
        let (mut created, mut cloned, mut inside, mut whole, mut killed, mut frozen, mut removed) =
            (vec![], vec![], vec![], vec![], vec![], vec![], vec![]);
        for _ in 0..200 {
            let begun = Instant::now();
            let ws = host.create();
            created.push(begun.elapsed());
            let begun = Instant::now();
            let started = host.start(ws, 1);
            whole.push(begun.elapsed());
            cloned.push(Duration::from_micros(started.clone_us.into()));
            inside.push(Duration::from_micros(started.total_us.into()));
            let begun = Instant::now();
            host.kill(ws);
            killed.push(begun.elapsed());
            let begun = Instant::now();
            host.call(&Request::Snapshot { ws, layer: new_id(), mode: SnapshotMode::Rename });
            frozen.push(begun.elapsed());
            let begun = Instant::now();
            host.call(&Request::Remove { ws });
            removed.push(begun.elapsed());
        }
        say("create", created);
        say("start, to clone returned", cloned);
        say("start, to first program", inside);
        say("start, seen by the client", whole);
        say("kill an idle one", killed);
        say("snapshot by renaming", frozen);
        say("remove", removed);

        let ws = host.running();
        let mut first = vec![];
        for generation in 2..50 {
            host.kill(ws);
            host.start(ws, generation);
            let begun = Instant::now();
            host.order(ws, &json!({ "op": "run", "argv": ["/bin/true"] }));
            first.push(begun.elapsed());
        }
        say("first command (starts serve)", first);
        let mut exec = vec![];
        for _ in 0..200 {
            let begun = Instant::now();
            host.order(ws, &json!({ "op": "run", "argv": ["/bin/true"] }));
            exec.push(begun.elapsed());
        }
        say("command in a running one", exec);
        let answer = host.order(ws, &json!({ "op": "bench", "rounds": 200 }));
        println!("  from serve, in µs:\n{}", answer["output"].as_str().unwrap());

        let mut bombs = vec![];
        for generation in 50..80 {
            host.kill(ws);
            host.start_with(ws, generation, |start| start.limits.processes = 512);
            host.order(ws, &json!({ "op": "run", "argv": ["/opt/boatyard/boatyard-runner", "fork-bomb"], "detach": true }));
            while host.order(ws, &json!({ "op": "run", "argv": ["/bin/true"] }))["error"] == "" {}
            let begun = Instant::now();
            host.kill(ws);
            bombs.push(begun.elapsed());
        }
        say("kill a fork bomb of 512", bombs);
        many(&mut host);
    }
}

/// What an open network adds to a start: the same start, by turns, with the network closed, with
/// connections caught on the usual ports, and on all.
#[test]
#[ignore = "figures, not checks"]
fn bench_network() {
    for who in levels() {
        let usual = |config: &mut Config, _: &Path| config.capture = CaptureSetting::UsualPorts;
        let mut hosts = [Host::new(who), Host::with(who, usual), Host::new(who)];
        let mut times = [vec![], vec![], vec![]];
        let mut ends = [vec![], vec![], vec![]];
        for _ in 0..300 {
            for (index, host) in hosts.iter_mut().enumerate() {
                let ws = host.create();
                let network = if index == 0 { Network::None } else { Network::Egress };
                let started = host.start_with(ws, 1, |start| start.network = network);
                times[index].push(Duration::from_micros(started.total_us.into()));
                let begun = Instant::now();
                host.kill(ws);
                ends[index].push(begun.elapsed());
                host.call(&Request::Remove { ws });
            }
        }
        println!("{who:?}: start, to first program, and kill");
        for (name, (times, ends)) in
            ["closed", "usual ports", "all ports"].iter().zip(times.into_iter().zip(ends))
        {
            say(name, times);
            say(&format!("{name}, kill"), ends);
        }
    }
}

/// A thousand at once, asked for without waiting.
fn many(host: &mut Host) {
    let all: Vec<u128> = (0..1000).map(|_| host.create()).collect();
    let memory = || {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap();
        let of = |key: &str| -> i64 {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        of("Slab:") + of("KernelStack:") + of("PageTables:") + of("AnonPages:") + of("Percpu:")
    };
    let before = memory();
    let begun = Instant::now();
    let (mut sent, mut done) = (0, 0);
    while done < all.len() {
        while sent < all.len() && sent - done < 8 {
            let start = Request::Start(plain_start(all[sent], 1));
            client::send(host.client.as_fd(), 10_000_000 + sent as u64, &start).unwrap();
            sent += 1;
        }
        let received = client::receive(host.client.as_fd()).unwrap().unwrap();
        assert!(matches!(received.reply, Reply::Started(_)), "{:?}", received.reply);
        done += 1;
    }
    println!("  1,000 live after {:?}", begun.elapsed());
    println!("  each takes {} KiB (kernel and anonymous)", (memory() - before) / 1000);
    let Reply::Workspaces { entries, .. } = host.call(&Request::List { after: 0 }) else {
        panic!()
    };
    let pid = entries.iter().rev().find(|entry| entry.pid != 0).unwrap().pid;
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    for line in
        rollup.lines().filter(|line| line.starts_with("Pss:") || line.starts_with("Private"))
    {
        println!("  first process {line}");
    }
    let begun = Instant::now();
    for ws in &all {
        client::send(host.client.as_fd(), 20_000_000, &Request::Kill { ws: *ws }).unwrap();
        let _ = client::receive(host.client.as_fd()).unwrap();
    }
    println!("  1,000 killed after {:?}", begun.elapsed());
}
