//! Connections that a workspace's programs make without knowing of a proxy.
//!
//! ```text
//!  program ─ connect 198.18.0.7:443 ─► caught in its network namespace ─► accept here
//!      getsockname: where it wanted to go ─► the name that 198.18.0.7 stands for ─► [`Captured`]
//! ```
//!
//! Who takes it from here (`Proxy::serve_captured` calls it for every connection) judges
//! [`Captured::target`] as it judges that of a `CONNECT`, and then looks at what the client says:
//! a TLS client hello, an HTTP request, or neither (a protocol in which the server speaks first
//! says nothing at all, so that looking must have a deadline).

use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::rules::Target;

/// A connection that was caught.
#[derive(Debug)]
pub struct Captured {
    /// The program's side of it: what is written here, it reads. Nothing was read from it yet.
    pub stream: TcpStream,
    /// Where the program wanted to go: the name that it had resolved, or the bare address that it
    /// dialled.
    pub target: Target,
    /// Whether the program named its host: then [`Self::target`] has a name, and what it says in
    /// TLS or HTTP must agree with it. Else it dialled an address, and is judged by that.
    pub named: bool,
    /// The program's own end, as it is inside the workspace: its port tells which program it is.
    pub peer: SocketAddr,
}
