//! Entrances for fuzzers: what a hostile guest may say. Each function panics where a promise is broken and returns
//! otherwise. Not part of any build that serves.

use crate::frames::{Decoder, FrameWriter, fields, pairs};

pub use crate::process::lambda_api;

/// What a guest sends instead of frames: however it is cut into pieces the same frames come out, and what comes out can be
/// sent again. The first byte says how it is cut.
pub fn frames(bytes: &[u8]) {
    let Some((cut, stream)) = bytes.split_first() else { return };
    let whole = decoded(&[stream]);
    let pieces: Vec<&[u8]> = stream.chunks(usize::from(*cut) + 1).collect();
    assert_eq!(whole, decoded(&pieces), "the frames depend on how the stream is cut");
    assert_eq!(decoded(&[&whole.1]).1, whole.1, "frames do not read as they are written");
}

/// What became of the stream: whether it was lost, and its frames written again.
fn decoded(pieces: &[&[u8]]) -> (bool, Vec<u8>) {
    let (mut decoder, mut written) = (Decoder::new(), Vec::new());
    for piece in pieces {
        decoder.read_buffer().extend_from_slice(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    pairs(frame.meta()).take_while(Result::is_ok).for_each(drop);
                    let mut writer = FrameWriter::new(&mut written, frame.head);
                    fields(frame.meta()).for_each(|field| writer.field(field));
                    writer.finish(frame.body_bytes());
                }
                Ok(None) => break,
                Err(_) => return (true, written),
            }
        }
    }
    (false, written)
}
