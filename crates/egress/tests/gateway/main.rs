//! The model gateway over real sockets: what passes and how, what does not, what is told.

mod credentials;
mod endings;
mod fixture;
mod holding;
mod hostile;
mod limits;
mod passing;
mod refusals;
mod scripted;
mod secrecy;
mod stage;
mod standing_in;
mod tls;
mod usage;
