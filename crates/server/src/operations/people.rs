//! People: accounts, passwords, devices.
