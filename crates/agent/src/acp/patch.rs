//! What a patch in the form of Codex's `apply_patch` changes, as the protocol tells a change.
//!
//! OpenCode tells such a patch as the arguments of its tool only.

use serde_json::{Value, json};

/// Files of a patch that are told.
const FILES: usize = 64;

/// A part of a tool call's content for each file: `{"type": "diff", …}`.
pub(super) fn diffs(patch: &str) -> Vec<Value> {
    let mut files: Vec<(String, Vec<&str>, Vec<&str>)> = Vec::new();
    for line in patch.lines() {
        let names = ["*** Add File: ", "*** Update File: ", "*** Delete File: "];
        if let Some(path) = names.iter().find_map(|name| line.strip_prefix(name)) {
            if files.len() == FILES {
                break;
            }
            files.push((path.trim().to_owned(), Vec::new(), Vec::new()));
            continue;
        }
        let Some((path, old, new)) = files.last_mut() else { continue };
        if let Some(to) = line.strip_prefix("*** Move to: ") {
            to.trim().clone_into(path);
        } else if let Some(text) = line.strip_prefix('+') {
            new.push(text);
        } else if let Some(text) = line.strip_prefix('-') {
            old.push(text);
        } else if let Some(text) = line.strip_prefix(' ') {
            old.push(text);
            new.push(text);
        }
    }
    let text = |lines: Vec<&str>| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let part = |(path, old, new): (String, Vec<&str>, Vec<&str>)| json!({ "type": "diff", "path": path, "oldText": text(old), "newText": text(new) });
    files.into_iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_of_a_patch_is_a_change() {
        let patch = "*** Begin Patch\n*** Add File: new.txt\n+a\n+b\n*** Update File: old.txt\n\
            *** Move to: moved.txt\n@@ fn x\n same\n-before\n+after\n*** Delete File: gone.txt\n*** End Patch\n";
        let told = diffs(patch);
        let part = |path: &str, old: &str, new: &str| json!({ "type": "diff", "path": path, "oldText": old, "newText": new });
        let expected = [
            part("new.txt", "", "a\nb\n"),
            part("moved.txt", "same\nbefore\n", "same\nafter\n"),
            part("gone.txt", "", ""),
        ];
        assert_eq!(told, expected);
        assert!(diffs("+no file\nnonsense").is_empty());
    }
}
