//! Rules in a line: what they mean, and where their mistakes are.

use boatyard_model::RuleSpec;

use super::super::*;

#[test]
fn a_line_says_what_it_means_and_can_be_written_again() {
    let check = |line: &str, again: &str| {
        let spec = text::parse(line).unwrap_or_else(|fault| panic!("{line}: {fault}"));
        assert_eq!(spec.to_string(), again, "{line}");
        let twice = text::parse(again).unwrap_or_else(|fault| panic!("{again}: {fault}"));
        assert_eq!(twice, spec, "{line}");
        assert!(!Rule::from_spec("x", &spec).unwrap().is_empty());
    };
    check("example.com", "example.com");
    check(" Example.COM. ", "example.com");
    check("*", "*");
    check("*.example.com:8443", "*.example.com:8443");
    check("example.com:443,8000-8100", "example.com:443,8000-8100");
    check("example.com:*", "example.com:*");
    check("https://example.com", "https://example.com");
    check("https://example.com/", "https://example.com");
    check("http://example.com:8080/a*", "example.com:8080/a*");
    check("GET,POST api.example/v1/*", "GET,POST api.example/v1/*");
    check("git-fetch github.com/owner/*", "git-fetch github.com/owner/*");
    check("192.0.2.0/24", "192.0.2.0/24");
    check("https://192.0.2.7/24", "https://192.0.2.7/24");
    check("[2001:db8::7]:8443", "[2001:db8::7]:8443");
    check("2001:db8::7", "2001:db8::7");
    check("npm", "npm");
    assert_eq!(text::parse("npm").unwrap(), RuleSpec::preset("npm"));
    assert_eq!(text::parse("npm:443").unwrap().host.as_deref(), Some("npm"));
}

#[test]
fn a_mistake_is_named_with_its_place() {
    let check = |line: &str, expected: &str| {
        let fault = text::parse(line).expect_err(line);
        assert_eq!(fault.to_string(), expected, "{line}");
        assert!(!fault.mend.is_empty());
    };
    check("", "it is empty");
    check("a b c", "at character 5: `c` is one word too many");
    check(
        "get example.com",
        "at character 1: `get` is not a method that a request comes with (as GET or POST, in capitals)",
    );
    check(
        "GET,TRACE example.com",
        "at character 5: `TRACE` is not a method that a request comes with (as GET or POST, in capitals)",
    );
    check("ftp://example.com", "at character 1: `ftp://` is not looked at by rules");
    check("GET exa$mple.com", "at character 5: `exa$mple.com` is not a host");
    check("a.*.example.com", "at character 1: `a.*.example.com` is not a host");
    check(
        "example.com:0",
        "at character 13: `0` is no port (1 to 65535), and no range as 8000-8100",
    );
    check(
        "example.com:80,x",
        "at character 16: `x` is no port (1 to 65535), and no range as 8000-8100",
    );
    check("example.com/a?b=c", "at character 14: a rule can't be about a query");
    check("user@example.com", "at character 1: a user name has no place in a rule");
    check(
        "example.com/a/../b",
        "at character 12: `/a/../b` is not a path (it begins with `/` and may end in `*`)",
    );
    check(
        "bücher.example/a/*/b",
        "at character 15: `/a/*/b` is not a path (it begins with `/` and may end in `*`)",
    );
    check(
        "git-push github.com/a/b",
        "at character 20: `/a/b` is no path of git's, so that the rule never matches",
    );
    check("https://", "at character 1: `` is not a host");
    check("10.0.0.0/80", "at character 1: `10.0.0.0/80` is no range of addresses");
}

#[test]
fn whoever_denies_a_host_denies_it_on_every_port() {
    let about = |action: &str, line: &str, port| {
        let spec = text::parse(line).unwrap().with_action(action.parse().unwrap());
        let rules = Rule::from_spec(line, &spec).unwrap();
        let target = Target { host: "example.com".parse().unwrap(), port };
        rules.iter().any(|rule| rule.is_about_host(&target))
    };
    assert!(about("deny", "example.com", 8443));
    assert!(!about("deny", "example.com:443", 8443));
    assert!(!about("deny", "POST example.com", 22), "what is no request is none of its");
    assert!(!about("allow", "example.com", 8443));
}

#[test]
fn parts_that_contradict_each_other_are_refused_with_their_field() {
    let check = |json: serde_json::Value, field: &str| {
        let spec: RuleSpec = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(Rule::from_spec("x", &spec).expect_err("a mistake").field, field, "{json}");
    };
    check(serde_json::json!({}), "host");
    check(serde_json::json!({"preset": "npm", "host": "a"}), "preset");
    check(serde_json::json!({"preset": "nmp"}), "preset");
    check(serde_json::json!({"host": "a", "purpose": "git-push", "methods": ["GET"]}), "methods");
    check(serde_json::json!({"host": "a", "paths": ["a"]}), "paths");
    check(serde_json::json!({"host": "a", "note": "x".repeat(501)}), "note");
    check(serde_json::json!({"host": "a", "methods": vec!["GET"; 65]}), "methods");
    assert!(serde_json::from_value::<RuleSpec>(serde_json::json!({"hots": "a"})).is_err());
}
