//! `kill -9` in the middle of turns: nothing is lost, nothing is doubled, the agent never notices.
//!
//! A few points in the ordinary run; `BOATYARD_SOAK` says how many in `make soak`.

use std::{collections::HashSet, thread, time::Duration};

use serde_json::Value;

use crate::yard::{Victim, Yard};

/// Tool calls of the demo agent's turn.
const TOOLS: usize = 40;

fn rounds() -> u64 {
    std::env::var("BOATYARD_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

/// The next of a row of numbers that differ from round to round and are the same in every run.
fn scattered(round: u64, below: u64) -> u64 {
    let mixed = round.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 32) % below.max(1)
}

fn order(yard: &Yard) -> String {
    let prompt = format!("/demo tools {TOOLS} slow 1 tools {TOOLS} edit");
    let output = yard
        .command(&["run", &prompt, "--repo", "app", "--agent", "demo", "--detach"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Follows the task to its end and checks its log.
fn check(yard: &Yard, task: &str) {
    let ended = yard.command(&["attach", task]).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    let task = yard.json(&["task", "show", task]);
    assert_eq!(task["state"], "succeeded", "{task:#}\n{said}");
    let session = task["attempts"][0]["session"].as_str().unwrap();
    let logged = yard.command(&["--json", "logs", session]).output().unwrap();
    let events: Vec<Value> = String::from_utf8(logged.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let numbers: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "numbers rise: {numbers:?}");
    let of = |kind: &str| events.iter().filter(|event| event["type"] == kind).collect::<Vec<_>>();
    assert_eq!(of("turn.started").len(), 1);
    assert_eq!(of("turn.completed").len(), 1, "one end");
    assert_eq!(of("turn.completed")[0]["outcome"], "completed");
    let tools = of("tool.completed");
    let distinct: HashSet<&str> = tools.iter().filter_map(|tool| tool["tool"].as_str()).collect();
    assert_eq!(distinct.len(), tools.len(), "no tool call twice");
    // Those of the two scenes, the wait and the edit.
    assert_eq!(tools.len(), 2 * TOOLS + 2, "no tool call lost");
    assert_eq!(task["attempts"][0]["result"]["files"].as_array().unwrap().len(), 1);
}

#[test]
fn a_killed_server_loses_and_doubles_nothing() {
    let mut yard = Yard::with_server();
    yard.repository("app");
    for round in 0..rounds() {
        let task = order(&yard);
        // The moment of the blow is what varies; nothing is waited for by this.
        thread::sleep(Duration::from_millis(scattered(round, 1500)));
        yard.kill(Victim::Server);
        yard.start_server();
        check(&yard, &task);
    }
}

#[test]
fn a_killed_spawner_is_replaced_and_workspaces_go_on() {
    let mut yard = Yard::with_server();
    yard.repository("app");
    for round in 0..rounds() {
        let task = order(&yard);
        thread::sleep(Duration::from_millis(scattered(round, 1500)));
        yard.kill(Victim::Spawner);
        check(&yard, &task);
    }
}
