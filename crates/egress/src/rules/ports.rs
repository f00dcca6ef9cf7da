//! Which ports a rule is about.

use boatyard_model::PortRange;
use serde::{Deserialize, Serialize};

/// Some ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ports(Vec<PortRange>);

impl Ports {
    /// Those of HTTPS and HTTP: what is meant where nobody names one.
    pub fn web() -> Self {
        Self(vec![443.into(), 80.into()])
    }

    /// Whether a port is among them.
    pub fn contain(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(port))
    }

    /// Whether all of the other's are.
    pub fn cover(&self, other: &Self) -> bool {
        other.0.iter().all(|theirs| self.0.iter().any(|ours| ours.covers(*theirs)))
    }

    /// How many they are, at most.
    pub(super) fn count(&self) -> u32 {
        self.0.iter().map(|range| range.count()).sum()
    }

    /// As they were written.
    pub fn ranges(&self) -> &[PortRange] {
        &self.0
    }
}

impl Default for Ports {
    /// HTTPS.
    fn default() -> Self {
        Self(vec![443.into()])
    }
}

impl From<&[u16]> for Ports {
    fn from(ports: &[u16]) -> Self {
        Self(ports.iter().copied().map(PortRange::from).collect())
    }
}

impl From<&[PortRange]> for Ports {
    fn from(ports: &[PortRange]) -> Self {
        Self(ports.to_vec())
    }
}
