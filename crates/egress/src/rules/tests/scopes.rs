//! Scopes: which of several rules decides, and that nothing below widens what one above forbids.

use boatyard_model::EgressMode;
use proptest::prelude::*;

use super::super::*;

fn rules(lines: &[&str]) -> Vec<Rule> {
    lines
        .iter()
        .flat_map(|line| {
            let (action, rest) = line.split_once(' ').unwrap();
            let spec = text::parse(rest).unwrap().with_action(action.parse().unwrap());
            Rule::from_spec(line, &spec).unwrap()
        })
        .collect()
}

fn layer(scope: Scope, lines: &[&str]) -> Layer {
    Layer::new(scope, rules(lines))
}

fn set(layers: Vec<Layer>) -> RuleSet {
    RuleSet::of(layers.into_iter().map(Arc::new).collect())
}

/// What becomes of `METHOD URL`, or of a tunnel to `HOST:PORT`.
fn judged(rules: &RuleSet, wish: &str) -> Verdict {
    let target = |host: &str, port| Target { host: host.parse().unwrap(), port };
    let Some((method, url)) = wish.split_once(' ') else {
        return rules.check(&target(wish, 443), Wish::Tunnel);
    };
    let method: Method = method.parse().unwrap();
    let (host, path) = url.split_once('/').unwrap();
    let path = format!("/{path}");
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&path[..], None),
    };
    rules.check(&target(host, 443), Wish::Request { method: &method, path, query })
}

#[track_caller]
fn check(rules: &RuleSet, wish: &str, expected: &str) {
    let told = match judged(rules, wish) {
        Verdict::Allowed(rule) => format!("allowed: {rule}"),
        Verdict::Ask(rule) => format!("ask: {rule}"),
        Verdict::Learned => "learned".to_owned(),
        Verdict::Denied(reason) => format!("denied: {reason}"),
    };
    assert_eq!(told, expected, "{wish}");
}

#[test]
fn git_is_read_where_it_may_not_be_written() {
    let rules = set(vec![layer(Scope::Organization, &["allow git-fetch github.com/ours/*"])]);
    let allowed = "allowed: allow git-fetch github.com/ours/*";
    let other = "denied: rule `allow git-fetch github.com/ours/*` allows this host for other \
                 methods or paths only";
    check(&rules, "GET github.com/ours/a.git/info/refs?service=git-upload-pack", allowed);
    check(&rules, "POST github.com/ours/a.git/git-upload-pack", allowed);
    for refused in [
        "GET github.com/ours/a.git/info/refs?service=git-receive-pack",
        "GET github.com/ours/a.git/info/refs?service=git-upload-pack&service=git-receive-pack",
        "GET github.com/ours/a.git/info/refs",
        "POST github.com/ours/a.git/git-receive-pack",
        "GET github.com/ours/a.git/git-upload-pack",
        "POST github.com/theirs/a.git/git-upload-pack",
        "POST github.com/ours/../theirs/a.git/git-upload-pack",
        "GET github.com/ours/a",
    ] {
        check(&rules, refused, other);
    }
    let hidden = "denied: rule `allow git-fetch github.com/ours/*` looks at methods or paths, \
                  which a tunnel hides";
    check(&rules, "github.com", hidden);
}

#[test]
fn what_forbids_is_read_in_every_way() {
    let rules = set(vec![layer(
        Scope::Organization,
        &["allow example.com", "deny POST example.com/admin/*", "deny git-push example.com"],
    )]);
    let forbidden = "denied: rule `deny POST example.com/admin/*` forbids it";
    for path in ["admin/x", "ADMIN/x", "%61dmin/x", "a/../admin/x", "a//b", "a;b", "a%2fb"] {
        check(&rules, &format!("POST example.com/{path}"), forbidden);
    }
    let push = "denied: rule `deny git-push example.com` forbids it";
    check(&rules, "POST example.com/a.git/git-receive-pack", push);
    check(&rules, "POST example.com/a.git/git%2dreceive-pack/", push);
    check(&rules, "GET example.com/a.git/info/refs?x=1&service=git-receive-pack", push);
    check(&rules, "GET example.com/a.git/info/refs?service=git%2Dreceive-pack", push);
    check(&rules, "POST example.com/other", "allowed: allow example.com");
    check(&rules, "GET example.com/admin/x", "allowed: allow example.com");
    // What can't be seen may be what is forbidden.
    let hidden = "denied: rule `deny POST example.com/admin/*` looks at methods or paths, which a \
                  tunnel hides";
    check(&rules, "example.com", hidden);
}

#[test]
fn within_a_scope_the_rule_that_says_more_counts() {
    let rules = set(vec![layer(
        Scope::Organization,
        &[
            "ask *",
            "allow *.example.com",
            "ask api.example.com",
            "allow GET api.example.com",
            "allow POST api.example.com/open/*",
            "ask POST api.example.com/open/doors/*",
            "allow same.example",
            "ask same.example",
        ],
    )]);
    check(&rules, "other.example", "ask: ask *");
    check(&rules, "www.example.com", "allowed: allow *.example.com");
    check(&rules, "GET api.example.com/x", "allowed: allow GET api.example.com");
    check(&rules, "PUT api.example.com/x", "ask: ask api.example.com");
    check(&rules, "POST api.example.com/open/x", "allowed: allow POST api.example.com/open/*");
    let doors = "ask: ask POST api.example.com/open/doors/*";
    check(&rules, "POST api.example.com/open/doors/1", doors);
    // A rule that asks is read in every way.
    check(&rules, "POST api.example.com/open/%64oors/1", doors);
    check(&rules, "same.example", "ask: ask same.example");
}

#[test]
fn the_narrowest_scope_decides_but_where_it_is_forbidden_above() {
    let organization = ["ask a.example", "allow b.example", "deny c.example"];
    let workspace = ["allow a.example", "ask b.example", "allow c.example", "allow d.example"];
    let open =
        set(vec![layer(Scope::Workspace, &workspace), layer(Scope::Organization, &organization)]);
    check(&open, "a.example", "allowed: allow a.example");
    check(&open, "b.example", "ask: ask b.example");
    check(&open, "c.example", "denied: rule `deny c.example` forbids it");
    check(&open, "d.example", "allowed: allow d.example");
    let closed = set(vec![
        Layer { below: Below::MayNarrow, ..layer(Scope::Organization, &organization) },
        layer(Scope::Workspace, &workspace),
    ]);
    check(&closed, "a.example", "ask: ask a.example");
    check(&closed, "b.example", "ask: ask b.example");
    check(&closed, "c.example", "denied: rule `deny c.example` forbids it");
    let above = "denied: rule `allow d.example` may not allow what the rules above it leave closed";
    check(&closed, "d.example", above);
}

#[test]
fn what_is_learned_is_what_no_rule_is_about() {
    let learning = Layer {
        mode: Some(EgressMode::Learn),
        ..layer(Scope::Workspace, &["ask a.example", "allow GET b.example"])
    };
    let organization = layer(Scope::Organization, &["deny c.example"]);
    let rules = set(vec![organization.clone(), learning.clone()]);
    check(&rules, "a.example", "ask: ask a.example");
    check(&rules, "GET b.example/", "allowed: allow GET b.example");
    check(&rules, "POST b.example/", "learned");
    check(&rules, "c.example", "denied: rule `deny c.example` forbids it");
    check(&rules, "d.example", "learned");
    let narrow = Layer { below: Below::MayNarrow, ..organization };
    let rules = set(vec![narrow, learning]);
    check(&rules, "d.example", "denied: no rule allows this host");
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let action = prop_oneof![Just("allow"), Just("allow"), Just("ask"), Just("deny")];
    let host = prop_oneof![Just("a.example"), Just("b.a.example"), Just("*.example"), Just("*")];
    let what = prop_oneof![Just(""), Just(""), Just("GET "), Just("POST "), Just("git-push ")];
    let path = prop_oneof![Just(""), Just(""), Just("/x*"), Just("/x/y*")];
    (action, host, what, path).prop_map(|(action, host, what, path)| {
        let line = format!("{action} {what}{host}{path}");
        rules(&[&line]).remove(0)
    })
}

fn any_layer(scope: Scope) -> impl Strategy<Value = Layer> {
    let mode =
        prop_oneof![Just(None), Just(Some(EgressMode::Learn)), Just(Some(EgressMode::Enforce))];
    let below = prop_oneof![Just(Below::MayWiden), Just(Below::MayNarrow)];
    (proptest::collection::vec(any_rule(), 0..5), mode, below)
        .prop_map(move |(rules, mode, below)| Layer { scope, rules, mode, below })
}

const WISHES: [&str; 10] = [
    "a.example",
    "b.a.example",
    "c.example",
    "other",
    "GET a.example/",
    "GET a.example/x",
    "POST a.example/x/y/z",
    "POST b.a.example/x/../y",
    "POST a.example/x/git-receive-pack",
    "PUT c.example/%78",
];

/// How far a verdict lets something get.
fn reach(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Denied(_) => 0,
        Verdict::Ask(_) => 1,
        Verdict::Allowed(_) | Verdict::Learned => 2,
    }
}

proptest! {
    #[test]
    fn nothing_below_widens_what_one_above_forbids(
        organization in any_layer(Scope::Organization),
        repository in any_layer(Scope::Repository),
        workspace in any_layer(Scope::Workspace),
    ) {
        let above = [organization.clone(), repository.clone()];
        let all = vec![organization, repository, workspace];
        for wish in WISHES {
            let whole = judged(&set(all.clone()), wish);
            for depth in 1..=2 {
                let upper = judged(&set(above[..depth].to_vec()), wish);
                let is_forbidden = matches!(
                    upper, Verdict::Denied(Reason::Forbidden(_) | Reason::Hidden(_))
                ) && above[..depth].iter().any(|layer| {
                    matches!(
                        judged(&set(vec![Layer { mode: Some(EgressMode::Learn), ..layer.clone() }]), wish),
                        Verdict::Denied(_)
                    )
                });
                if is_forbidden {
                    prop_assert_eq!(reach(&whole), 0, "{} {:?}", wish, whole);
                }
                if above[depth - 1].below == Below::MayNarrow {
                    prop_assert!(reach(&whole) <= reach(&upper), "{} {:?} {:?}", wish, upper, whole);
                }
            }
        }
    }

    #[test]
    fn the_order_of_rules_in_a_scope_changes_nothing(
        mut layer in any_layer(Scope::Organization),
    ) {
        let before = set(vec![layer.clone()]);
        layer.rules.reverse();
        let after = set(vec![layer]);
        for wish in WISHES {
            prop_assert_eq!(reach(&judged(&before, wish)), reach(&judged(&after, wish)), "{}", wish);
        }
    }

    #[test]
    fn a_rule_less_opens_nothing_unless_it_forbids_or_asks(
        layer in any_layer(Scope::Organization),
        which in any::<proptest::sample::Index>(),
    ) {
        prop_assume!(!layer.rules.is_empty());
        let before = set(vec![layer.clone()]);
        let mut fewer = layer;
        let gone = fewer.rules.remove(which.index(fewer.rules.len()));
        prop_assume!(gone.action == Action::Allow && fewer.mode != Some(EgressMode::Learn));
        let after = set(vec![fewer]);
        for wish in WISHES {
            // An allowing rule that goes may leave a wider one that allows, never one that is freer.
            prop_assert!(reach(&judged(&after, wish)) <= 2 && {
                let (old, new) = (judged(&before, wish), judged(&after, wish));
                reach(&old) == 1 || reach(&new) <= reach(&old)
            }, "{}", wish);
        }
    }

    #[test]
    fn no_text_is_too_strange_to_be_judged(
        line in "\\PC{0,80}", path in "/\\PC{0,40}", query in proptest::option::of("\\PC{0,40}"),
    ) {
        if let Ok(spec) = text::parse(&line) {
            let again = text::parse(&spec.to_string());
            prop_assert!(again.is_ok(), "{line} {spec}");
            let rules = Rule::from_spec("x", &spec).unwrap();
            let wish = Wish::Request { method: &Method::POST, path: &path, query: query.as_deref() };
            let there = Target { host: "a.example".parse().unwrap(), port: 443 };
            RuleSet::new(rules).check(&there, wish);
        }
    }
}

#[test]
fn rules_that_can_do_nothing_are_told() {
    let guard = crate::Guard::default();
    let check = |rule: &str, here: &[&str], above: &[&str], below: Below, expected: &[&str]| {
        let here = rules(here);
        let above = Layer { below, ..layer(Scope::Organization, above) };
        let rule = rules(&[rule]).remove(0);
        let here: Vec<&Rule> = here.iter().collect();
        let told = review::warnings(&rule, Scope::Workspace, &here, &[&above], &guard);
        assert_eq!(told, expected, "{}", rule.name);
    };
    use Below::{MayNarrow, MayWiden};
    check("allow a.example", &[], &[], MayWiden, &[]);
    check(
        "allow a.example",
        &["allow *.example:80,443"],
        &[],
        MayWiden,
        &["it adds nothing: rule `allow *.example:80,443` says the same of all of it"],
    );
    check(
        "allow GET a.example/x",
        &[],
        &["deny a.example"],
        MayWiden,
        &["it never counts: rule `deny a.example` of the organization forbids all of it"],
    );
    check("allow a.example", &[], &["deny POST a.example"], MayWiden, &[]);
    check(
        "allow a.example",
        &[],
        &["allow b.example"],
        MayNarrow,
        &["it never counts: the rules of the organization leave this closed, and let nothing be \
         opened below them"],
    );
    check("allow GET a.example", &[], &["allow *.example"], MayNarrow, &[]);
    check(
        "allow 169.254.169.254",
        &[],
        &[],
        MayWiden,
        &[
            "it never matches: 169.254.169.254 is a cloud's metadata service, which no rule opens; name it in \
         `[egress] allow_private` of boatyard.toml as well",
        ],
    );
    check(
        "allow *.com",
        &[],
        &[],
        MayWiden,
        &["it lets out to every name that ends in `.com`, whoever owns it"],
    );
    check("deny 10.0.0.0/8", &[], &[], MayWiden, &[]);
}
