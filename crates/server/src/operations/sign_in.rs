//! How people sign in.
