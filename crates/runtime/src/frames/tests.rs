use bytes::BufMut as _;
use proptest::prelude::*;

use super::*;

fn encode(head: Head, meta: &[&[u8]], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut frame = FrameWriter::new(&mut out, head);
    meta.iter().for_each(|field| frame.field(field));
    frame.finish(body);
    out
}

fn decode_in_pieces(bytes: &[u8], piece: usize) -> Result<Vec<Frame>, FrameError> {
    let mut decoder = Decoder::new();
    let mut frames = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        decoder.read_buffer().put_slice(piece);
        while let Some(frame) = decoder.next_frame()? {
            frames.push(frame);
        }
    }
    assert!(!decoder.is_mid_frame(), "bytes are left over");
    Ok(frames)
}

fn sample() -> Vec<u8> {
    let head = Head::new(Kind::Reply, 7).flags(Flags::MORE).aux(418);
    let mut bytes = encode(head, &[b"content-type", b"text/plain"], b"short and stout");
    bytes.extend(encode(Head::new(Kind::Data, 7), &[], &vec![b'x'; 20_000]));
    bytes.extend(encode(Head::new(Kind::Data, 7).flags(Flags::END), &[], b""));
    bytes
}

#[test]
fn the_header_is_laid_out_as_documented() {
    let head = Head::new(Kind::Invoke, 0x0403_0201).flags(Flags::WAITING).aux(0x0605);
    let bytes = encode(head, &[b"a", b"bc"], b"BODY");
    assert_eq!(bytes[..16], [8, 0, 0, 0, 2, 8, 5, 6, 1, 2, 3, 4, 4, 0, 0, 0]);
    assert_eq!(&bytes[16..], b"a\0bcBODY");
}

#[test]
fn frames_split_at_every_byte_are_the_same_frames() {
    let bytes = sample();
    let whole = decode_in_pieces(&bytes, bytes.len()).unwrap();
    assert_eq!(whole.len(), 3);
    assert_eq!(whole[0].head, Head::new(Kind::Reply, 7).flags(Flags::MORE).aux(418));
    assert_eq!(whole[0].meta(), b"content-type\0text/plain");
    assert_eq!(whole[0].body(), "short and stout");
    assert_eq!(whole[1].body_bytes().len(), 20_000);
    for split in 1..120 {
        let mut decoder = Decoder::new();
        let mut frames = Vec::new();
        for piece in [&bytes[..split], &bytes[split..]] {
            decoder.read_buffer().put_slice(piece);
            while let Some(frame) = decoder.next_frame().unwrap() {
                frames.push(frame);
            }
        }
        assert_eq!(frames, whole, "split at {split}");
    }
    assert_eq!(decode_in_pieces(&bytes, 1).unwrap(), whole);
}

#[test]
fn lengths_over_their_limits_are_refused_from_the_header_alone() {
    let header = |payload: u32, meta: u32| {
        let mut bytes = encode(Head::new(Kind::Reply, 1), &[], b"");
        bytes[..4].copy_from_slice(&payload.to_le_bytes());
        bytes[12..16].copy_from_slice(&meta.to_le_bytes());
        decode_in_pieces(&bytes, 16)
    };
    let body_max = BODY_BYTES_MAX as u32;
    assert_eq!(header(body_max + 1, 0), Err(FrameError::BodyTooLong { bytes: BODY_BYTES_MAX + 1 }));
    assert_eq!(header(u32::MAX, 0), Err(FrameError::BodyTooLong { bytes: u32::MAX as usize }));
    assert_eq!(header(5, 6), Err(FrameError::MetaBeyondPayload { meta: 6, payload: 5 }));
    let meta = META_BYTES_MAX as u32 + 1;
    assert_eq!(header(meta, meta), Err(FrameError::MetaTooLong { bytes: meta as usize }));
}

#[test]
fn an_unknown_kind_is_skipped_only_where_it_says_so() {
    let mut bytes = encode(Head::new(Kind::Log, 0).flags(Flags::SKIPPABLE), &[b"m"], b"new thing");
    bytes[4] = 0xf0;
    bytes.extend(encode(Head::new(Kind::Bye, 0), &[], b""));
    let frames = decode_in_pieces(&bytes, 3).unwrap();
    assert_eq!(frames.iter().map(|f| f.head.kind).collect::<Vec<_>>(), [Kind::Bye]);
    bytes[5] = 0;
    assert_eq!(decode_in_pieces(&bytes, 99), Err(FrameError::UnknownKind { kind: 0xf0 }));
}

#[test]
fn meta_fields_and_pairs() {
    assert_eq!(fields(b"").count(), 0);
    assert_eq!(fields(b"a\0\0b\0").collect::<Vec<_>>(), [&b"a"[..], b"", b"b", b""]);
    assert_eq!(pairs(b"a\0b\0c").collect::<Vec<_>>(), [Ok((&b"a"[..], &b"b"[..])), Err(MetaError)]);
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), piece in 1_usize..50) {
        let mut decoder = Decoder::new();
        'stream: for piece in bytes.chunks(piece) {
            decoder.read_buffer().put_slice(piece);
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => { let _ = (pairs(frame.meta()).count(), frame.body()); }
                    Ok(None) => break,
                    Err(_) => break 'stream,
                }
            }
        }
    }

    #[test]
    fn what_is_encoded_is_decoded(
        parts in proptest::collection::vec((any::<u32>(), any::<u16>(), "[a-z]{0,9}", proptest::collection::vec(any::<u8>(), 0..9_000)), 1..5),
        piece in 1_usize..10_000,
    ) {
        let mut bytes = Vec::new();
        for (call, aux, field, body) in &parts {
            bytes.extend(encode(Head::new(Kind::Reply, *call).aux(*aux), &[field.as_bytes()], body));
        }
        let frames = decode_in_pieces(&bytes, piece).unwrap();
        prop_assert_eq!(frames.len(), parts.len());
        for (frame, (call, aux, field, body)) in frames.iter().zip(&parts) {
            prop_assert_eq!((frame.head.call, frame.head.aux), (*call, *aux));
            prop_assert_eq!(frame.meta(), field.as_bytes());
            prop_assert_eq!(frame.body_bytes(), body.as_slice());
        }
    }
}
