//! Rules on the crates' manifests.

use toml::Table;

use super::{File, Finding};

/// Which crate of ours may use which: the arrows of ARCHITECTURE.md. A new one is a decision; it
/// is drawn there as well.
const ARROWS: &[(&str, &[&str])] = &[
    ("agent", &["model"]),
    ("api", &["model"]),
    ("cli", &["api", "runtime", "server", "store"]),
    ("egress", &["model"]),
    ("link", &["model"]),
    ("model", &[]),
    ("page", &[]),
    ("runner", &["agent", "link", "model", "sandbox"]),
    ("runtime", &["model", "sandbox"]),
    ("sandbox", &[]),
    ("server", &["agent", "api", "egress", "link", "model", "page", "runtime", "store"]),
    ("store", &["model"]),
    ("testkit", &["model"]),
];

/// What tests may use besides: anything, but nothing uses it outside of tests.
const FOR_TESTS: &str = "testkit";

const PREFIX: &str = "boatyard-";

pub(super) fn arrows_are_as_drawn(files: &[File]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (path, manifest) in manifests(files) {
        let Some(name) = name(&manifest).and_then(|name| name.strip_prefix(PREFIX)) else {
            continue;
        };
        let Some((_, allowed)) = ARROWS.iter().find(|(one, _)| *one == name) else {
            found.push(format!("{path}: {name} is not on the list of crates"));
            continue;
        };
        for used in uses(&manifest, "dependencies").chain(uses(&manifest, "build-dependencies")) {
            if !allowed.contains(&used) {
                found.push(format!("{path}: {name} → {used} is not drawn"));
            }
        }
        let used: Vec<_> = uses(&manifest, "dependencies").collect();
        for gone in allowed.iter().filter(|one| !used.contains(one)) {
            found.push(format!("{path}: {name} → {gone} is drawn and not there"));
        }
        if used.contains(&FOR_TESTS) {
            found.push(format!("{path}: {FOR_TESTS} is for tests only"));
        }
    }
    found
}

pub(super) fn lints_are_inherited(files: &[File]) -> Vec<Finding> {
    let inherits = |manifest: &Table| {
        let lints = manifest.get("lints").and_then(toml::Value::as_table);
        lints.and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool) == Some(true)
    };
    manifests(files)
        .filter(|(_, manifest)| name(manifest).is_some() && !inherits(manifest))
        .map(|(path, _)| format!("{path} lacks [lints] workspace = true"))
        .collect()
}

fn manifests(files: &[File]) -> impl Iterator<Item = (&str, Table)> {
    let found = files.iter().filter(|file| file.path.ends_with("Cargo.toml"));
    let parsed =
        found.filter_map(|file| Some((file.path.as_str(), file.text.parse::<Table>().ok()?)));
    // A package that is a workspace of its own (a fuzz target, which needs another compiler) has
    // neither our lints nor a place in the drawing.
    parsed.filter(|(_, manifest)| {
        !(manifest.contains_key("package") && manifest.contains_key("workspace"))
    })
}

fn name(manifest: &Table) -> Option<&str> {
    manifest.get("package")?.get("name")?.as_str()
}

fn uses<'a>(manifest: &'a Table, section: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let table = manifest.get(section).and_then(toml::Value::as_table);
    table.into_iter().flat_map(|table| table.keys()).filter_map(|key| key.strip_prefix(PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, arrows: usize, lints: usize) {
        let file = File { path: "crates/x/Cargo.toml".into(), text: text.into() };
        let files = [file];
        assert_eq!(arrows_are_as_drawn(&files).len(), arrows, "{text}");
        assert_eq!(lints_are_inherited(&files).len(), lints, "{text}");
    }

    #[test]
    fn an_arrow_that_is_not_drawn_is_found() {
        let lints = "[lints]\nworkspace = true\n";
        let package = |name: &str| format!("[package]\nname = \"boatyard-{name}\"\n{lints}");
        check(&package("model"), 0, 0);
        check(&format!("{}[dependencies]\nboatyard-store = {{}}\n", package("model")), 1, 0);
        check(&format!("{}[dependencies]\nboatyard-model = {{}}\n", package("link")), 0, 0);
        check(&package("link"), 1, 0);
        check(&package("unheard-of"), 1, 0);
        check("[package]\nname = \"boatyard-model\"\n", 0, 1);
        check("[workspace]\n", 0, 0);
    }
}
