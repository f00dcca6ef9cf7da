//! The decoder: what was encoded comes back, and no input makes it panic or lie.
//!
//! `fuzz/fuzz_targets/decode.rs` runs [`decoding_keeps_its_promises`]'s body under cargo-fuzz.

use boatyard_link::frame::{
    Frame, GoAwayCode, HEADER_LEN, Illegal, MAX_DATA, MAX_FRAME, MAX_HEADER, MAX_TEXT, ResetCode,
    StreamId, decode,
};
use bytes::BytesMut;
use proptest::prelude::*;

#[path = "../fuzz/check.rs"]
mod check;

fn round_trip(frame: Frame<'_>) {
    let mut bytes = BytesMut::new();
    frame.encode(&mut bytes);
    for cut in [0, 1, HEADER_LEN - 1, bytes.len() - 1] {
        assert_eq!(decode(&bytes[..cut]), Ok(None));
    }
    bytes.extend_from_slice(b"what follows");
    let (decoded, length) = decode(&bytes).unwrap().unwrap();
    assert_eq!(decoded, frame);
    assert_eq!(length, bytes.len() - "what follows".len());
}

proptest! {
    #[test]
    fn frames_survive_a_round_trip(
        id in 1..=u32::MAX,
        payload in prop::collection::vec(any::<u8>(), 1..2000),
        number in any::<u64>(),
        code in any::<u16>(),
        text in "\\PC{0,100}",
    ) {
        let id = StreamId::new(id).unwrap();
        let bytes = &payload[..];
        round_trip(Frame::Data { id, bytes });
        round_trip(Frame::Open { id, header: bytes });
        round_trip(Frame::Open { id, header: &[] });
        round_trip(Frame::Credit { id, bytes: (number as u32).max(1) });
        round_trip(Frame::Fin { id });
        round_trip(Frame::Reset { id, code: ResetCode(code), text: &text });
        round_trip(Frame::Ping(number));
        round_trip(Frame::Pong(number));
        let retry_after_ms = number as u32;
        round_trip(Frame::GoAway { code: GoAwayCode(code), retry_after_ms, text: &text });
        round_trip(Frame::Welcome(br#"{"protocol":1}"#));
    }

    #[test]
    fn decoding_keeps_its_promises(input in prop::collection::vec(any::<u8>(), 0..400)) {
        check::decode_keeps_its_promises(&input);
    }

    /// Random bytes rarely get beyond the header, so here the header is nearly right.
    #[test]
    fn nearly_legal_input_is_handled(
        stream in prop_oneof![Just(0_u32), 1..5_u32],
        kind in 0..12_u8,
        length in 0..600_u32,
        payload in prop::collection::vec(any::<u8>(), 0..600),
        again in any::<bool>(),
    ) {
        let mut input = stream.to_le_bytes().to_vec();
        input.push(kind);
        input.extend(&length.to_le_bytes()[..3]);
        input.extend(&payload);
        if again {
            let copy = input.clone();
            input.extend(copy);
        }
        check::decode_keeps_its_promises(&input);
    }
}

fn header(stream: u32, kind: u8, length: usize) -> Vec<u8> {
    let mut bytes = stream.to_le_bytes().to_vec();
    bytes.push(kind);
    bytes.extend(&(length as u32).to_le_bytes()[..3]);
    bytes
}

#[test]
fn wrong_lengths_are_refused_before_the_payload() {
    let too_long = [
        (0, 1, 5000),
        (1, 2, MAX_HEADER + 1),
        (1, 3, MAX_DATA + 1),
        (1, 3, 0xff_ffff),
        (1, 3, 0),
        (1, 4, 5),
        (1, 5, 1),
        (1, 6, 1),
        (1, 6, 3 + MAX_TEXT),
        (0, 7, 7),
        (0, 9, 5),
    ];
    for (stream, kind, length) in too_long {
        let input = header(stream, kind, length);
        let refused = decode(&input);
        assert!(matches!(refused, Err(Illegal::Length { .. })), "{stream} {kind} {length}");
    }
    const { assert!(MAX_FRAME >= HEADER_LEN + MAX_HEADER) };
}

#[test]
fn streams_kinds_and_texts_are_checked() {
    assert!(matches!(decode(&header(0, 3, 1)), Err(Illegal::Stream { stream: 0, .. })));
    assert!(matches!(decode(&header(4, 7, 8)), Err(Illegal::Stream { stream: 4, .. })));
    for kind in [0, 10, 255] {
        assert_eq!(decode(&header(1, kind, 1)), Err(Illegal::Kind { kind }));
    }
    let mut reset = header(1, 6, 3);
    reset.extend([1, 0, 0xff]);
    assert!(matches!(decode(&reset), Err(Illegal::Text { .. })));
    let mut credit = header(1, 4, 4);
    credit.extend([0; 4]);
    assert_eq!(decode(&credit), Err(Illegal::NoCredit));
}

#[test]
fn long_texts_are_cut_at_a_character() {
    let text = "é".repeat(MAX_TEXT);
    let mut bytes = BytesMut::new();
    let id = StreamId::new(1).unwrap();
    Frame::Reset { id, code: ResetCode::FAILED, text: &text }.encode(&mut bytes);
    let Ok(Some((Frame::Reset { text: cut, .. }, _))) = decode(&bytes) else { panic!() };
    assert_eq!(cut.len(), MAX_TEXT);
}
