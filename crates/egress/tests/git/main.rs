//! The git gateway between the real git program and a stand-in for GitHub, which runs the real
//! program as well.

mod fetching;
mod fixture;
mod pushing;
mod refusals;
mod tokens;
