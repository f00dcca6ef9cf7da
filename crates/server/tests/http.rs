//! The whole server over HTTP, on a machine that can't make sandboxes: everything up to there.

#[path = "http/audit.rs"]
mod audit;
#[path = "http/bad_input.rs"]
mod bad_input;
#[path = "http/connections.rs"]
mod connections;
#[path = "http/device_codes.rs"]
mod device_codes;
#[path = "http/documents.rs"]
mod documents;
#[path = "http/egress.rs"]
mod egress;
#[path = "http/identity.rs"]
mod identity;
#[path = "http/keys.rs"]
mod keys;
#[path = "http/machine.rs"]
mod machine;
#[path = "http/network.rs"]
mod network;
#[path = "http/organizations.rs"]
mod organizations;
#[path = "http/outsiders.rs"]
mod outsiders;
#[path = "http/people.rs"]
mod people;
#[path = "http/quotas.rs"]
mod quotas;
#[path = "http/resources.rs"]
mod resources;
#[path = "http/rights.rs"]
mod rights;
#[path = "http/sharing.rs"]
mod sharing;
#[path = "http/sign_in.rs"]
mod sign_in;
#[path = "http/team.rs"]
mod team;
