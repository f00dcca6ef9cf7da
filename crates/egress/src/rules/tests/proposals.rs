//! What is proposed for what was recorded.

use super::super::{
    proposal::{Wanted, propose},
    *,
};

fn wanted(lines: &[&str]) -> Vec<Wanted> {
    let one = |line: &&str| {
        let target = |text: &str| {
            let (host, port) = text.rsplit_once(':').unwrap_or((text, "443"));
            Target { host: host.parse().unwrap(), port: port.parse().unwrap() }
        };
        match line.split_once(' ') {
            None => Wanted { target: target(line), request: None, count: 1 },
            Some((method, url)) => {
                let (host, path) = url.split_once('/').unwrap();
                let request = Some((method.parse().unwrap(), format!("/{path}")));
                Wanted { target: target(host), request, count: 1 }
            }
        }
    };
    lines.iter().map(one).collect()
}

#[track_caller]
fn check(lines: &[&str], have: &[&str], expected: &[&str]) {
    let rules: Vec<Rule> = have
        .iter()
        .flat_map(|line| {
            let (action, rest) = line.split_once(' ').unwrap();
            let spec = text::parse(rest).unwrap().with_action(action.parse().unwrap());
            Rule::from_spec(line, &spec).unwrap()
        })
        .collect();
    let wanted = wanted(lines);
    let have = RuleSet::new(rules.clone());
    let proposed = propose(&wanted, &have);
    let mut told: Vec<String> =
        proposed.iter().map(|one| format!("{} {}", one.requests, one.spec)).collect();
    told.sort();
    assert_eq!(told, expected);
    // What is proposed does what it is for, and nothing that is forbidden.
    let mut all = rules;
    for one in &proposed {
        all.extend(Rule::from_spec("proposed", &one.spec).unwrap());
    }
    assert!(propose(&wanted, &RuleSet::new(all)).is_empty());
}

#[test]
fn presets_where_they_cover_and_one_rule_for_each_other_host() {
    check(
        &[
            "registry.npmjs.org",
            "files.pythonhosted.org",
            "pypi.org",
            "api.example.com",
            "other.example:8443",
            "GET plain.example:80/a",
            "plain.example",
        ],
        &[],
        &[
            "1 GET http://plain.example/a",
            "1 https://api.example.com",
            "1 https://plain.example",
            "1 npm",
            "1 other.example:8443",
            "2 pypi",
        ],
    );
}

#[test]
fn what_was_seen_is_what_is_allowed() {
    check(
        &[
            "GET api.example/v1/a",
            "HEAD api.example/v1/b",
            "POST api.example/v1/c/1",
            "POST api.example/v1/c/2",
            "POST api.example/v1/c/3",
            "GET few.example/a",
            "GET odd.example/a//b",
        ],
        &[],
        &[
            "1 GET https://few.example/a",
            "1 GET https://odd.example",
            "5 GET,POST https://api.example/v1/*",
        ],
    );
}

#[test]
fn git_is_named_for_what_it_was_used_for() {
    check(
        &[
            "GET git.example/ours/a.git/info/refs",
            "POST git.example/ours/a.git/git-upload-pack",
            "GET git.example/ours/b.git/info/refs",
            "POST git.example/ours/b.git/git-receive-pack",
            "GET github.com/o/r.git/info/refs",
            "POST github.com/o/r.git/git-upload-pack",
        ],
        &[],
        &[
            "2 git-fetch https://git.example/ours/a.git/*",
            "2 git-push https://git.example/ours/b.git/*",
            "2 github-fetch",
        ],
    );
}

#[test]
fn nothing_is_proposed_for_what_passes_or_is_forbidden() {
    check(
        &["a.example", "b.example", "c.example", "d.example:80"],
        &["allow a.example", "deny b.example", "ask c.example"],
        &["1 http://d.example"],
    );
}
