//! Real sandboxes, made by a real spawner, as root and as an ordinary user.
//!
//! The program on the other side is `examples/sandbox_helper.rs`.
#![allow(unsafe_code, reason = "tests look at processes as the kernel shows them")]

mod bench;
mod escape;
mod harness;
mod life;
mod limits;
mod network;
mod programs;
mod quota;
mod snapshots;
mod survival;
mod tools;
