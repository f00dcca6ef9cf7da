//! What an operator may meet: crashes of the server and of the host, downgrades, another machine.

use std::fs;

use serde_json::Value;

use crate::yard::{Victim, Yard};

/// The notices of a session, by their codes.
fn notices(yard: &Yard, session: &str, code: &str) -> Vec<String> {
    let logged = yard.command(&["--json", "logs", session]).output().unwrap();
    String::from_utf8(logged.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["type"] == "notice" && event["code"] == code)
        .map(|event| event["text"].as_str().unwrap().to_owned())
        .collect()
}

fn session(task: &Value) -> &str {
    task["attempts"][0]["session"].as_str().unwrap()
}

fn workspace(task: &Value) -> &str {
    task["attempts"][0]["workspace"].as_str().unwrap()
}

#[test]
fn a_lock_that_a_killed_server_left_is_no_obstacle() {
    let mut yard = Yard::with_server();
    let first = fs::read_to_string(yard.path("data/lock")).unwrap();
    yard.kill(Victim::Server);
    assert_eq!(fs::read_to_string(yard.path("data/lock")).unwrap(), first);
    yard.start_server();
    assert_ne!(fs::read_to_string(yard.path("data/lock")).unwrap(), first);
}

#[test]
fn a_crash_of_the_host_costs_at_most_what_came_after_the_last_checkpoint() {
    let mut yard = Yard::with_server();
    yard.repository("app");
    yard.json(&["run", "echo one > one.txt", "--repo", "app", "--agent", "shell"]);
    let task = yard.json(&["task", "show", "@last"]);
    assert_eq!(task["state"], "succeeded", "{task:#}");
    let half = "echo two > two.txt; echo torn > one.txt; sleep 600";
    yard.json(&["prompt", "@last", half, "--detach"]);
    let until = "until grep -q torn one.txt; do sleep 0.01; done";
    assert!(yard.command(&["shell", "@last", "--", until]).status().unwrap().success());
    yard.crash_host();
    yard.start_server();

    // The next prompt finds the files of the checkpoint, and the session says so.
    yard.run(&["prompt", "@last", "cat one.txt; ls"]);
    let told = notices(&yard, session(&task), "recovered");
    let [told] = told.as_slice() else { panic!("one notice: {told:?}") };
    assert!(told.contains("as they were at the end of turn 1"), "{told}");
    let shown = |command: &str| {
        let output = yard.command(&["shell", "@last", "--", command]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(shown("cat one.txt; ls"), "one\nREADME.md\none.txt\n");
    assert_eq!(yard.json(&["workspace", "show", workspace(&task)])["recovered"], true);
    // What was there is not lost either.
    let kept = "git for-each-ref --format='%(refname)' refs/boatyard/recovered/";
    assert_eq!(shown(&format!("git show $({kept}):two.txt")), "two\n");
    // The turn that the crash ended says how, and the one after it went well.
    let logged = yard.command(&["--json", "logs", session(&task)]).output().unwrap();
    let outcomes: Vec<String> = String::from_utf8(logged.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["type"] == "turn.completed")
        .map(|event| event["outcome"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(outcomes, ["completed", "runner_lost", "completed"]);
}

#[test]
fn a_backup_is_all_that_another_machine_needs() {
    let mut yard = Yard::with_server();
    yard.repository("app");
    yard.json(&["run", "echo x > x.txt", "--repo", "app", "--agent", "shell"]);
    let before = yard.json(&["task", "show", "@last"]);
    let diff = yard.run(&["diff", "@last"]);
    let logs = yard.run(&["logs", "@last"]);
    let saved = yard.path("saved.tar.gz").to_str().unwrap().to_owned();
    yard.json(&["backup", &saved]);
    let id = workspace(&before).to_owned();
    assert!(yard.command(&["-q", "workspace", "delete", &id]).status().unwrap().success());
    yard.stop_server();

    yard.use_data("elsewhere");
    yard.json(&["restore", &saved]);
    yard.start_server();
    assert_eq!(yard.json(&["task", "show", "@last"]), before);
    assert_eq!(yard.run(&["diff", "@last"]), diff);
    assert_eq!(yard.run(&["logs", "@last"]), logs);
    // Its files are not there, and nobody is left to find out alone.
    let shown = yard.json(&["workspace", "show", &id]);
    assert_eq!(
        (&shown["state"], &shown["reason"]["code"]),
        (&"failed".into(), &"files_missing".into())
    );
    let refused = yard.run(&["prompt", "@last", "echo more"]);
    assert!(refused.contains("a backup does not hold them"), "{refused}");
    assert!(refused.contains("boatyard apply tsk_"), "{refused}");
    assert!(refused.ends_with("[1]\n"), "{refused}");
    assert!(yard.run(&["apply", "@last", "--repo", "app"]).ends_with("[0]\n"));
    // Nor is new work built on what is gone.
    yard.git("app", &["checkout", "-q", "--", "."]);
    yard.json(&["run", "cat README.md", "--repo", "app", "--agent", "shell"]);
    assert_eq!(yard.json(&["task", "show", "@last"])["state"], "succeeded");
    assert!(yard.command(&["-q", "workspace", "delete", &id]).status().unwrap().success());
}

#[test]
fn a_database_of_a_newer_release_is_refused_and_left_as_it_is() {
    let mut yard = Yard::with_server();
    yard.stop_server();
    let path = yard.path("data/boatyard.db");
    let newer = "INSERT INTO schema_migration VALUES (9999, 'future', 'x', 0)";
    rusqlite::Connection::open(&path).unwrap().execute(newer, []).unwrap();
    let before = fs::read(&path).unwrap();
    let refused = yard.run(&["up", "--listen", "127.0.0.1:0"]);
    assert!(refused.contains("written by a newer release of Boatyard"), "{refused}");
    assert!(refused.contains("a copy from before is in backups/"), "the next step: {refused}");
    assert!(refused.ends_with("[1]\n"), "{refused}");
    assert!(fs::read(&path).unwrap() == before, "it was changed");
}

#[test]
fn the_service_can_be_installed_where_systemd_runs_only() {
    if fs::exists("/run/systemd/system").unwrap() {
        eprintln!("skipped: it would change this machine");
        return;
    }
    let yard = Yard::without_server();
    let text = yard.run(&["service", "install"]);
    assert!(text.contains("systemd does not run on this machine"), "{text}");
    assert!(text.contains("boatyard up"), "{text}");
}
