//! Settings from their four places.

use super::*;

fn sources(file: &str, variables: &[(&str, &str)]) -> Sources {
    Sources {
        file: Some((PathBuf::from("boatyard.toml"), file.to_owned())),
        variables: variables.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        flags: Vec::new(),
    }
}

/// The value of a key with its origin, or the error.
fn check(file: &str, variables: &[(&str, &str)], key: &str, expected: &str) {
    let got = match sources(file, variables).resolve() {
        Err(error) => error.to_string(),
        Ok(resolved) => {
            let value = resolved.settings.show().into_iter().find(|(name, _)| name == key);
            let value = value.and_then(|(_, value)| value).map(|value| value.to_string());
            let origin = resolved.origins.get(key).unwrap_or(&Origin::Default);
            format!("{} from {origin}", value.unwrap_or("nothing".to_owned()))
        }
    };
    assert_eq!(got, expected);
}

#[test]
fn a_later_place_wins() {
    let file = "[server]\nlisten = \"127.0.0.1:8000\"\n";
    check("", &[], "server.listen", "\"127.0.0.1:7070\" from default");
    check(file, &[], "server.listen", "\"127.0.0.1:8000\" from boatyard.toml:2");
    let variable = &[("BOATYARD_SERVER_LISTEN", "localhost:9000")];
    check(file, variable, "server.listen", "\"127.0.0.1:9000\" from BOATYARD_SERVER_LISTEN");
    let mut sources = sources(file, variable);
    sources.flags.push(("server.listen", "[::1]:1".into(), "--listen"));
    let resolved = sources.resolve().unwrap();
    assert_eq!(resolved.settings.server.listen.to_string(), "[::1]:1");
    assert_eq!(resolved.origins["server.listen"], Origin::Flag("--listen"));
}

#[test]
fn what_is_not_a_setting_is_refused_with_its_place() {
    let unknown = |file: &str, expected: &str| check(file, &[], "", expected);
    unknown(
        "\n[server]\nlisten = \"127.0.0.1:1\"\nlisen = 1\n",
        "boatyard.toml:4: `lisen` in [server] is not a setting; did you mean `listen`?",
    );
    unknown(
        "[sever]\nlisten = 1",
        "boatyard.toml:1: [sever] is not a setting; did you mean [server]?",
    );
    unknown(
        "[server]\nmemory = \"1 GiB\"",
        "boatyard.toml:2: `memory` in [server] is not a setting; did you mean `memory` in [limits]?",
    );
    unknown(
        "[server]\nzzzzzz = 1",
        "boatyard.toml:2: `zzzzzz` in [server] is not a setting; docs/configuration.md lists them all",
    );
}

#[test]
fn a_wrong_value_is_refused_with_its_place() {
    check(
        "[limits]\nmemory = \"much\"",
        &[],
        "",
        "boatyard.toml:2: `limits.memory`: expected a size such as \"4 GiB\", got \"much\"",
    );
    check(
        "",
        &[("BOATYARD_LIMITS_PROCESSES", "-4")],
        "",
        "BOATYARD_LIMITS_PROCESSES: `limits.processes`: expected a whole number from 0 on, got -4",
    );
    check(
        "[log]\nlevel = \"loud\"",
        &[],
        "",
        "boatyard.toml:2: `log.level`: expected one of \"error\", \"warn\", \"info\", \"debug\", \"trace\", got \"loud\"",
    );
    check("server = 1", &[], "", "boatyard.toml:1: `server`: write it as [server]");
    for (agent, what) in [
        ("[agents.x]\nmodel = \"m\"", "protocol"),
        ("[agents.x]\nprotocol = \"acp\"\ncommand = [\"m\"]\ncomand = 1", "comand"),
        ("[agents.\"My Agent\"]\nprotocol = \"acp\"\ncommand = [\"m\"]", "My Agent"),
    ] {
        let error = sources(agent, &[]).resolve().unwrap_err().to_string();
        assert!(error.starts_with("boatyard.toml:2: `agents."), "{error}");
        assert!(error.contains(what), "{error}");
    }
    let twice = sources("[log]\nlevel = \"info\"\nlevel = \"warn\"\n", &[]).resolve();
    assert!(twice.unwrap_err().to_string().starts_with("boatyard.toml:3: "));
}

#[test]
fn sections_may_stand_below_a_section() {
    let team = "[sign_in]\npassword = false\n[sign_in.providers.team]\n\
        issuer = \"https://id.example.com\"\nclient_id = \"b\"\nclient_secret = \"made-up\"\n";
    let secret = "sign_in.providers.team.client_secret";
    check(team, &[], secret, "\"(hidden)\" from boatyard.toml:6");
    check(team, &[], "sign_in.password", "false from boatyard.toml:2");
    let wrong = |more: &str, expected: &str| check(&format!("{team}{more}"), &[], "", expected);
    wrong(
        "isuer = 1",
        "boatyard.toml:7: `isuer` in [sign_in.providers.team] is not a setting; did you mean `issuer`?",
    );
    wrong(
        "[sign_in.providers.Team]\nclient_id = \"b\"",
        "boatyard.toml:8: `sign_in.providers.Team`: `name`: `Team` is no name for a provider: \
         small letters, digits and `-`, at most 40",
    );
    wrong(
        "[sign_in.providers.other]\nclient_id = \"b\"",
        "boatyard.toml:8: `sign_in.providers.other`: `issuer`: it needs its issuer, as \
         `https://id.example.com/realms/team`",
    );
    wrong(
        "[sign_in.providers.github]\nclient_id = \"b\"",
        "boatyard.toml:8: `sign_in.providers.github`: it needs `client_secret`, as the provider \
         gave it out",
    );
    let no_table = "[sign_in]\nproviders = 1";
    check(
        no_table,
        &[],
        "",
        "boatyard.toml:2: `sign_in.providers`: write it as [sign_in.providers]",
    );
}

#[test]
fn lists_flags_and_tables_are_read() {
    check(
        "",
        &[("BOATYARD_EGRESS_ALLOW", "a.example, b.example")],
        "egress.allow",
        "[\"a.example\", \"b.example\"] from BOATYARD_EGRESS_ALLOW",
    );
    check(
        "",
        &[("BOATYARD_EGRESS_OFFLINE", "yes")],
        "egress.offline",
        "true from BOATYARD_EGRESS_OFFLINE",
    );
    check(
        "[repositories.tokens]\n\"github.com\" = \"ghp_secret\"\n",
        &[],
        "repositories.tokens",
        "{ \"github.com\" = \"(hidden)\" } from boatyard.toml:1",
    );
    check("default_agent = \"demo\"", &[], "default_agent", "\"demo\" from boatyard.toml:1");
    let unknown = sources("", &[("BOATYARD_LOG_LEVLE", "info")]).resolve().unwrap();
    assert_eq!(
        unknown.warnings,
        ["the variable BOATYARD_LOG_LEVLE is no setting; did you mean BOATYARD_LOG_LEVEL?"]
    );
}

#[test]
fn the_outcome_is_shown_without_secrets_and_reads_back() {
    let file = "[repositories.tokens]\n\"github.com\" = \"ghp_secret\"\n[agents.mine]\nprotocol = \"acp\"\ncommand = [\"mine\"]\n";
    let resolved = sources(file, &[]).resolve().unwrap();
    let shown = resolved.show();
    assert!(!shown.contains("ghp_secret"));
    assert!(shown.contains("# boatyard.toml:"), "{shown}");
    let again = sources(&shown, &[]).resolve().unwrap();
    assert_eq!(again.settings.limits, resolved.settings.limits);
    assert_eq!(again.settings.agents, resolved.settings.agents);
}
