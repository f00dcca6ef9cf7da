//! What a push wants: the commands before its pack, read and judged before anything is sent on.
//!
//! ```text
//! *( "shallow" id )   old new name NUL capabilities   *( old new name )   flush
//!                     [ options … flush ]             the pack, which is passed on unread
//! ```

use std::fmt;

use boatyard_model::name::Branch;
use bytes::{Bytes, BytesMut};

use super::pkt::{self, Line};

/// The most commands of one push.
pub(super) const MAX_COMMANDS: usize = 1000;
/// The most bytes before the pack.
pub(super) const MAX_HEAD: usize = 512 * 1024;
/// What branches begin with.
const HEADS: &str = "refs/heads/";

/// One reference that is to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    /// Its full name.
    pub(super) name: String,
    /// Whether it is to go.
    pub(super) deletes: bool,
}

/// What the client can read as an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Abilities {
    /// It reads how each command went.
    pub(super) report: bool,
    /// How much of an answer it takes in one line of a channel; none where it knows no channels.
    pub(super) channel: Option<usize>,
    /// It sends options along (`git push -o`).
    pub(super) options: bool,
}

/// The commands of a push.
#[derive(Debug)]
pub(super) struct Push {
    pub(super) commands: Vec<Command>,
    pub(super) abilities: Abilities,
    /// There were more commands than are kept, so that it can't be judged.
    pub(super) too_many: bool,
    /// All that was read, as it came: the commands, and what followed in the same piece.
    pub(super) read: Bytes,
}

/// Why a push is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("it is no push as git sends it")]
    Lines,
    #[error("one of its commands is no command")]
    Command,
    #[error("its commands are longer than {} KiB", MAX_HEAD / 1024)]
    TooLong,
    #[error("it is signed (`git push --signed`), which Boatyard does not pass on")]
    Signed,
}

/// Reads commands as they come.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// What came and was not taken apart so far.
    buffer: BytesMut,
    /// All that came.
    read: BytesMut,
    commands: Vec<Command>,
    abilities: Abilities,
    too_many: bool,
}

impl Reader {
    /// Takes what came next. Gives the push when its commands are there, and until then itself.
    pub(super) fn take(mut self, piece: &[u8]) -> Result<Result<Push, Self>, Malformed> {
        if !self.too_many {
            // Else it does not go out.
            self.read.extend_from_slice(piece);
        }
        self.buffer.extend_from_slice(piece);
        loop {
            match pkt::take(&mut self.buffer).map_err(|_| Malformed::Lines)? {
                Some(Line::Data(line)) => self.line(&line)?,
                Some(Line::Mark) => return Err(Malformed::Lines),
                Some(Line::Flush) => {
                    let Self { read, commands, abilities, too_many, .. } = self;
                    return Ok(Ok(Push { commands, abilities, too_many, read: read.freeze() }));
                }
                None if self.read.len() > MAX_HEAD => return Err(Malformed::TooLong),
                None => return Ok(Err(self)),
            }
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Malformed> {
        if self.commands.is_empty() {
            if line.starts_with(b"shallow ") {
                return Ok(());
            }
            if line.starts_with(b"push-cert") {
                return Err(Malformed::Signed);
            }
        }
        let (command, capabilities) = match line.iter().position(|b| *b == 0) {
            Some(end) if self.commands.is_empty() => (&line[..end], Some(&line[end + 1..])),
            Some(_) => return Err(Malformed::Command),
            None => (line, None),
        };
        let command = std::str::from_utf8(command).map_err(|_| Malformed::Command)?;
        let mut parts = command.trim_end_matches('\n').splitn(3, ' ');
        let (Some(old), Some(new), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Malformed::Command);
        };
        let is_id =
            |id: &str| matches!(id.len(), 40 | 64) && id.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_id(old) || !is_id(new) || name.is_empty() || name.chars().any(char::is_control) {
            return Err(Malformed::Command);
        }
        if self.commands.len() == MAX_COMMANDS {
            self.too_many = true;
            return Ok(());
        }
        let deletes = new.bytes().all(|b| b == b'0');
        self.commands.push(Command { name: name.to_owned(), deletes });
        if let Some(capabilities) = capabilities {
            let text = String::from_utf8_lossy(capabilities);
            let has = |name: &str| text.split_ascii_whitespace().any(|word| word == name);
            // A line's digits and the channel's number are not the client's.
            let channel = match (has("side-band-64k"), has("side-band")) {
                (true, _) => Some(pkt::MAX - 5),
                (false, true) => Some(995),
                (false, false) => None,
            };
            let report = has("report-status") || has("report-status-v2");
            // Git takes `push-options=anything` for the same, and other blanks than these.
            let options = text
                .split(|c: char| c.is_whitespace() || c.is_control())
                .any(|word| word.starts_with("push-options"));
            self.abilities = Abilities { report, channel, options };
        }
        Ok(())
    }
}

/// Which branches may be pushed to: one, or with `*` at the end all that begin so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchPattern(Box<str>);

impl BranchPattern {
    /// What every workspace may push to, in its own repository.
    pub fn own() -> Self {
        Self("boatyard/*".into())
    }

    /// Reads one: `release/*`, `docs`.
    pub fn parse(text: &str) -> Option<Self> {
        let name = text.strip_suffix('*').map_or(text.to_owned(), |rest| format!("{rest}x"));
        let is_pattern = text != "*" && name.parse::<Branch>().is_ok();
        is_pattern.then(|| Self(text.into()))
    }

    fn matches(&self, branch: &Branch) -> bool {
        match self.0.strip_suffix('*') {
            Some(start) => branch.as_str().strip_prefix(start).is_some_and(|rest| !rest.is_empty()),
            None => branch.as_str() == &*self.0,
        }
    }
}

impl fmt::Display for BranchPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a command is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It deletes.
    Deletes,
    /// It is no branch.
    NoBranch,
    /// It is a branch of others.
    Branch,
}

/// What is wrong with a command, if anything is.
pub(super) fn judge(command: &Command, may: &[BranchPattern]) -> Option<Wrong> {
    if command.deletes {
        return Some(Wrong::Deletes);
    }
    let branch = command.name.strip_prefix(HEADS).map(str::parse::<Branch>);
    match branch {
        Some(Ok(branch)) if may.iter().any(|pattern| pattern.matches(&branch)) => None,
        Some(Ok(_)) => Some(Wrong::Branch),
        Some(Err(_)) | None => Some(Wrong::NoBranch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "1111111111111111111111111111111111111111";
    const ZERO: &str = "0000000000000000000000000000000000000000";

    fn lines(lines: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for line in lines {
            pkt::put(&mut out, line.as_bytes());
        }
        pkt::flush(&mut out);
        out
    }

    fn read(bytes: &[u8], piece: usize) -> Result<Push, Malformed> {
        let mut reader = Reader::default();
        for piece in bytes.chunks(piece) {
            match reader.take(piece)? {
                Ok(push) => return Ok(push),
                Err(more) => reader = more,
            }
        }
        panic!("it did not end");
    }

    #[test]
    fn commands_are_read_however_they_are_cut() {
        let mut bytes = lines(&[
            &format!("shallow {A}"),
            &format!("{ZERO} {A} refs/heads/boatyard/x\0 report-status side-band-64k agent=git/2"),
            &format!("{A} {ZERO} refs/heads/main\n"),
        ]);
        bytes.extend_from_slice(b"PACK");
        for piece in [1, 7, 1000] {
            let push = read(&bytes, piece).unwrap();
            assert_eq!(push.commands.len(), 2);
            assert_eq!(push.commands[0].name, "refs/heads/boatyard/x");
            assert!(!push.commands[0].deletes && push.commands[1].deletes);
            let expected = Abilities { report: true, channel: Some(65_515), options: false };
            assert_eq!(push.abilities, expected);
            assert!(bytes.starts_with(&push.read));
        }
    }

    #[test]
    fn options_are_seen_however_they_are_written() {
        let check = |capabilities: &str, expected| {
            let line = format!("{ZERO} {A} refs/heads/boatyard/x\0{capabilities}");
            let push = read(&lines(&[&line]), 4096).unwrap();
            assert_eq!(push.abilities.options, expected, "{capabilities:?}");
        };
        for with in ["push-options", "a push-options=1", "a\tpush-options\tb", "a\x0bpush-options"]
        {
            check(with, true);
        }
        for without in ["", " report-status agent=x", "no-push-options agent=push-options"] {
            check(without, false);
        }
    }

    #[test]
    fn what_is_no_push_is_said() {
        let check = |bytes: &[u8], expected| {
            assert_eq!(read(bytes, 4096).unwrap_err(), expected);
        };
        check(b"PACK....", Malformed::Lines);
        check(b"0001", Malformed::Lines);
        check(&lines(&["push-cert\0 agent"]), Malformed::Signed);
        check(&lines(&[&format!("{A} refs/heads/x")]), Malformed::Command);
        check(&lines(&[&format!("{A} {A} ")]), Malformed::Command);
        check(&lines(&[&format!("{A} {A} refs/heads/a\x07b")]), Malformed::Command);
        let one = format!("{A} {A} refs/heads/x");
        let many = read(&lines(&vec![&*one; 20_000]), 4096).unwrap();
        assert!(many.too_many && many.commands.len() == MAX_COMMANDS);
        assert!(many.read.len() < MAX_HEAD);
        assert!(!read(&lines(&vec![&*one; MAX_COMMANDS]), 4096).unwrap().too_many);
        let long = format!("{A} {A} refs/heads/{}", "x".repeat(60_000));
        check(&lines(&vec![&*long; 20])[..MAX_HEAD + 4096], Malformed::TooLong);
    }

    #[test]
    fn only_branches_of_ones_own_are_pushed() {
        let more = BranchPattern::parse("release/*").unwrap();
        let may = [BranchPattern::own(), more, BranchPattern::parse("docs").unwrap()];
        let check = |name: &str, expected| {
            let command = Command { name: name.to_owned(), deletes: false };
            assert_eq!(judge(&command, &may), expected, "{name}");
        };
        check("refs/heads/boatyard/x", None);
        check("refs/heads/boatyard/a/b", None);
        check("refs/heads/release/1.0", None);
        check("refs/heads/docs", None);
        check("refs/heads/main", Some(Wrong::Branch));
        check("refs/heads/boatyard", Some(Wrong::Branch));
        check("refs/heads/docs2", Some(Wrong::Branch));
        check("refs/heads/boatyard/", Some(Wrong::NoBranch));
        check("refs/heads/boatyard/../main", Some(Wrong::NoBranch));
        check("refs/tags/v1", Some(Wrong::NoBranch));
        check("refs/boatyard/x", Some(Wrong::NoBranch));
        check("boatyard/x", Some(Wrong::NoBranch));
        let gone = Command { name: "refs/heads/boatyard/x".into(), deletes: true };
        assert_eq!(judge(&gone, &may), Some(Wrong::Deletes));
        for wrong in ["*", "", "a b", "../*", "-x"] {
            assert_eq!(BranchPattern::parse(wrong), None, "{wrong}");
        }
    }
}
