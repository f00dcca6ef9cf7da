//! Git in a workspace: what passes to a GitHub that is a stand-in and runs real git, with tokens
//! that no workspace sees.

use std::process::Stdio;

use boatyard_testkit::github::{APP_ID, APP_KEY, AUTHORITY, GitHub};
use serde_json::Value;

use crate::yard::Yard;

const TOKEN: &str = "ghp_outside0123456789abcdef";
const REPOSITORY: &str = "acme/app";

/// A stand-in, and a server that knows it.
struct World {
    yard: Yard,
    github: GitHub,
    /// What the stand-in runs on.
    _runtime: tokio::runtime::Runtime,
}

impl World {
    fn new(settings: &str) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let github = runtime.block_on(GitHub::start());
        github.create(REPOSITORY);
        github.take(TOKEN);
        let mut yard = Yard::without_server();
        yard.write("ca.pem", AUTHORITY);
        let authority = yard.path("ca.pem");
        let settings = format!(
            "[egress]\nca_file = {authority:?}\nallow_private = [\"127.0.0.0/8\"]\n[repositories]\nallow_private = [\"localhost\"]\n\
             {settings}"
        );
        yard.write("data/boatyard.toml", &settings);
        yard.start_server();
        Self { yard, github, _runtime: runtime }
    }

    fn connect(&self, name: &str, value: &str) {
        self.yard.write(name, value);
        let file = self.yard.path(name);
        let file = file.to_str().unwrap();
        self.done(&["connection", "add", "git", "--name", name, "--value-file", file]);
        self.done(&["repository", "connect", &self.github.url(REPOSITORY), name]);
    }

    /// Runs a command of ours that has to work.
    fn done(&self, args: &[&str]) -> String {
        let ran = self.yard.run(args);
        assert!(ran.ends_with("[0]\n"), "{ran}");
        ran
    }

    fn workspace(&self) -> String {
        let args = ["workspace", "create", "--repo", &self.github.url(REPOSITORY)];
        let made = self.yard.json(&args);
        let id = made["id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        self.goes_out(&id);
        id
    }

    /// Addresses on `localhost` stay inside, but the stand-in's is there for want of another name.
    /// And a workspace without a task has no name to commit in.
    fn goes_out(&self, workspace: &str) {
        let host = self.github.host();
        let config = format!(
            "git config --global url.http://127.0.0.1:7080/git/{host}/.insteadOf https://{host}/ &&
             git config --global user.name Boatyard &&
             git config --global user.email boatyard@localhost"
        );
        self.works(workspace, &config);
    }

    /// Runs a shell script in a workspace: what it printed, and its exit code.
    fn inside(&self, workspace: &str, script: &str) -> (String, Option<i32>) {
        let args = ["workspace", "exec", workspace, "--", "sh", "-c", script];
        let output = self.yard.command(&args).stdin(Stdio::null()).output().unwrap();
        let both = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&both).into_owned(), output.status.code())
    }

    fn works(&self, workspace: &str, script: &str) -> String {
        let (said, code) = self.inside(workspace, script);
        assert_eq!(code, Some(0), "{script}: {said}");
        said
    }

    fn fails(&self, workspace: &str, script: &str, with: &[&str]) {
        let (said, code) = self.inside(workspace, script);
        assert_ne!(code, Some(0), "{script}: {said}");
        for part in with {
            assert!(said.contains(part), "{part:?} in {said}");
        }
    }

    /// The one request that waits for a person.
    fn waiting(&self) -> Value {
        super::asks::waiting(&self.yard)
    }

    /// The tokens that the stand-in saw.
    fn tokens(&self) -> Vec<String> {
        self.github.seen().into_iter().filter_map(|seen| seen.token).collect()
    }

    /// Verifies a branch's commit outside, with the public key.
    fn verifies(&self, branch: &str) {
        let key = self.yard.json(&["repository", "key"]);
        let signer = key["allowed_signer"].as_str().unwrap();
        self.yard.write("signers", &format!("{signer}\n"));
        let signers = self.yard.path("signers");
        let signers = format!("gpg.ssh.allowedSignersFile={}", signers.display());
        self.github.git(REPOSITORY, &["-c", &signers, "verify-commit", branch]);
    }
}

#[test]
fn a_workspace_pushes_to_its_own_branches_and_never_sees_the_token() {
    let world = World::new("[git]\nsign = true\n");
    world.connect("our-github", TOKEN);
    let workspace = world.workspace();
    world.works(&workspace, "git fetch && git fetch origin main");
    let commit = "git switch -q -c work && echo a > a && git add a && git commit -q -S -m 'One'";
    world.works(&workspace, commit);
    let pushed = world.works(&workspace, "git push origin HEAD:boatyard/x");
    assert!(pushed.contains("HEAD -> boatyard/x"), "{pushed}");
    world.verifies("boatyard/x");
    world.fails(
        &workspace,
        "git push origin HEAD:main",
        &["! [remote rejected] HEAD -> main (Boatyard lets this workspace push to `boatyard/*`"],
    );
    let no_main = world.github.git(REPOSITORY, &["log", "--format=%s", "main"]);
    assert_eq!(no_main, "First");
    world.fails(&workspace, "git push origin :boatyard/x", &["passes on no deletions"]);

    // The real token outside, and none inside: not in the environment, configuration or files.
    let tokens = world.tokens();
    assert!(!tokens.is_empty() && tokens.iter().all(|token| token == TOKEN), "{tokens:?}");
    let found =
        format!("env | grep -c {TOKEN}; grep -rIl {TOKEN} /work /home /etc /tmp; git config -l");
    let (said, _) = world.inside(&workspace, &found);
    assert!(said.starts_with("0\n") && !said.contains(TOKEN), "{said}");

    // What is another's is not pushed to, nor fetched from without a rule.
    world.github.create("acme/other");
    let other = world.github.url("acme/other");
    let push = format!("git push {other} HEAD:boatyard/x");
    world.fails(&workspace, &push, &["pushes to its own repository only"]);
    let fetch = format!("git fetch {other} main");
    world.fails(&workspace, &fetch, &["is not allowed", "boatyard egress allow"]);
    // Signatures are made in the workspace's name only.
    world.fails(
        &workspace,
        "git -c user.name=Else -c user.email=else@example.com commit -q -S --allow-empty -m x",
        &["not made in the name that this workspace works under"],
    );
}

#[test]
fn a_revoked_token_is_told_and_works_again_when_mended() {
    let world = World::new("");
    world.connect("our-github", TOKEN);
    let workspace = world.workspace();
    world.works(&workspace, "git fetch");
    world.github.revoke(TOKEN);
    let told =
        ["does not take the connection `our-github`", "boatyard connection rotate our-github"];
    world.fails(&workspace, "git fetch", &told);
    let list = world.yard.json(&["repository", "connections"]);
    assert!(list["items"][0]["problem"].is_string(), "{list}");
    world.github.take("ghp_second0123456789abcdef");
    world.yard.write("second", "ghp_second0123456789abcdef");
    let file = world.yard.path("second");
    world.done(&["connection", "rotate", "our-github", "--value-file", file.to_str().unwrap()]);
    world.works(&workspace, "git fetch");
    world.done(&["repository", "disconnect", &world.github.url(REPOSITORY)]);
    world.fails(&workspace, "git fetch", &["boatyard repository connect localhost:"]);
    // Nothing is signed where nobody wants it.
    world.fails(
        &workspace,
        "git commit -q -S --allow-empty -m x",
        &["Boatyard signs no commits here"],
    );
}

#[test]
fn an_app_makes_a_token_for_each_repository_and_direction() {
    let world = World::new("[git]\nsign = true\n");
    world.github.install(REPOSITORY);
    world.yard.write("app.pem", APP_KEY);
    let key = world.yard.path("app.pem");
    let id = APP_ID.to_string();
    world.done(&["repository", "app", "our-app", "--id", &id, "--key", key.to_str().unwrap()]);
    let place = format!("{}/acme/*", world.github.host());
    world.done(&["repository", "connect", &place, "our-app"]);

    // A task, whose result Boatyard commits, signs and pushes by itself.
    let url = world.github.url(REPOSITORY);
    let run = ["run", "echo done > done.txt", "--repo", &url, "--agent", "shell", "--json"];
    let output = world.yard.command(&run).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    world.done(&["push", "@last"]);
    let task = world.yard.json(&["task", "show", "@last"]);
    let branch = task["attempts"][0]["branch"].as_str().unwrap().to_owned();
    world.verifies(&branch);

    let workspace = task["attempts"][0]["workspace"].as_str().unwrap().to_owned();
    world.goes_out(&workspace);
    world.works(&workspace, "git push -q origin HEAD:boatyard/more");
    world.verifies("boatyard/more");
    let tokens = world.tokens();
    assert!(tokens.iter().any(|token| token.starts_with("ghs_made")), "{tokens:?}");
    // They end all at once, and the next push has another.
    world.github.revoke_all();
    world.works(
        &workspace,
        "git commit -q --allow-empty -m 'Two' && git push -q origin HEAD:boatyard/two",
    );
    world.verifies("boatyard/two");
    world.github.uninstall();
    world.github.revoke_all();
    world.fails(&workspace, "git fetch", &["connection `our-app`"]);
    let log = world.yard.json(&["egress", "log", "--workspace", &workspace]);
    let ways: Vec<&Value> =
        log["items"].as_array().unwrap().iter().map(|row| &row["way"]).collect();
    assert!(ways.iter().any(|way| **way == "git"), "{log}");
}

#[test]
fn a_fetch_that_a_rule_asks_about_waits_for_a_person_once() {
    let world = World::new("");
    world.github.create("acme/library");
    world.connect("our-github", TOKEN);
    let library = world.github.url("acme/library");
    world.done(&["repository", "connect", &library, "our-github", "--shared"]);
    let workspace = world.workspace();
    let host = world.github.host();
    let (host, port) = host.rsplit_once(':').unwrap();
    world.done(&[
        "egress",
        "ask",
        host,
        "--port",
        port,
        "--purpose",
        "git-fetch",
        "--workspace",
        &workspace,
    ]);

    // One clone is some requests, and one question.
    let clone = format!("git clone -q {library} /tmp/library && ls /tmp/library/.git/HEAD");
    let args = ["workspace", "exec", &workspace, "--", "sh", "-c", &clone];
    let waits = world.yard.command(&args).stdin(Stdio::null()).spawn().unwrap();
    let asked = world.waiting();
    assert!(asked["path"].as_str().unwrap().contains("/acme/library/git-upload-pack"), "{asked:#}");
    world.done(&["egress", "answer", asked["id"].as_str().unwrap(), "once"]);
    let ended = { waits }.wait().unwrap();
    assert!(ended.success());
    assert_eq!(world.yard.json(&["egress", "asks"])["items"].as_array().map(Vec::len), Some(0));

    // A yes to one is none to another, nor to a push.
    world.github.create("acme/other");
    let other = format!("git ls-remote {}", world.github.url("acme/other"));
    let args = ["workspace", "exec", &workspace, "--", "sh", "-c", &other];
    let waits = world.yard.command(&args).stdin(Stdio::null()).spawn().unwrap();
    let asked = world.waiting();
    world.done(&["egress", "answer", asked["id"].as_str().unwrap(), "never"]);
    assert!(!{ waits }.wait().unwrap().success());
    let push = "cd /tmp/library && git push origin HEAD:boatyard/x";
    world.fails(&workspace, push, &["pushes to its own repository only"]);
}
