//! One declaration per section, and the layers of values that a section is read from.

use std::collections::{BTreeMap, BTreeSet};

use toml::Value;

use super::{
    resolve::{Error, Origin},
    value::Kind,
};

/// A key of a section.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What it decides: the comment above the field.
    pub doc: &'static str,
    /// What a person writes for it.
    pub kind: Kind,
    /// A value to show where there is no default.
    pub example: Option<&'static str>,
}

/// Whether secrets are shown. There is one choice, so that nobody adds the other by accident.
#[derive(Debug, Clone, Copy)]
pub enum Secrets {
    /// They are replaced.
    Hidden,
}

/// A section: made by `section!` only.
pub trait Section: Default {
    /// Its name in the file.
    const PATH: &'static str;
    /// What it is about.
    const DOC: &'static str;
    /// Its keys, in order.
    const KEYS: &'static [Key];

    /// Reads it from what stands below `path`, defaults for the rest.
    ///
    /// # Errors
    /// The first value that can't be taken, with its origin.
    fn read(layers: &Layers, path: &str) -> Result<Self, Error>;

    /// Its values.
    fn show(&self, secrets: Secrets) -> Vec<(&'static str, Option<Value>)>;
}

/// Declares a section: the struct with its fields and comments, the defaults and the table of keys.
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])*
        $name:ident = $path:literal {
            $(
                $(#[doc = $doc:literal])*
                $field:ident: $type:ty = $default:expr $(, example $example:literal)?;
            )*
        }
    ) => {
        $(#[doc = $section_doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($(#[doc = $doc])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $crate::settings::table::Section for $name {
            const PATH: &'static str = $path;
            const DOC: &'static str = concat!($($section_doc, "\n",)*);
            const KEYS: &'static [$crate::settings::table::Key] = &[$(
                $crate::settings::table::Key {
                    name: stringify!($field),
                    doc: concat!($($doc, "\n",)*),
                    kind: <$type as $crate::settings::value::Setting>::KIND,
                    example: [$(Some($example),)? None][0],
                },
            )*];

            fn read(
                layers: &$crate::settings::table::Layers,
                path: &str,
            ) -> Result<Self, $crate::settings::Error> {
                Ok(Self {
                    $($field: match layers.read(path, stringify!($field))? {
                        Some(value) => value,
                        None => $default,
                    },)*
                })
            }

            fn show(
                &self,
                _: $crate::settings::table::Secrets,
            ) -> Vec<(&'static str, Option<toml::Value>)> {
                vec![$((
                    stringify!($field),
                    $crate::settings::value::Setting::show(&self.$field),
                ),)*]
            }
        }
    };
}

pub(super) use section;

/// The values that were given, by dotted name, each with its origin: the last one given.
#[derive(Debug, Default)]
pub struct Layers(BTreeMap<String, (Value, Origin)>);

impl Layers {
    /// Puts a value above what was there.
    pub(super) fn put(&mut self, name: String, value: Value, origin: Origin) {
        self.0.insert(name, (value, origin));
    }

    /// Where each given value came from.
    pub(super) fn origins(self) -> BTreeMap<String, Origin> {
        self.0.into_iter().map(|(name, (_, origin))| (name, origin)).collect()
    }

    /// The value of one key, read.
    pub(super) fn read<T: super::value::Setting>(
        &self,
        path: &str,
        key: &str,
    ) -> Result<Option<T>, Error> {
        let name = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        let Some((value, origin)) = self.0.get(&name) else { return Ok(None) };
        let error = |reason| Error::Value { key: name.clone(), origin: origin.clone(), reason };
        T::read(value).map(Some).map_err(error)
    }

    /// The names that stand directly below `prefix`.
    pub(super) fn names_below(&self, prefix: &str) -> BTreeSet<&str> {
        let below = self.0.keys().filter_map(|name| name.strip_prefix(prefix));
        below.filter_map(|rest| rest.rsplit_once('.')).map(|(name, _)| name).collect()
    }

    /// The values that stand directly below `prefix`.
    pub(super) fn table(&self, prefix: &str) -> toml::Table {
        let below = self.0.iter().filter_map(|(name, (value, _))| {
            let key = name.strip_prefix(prefix).filter(|key| !key.contains('.'))?;
            Some((key.to_owned(), value.clone()))
        });
        below.collect()
    }

    /// An error about everything below `prefix`, at the first place of it.
    pub(super) fn error_in(&self, prefix: &str, reason: String) -> Error {
        let below = self.0.iter().filter(|(name, _)| name.starts_with(prefix));
        let line = |origin: &Origin| match origin {
            Origin::File { line, .. } => *line,
            _ => 0,
        };
        let first = below.map(|(_, (_, origin))| origin).min_by_key(|origin| line(origin));
        let origin = first.cloned().unwrap_or(Origin::Default);
        Error::Value { key: prefix.trim_end_matches('.').to_owned(), origin, reason }
    }
}
