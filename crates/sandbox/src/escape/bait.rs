//! What is laid out to be found: on the host, and in another workspace.
//!
//! Everything holds the same token. Whoever comes to know it got to what it must not reach; what
//! was touched without an answer coming back is seen by the side that laid it out.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    os::{
        fd::{AsFd, AsRawFd as _, OwnedFd},
        linux::net::SocketAddrExt as _,
        unix::{
            fs::PermissionsExt as _,
            net::{SocketAddr as UnixAddress, UnixListener},
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{calls, run::owned};
use crate::{EGRESS_PORT, GATEWAY_PORT, spawn::pipe, sys::check};

/// What stands before an attack's name in everything that it sends.
pub(super) const MARK: &str = "escape-attack=";
/// How long a client may take to say something.
const HELLO_WITHIN: Duration = Duration::from_millis(500);
/// The size of the shared memory, in bytes.
const SHARED_MEMORY: usize = 4096;

/// Everything that attacks are told: an attacker may know where to look, and still finds nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Bait {
    /// Whether this is no sandbox at all: what would harm the machine is left out.
    pub outside: bool,
    /// What is in everything that is laid out.
    pub token: String,
    /// What is laid out on the host.
    pub host: Shared,
    /// Whose home holds something.
    pub home: PathBuf,
    /// The server's data folder.
    pub data: Option<PathBuf>,
    /// Files of the server with something secret in them.
    pub secrets: Vec<PathBuf>,
    /// Where the server answers.
    pub server: Option<SocketAddr>,
    /// The host's namespaces, by the names of `/proc/self/ns`.
    pub namespaces: BTreeMap<String, String>,
    /// Another workspace.
    pub neighbour: Option<Neighbour>,
    /// The proxy.
    pub proxy: SocketAddr,
    /// The gateway to models.
    pub gateway: SocketAddr,
    /// Who answers for names.
    pub resolver: SocketAddr,
    /// A server that the rules let through, with a path that they don't ([`super::House`]).
    pub house: Option<SocketAddr>,
    /// What the attacking workspace has in place of a credential whose value is the token.
    pub placeholder: Option<String>,
    /// What another workspace has in its place.
    pub neighbours_placeholder: Option<String>,
    /// What is limited.
    pub limited: Limited,
}

impl Default for Bait {
    fn default() -> Self {
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            outside: false,
            token: String::new(),
            host: Shared::default(),
            home: PathBuf::from("/root"),
            data: None,
            secrets: Vec::new(),
            server: None,
            namespaces: BTreeMap::new(),
            neighbour: None,
            proxy: loopback(EGRESS_PORT),
            gateway: loopback(GATEWAY_PORT),
            resolver: loopback(53),
            house: None,
            placeholder: None,
            neighbours_placeholder: None,
            limited: Limited::default(),
        }
    }
}

/// What the place has limits for: bombs of another kind are not set off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limited {
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Memory of all processes together, in bytes.
    pub memory: Option<u64>,
    /// Disk in bytes.
    pub disk: Option<u64>,
    /// Files and folders on disk.
    pub inodes: Option<u64>,
}

/// Another workspace.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Neighbour {
    /// What is in everything that is laid out there.
    pub token: String,
    /// What is laid out, as it is seen there.
    pub shared: Shared,
    /// Its files as the host sees them.
    pub files: Vec<PathBuf>,
    /// The socket of its link, on the host.
    pub link: Option<PathBuf>,
}

/// Things that are found by a name: a path, an address, a number.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Shared {
    /// A file that everybody may read.
    pub file: PathBuf,
    /// One in `/tmp`.
    pub tmp: PathBuf,
    /// One in `/dev/shm`.
    pub memory_file: PathBuf,
    /// A unix socket by its path.
    pub socket: PathBuf,
    /// A unix socket by its abstract name.
    pub abstract_socket: String,
    /// System V shared memory.
    pub memory_key: i32,
    /// TCP listeners that answer HTTP.
    pub tcp: Vec<SocketAddr>,
    /// UDP sockets.
    pub udp: Vec<SocketAddr>,
    /// A process with the token in its environment.
    pub process: u32,
    /// A terminal.
    pub terminal: Option<PathBuf>,
}

/// Something laid out was touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// The attack that did, as it said.
    pub attack: String,
    /// What.
    pub what: &'static str,
}

/// What the host has laid out; it goes with this.
#[derive(Debug)]
pub struct Baits {
    /// To be told to the attacks.
    pub bait: Bait,
    kept: Kept,
}

impl Baits {
    /// Lays out everything on the host, with the files below `folder`, which exists and which
    /// everybody may enter.
    ///
    /// # Errors
    /// When that fails.
    pub fn lay(folder: &Path) -> io::Result<Self> {
        let token = token()?;
        let (kept, host) = Shared::lay(folder, &token)?;
        let namespaces = fs::read_dir("/proc/self/ns")?
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let target = fs::read_link(entry.path()).ok()?;
                Some((entry.file_name().into_string().ok()?, target.to_str()?.to_owned()))
            })
            .collect();
        let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
        let bait = Bait { token, host, home, namespaces, ..Bait::default() };
        Ok(Self { bait, kept })
    }

    /// What was touched up to now.
    pub fn touched(&self) -> Vec<Touch> {
        self.kept.touched.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Something that nobody guesses.
///
/// # Errors
/// Without a source of randomness.
pub fn token() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("boatyard-bait-{hex}"))
}

/// What is laid out, as long as this lives.
#[derive(Debug)]
pub(super) struct Kept {
    touched: Arc<Mutex<Vec<Touch>>>,
    files: Vec<PathBuf>,
    memory: i32,
    process: Child,
    /// Its end ends the thread.
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    /// A terminal exists as long as somebody has its inner side.
    _terminal: Option<OwnedFd>,
}

impl Shared {
    /// Lays out everything, with files below `folder`.
    pub(super) fn lay(folder: &Path, token: &str) -> io::Result<(Kept, Self)> {
        let name = format!(
            "boatyard-bait-{}-{}",
            std::process::id(),
            &token[token.len().saturating_sub(6)..]
        );
        let file = folder.join(format!("{name}.txt"));
        let tmp = Path::new("/tmp").join(&name);
        let memory_file = Path::new("/dev/shm").join(&name);
        for path in [&file, &tmp, &memory_file] {
            fs::write(path, token)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
        }
        let socket = folder.join(format!("{name}.sock"));
        let by_path = UnixListener::bind(&socket)?;
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o666))?;
        let by_name = UnixListener::bind_addr(&UnixAddress::from_abstract_name(&name)?)?;
        let mut doors = vec![
            Door::Unix(by_path, "the unix socket"),
            Door::Unix(by_name, "the abstract socket"),
        ];
        let (mut tcp, mut udp) = (Vec::new(), Vec::new());
        for address in addresses() {
            let listener = TcpListener::bind((address, 0))?;
            tcp.push(listener.local_addr()?);
            doors.push(Door::Tcp(listener));
            let socket = UdpSocket::bind((address, 0))?;
            udp.push(socket.local_addr()?);
            doors.push(Door::Udp(socket));
        }
        let (terminal, inner) = match terminal() {
            Ok((outer, inner, path)) => {
                doors.push(Door::Terminal(outer));
                (Some(path), Some(inner))
            }
            // Not every place has terminals.
            Err(_) => (None, None),
        };
        let (memory, memory_key) = shared_memory(token)?;
        let process = Command::new("/bin/sleep")
            .arg("86400")
            .env_clear()
            .env("BOATYARD_BAIT", token)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let touched = Arc::<Mutex<Vec<Touch>>>::default();
        let (stopped, stop) = pipe().map_err(io::Error::other)?;
        let thread = std::thread::spawn({
            let (touched, token) = (Arc::clone(&touched), token.to_owned());
            move || serve(&doors, &stopped, &token, &touched)
        });
        let shared = Self {
            file: file.clone(),
            tmp: tmp.clone(),
            memory_file: memory_file.clone(),
            socket: socket.clone(),
            abstract_socket: name,
            memory_key,
            tcp,
            udp,
            process: process.id(),
            terminal,
        };
        let kept = Kept {
            touched,
            files: vec![file, tmp, memory_file, socket],
            memory,
            process,
            stop: Some(stop),
            thread: Some(thread),
            _terminal: inner,
        };
        Ok((kept, shared))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // All of it is clearing up: what is gone already is as well.
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        // SAFETY: integers and null: marks our own memory as to be removed.
        unsafe { libc::shmctl(self.memory, libc::IPC_RMID, std::ptr::null_mut()) };
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Loopback, and the address by which this machine is known to its network, if it has one.
fn addresses() -> Vec<Ipv4Addr> {
    let mut found = vec![Ipv4Addr::LOCALHOST];
    let own = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        // Nothing is sent; the kernel only looks for the way.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    if let Ok(SocketAddr::V4(own)) = own
        && !own.ip().is_loopback()
        && !own.ip().is_unspecified()
    {
        found.push(*own.ip());
    }
    found
}

/// A new terminal: its outer side, its inner side, the inner side's path.
pub(super) fn terminal() -> io::Result<(OwnedFd, OwnedFd, PathBuf)> {
    // SAFETY: integers and a buffer of the size given; both descriptors are new.
    unsafe {
        let outer =
            owned(check(libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC))?);
        check(libc::grantpt(outer.as_raw_fd()))?;
        check(libc::unlockpt(outer.as_raw_fd()))?;
        let mut number: libc::c_int = 0;
        check(libc::ioctl(outer.as_raw_fd(), libc::TIOCGPTN, &raw mut number))?;
        let path = PathBuf::from(format!("/dev/pts/{number}"));
        let text = calls::path(&path);
        let inner =
            check(libc::open(text.as_ptr(), libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC))?;
        Ok((outer, owned(inner), path))
    }
}

/// Shared memory with the token in it: its id and key.
fn shared_memory(token: &str) -> io::Result<(i32, i32)> {
    let mut key = [0; 4];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    let key = i32::from_ne_bytes(key) | 1;
    // SAFETY: the memory is as long as said, and the token is shorter.
    unsafe {
        let id = check(libc::shmget(key, SHARED_MEMORY, libc::IPC_CREAT | libc::IPC_EXCL | 0o644))?;
        let at = libc::shmat(id, std::ptr::null(), 0);
        if at.addr() == usize::MAX {
            return Err(io::Error::last_os_error());
        }
        let length = token.len().min(SHARED_MEMORY);
        std::ptr::copy_nonoverlapping(token.as_ptr(), at.cast(), length);
        check(libc::shmdt(at))?;
        Ok((id, key))
    }
}

/// Where somebody may knock.
enum Door {
    Unix(UnixListener, &'static str),
    Tcp(TcpListener),
    Udp(UdpSocket),
    Terminal(OwnedFd),
}

impl Door {
    fn fd(&self) -> i32 {
        match self {
            Self::Unix(listener, _) => listener.as_raw_fd(),
            Self::Tcp(listener) => listener.as_raw_fd(),
            Self::Udp(socket) => socket.as_raw_fd(),
            Self::Terminal(outer) => outer.as_raw_fd(),
        }
    }

    /// What was said, after an answer with the token.
    fn open(&self, token: &str) -> io::Result<(Vec<u8>, &'static str)> {
        let mut said = vec![0; 4096];
        let (length, what) = match self {
            Self::Unix(listener, what) => {
                let (mut stream, _) = listener.accept()?;
                stream.set_read_timeout(Some(HELLO_WITHIN))?;
                // A client that only listens is answered as well.
                let length = stream.read(&mut said).unwrap_or(0);
                stream.write_all(token.as_bytes())?;
                (length, *what)
            }
            Self::Tcp(listener) => {
                let (mut stream, _) = listener.accept()?;
                stream.set_read_timeout(Some(HELLO_WITHIN))?;
                let length = stream.read(&mut said).unwrap_or(0);
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close";
                write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{token}", token.len())?;
                (length, "a TCP port")
            }
            Self::Udp(socket) => {
                let (length, from) = socket.recv_from(&mut said)?;
                socket.send_to(token.as_bytes(), from)?;
                (length, "a UDP port")
            }
            Self::Terminal(outer) => {
                let mut file = File::from(outer.try_clone()?);
                (file.read(&mut said)?, "the terminal")
            }
        };
        said.truncate(length);
        Ok((said, what))
    }
}

fn serve(doors: &[Door], stopped: &OwnedFd, token: &str, touched: &Mutex<Vec<Touch>>) {
    let watched = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut polled: Vec<libc::pollfd> = doors.iter().map(|door| watched(door.fd())).collect();
    polled.push(watched(stopped.as_fd().as_raw_fd()));
    loop {
        // SAFETY: as many as there are.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, -1) };
        if ready < 0 || polled.last().is_none_or(|stop| stop.revents != 0) {
            return;
        }
        for (door, polled) in doors.iter().zip(&polled) {
            if polled.revents & libc::POLLIN == 0 {
                continue;
            }
            // Who goes away in the middle has touched nothing that it could tell of.
            let Ok((said, what)) = door.open(token) else { continue };
            let said = String::from_utf8_lossy(&said);
            let attack: String = said
                .split_once(MARK)
                .map_or("", |(_, rest)| rest)
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '-')
                .collect();
            touched.lock().unwrap_or_else(PoisonError::into_inner).push(Touch { attack, what });
        }
    }
}
