//! What must hold for any input, shared by the fuzz targets and the ordinary tests.

use boatyard_link::{
    frame::{Frame, MAX_FRAME, decode},
    handshake::Welcome,
    mux::{Config, Mux, Outbox, Role},
};
use bytes::BytesMut;

/// Decoding never panics, consumes what it says, and gives frames that encode to the same bytes;
/// and a side that is fed them stays within its bounds.
pub(crate) fn decode_keeps_its_promises(input: &[u8]) {
    let mut rest = input;
    loop {
        match decode(rest) {
            Ok(None) | Err(_) => break,
            Ok(Some((frame, length))) => {
                assert!(length <= rest.len() && length <= MAX_FRAME);
                let mut bytes = BytesMut::new();
                frame.encode(&mut bytes);
                assert_eq!(&bytes[..], &rest[..length]);
                rest = &rest[length..];
            }
        }
    }
    feed(input);
}

/// Feeds a side that has shaken hands with the frames of `input`, acting as an application that
/// accepts everything, reads half and echoes.
fn feed(input: &[u8]) {
    let welcome = Welcome {
        protocol: 1,
        min: 1,
        software: String::new(),
        epoch: 0,
        window: 16 * 1024,
        max_streams: 8,
    };
    let json = serde_json::to_vec(&welcome).unwrap();
    let memory = 64 * 1024;
    let mut mux: Mux<()> =
        Mux::new(Config { role: Role::Acceptor, welcome, send_buffer: 4096, memory });
    mux.receive(Frame::Welcome(&json)).unwrap();
    let mut rest = input;
    while let Ok(Some((frame, length))) = decode(rest) {
        rest = &rest[length..];
        if mux.receive(frame).is_err() {
            break;
        }
        if let Some((id, header)) = mux.accept() {
            let _ = mux.write(id, &header);
            if id.get() % 4 == 1 {
                let _ = mux.read(id, 100);
            }
            if id.get() % 8 == 3 {
                mux.drop_reader(id);
            }
            if id.get() % 8 == 5 {
                let _ = mux.finish(id);
                mux.drop_writer(id);
            }
        }
        assert!(mux.streams() <= 16);
        assert!(mux.held() <= memory + 8 * 2 * 16 * 1024);
        mux.take_events();
        let mut out = Outbox::default();
        mux.transmit(&mut out, 1024);
    }
}
