//! Programs that know of no proxy: what the rules allow they reach, by name, whatever they speak;
//! everything else is refused. The world outside is a stand-in that the server takes for its own
//! upstream proxy, so that any name exists.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Output,
    sync::{Arc, Mutex},
    thread,
};

use crate::yard::{LIMIT, Victim, Yard};

const RULES: &str = "[egress]\npresets = []\nallow = [\"allowed.example\", \"raw.example:5432\"]\n";

/// Asks for a name by hand, over UDP and over TCP, of somebody far away, then speaks a protocol of
/// its own with the address.
const BY_HAND: &str = r#"
import socket, struct
question = struct.pack('>HHHHHH', 7, 0x100, 1, 0, 0, 0) + b'\3raw\7example\0' + struct.pack('>HH', 1, 1)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(10)
udp.connect(('8.8.8.8', 53))
udp.send(question)
by_udp = udp.recv(512)[-4:]
tcp = socket.create_connection(('1.1.1.1', 53), 10)
tcp.sendall(struct.pack('>H', len(question)) + question)
length = struct.unpack('>H', tcp.recv(2))[0]
by_tcp = tcp.recv(length)[-4:]
assert by_udp == by_tcp and by_udp[0] == 198, (by_udp, by_tcp)
spoken = socket.create_connection((socket.inet_ntoa(by_udp), 5432), 10)
spoken.sendall(b'select 1\n')
print(spoken.makefile().readline(), end='')
try:
    socket.getaddrinfo('raw.example', 443, socket.AF_INET6)
    print('it has an IPv6 address')
except socket.gaierror:
    print('it has no IPv6 address')
"#;

/// Remembers an address over a restart of the server. Its files are pipes: each side waits for the
/// other.
const REMEMBERS: &str = r#"
import socket
address = socket.gethostbyname('raw.example')
open('/work/resolved', 'w').write(address)
open('/work/go').read()
spoken = socket.create_connection((address, 5432), 10)
spoken.sendall(b'after the restart\n')
open('/work/answer', 'w').write(spoken.makefile().readline())
"#;

/// What the world outside was asked for.
type Seen = Arc<Mutex<Vec<String>>>;

/// Everything that there is outside: it answers each request with where it was sent.
fn outside() -> (u16, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Seen::default();
    let shared = Arc::clone(&seen);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let seen = Arc::clone(&shared);
            // A client that goes away ends its own connection only.
            thread::spawn(move || answer(stream.unwrap(), &seen));
        }
    });
    (port, seen)
}

fn answer(mut stream: TcpStream, seen: &Seen) -> Option<()> {
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    let mut lines = BufReader::new(stream.try_clone().ok()?);
    let mut request = String::new();
    lines.read_line(&mut request).ok()?;
    let mut line = String::new();
    while lines.read_line(&mut line).ok()? > 2 {
        line.clear();
    }
    let mut words = request.split(' ');
    let (method, place) = (words.next()?, words.next()?);
    seen.lock().unwrap().push(format!("{method} {place}"));
    if method == "CONNECT" {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
        let mut said = String::new();
        lines.read_line(&mut said).ok()?;
        return write!(stream, "{place} heard {said}").ok();
    }
    let page = format!("page of {place}\n");
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{page}", page.len()).ok()?;
    // Until the other side has read it.
    stream.shutdown(std::net::Shutdown::Write).ok()?;
    lines.read_to_end(&mut Vec::new()).ok().map(drop)
}

/// A server whose way out is the stand-in, and a workspace of it.
fn start() -> (Yard, String, Seen) {
    let (port, seen) = outside();
    let proxy = format!("http://127.0.0.1:{port}");
    let mut variables = vec![("NO_PROXY".to_owned(), "127.0.0.1".to_owned())];
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        variables.push((name.to_owned(), proxy.clone()));
    }
    let mut yard = Yard::without_server().with_variables(variables);
    yard.write("data/boatyard.toml", RULES);
    yard.start_server();
    let id = yard.json(&["workspace", "create"])["id"].as_str().unwrap().to_owned();
    (yard, id, seen)
}

/// Runs a program that has never heard of a proxy.
fn bare(yard: &Yard, id: &str, command: &[&str]) -> Output {
    let path = "PATH=/usr/local/bin:/usr/bin:/bin";
    let mut all = vec!["workspace", "exec", id, "--", "env", "-i", path, "HOME=/home/agent"];
    all.extend(command);
    yard.command(&all).output().unwrap()
}

#[track_caller]
fn said(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_is_allowed_is_reached_by_programs_that_know_of_no_proxy() {
    let (yard, id, seen) = start();
    let page = "page of http://allowed.example/some/where\n";
    let url = "http://allowed.example/some/where";
    assert_eq!(said(bare(&yard, &id, &["curl", "-sS", "--max-time", "20", url])), page);
    let fetch =
        format!("import urllib.request as u; print(u.urlopen('{url}').read().decode(), end='')");
    assert_eq!(said(bare(&yard, &id, &["/usr/bin/python3", "-c", &fetch])), page);
    // Git finds no repository there; that it asked is what counts.
    let git = ["git", "ls-remote", "http://allowed.example/a/b.git"];
    assert!(!bare(&yard, &id, &git).status.success());
    let asked = "GET http://allowed.example/a/b.git/info/refs?service=git-upload-pack";
    assert!(seen.lock().unwrap().iter().any(|seen| seen == asked), "{:?}", seen.lock().unwrap());
    // A protocol of its own, on a port of its own.
    let spoken = "exec 3<>/dev/tcp/raw.example/5432; echo hello >&3; cat <&3";
    let heard = said(bare(&yard, &id, &["bash", "-c", spoken]));
    assert_eq!(heard, "raw.example:5432 heard hello\n");
    let by_hand = said(bare(&yard, &id, &["/usr/bin/python3", "-c", BY_HAND]));
    assert_eq!(by_hand, "raw.example:5432 heard select 1\nit has no IPv6 address\n");
}

#[test]
fn everything_else_is_refused_and_never_asked_for() {
    let (yard, id, seen) = start();
    let said =
        said(bare(&yard, &id, &["curl", "-sS", "--max-time", "20", "http://closed.example/"]));
    assert!(said.contains("closed.example") && said.contains("no rule"), "{said}");
    for place in [
        "raw.example/5433",
        "allowed.example/5432",
        "closed.example/443",
        "10.0.0.1/80",
        "169.254.169.254/80",
        "93.184.216.34/22",
    ] {
        let spoken = format!("exec 3<>/dev/tcp/{place}; echo hello >&3; timeout 15 cat <&3");
        let output = bare(&yard, &id, &["bash", "-c", &spoken]);
        let heard = String::from_utf8_lossy(&output.stdout);
        assert!(!heard.contains("heard"), "{place}: {heard}");
    }
    // Nothing of a name leaves, whatever is asked of it.
    let names =
        "for name in secret-1.closed.example secret-2.allowed.example; do getent hosts $name; done";
    assert!(
        String::from_utf8_lossy(&bare(&yard, &id, &["bash", "-c", names]).stdout).contains("198.1")
    );
    assert_eq!(*seen.lock().unwrap(), Vec::<String>::new());
    let udp = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('9.9.9.9', 443)); s.send(b'x'); s.settimeout(5); s.recv(1)";
    let refused = bare(&yard, &id, &["/usr/bin/python3", "-c", udp]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("ConnectionRefused"), "{refused:?}");
}

#[test]
fn an_address_that_a_program_remembers_outlives_the_server() {
    let (mut yard, id, _seen) = start();
    let begin = format!(
        "cd /work; mkfifo resolved go answer; cat > remembers.py <<'END'\n{REMEMBERS}\nEND\n\
        (setsid /usr/bin/python3 remembers.py > log 2>&1 < /dev/null &)\n\
        timeout 25 cat resolved"
    );
    assert!(said(bare(&yard, &id, &["bash", "-c", &begin])).starts_with("198.1"));
    yard.kill(Victim::Server);
    yard.start_server();
    let go_on = "cd /work; timeout 25 bash -c 'echo > go'; timeout 25 cat answer";
    let answer = said(bare(&yard, &id, &["bash", "-c", go_on]));
    assert_eq!(answer, "raw.example:5432 heard after the restart\n");
}
