//! Signatures for git, by a key that the server has.
//!
//! Git takes us for `ssh-keygen` (`gpg.ssh.program`): it calls
//!
//! ```text
//! boatyard-runner -Y sign -n git -f KEY [-U] FILE     make FILE.sig
//! boatyard-runner -Y verify …                         and all else: is ssh-keygen's
//! boatyard-runner git-key                             the public key, where git is told of none
//! ```
//!
//! What is to be signed goes to the gateway in this workspace, which signs commits and tags that
//! are made in the workspace's name, or says why not. A key that is not the server's is for
//! `ssh-keygen` as well: somebody has made one of their own.

use std::{
    ffi::OsString,
    fs,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, bail};

/// Where the gateway is.
const GATEWAY: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7080);
/// How long the gateway may take.
const WITHIN: Duration = Duration::from_secs(30);
/// The largest object that is sent, in bytes; the gateway takes no larger one.
const OBJECT_MAX: u64 = 1 << 20;
/// The longest answer that is read, in bytes.
const ANSWER_MAX: u64 = 64 << 10;
/// What does all that is not ours.
const SSH_KEYGEN: &str = "ssh-keygen";

/// What git calls for a signature, or for something else that `ssh-keygen` does. `args` begin with
/// `-Y`.
///
/// # Errors
/// When there is no signature; the message is for a person.
pub fn main(args: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let Some(order) = Order::parse(&args) else { return ssh_keygen(&args) };
    let ours = ask("GET /git/-/key", b"").context("no key to sign with")?;
    let wanted = fs::read_to_string(&order.key).unwrap_or_default();
    let is_ours = |text: &str| text.split_whitespace().take(2).eq(ours.split_whitespace().take(2));
    if !is_ours(&wanted) {
        return ssh_keygen(&args);
    }
    let file = fs::File::open(&order.file).context("what is to be signed can't be read")?;
    let mut object = Vec::new();
    file.take(OBJECT_MAX + 1).read_to_end(&mut object)?;
    if object.len() as u64 > OBJECT_MAX {
        bail!("what is to be signed is larger than {OBJECT_MAX} bytes");
    }
    let signature = ask("POST /git/-/sign", &object).context("it is not signed")?;
    let mut name = order.file.into_os_string();
    name.push(".sig");
    fs::write(name, signature).context("the signature can't be written")?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the public key, for git's `gpg.ssh.defaultKeyCommand`.
///
/// # Errors
/// When there is none; the message is for a person.
pub fn key() -> anyhow::Result<ExitCode> {
    let key = ask("GET /git/-/key", b"").context("no key to sign with")?;
    writeln!(io::stdout(), "key::{}", key.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// `-Y sign -n git -f KEY [-U] FILE`
#[derive(Debug, PartialEq, Eq)]
struct Order {
    key: PathBuf,
    file: PathBuf,
}

impl Order {
    /// The order, if it is one for us.
    fn parse(args: &[OsString]) -> Option<Self> {
        let [_, verb, rest @ .., file] = args else { return None };
        if verb != "sign" {
            return None;
        }
        let (mut key, mut namespace) = (None, None);
        let mut rest = rest.iter();
        while let Some(word) = rest.next() {
            match word.to_str()? {
                "-f" => key = Some(PathBuf::from(rest.next()?)),
                "-n" => namespace = Some(rest.next()?),
                // The key is one that an agent has, which is what the server is.
                "-U" => {}
                _ => return None,
            }
        }
        let key = key.filter(|_| namespace.is_some_and(|namespace| namespace == "git"))?;
        Some(Self { key, file: file.into() })
    }
}

/// Becomes `ssh-keygen`.
fn ssh_keygen(args: &[OsString]) -> anyhow::Result<ExitCode> {
    let error = Command::new(SSH_KEYGEN).args(args).exec();
    if error.kind() == io::ErrorKind::NotFound {
        bail!("there is no {SSH_KEYGEN} in this workspace, which verifies signatures");
    }
    Err(error).context(SSH_KEYGEN)
}

/// Asks the gateway. Gives the body of its answer, or as the error what it says.
fn ask(what: &str, body: &[u8]) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&GATEWAY, WITHIN)
        .context("Boatyard's gateway can't be reached")?;
    stream.set_read_timeout(Some(WITHIN))?;
    stream.set_write_timeout(Some(WITHIN))?;
    let head = format!(
        "{what} HTTP/1.1\r\nHost: {GATEWAY}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut answer)?;
    let (status, body) = taken_apart(&answer).context("the gateway gave no whole answer")?;
    match status {
        200 => Ok(body.to_owned()),
        _ => bail!("{}", body.trim_end()),
    }
}

/// The status and the body of an answer that came with its length.
fn taken_apart(answer: &str) -> Option<(u16, &str)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    Some((status, body.get(..length?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<(String, String)> {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let order = Order::parse(&args)?;
        Some((order.key.display().to_string(), order.file.display().to_string()))
    }

    #[test]
    fn only_signatures_for_git_are_ours() {
        let ours = Some(("/tmp/k".to_owned(), "/tmp/x".to_owned()));
        assert_eq!(parse("-Y sign -n git -f /tmp/k -U /tmp/x"), ours);
        assert_eq!(parse("-Y sign -n git -f /tmp/k /tmp/x"), ours);
        for others in [
            "-Y sign -n file -f /tmp/k /tmp/x",
            "-Y sign -n git /tmp/x",
            "-Y sign -n git -f /tmp/k -O hashalg=sha256 /tmp/x",
            "-Y verify -n git -f /tmp/k -I me -s /tmp/x",
            "-Y",
        ] {
            assert_eq!(parse(others), None, "{others}");
        }
    }

    #[test]
    fn an_answer_is_taken_as_a_whole_or_not_at_all() {
        let answer = "HTTP/1.1 403 Forbidden\r\ncontent-length: 3\r\n\r\nno\n";
        assert_eq!(taken_apart(answer), Some((403, "no\n")));
        assert_eq!(taken_apart(&answer[..answer.len() - 1]), None);
        assert_eq!(taken_apart("HTTP/1.1 200 OK\r\n\r\nyes"), None);
        assert_eq!(taken_apart("nonsense"), None);
    }
}
