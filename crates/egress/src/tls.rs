//! The name that a TLS client asks for, read from its first message and from nothing else.
//!
//! A tunnel was granted for a name. A client that then asks the server behind it for another one
//! (many sites share their addresses) would reach what no rule allows; so the two are compared.

/// What the first bytes of a client are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Opening {
    /// More bytes are needed to tell.
    Incomplete,
    /// Something other than TLS.
    Other,
    /// TLS, asking for this name, or for none.
    Tls(Option<String>),
    /// TLS in a form that no ordinary client sends.
    Malformed,
}

/// The longest opening that is waited for. Clients send 300 bytes to 2 KiB.
pub(crate) const MAX_OPENING: usize = 16 * 1024;

const HANDSHAKE: u8 = 22;
/// Every kind of record that there is.
const RECORDS: std::ops::RangeInclusive<u8> = 20..=26;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;

/// Looks at what a client has sent so far.
pub(crate) fn opening(bytes: &[u8]) -> Opening {
    match bytes {
        [] => return Opening::Incomplete,
        [HANDSHAKE] | [HANDSHAKE, 3] => return Opening::Incomplete,
        [HANDSHAKE, 3, ..] => {}
        // Another kind of record before the hello: some servers read on, and we would have taken
        // what follows for no TLS.
        [kind, 3, ..] if RECORDS.contains(kind) => return Opening::Malformed,
        _ => return Opening::Other,
    }
    // The message may be spread over several records.
    let mut message = Vec::new();
    let mut rest = Reader(bytes);
    while let Some(head) = rest.take(3) {
        if head[0] != HANDSHAKE || head[1] != 3 {
            return Opening::Malformed;
        }
        let Some(length) = rest.u16() else { break };
        if length == 0 {
            return Opening::Malformed;
        }
        let whole = rest.take(usize::from(length));
        message.extend_from_slice(whole.unwrap_or(rest.0));
        if let Some(name) = from_message(&message) {
            return name;
        }
        if whole.is_none() {
            break;
        }
    }
    if bytes.len() < MAX_OPENING { Opening::Incomplete } else { Opening::Malformed }
}

/// What a ClientHello says; nothing when it is not whole.
fn from_message(message: &[u8]) -> Option<Opening> {
    let mut reader = Reader(message);
    if reader.take(1)? != [CLIENT_HELLO] {
        return Some(Opening::Malformed);
    }
    let length = reader.take(3)?;
    let length =
        usize::from(length[0]) << 16 | usize::from(length[1]) << 8 | usize::from(length[2]);
    if length > MAX_OPENING {
        return Some(Opening::Malformed);
    }
    let hello = reader.take(length)?;
    Some(match from_hello(hello) {
        Some(name) => Opening::Tls(name),
        None => Opening::Malformed,
    })
}

/// The server name in a whole ClientHello; the outer `None` when it is malformed.
fn from_hello(hello: &[u8]) -> Option<Option<String>> {
    let mut reader = Reader(hello);
    reader.take(2 + 32)?;
    let session = reader.u8()?;
    reader.take(session.into())?;
    let suites = reader.u16()?;
    reader.take(suites.into())?;
    let compressions = reader.u8()?;
    reader.take(compressions.into())?;
    if reader.0.is_empty() {
        return Some(None);
    }
    let length = reader.u16()?;
    let mut extensions = Reader(reader.take(length.into())?);
    let mut name = None;
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let length = extensions.u16()?;
        let body = extensions.take(length.into())?;
        if kind == SERVER_NAME {
            let found = from_extension(body)?;
            // Twice would leave open which one the server takes.
            if name.replace(found).is_some() {
                return None;
            }
        }
    }
    Some(name)
}

/// A list of exactly one entry, a host name.
fn from_extension(body: &[u8]) -> Option<String> {
    let mut reader = Reader(body);
    let length = reader.u16()?;
    let mut list = Reader(reader.take(length.into())?);
    let kind = list.u8()?;
    let length = list.u16()?;
    let name = list.take(length.into())?;
    let is_one_name = kind == 0 && list.0.is_empty() && reader.0.is_empty();
    if !is_one_name || !name.is_ascii() {
        return None;
    }
    String::from_utf8(name.to_vec()).ok()
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend((body.len() as u16).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn server_name(name: &[u8]) -> Vec<u8> {
        let mut body = (name.len() as u16 + 3).to_be_bytes().to_vec();
        body.push(0);
        body.extend((name.len() as u16).to_be_bytes());
        body.extend(name);
        extension(SERVER_NAME, &body)
    }

    fn hello(extensions: &[u8]) -> Vec<u8> {
        let mut hello = vec![3, 3];
        hello.extend([7; 32]);
        hello.extend([0, 0, 2, 0x13, 1, 1, 0]);
        hello.extend((extensions.len() as u16).to_be_bytes());
        hello.extend(extensions);
        let mut message = vec![CLIENT_HELLO, 0];
        message.extend((hello.len() as u16).to_be_bytes());
        message.extend(hello);
        message
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for piece in message.chunks(size) {
            bytes.extend([HANDSHAKE, 3, 1]);
            bytes.extend((piece.len() as u16).to_be_bytes());
            bytes.extend(piece);
        }
        bytes
    }

    #[test]
    fn the_name_is_found_however_it_is_cut() {
        let mut extensions = extension(10, &[0, 2, 0, 29]);
        extensions.extend(server_name(b"origin.example"));
        let message = hello(&extensions);
        for size in [1, 7, 50, 10_000] {
            let bytes = records(&message, size);
            let found = Opening::Tls(Some("origin.example".into()));
            assert_eq!(opening(&bytes), found);
            for cut in 0..bytes.len() {
                assert_eq!(opening(&bytes[..cut]), Opening::Incomplete, "{cut} of {size}");
            }
        }
    }

    #[test]
    fn what_is_not_an_ordinary_hello_is_told_apart() {
        assert_eq!(opening(b"SSH-2.0-OpenSSH"), Opening::Other);
        assert_eq!(opening(b"GET / HTTP/1.1\r\n"), Opening::Other);
        assert_eq!(opening(&records(&hello(&[]), 9999)), Opening::Tls(None));
        let twice = [server_name(b"a.example"), server_name(b"b.example")].concat();
        assert_eq!(opening(&records(&hello(&twice), 9999)), Opening::Malformed);
        assert_eq!(opening(&records(&hello(&server_name(b"\xff")), 9999)), Opening::Malformed);
        assert_eq!(opening(&[HANDSHAKE, 3, 1, 0, 0]), Opening::Malformed);
        let warned = [&[21, 3, 3, 0, 2, 1, 90][..], &records(&hello(&[]), 9999)].concat();
        assert_eq!(opening(&warned), Opening::Malformed);
        assert_eq!(opening(&records(&[2, 0, 0, 1, 0], 9999)), Opening::Malformed);
        let endless =
            records(&[[CLIENT_HELLO, 0, 0xff, 0xff].to_vec(), vec![0; 70_000]].concat(), 16_000);
        assert_eq!(opening(&endless), Opening::Malformed);
    }
}
