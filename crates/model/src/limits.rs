//! What a workspace and a task may use, with the defaults of the design (rule 14).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the processes and files of one workspace may use together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WorkspaceLimits {
    /// Memory in bytes; past it the kernel ends the whole workspace's largest process group.
    pub memory_bytes: u64,
    /// Processes and threads at one time.
    pub processes: u32,
    /// Disk that the workspace's own changes may take, in bytes.
    pub disk_bytes: u64,
    /// Processor time in thousandths of one core; 0 means no limit beside the machine's own.
    pub cpu_millis: u32,
}

impl Default for WorkspaceLimits {
    fn default() -> Self {
        Self { memory_bytes: 4 << 30, processes: 512, disk_bytes: 10 << 30, cpu_millis: 0 }
    }
}

/// What one attempt at a task may use.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TaskLimits {
    /// From the first prompt to the end, in seconds, without the time that it waits for a person.
    pub time: u32,
    /// Setup, in seconds.
    pub setup_time: u32,
    /// Money in US dollars as the agent reports it; none means no limit.
    pub cost_usd: Option<f64>,
}

impl Default for TaskLimits {
    fn default() -> Self {
        Self { time: 4 * 3600, setup_time: 600, cost_usd: None }
    }
}
