//! What `boatyard login` stored: servers elsewhere, with a key for each.
//!
//! One file of the account's, `credentials.toml` in its settings folder, mode 0600. It is read only
//! as long as nobody else can read it. A key goes to the server that it is for and to no other.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use boatyard_api::model::KeyId;
use serde::{Deserialize, Serialize};

use crate::{data, failure::Failure};

/// The file's name.
const FILE: &str = "credentials.toml";

/// The credentials of this account.
#[derive(Debug, Default)]
pub(crate) struct Credentials {
    path: PathBuf,
    stored: Stored,
}

/// What is in the file.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    /// The server that is meant when none is named.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    default: Option<String>,
    #[serde(rename = "server", skip_serializing_if = "Vec::is_empty", default)]
    servers: Vec<Credential>,
}

/// A key for a server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Credential {
    /// The server's address.
    pub(crate) url: String,
    /// The key.
    pub(crate) key: String,
    /// The key's id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) id: Option<KeyId>,
    /// As whom.
    #[serde(default)]
    pub(crate) name: String,
    /// Whether it was made for this account by a `login`, so that it ends when it is not needed any
    /// more; else somebody gave it.
    #[serde(default)]
    pub(crate) made: bool,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Those of this account; none where nobody has signed in.
    pub(crate) fn read() -> Result<Self> {
        match place() {
            Some(path) => Self::read_from(path),
            None => Ok(<Self as Default>::default()),
        }
    }

    fn read_from(path: PathBuf) -> Result<Self> {
        let unreadable = || format!("{} can't be read", path.display());
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { path, stored: Stored::default() });
            }
            Err(error) => return Err(error).with_context(unreadable),
        };
        let meta = fs::metadata(&path).with_context(unreadable)?;
        if meta.mode() & 0o077 != 0 {
            let message = format!("{} holds keys and can be read by others", path.display());
            let next = format!(
                "chmod 600 {}; if others had it, `boatyard logout` and sign in again",
                path.display()
            );
            return Err(Failure::new(message).next(next).into());
        }
        let stored = toml::from_str(&text).map_err(|_| {
            // Without the parser's words: they repeat what is in the file.
            Failure::new(format!("{} is damaged", path.display()))
                .next("remove it and sign in again with `boatyard login`")
        })?;
        Ok(Self { path, stored })
    }

    /// Where they are.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The key for a server.
    pub(crate) fn find(&self, url: &str) -> Option<&Credential> {
        self.stored.servers.iter().find(|one| same_origin(&one.url, url))
    }

    /// The server that is meant when none is named.
    pub(crate) fn default(&self) -> Option<&Credential> {
        self.find(self.stored.default.as_deref()?)
    }

    /// All, in the order in which they came.
    pub(crate) fn all(&self) -> &[Credential] {
        &self.stored.servers
    }

    /// Keeps a key, and means its server from now on when none is named: the one that was there.
    pub(crate) fn keep(&mut self, credential: Credential) -> Result<Option<Credential>> {
        let before = self.take(&credential.url);
        self.stored.default = Some(credential.url.clone());
        self.stored.servers.push(credential);
        self.write()?;
        Ok(before)
    }

    /// Forgets a server.
    pub(crate) fn forget(&mut self, url: &str) -> Result<Option<Credential>> {
        let gone = self.take(url);
        if self.stored.default.as_deref().is_some_and(|default| same_origin(default, url)) {
            self.stored.default = self.stored.servers.last().map(|one| one.url.clone());
        }
        self.write()?;
        Ok(gone)
    }

    fn take(&mut self, url: &str) -> Option<Credential> {
        let at = self.stored.servers.iter().position(|one| same_origin(&one.url, url))?;
        Some(self.stored.servers.remove(at))
    }

    fn write(&self) -> Result<()> {
        let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty())
        else {
            return Err(Failure::usage("neither XDG_CONFIG_HOME nor HOME is set")
                .next("set HOME, or use BOATYARD_SERVER and BOATYARD_API_KEY")
                .into());
        };
        let unwritable = || format!("{} can't be written", self.path.display());
        DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(unwritable)?;
        let text = format!(
            "# Kept by `boatyard login` and `boatyard logout`. These are keys: show them to nobody.\n{}",
            toml::to_string(&self.stored)?
        );
        data::write_whole(&self.path, text.as_bytes(), 0o600).with_context(unwritable)
    }
}

/// The file of this account.
fn place() -> Option<PathBuf> {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".config")))?;
    Some(base.join("boatyard").join(FILE))
}

/// Whether two addresses are of one server: scheme, host and port.
pub(crate) fn same_origin(a: &str, b: &str) -> bool {
    let origin = |text: &str| url::Url::parse(text).ok().map(|url| url.origin());
    matches!((origin(a), origin(b)), (Some(a), Some(b)) if a == b && a.is_tuple())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn credential(url: &str, key: &str) -> Credential {
        Credential { url: url.into(), key: key.into(), id: None, name: "Ada".into(), made: true }
    }

    #[test]
    fn keys_are_kept_for_their_servers_and_for_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("boatyard").join(FILE);
        let mut all = Credentials::read_from(path.clone()).unwrap();
        assert!(all.default().is_none() && all.all().is_empty());
        all.keep(credential("https://a.example", "by_a")).unwrap();
        all.keep(credential("https://b.example", "by_b")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        let mut all = Credentials::read_from(path.clone()).unwrap();
        assert_eq!(all.default().unwrap().key, "by_b");
        assert_eq!(all.find("https://a.example/").unwrap().key, "by_a");
        for other in ["http://a.example", "https://a.example:8443", "https://a.example.evil", "a"] {
            assert!(all.find(other).is_none(), "{other}");
        }
        let before = all.keep(credential("https://a.example", "by_new")).unwrap();
        assert_eq!(before.unwrap().key, "by_a");
        all.forget("https://a.example").unwrap();
        assert_eq!(all.default().unwrap().key, "by_b");
        all.forget("https://b.example").unwrap();
        assert!(Credentials::read_from(path).unwrap().default().is_none());
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_and_nothing_of_it_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("boatyard").join(FILE);
        let mut all = Credentials::read_from(path.clone()).unwrap();
        all.keep(credential("https://a.example", "by_secret")).unwrap();
        assert!(!format!("{all:?}").contains("by_secret"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Credentials::read_from(path.clone()).unwrap_err().to_string();
        assert!(error.contains("can be read by others"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "[[server]]\nkey = \"by_secret").unwrap();
        let error = format!("{:#}", Credentials::read_from(path).unwrap_err());
        assert!(error.contains("is damaged") && !error.contains("by_secret"), "{error}");
    }
}
