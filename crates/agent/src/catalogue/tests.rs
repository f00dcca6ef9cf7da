//! The catalogue as it ships, and what is refused in one.

use boatyard_model::Autonomy;

use super::*;

struct Machine {
    installed: bool,
    program: bool,
    key: bool,
}

impl Facts for Machine {
    fn installed(&self, _: &AgentName, _: &Entry) -> bool {
        self.installed
    }
    fn has_program(&self, _: &str) -> bool {
        self.program
    }
    fn has_key(&self, _: &str) -> bool {
        self.key
    }
}

fn name(text: &str) -> AgentName {
    text.parse().unwrap()
}

fn settings(text: &str) -> Result<Catalogue, Error> {
    Catalogue::with_settings(&text.parse().unwrap())
}

const CLAUDE: &str = r#"
[claude]
title = "Claude Code"
protocol = "acp"
command = ["{node}", "{package}/claude-agent-acp"]
rank = 1
provider = "anthropic"
modes = { ask = "default", ask_changes = "acceptEdits", free = "bypassPermissions" }
capabilities = { steer = "prompt" }
env = { ANTHROPIC_BASE_URL = "{provider}", ANTHROPIC_AUTH_TOKEN = "placeholder", X = '{"edit":"ask"} ${HOME}' }
install = { from = "npm", packages = ["@agentclientprotocol/claude-agent-acp@0.100.0"], bin = "claude-agent-acp", node = "22", omit_optional = true, check = ["--version"], prints = "0.100.0" }
home = [{ path = ".claude/settings.json", content = "{}" }]
"#;

#[test]
fn the_built_in_agents_need_nothing() {
    let catalogue = Catalogue::builtin();
    let nothing = Machine { installed: false, program: false, key: false };
    for agent in ["demo", "shell"] {
        assert!(catalogue.readiness(&name(agent), &nothing).unwrap().is_ready(), "{agent}");
    }
    assert_eq!(catalogue.default_agent(&nothing), name("demo"));
    assert_eq!(fallback(), name("demo"));
}

#[test]
fn a_custom_agent_is_two_lines() {
    let catalogue =
        settings("[mine]\nprotocol = 'text'\ncommand = ['mine', '--say', '{prompt}']").unwrap();
    let entry = catalogue.get(&name("mine")).unwrap();
    assert_eq!((entry.title.as_str(), entry.text.show), ("mine", Show::Message));
    let program = entry.program(&name("mine"), &Places::default(), None).unwrap();
    assert_eq!(program.argv, ["mine", "--say", "{prompt}"]);
}

#[test]
fn settings_change_one_key_of_a_built_in_agent() {
    let catalogue = settings("[shell]\ncommand = ['/bin/bash', '-c', '{prompt}']").unwrap();
    let shell = catalogue.get(&name("shell")).unwrap();
    assert_eq!(shell.command[0], "/bin/bash");
    assert_eq!((shell.title.as_str(), shell.text.show), ("Shell", Show::Tool));
}

#[test]
fn an_installed_agent_is_the_default_once_it_has_a_key() {
    let catalogue = settings(CLAUDE).unwrap();
    let claude = name("claude");
    let check = |installed, key| {
        let machine = Machine { installed, program: true, key };
        (catalogue.readiness(&claude, &machine).unwrap(), catalogue.default_agent(&machine))
    };
    let (readiness, default) = check(false, true);
    let Readiness::NotReady { mend, .. } = readiness else { panic!("not installed") };
    assert_eq!(mend, "run `boatyard agent install claude`");
    assert_eq!(default, name("demo"));
    assert!(!check(true, false).0.is_ready());
    assert_eq!(check(true, true), (Readiness::Ready, claude));
}

#[test]
fn placeholders_are_filled_and_other_braces_kept() {
    let catalogue = settings(CLAUDE).unwrap();
    let claude = name("claude");
    let entry = catalogue.get(&claude).unwrap();
    let places = Places {
        node: Some("/opt/node".into()),
        package: Some("/opt/claude".into()),
        provider: Some("http://127.0.0.1:7080/anthropic".into()),
        ..Places::default()
    };
    let program = entry.program(&claude, &places, None).unwrap();
    assert_eq!(program.argv, ["/opt/node", "/opt/claude/claude-agent-acp"]);
    assert_eq!(program.env["X"], r#"{"edit":"ask"} ${HOME}"#);
    let none = entry.program(&claude, &Places::default(), None).unwrap_err();
    assert!(matches!(none, Error::Placeholder { placeholder, .. } if placeholder == "node"));
}

#[test]
fn the_narrowest_choice_of_an_autonomy_wins_and_finds_its_mode() {
    use Autonomy::{Ask, AskChanges, Free};
    let entry = |more: &str| {
        let text = format!("{CLAUDE}\n[mine]\nprotocol = 'acp'\ncommand = ['x']\n{more}");
        settings(&text).unwrap()
    };
    let (plain, claude, mine) = (entry(""), name("claude"), name("mine"));
    let claude = plain.get(&claude).unwrap();
    assert_eq!(claude.autonomy(None, Free), (Free, Some("bypassPermissions")));
    assert_eq!(claude.autonomy(Some(Ask), Free), (Ask, Some("default")));
    assert_eq!(plain.get(&mine).unwrap().autonomy(Some(Ask), Free), (Ask, None));
    let fixed = entry("autonomy = 'ask_changes'\nmode = 'plan'\nmodes = { ask = 'careful' }");
    let fixed = fixed.get(&mine).unwrap();
    assert_eq!(fixed.autonomy(None, Free), (AskChanges, Some("plan")));
    assert_eq!(fixed.autonomy(Some(Ask), Free), (Ask, Some("careful")));
    assert_eq!(fixed.autonomy(Some(Free), Ask), (Free, Some("plan")));
}

#[test]
fn a_program_survives_the_link() {
    let program = Catalogue::builtin()
        .get(&name("shell"))
        .unwrap()
        .program(&name("shell"), &Places::default(), None)
        .unwrap();
    let json = serde_json::to_string(&program).unwrap();
    assert_eq!(serde_json::from_str::<Program>(&json).unwrap(), program);
}

#[test]
fn what_is_sent_with_a_session_survives_the_link() {
    let meta = "session_meta = { theirs = { retries = [{ kind = 'api', n = 3 }] } }";
    let catalogue =
        settings(&format!("[mine]\nprotocol = 'acp'\ncommand = ['x']\nprovider = 'acme'\n{meta}"));
    let catalogue = catalogue.unwrap();
    let entry = catalogue.get(&name("mine")).unwrap();
    let program = entry.program(&name("mine"), &Places::default(), None).unwrap();
    let json = serde_json::to_value(&program).unwrap();
    let wanted = serde_json::json!({ "theirs": { "retries": [{ "kind": "api", "n": 3 }] } });
    assert_eq!(json["session_meta"], wanted);
    assert_eq!(serde_json::from_value::<Program>(json.clone()).unwrap(), program);
    assert_eq!(program.provider.as_deref(), Some("acme"));
    // What was written before these keys were is read all the same.
    let mut before = json;
    before.as_object_mut().unwrap().retain(|key, _| key != "session_meta" && key != "provider");
    assert!(serde_json::from_value::<Program>(before).unwrap().session_meta.is_empty());
}

#[test]
fn nonsense_is_refused_with_its_name_and_reason() {
    for (text, part) in [
        ("[a]\nprotocol = 'text'\ncommand = []", "must name a program"),
        ("[a]\nprotocol = 'telnet'\ncommand = ['x']", "unknown variant"),
        ("[a]\nprotocol = 'text'\ncommand = ['x']\ncolour = 'red'", "unknown field `colour`"),
        ("[a]\nprotocol = 'acp'\ncommand = ['x', '{prompt}']", "an acp agent"),
        ("[a]\nprotocol = 'acp'\ncommand = ['x', '{pakage}']", "is not a placeholder"),
        ("[a]\ncommand = ['x']", "missing field `protocol`"),
        ("a = 3", "expected a table"),
        (
            "[a]\nprotocol = 'text'\ncommand = ['x']\nsession_meta = { x = 1 }",
            "is for protocol = \"acp\"",
        ),
        ("[a]\nprotocol = 'acp'\ncommand = ['x']\nsession_meta = 3", "expected a map"),
        ("[A]\nprotocol = 'text'\ncommand = ['x']", "is not an agent name"),
        (
            "[a]\nprotocol='acp'\ncommand=['x']\n[[a.home]]\npath='../x'\ncontent=''",
            "below the home",
        ),
        ("[a]\nprotocol='acp'\ncommand=['x']\nenv={'A B'='1'}", "name of a variable"),
        (
            "[a]\nprotocol='acp'\ncommand=['x']\ninstall={from='npm',packages=['x@latest'],bin='x'}",
            "must be pinned",
        ),
        (
            "[a]\nprotocol='acp'\ncommand=['x']\ninstall={from='npm',packages=['x@1'],bin='../x'}",
            "below the folder of the packages",
        ),
    ] {
        let error = settings(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    let error = Catalogue::builtin().get(&name("nobody")).unwrap_err().to_string();
    assert!(error.starts_with("there is no agent `nobody`; known are aider, claude, "), "{error}");
}

fn somewhere() -> Places {
    let at = |path: &str| Some(path.to_owned());
    Places {
        runner: at("/opt/runner"),
        package: at("/opt/package"),
        node: at("/opt/node"),
        home: at("/home/x"),
        cwd: at("/work/x"),
        provider: at("http://127.0.0.1:7080/x"),
        models: vec!["one".to_owned(), "two/b".to_owned()],
    }
}

#[test]
fn every_built_in_entry_fills_all_its_placeholders() {
    let catalogue = Catalogue::builtin();
    for (name, entry) in catalogue.iter() {
        for model in [None, Some("demo")] {
            let program = entry.program(name, &somewhere(), model).unwrap();
            let texts = program.argv.iter().chain(program.env.values());
            for text in texts.chain(program.home.iter().map(|file| &file.content)) {
                let left = replace_placeholders(text, |left| match left {
                    "prompt" => Ok(String::new()),
                    left => Err(format!("{name}: {left} in {text}")),
                });
                left.unwrap();
            }
            for file in program.home.iter().filter(|file| file.path.ends_with(".json")) {
                serde_json::from_str::<serde_json::Value>(&file.content).unwrap();
            }
            for file in program.home.iter().filter(|file| file.path.ends_with(".toml")) {
                file.content.parse::<toml::Table>().unwrap();
            }
        }
        if let Install::Npm(package) | Install::Pypi(package) = &entry.install {
            assert!(package.specs().iter().all(|spec| !spec.contains('{')), "{name}");
            assert!(!package.program().contains('{'), "{name}");
            // What tells the version is the agent itself.
            assert_eq!(package.version(), package.prints.as_deref(), "{name}");
            assert!(!package.check.is_empty() && !entry.about.is_empty(), "{name}");
        }
    }
}

#[test]
fn no_built_in_entry_holds_anything_like_a_key() {
    for (name, entry) in Catalogue::builtin().iter() {
        for (variable, value) in &entry.env {
            let secret = ["KEY", "TOKEN", "SECRET"].iter().any(|word| variable.ends_with(word));
            assert!(!secret || value == "placeholder", "{name}: {variable}");
        }
    }
}

#[test]
fn an_agent_that_is_started_with_its_model_says_so() {
    let catalogue = Catalogue::builtin();
    let starts = |agent: &str| catalogue.get(&name(agent)).unwrap().starts_with_model();
    assert!(starts("gemini") && starts("copilot") && starts("aider"));
    assert!(!starts("claude") && !starts("codex"));
}
