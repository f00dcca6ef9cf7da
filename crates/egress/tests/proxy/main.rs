//! The proxy over real sockets: what passes, what does not, and what is said and recorded.

mod caught;
mod fixture;
mod held;
mod hostile;
mod house;
mod limits;
mod opened;
mod requests;
mod tools;
mod tunnels;
mod upstream;
