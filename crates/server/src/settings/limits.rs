//! `[limits]`: what a workspace and a task may use.

use boatyard_model::{TaskLimits, WorkspaceLimits};

use super::value::{ByteSize, Span};

super::table::section! {
    /// What a workspace and a task may use.
    Limits = "limits" {
        /// How many tasks run at the same time; others wait their turn. 0 means as many as this
        /// machine has cores.
        running_tasks: u32 = 0;
        /// Memory of this machine that is kept free: nothing begins that would go into it.
        memory_reserve: ByteSize = ByteSize::from_bytes(256 << 20);
        /// For how much of the last ten seconds, in percent, what runs may wait for memory before
        /// nothing more begins. 0 means that it is not looked at.
        memory_pressure: u32 = 40;
        /// The same for processors. Waiting for a processor makes work slow and harms nothing, so
        /// that this is not looked at by itself.
        cpu_pressure: u32 = 0;
        /// How long one attempt at a task may take, without the time that it waits for a person.
        task_time: Span = Span::hours(4);
        /// How long the setup of an environment may take.
        setup_time: Span = Span::minutes(10);
        /// How long the installation of an agent may take.
        install_time: Span = Span::minutes(15);
        /// What one attempt may cost in US dollars, as the agent tells it.
        task_cost: Option<f64> = None, example "5.0";
        /// How long a permission or a question waits for a person. After that it is a no.
        answer_time: Span = Span::hours(24);
        /// Memory of one workspace.
        memory: ByteSize = ByteSize::gib(4);
        /// Processes and threads of one workspace at the same time.
        processes: u32 = 512;
        /// Disk that one workspace's own changes may take.
        disk: ByteSize = ByteSize::gib(10);
        /// Processor time of one workspace, in cores. 0 means no limit.
        cores: f64 = 0.0;
    }
}

impl Limits {
    /// What is wrong with it, and with which key.
    ///
    /// # Errors
    /// The first value that makes no sense.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        for (key, percent) in
            [("memory_pressure", self.memory_pressure), ("cpu_pressure", self.cpu_pressure)]
        {
            if percent > 100 {
                return Err((key, format!("expected at most 100 percent, got {percent}")));
            }
        }
        Ok(())
    }

    /// What one workspace may use.
    pub fn workspace(&self) -> WorkspaceLimits {
        // At most the thousandths of 4 million cores: no overflow, and a negative value is 0.
        let cpu_millis = (self.cores * 1000.0).clamp(0.0, f64::from(u32::MAX)) as u32;
        WorkspaceLimits {
            memory_bytes: self.memory.bytes(),
            processes: self.processes,
            disk_bytes: self.disk.bytes(),
            cpu_millis,
        }
    }

    /// What one attempt at a task may use.
    pub fn task(&self) -> TaskLimits {
        TaskLimits {
            time: self.task_time.seconds_u32(),
            setup_time: self.setup_time.seconds_u32(),
            cost_usd: self.task_cost,
        }
    }

    /// How many tasks run at the same time.
    pub fn running_tasks(&self) -> usize {
        match self.running_tasks {
            // One where the machine doesn't tell.
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            n => n as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_model() {
        assert_eq!(Limits::default().workspace(), WorkspaceLimits::default());
        assert_eq!(Limits::default().task(), TaskLimits::default());
    }
}
