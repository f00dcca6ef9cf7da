//! The drivers and the demo agent with real processes and with recorded agents.

mod agents;
mod demo;
mod hostile;
mod played;
mod replay;
mod support;
mod text;
