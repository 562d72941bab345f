use flate2::Compression;
use proptest::prelude::*;

use super::headers::{dictionary, stored};
use super::testing::{open, text};
use super::*;

fn frames(decoder: &mut Decoder, bytes: &[u8]) -> Result<Vec<Frame>, Error> {
    decoder.push(bytes);
    std::iter::from_fn(|| decoder.next().transpose()).collect()
}

/// Compresses as a client does that knows the dictionary: what repeats it refers to it.
struct Deflater(flate2::Compress, bool);

impl Deflater {
    fn new() -> Self {
        let mut raw = flate2::Compress::new(Compression::best(), false);
        let mut out = Vec::with_capacity(4096);
        raw.compress_vec(&dictionary(), &mut out, flate2::FlushCompress::Sync).unwrap();
        Self(raw, false)
    }

    fn block(&mut self, pairs: &[(&str, &str)]) -> Bytes {
        let mut block = Vec::with_capacity(1 << 16);
        self.0.compress_vec(&text(pairs), &mut block, flate2::FlushCompress::Sync).unwrap();
        if !std::mem::replace(&mut self.1, true) {
            // As kubectl does, with the most effort.
            block.splice(0..0, [0x78, 0xf9, 0xe3, 0xc6, 0xa7, 0xc2]);
        }
        block.into()
    }
}

#[test]
fn the_dictionary_is_the_protocols() {
    // The checksum that a stream names, by Adler's method.
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in dictionary() {
        a = (a + u32::from(byte)) % 65521;
        b = (b + a) % 65521;
    }
    assert_eq!(b << 16 | a, 0xe3c6_a7c2);
}

#[test]
fn headers_refer_to_the_dictionary_and_to_each_other() {
    let (mut deflater, mut inflater) = (Deflater::new(), Inflater::default());
    for id in ["0", "1", "2"] {
        let pairs = [("streamtype", "error"), ("port", "8080"), ("requestid", id), ("content-type", "text/plain")];
        let block = deflater.block(&pairs);
        if id != "0" {
            assert!(block.len() < 40, "what was sent before is referred to: {}", block.len());
        }
        let expected = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(inflater.read(&block).unwrap(), expected);
    }
}

#[test]
fn what_is_sent_can_be_read() {
    let (mut headers, mut inflater) = (Headers::default(), Inflater::default());
    for _ in 0..3 {
        let block = headers.none();
        assert!(block.ends_with(&[0, 0, 0, 0xff, 0xff]), "kubectl reads no further than to a flush");
        assert_eq!(inflater.read(&block.clone().into()).unwrap(), []);
        let read = frames(&mut Decoder::default(), &reply(5, &block)).unwrap();
        assert_eq!(read, [Frame::Headers { block: block.into() }]);
    }
    let sent = [data(1, b"abc", true), ping(9), reset(3, Reset::Refused), data(1, b"", true)].concat();
    let expected = [
        Frame::Data { id: 1, bytes: "abc".into(), fin: true },
        Frame::Ping { id: 9 },
        Frame::Reset { id: 3 },
        Frame::Data { id: 1, bytes: Bytes::new(), fin: true },
    ];
    assert_eq!(frames(&mut Decoder::default(), &sent).unwrap(), expected);
}

#[test]
fn long_data_comes_in_pieces() {
    let mut decoder = Decoder::default();
    let frame = data(7, &[b'x'; 100], true);
    let mut sum = 0;
    for piece in frame.chunks(30) {
        for frame in frames(&mut decoder, piece).unwrap() {
            let Frame::Data { id: 7, bytes, fin } = frame else { panic!("{frame:?}") };
            sum += bytes.len();
            assert_eq!(fin, sum == 100, "the last piece ends it");
        }
    }
    assert_eq!(sum, 100);
}

#[test]
fn streams_are_opened() {
    let block = Deflater::new().block(&[("port", "1")]);
    let read = {
        let mut frame = open(3, &block).to_vec();
        frame[4] = FIN;
        frames(&mut Decoder::default(), &frame).unwrap()
    };
    assert_eq!(read, [Frame::Open { id: 3, block, fin: true }]);
}

#[test]
fn what_breaks_the_protocol_is_refused() {
    let long = {
        let mut frame = control_frame(SYN_STREAM, &[]).to_vec();
        frame[5] = 1;
        frame
    };
    for (frame, expected) in [
        (long, Error::TooLong(1 << 16)),
        (vec![0x80, 2, 0, 1, 0, 0, 0, 0], Error::Version(2)),
        (control_frame(SYN_STREAM, &[0; 9]).to_vec(), Error::TooShort),
        (control_frame(PING, &[0; 3]).to_vec(), Error::TooShort),
    ] {
        assert_eq!(frames(&mut Decoder::default(), &frame), Err(expected));
    }
    assert!(Inflater::default().read(&Bytes::from_static(b"\x78\x9c")).is_err());
    // A small block that becomes a large one.
    let large = "x".repeat(100_000);
    let block = Deflater::new().block(&[("a", &large)]);
    assert_eq!(Inflater::default().read(&block), Err(Error::Headers("they are too long")));
    let mut lies = Vec::new();
    lies.put_u32(u32::MAX);
    let lies = [&[0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2], stored(&lies).as_slice()].concat();
    assert_eq!(Inflater::default().read(&lies.into()), Err(Error::Headers("they end too early")));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_hoard(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20)) {
        let (mut decoder, mut inflater) = (Decoder::default(), Inflater::default());
        for piece in pieces {
            let Ok(read) = frames(&mut decoder, &piece) else { return Ok(()) };
            for frame in read {
                if let Frame::Open { block, .. } | Frame::Headers { block } = frame {
                    let _ = inflater.read(&block);
                }
            }
            prop_assert!(decoder.read.len() < HEAD + CONTROL_MAX + 300);
        }
    }

    #[test]
    fn no_headers_make_it_panic(text in proptest::collection::vec(any::<u8>(), 0..200), raw in proptest::collection::vec(any::<u8>(), 0..200)) {
        let beginning = [0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2];
        let mut inflater = Inflater::default();
        let _ = inflater.read(&[beginning.as_slice(), &stored(&text)].concat().into());
        let _ = inflater.read(&raw.into());
    }

    #[test]
    fn frames_survive_being_cut(cut in 1_usize..50, lengths in proptest::collection::vec(0_usize..200, 1..10)) {
        let sent: Vec<u8> = lengths.iter().flat_map(|length| data(1, &vec![7; *length], false)).collect();
        let mut decoder = Decoder::default();
        let mut sum = 0;
        for piece in sent.chunks(cut) {
            for frame in frames(&mut decoder, piece).unwrap() {
                if let Frame::Data { bytes, .. } = frame {
                    sum += bytes.len();
                }
            }
        }
        prop_assert_eq!(sum, lengths.iter().sum::<usize>());
    }
}
