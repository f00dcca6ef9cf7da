//! Links between documents lead to files that are there.

use std::path::{Component, Path, PathBuf};

use super::{File, Finding};
use crate::root;

pub(super) fn links_resolve(files: &[File]) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        for (at, target) in targets(&file.text) {
            if let Some(missing) = missing(&file.path, target) {
                found.push(format!("{}:{at}: there is no {missing}", file.path));
            }
        }
    }
    found
}

/// What links of a document lead to, with their lines; code is left out.
fn targets(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (at, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for part in line.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                found.push((at, target));
            }
        }
    }
    found
}

/// What the target lacks, if it is a file of ours that is not there.
fn missing(from: &str, target: &str) -> Option<String> {
    let path = target.split('#').next().unwrap_or_default();
    if path.is_empty() || target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let folder = Path::new(from).parent().unwrap_or(Path::new(""));
    let full = normal(&folder.join(path))?;
    (!root().join(&full).exists()).then(|| full.display().to_string())
}

/// Without `.` and `..`; none for what lies outside.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir if !out.pop() => {
                return Some(PathBuf::from(format!("{} below the root", path.display())));
            }
            _ => {}
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_outside_code() {
        let text = "See [a](x.md) and [b](y.md#z).\n```\n[c](no.md)\n```\n![d](i.png)\n";
        assert_eq!(targets(text), [(1, "x.md"), (1, "y.md#z"), (5, "i.png")]);
    }

    #[test]
    fn only_our_own_files_can_be_missing() {
        assert_eq!(missing("docs/a.md", "../Cargo.toml"), None);
        assert_eq!(missing("docs/a.md", "#part"), None);
        assert_eq!(missing("docs/a.md", "https://example.com/x"), None);
        assert_eq!(missing("docs/a.md", "no.md"), Some("docs/no.md".to_owned()));
        assert!(missing("a.md", "../b.md").is_some());
    }
}
