//! Passkeys of people.
