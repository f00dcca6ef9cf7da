//! What a workspace has in a credential's place.
//!
//! ```text
//!  ghp_   byph0   k3v7…(16)   q2xa…(11)   0h5…
//!  form   mark    which       seal        as long as the form wants
//! ```
//!
//! It is derived from the workspace and the credential, so that it differs between workspaces and
//! stays when the value is changed. It proves itself: whoever has the key can tell a placeholder
//! from text that happens to look like one, of whichever workspace and credential it is. It is worth
//! nothing outside.

use std::{fmt, ops::Range};

use boatyard_model::{ConnectionId, WorkspaceId};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// What every placeholder has in it, before the one character that tells the two forms apart.
const MARK: &[u8] = b"byph";
/// The mark's length with that character.
const MARK_LENGTH: usize = MARK.len() + 1;
/// Characters that say which it is: 80 bits.
const NAME: usize = 16;
/// Characters that prove it: 55 bits.
const SEAL: usize = 11;
/// What is looked for, from the mark on.
const CORE: usize = MARK_LENGTH + NAME + SEAL;
/// So many things that look like a placeholder are looked at in one text; who sends more of them
/// than that does so on purpose.
const TRIES: usize = 4096;
/// Base 32, in small letters: nothing on its way changes these.
const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// What a placeholder looks like, for tools that look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shape {
    /// What it begins with, as `ghp_`.
    pub prefix: &'static str,
    /// How long it is in all; longer if it can't be done in so few characters.
    pub length: usize,
}

/// Makes placeholders and knows them again.
pub struct Placeholders(Zeroizing<[u8; 32]>);

impl fmt::Debug for Placeholders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Placeholders")
    }
}

impl Placeholders {
    /// Those of the installation that has this key.
    pub fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }

    /// What a workspace has in the place of a credential.
    pub fn make(&self, workspace: WorkspaceId, connection: ConnectionId, shape: Shape) -> String {
        let whose = format!("{workspace} {connection}");
        let name = digits(&self.hash("name", whose.as_bytes()), NAME);
        let seal = self.seal(name.as_bytes());
        // A form with a prefix is one that has no underscore behind it.
        let mark = if shape.prefix.is_empty() { "byph_" } else { "byph0" };
        let mut text = format!("{}{mark}{name}{seal}", shape.prefix);
        if let Some(missing) = shape.length.checked_sub(text.len()) {
            let mut round = 0;
            let mut fill = String::new();
            while fill.len() < missing {
                fill.push_str(&digits(
                    &self.hash("fill", format!("{round} {name}").as_bytes()),
                    51,
                ));
                round += 1;
            }
            text.push_str(&fill[..missing]);
        }
        text
    }

    fn seal(&self, name: &[u8]) -> String {
        digits(&self.hash("seal", name), SEAL)
    }

    fn hash(&self, what: &str, text: &[u8]) -> [u8; 32] {
        // A key of any length will do.
        let mut hash = Hmac::<Sha256>::new_from_slice(&self.0[..])
            .unwrap_or_else(|error| unreachable!("HMAC takes any key: {error}"));
        hash.update(what.as_bytes());
        hash.update(&[0]);
        hash.update(text);
        hash.finalize().into_bytes().into()
    }

    fn is_ours(&self, core: &[u8]) -> bool {
        let (name, seal) = core[MARK_LENGTH..].split_at(NAME);
        // What is compared is no secret.
        self.seal(name).as_bytes() == seal
    }
}

/// The first placeholder in a text, from its mark on. Without a key, whatever looks like one is
/// taken for one.
pub(super) fn first(text: &[u8], of: Option<&Placeholders>) -> Option<Range<usize>> {
    let found = memchr::memmem::find_iter(text, MARK);
    let candidates = found.filter_map(|at| {
        let core = text.get(at..at + CORE)?;
        let looks = matches!(core[MARK.len()], b'_' | b'0')
            && core[MARK_LENGTH..].iter().all(|digit| DIGITS.contains(digit));
        looks.then_some((at, core))
    });
    for (n, (at, core)) in candidates.enumerate() {
        if n == TRIES || of.is_none_or(|of| of.is_ours(core)) {
            return Some(at..at + CORE);
        }
    }
    None
}

/// Looks for placeholders in a text that comes in pieces, without holding any of it back: what has
/// gone before one is whole is worth nothing.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The end of what was seen, less than a placeholder.
    tail: Vec<u8>,
}

impl Scan {
    /// Whether a placeholder is whole with this piece.
    pub(super) fn sees(&mut self, piece: &[u8], of: Option<&Placeholders>) -> bool {
        if first(piece, of).is_some() {
            return true;
        }
        // Across the border: what came before and as much of this as a placeholder may take.
        self.tail.extend_from_slice(&piece[..piece.len().min(CORE - 1)]);
        if first(&self.tail, of).is_some() {
            return true;
        }
        if piece.len() >= CORE {
            self.tail.clear();
            self.tail.extend_from_slice(&piece[piece.len() - (CORE - 1)..]);
        } else {
            let old = self.tail.len().saturating_sub(CORE - 1);
            self.tail.drain(..old);
        }
        false
    }
}

fn digits(bytes: &[u8], count: usize) -> String {
    let mut out = String::with_capacity(count);
    let (mut bits, mut have) = (0_u32, 0);
    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        have += 8;
        while have >= 5 {
            have -= 5;
            out.push(char::from(DIGITS[(bits >> have) as usize & 31]));
            if out.len() == count {
                return out;
            }
        }
        bits &= (1 << have) - 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn placeholders(n: u8) -> Placeholders {
        Placeholders::new(Zeroizing::new([n; 32]))
    }

    #[test]
    fn a_placeholder_fits_its_form_and_differs_between_workspaces() {
        let ours = placeholders(1);
        let (one, two, con) = (WorkspaceId::new(), WorkspaceId::new(), ConnectionId::new());
        let plain = ours.make(one, con, Shape::default());
        assert!(plain.starts_with("byph_") && plain.len() == CORE, "{plain}");
        let formed = ours.make(one, con, Shape { prefix: "ghp_", length: 40 });
        assert!(formed.starts_with("ghp_byph0") && formed.len() == 40, "{formed}");
        assert!(formed[4..].bytes().all(|b| b.is_ascii_alphanumeric()), "{formed}");
        let long = ours.make(one, con, Shape { prefix: "sk-", length: 164 });
        assert_eq!(long.len(), 164);
        assert_eq!(plain, ours.make(one, con, Shape::default()), "the same every time");
        assert_ne!(plain, ours.make(two, con, Shape::default()));
        assert_ne!(plain, ours.make(one, ConnectionId::new(), Shape::default()));
    }

    #[test]
    fn only_ours_are_known_again() {
        let (ours, others) = (placeholders(1), placeholders(2));
        let text = ours.make(WorkspaceId::new(), ConnectionId::new(), Shape::default());
        let around = format!("xbyph_x{text}x");
        assert_eq!(first(around.as_bytes(), Some(&ours)), Some(7..7 + CORE));
        assert_eq!(first(around.as_bytes(), Some(&others)), None);
        assert_eq!(first(around.as_bytes(), None), Some(7..7 + CORE), "when it can't be proved");
        let forged = text.replace(&text[20..], &"a".repeat(text.len() - 20));
        assert_eq!(first(forged.as_bytes(), Some(&ours)), None);
        // Who sends thousands of these does it on purpose.
        assert!(first(forged.repeat(TRIES + 1).as_bytes(), Some(&ours)).is_some());
    }

    proptest! {
        #[test]
        fn it_is_seen_however_it_is_cut(
            before in "[a-z_]{0,80}", cuts in prop::collection::vec(0_usize..300, 0..12)
        ) {
            let ours = placeholders(3);
            let made = ours.make(
                WorkspaceId::from_u128(1), ConnectionId::from_u128(2), Shape { prefix: "ghp_", length: 40 });
            let text = format!("{before}{made}{before}").into_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let (mut scan, mut other) = (Scan::default(), Scan::default());
            let pieces = || cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]);
            prop_assert!(pieces().any(|piece| scan.sees(piece, Some(&ours))));
            let foreign = placeholders(4);
            prop_assert!(!pieces().any(|piece| other.sees(piece, Some(&foreign))));
        }
    }
}
