//! How people sign in: providers, passkeys, what is switched on.
