//! Rules: what each allows and what none does.

use super::*;

fn rule(json: serde_json::Value) -> Rule {
    serde_json::from_value(json).unwrap()
}

fn target(host: &str, port: u16) -> Target {
    Target { host: host.parse().unwrap(), port }
}

#[test]
fn hosts_have_one_spelling() {
    let check = |text: &str, expected: &str| {
        assert_eq!(text.parse::<Host>().map(|host| host.to_string()).ok().as_deref(), {
            if expected.is_empty() { None } else { Some(expected) }
        });
    };
    check("Example.COM.", "example.com");
    check("bücher.example", "xn--bcher-kva.example");
    check("127.1", "127.0.0.1");
    check("0x7f000001", "127.0.0.1");
    check("2130706433", "127.0.0.1");
    check("017700000001", "127.0.0.1");
    check("[::1]", "[::1]");
    check("[::ffff:127.0.0.1]", "[::ffff:127.0.0.1]");
    for bad in ["", ".", "a..b", "a b", "user@host", "host/path", "a:80", "[::1", "ex%61mple.com:1"]
    {
        check(bad, "");
    }
    check(&"a".repeat(64), "");
    check(&format!("{}.example", "a.".repeat(200)), "");
}

#[test]
fn patterns_match_what_they_say() {
    let check = |pattern: &str, host: &str, expected: bool| {
        let pattern: HostPattern = pattern.parse().unwrap();
        assert_eq!(pattern.matches(&host.parse().unwrap()), expected, "{pattern} {host}");
        assert_eq!(pattern.to_string().parse::<HostPattern>().unwrap(), pattern);
    };
    check("example.com", "example.com", true);
    check("Example.com", "EXAMPLE.com.", true);
    check("example.com", "a.example.com", false);
    check("example.com", "badexample.com", false);
    check("*.example.com", "a.example.com", true);
    check("*.example.com", "a.b.example.com", true);
    check("*.example.com", "example.com", false);
    check("*.example.com", "badexample.com", false);
    check("*", "anything.example", true);
    check("*", "192.0.2.1", false);
    check("192.0.2.0/24", "192.0.2.1", true);
    check("192.0.2.1", "192.0.2.1", true);
    check("192.0.2.1", "192.0.2.2", false);
    check("2001:db8::/32", "[2001:db8::7]", true);
    for bad in ["", "*.", "a*.example", "*.192.0.2.1", "http://x", "a/b"] {
        assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
    }
}

#[test]
fn nothing_is_allowed_by_default() {
    let verdict = RuleSet::default().check(&target("example.com", 443), Wish::Tunnel);
    assert_eq!(verdict, Verdict::Denied(Reason::NoRule));
}

#[test]
fn reasons_name_the_nearest_rule() {
    let rules = RuleSet::new(vec![
        rule(serde_json::json!({"name": "docs", "host": "docs.example"})),
        rule(serde_json::json!({
            "name": "read", "host": "api.example", "ports": [80], "methods": ["GET"],
            "paths": ["/v1/*", "/health"],
        })),
    ]);
    let get = |path| Wish::Request { method: &Method::GET, path, query: None };
    let check = |host, port, wish, expected: Result<&str, &str>| {
        let verdict = rules.check(&target(host, port), wish);
        match (verdict, expected) {
            (Verdict::Allowed(rule), Ok(name)) => assert_eq!(&*rule, name),
            (Verdict::Denied(reason), Err(text)) => assert_eq!(reason.to_string(), text),
            (verdict, expected) => panic!("{verdict:?} instead of {expected:?}"),
        }
    };
    check("docs.example", 443, Wish::Tunnel, Ok("docs"));
    let other_port = "rule `docs` allows this host on other ports only";
    check("docs.example", 22, Wish::Tunnel, Err(other_port));
    check("api.example", 80, get("/v1/things"), Ok("read"));
    check("api.example", 80, get("/health"), Ok("read"));
    check(
        "api.example",
        80,
        Wish::Request { method: &Method::HEAD, path: "/health", query: None },
        Ok("read"),
    );
    let other = "rule `read` allows this host for other methods or paths only";
    for path in
        ["/", "/v1", "/v2/x", "/healthy", "/v1/../v2", "/v1/%2e%2e/v2", "/v1//x", "/v1/..%2fx"]
    {
        check("api.example", 80, get(path), Err(other));
    }
    check(
        "api.example",
        80,
        Wish::Request { method: &Method::POST, path: "/v1/x", query: None },
        Err(other),
    );
    let hidden = "rule `read` looks at methods or paths, which a tunnel hides";
    check("api.example", 80, Wish::Tunnel, Err(hidden));
    check("other.example", 80, get("/"), Err("no rule allows this host"));
}

#[test]
fn every_preset_parses_and_allows_its_hosts_only() {
    for (name, preset) in Preset::all() {
        let rules = Preset::rules(name).unwrap();
        assert_eq!(rules.len(), preset.lines().len(), "{name}");
        assert!(!rules.is_empty() && !preset.title.is_empty(), "{name}");
        for rule in &rules {
            assert!(!matches!(rule.host, HostPattern::AnyName), "{name}");
            assert!(rule.name.starts_with("preset "), "{name}");
        }
        let rules = RuleSet::with_presets(&[name], Vec::new()).unwrap();
        let other = rules.check(&target("example.com", 443), Wish::Tunnel);
        assert_eq!(other, Verdict::Denied(Reason::NoRule), "{name}");
    }
    let npm = RuleSet::with_presets(&["npm"], Vec::new()).unwrap();
    let there = target("registry.npmjs.org", 443);
    assert_eq!(npm.check(&there, Wish::Tunnel), Verdict::Allowed("preset npm".into()));
    let ssh = npm.check(&target("registry.npmjs.org", 22), Wish::Tunnel);
    assert!(matches!(ssh, Verdict::Denied(Reason::Port(_))));
    let Err(error) = RuleSet::with_presets(&["cpan"], vec![]) else { panic!() };
    assert_eq!(error.to_string(), "there is no preset `cpan`");
    let Err(error) = RuleSet::with_presets(&["NPM"], vec![]) else { panic!() };
    assert_eq!(error.to_string(), "there is no preset `NPM`; is `npm` meant?");
}

#[test]
fn bad_rules_are_refused() {
    for json in [
        serde_json::json!({"name": "x", "host": ""}),
        serde_json::json!({"name": "x", "host": "a", "paths": ["v1"]}),
        serde_json::json!({"name": "x", "host": "a", "paths": ["/a/*/b"]}),
        serde_json::json!({"name": "x", "host": "a", "paths": ["/a/../b"]}),
        serde_json::json!({"name": "x", "host": "a", "methods": ["G T"]}),
        serde_json::json!({"name": "x", "host": "a", "port": 80}),
    ] {
        assert!(serde_json::from_value::<Rule>(json.clone()).is_err(), "{json}");
    }
}

mod lines;
mod proposals;
mod scopes;
