//! A key that can't be shown by accident.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use zeroize::Zeroizing;

/// The largest file that is taken for a key's, in bytes. The longest keys are tokens of some 2 KiB.
const MAX_FILE: u64 = 64 * 1024;

/// A provider's key. It has no way to be printed, compared or copied, and its memory is
/// overwritten when it is dropped.
pub struct Secret(Zeroizing<Box<str>>);

impl Secret {
    /// Takes a key, without the white space around it that files and variables bring along.
    pub fn new(text: String) -> Self {
        let text = Zeroizing::new(text);
        Self(Zeroizing::new(text.trim().into()))
    }

    /// Reads a key from the file that holds it and nothing else.
    ///
    /// # Errors
    ///
    /// When there is no such file, or it can't be what holds a key.
    pub fn from_file(path: &Path) -> Result<(Self, Readers), KeyFileError> {
        let (secret, readers) = Self::read(path)?;
        if secret.is_empty() {
            return Err(KeyFileError::Empty);
        }
        if !secret.is_key() {
            return Err(KeyFileError::NotAKey);
        }
        Ok((secret, readers))
    }

    /// The text of a file, if it can be one's of a secret.
    fn read(path: &Path) -> Result<(Self, Readers), KeyFileError> {
        let meta = std::fs::metadata(path)?;
        // Whoever opens a pipe waits for its other side.
        if !meta.is_file() {
            return Err(KeyFileError::NotAFile);
        }
        if meta.len() > MAX_FILE {
            return Err(KeyFileError::TooLarge);
        }
        // As large as it can get, so that no half of it stays behind where it lay before it grew.
        let mut text = Zeroizing::new(String::with_capacity(MAX_FILE as usize + 1));
        let read = File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text);
        let length = read.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => KeyFileError::NotAKey,
            _ => error.into(),
        })?;
        if length as u64 > MAX_FILE {
            return Err(KeyFileError::TooLarge);
        }
        let secret = Self(Zeroizing::new(text.trim().into()));
        let is_public = meta.permissions().mode() & 0o004 != 0;
        Ok((secret, if is_public { Readers::Everybody } else { Readers::Few }))
    }

    /// Reads a document from the file that holds it: tokens with what renews them, the key of a
    /// service account.
    ///
    /// # Errors
    ///
    /// When there is no such file, or it is no text.
    pub fn document_from_file(path: &Path) -> Result<(Self, Readers), KeyFileError> {
        let (secret, readers) = Self::read(path)?;
        if secret.is_empty() { Err(KeyFileError::Empty) } else { Ok((secret, readers)) }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it has only characters that a key may have: those that a header can carry.
    pub fn is_key(&self) -> bool {
        !self.is_empty() && self.0.bytes().all(|b| b.is_ascii_graphic())
    }

    /// The same once more, for somebody else to hold.
    pub(crate) fn copy(&self) -> Self {
        Self(self.0.clone())
    }

    /// The key itself, for the request that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Who may read a key's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Its owner, and perhaps its group.
    Few,
    /// Every account of the machine.
    Everybody,
}

/// Why a file gives no key. What is in it is not repeated.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The system refused.
    #[error("it can't be read")]
    Unreadable(#[from] io::Error),
    /// A folder, a pipe, a device.
    #[error("it is not a file")]
    NotAFile,
    /// Nothing but white space is in it.
    #[error("it is empty")]
    Empty,
    /// More is in it than one key.
    #[error("it is larger than a key can be")]
    TooLarge,
    /// It has several lines, or bytes that are no text.
    #[error("it holds more than one line, or a character that no key has")]
    NotAKey,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_trimmed_and_not_shown() {
        let secret = Secret::new(" sk-hidden\n".to_owned());
        assert_eq!(secret.expose(), "sk-hidden");
        assert_eq!(format!("{secret:?}"), "Secret");
        assert_eq!(format!("{secret:#?}"), "Secret");
    }

    #[test]
    fn a_file_holds_one_key_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let check = |content: &[u8], expected: &str| {
            std::fs::write(&file, content).unwrap();
            match Secret::from_file(&file) {
                Ok((secret, _)) => assert_eq!(secret.expose(), expected),
                Err(error) => {
                    assert!(error.to_string().contains(expected), "{error}");
                    assert!(!format!("{error} {error:?}").contains("hidden"), "{error:?}");
                }
            }
        };
        check(b"sk-hidden\n", "sk-hidden");
        check(b"\r\n sk-hidden \r\n", "sk-hidden");
        check(b" \n", "empty");
        check(b"", "empty");
        check(b"sk-hidden\nsk-hidden\n", "more than one line");
        check(b"sk-hidden\xff", "no key has");
        check(&[b'a'; 70_000], "larger");
        let missing = Secret::from_file(&folder.path().join("nowhere")).unwrap_err();
        assert!(matches!(missing, KeyFileError::Unreadable(_)), "{missing:?}");
        let no_file = Secret::from_file(folder.path()).unwrap_err();
        assert!(matches!(no_file, KeyFileError::NotAFile), "{no_file:?}");
    }

    #[test]
    fn a_file_that_everybody_may_read_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "key").unwrap();
        for (mode, expected) in [(0o600, Readers::Few), (0o644, Readers::Everybody)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Secret::from_file(&file).unwrap().1, expected);
        }
    }
}
