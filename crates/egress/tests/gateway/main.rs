//! The model gateway over real sockets: what passes and how, what does not, what is told.

mod endings;
mod fixture;
mod hostile;
mod limits;
mod passing;
mod refusals;
mod scripted;
mod secrecy;
mod tls;
