//! Keys from the command line: made for one purpose, given away by a code, given at the start.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::MetadataExt as _,
    process::{Child, Command, Stdio},
};

use boatyard_api::{Client, device_code::DeviceDecision};
use serde_json::Value;

use crate::yard::Yard;

/// A command of an account that knows nothing of the yard's server.
fn elsewhere(yard: &Yard, account: &str, args: &[&str]) -> Command {
    let mut command = yard.command(args);
    command.env_remove("BOATYARD_DATA").env("XDG_CONFIG_HOME", yard.path(account));
    command.env("XDG_DATA_HOME", yard.path(account));
    command
}

/// What a command said, and how it ended.
fn said(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn client(yard: &Yard) -> (String, Client) {
    let text = std::fs::read_to_string(yard.path("data/client.toml")).unwrap();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} = \"")));
        line.unwrap().trim_end_matches('"').to_owned()
    };
    let server = value("server");
    let client = Client::new(&server, Some(&value("key"))).unwrap();
    (server, client)
}

/// A login that waits, with the code that it showed.
fn login(
    yard: &Yard,
    account: &str,
    args: &[&str],
) -> (Child, BufReader<impl std::io::Read>, Value) {
    let mut child = elsewhere(yard, account, args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    let codes = serde_json::from_str(&line).unwrap_or_else(|error| {
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        panic!("{error}: {line}{said}")
    });
    (child, lines, codes)
}

#[test]
fn an_account_elsewhere_is_let_in_by_a_code_or_is_not() {
    let yard = Yard::with_server();
    let (server, client) = client(&yard);
    let ask = ["--json", "login", &server, "--scope", "tasks_read", "--name", "laptop"];
    let (mut let_in, mut lines, yes) = login(&yard, "ada", &ask);
    let (refused, _, no) = login(&yard, "mallory", &["--json", "login", &server]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for (codes, approve) in [(&yes, true), (&no, false)] {
            let code = codes["user_code"].as_str().unwrap();
            let seen = client.find_device_code(code).await.unwrap();
            assert_eq!(seen.address.as_deref(), Some("127.0.0.1"));
            let decision = DeviceDecision { approve, scopes: None, expires: None };
            client.decide_device_code(code, &decision).await.unwrap();
        }
    });
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert!(let_in.wait().unwrap().success());
    let signed_in: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(signed_in["server"], server.as_str());
    let output = refused.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stderr).contains("somebody said no"));

    let file = yard.path("ada/boatyard/credentials.toml");
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    // From here on the server is meant without being named.
    let (code, out, _) = said(&mut elsewhere(&yard, "ada", &["whoami", "--json"]));
    let me: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &me["key"]["name"], &me["key"]["kind"]),
        (0, &"laptop".into(), &"login".into())
    );
    assert_eq!(said(&mut elsewhere(&yard, "ada", &["task", "list"])).0, 0);
    let (code, _, err) = said(&mut elsewhere(&yard, "ada", &["workspace", "list"]));
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("this key is not for `workspaces_read`"), "{err}");
    // Not the key of the account that runs the server.
    let (code, _, err) = said(&mut elsewhere(&yard, "mallory", &["--server", &server, "whoami"]));
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("boatyard login"), "{err}");

    let (code, out, err) = said(&mut elsewhere(&yard, "ada", &["logout"]));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("Signed out of"), "{out}");
    let key: boatyard_api::model::KeyId = me["key"]["id"].as_str().unwrap().parse().unwrap();
    let key = runtime.block_on(client.find_key(key)).unwrap();
    assert!(key.revoked.is_some(), "it ends with the sign-out");
    assert_eq!(said(&mut elsewhere(&yard, "ada", &["logout"])).0, 3);
}

#[test]
fn a_key_is_made_for_a_purpose_used_and_revoked() {
    let yard = Yard::with_server();
    let args = ["key", "create", "ci", "--scope", "tasks_read", "--expires", "2d"];
    let (code, out, err) = said(&mut yard.command(&args));
    assert_eq!(code, 0, "{err}");
    let secret = out.trim();
    assert!(secret.starts_with("by_") && !err.contains(secret), "the secret is alone on stdout");
    assert!(err.contains("for tasks_read, until "), "{err}");
    let with = |args: &[&str]| said(yard.command(args).env("BOATYARD_API_KEY", secret));
    assert_eq!(with(&["task", "list"]).0, 0);
    assert_eq!(with(&["key", "list"]).0, 4);
    let (_, out, _) = said(&mut yard.command(&["key", "list"]));
    assert!(out.contains("ci") && out.contains("personal") && !out.contains(secret), "{out}");
    let (_, out, _) = said(&mut yard.command(&["key", "calls", "ci"]));
    assert!(out.contains("/api/tasks") && out.contains("403"), "{out}");
    let (_, out, _) = said(&mut yard.command(&["key", "show", "ci"]));
    assert!(out.contains("127.0.0.1") && out.contains("in 47 h"), "{out}");
    assert_eq!(said(&mut yard.command(&["key", "revoke", "ci"])).0, 0);
    let (code, _, err) = with(&["task", "list"]);
    assert_eq!(code, 4);
    assert!(err.contains("this key was revoked"), "{err}");
    let (code, _, err) = said(&mut yard.command(&["key", "create", "x", "--scope", "everything"]));
    assert_eq!(code, 2, "{err}");
    assert_eq!(said(&mut yard.command(&["key", "show", "nobody"])).0, 3);
    let (_, out, _) = said(&mut yard.command(&["key", "scopes"]));
    assert!(out.lines().any(|line| line == "tasks_read"), "{out}");
}

#[test]
fn the_first_key_may_be_given_and_must_be_one() {
    let key = "by_7Qd2mX9cT4vL8pR1kZ6sW3nB5hJ0gF";
    let variable = |value: &str| vec![("BOATYARD_BOOTSTRAP_KEY".to_owned(), value.to_owned())];
    let mut yard = Yard::without_server().with_variables(variable(key));
    yard.start_server();
    let (code, out, err) = said(yard.command(&["whoami", "--json"]).env("BOATYARD_API_KEY", key));
    assert_eq!(code, 0, "{err}");
    let me: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(me["key"]["kind"], "bootstrap");
    assert_eq!(
        (&me["identity"]["role"], &me["identity"]["operator"]),
        (&"owner".into(), &true.into())
    );

    let weak = Yard::without_server().with_variables(variable("by_changeme"));
    let (code, _, err) = said(&mut weak.command(&["up", "--listen", "127.0.0.1:0"]));
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("openssl rand") && !err.contains("changeme"), "{err}");
}
