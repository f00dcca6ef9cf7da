//! A key that can't be shown by accident.

use std::fmt;

use zeroize::Zeroizing;

/// A provider's key. It has no way to be printed, compared or copied, and its memory is
/// overwritten when it is dropped.
pub struct Secret(Zeroizing<Box<str>>);

impl Secret {
    /// Takes a key, without the white space around it that files and variables bring along.
    pub fn new(text: String) -> Self {
        let text = Zeroizing::new(text);
        Self(Zeroizing::new(text.trim().into()))
    }

    /// The key itself, for the one header that carries it.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
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
}
