//! The master key: where it comes from, and how it is read.
//!
//! A source holds one key or several, a line each: the first seals, all of them open. That is how
//! another takes a key's place without a moment in which something can't be opened.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use base64::{
    Engine as _,
    engine::{GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::seal::Key;
use crate::settings::Settings;

/// The variable that may hold the key.
pub const VARIABLE: &str = "BOATYARD_VAULT_KEY";
/// The file of the data folder, where nothing else is set.
pub const FILE: &str = "vault.key";
/// The most that a source may hold, in bytes: some dozens of keys.
const MOST: u64 = 16 * 1024;
/// Keys of fewer different bytes are refused.
const GUESSABLE: usize = 12;
/// How long a command may take.
const COMMAND_TIME: Duration = Duration::from_secs(30);
/// How often a command is asked whether it has ended.
const COMMAND_POLL: Duration = Duration::from_millis(20);

/// Base 64 with the padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);
/// The same as it stands in addresses.
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

/// Why there is no master key. What was found in its place is not repeated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be read.
    #[error("{place} can't be read")]
    Unreadable {
        /// Where it should be.
        place: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is no key.
    #[error(
        "{place} holds no key in line {line}: 32 bytes in base 64 are wanted, or 64 hexadecimal \
         digits; `openssl rand -base64 32` makes one"
    )]
    NotAKey {
        /// Where it was found.
        place: String,
        /// In which line.
        line: usize,
    },
    /// It is one that anybody could think of.
    #[error(
        "{place} holds in line {line} no random key but a pattern: anybody could guess it; \
         `openssl rand -base64 32` makes one"
    )]
    Guessable {
        /// Where it was found.
        place: String,
        /// In which line.
        line: usize,
    },
    /// It is not there.
    #[error("{place} holds nothing")]
    Empty {
        /// Where it should be.
        place: String,
    },
    /// The command failed.
    #[error("`[vault] key_command` {what}")]
    Command {
        /// How.
        what: String,
    },
    /// Both a file and a command.
    #[error("{0} are both set, and there can be only one master key")]
    Several(&'static str),
}

/// Where the master key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    File(PathBuf),
    Variable,
    Command(Vec<String>),
    Generated,
}

impl Source {
    /// As it is told to people.
    pub(super) fn words(&self) -> String {
        match self {
            Self::File(path) => format!("the file {}", path.display()),
            Self::Variable => format!("the variable {VARIABLE}"),
            Self::Command(_) => "`[vault] key_command`".to_owned(),
            Self::Generated => format!("{FILE} in the data folder"),
        }
    }
}

/// One master key, with what it is called.
#[derive(Debug)]
pub(super) struct MasterKey {
    pub(super) key: Key,
    /// Tells it from others, and nothing else of it.
    pub(super) id: String,
}

impl MasterKey {
    fn new(key: Key) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"boatyard master key\0");
        hash.update(key.bytes());
        Self { id: crate::hex(&hash.finalize()[..8]), key }
    }

    pub(super) fn random() -> Self {
        Self::new(Key::random())
    }

    pub(super) fn line(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.key.bytes()))
    }
}

/// The master key that an operator gives, or that there is none but our own.
#[derive(Debug)]
pub struct Master {
    pub(super) source: Source,
    /// Empty for one of our own, which is read when the vault is opened.
    pub(super) keys: Vec<MasterKey>,
    /// What is odd but harmless.
    pub warnings: Vec<String>,
}

impl Default for Master {
    /// In the data folder.
    fn default() -> Self {
        Self { source: Source::Generated, keys: Vec::new(), warnings: Vec::new() }
    }
}

impl Master {
    /// Reads what the settings name, or `variable`, with the rights that this process has now.
    ///
    /// # Errors
    /// When a key that should be there is none.
    pub fn read(settings: &Settings, variable: Option<OsString>) -> Result<Self, Error> {
        let vault = &settings.vault;
        let variable = variable.filter(|value| !value.is_empty()).map(|value| {
            // What is no text is no key either; that is said when it is parsed.
            Zeroizing::new(value.into_string().unwrap_or_else(|_| "\u{fffd}".to_owned()))
        });
        let source = match (&vault.key_file, &variable, &vault.key_command[..]) {
            (Some(_), _, [_, ..]) => {
                return Err(Error::Several("`[vault] key_file` and `key_command`"));
            }
            (Some(_), Some(_), _) => {
                return Err(Error::Several("`[vault] key_file` and BOATYARD_VAULT_KEY"));
            }
            (_, Some(_), [_, ..]) => {
                return Err(Error::Several("`[vault] key_command` and BOATYARD_VAULT_KEY"));
            }
            (Some(path), ..) => Source::File(path.clone()),
            (_, Some(_), _) => Source::Variable,
            (.., [_, ..]) => Source::Command(vault.key_command.clone()),
            _ => return Ok(Self::default()),
        };
        let mut warnings = Vec::new();
        let keys = match &variable {
            // A variable has no lines; commas do as well.
            Some(text) => parse(&Zeroizing::new(text.replace(',', "\n")), &source.words())?,
            None => read(&source, Path::new(""))?,
        };
        if let Source::File(path) = &source
            && fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0)
        {
            let path = path.display();
            warnings.push(format!(
                "every account of this machine can read {path}, the master key of the vault; close \
                 it by `chmod 600 {path}`"
            ));
        }
        Ok(Self { source, keys, warnings })
    }
}

/// Reads the keys of a source that can be read more than once.
pub(super) fn read(source: &Source, data: &Path) -> Result<Vec<MasterKey>, Error> {
    let place = source.words();
    let unreadable = |source| Error::Unreadable { place: place.clone(), source };
    let text = match source {
        Source::File(path) => read_file(path).map_err(unreadable)?,
        Source::Generated => read_file(&data.join(FILE)).map_err(unreadable)?,
        Source::Command(argv) => run(argv)?,
        Source::Variable => return Err(Error::Empty { place }),
    };
    parse(&text, &place)
}

fn read_file(path: &Path) -> io::Result<Zeroizing<String>> {
    // Whoever opens a pipe waits for its other side.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    bounded(fs::File::open(path)?)
}

fn bounded(from: impl io::Read) -> io::Result<Zeroizing<String>> {
    // As large as it can get, so that no half of it stays behind where it lay before it grew.
    let mut text = Zeroizing::new(String::with_capacity(MOST as usize + 1));
    from.take(MOST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST {
        return Err(io::Error::other("it is larger than keys can be"));
    }
    Ok(text)
}

fn run(argv: &[String]) -> Result<Zeroizing<String>, Error> {
    let failed = |what: String| Error::Command { what };
    let [program, arguments @ ..] = argv else { return Err(failed("is empty".to_owned())) };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // Its own words are for whoever starts the server.
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| failed(format!("can't be started: {error}")))?;
    // What it prints fits into a pipe, or is no key.
    let deadline = Instant::now() + COMMAND_TIME;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(COMMAND_POLL),
            ended => {
                // It may have ended in this moment.
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(match ended {
                    Err(error) => format!("can't be waited for: {error}"),
                    _ => format!("took longer than {} s", COMMAND_TIME.as_secs()),
                }));
            }
        }
    };
    if !status.success() {
        return Err(failed(format!("failed ({status})")));
    }
    let Some(stdout) = child.stdout.take() else {
        return Err(failed("printed nothing".to_owned()));
    };
    bounded(stdout).map_err(|error| failed(format!("printed what can't be read: {error}")))
}

fn parse(text: &str, place: &str) -> Result<Vec<MasterKey>, Error> {
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let keys: Vec<MasterKey> = lines
        .map(|(at, line)| {
            let (place, line_number) = (place.to_owned(), at + 1);
            let Some(key) = key(line.trim()) else {
                return Err(Error::NotAKey { place, line: line_number });
            };
            // 32 random bytes have some thirty different ones among them; an example of a document,
            // or a text that somebody typed, does not.
            let different = key.key.bytes().iter().collect::<BTreeSet<_>>().len();
            let typed = key.key.bytes().iter().all(|byte| byte.is_ascii_graphic());
            if different < GUESSABLE || typed {
                return Err(Error::Guessable { place, line: line_number });
            }
            Ok(key)
        })
        .collect::<Result<_, _>>()?;
    if keys.is_empty() {
        return Err(Error::Empty { place: place.to_owned() });
    }
    Ok(keys)
}

fn key(text: &str) -> Option<MasterKey> {
    let is_hex = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let bytes = if is_hex {
        let digits = (0..64).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16));
        Zeroizing::new(digits.collect::<Result<Vec<u8>, _>>().ok()?)
    } else {
        Zeroizing::new(BASE64.decode(text).or_else(|_| BASE64_URL.decode(text)).ok()?)
    };
    let bytes: [u8; 32] = bytes.as_slice().try_into().ok()?;
    Some(MasterKey::new(Key::new(Zeroizing::new(bytes))))
}

/// Writes our own keys, the one that seals first.
///
/// # Errors
/// When the file can't be written.
pub(super) fn write(data: &Path, keys: &[&MasterKey]) -> io::Result<()> {
    let mut text = Zeroizing::new(String::with_capacity(1024));
    text.push_str(
        "# The master key of Boatyard's vault. Without it, stored credentials can't be opened.\n",
    );
    for key in keys {
        text.push_str(&key.line());
        text.push('\n');
    }
    let beside = data.join(format!("{FILE}.new"));
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, data.join(FILE))?;
    fs::File::open(data)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn settings(more: &str) -> Settings {
        let sources = crate::settings::Sources {
            file: Some(("boatyard.toml".into(), format!("[vault]\n{more}"))),
            ..crate::settings::Sources::default()
        };
        sources.resolve().unwrap().settings
    }

    fn check(settings: &Settings, variable: Option<&str>, expected: &str) {
        let got = match Master::read(settings, variable.map(OsString::from)) {
            Ok(master) => {
                assert!(!format!("{master:?}").contains("AAEC"));
                format!("{} {}", master.source.words(), master.keys.len())
            }
            Err(error) => crate::chain(&error),
        };
        assert!(got.contains(expected), "{got}");
    }

    #[test]
    fn a_key_comes_from_one_place_in_base_64_or_as_digits() {
        let none = Settings::default();
        check(&none, None, "vault.key in the data folder 0");
        check(&none, Some(""), "vault.key in the data folder 0");
        check(&none, Some(ONE), "the variable BOATYARD_VAULT_KEY 1");
        check(&none, Some(ONE.trim_end_matches('=')), "the variable BOATYARD_VAULT_KEY 1");
        check(&none, Some(&format!("{HEX},{ONE}")), "the variable BOATYARD_VAULT_KEY 2");
        check(&none, Some("short"), "BOATYARD_VAULT_KEY holds no key in line 1");
        check(&none, Some(&format!("{ONE},x")), "in line 2");
        assert_eq!(key(ONE).unwrap().id, key(HEX).unwrap().id);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let with_file = settings(&format!("key_file = \"{}\"", file.display()));
        check(&with_file, None, "can't be read: No such file");
        fs::write(&file, format!("# ours\n\n{ONE}\n{HEX}\n")).unwrap();
        check(&with_file, None, "2");
        check(&with_file, Some(ONE), "are both set");
        fs::write(&file, "\n").unwrap();
        check(&with_file, None, "holds nothing");
        let command = |argv: &str| settings(&format!("key_command = [{argv}]"));
        fs::write(&file, ONE).unwrap();
        let cat = command(&format!("\"cat\", \"{}\"", file.display()));
        check(&cat, None, "`[vault] key_command` 1");
        check(&command("\"false\""), None, "failed (exit status: 1)");
        check(&command("\"/nowhere/x\""), None, "can't be started");
        check(&command("\"true\""), None, "holds nothing");
        check(&command("\"true\""), Some(ONE), "are both set");
    }

    #[test]
    fn our_own_is_written_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (MasterKey::random(), MasterKey::random());
        write(folder.path(), &[&two, &one]).unwrap();
        let mode = fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let read = read(&Source::Generated, folder.path()).unwrap();
        assert_eq!(read.iter().map(|key| &key.id).collect::<Vec<_>>(), [&two.id, &one.id]);
    }
}
