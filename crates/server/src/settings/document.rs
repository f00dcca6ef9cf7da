//! The annotated `boatyard.toml` and `docs/configuration.md`, made from the declarations.
//!
//! A test fails when the files in the repository are not what these functions give;
//! `boatyard internal docs` writes them.

use std::fmt::Write as _;

use super::{NAME, SECTIONS, resolve::variable, table::Key};

/// The columns of a comment.
const WIDTH: usize = 96;

/// An annotated `boatyard.toml` with everything commented out at its default.
pub fn annotated() -> String {
    let mut out = String::new();
    out.push_str(
        "# The settings of Boatyard.\n\
         #\n\
         # Everything here is commented out and stands at its default: the file changes nothing as\n\
         # it is. It is looked for at --config, at $BOATYARD_CONFIG, in the data folder, at\n\
         # $XDG_CONFIG_HOME/boatyard/boatyard.toml and at /etc/boatyard/boatyard.toml; the first\n\
         # one found is read. A variable such as BOATYARD_SERVER_LISTEN goes before the file, and\n\
         # a flag before both. `boatyard up --print-config` shows the outcome with its sources.\n\
         #\n\
         # Made from crates/server/src/settings by `boatyard internal docs`; docs/configuration.md\n\
         # says the same at more length.\n",
    );
    for section in SECTIONS {
        if !section.path.is_empty() {
            out.push('\n');
            comment(&mut out, section.doc);
            let _ = writeln!(out, "#[{}]", section.path);
        }
        let defaults = (section.defaults)();
        for (key, (_, default)) in section.keys.iter().zip(defaults) {
            out.push('\n');
            comment(&mut out, key.doc);
            let value = match shown(default.as_ref(), key) {
                Shown::Default(value) => value,
                // All of an agent or a provider is an example.
                Shown::Example(value) if section.path.ends_with(NAME) => value,
                Shown::Example(value) => format!("{value}  # an example: not set by default"),
            };
            let _ = writeln!(out, "#{} = {value}", key.name);
        }
    }
    out
}

/// `docs/configuration.md`.
pub fn configuration() -> String {
    let mut out = String::new();
    out.push_str(
        "# Configuration\n\n\
         <!-- Made from crates/server/src/settings by `boatyard internal docs`. -->\n\n\
         Boatyard runs without any configuration. What can be decided is listed here; each key \
         may stand in `boatyard.toml`, in a variable, and some in a flag of `boatyard up`.\n\n\
         - **Order.** A flag goes before a variable, a variable before the file, the file before \
         the default. `boatyard up --print-config` shows every value with its source, secrets \
         hidden.\n\
         - **The file** is the first one found of: `--config FILE`, `$BOATYARD_CONFIG`, \
         `boatyard.toml` in the data folder, `$XDG_CONFIG_HOME/boatyard/boatyard.toml` \
         (`~/.config` without it), `/etc/boatyard/boatyard.toml`. An unknown key is refused with \
         its line and the nearest known one. The annotated [`boatyard.toml`](../boatyard.toml) \
         has everything at its default.\n\
         - **Variables** are named `BOATYARD_<SECTION>_<KEY>`. A list is separated by commas. An \
         empty variable counts as not set. Tables can't stand in a variable.\n\
         - **Sizes** are a number of bytes or a text such as `\"512 MiB\"`, `\"4 GiB\"`, \
         `\"20 GB\"`. **Times** are a number of seconds or a text such as `\"30 s\"`, \
         `\"10 min\"`, `\"4 h\"`, `\"30 d\"`.\n\n\
         For clients on the same machine and account nothing needs to be set: `boatyard up` \
         leaves its address and a key in the data folder. Elsewhere, set `BOATYARD_SERVER` and \
         `BOATYARD_API_KEY`.\n",
    );
    for section in SECTIONS {
        let title = match section.path {
            "" => "General".to_owned(),
            path => format!("`[{path}]`"),
        };
        let _ = write!(out, "\n## {title}\n\n");
        if !section.path.is_empty() {
            let _ = write!(out, "{}\n\n", joined(section.doc));
        }
        let defaults = (section.defaults)();
        for (key, (_, default)) in section.keys.iter().zip(defaults) {
            let _ = write!(out, "### `{}`\n\n{}\n\n", key.name, joined(key.doc));
            let _ = writeln!(out, "- Kind: {}", key.kind.words());
            match shown(default.as_ref(), key) {
                Shown::Default(value) => {
                    let _ = writeln!(out, "- Default: `{value}`");
                    if let Some(example) = key.example {
                        let _ = writeln!(out, "- Example: `{example}`");
                    }
                }
                Shown::Example(value) => {
                    let _ = writeln!(out, "- Default: not set\n- Example: `{value}`");
                }
            }
            if !section.path.ends_with(NAME) && key.kind != super::value::Kind::Table {
                let _ = writeln!(out, "- Variable: `{}`", variable(section.path, key.name));
            }
            out.push('\n');
        }
        // One blank line between sections.
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    out
}

enum Shown {
    Default(String),
    Example(String),
}

fn shown(default: Option<&toml::Value>, key: &Key) -> Shown {
    let example = key.example.unwrap_or("\"\"").to_owned();
    match default {
        None => Shown::Example(example),
        Some(value) => Shown::Default(value.to_string()),
    }
}

fn joined(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn comment(out: &mut String, doc: &str) {
    let mut line = String::from("#");
    for word in doc.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(out, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{super::Sources, *};

    fn check_fresh(path: &str, expected: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
        if std::env::var_os("BOATYARD_UPDATE").is_some() {
            std::fs::write(&path, expected).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        let hint = "run `cargo run -- internal docs` at the root of the repository";
        assert!(found == expected, "{} is stale: {hint}", path.display());
    }

    #[test]
    fn the_files_in_the_repository_are_fresh() {
        check_fresh("boatyard.toml", &annotated());
        check_fresh("docs/configuration.md", &configuration());
    }

    #[test]
    fn the_annotated_file_changes_nothing_and_is_valid_when_uncommented() {
        let text = annotated();
        let with = |text: String| Sources {
            file: Some(("boatyard.toml".into(), text)),
            ..Sources::default()
        };
        let as_is = with(text.clone()).resolve().unwrap();
        assert_eq!(as_is.settings, super::super::Settings::default());
        // A commented setting has no space after `#`; NAME becomes a name.
        let uncommented: String = text
            .lines()
            .map(|line| {
                line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line)
            })
            .map(|line| line.replace(".NAME]", ".name]") + "\n")
            // No file of a secret is there.
            .map(|line| match line.split_once(" = { file = ") {
                Some((key, _)) => format!("{key} = \"made-up\"\n"),
                None => line,
            })
            .filter(|line| !line.starts_with("tokens"))
            .collect();
        let resolved = with(uncommented).resolve().unwrap();
        assert_eq!(resolved.settings.limits.processes, 512);
        assert_eq!(resolved.settings.agents.len(), 1);
        assert_eq!(resolved.settings.providers.len(), 1);
    }
}
