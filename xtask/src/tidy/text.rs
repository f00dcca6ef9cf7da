//! Rules on the text of files.

use super::{File, Finding};

/// Lines of a Rust file before its tests.
const LINES_MAX: usize = 600;

/// Longer ones, each with a reason.
const LONG: &[(&str, &str)] = &[];

/// Crates that may hold `unsafe`: the Linux sandbox's system calls.
const UNSAFE: &[&str] = &["crates/sandbox/"];

/// Signs of work that is not done. In pieces: this file is tracked as well.
const LEFT: &[&str] =
    &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!("), concat!("TB", "D")];

/// Hosts of package registries, and folders of the machine that something was built on. In pieces,
/// for the same reason.
const MACHINES: &[&str] = &[
    concat!("registry.", "npmjs.org"),
    concat!("registry.", "yarnpkg.com"),
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("files.", "pythonhosted.org"),
    concat!("pypi", ".org"),
    concat!("deb.", "debian.org"),
    concat!("security.", "debian.org"),
];
/// Where hosts of registries are what the file is for.
const REGISTRIES: &str = "crates/egress/src/rules/presets.toml";
const FOLDERS: &[&str] =
    &[concat!("/work/", "main"), concat!("/work/", "shared"), concat!("/tmp/", "brief")];

pub(super) fn modules_have_a_document(files: &[File]) -> Vec<Finding> {
    let bad = |file: &&File| file.is_rust() && !first_line(&file.text).starts_with("//!");
    files.iter().filter(bad).map(|file| format!("{} has no //! at its top", file.path)).collect()
}

/// The first line that says something; a shebang and an empty line do not.
fn first_line(text: &str) -> &str {
    text.lines()
        .find(|line| !line.trim().is_empty() && !line.starts_with("#!/"))
        .unwrap_or_default()
}

pub(super) fn files_are_short(files: &[File]) -> Vec<Finding> {
    let known = |file: &File| LONG.iter().any(|(path, _)| *path == file.path);
    let found = files.iter().filter(|file| file.is_rust() && !file.is_generated() && !known(file));
    let found = found.filter(|file| !is_test(&file.path)).filter_map(|file| {
        let lines = lines_before_tests(&file.text);
        (lines > LINES_MAX).then(|| format!("{} has {lines} lines, {LINES_MAX} at most", file.path))
    });
    let gone = LONG.iter().filter(|(path, _)| !files.iter().any(|file| file.path == *path));
    found
        .chain(gone.map(|(path, _)| format!("{path} is on the list of long files and is gone")))
        .collect()
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

fn lines_before_tests(text: &str) -> usize {
    text.lines().take_while(|line| *line != "mod tests {").count()
}

pub(super) fn unsafe_is_fenced(files: &[File]) -> Vec<Finding> {
    let words = [
        concat!("unsafe ", "{"),
        concat!("unsafe ", "fn"),
        concat!("unsafe ", "impl"),
        concat!("allow(unsafe", "_code"),
    ];
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        if UNSAFE.iter().any(|path| file.path.starts_with(path)) {
            continue;
        }
        for (at, line) in code_lines(&file.text) {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{at}: only {} may", file.path, UNSAFE.join(", ")));
            }
        }
    }
    found
}

/// Lines that are not comments, with their numbers.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

pub(super) fn nothing_is_left(files: &[File]) -> Vec<Finding> {
    by_line(files.iter().filter(|file| !file.is_generated()), |line| {
        LEFT.iter().find(|word| has_word(line, word)).map(|word| format!("says {word}"))
    })
}

/// Whether `word` stands in `line` and is not a part of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let letter = |c: char| c.is_alphanumeric() || c == '_';
        let before = line[..at].chars().next_back().is_some_and(letter);
        let after = line[at + word.len()..].chars().next();
        !before && (word.ends_with('(') || !after.is_some_and(letter))
    })
}

pub(super) fn lines_are_clean(files: &[File]) -> Vec<Finding> {
    let read = |file: &&File| !file.is_generated();
    let mut found = by_line(files.iter().filter(read), |line| {
        // In Markdown two spaces at a line's end would be a break; ours has none.
        (line.trim_end_matches('\r').trim_end() != line).then(|| "ends in white space".to_owned())
    });
    for file in files.iter().filter(read) {
        if !file.text.is_empty() && !file.text.ends_with('\n') {
            found.push(format!("{} does not end in a newline", file.path));
        }
    }
    found
}

pub(super) fn no_machine_is_named(files: &[File]) -> Vec<Finding> {
    let folder = |line: &str| {
        let folder = FOLDERS.iter().find(|folder| line.contains(**folder));
        folder.map(|what| format!("names {what}"))
    };
    let host = |line: &str| {
        let host = MACHINES.iter().find(|host| names_url(line, host));
        host.map(|what| format!("names {what}"))
    };
    let mut found = by_line(files.iter(), folder);
    found.extend(by_line(files.iter().filter(|file| file.path != REGISTRIES), host));
    found
}

/// Whether a URL on this host stands in the line; a host's bare name may.
fn names_url(line: &str, host: &str) -> bool {
    line.contains(&format!("https://{host}")) || line.contains(&format!("http://{host}"))
}

fn by_line<'a>(
    files: impl Iterator<Item = &'a File>,
    wrong: impl Fn(&str) -> Option<String>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in files {
        for (at, line) in (1..).zip(file.text.lines()) {
            if let Some(what) = wrong(line) {
                found.push(format!("{}:{at}: {what}", file.path));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: fn(&[File]) -> Vec<Finding>, path: &str, text: &str, expected: usize) {
        let file = File { path: path.to_owned(), text: text.to_owned() };
        let found = rule(&[file]);
        assert_eq!(found.len(), expected, "{path}: {text:?}: {found:?}");
    }

    #[test]
    fn a_module_says_what_it_is_for() {
        check(modules_have_a_document, "crates/x/src/lib.rs", "//! For this.\n", 0);
        check(modules_have_a_document, "crates/x/src/lib.rs", "use std::fs;\n", 1);
        check(modules_have_a_document, "web/src/main.tsx", "import x\n", 0);
    }

    #[test]
    fn tests_do_not_count_as_length() {
        let body = "x\n".repeat(LINES_MAX);
        check(files_are_short, "crates/x/src/a.rs", &body, 0);
        check(files_are_short, "crates/x/src/a.rs", &format!("{body}mod tests {{\n{body}"), 0);
        check(files_are_short, "crates/x/src/a.rs", &format!("{body}x\n"), 1);
        check(files_are_short, "crates/x/tests/a.rs", &format!("{body}x\n"), 0);
    }

    #[test]
    fn unsafe_is_seen_in_code_only() {
        let line = concat!("let x = unsafe ", "{ y() };\n");
        check(unsafe_is_fenced, "crates/store/src/a.rs", line, 1);
        check(unsafe_is_fenced, "crates/sandbox/src/a.rs", line, 0);
        check(unsafe_is_fenced, "crates/store/src/a.rs", &format!("// {line}"), 0);
    }

    #[test]
    fn work_that_is_left_is_a_word_of_its_own() {
        for word in LEFT {
            check(nothing_is_left, "a.md", &format!("{word}: more\n"), 1);
        }
        check(nothing_is_left, "a.md", concat!("a METHO", "DO is none\n"), 0);
        check(nothing_is_left, "a.md", concat!("TO", "DOS are none\n"), 0);
    }

    #[test]
    fn white_space_at_the_end() {
        check(lines_are_clean, "a.md", "a\n\nb\n", 0);
        check(lines_are_clean, "a.md", "a \nb\n", 1);
        check(lines_are_clean, "a.md", "a", 1);
    }

    #[test]
    fn a_registry_is_seen_by_its_address() {
        check(no_machine_is_named, "a.json", &format!("\"https://{}/x\"\n", MACHINES[0]), 1);
        check(no_machine_is_named, "a.json", &format!("{} is allowed\n", MACHINES[0]), 0);
        check(no_machine_is_named, REGISTRIES, &format!("\"https://{}/x\"\n", MACHINES[0]), 0);
        check(no_machine_is_named, "a.sh", &format!("cd {}\n", FOLDERS[0]), 1);
        check(no_machine_is_named, REGISTRIES, &format!("cd {}\n", FOLDERS[0]), 1);
    }
}
