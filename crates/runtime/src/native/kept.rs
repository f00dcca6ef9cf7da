//! What was kept of workspaces: layers and tools. They are asked about in the same way.

use boatyard_sandbox::protocol::{FailureKind, Reply, Request};

use super::{
    NativeRuntime, QUICK_DEADLINE, TREE_DEADLINE,
    client::{Again, Answer, CallError},
    refusal::{call_error, step, unexpected},
};
use crate::{DiskUsage, Error};

impl NativeRuntime {
    /// Removes one; what is gone needs no removing.
    pub(super) async fn remove_kept(&self, request: &Request) -> Result<(), Error> {
        match self.spawner.call(request, TREE_DEADLINE, Again::Allowed).await {
            Ok(Answer { reply: Reply::Done, .. }) => Ok(()),
            Ok(Answer { reply: Reply::Failed(failure), .. }) | Err(CallError::Refused(failure)) => {
                match failure.kind {
                    FailureKind::Missing => Ok(()),
                    _ => Err(step(failure)),
                }
            }
            Ok(answer) => Err(unexpected(&answer.reply)),
            Err(error) => Err(call_error(error)),
        }
    }

    /// All ids, of which `page` asks for those after one.
    pub(super) async fn list_kept(&self, page: fn(u128) -> Request) -> Result<Vec<u128>, Error> {
        let mut all: Vec<u128> = Vec::new();
        let mut after = 0;
        loop {
            let answer = self.spawner.call(&page(after), QUICK_DEADLINE, Again::Allowed).await;
            match answer.map_err(call_error)?.reply {
                Reply::Ids { ids, more } => {
                    let last = ids.last().copied();
                    all.extend(ids);
                    match last {
                        Some(last) if more && last > after => after = last,
                        _ => return Ok(all),
                    }
                }
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// What one takes.
    pub(super) async fn kept_usage(&self, request: &Request) -> Result<DiskUsage, Error> {
        let answer = self.spawner.call(request, TREE_DEADLINE, Again::Allowed).await;
        match answer.map_err(call_error)?.reply {
            Reply::Usage { bytes, inodes } => Ok(DiskUsage { bytes, inodes }),
            Reply::Failed(failure) => Err(step(failure)),
            other => Err(unexpected(&other)),
        }
    }
}
