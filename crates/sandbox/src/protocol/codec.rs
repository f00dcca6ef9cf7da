//! Bytes to messages and back.
//!
//! Everything is little-endian and of fixed size but lists (u16 count) and texts (u16 length,
//! UTF-8). Decoding refuses what is too long, cut short, or followed by more.

use super::{
    Check, Entry, Failure, FailureKind, Isolation, LOWERS_MAX, Limits, LimitsBy, Network, Outcome,
    PAGE, Ready, Reply, Report, Request, SnapshotMode, Start, Started,
};
use crate::{Error, Result};

/// The longest request in bytes.
pub const REQUEST_MAX: usize = 4096;
/// The longest reply in bytes.
pub const REPLY_MAX: usize = 32 * 1024;

/// The longest text in a reply in bytes; longer ones are cut.
const TEXT_MAX: usize = 512;
/// The most checks in a report.
const CHECKS_MAX: usize = 24;

/// The message that carries `request` under `id`.
///
/// # Errors
/// More than [`LOWERS_MAX`] lower layers.
pub fn encode_request(id: u64, request: &Request) -> Result<Vec<u8>> {
    let mut out = Writer::new(id);
    match request {
        Request::Start(start) => {
            out.u8(1);
            encode_start(&mut out, start)?;
        }
        Request::Create { ws } => out.tagged(2, *ws),
        Request::Kill { ws } => out.tagged(3, *ws),
        Request::Remove { ws } => out.tagged(4, *ws),
        Request::RemoveLayer { layer } => out.tagged(5, *layer),
        Request::Freeze { ws } => out.tagged(6, *ws),
        Request::Thaw { ws } => out.tagged(7, *ws),
        Request::Snapshot { ws, layer, mode } => {
            out.tagged(8, *ws);
            out.u128(*layer);
            out.u8(match mode {
                SnapshotMode::Rename => 1,
                SnapshotMode::Copy => 2,
            });
        }
        Request::List { after } => out.tagged(9, *after),
        Request::ListLayers { after } => out.tagged(10, *after),
        Request::Usage { ws } => out.tagged(11, *ws),
        Request::OpenSpool { ws } => out.tagged(12, *ws),
        Request::Sync { ws } => out.tagged(13, *ws),
        Request::Probe => out.u8(14),
        Request::Shutdown => out.u8(15),
        Request::LayerUsage { layer } => out.tagged(16, *layer),
        Request::KeepTool { ws, tool } => {
            out.tagged(17, *ws);
            out.u128(*tool);
        }
        Request::ListTools { after } => out.tagged(18, *after),
        Request::RemoveTool { tool } => out.tagged(19, *tool),
        Request::ToolUsage { tool } => out.tagged(20, *tool),
    }
    Ok(out.bytes)
}

/// The request in `bytes`, with its id.
///
/// # Errors
/// [`Error::Malformed`] for anything that [`encode_request`] does not make.
pub fn decode_request(bytes: &[u8]) -> Result<(u64, Request)> {
    if bytes.len() > REQUEST_MAX {
        return Err(malformed("too long"));
    }
    let mut input = Reader { bytes };
    let id = input.u64()?;
    let request = match input.u8()? {
        1 => Request::Start(decode_start(&mut input)?),
        2 => Request::Create { ws: input.id()? },
        3 => Request::Kill { ws: input.id()? },
        4 => Request::Remove { ws: input.id()? },
        5 => Request::RemoveLayer { layer: input.id()? },
        6 => Request::Freeze { ws: input.id()? },
        7 => Request::Thaw { ws: input.id()? },
        8 => Request::Snapshot {
            ws: input.id()?,
            layer: input.id()?,
            mode: match input.u8()? {
                1 => SnapshotMode::Rename,
                2 => SnapshotMode::Copy,
                _ => return Err(malformed("unknown snapshot mode")),
            },
        },
        9 => Request::List { after: input.u128()? },
        10 => Request::ListLayers { after: input.u128()? },
        11 => Request::Usage { ws: input.id()? },
        12 => Request::OpenSpool { ws: input.id()? },
        13 => Request::Sync { ws: input.id()? },
        14 => Request::Probe,
        15 => Request::Shutdown,
        16 => Request::LayerUsage { layer: input.id()? },
        17 => Request::KeepTool { ws: input.id()?, tool: input.id()? },
        18 => Request::ListTools { after: input.u128()? },
        19 => Request::RemoveTool { tool: input.id()? },
        20 => Request::ToolUsage { tool: input.id()? },
        _ => return Err(malformed("unknown operation")),
    };
    input.end()?;
    Ok((id, request))
}

/// The message that carries `reply` to the request `id`. Texts and lists that are too long are
/// cut, so that a reply always fits.
pub fn encode_reply(id: u64, reply: &Reply) -> Vec<u8> {
    let mut out = Writer::new(id);
    match reply {
        Reply::Ready(ready) => {
            out.u8(1);
            out.u8(isolation_code(Some(ready.isolation)));
            out.u8(limits_code(ready.limits));
            out.u32(ready.running);
        }
        Reply::Done => out.u8(2),
        Reply::Started(started) => {
            out.u8(3);
            out.u32(started.pid);
            out.u64(started.generation);
            out.u8(u8::from(started.unclean));
            out.u32(started.clone_us);
            out.u32(started.total_us);
        }
        Reply::Workspaces { entries, more } => {
            out.u8(4);
            out.u8(u8::from(*more));
            out.list(entries, PAGE, |out, entry| {
                out.u128(entry.ws);
                out.u64(entry.generation);
                out.u32(entry.pid);
            });
        }
        Reply::Ids { ids, more } => {
            out.u8(5);
            out.u8(u8::from(*more));
            out.list(ids, PAGE, |out, id| out.u128(*id));
        }
        Reply::Usage { bytes, inodes } => {
            out.u8(6);
            out.u64(*bytes);
            out.u64(*inodes);
        }
        Reply::Spool => out.u8(7),
        Reply::Probed(report) => {
            out.u8(8);
            out.u8(isolation_code(report.isolation));
            out.u8(limits_code(report.limits));
            out.list(&report.checks, CHECKS_MAX, |out, check| {
                out.u8(match check.outcome {
                    Outcome::Works => 1,
                    Outcome::Weaker => 2,
                    Outcome::Fails => 3,
                });
                out.text(&check.name);
                out.text(&check.detail);
            });
        }
        Reply::Failed(failure) => {
            out.u8(9);
            out.u8(failure_code(failure.kind));
            out.u32(failure.errno.cast_unsigned());
            out.text(&failure.step);
            out.text(&failure.hint);
        }
        Reply::Exited { ws, generation } => {
            out.tagged(10, *ws);
            out.u64(*generation);
        }
    }
    out.bytes
}

/// The reply in `bytes`, with the id of its request (0: it answers none).
///
/// # Errors
/// [`Error::Malformed`] for anything that [`encode_reply`] does not make.
pub fn decode_reply(bytes: &[u8]) -> Result<(u64, Reply)> {
    if bytes.len() > REPLY_MAX {
        return Err(malformed("too long"));
    }
    let mut input = Reader { bytes };
    let id = input.u64()?;
    let reply = match input.u8()? {
        1 => Reply::Ready(Ready {
            isolation: isolation(input.u8()?)?.ok_or(malformed("no isolation"))?,
            limits: limits_by(input.u8()?)?,
            running: input.u32()?,
        }),
        2 => Reply::Done,
        3 => Reply::Started(Started {
            pid: input.u32()?,
            generation: input.u64()?,
            unclean: input.flag()?,
            clone_us: input.u32()?,
            total_us: input.u32()?,
        }),
        4 => {
            let more = input.flag()?;
            let entries = input.list(PAGE, |input| {
                Ok(Entry { ws: input.u128()?, generation: input.u64()?, pid: input.u32()? })
            })?;
            Reply::Workspaces { entries, more }
        }
        5 => {
            let more = input.flag()?;
            Reply::Ids { ids: input.list(PAGE, Reader::u128)?, more }
        }
        6 => Reply::Usage { bytes: input.u64()?, inodes: input.u64()? },
        7 => Reply::Spool,
        8 => Reply::Probed(Report {
            isolation: isolation(input.u8()?)?,
            limits: limits_by(input.u8()?)?,
            checks: input.list(CHECKS_MAX, |input| {
                let outcome = match input.u8()? {
                    1 => Outcome::Works,
                    2 => Outcome::Weaker,
                    3 => Outcome::Fails,
                    _ => return Err(malformed("unknown outcome")),
                };
                Ok(Check { outcome, name: input.text()?, detail: input.text()? })
            })?,
        }),
        9 => Reply::Failed(Failure {
            kind: failure_kind(input.u8()?)?,
            errno: input.u32()?.cast_signed(),
            step: input.text()?,
            hint: input.text()?,
        }),
        10 => Reply::Exited { ws: input.u128()?, generation: input.u64()? },
        _ => return Err(malformed("unknown reply")),
    };
    input.end()?;
    Ok((id, reply))
}

fn encode_start(out: &mut Writer, start: &Start) -> Result<()> {
    if start.lowers.len() > LOWERS_MAX {
        return Err(Error::invalid(format!("more than {LOWERS_MAX} lower layers")));
    }
    out.u128(start.ws);
    out.u64(start.generation);
    out.list(&start.lowers, LOWERS_MAX, |out, layer| out.u128(*layer));
    out.u128(start.mirror.unwrap_or(0));
    out.u64(start.limits.memory_bytes);
    out.u32(start.limits.processes);
    out.u32(start.limits.cpu_millis);
    out.u64(start.limits.tmp_bytes);
    out.u64(start.limits.disk_bytes);
    out.u8(match start.network {
        Network::None => 1,
        Network::Egress => 2,
    });
    Ok(())
}

fn decode_start(input: &mut Reader<'_>) -> Result<Start> {
    Ok(Start {
        ws: input.id()?,
        generation: input.u64()?,
        lowers: input.list(LOWERS_MAX, Reader::id)?,
        mirror: Some(input.u128()?).filter(|id| *id != 0),
        limits: Limits {
            memory_bytes: input.u64()?,
            processes: input.u32()?,
            cpu_millis: input.u32()?,
            tmp_bytes: input.u64()?,
            disk_bytes: input.u64()?,
        },
        network: match input.u8()? {
            1 => Network::None,
            2 => Network::Egress,
            _ => return Err(malformed("unknown network")),
        },
    })
}

const fn isolation_code(isolation: Option<Isolation>) -> u8 {
    match isolation {
        None => 0,
        Some(Isolation::Full) => 1,
        Some(Isolation::FullV1) => 2,
        Some(Isolation::Rootless) => 3,
        Some(Isolation::RootlessSingleId) => 4,
    }
}

fn isolation(code: u8) -> Result<Option<Isolation>> {
    Ok(Some(match code {
        0 => return Ok(None),
        1 => Isolation::Full,
        2 => Isolation::FullV1,
        3 => Isolation::Rootless,
        4 => Isolation::RootlessSingleId,
        _ => return Err(malformed("unknown isolation")),
    }))
}

const fn limits_code(limits: LimitsBy) -> u8 {
    match limits {
        LimitsBy::CgroupV2 => 1,
        LimitsBy::CgroupV1 => 2,
        LimitsBy::Rlimits => 3,
    }
}

fn limits_by(code: u8) -> Result<LimitsBy> {
    Ok(match code {
        1 => LimitsBy::CgroupV2,
        2 => LimitsBy::CgroupV1,
        3 => LimitsBy::Rlimits,
        _ => return Err(malformed("unknown limits")),
    })
}

const fn failure_code(kind: FailureKind) -> u8 {
    match kind {
        FailureKind::Exists => 1,
        FailureKind::Missing => 2,
        FailureKind::Running => 3,
        FailureKind::NotRunning => 4,
        FailureKind::Busy => 5,
        FailureKind::Invalid => 6,
        FailureKind::Deadline => 7,
        FailureKind::System => 8,
    }
}

fn failure_kind(code: u8) -> Result<FailureKind> {
    Ok(match code {
        1 => FailureKind::Exists,
        2 => FailureKind::Missing,
        3 => FailureKind::Running,
        4 => FailureKind::NotRunning,
        5 => FailureKind::Busy,
        6 => FailureKind::Invalid,
        7 => FailureKind::Deadline,
        8 => FailureKind::System,
        _ => return Err(malformed("unknown failure")),
    })
}

const fn malformed(reason: &'static str) -> Error {
    Error::Malformed { reason }
}

struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn new(id: u64) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&id.to_le_bytes());
        Self { bytes }
    }

    fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn u128(&mut self, value: u128) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn tagged(&mut self, tag: u8, id: u128) {
        self.u8(tag);
        self.u128(id);
    }

    fn text(&mut self, text: &str) {
        let mut end = text.len().min(TEXT_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.length(end);
        self.bytes.extend_from_slice(&text.as_bytes()[..end]);
    }

    fn list<T>(&mut self, items: &[T], max: usize, mut each: impl FnMut(&mut Self, &T)) {
        let items = &items[..items.len().min(max)];
        self.length(items.len());
        for item in items {
            each(self, item);
        }
    }

    /// A count that the callers above have bounded far below 65536.
    fn length(&mut self, length: usize) {
        let length = u16::try_from(length).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_le_bytes());
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or(malformed("cut short"))?;
        self.bytes = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn u128(&mut self) -> Result<u128> {
        self.take().map(u128::from_le_bytes)
    }

    /// An id that names something: 0 stands for none everywhere.
    fn id(&mut self) -> Result<u128> {
        Some(self.u128()?).filter(|id| *id != 0).ok_or(malformed("the id is zero"))
    }

    fn flag(&mut self) -> Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(malformed("neither yes nor no")),
        }
    }

    fn text(&mut self) -> Result<String> {
        let length = usize::from(self.u16()?);
        if length > TEXT_MAX {
            return Err(malformed("text too long"));
        }
        let (text, rest) = self.bytes.split_at_checked(length).ok_or(malformed("cut short"))?;
        self.bytes = rest;
        std::str::from_utf8(text).map(str::to_owned).map_err(|_| malformed("text is not UTF-8"))
    }

    fn list<T>(
        &mut self,
        max: usize,
        mut each: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let count = usize::from(self.u16()?);
        if count > max {
            return Err(malformed("list too long"));
        }
        (0..count).map(|_| each(self)).collect()
    }

    fn end(&self) -> Result<()> {
        if self.bytes.is_empty() { Ok(()) } else { Err(malformed("more than one message")) }
    }
}

#[cfg(test)]
mod tests;
