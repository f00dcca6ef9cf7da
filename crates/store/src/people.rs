//! People: accounts on this server.
