//! Workspaces without a task: made, forked, frozen, found again.

use crate::yard::{Victim, Yard};

/// Makes a workspace; its id.
fn id_of(yard: &Yard, args: &[&str]) -> String {
    yard.json(args)["id"].as_str().unwrap().to_owned()
}

/// What a command in a workspace prints.
fn sh(yard: &Yard, id: &str, script: &str) -> String {
    let output =
        yard.command(&["workspace", "exec", id, "--", "sh", "-c", script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn state(yard: &Yard, id: &str) -> String {
    yard.json(&["workspace", "show", id])["state"].as_str().unwrap().to_owned()
}

#[test]
fn forks_have_the_files_of_their_moment() {
    let yard = Yard::with_server();
    let source = id_of(&yard, &["workspace", "create", "--name", "source"]);
    sh(&yard, &source, "echo one > /work/file");
    // Of one that runs: copied while it stands still.
    let running = id_of(&yard, &["workspace", "fork", &source]);
    assert_eq!((state(&yard, &source), state(&yard, &running)), ("awake".into(), "asleep".into()));
    sh(&yard, &source, "echo two > /work/file");
    yard.json(&["workspace", "stop", &source]);
    // Of one that sleeps: twice without a change in between, which needs no second layer.
    let quiet = id_of(&yard, &["workspace", "fork", &source]);
    let twin = id_of(&yard, &["workspace", "fork", &source]);
    let snapshot = yard.json(&["workspace", "snapshot", &source]);
    assert!(snapshot["id"].as_str().unwrap().starts_with("lay_"), "{snapshot}");
    // Of one that never ran.
    let child = id_of(&yard, &["workspace", "fork", &twin]);
    assert_eq!(state(&yard, &source), "asleep");
    assert_eq!(sh(&yard, &source, "cat /work/file; echo three > /work/file"), "two\n");
    assert_eq!(sh(&yard, &running, "cat /work/file"), "one\n");
    assert_eq!(sh(&yard, &quiet, "cat /work/file; echo four > /work/file"), "two\n");
    assert_eq!(sh(&yard, &twin, "cat /work/file"), "two\n");
    assert_eq!(sh(&yard, &child, "cat /work/file"), "two\n");
    yard.json(&["workspace", "stop", &quiet]);
    let of_fork = id_of(&yard, &["workspace", "fork", &quiet]);
    assert_eq!(sh(&yard, &of_fork, "cat /work/file"), "four\n");
}

#[test]
fn forks_outlive_a_killed_server() {
    let mut yard = Yard::with_server();
    let source = id_of(&yard, &["workspace", "create"]);
    sh(&yard, &source, "echo kept > /work/file");
    yard.json(&["workspace", "stop", &source]);
    let fork = id_of(&yard, &["workspace", "fork", &source]);
    yard.kill(Victim::Server);
    yard.start_server();
    assert_eq!(sh(&yard, &source, "cat /work/file"), "kept\n");
    assert_eq!(sh(&yard, &fork, "cat /work/file"), "kept\n");
}
