//! The audit log on the command line: what was done is there, and what was done to it is found.

use std::fs;

use serde_json::Value;

use crate::yard::Yard;

fn entries(yard: &Yard, more: &[&str]) -> Vec<Value> {
    let mut args = vec!["audit", "list"];
    args.extend(more);
    yard.json(&args)["items"].as_array().unwrap().clone()
}

fn code(yard: &Yard, args: &[&str]) -> Option<i32> {
    yard.command(args).output().unwrap().status.code()
}

#[test]
fn what_was_done_is_written_down_and_can_be_checked_anywhere() {
    let yard = Yard::with_server();
    yard.repository("app");
    let ordered =
        yard.command(&["run", "/demo permission", "--repo", "app", "--detach"]).output().unwrap();
    assert!(ordered.status.success(), "{ordered:?}");
    let task = String::from_utf8(ordered.stdout).unwrap().trim().to_owned();
    let deadline = std::time::Instant::now() + crate::yard::LIMIT;
    let permission = loop {
        let open = yard.json(&["permission", "list"]);
        if let Some(id) = open["items"][0]["permission"]["id"].as_str() {
            break id.to_owned();
        }
        assert!(std::time::Instant::now() < deadline, "nobody is asked");
        std::thread::yield_now();
    };
    assert_eq!(code(&yard, &["permission", "answer", &permission, "allow"]), Some(0));
    let shown = yard.json(&["task", "show", &task]);
    let workspace = shown["attempts"][0]["workspace"].as_str().unwrap();
    let secret = "printf not-to-be-logged";
    assert_eq!(code(&yard, &["workspace", "exec", workspace, "--", "sh", "-c", secret]), Some(0));

    let made = &entries(&yard, &["--operation", "create_task"])[0];
    assert_eq!(made["outcome"], "allowed");
    assert_eq!(made["address"], "127.0.0.1");
    assert!(made["via"].as_str().unwrap().starts_with("key key_"), "{made}");
    let answered = &entries(&yard, &["--about", &permission])[0];
    assert_eq!(answered["operation"], "answer_permission");
    assert_eq!(answered["details"]["answer"], "allowed");
    let command = &entries(&yard, &["--about", workspace])[0];
    assert_eq!(command["operation"], "exec_in_workspace");
    assert_eq!(command["details"]["program"], "sh");
    assert!(!format!("{:?}", entries(&yard, &[])).contains("not-to-be-logged"));

    // In a file, without the server.
    let file = yard.path("audit.ndjson");
    let path = file.to_str().unwrap();
    assert_eq!(code(&yard, &["audit", "export", "--file", path]), Some(0));
    let whole = yard.json(&["audit", "verify", path]);
    assert_eq!(whole["whole"], true);
    let newest = format!("{}:{}", whole["last"], whole["hash"].as_str().unwrap());
    let elsewhere = Yard::without_server();
    assert_eq!(code(&elsewhere, &["audit", "verify", path, "--expect", &newest]), Some(0));
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("\"allowed\"", "\"denied\"", 1)).unwrap();
    assert_eq!(code(&elsewhere, &["audit", "verify", path]), Some(1));
    let lines: Vec<&str> = text.lines().collect();
    fs::write(&file, lines[..lines.len() - 1].join("\n")).unwrap();
    assert_eq!(code(&elsewhere, &["audit", "verify", path]), Some(0), "an end may be anywhere");
    assert_eq!(code(&elsewhere, &["audit", "verify", path, "--expect", &newest]), Some(1));
    fs::write(&file, "{}\n").unwrap();
    assert_eq!(code(&elsewhere, &["audit", "verify", path]), Some(2));

    // With the server, which has written more meanwhile.
    assert_eq!(code(&yard, &["audit", "keep", "365"]), Some(0));
    assert_eq!(yard.json(&["audit", "keep"])["days"], 365);
    assert_eq!(code(&yard, &["audit", "verify", "--expect", &newest]), Some(0));
    let other = format!("1:{}", whole["hash"].as_str().unwrap());
    assert_eq!(code(&yard, &["audit", "verify", "--expect", &other]), Some(1));
    assert_eq!(code(&yard, &["audit", "verify", "--server-log"]), Some(0));
    assert_eq!(code(&yard, &["audit", "list", "--by", "somebody"]), Some(2));
    assert_eq!(code(&yard, &["job", "run", "audit-log", "--once"]), Some(0));
}
