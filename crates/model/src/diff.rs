//! What git prints of a difference, read.
//!
//! `git diff-tree -r -z --raw --numstat` prints, for each file, first
//! `:modes ids status NUL path NUL [new path NUL]`, and after all of these
//! `added TAB removed TAB path NUL`, or for a renamed file
//! `added TAB removed TAB NUL path NUL new path NUL`. Paths may hold anything but a zero byte; they
//! are another's words, and so is how many there are.

use std::collections::HashMap;

use crate::event::{DiffFile, FileChange};

/// How many files a difference names.
pub const FILES_MAX: usize = 10_000;

/// The files that differ.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Files {
    /// In the order in which git names them.
    pub files: Vec<DiffFile>,
    /// There are more: past the limit, or behind a place where the output broke off.
    pub cut: bool,
}

impl Files {
    /// Reads what git printed, and at most `max` files of it. It never fails: what breaks off, or is
    /// not what git prints, ends it as [`Files::cut`].
    pub fn parse(output: &[u8], max: usize) -> Self {
        let mut read = Self::default();
        // By the bytes of their paths, which are unique; as text two of them may look the same.
        let mut places: HashMap<&[u8], usize> = HashMap::new();
        let mut fields = Fields(output);
        while let Some(field) = fields.next() {
            let understood = match field.strip_prefix(b":") {
                Some(head) => read.file(head, &mut fields, &mut places, max),
                None => read.counts(field, &mut fields, &places),
            };
            if understood.is_none() {
                read.cut = true;
                break;
            }
        }
        // Each field ends with a zero byte; what follows the last one broke off.
        read.cut |= !fields.0.is_empty();
        read
    }

    /// Reads the rest of a file's entry; none where it is not one.
    fn file<'a>(
        &mut self,
        head: &[u8],
        fields: &mut Fields<'a>,
        places: &mut HashMap<&'a [u8], usize>,
        max: usize,
    ) -> Option<()> {
        let status = *head.rsplit(|byte| *byte == b' ').next()?.first()?;
        let first = fields.next()?;
        let (change, path, old) = match status {
            b'A' => (FileChange::Added, first, None),
            b'D' => (FileChange::Deleted, first, None),
            b'R' => (FileChange::Renamed, fields.next()?, Some(first)),
            b'C' => (FileChange::Added, fields.next()?, Some(first)),
            _ => (FileChange::Modified, first, None),
        };
        if self.files.len() >= max {
            self.cut = true;
            return Some(());
        }
        places.insert(path, self.files.len());
        let (path, old_path) = (text(path), old.map(text));
        self.files.push(DiffFile { path, old_path, change, added: None, removed: None });
        Some(())
    }

    /// Reads a file's counts; none where they are not that.
    fn counts<'a>(
        &mut self,
        field: &'a [u8],
        fields: &mut Fields<'a>,
        places: &HashMap<&'a [u8], usize>,
    ) -> Option<()> {
        let mut parts = field.splitn(3, |byte| *byte == b'\t');
        let (added, removed, mut path) = (parts.next()?, parts.next()?, parts.next()?);
        if path.is_empty() {
            fields.next()?;
            path = fields.next()?;
        }
        if let Some(file) = places.get(path).and_then(|at| self.files.get_mut(*at)) {
            // A binary file has `-` in both places.
            (file.added, file.removed) = (number(added), number(removed));
        }
        Some(())
    }
}

/// What is left, split at its zero bytes; what has none is left over.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let (field, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Some(field)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn number(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OUTPUT: &[u8] = b":100644 100644 a b M\0x.txt\0:000000 100644 0 c A\0new\0\
        :100644 100644 d e R090\0old name\0new name\0\
        1\t2\tx.txt\x003\t0\tnew\0-\t-\t\0old name\0new name\0";

    #[test]
    fn files_and_their_counts_are_read() {
        let Files { files, cut } = Files::parse(OUTPUT, 10);
        assert!(!cut);
        let told: Vec<_> =
            files.iter().map(|f| (f.path.as_str(), f.change, f.added, f.removed)).collect();
        assert_eq!(
            told,
            [
                ("x.txt", FileChange::Modified, Some(1), Some(2)),
                ("new", FileChange::Added, Some(3), Some(0)),
                ("new name", FileChange::Renamed, None, None),
            ]
        );
        assert_eq!(files[2].old_path.as_deref(), Some("old name"));
        let Files { files, cut } = Files::parse(OUTPUT, 2);
        assert_eq!((files.len(), cut, files[1].added), (2, true, Some(3)));
    }

    #[test]
    fn what_breaks_off_is_cut_and_nothing_else_is() {
        for end in 0..OUTPUT.len() {
            let read = Files::parse(&OUTPUT[..end], 10);
            // Between two fields it may look whole; the caller knows that it was cut.
            let whole = end == 0 || OUTPUT[end - 1] == 0;
            assert!(read.cut || whole, "{end}");
        }
        assert_eq!(Files::parse(b"", 10), Files::default());
        assert!(Files::parse(b"fatal: no such thing", 10).cut);
        assert!(Files::parse(b"warning\0", 10).cut);
    }

    /// A path, hostile: a tab, a line feed, a colon, bytes that are not UTF-8.
    fn path() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(
            prop_oneof![Just(b'\t'), Just(b'\n'), Just(b':'), Just(0xff), b'a'..b'e'],
            1..6,
        )
    }

    proptest! {
        #[test]
        fn what_git_would_print_is_read_back(
            made in prop::collection::btree_map(path(), (any::<Option<(u32, u32)>>(), 0..4usize), 0..12),
            max in 0..14usize,
        ) {
            let (mut raw, mut counts) = (Vec::new(), Vec::new());
            let mut expected = Vec::new();
            for (path, (numbers, change)) in &made {
                let (letter, change) = [
                    ("M", FileChange::Modified),
                    ("A", FileChange::Added),
                    ("D", FileChange::Deleted),
                    ("R100", FileChange::Renamed),
                ][*change];
                let renamed = change == FileChange::Renamed;
                raw.extend(format!(":100644 100644 1 2 {letter}\0").into_bytes());
                let (added, removed) = numbers.unzip();
                let shown = |n: Option<u32>| n.map_or("-".to_owned(), |n| n.to_string());
                counts.extend(format!("{}\t{}\t", shown(added), shown(removed)).into_bytes());
                if renamed {
                    raw.extend(b"old\0");
                    counts.extend(b"\0old\0");
                }
                for out in [&mut raw, &mut counts] {
                    out.extend(path);
                    out.push(0);
                }
                let old_path = renamed.then(|| "old".to_owned());
                expected.push(DiffFile { path: text(path), old_path, change, added, removed });
            }
            raw.extend(counts);
            let read = Files::parse(&raw, max);
            prop_assert_eq!(read.cut, made.len() > max);
            expected.truncate(max);
            prop_assert_eq!(read.files, expected);
        }

        #[test]
        fn any_bytes_are_read_within_bounds(
            bytes in prop::collection::vec(
                prop_oneof![Just(0), Just(b':'), Just(b'\t'), Just(b' '), Just(b'R'), any::<u8>()],
                0..200,
            ),
            max in 0..5usize,
        ) {
            prop_assert!(Files::parse(&bytes, max).files.len() <= max);
        }
    }
}
