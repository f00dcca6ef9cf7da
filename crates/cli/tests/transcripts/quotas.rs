//! What an organization and its people may use, while work runs; and who pays.

use std::{fs, time::Instant};

use serde_json::Value;

use crate::{
    models::{Provider, yard},
    yard::{LIMIT, Yard},
};

const QUESTION: &str = r#"{"model":"m","messages":[{"role":"user","content":"[[say:Hello]]"}]}"#;

fn ask() -> String {
    format!(
        "curl -sS -w '\\n%{{http_code}}\\n' -d '{QUESTION}' \
         http://127.0.0.1:7080/openai/v1/chat/completions"
    )
}

fn order(yard: &Yard, script: &str) -> String {
    let args = ["run", script, "--repo", "app", "--agent", "shell", "--detach"];
    let ordered = yard.command(&args).output().unwrap();
    assert!(ordered.status.success(), "{ordered:?}");
    String::from_utf8(ordered.stdout).unwrap().trim().to_owned()
}

/// Looks at a task until it is as wanted.
fn until(yard: &Yard, task: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + LIMIT;
    loop {
        let shown = yard.json(&["task", "show", task]);
        if is(&shown) {
            return shown;
        }
        assert!(Instant::now() < deadline, "{what}: {shown:#}");
        std::thread::yield_now();
    }
}

fn reason(task: &Value) -> &str {
    task["attempts"][0]["reason"]["code"].as_str().unwrap_or_default()
}

fn ok(yard: &Yard, args: &[&str]) {
    let output = yard.command(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
}

#[test]
fn what_a_quota_holds_back_waits_with_the_reason_and_goes_on() {
    let provider = Provider::start();
    let yard = yard(&provider, "");
    yard.repository("app");
    ok(&yard, &["quota", "set", "tasks", "0", "--mine"]);
    let task = order(&yard, "true");
    let held = until(&yard, &task, "it waits", |shown| reason(shown) == "quota_tasks");
    assert_eq!(held["state"], "queued");
    ok(&yard, &["quota", "set", "tasks", "1", "--mine"]);
    let done = until(&yard, &task, "it goes on", |shown| shown["ended"].is_string());
    assert_eq!(done["state"], "succeeded", "{done:#}");
    assert_eq!(reason(&done), "");

    // The time in which it worked was counted, and is in the figures of the day.
    let list = yard.json(&["quota", "list"]);
    assert!(list["organization"]["minutes"].as_f64().unwrap() > 0.0, "{list:#}");
    let days = yard.json(&["usage", "--days", "--by", "agent"]);
    let shell = &days["series"][0];
    assert_eq!(
        (&shell["label"], &shell["total"]["tasks"]),
        (&"shell".into(), &1.into()),
        "{days:#}"
    );
    ok(&yard, &["job", "run", "daily-usage", "--once"]);
    let csv = yard.command(&["usage", "--csv", "--by", "repository"]).output().unwrap();
    let csv = String::from_utf8(csv.stdout).unwrap();
    assert!(csv.starts_with("day,repository,name,tasks,minutes,"), "{csv}");
    assert_eq!(csv.lines().count(), 2, "{csv}");
}

#[test]
fn a_quota_that_is_reached_in_mid_task_holds_it_until_somebody_gives_more() {
    let provider = Provider::start();
    let yard = yard(&provider, "");
    yard.repository("app");
    // The first request leaves; the second is made when the file is there.
    let script = format!(
        "set -e; {0}; while [ ! -e /work/app/go ]; do sleep 0.05; done; {0} | tail -n 1 | grep -q 200",
        ask()
    );
    let task = order(&yard, &script);
    let deadline = Instant::now() + LIMIT;
    while provider.seen().is_empty() {
        assert!(Instant::now() < deadline, "nothing is asked");
        std::thread::yield_now();
    }
    ok(&yard, &["quota", "set", "minutes", "0"]);
    let shown = yard.json(&["task", "show", &task]);
    let workspace = shown["attempts"][0]["workspace"].as_str().unwrap().to_owned();
    ok(&yard, &["workspace", "exec", &workspace, "--", "touch", "/work/app/go"]);
    until(&yard, &task, "it is held", |shown| shown["state"] == "waiting");
    assert_eq!(provider.seen().len(), 1, "the second is held");
    let open = yard.json(&["permission", "list"]);
    let asked = &open["items"][0]["permission"];
    let title = asked["title"].as_str().unwrap();
    assert!(title.contains("organization's quota of minutes for today is 0 minutes"), "{title}");
    // A new order waits too, and says why.
    let other = order(&yard, "true");
    until(&yard, &other, "it waits", |shown| reason(shown) == "quota_minutes");
    ok(&yard, &["permission", "answer", asked["id"].as_str().unwrap(), "allow"]);
    let done = until(&yard, &task, "it goes on", |shown| shown["ended"].is_string());
    assert_eq!(done["state"], "succeeded", "{done:#}");
    let done = until(&yard, &other, "it goes on", |shown| shown["ended"].is_string());
    assert_eq!(done["state"], "succeeded", "{done:#}");

    // Who asks no model is ended, with what was done kept. Its next prompt waits for more.
    ok(&yard, &["quota", "set", "minutes", "500"]);
    let task = order(&yard, "touch made; while [ ! -e never ]; do sleep 0.05; done");
    let runs = until(&yard, &task, "it runs", |shown| shown["state"] == "running");
    let session = runs["attempts"][0]["session"].as_str().unwrap();
    let deadline = Instant::now() + LIMIT;
    while yard.json(&["session", "show", session])["state"] != "running" {
        assert!(Instant::now() < deadline, "its turn does not begin");
    }
    ok(&yard, &["quota", "set", "minutes", "0"]);
    // What looks for it every minute, each time at once: it is told first.
    let deadline = Instant::now() + LIMIT;
    while yard.json(&["task", "show", &task])["ended"].is_null() {
        assert!(Instant::now() < deadline, "it goes on for ever");
        ok(&yard, &["job", "run", "idle-reaper", "--once"]);
    }
    let ended = until(&yard, &task, "it ends", |shown| shown["ended"].is_string());
    assert!(ended.to_string().contains("minutes a day"), "{ended:#}");
}

#[test]
fn a_person_pays_by_a_key_of_their_own_and_commits_in_their_own_name() {
    const OWN: &str = "sk-made-up-of-a-person-52c1";
    let provider = Provider::start();
    let yard = yard(&provider, "");
    yard.repository("app");
    let file = yard.path("own.key");
    fs::write(&file, OWN).unwrap();
    let file = file.to_str().unwrap();
    let add = ["connection", "add", "model", "--mine", "--provider", "openai", "--name", "mine"];
    ok(&yard, &[&add[..], &["--value-file", file]].concat());
    ok(&yard, &["repository", "identity", "--name", "Ann", "--email", "ann@example.com"]);
    let budget = ["budget", "set", "0"];
    ok(&yard, &budget);
    let script = format!("set -e; {} | tail -n 1 | grep -q 200; echo more > made", ask());
    let task = order(&yard, &script);
    let done = until(&yard, &task, "it ends", |shown| shown["ended"].is_string());
    // The organization's money is spent, but it is not the organization that pays.
    assert_eq!(done["state"], "succeeded", "{done:#}");
    let seen = provider.seen();
    let header = seen[0].headers["authorization"].to_str().unwrap();
    assert_eq!(header, format!("Bearer {OWN}"));
    let log = yard.command(&["diff", &task]).output().unwrap();
    assert!(log.status.success(), "{log:?}");
    let workspace = done["attempts"][0]["workspace"].as_str().unwrap();
    let author = ["git", "-C", "/work/app", "log", "-1", "--format=%an <%ae>"];
    let exec = [&["workspace", "exec", workspace, "--"][..], &author[..]].concat();
    let author = yard.command(&exec).output().unwrap();
    let author = String::from_utf8(author.stdout).unwrap();
    assert_eq!(author.trim(), "Ann <ann@example.com>");
    let days = yard.json(&["usage", "--days", "--by", "model"]);
    assert_eq!(days["total"]["total"]["calls"], 1, "{days:#}");

    // Without it the organization pays again, and its budget holds.
    ok(&yard, &["connection", "remove", "mine"]);
    let task = order(&yard, &script);
    until(&yard, &task, "it waits for money", |shown| shown["state"] == "waiting");
    assert_eq!(provider.seen().len(), 1);
}
