//! Teams on one server: who comes, who goes, what stays; each as another would see it.

use std::process::Command;

use serde_json::Value;

use crate::yard::Yard;

const MAIL: &str = "ada@example.com";
const PASSWORD: &str = "a long word nobody guesses";

/// A server that is for people.
fn team() -> Yard {
    let variables = [
        ("BOATYARD_ADMIN_EMAIL", MAIL),
        ("BOATYARD_ADMIN_PASSWORD", PASSWORD),
        ("BOATYARD_SIGN_IN_PASSWORD", "true"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let mut yard = Yard::without_server().with_variables(variables);
    yard.start_server();
    yard
}

/// What a command says to people, and how it ends.
fn said(yard: &Yard, args: &[&str], variables: &[(&str, &str)]) -> (String, Option<i32>) {
    let output = yard.command(args).envs(variables.iter().copied()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8(text).unwrap(), output.status.code())
}

fn well(yard: &Yard, args: &[&str]) -> String {
    let (text, code) = said(yard, args, &[]);
    assert_eq!(code, Some(0), "{args:?}: {text}");
    text
}

fn refused(yard: &Yard, args: &[&str], why: &str) {
    let (text, code) = said(yard, args, &[]);
    assert!(matches!(code, Some(1..=4)) && text.contains(why), "{args:?}: {code:?} {text}");
}

/// The server's address.
fn server(yard: &Yard) -> String {
    let file = std::fs::read_to_string(yard.path("data/client.toml")).unwrap();
    let table: toml::Table = file.parse().unwrap();
    table["server"].as_str().unwrap().to_owned()
}

/// Sends what a page sends, and gives what it gets.
fn page(yard: &Yard, path: &str, csrf: &str, body: &Value) -> Value {
    let jar = yard.path("jar");
    let output = Command::new("curl")
        .args(["-sS", "--noproxy", "*", "-H", "content-type: application/json"])
        .args(["-H", &format!("x-boatyard-csrf: {csrf}"), "-d", &body.to_string()])
        .arg("-b")
        .arg(&jar)
        .arg("-c")
        .arg(&jar)
        .arg(format!("{}{path}", server(yard).trim_end_matches('/')))
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{path}: {output:?}"))
}

/// Somebody who comes by an invitation: the key that they made for themselves.
fn come(yard: &Yard, name: &str, invitation: &str) -> String {
    let account = serde_json::json!({
        "name": name, "email": format!("{name}@example.com"), "password": PASSWORD,
        "invitation": invitation,
    });
    let identity = page(yard, "/api/auth/sign-up", "", &account);
    let csrf = identity["csrf"].as_str().unwrap_or_else(|| panic!("{identity}"));
    let made = page(yard, "/api/api-keys", csrf, &serde_json::json!({ "name": "mine" }));
    made["secret"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
}

#[test]
fn people_come_by_invitation_and_their_work_outlasts_them() {
    let yard = team();
    let server = server(&yard);
    let me = yard.json(&["whoami"])["identity"].clone();
    assert_eq!(me["role"], "owner", "{me}");
    let invited = yard.json(&["invite", "create", "member"]);
    let code = invited["code"].as_str().unwrap();
    let bob = come(&yard, "bob", code);
    let as_bob = [("BOATYARD_SERVER", server.as_str()), ("BOATYARD_API_KEY", bob.as_str())];
    let listed = well(&yard, &["invite", "list"]);
    assert!(listed.contains("spent") && listed.contains("1/1"), "{listed}");
    let members = said(&yard, &["member", "list"], &as_bob).0;
    assert!(members.contains("bob@example.com") && members.contains("owner"), "{members}");

    let order = ["run", "echo hello > file", "--repo", "app", "--agent", "shell", "--detach"];
    yard.repository("app");
    let (task, ended) = said(&yard, &order, &as_bob);
    assert_eq!(ended, Some(0), "{task}");
    let task = task.lines().find(|line| line.starts_with("tsk_")).unwrap().trim().to_owned();
    let (why, ended) = said(&yard, &["member", "role", "bob", "owner"], &as_bob);
    assert_eq!(ended, Some(4), "{why}");
    refused(&yard, &["member", "role", MAIL, "admin"], "without an owner");
    refused(&yard, &["member", "remove", "nobody"], "no member");
    assert!(well(&yard, &["member", "role", "bob", "admin"]).contains("admin"));

    let gone = yard.json(&["member", "remove", "bob", "--heir", MAIL]);
    assert_eq!(gone["tasks"], 1, "{gone}");
    let (why, ended) = said(&yard, &["whoami"], &as_bob);
    assert_ne!(ended, Some(0), "the key is dead at once: {why}");
    let kept = yard.json(&["task", "show", &task]);
    assert_eq!(kept["id"], task.as_str(), "what bob began is there: {kept}");
    assert!(well(&yard, &["member", "list", "--removed"]).contains("removed"));
}

#[test]
fn organizations_stand_beside_each_other() {
    let yard = team();
    well(&yard, &["organization", "create", "Second team"]);
    let listed = well(&yard, &["organization", "list"]);
    assert!(listed.contains("Default") && listed.contains("Second team"), "{listed}");
    refused(&yard, &["organization", "create", "second TEAM"], "already");
    let there = ["--organization", "Second team"];
    let where_am_i = |args: &[&str]| {
        let whoami = yard.json(&[args, &["whoami"]].concat());
        whoami["identity"]["organization_name"].as_str().unwrap().to_owned()
    };
    assert_eq!((where_am_i(&there).as_str(), where_am_i(&[]).as_str()), ("Second team", "Default"));
    yard.repository("app");
    let order = ["run", "true", "--repo", "app", "--agent", "shell"];
    well(&yard, &[&there[..], &order].concat());
    let tasks = |args: &[&str]| yard.json(&[args, &["task", "list"]].concat())["items"].clone();
    assert_eq!(tasks(&there).as_array().unwrap().len(), 1);
    assert_eq!(tasks(&[]).as_array().unwrap().len(), 0, "and not here");
    let only = ["repository", "access", "app", "--everybody", "none"];
    let only = well(&yard, &[&there[..], &only].concat());
    assert!(only.contains("everybody") && only.contains("none"), "{only}");
    let invited = [&there[..], &["invite", "create", "viewer", "--expires", "2d"]].concat();
    let invited = well(&yard, &invited);
    assert!(invited.contains("/invite?code=join_") && invited.contains("until 20"), "{invited}");
    refused(&yard, &["invite", "accept", "https://b.example/"], "no link");
    let all = [&there[..], &["organization", "rename", "Second team", "Another"]].concat();
    assert!(well(&yard, &all).contains("Another"));
    refused(&yard, &["organization", "leave", "Another"], "without an owner");
    refused(&yard, &["organization", "delete", "Another"], "workspace");
    refused(&yard, &["organization", "delete", "Default"], "the server itself");
    let there = ["--organization", "Another"];
    let workspaces = yard.json(&[&there[..], &["workspace", "list"]].concat());
    for workspace in workspaces["items"].as_array().unwrap() {
        let id = workspace["id"].as_str().unwrap();
        well(&yard, &[&there[..], &["workspace", "delete", id]].concat());
    }
    well(&yard, &["organization", "delete", "Another"]);
    refused(&yard, &["--organization", "Another", "whoami"], "no organization");
}
