//! The rules of the tree that no compiler knows. Each is a function from the tracked files to what
//! is wrong with them, and a test.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, bail};

use crate::root;

mod crates;
mod links;
mod text;

/// Something that is not as it should be: where, and what.
type Finding = String;

/// A rule by its name.
type Rule = (&'static str, fn(&[File]) -> Vec<Finding>);

const RULES: &[Rule] = &[
    ("modules begin with what they are for", text::modules_have_a_document),
    ("files are short", text::files_are_short),
    ("unsafe stays in its crates", text::unsafe_is_fenced),
    ("nothing is left to be done", text::nothing_is_left),
    ("lines end where they end", text::lines_are_clean),
    ("no machine is named", text::no_machine_is_named),
    ("links lead somewhere", links::links_resolve),
    ("crates depend as drawn", crates::arrows_are_as_drawn),
    ("crates keep the lints", crates::lints_are_inherited),
];

/// A tracked text file.
struct File {
    /// Below the root, with `/`.
    path: String,
    text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Written by a program; nobody reads it line by line.
    fn is_generated(&self) -> bool {
        self.path.contains("__generated__/")
            || self.path.contains("/snapshots/")
            || self.path.ends_with(".snap")
            || self.path.ends_with(".lock")
            || self.path.ends_with("package-lock.json")
            || self.path == "docs/openapi.json"
    }
}

pub(crate) fn run() -> anyhow::Result<()> {
    let files = tracked()?;
    let mut wrong = 0;
    for (name, rule) in RULES {
        for finding in rule(&files) {
            eprintln!("{name}: {finding}");
            wrong += 1;
        }
    }
    if wrong > 0 {
        bail!("{wrong} findings");
    }
    println!("tidy: {} files, {} rules", files.len(), RULES.len());
    Ok(())
}

/// Every text file that git tracks, as it is in the working tree.
fn tracked() -> anyhow::Result<Vec<File>> {
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .current_dir(root())
        .output()
        .context("git could not be started")?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let names = String::from_utf8(output.stdout).context("a path that is not UTF-8")?;
    let paths = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
    let read = paths.filter_map(|path| {
        // Removed but not yet committed, a link, or no text: nothing to read.
        let full = root().join(&path);
        let plain = fs::symlink_metadata(&full).is_ok_and(|meta| meta.is_file());
        let text = plain.then(|| fs::read(&full).ok()).flatten();
        let text = text.and_then(|bytes| String::from_utf8(bytes).ok())?;
        Some(File { path: path.to_string_lossy().into_owned(), text })
    });
    Ok(read.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let files = tracked().unwrap();
        assert!(files.len() > 50, "git lists {} files", files.len());
        let findings: Vec<_> = RULES
            .iter()
            .flat_map(|(name, rule)| {
                rule(&files).into_iter().map(move |finding| format!("{name}: {finding}"))
            })
            .collect();
        assert!(findings.is_empty(), "\n{}", findings.join("\n"));
    }
}
