//! Transcripts with a real server, a real spawner and real workspaces.

use std::fs;

use crate::yard::{FILTERS, Yard};

/// Compares what commands do with their recorded transcript.
macro_rules! check {
    ($name:literal, $($transcript:expr),+ $(,)?) => {
        insta::with_settings!({ filters => FILTERS.to_vec() }, {
            insta::assert_snapshot!($name, [$($transcript),+].join("\n"))
        })
    };
}

#[test]
fn a_task_from_order_to_diff() {
    let yard = Yard::with_server();
    yard.repository("app");
    check!(
        "from_order_to_diff",
        yard.run(&[
            "run",
            "make hello.txt with a greeting in it",
            "--repo",
            "app",
            "--agent",
            "demo"
        ]),
        yard.run(&["task", "list"]),
        yard.run(&["diff", "@last"]),
        yard.run(&["diff", "@last", "--stat"]),
        yard.run(&["apply", "@last", "--repo", "app"]),
        yard.run(&["apply", "@last", "--repo", "app", "--branch", "theirs"]),
    );
    let changed = yard.git("app", &["status", "--porcelain"]);
    assert!(!changed.is_empty());
    let result = yard.json(&["task", "show", "@last"]);
    let head = result["attempts"][0]["result"]["head"].as_str().unwrap();
    assert_eq!(yard.git("app", &["rev-parse", "theirs"]).trim(), head);
}

#[test]
fn a_script_of_the_shell_agent_and_a_second_prompt() {
    let yard = Yard::with_server();
    yard.repository("app");
    fs::write(yard.path("app/dirty.txt"), "not committed\n").unwrap();
    check!(
        "shell_agent",
        yard.run(&["run", "echo one > one.txt; ls", "--repo", "app", "--agent", "shell"]),
        yard.run(&["run", "ls; exit 3", "--repo", "app", "--agent", "shell", "--include-dirty"]),
        yard.run(&["prompt", "@last", "echo two > two.txt"]),
        yard.run(&["logs", "@last"]),
        yard.run(&["shell", "@last", "--", "cat two.txt"]),
        yard.run(&["shell", "@last", "--", "exit 7"]),
        yard.run(&["shell", "@last"]),
    );
}

#[test]
fn bad_input_gets_a_sentence_and_a_code() {
    let yard = Yard::with_server();
    yard.repository("app");
    fs::create_dir(yard.path("plain")).unwrap();
    yard.write("empty/.keep", "");
    yard.git("empty", &["init", "-q", "-b", "main"]);
    fs::create_dir(yard.path("bare")).unwrap();
    yard.git("bare", &["init", "-q", "--bare"]);
    let run = |more: &[&str]| {
        let mut args = vec!["run", "do it"];
        args.extend(more);
        yard.run(&args)
    };
    check!(
        "bad_input",
        yard.run(&["run", "  ", "--repo", "app"]),
        run(&["--repo", "plain"]),
        run(&["--repo", "empty"]),
        run(&["--repo", "bare"]),
        run(&["--repo", "nothing-here"]),
        run(&["--repo", "app", "--agent", "nobody"]),
        run(&["--repo", "app", "--base", "no-such-branch"]),
        run(&["--repo", "app", "--image", "app/README.md"]),
        run(&["--repo", "app", "--on-server"]),
        yard.run(&["task", "show", "tsk_01JD5X8Z4J6Q0V9W3T7R2K1M5N"]),
        yard.run(&["task", "show", "zzzz"]),
        yard.run(&["logs", "ws_01JD5X8Z4J6Q0V9W3T7R2K1M5N"]),
        yard.run(&["task", "list", "--api-key", "by_wrong"]),
        yard.run(&["job", "run", "nonsense"]),
    );
}

#[test]
fn a_task_is_detached_followed_and_cancelled() {
    let yard = Yard::with_server();
    yard.repository("app");
    let order = ["run", "sleep 600", "--repo", "app", "--agent", "shell", "--detach"];
    let task = yard.json(&order);
    let id = task["id"].as_str().unwrap();
    check!(
        "cancelled",
        yard.run(&["cancel", id]),
        // Its end is told as soon as it has come.
        yard.run(&["attach", id]),
        yard.run(&["cancel", id]),
    );
    let task = yard.json(&["task", "show", id]);
    assert_eq!(task["state"], "cancelled");
}

#[test]
fn a_second_server_and_a_busy_port_are_refused() {
    let yard = Yard::with_server();
    let other = yard.path("other").to_str().unwrap().to_owned();
    let client = fs::read_to_string(yard.path("data/client.toml")).unwrap();
    let address = client.split("http://").nth(1).unwrap().split('"').next().unwrap();
    let text = [
        yard.run(&["up"]),
        yard.run(&["up", "--data", &other, "--listen", address]),
        yard.run(&["restore", &other]),
    ]
    .join("\n");
    assert!(text.contains("Boatyard runs already on [YARD]/data (process "), "{text}");
    assert!(text.contains(&format!("the address {address} is taken by process ")), "{text}");
}

#[test]
fn a_backup_comes_back() {
    let yard = Yard::with_server();
    yard.repository("app");
    let task = yard.json(&["run", "echo x > x.txt", "--repo", "app", "--agent", "shell"]);
    let id = task["id"].as_str().unwrap();
    let saved = yard.path("saved.tar.gz").to_str().unwrap().to_owned();
    let folder = yard.path("saved").to_str().unwrap().to_owned();
    let file = yard.json(&["backup", &saved]);
    let plain = yard.json(&["backup", &folder]);
    assert_eq!(file["files"], plain["files"]);
    assert!(yard.path("saved/manifest.json").exists());
    let restored = yard.path("restored").to_str().unwrap().to_owned();
    let back = yard.json(&["restore", &saved, "--data", &restored]);
    assert_eq!(back["restored"], plain["files"]);
    assert!(yard.path("restored/boatyard.db").exists());
    assert!(!id.is_empty());
}
