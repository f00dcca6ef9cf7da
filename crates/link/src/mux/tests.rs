//! Two state machines against a model: whatever is done in whatever order, each stream delivers
//! what was written to it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    error::Violation,
    frame::{Frame, HEADER_LEN, QUANTUM, decode},
};

const WINDOW: u32 = 2 * QUANTUM as u32;
const SEND_BUFFER: usize = 20_000;
const MAX_STREAMS: u32 = 4;

fn config(role: Role) -> Config {
    let welcome = Welcome {
        protocol: 1,
        min: 1,
        software: "test".into(),
        epoch: 0,
        window: WINDOW,
        max_streams: MAX_STREAMS,
    };
    Config { role, welcome, send_buffer: SEND_BUFFER, memory: 1 << 20 }
}

/// What one side's application knows of one stream.
#[derive(Debug, Default)]
struct Known {
    written: usize,
    read: usize,
    is_finished: bool,
    has_writer: bool,
    has_reader: bool,
    saw_end: bool,
    saw_error: bool,
    /// This side ended it before its time.
    was_cut: bool,
}

struct Side {
    mux: Mux<()>,
    wire: Vec<u8>,
    input: Vec<u8>,
    known: BTreeMap<StreamId, Known>,
}

impl Side {
    fn new(role: Role) -> Self {
        Self {
            mux: Mux::new(config(role)),
            wire: Vec::new(),
            input: Vec::new(),
            known: BTreeMap::new(),
        }
    }

    fn transmit(&mut self, budget: usize) {
        let mut out = Outbox::default();
        self.mux.transmit(&mut out, budget);
        while !out.is_empty() {
            let mut slices = [std::io::IoSlice::new(&[]); 8];
            let count = out.slices(&mut slices);
            assert!(count > 0, "{} bytes and nothing to write", out.len());
            // Partial writes, to test `advance`.
            let piece = slices[0][..slices[0].len().div_ceil(2)].to_vec();
            out.advance(piece.len());
            self.wire.extend(piece);
        }
    }

    fn pick(&self, index: usize) -> Option<StreamId> {
        let count = self.known.len();
        self.known.keys().nth(index.checked_rem(count)?).copied()
    }

    fn adopt(&mut self, id: StreamId) {
        let known = Known { has_writer: true, has_reader: true, ..Known::default() };
        assert!(self.known.insert(id, known).is_none());
    }
}

/// The byte at a place of a stream's direction.
fn pattern(id: StreamId, from_connector: bool, position: usize) -> u8 {
    (position as u32)
        .wrapping_mul(31)
        .wrapping_add(id.get() * 7)
        .wrapping_add(u32::from(from_connector) * 101) as u8
}

#[derive(Debug, Clone)]
enum Act {
    Open(usize),
    Accept(usize),
    Write(usize, usize, usize),
    WriteBytes(usize, usize, usize),
    Finish(usize, usize),
    Read(usize, usize, usize),
    Reset(usize, usize),
    DropWriter(usize, usize),
    DropReader(usize, usize),
    Transmit(usize, usize),
    Deliver(usize, usize),
}

fn act() -> impl Strategy<Value = Act> {
    let side = 0..2_usize;
    let stream = 0..8_usize;
    let size = prop_oneof![1..64_usize, 1..40_000_usize];
    prop_oneof![
        3 => side.clone().prop_map(Act::Open),
        3 => side.clone().prop_map(Act::Accept),
        6 => (side.clone(), stream.clone(), size.clone()).prop_map(|(a, b, c)| Act::Write(a, b, c)),
        3 => (side.clone(), stream.clone(), size.clone())
            .prop_map(|(a, b, c)| Act::WriteBytes(a, b, c)),
        1 => (side.clone(), stream.clone()).prop_map(|(a, b)| Act::Finish(a, b)),
        6 => (side.clone(), stream.clone(), size.clone()).prop_map(|(a, b, c)| Act::Read(a, b, c)),
        1 => (side.clone(), stream.clone()).prop_map(|(a, b)| Act::Reset(a, b)),
        1 => (side.clone(), stream.clone()).prop_map(|(a, b)| Act::DropWriter(a, b)),
        1 => (side.clone(), stream).prop_map(|(a, b)| Act::DropReader(a, b)),
        8 => (side.clone(), size.clone()).prop_map(|(a, b)| Act::Transmit(a, b)),
        8 => (side, size).prop_map(|(a, b)| Act::Deliver(a, b)),
    ]
}

struct World {
    sides: [Side; 2],
}

impl World {
    fn new() -> Self {
        Self { sides: [Side::new(Role::Connector), Side::new(Role::Acceptor)] }
    }

    fn perform(&mut self, act: Act) {
        match act {
            Act::Open(s) => {
                let side = &mut self.sides[s];
                if let Ok(id) = side.mux.open(Bytes::from(format!("stream {}", s))) {
                    side.adopt(id);
                }
            }
            Act::Accept(s) => {
                let side = &mut self.sides[s];
                if let Some((id, header)) = side.mux.accept() {
                    assert_eq!(header, format!("stream {}", 1 - s));
                    side.adopt(id);
                }
            }
            Act::Write(s, n, size) => self.write(s, n, size, false),
            Act::WriteBytes(s, n, size) => self.write(s, n, size, true),
            Act::Finish(s, n) => {
                let side = &mut self.sides[s];
                let Some(id) = side.pick(n) else { return };
                let known = side.known.get_mut(&id).unwrap();
                if known.has_writer && side.mux.finish(id).is_ok() {
                    known.is_finished = true;
                }
            }
            Act::Read(s, n, size) => {
                if let Some(id) = self.sides[s].pick(n) {
                    self.read(s, id, size);
                }
            }
            Act::Reset(s, n) => {
                let side = &mut self.sides[s];
                let Some(id) = side.pick(n) else { return };
                let known = side.known.get_mut(&id).unwrap();
                if known.has_writer {
                    known.was_cut = true;
                    side.mux.reset(id, ResetCode::FAILED, "test");
                }
            }
            Act::DropWriter(s, n) => {
                if let Some(id) = self.sides[s].pick(n) {
                    self.drop_writer(s, id);
                }
            }
            Act::DropReader(s, n) => {
                if let Some(id) = self.sides[s].pick(n) {
                    self.drop_reader(s, id);
                }
            }
            Act::Transmit(s, budget) => self.sides[s].transmit(budget),
            Act::Deliver(s, size) => self.deliver(s, size),
        }
    }

    fn write(&mut self, s: usize, n: usize, size: usize, without_copy: bool) {
        let side = &mut self.sides[s];
        let Some(id) = side.pick(n) else { return };
        let known = side.known.get_mut(&id).unwrap();
        if !known.has_writer {
            return;
        }
        let bytes: Vec<u8> = (0..size).map(|i| pattern(id, s == 0, known.written + i)).collect();
        let taken = if without_copy {
            side.mux.write_bytes(id, &mut bytes.into())
        } else {
            side.mux.write(id, &bytes)
        };
        if let Ok(taken) = taken {
            assert!(!known.is_finished, "wrote after the end");
            known.written += taken;
        }
    }

    fn read(&mut self, s: usize, id: StreamId, max: usize) -> bool {
        let [a, b] = &mut self.sides;
        let (side, other) = if s == 0 { (a, b) } else { (b, a) };
        let known = side.known.get_mut(&id).unwrap();
        if !known.has_reader {
            return false;
        }
        let theirs = other.known.get(&id);
        match side.mux.read(id, max) {
            Ok(Chunk::Bytes(bytes)) => {
                assert!(!bytes.is_empty() && bytes.len() <= max);
                for (i, byte) in bytes.iter().enumerate() {
                    assert_eq!(*byte, pattern(id, s == 1, known.read + i), "at {}", known.read + i);
                }
                known.read += bytes.len();
                true
            }
            Ok(Chunk::Nothing) => {
                assert!(!known.saw_end && !known.saw_error);
                false
            }
            Ok(Chunk::End) => {
                known.saw_end = true;
                let theirs = theirs.unwrap();
                assert!(theirs.is_finished);
                assert_eq!(known.read, theirs.written, "the end came early");
                false
            }
            Err(_) => {
                // Somebody cut it; a refused stream never reached the other application.
                let was_cut = known.was_cut || theirs.is_none_or(|theirs| theirs.was_cut);
                assert!(was_cut, "an error out of nothing");
                known.saw_error = true;
                false
            }
        }
    }

    fn drop_writer(&mut self, s: usize, id: StreamId) {
        let side = &mut self.sides[s];
        let known = side.known.get_mut(&id).unwrap();
        if std::mem::take(&mut known.has_writer) {
            // Without a Finish, or with nobody left to read, the stream is cut.
            known.was_cut |= !known.is_finished || !known.has_reader;
            side.mux.drop_writer(id);
        }
    }

    fn drop_reader(&mut self, s: usize, id: StreamId) {
        let side = &mut self.sides[s];
        let known = side.known.get_mut(&id).unwrap();
        if std::mem::take(&mut known.has_reader) {
            known.was_cut |= !known.has_writer;
            side.mux.drop_reader(id);
        }
    }

    /// Moves at most `size` bytes to side `s`.
    fn deliver(&mut self, s: usize, size: usize) {
        let wire = &mut self.sides[1 - s].wire;
        let moved: Vec<u8> = wire.drain(..size.min(wire.len())).collect();
        let side = &mut self.sides[s];
        side.input.extend(moved);
        let mut done = 0;
        while let Some((frame, length)) = decode(&side.input[done..]).expect("legal frames") {
            side.mux.receive(frame).expect("both keep the protocol");
            assert!((HEADER_LEN..=crate::frame::MAX_FRAME).contains(&length));
            done += length;
        }
        side.input.drain(..done);
        assert!(side.mux.held() <= (WINDOW * 2 * MAX_STREAMS) as usize + 1024);
        side.mux.take_events();
    }

    /// Everything is sent, received and read, until nothing moves.
    fn settle(&mut self) {
        loop {
            let mut has_moved = false;
            for s in 0..2 {
                while let Some((id, _)) = self.sides[s].mux.accept() {
                    has_moved = true;
                    self.sides[s].adopt(id);
                }
                self.sides[s].transmit(usize::MAX);
                has_moved |= !self.sides[s].wire.is_empty();
                self.deliver(1 - s, usize::MAX);
                let ids: Vec<StreamId> = self.sides[1 - s].known.keys().copied().collect();
                for id in ids {
                    while self.read(1 - s, id, usize::MAX) {
                        has_moved = true;
                    }
                }
            }
            if !has_moved {
                return;
            }
        }
    }
}

proptest! {
    #[test]
    fn streams_deliver_what_was_written(acts in prop::collection::vec(act(), 1..200)) {
        let mut world = World::new();
        for act in acts {
            world.perform(act);
        }
        world.settle();
        for s in 0..2 {
            for (id, known) in &world.sides[s].known {
                let Some(theirs) = world.sides[1 - s].known.get(id) else { continue };
                if known.has_reader && !known.was_cut && !theirs.was_cut {
                    // Not a byte is stuck, though others were stalled, dropped or reset.
                    prop_assert_eq!(known.read, theirs.written);
                    prop_assert_eq!(known.saw_end, theirs.is_finished);
                }
            }
        }
        for s in 0..2 {
            let ids: Vec<StreamId> = world.sides[s].known.keys().copied().collect();
            for id in ids {
                world.drop_writer(s, id);
                world.drop_reader(s, id);
            }
        }
        world.settle();
        for side in &world.sides {
            prop_assert_eq!(side.mux.streams(), 0);
            prop_assert_eq!(side.mux.held(), 0);
            prop_assert!(side.mux.is_drained());
            prop_assert_eq!((side.mux.ours, side.mux.theirs), (0, 0));
        }
    }
}

/// Two sides after their handshake.
fn connected() -> World {
    let mut world = World::new();
    world.settle();
    assert!(world.sides.iter().all(|side| side.mux.peer().is_some()));
    world
}

#[test]
fn small_streams_get_their_turn_beside_a_bulk_stream() {
    let mut world = connected();
    let [a, _] = &mut world.sides;
    let bulk = a.mux.open(Bytes::new()).unwrap();
    let small = a.mux.open(Bytes::new()).unwrap();
    a.mux.write(bulk, &[1; SEND_BUFFER]).unwrap();
    a.mux.write(small, b"now").unwrap();
    a.transmit(usize::MAX);
    let mut rest = &a.wire[..];
    let mut order = Vec::new();
    while let Some((frame, length)) = decode(rest).unwrap() {
        if let Frame::Data { id, bytes } = frame {
            assert!(bytes.len() <= QUANTUM);
            order.push(id);
        }
        rest = &rest[length..];
    }
    assert_eq!(order, [bulk, small, bulk]);
}

#[test]
fn a_stalled_stream_stalls_nobody() {
    let mut world = connected();
    for n in 0..2 {
        world.perform(Act::Open(0));
        world.sides[0].transmit(usize::MAX);
        world.deliver(1, usize::MAX);
        world.perform(Act::Accept(1));
        assert_eq!(world.sides[1].known.len(), n + 1);
    }
    let stalled = world.sides[0].pick(0).unwrap();
    for _ in 0..100 {
        world.write(0, 0, 40_000, false);
        world.sides[0].transmit(usize::MAX);
        world.deliver(1, usize::MAX);
    }
    let sent = world.sides[0].known[&stalled].written;
    assert_eq!(sent, WINDOW as usize + SEND_BUFFER, "bounded by window and queue");
    let other = world.sides[0].pick(1).unwrap();
    for _ in 0..10 {
        world.write(0, 1, 10_000, false);
        world.sides[0].transmit(usize::MAX);
        world.deliver(1, usize::MAX);
        while world.read(1, other, usize::MAX) {}
        world.sides[1].transmit(usize::MAX);
        world.deliver(0, usize::MAX);
    }
    assert_eq!(world.sides[1].known[&other].read, 100_000);
}

#[test]
fn one_byte_frames_cost_little() {
    let mut mux = welcomed(config(Role::Acceptor));
    let id = StreamId::new(1).unwrap();
    mux.receive(Frame::Open { id, header: b"" }).unwrap();
    for _ in 0..WINDOW {
        mux.receive(Frame::Data { id, bytes: b"x" }).unwrap();
    }
    let mut pieces = 0;
    while let Chunk::Bytes(_) = mux.read(id, usize::MAX).unwrap() {
        pieces += 1;
    }
    assert!(pieces <= WINDOW / 4096 + 1, "{pieces} pieces");
}

#[test]
fn data_after_fin_and_reset_keeps_what_came_before() {
    let mut mux = welcomed(config(Role::Acceptor));
    let id = StreamId::new(1).unwrap();
    mux.receive(Frame::Open { id, header: b"" }).unwrap();
    mux.accept().unwrap();
    mux.receive(Frame::Data { id, bytes: b"last words" }).unwrap();
    mux.receive(Frame::Reset { id, code: ResetCode::FAILED, text: "no disk" }).unwrap();
    assert_eq!(mux.read(id, 4).unwrap(), Chunk::Bytes("last".into()));
    assert_eq!(mux.read(id, 99).unwrap(), Chunk::Bytes(" words".into()));
    let error = mux.read(id, 99).unwrap_err().to_string();
    assert_eq!(error, "the stream was reset: failed: no disk");
    assert!(matches!(mux.write(id, b"x"), Err(Error::Reset { .. })));
}

/// One side that has heard a Welcome.
fn welcomed(config: Config) -> Mux<()> {
    let json = serde_json::to_vec(&config.welcome).unwrap();
    let mut mux = Mux::new(config);
    mux.receive(Frame::Welcome(&json)).unwrap();
    mux
}

#[test]
fn violations_are_told_apart() {
    let stream = |n| StreamId::new(n).unwrap();
    let big = vec![0; QUANTUM];
    let check = |frames: &[Frame<'_>], expected: Violation| {
        let mut mux = welcomed(config(Role::Acceptor));
        let (last, before) = frames.split_last().unwrap();
        for frame in before {
            mux.receive(*frame).unwrap();
        }
        match mux.receive(*last) {
            Err(Error::Violation(violation)) => assert_eq!(violation, expected),
            other => panic!("{other:?} instead of {expected:?}"),
        }
    };
    let open = |n| Frame::Open { id: stream(n), header: b"{}" };
    let data = |n| Frame::Data { id: stream(n), bytes: &big };
    check(&[Frame::Welcome(b"{}")], Violation::Welcome);
    check(&[data(1)], Violation::UnknownStream(stream(1)));
    check(&[open(1), data(3)], Violation::UnknownStream(stream(3)));
    check(&[Frame::Fin { id: stream(2) }], Violation::UnknownStream(stream(2)));
    check(&[open(2)], Violation::StreamId(stream(2)));
    check(&[open(3), open(3)], Violation::StreamId(stream(3)));
    check(&[open(3), open(1)], Violation::StreamId(stream(1)));
    check(&[open(1), data(1), data(1), data(1)], Violation::Window(stream(1)));
    check(&[open(1), Frame::Fin { id: stream(1) }, data(1)], Violation::AfterFin(stream(1)));
    check(
        &[open(1), Frame::Credit { id: stream(1), bytes: u32::MAX }],
        Violation::Credit(stream(1)),
    );
    let mut early = Mux::<()>::new(config(Role::Acceptor));
    assert!(matches!(early.receive(open(1)), Err(Error::Violation(Violation::Welcome))));
}

#[test]
fn too_many_streams_are_refused_and_a_flood_ends_the_link() {
    let mut mux = welcomed(config(Role::Acceptor));
    let mut opened = 0;
    let end = loop {
        let id = StreamId::new(2 * opened + 1).unwrap();
        opened += 1;
        if let Err(error) = mux.receive(Frame::Open { id, header: b"" }) {
            break error;
        }
        assert!(opened < 10_000, "never ends");
        assert!(mux.streams() <= MAX_STREAMS as usize);
    };
    assert!(matches!(end, Error::Violation(Violation::Flood)));
}

#[test]
fn a_hoarding_stream_is_reset_and_a_small_one_is_not() {
    let mut mux = welcomed(Config { memory: 40_000, ..config(Role::Acceptor) });
    let stream = |n| StreamId::new(n).unwrap();
    for n in [1, 3, 5] {
        mux.receive(Frame::Open { id: stream(n), header: b"" }).unwrap();
    }
    let big = vec![0; QUANTUM];
    for n in [1, 1, 3, 5] {
        mux.receive(Frame::Data { id: stream(n), bytes: &big }).unwrap();
    }
    // 64 KiB are held, and the small ones are within their quantum.
    mux.receive(Frame::Data { id: stream(3), bytes: b"x" }).unwrap();
    assert!(mux.read(stream(3), 1).is_err(), "it held more than a quantum beyond the limit");
    assert!(mux.read(stream(1), 1).is_ok());
    assert!(mux.read(stream(5), 1).is_ok());
}

#[test]
fn ids_wrap_and_skip_those_in_use() {
    for role in [Role::Connector, Role::Acceptor] {
        let mut mux = welcomed(config(role));
        let first = mux.open(Bytes::new()).unwrap();
        mux.last_ours = SEQUENCE - 2;
        let other = Role::Acceptor;
        let mut peer = welcomed(config(if role == other { Role::Connector } else { other }));
        peer.receive(Frame::Open { id: first, header: b"" }).unwrap();
        peer.last_theirs = SEQUENCE - 2;
        for _ in 0..3 {
            let id = mux.open(Bytes::new()).unwrap();
            assert_ne!(id, first);
            peer.receive(Frame::Open { id, header: b"" }).unwrap();
        }
        // The first is still known, though it now seems to lie ahead.
        peer.receive(Frame::Data { id: first, bytes: b"old" }).unwrap();
        assert_eq!(peer.read(first, 9).unwrap(), Chunk::Bytes("old".into()));
    }
}
