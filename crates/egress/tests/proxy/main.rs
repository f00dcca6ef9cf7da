//! The proxy over real sockets: what passes, what does not, and what is said and recorded.

mod fixture;
mod limits;
mod requests;
mod tunnels;
mod upstream;
