//! From the places where values are given to one outcome.
//!
//! [`Sources`] is what was found, without effects; [`Sources::resolve`] merges it once. A value that
//! can't be taken is refused with its place: the file and line, the variable, or the flag.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use boatyard_egress::gateway::Builtin;
use toml::{
    Value,
    de::{DeTable, DeValue},
};

use super::{
    AGENTS, NAME, SECTIONS, SectionInfo, Settings, named,
    table::{Key, Layers},
};

/// What the key of a provider is shown as.
pub(super) const KEY: &str = "key";

/// What `BOATYARD_*` variables that are no settings are for: they are not looked at here.
const OTHER_VARIABLES: &[&str] = &[
    "BOATYARD_CONFIG",
    "BOATYARD_DATA",
    "BOATYARD_SERVER",
    "BOATYARD_API_KEY",
    "BOATYARD_LISTEN",
    "BOATYARD_ADMIN_EMAIL",
    "BOATYARD_ADMIN_PASSWORD",
];

/// What people look for first; it stands for BOATYARD_SERVER_URL.
const PUBLIC_ADDRESS: &str = "BOATYARD_URL";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// A line of the file.
    File {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// A variable of the environment.
    Variable(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Why settings can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error("the settings file {} can't be read", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}:{line}: {reason}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        reason: String,
    },
    /// A key or section that doesn't exist.
    #[error("{}:{line}: {what} is not a setting{}", path.display(), hint(nearest.as_deref()))]
    Unknown {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The key or section.
        what: String,
        /// What may have been meant.
        nearest: Option<String>,
    },
    /// A value of the wrong kind.
    #[error("{origin}: `{key}`: {reason}")]
    Value {
        /// The dotted name.
        key: String,
        /// Where it was given.
        origin: Origin,
        /// What is wrong with it.
        reason: String,
    },
}

fn hint(nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean {nearest}?"),
        None => "; docs/configuration.md lists them all".to_owned(),
    }
}

/// What was found in the places where settings may stand.
#[derive(Debug, Default)]
pub struct Sources {
    /// The file, with its text.
    pub file: Option<(PathBuf, String)>,
    /// The variables of the environment; others than `BOATYARD_*` are passed over.
    pub variables: Vec<(String, String)>,
    /// Flags of the command line: the dotted name that each sets, its value, and how it is written.
    pub flags: Vec<(&'static str, Value, &'static str)>,
}

/// The outcome.
#[derive(Debug)]
pub struct Resolved {
    /// The settings.
    pub settings: Settings,
    /// Where each value that is not a default came from, by its dotted name.
    pub origins: BTreeMap<String, Origin>,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// What is odd but harmless, a sentence each.
    pub warnings: Vec<String>,
    /// The variables that hold keys of providers: of those only this is known here.
    pub key_variables: Vec<&'static str>,
}

impl Sources {
    /// Reads the file at `path`, if one was found.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn with_file(path: Option<PathBuf>) -> Result<Self, Error> {
        let file = match path {
            None => None,
            Some(path) => match std::fs::read_to_string(&path) {
                Ok(text) => Some((path, text)),
                Err(source) => return Err(Error::Unreadable { path, source }),
            },
        };
        Ok(Self { file, ..Self::default() })
    }

    /// Merges everything.
    ///
    /// # Errors
    /// The first thing that can't be taken.
    pub fn resolve(self) -> Result<Resolved, Error> {
        let mut layers = Layers::default();
        if let Some((path, text)) = &self.file {
            read_file(&mut layers, path, text)?;
        }
        let mut warnings = read_variables(&mut layers, self.variables)?;
        for (name, value, flag) in self.flags {
            layers.put(name.to_owned(), value, Origin::Flag(flag));
        }
        let settings = Settings::read(&layers)?;
        warnings.extend(settings.server.warnings());
        warnings.extend(settings.sign_in.warnings());
        let file = self.file.map(|(path, _)| path);
        let key_variables = Vec::new();
        Ok(Resolved { settings, origins: layers.origins(), file, warnings, key_variables })
    }
}

impl Resolved {
    /// Every value by its dotted name with its origin; secrets hidden, and none where a key has no
    /// value.
    pub fn values(&self) -> Vec<(String, Option<Value>, Origin)> {
        let shown = self.settings.show().into_iter();
        let row = |(name, value): (String, Option<Value>)| {
            if let Some(key_of) = self.key_of(&name) {
                let value =
                    key_of.is_some().then(|| Value::String(super::value::HIDDEN.to_owned()));
                return (name, value, key_of.unwrap_or(Origin::Default));
            }
            let origin = self.origins.get(&name).cloned().unwrap_or(Origin::Default);
            (name, value, origin)
        };
        shown.map(row).collect()
    }

    /// Where the key of a provider comes from, if this is the name of one.
    fn key_of(&self, name: &str) -> Option<Option<Origin>> {
        let provider = name.strip_prefix("providers.")?.strip_suffix(KEY)?.strip_suffix('.')?;
        let file = self.origins.get(&format!("providers.{provider}.key_file")).cloned();
        let variable = Builtin::from_name(provider).map(|builtin| builtin.variable);
        let variable = variable.filter(|variable| self.key_variables.contains(variable));
        Some(file.or(variable.map(|variable| Origin::Variable(variable.to_owned()))))
    }

    /// Every value with its origin, as lines of TOML with a comment; secrets hidden.
    pub fn show(&self) -> String {
        use fmt::Write as _;

        let mut out = String::new();
        let mut section = String::new();
        let rows: Vec<(String, String, String)> = self
            .values()
            .into_iter()
            .map(|(name, value, origin)| {
                let (path, key) = name.rsplit_once('.').unwrap_or(("", &name));
                let line = match value {
                    Some(value) => format!("{key} = {value}"),
                    None => format!("# {key} is not set"),
                };
                (path.to_owned(), line, origin.to_string())
            })
            .collect();
        // A comment after a long value would be far away: beyond this column it just follows.
        let column = rows.iter().map(|(_, line, _)| line.len()).filter(|n| *n <= 48).max();
        let column = column.unwrap_or(0);
        for (path, line, origin) in rows {
            if path != section {
                // Writing to a String can't fail.
                let _ = write!(out, "\n[{path}]\n");
                section = path;
            }
            let _ = writeln!(out, "{line:column$}  # {origin}");
        }
        out
    }
}

fn line_of(text: &str, span: Range<usize>) -> usize {
    let before = text.get(..span.start).unwrap_or(text);
    before.bytes().filter(|b| *b == b'\n').count() + 1
}

fn section(path: &str) -> Option<&'static SectionInfo> {
    SECTIONS.iter().find(|section| section.path == path)
}

/// The section of which there may be many, below this name.
fn many_of(name: &str) -> Option<&'static str> {
    named().find(|(prefix, _)| *prefix == name).map(|(_, path)| path)
}

fn read_file(layers: &mut Layers, path: &Path, text: &str) -> Result<(), Error> {
    let syntax = |error: toml::de::Error| Error::Syntax {
        path: path.to_owned(),
        line: error.span().map_or(1, |span| line_of(text, span)),
        reason: error.message().to_owned(),
    };
    // Once with places, for the messages; once as values.
    let placed = DeTable::parse(text).map_err(syntax)?;
    let values = toml::from_str::<toml::Table>(text).map_err(syntax)?;
    let mut reader = FileReader { layers, path, text };

    let mut top = toml::Table::new();
    for (key, place) in placed.get_ref() {
        let name: &str = key.get_ref();
        let Some(value) = values.get(name) else { continue };
        let line = line_of(text, key.span());
        match (name, value, place.get_ref()) {
            (_, Value::Table(many), DeValue::Table(places)) if many_of(name).is_some() => {
                reader.many(name, many_of(name).unwrap_or_default(), many, places)?;
            }
            (_, Value::Table(keys), DeValue::Table(places)) if section(name).is_some() => {
                reader.section(name, name, keys, places)?;
            }
            _ if many_of(name).is_some() || section(name).is_some() => {
                return Err(reader.not_a_table(name, line));
            }
            _ => {
                top.insert(name.to_owned(), value.clone());
            }
        }
    }
    let places = placed.get_ref();
    reader.section("", "", &top, places)
}

struct FileReader<'a> {
    layers: &'a mut Layers,
    path: &'a Path,
    text: &'a str,
}

impl FileReader<'_> {
    fn not_a_table(&self, name: &str, line: usize) -> Error {
        let origin = Origin::File { path: self.path.to_owned(), line };
        Error::Value { key: name.to_owned(), origin, reason: format!("write it as [{name}]") }
    }

    /// Sections of which there may be many, by name below `name`.
    fn many(
        &mut self,
        name: &str,
        declared: &str,
        many: &toml::Table,
        places: &DeTable<'_>,
    ) -> Result<(), Error> {
        for (one, place) in places {
            let at = line_of(self.text, one.span());
            let one: &str = one.get_ref();
            let path = format!("{name}.{one}");
            match (many.get(one), place.get_ref()) {
                (Some(Value::Table(keys)), DeValue::Table(places)) => {
                    self.section(&path, declared, keys, places)?;
                }
                _ => return Err(self.not_a_table(&path, at)),
            }
        }
        Ok(())
    }

    fn section(
        &mut self,
        path: &str,
        declared: &str,
        keys: &toml::Table,
        places: &DeTable<'_>,
    ) -> Result<(), Error> {
        let known = section(declared).map_or(&[][..], |section| section.keys);
        for (key, place) in places {
            let line = line_of(self.text, key.span());
            let name: &str = key.get_ref();
            let Some(value) = keys.get(name) else { continue };
            // A section may have others below it: `[sign_in.providers.NAME]`.
            let below = format!("{path}.{name}");
            if let Some(declared) = many_of(&below) {
                match (value, place.get_ref()) {
                    (Value::Table(many), DeValue::Table(places)) => {
                        self.many(&below, declared, many, places)?;
                    }
                    _ => return Err(self.not_a_table(&below, line)),
                }
                continue;
            }
            // What may stand under an agent is known to the catalogue.
            if declared == AGENTS || known.iter().any(|key| key.name == name) {
                let dotted =
                    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                let origin = Origin::File { path: self.path.to_owned(), line };
                self.layers.put(dotted, value.clone(), origin);
                continue;
            }
            let what = match (path, value) {
                ("", Value::Table(_)) => format!("[{name}]"),
                ("", _) => format!("`{name}`"),
                (path, _) => format!("`{name}` in [{path}]"),
            };
            let nearest = nearest(declared, name);
            return Err(Error::Unknown { path: self.path.to_owned(), line, what, nearest });
        }
        Ok(())
    }
}

/// What may have been meant by an unknown key or section.
fn nearest(declared: &str, name: &str) -> Option<String> {
    let in_section = section(declared).map_or(&[][..], |section| section.keys);
    let close = |candidates: &mut dyn Iterator<Item = &'static str>| {
        let scored = candidates.map(|known| (distance(name, known), known));
        scored.min().filter(|(d, _)| *d <= name.len().max(3) / 3).map(|(_, known)| known)
    };
    if let Some(key) = close(&mut in_section.iter().map(|key| key.name)) {
        return Some(format!("`{key}`"));
    }
    // A secret, where a file with it is wanted.
    let file_of = |known: &&Key| {
        let stem = known.name.strip_suffix("_file");
        stem.is_some_and(|stem| name.split('_').any(|word| word == stem))
    };
    if let Some(key) = in_section.iter().find(file_of) {
        return Some(format!("`{}`", key.name));
    }
    if declared.is_empty() {
        let sections = SECTIONS.iter().map(|section| section.path).filter(|path| !path.is_empty());
        if let Some(path) = close(&mut sections.into_iter()) {
            return Some(format!("[{path}]"));
        }
    }
    // The right key in the wrong section.
    let elsewhere = SECTIONS.iter().find(|section| section.keys.iter().any(|k| k.name == name))?;
    Some(match elsewhere.path {
        "" => format!("`{name}` above the first section"),
        path => format!("`{name}` in [{path}]"),
    })
}

/// How many letters must be put in, left out, changed or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let same = usize::from(a[i - 1] != b[j - 1]);
                let mut best =
                    (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + same);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

/// The variable that sets a key.
pub fn variable(section: &str, key: &str) -> String {
    let dotted = if section.is_empty() { key.to_owned() } else { format!("{section}_{key}") };
    format!("BOATYARD_{}", dotted.to_ascii_uppercase())
}

fn read_variables(
    layers: &mut Layers,
    variables: Vec<(String, String)>,
) -> Result<Vec<String>, Error> {
    let sections = SECTIONS.iter().filter(|section| !section.path.ends_with(NAME));
    let known: BTreeMap<String, _> = sections
        .flat_map(|section| {
            section.keys.iter().map(|key| (variable(section.path, key.name), (section.path, key)))
        })
        .collect();
    let mut warnings = Vec::new();
    for (mut name, text) in variables {
        // As it was given: what is wrong with its value is looked for there.
        let given = name.clone();
        if name == PUBLIC_ADDRESS {
            name = variable("server", "url");
        }
        if !name.starts_with("BOATYARD_") || OTHER_VARIABLES.contains(&name.as_str()) {
            continue;
        }
        let Some((path, key)) = known.get(&name) else {
            let near = known.keys().map(|k| (distance(&name, k), k)).min();
            let near = near.filter(|(d, _)| *d <= 3).map(|(_, k)| format!("; did you mean {k}?"));
            warnings.push(format!("the variable {name} is no setting{}", near.unwrap_or_default()));
            continue;
        };
        // An empty variable is how people unset one in a compose or unit file.
        if text.is_empty() {
            continue;
        }
        let dotted =
            if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
        let origin = Origin::Variable(given);
        match key.kind.from_text(&text) {
            Some(value) => layers.put(dotted, value, origin),
            None => {
                let reason = "a table can't stand in a variable; put it into boatyard.toml";
                return Err(Error::Value { key: dotted, origin, reason: reason.to_owned() });
            }
        }
    }
    Ok(warnings)
}

#[cfg(test)]
mod tests;
