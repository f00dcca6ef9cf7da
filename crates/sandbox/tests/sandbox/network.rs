//! What a sandbox sends without a proxy: caught, or refused at once.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::{fs::FileExt as _, net::UnixStream},
    },
    thread,
};

use boatyard_sandbox::{
    fds::{Hello, Kind, LISTENER_OK},
    protocol::{Outcome, Reply, Request},
    spawner::CaptureSetting,
};

use crate::harness::{Host, LIMIT, levels};

/// What the first process gives to a server.
pub(crate) struct Caught {
    pub(crate) dns: UdpSocket,
    names: File,
    pub(crate) listeners: Vec<TcpListener>,
}

pub(crate) fn capture(host: &Host, ws: u128) -> Caught {
    let mut stream = UnixStream::connect(host.socket(ws)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(&Hello { kind: Kind::Capture }.encode()).unwrap();
    let mut fds = receive(&stream).into_iter();
    let dns = UdpSocket::from(fds.next().unwrap());
    dns.set_read_timeout(Some(LIMIT)).unwrap();
    Caught { dns, names: fds.next().unwrap().into(), listeners: fds.map(Into::into).collect() }
}

/// The descriptors of one message.
pub(crate) fn receive(stream: &UnixStream) -> Vec<OwnedFd> {
    let mut byte = [0u8];
    let mut control = [0u64; 16];
    let mut iov = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: zeros are a valid msghdr; the buffers live until the call returns; the kernel
    // writes descriptors that are ours alone.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut iov;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        let length = libc::recvmsg(stream.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC);
        assert_eq!((length, byte), (1, [LISTENER_OK]));
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let count = ((*header).cmsg_len - libc::CMSG_LEN(0) as usize) / size_of::<i32>();
        let data = libc::CMSG_DATA(header).cast::<i32>();
        (0..count).map(|at| OwnedFd::from_raw_fd(data.add(at).read_unaligned())).collect()
    }
}

/// Accepts one connection, says what it says back, and tells where it wanted to go.
fn echo(listener: &TcpListener) -> thread::JoinHandle<(SocketAddr, SocketAddr)> {
    let listener = listener.try_clone().unwrap();
    thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut said = [0; 6];
        stream.read_exact(&mut said).unwrap();
        stream.write_all(&said).unwrap();
        (stream.local_addr().unwrap(), peer)
    })
}

fn dial(address: &str) -> String {
    let address = address.replace(['[', ']'], "");
    let (host, port) = address.rsplit_once(':').unwrap();
    format!("exec 3<>/dev/tcp/{host}/{port}; echo hello >&3; head -c 6 <&3")
}

fn bash(host: &Host, ws: u128, script: &str) -> (i64, String) {
    let argv = ["/bin/bash", "-c", script];
    let answer = host.order(ws, &serde_json::json!({ "op": "run", "argv": argv }));
    (answer["status"].as_i64().unwrap(), answer["output"].as_str().unwrap().to_owned())
}

#[test]
fn a_connection_to_anywhere_is_caught_whatever_its_port() {
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.running();
        let caught = capture(&host, ws);
        assert_eq!(caught.listeners.len(), 1, "{who:?}: one takes all");
        for address in ["93.184.216.34:443", "198.18.0.7:5432", "10.1.2.3:1", "8.8.8.8:65535"] {
            let accepted = echo(&caught.listeners[0]);
            let said = bash(&host, ws, &dial(address));
            assert_eq!(said, (0, "hello\n".to_owned()), "{who:?} {address}");
            let (wanted, peer) = accepted.join().unwrap();
            assert_eq!(wanted, address.parse().unwrap());
            assert_eq!(peer.ip().to_string(), "192.0.0.2");
        }
        // What is inside talks to itself, by both of its addresses.
        for own in ["127.0.0.1", "192.0.0.2"] {
            let script = format!("exec 3<>/dev/tcp/{own}/9");
            let (status, output) = bash(&host, ws, &script);
            assert!(status == 1 && output.contains("refused"), "{who:?} {own}: {output}");
        }
    }
}

#[test]
fn what_is_no_connection_is_refused_at_once() {
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.running();
        let (status, output) = bash(&host, ws, "exec 3<>/dev/tcp/2001:db8::1/443");
        assert!(status == 1 && output.contains("unreachable"), "{who:?}: {output}");
        let datagrams = "exec 3<>/dev/udp/8.8.8.8/443; echo first >&3; sleep 0.05; echo second >&3";
        let (status, output) = bash(&host, ws, datagrams);
        assert!(status == 1 && output.contains("refused"), "{who:?}: {output}");
        let (status, _) = bash(&host, ws, "exec 3<>/dev/tcp/[::1]/9");
        assert_eq!(status, 1);
    }
}

#[test]
fn names_are_asked_at_one_socket_whomever_they_are_asked_of() {
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.running();
        let caught = capture(&host, ws);
        for server in ["127.0.0.1", "8.8.8.8"] {
            bash(&host, ws, &format!("exec 3<>/dev/udp/{server}/53; echo a question >&3"));
            let mut question = [0; 64];
            let (length, _) = caught.dns.recv_from(&mut question).unwrap();
            assert_eq!(&question[..length], b"a question\n", "{who:?} {server}");
        }
        // And by TCP, which some resolvers prefer.
        let accepted = echo(&caught.listeners[0]);
        assert_eq!(bash(&host, ws, &dial("127.0.0.1:53")), (0, "hello\n".to_owned()), "{who:?}");
        assert_eq!(accepted.join().unwrap().0.to_string(), "127.0.0.1:53");
        // What one server keeps, the next one finds.
        caught.names.write_all_at(b"kept", 0).unwrap();
        let mut kept = String::new();
        capture(&host, ws).names.read_to_string(&mut kept).unwrap();
        assert_eq!(kept, "kept");
        let (_, held) = bash(&host, ws, "ls -l /proc/self/fd /proc/$$/fd");
        assert!(!held.contains("boatyard-names"), "{held}");
    }
}

#[test]
fn where_the_kernel_can_not_redirect_the_usual_ports_are_caught() {
    for who in levels() {
        let mut host = Host::with(who, |config, _| config.capture = CaptureSetting::UsualPorts);
        let ws = host.running();
        let caught = capture(&host, ws);
        assert_eq!(caught.listeners.len(), boatyard_sandbox::CAPTURED_PORTS.len());
        for (listener, port) in caught.listeners.iter().zip(boatyard_sandbox::CAPTURED_PORTS) {
            let accepted = echo(listener);
            let address = format!("93.184.216.34:{port}");
            assert_eq!(bash(&host, ws, &dial(&address)), (0, "hello\n".to_owned()), "{who:?}");
            assert_eq!(accepted.join().unwrap().0, address.parse().unwrap());
        }
        let (status, output) = bash(&host, ws, &dial("93.184.216.34:5432"));
        assert!(status == 1 && output.contains("refused"), "{who:?}: {output}");
        let Reply::Probed(report) = host.call(&Request::Probe) else { panic!() };
        let check = report.checks.iter().find(|check| check.name == "network").unwrap();
        assert_eq!(check.outcome, Outcome::Weaker);
        assert!(check.detail.contains("443, 80, 22, 53"), "{}", check.detail);
    }
}

#[test]
fn connections_wait_while_no_server_takes_them() {
    for who in levels() {
        let mut host = Host::new(who);
        let ws = host.running();
        let first = capture(&host, ws);
        drop(first);
        let second = thread::scope(|scope| {
            let host = &host;
            let inside = scope.spawn(move || bash(host, ws, &dial("198.18.0.9:22")));
            let accepted = echo(&capture(host, ws).listeners[0]);
            assert_eq!(accepted.join().unwrap().0.port(), 22);
            inside.join().unwrap()
        });
        assert_eq!(second, (0, "hello\n".to_owned()));
        // The capturing port itself is nobody's destination.
        let (_, output) = bash(&host, ws, "exec 3<>/dev/tcp/127.0.0.1/3129 && echo up");
        assert_eq!(output, "up\n");
        let accepted = capture(&host, ws).listeners[0].accept().unwrap().0;
        let own: TcpStream = accepted;
        assert_eq!(own.local_addr().unwrap().to_string(), "127.0.0.1:3129");
    }
}
