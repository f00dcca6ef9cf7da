//! The names that ids have on disk: a prefix and the 26 characters of the ULID, as the rest of
//! Boatyard writes them.

use std::ffi::CString;

/// Crockford's alphabet.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters of a ULID.
const LENGTH: usize = 26;

/// `ws_01J…`.
pub(crate) fn workspace(id: u128) -> CString {
    c_name("ws_", id, "")
}

/// `lay_01J…`.
pub(crate) fn layer(id: u128) -> CString {
    c_name("lay_", id, "")
}

/// `tol_01J…`.
pub(crate) fn tool(id: u128) -> CString {
    c_name("tol_", id, "")
}

/// `rep_01J….git`.
pub(crate) fn mirror(id: u128) -> CString {
    c_name("rep_", id, ".git")
}

/// `ws_01J….sock`.
pub(crate) fn socket(id: u128) -> CString {
    c_name("ws_", id, ".sock")
}

/// The id in a name that [`workspace`] made.
pub(crate) fn parse_workspace(name: &str) -> Option<u128> {
    parse(name.strip_prefix("ws_")?)
}

/// The id in a name that [`layer`] made.
pub(crate) fn parse_layer(name: &str) -> Option<u128> {
    parse(name.strip_prefix("lay_")?)
}

/// The id in a name that [`tool`] made.
pub(crate) fn parse_tool(name: &str) -> Option<u128> {
    parse(name.strip_prefix("tol_")?)
}

/// Whether the id is of a throw-away sandbox: ids of workspaces hold the time of their making.
pub(crate) fn is_throw_away(id: u128) -> bool {
    id >> 80 == 0
}

fn c_name(prefix: &str, id: u128, suffix: &str) -> CString {
    let mut name = String::with_capacity(prefix.len() + LENGTH + suffix.len());
    name.push_str(prefix);
    for index in (0..LENGTH).rev() {
        let digit = (id >> (5 * index)) & 31;
        name.push(char::from(ALPHABET[digit as usize]));
    }
    name.push_str(suffix);
    CString::new(name).expect("names have no zero byte")
}

fn parse(text: &str) -> Option<u128> {
    if text.len() != LENGTH {
        return None;
    }
    let mut id: u128 = 0;
    for byte in text.bytes() {
        let digit = ALPHABET.iter().position(|known| *known == byte)?;
        id = id.checked_mul(32)?.checked_add(digit as u128)?;
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_ids() {
        for id in [1, 42, u128::MAX, 0x0193_4f2c_9d3e_0000_1111_2222_3333_4444] {
            let name = workspace(id);
            assert_eq!(parse_workspace(name.to_str().unwrap()), Some(id));
        }
        assert_eq!(workspace(0).to_str().unwrap(), "ws_00000000000000000000000000");
        // One more than 128 bits, and letters that the alphabet leaves out.
        assert_eq!(parse("8ZZZZZZZZZZZZZZZZZZZZZZZZZ"), None);
        assert_eq!(parse("0000000000000000000000000I"), None);
        assert_eq!(parse_workspace("lay_00000000000000000000000001"), None);
    }
}
