//! Several attempts at one task: agents that race, the check that tells the best, and what people
//! set for an agent.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::yard::{FILTERS, LIMIT, Victim, Yard};

/// Compares what commands do with their recorded transcript.
macro_rules! check {
    ($name:literal, $($transcript:expr),+ $(,)?) => {
        insta::with_settings!({ filters => FILTERS.to_vec() }, {
            insta::assert_snapshot!($name, [$($transcript),+].join("\n"))
        })
    };
}

/// A repository with this environment.
fn with_environment(yard: &Yard, file: &str) {
    yard.repository("app");
    yard.write("app/.boatyard/environment.toml", file);
    yard.git("app", &["add", "-A"]);
    yard.git("app", &["commit", "-q", "-m", "An environment"]);
}

/// The newest task, once `done` holds of it.
fn until(yard: &Yard, done: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let task = yard.json(&["task", "show", "@last"]);
        if done(&task) {
            return task;
        }
        assert!(begun.elapsed() < LIMIT, "{task:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_best_of_several_is_the_first_that_passes_the_check() {
    let yard = Yard::with_server();
    with_environment(&yard, "check = 'echo looked at; grep -q good x.txt'\n[env]\nWORD = 'good'\n");
    // A command that takes a model: as its name for itself.
    yard.write("shell.toml", "[agents.shell]\nmodel_args = ['{model}']\n");
    yard.run(&["agent", "add", "--file", "shell.toml"]);
    // The second attempt's work is good, the others' is not.
    let work = "case $(git branch --show-current) in *-2) echo $WORD;; *) echo bad;; esac > x.txt";
    yard.run(&["run", work, "--repo", "app", "--agent", "shell:fast,shell", "--attempts", "2"]);
    let task = yard.json(&["task", "show", "@last"]);
    assert_eq!((&task["state"], &task["best"]), (&json!("succeeded"), &json!(2)), "{task:#}");
    assert_eq!(task["agent"], "shell");
    let attempts = task["attempts"].as_array().unwrap();
    let models: Vec<_> = attempts.iter().map(|one| one["model"].as_str()).collect();
    assert_eq!(models, [Some("fast"), None, Some("fast"), None], "each has a try before a second");
    let states = |key: &str| -> Vec<Value> {
        attempts.iter().map(|one| one["result"]["check"][key].clone()).collect()
    };
    assert_eq!(states("state"), ["failed", "passed", "failed", "failed"]);
    assert_eq!(states("exit_code"), [1, 0, 1, 1]);
    assert_eq!(states("output"), ["looked at\n"; 4]);
    assert!(attempts.iter().all(|one| one["state"] == "succeeded"), "a check changes no state");
    let phases = attempts[0]["phases"].as_array().unwrap();
    assert!(phases.iter().any(|phase| phase["name"] == "check" && phase["detail"] == "failed"));

    let shown = yard.run(&["task", "show", "@last"]);
    assert!(shown.contains("best        attempt 2") && shown.contains("failed (1)"), "{shown}");
    yard.run(&["apply", "@last", "--repo", "app"]);
    assert_eq!(std::fs::read_to_string(yard.path("app/x.txt")).unwrap(), "good\n");
    let diff = yard.run(&["diff", "@last", "--attempt", "1"]);
    assert!(diff.contains("+bad"), "{diff}");
    let result = yard.json(&["run", "true", "--repo", "app", "--agent", "shell,demo"]);
    assert_eq!(result["agent"], "shell, demo");
    let agents: Vec<_> =
        result["attempts"].as_array().unwrap().iter().map(|a| &a["agent"]).collect();
    assert_eq!(agents, ["shell", "demo"]);
}

#[test]
fn a_check_is_bounded_and_outlives_a_killed_server() {
    let mut yard = Yard::with_server();
    with_environment(
        &yard,
        "check = '''exec flock -n /home/agent/lock sh -c 'test -e ~/again && exit 0; touch ~/again; \
         sleep 600' '''\n",
    );
    let order = ["run", "echo x > x.txt", "--repo", "app", "--agent", "shell", "--detach"];
    yard.run(&order);
    until(&yard, |task| {
        let phases = task["attempts"][0]["phases"].as_array().unwrap();
        phases.iter().any(|phase| phase["name"] == "check" && phase["millis"].is_null())
    });
    yard.kill(Victim::Server);
    yard.start_server();
    let task = until(&yard, |task| task["state"] == "succeeded");
    let check = &task["attempts"][0]["result"]["check"];
    // The lock is free: the first was ended before the second began.
    assert_eq!(check["state"], "passed", "{task:#}");

    yard.write(
        "app/.boatyard/environment.toml",
        "check = 'yes | head -c 3000000; sleep 600'\ncheck_time = '2s'\n",
    );
    yard.git("app", &["commit", "-qam", "Slower"]);
    yard.run(&["run", "echo y > y.txt", "--repo", "app", "--agent", "shell"]);
    let task = yard.json(&["task", "show", "@last"]);
    let check = &task["attempts"][0]["result"]["check"];
    assert_eq!((&task["state"], &check["state"]), (&json!("succeeded"), &json!("timed_out")));
    assert!(check["output"].as_str().unwrap().len() <= 8 << 10);
}

#[test]
fn mistakes_in_an_order_are_named_before_anything_is_made() {
    let yard = Yard::with_server();
    yard.repository("app");
    let run = |more: &[&str]| {
        let mut args = vec!["run", "x", "--repo", "app"];
        args.extend(more);
        yard.run(&args)
    };
    check!(
        "race_mistakes",
        run(&["--agent", "shell,nobody"]),
        run(&["--agent", "shell,shell"]),
        run(&["--agent", "shell,demo", "--attempts", "5"]),
        run(&["--agent", "shell:"]),
        run(&["--agent", "demo", "--mcp", "docs"]),
        run(&["--agent", "demo", "--mcp", "a b=x"]),
        run(&["--agent", "demo", "--instructions", "missing.txt"]),
    );
    assert_eq!(yard.json(&["task", "list"])["items"], json!([]));
}

#[test]
fn what_is_set_for_an_agent_is_kept_for_all_and_for_a_repository() {
    let yard = Yard::with_server();
    with_environment(&yard, "check = 'true'\nsetup = ['true']\n[mcp.lint]\ncommand = ['lint']\n");
    yard.write("app/.boatyard/environments/broken.toml", "chekc = 'x'\n");
    yard.git("app", &["add", "-A"]);
    yard.git("app", &["commit", "-q", "-m", "More"]);
    yard.run(&["run", "true", "--repo", "app", "--agent", "shell"]);
    yard.write("say.txt", "Be brief.\n");
    let set = |more: &[&str]| {
        let mut args = vec!["agent", "set"];
        args.extend(more);
        yard.run(&args)
    };
    check!(
        "agent_settings",
        set(&["demo", "--model", "large", "--env", "A=1", "--mcp", "docs=npx -y 'docs server'"]),
        set(&[
            "demo",
            "--autonomy",
            "ask",
            "--instructions",
            "say.txt",
            "--mcp",
            "web=https://x/y"
        ]),
        set(&["demo", "--unset", "env.A", "--unset", "mcp.docs", "--unset", "model"]),
        set(&["demo", "--repo", "app", "--mcp", "web=off"]),
        yard.run(&["agent", "settings", "demo", "--repo", "app"]),
        yard.run(&["agent", "settings", "shell"]),
        set(&["demo"]),
        set(&["demo", "--unset", "modle"]),
        set(&["nobody", "--model", "x"]),
        set(&["shell", "--autonomy", "ask"]),
        yard.run(&["repository", "environments", "app"]),
    );
    yard.run(&["run", "hello", "--repo", "app", "--agent", "demo", "--autonomy", "free"]);
    let shown = yard.json(&["session", "show", "@last"]);
    assert_eq!(shown["settings"]["autonomy"], "free");
    let set = yard.json(&["session", "set", "@last", "--autonomy", "ask", "--mode", "ask"]);
    assert_eq!(set["settings"], json!({ "mode": "ask", "autonomy": "ask" }));
    assert!(yard.run(&["session", "set", "@last", "--mode", "wild"]).contains("offers no mode"));
    assert!(yard.run(&["session", "set", "@last"]).contains("nothing is to be changed"));
}

#[test]
fn an_agent_that_still_starts_can_be_stopped() {
    let yard = Yard::with_server();
    yard.repository("app");
    // It never answers, so it starts for ever.
    yard.run(&["agent", "add", "mute", "--command", "sleep 600"]);
    yard.run(&["run", "anything", "--repo", "app", "--agent", "mute", "--detach"]);
    until(&yard, |task| {
        let phases = task["attempts"][0]["phases"].as_array().unwrap();
        phases.iter().any(|phase| phase["name"] == "agent")
    });
    let stopped = yard.run(&["stop", "@last"]);
    assert!(stopped.contains("Stopped in"), "{stopped}");
    let task = until(&yard, |task| task["state"] == "cancelled");
    assert_eq!(task["attempts"][0]["reason"]["code"], "cancelled", "{task:#}");
    let session = task["attempts"][0]["session"].as_str().unwrap().to_owned();
    let begun = Instant::now();
    while yard.json(&["session", "show", &session])["state"] != "idle" {
        assert!(begun.elapsed() < LIMIT, "the session is not free again");
        std::thread::sleep(Duration::from_millis(50));
    }
}
