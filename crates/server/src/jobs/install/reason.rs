//! Why npm or pip could not install something, in a sentence before what they said themselves.

use super::recipe::{Recipe, Source};

/// What npm and Node say that helps nobody: warnings of their own, a log in a sandbox that is gone.
const NOISE: [&str; 4] =
    ["(node:", "(Use `node --trace", "A complete log of this run", "npm notice"];

/// What a source that can't be reached leaves in the output.
const UNREACHED: [&str; 9] = [
    "ENOTFOUND",
    "EAI_AGAIN",
    "ECONNREFUSED",
    "ECONNRESET",
    "ETIMEDOUT",
    "ERR_SOCKET_TIMEOUT",
    "network request to",
    "Failed to establish a new connection",
    "Cannot connect to proxy",
];

/// The failure of an installation with its cause first, where it is a known one.
pub(super) fn explained(recipe: &Recipe, text: &str) -> String {
    let kept: Vec<&str> =
        text.lines().filter(|line| !NOISE.iter().any(|noise| line.contains(noise))).collect();
    let kept = kept.join("\n");
    match cause(recipe, &kept) {
        Some(cause) => format!("{cause}\n{kept}"),
        None => kept,
    }
}

fn cause(recipe: &Recipe, text: &str) -> Option<String> {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let after = |mark: &str| {
        let rest = text.split_once(mark)?.1.trim_start();
        rest.split_whitespace().next().map(|word| word.trim_matches(['.', ',', '\'']).to_owned())
    };
    if has(&["ENOSPC", "No space left on device", "EDQUOT", "Disk quota exceeded"]) {
        return Some(
            "The disk is full, or what the installation may take is: free some space, run \
             `boatyard gc`, or raise `[limits] disk` in boatyard.toml."
                .to_owned(),
        );
    }
    let (source, setting) = match recipe.source {
        Source::Npm => ("npm", "npm_registry"),
        Source::Pypi => ("PyPI", "pypi_index"),
    };
    // pip says that it finds nothing also where it could not look.
    if has(&UNREACHED) {
        return Some(format!(
            "The packages of {source} can't be reached: check the server's network, HTTPS_PROXY, \
             and `[egress] {setting}` in boatyard.toml."
        ));
    }
    let missing = match recipe.source {
        Source::Npm if has(&["ETARGET"]) => after("No matching version found for"),
        Source::Npm if has(&["E404"]) => after("requested resource").or_else(|| after("404  '")),
        Source::Npm => None,
        Source::Pypi => after("No matching distribution found for"),
    };
    missing.map(|missing| match recipe.source {
        Source::Npm if has(&["E404"]) => format!("npm has no package {missing}."),
        Source::Npm => format!("npm has no version {missing}."),
        Source::Pypi => format!("PyPI has no {missing} for this machine's Python."),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_line(source: Source, said: &str) -> String {
        let recipe = Recipe {
            source,
            packages: vec!["@some/agent@9.9.9".to_owned()],
            omit_optional: false,
            node: None,
        };
        let text = format!("`npm install` ended with code 1.\n(node:3) Warning: x\n{said}");
        let told = explained(&recipe, &text);
        assert!(!told.contains("Warning"), "{told}");
        told.lines().next().unwrap_or_default().to_owned()
    }

    #[test]
    fn known_causes_stand_first() {
        let npm = |said| first_line(Source::Npm, said);
        assert_eq!(
            npm(
                "npm error code ETARGET\nnpm error notarget No matching version found for a@9.9.9."
            ),
            "npm has no version a@9.9.9."
        );
        assert_eq!(
            npm(
                "npm error code E404\nnpm error 404  The requested resource '@x/y@1.0.0' could not be"
            ),
            "npm has no package @x/y@1.0.0."
        );
        assert_eq!(
            npm("npm error code E404\nnpm error 404  '@x/y@1.0.0' is not in this registry."),
            "npm has no package @x/y@1.0.0."
        );
        assert!(
            npm("npm error code EAI_AGAIN").starts_with("The packages of npm can't be reached")
        );
        assert!(npm("npm error ENOSPC: no space left").starts_with("The disk is full"));
        assert_eq!(npm("npm error code 1"), "`npm install` ended with code 1.");
        assert_eq!(
            first_line(Source::Pypi, "ERROR: No matching distribution found for aider==0.0"),
            "PyPI has no aider==0.0 for this machine's Python."
        );
    }
}
