//! The network: loopback, the listeners for egress and for the models' gateway, and what catches
//! the rest.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::fs::FileExt as _,
    time::Duration,
};

use boatyard_link::message::{Reply, Request};

use super::{PATIENCE, Place, Suite};
use crate::inside::Inside;

pub async fn there_is_none_but_the_listeners(suite: &Suite) {
    let (place, inside) = Place::started(suite).await;
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port();
    let dial =
        |address: &str| format!("(exec 3<>/dev/tcp/{address}) 2>/dev/null && echo in || echo out");
    for (address, expected) in [
        (format!("127.0.0.1/{port}"), "out\n"),
        ("192.0.0.2/80".to_owned(), "out\n"),
        ("2001:db8::1/80".to_owned(), "out\n"),
        ("127.0.0.1/3128".to_owned(), "in\n"),
        ("127.0.0.1/7080".to_owned(), "in\n"),
    ] {
        let script = dial(&address);
        assert_eq!(inside.run(&["/bin/bash", "-c", &script]).await.stdout, expected, "{address}");
    }
    let devices = inside.sh("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '").await;
    assert_eq!(devices.ok(), "lo\n");
    // What is inside can talk to itself.
    let script = "python3 - <<'P' 2>/dev/null || echo no python
import socket
s = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(s.getsockname()); print('talks')
P";
    let own = inside.sh(script).await.ok();
    assert!(own == "talks\n" || own == "no python\n", "{own}");
    place.remove().await;
}

pub async fn connections_wait_for_whoever_takes_a_listener(suite: &Suite) {
    let (place, inside) = Place::started(suite).await;
    for port in [3128, 7080] {
        waits(suite, &place, &inside, port).await;
    }
    place.remove().await;
}

async fn waits(suite: &Suite, place: &Place<'_>, inside: &Inside, port: u16) {
    // Nobody accepts yet: the connection stands, and its first words wait.
    let script = &format!("exec 3<>/dev/tcp/127.0.0.1/{port}; echo asked >&3; echo up; cat <&3");
    let (waiting, line) = inside.start_until_line(script).await;
    assert_eq!(line, "up");
    for answer in ["first", "second"] {
        // Each server that attaches gets a duplicate of the same listener.
        let listener = match port {
            3128 => suite.runtime.egress_listener(place.id).await,
            _ => suite.runtime.gateway_listener(place.id).await,
        };
        let listener = TcpListener::from(listener.unwrap());
        if answer == "first" {
            let accepted = tokio::task::spawn_blocking(move || accept(&listener));
            let (mut stream, asked) = accepted.await.unwrap();
            assert_eq!(asked, "asked\n");
            writeln!(stream, "{answer}").unwrap();
        } else {
            let again = inside.start_until_line(script).await;
            let accepted = tokio::task::spawn_blocking(move || accept(&listener));
            let (mut stream, _) = accepted.await.unwrap();
            writeln!(stream, "{answer}").unwrap();
            drop(stream);
            assert_eq!(again.0.output().await.stdout, "second\n");
        }
    }
    assert_eq!(waiting.output().await.stdout, "first\n");
}

/// Every connection that is not to the workspace itself ends at who asks the rules, and nowhere
/// else; names and datagrams never leave.
pub async fn what_knows_of_no_proxy_is_caught(suite: &Suite) {
    let (place, inside) = Place::started(suite).await;
    let host = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = host.local_addr().unwrap().port();
    for address in [format!("10.0.0.1/{port}"), "169.254.169.254/80".into(), "1.1.1.1/443".into()] {
        let capture = suite.runtime.capture(place.id).await.unwrap();
        let script = format!("exec 3<>/dev/tcp/{address}; echo asked >&3; echo up; cat <&3");
        let (waiting, line) = inside.start_until_line(&script).await;
        assert_eq!(line, "up");
        let listener = TcpListener::from(capture.listeners.into_iter().next().unwrap());
        let accepted = tokio::task::spawn_blocking(move || accept(&listener));
        let (mut stream, asked) = accepted.await.unwrap();
        assert_eq!(asked, "asked\n");
        let wanted = stream.local_addr().unwrap().to_string().replace(':', "/");
        assert_eq!(wanted, address, "its own address is where the program wanted to go");
        writeln!(stream, "answered").unwrap();
        drop(stream);
        assert_eq!(waiting.output().await.stdout, "answered\n");
    }
    // A question for a name waits for whoever takes the socket.
    inside.run(&["/bin/bash", "-c", "echo question > /dev/udp/8.8.8.8/53"]).await.ok();
    let dns = UdpSocket::from(suite.runtime.capture(place.id).await.unwrap().dns);
    dns.set_nonblocking(false).unwrap();
    dns.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut question = [0; 16];
    let length =
        tokio::task::spawn_blocking(move || dns.recv(&mut question).map(|n| (n, question)));
    let (length, question) = length.await.unwrap().unwrap();
    assert_eq!(&question[..length], b"question\n");
    let datagrams = "exec 3<>/dev/udp/8.8.8.8/443; echo one >&3; sleep 0.1; echo two >&3";
    let refused = inside.run(&["/bin/bash", "-c", datagrams]).await;
    assert!(refused.stderr.contains("refused"), "{refused:?}");
    place.remove().await;
}

/// The runner says which program has a connection, as long as it has it.
pub async fn who_connects_is_told(suite: &Suite) {
    let (place, inside) = Place::started(suite).await;
    let capture = suite.runtime.capture(place.id).await.unwrap();
    let listener = TcpListener::from(capture.listeners.into_iter().next().unwrap());
    let mut pid = None;
    // The second time it is known who had one last.
    for _ in 0..2 {
        let script =
            "exec 3<>/dev/tcp/1.1.1.1/443; echo asked >&3; echo $$; read -r <&3; echo over";
        let (waiting, line) = inside.start_until_line(script).await;
        let taken = listener.try_clone().unwrap();
        let accepted = tokio::task::spawn_blocking(move || accept(&taken));
        let (mut stream, _) = accepted.await.unwrap();
        let (own, to) = (stream.peer_addr().unwrap(), stream.local_addr().ok());
        let Reply::Program { found: Some(program) } =
            inside.ask(Request::WhoConnects { own, to }).await
        else {
            panic!("nobody is found")
        };
        assert_eq!((&*program.name, program.session), ("bash", None));
        assert_eq!(program.pid.to_string(), line);
        assert_ne!(pid.replace(program.pid), pid);
        writeln!(stream, "go on").unwrap();
        assert_eq!(waiting.output().await.stdout, "over\n");
        let Reply::Program { found: None } = inside.ask(Request::WhoConnects { own, to }).await
        else {
            panic!("somebody who is gone is found")
        };
    }
    place.remove().await;
}

/// What is kept about names outlives whoever keeps it, and ends with the workspace's processes.
pub async fn names_are_kept_for_the_next_server(suite: &Suite) {
    let (mut place, inside) = Place::started(suite).await;
    let names = |capture: boatyard_runtime::Capture| std::fs::File::from(capture.names);
    let file = names(suite.runtime.capture(place.id).await.unwrap());
    file.write_all_at(b"kept", 0).unwrap();
    drop(file);
    let mut kept = String::new();
    let mut file = names(suite.runtime.capture(place.id).await.unwrap());
    file.read_to_string(&mut kept).unwrap();
    assert_eq!(kept, "kept");
    drop(inside);
    place.kill().await;
    drop(place.start().await);
    let file = names(suite.runtime.capture(place.id).await.unwrap());
    assert_eq!(file.metadata().unwrap().len(), 0);
    place.remove().await;
}

/// Accepts a connection and reads its first line.
fn accept(listener: &TcpListener) -> (TcpStream, String) {
    listener.set_nonblocking(false).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE.min(Duration::from_secs(30)))).unwrap();
    let mut asked = String::new();
    while !asked.ends_with('\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        asked.push(byte[0].into());
    }
    (stream, asked)
}
