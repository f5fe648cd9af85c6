use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use proptest::prelude::*;

use super::*;

const LIMIT: usize = 1 << 20;

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn snappy_raw(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).unwrap()
}

pub(crate) fn snappy_xerial(bytes: &[u8], block_len: usize) -> Vec<u8> {
    let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for block in bytes.chunks(block_len) {
        let block = snappy_raw(block);
        out.extend((block.len() as u32).to_be_bytes());
        out.extend(block);
    }
    out
}

pub(crate) fn lz4(bytes: &[u8], info: FrameInfo) -> Vec<u8> {
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zrip::compress(bytes, 1).unwrap()
}

/// Every frame the codec's writers make of the same bytes.
fn encodings(bytes: &[u8]) -> Vec<(&'static str, Codec, Vec<u8>)> {
    let independent = || FrameInfo::new().block_size(BlockSize::Max64KB);
    vec![
        ("gzip", Codec::Gzip, gzip(bytes)),
        ("gzip, two members", Codec::Gzip, {
            let (a, b) = bytes.split_at(bytes.len() / 2);
            [gzip(a), gzip(b)].concat()
        }),
        ("snappy raw", Codec::Snappy, snappy_raw(bytes)),
        ("snappy xerial", Codec::Snappy, snappy_xerial(bytes, 1000)),
        ("snappy xerial, two streams", Codec::Snappy, {
            let (a, b) = bytes.split_at(bytes.len() / 2);
            [snappy_xerial(a, 1000), snappy_xerial(b, 1000)].concat()
        }),
        ("lz4", Codec::Lz4, lz4(bytes, independent())),
        ("lz4 linked", Codec::Lz4, lz4(bytes, independent().block_mode(BlockMode::Linked))),
        ("lz4 with content size", Codec::Lz4, lz4(bytes, independent().content_size(Some(bytes.len() as u64)))),
        ("lz4 with checksums", Codec::Lz4, lz4(bytes, independent().block_checksums(true).content_checksum(true))),
        ("lz4 linked, all flags", Codec::Lz4, {
            let info = independent().block_mode(BlockMode::Linked).block_checksums(true).content_checksum(true);
            lz4(bytes, info.content_size(Some(bytes.len() as u64)))
        }),
        ("lz4, 4 MiB blocks", Codec::Lz4, lz4(bytes, FrameInfo::new().block_size(BlockSize::Max4MB))),
        ("lz4, two frames", Codec::Lz4, {
            let (a, b) = bytes.split_at(bytes.len() / 2);
            [lz4(a, independent().block_mode(BlockMode::Linked)), lz4(b, independent())].concat()
        }),
        ("lz4, old header checksum", Codec::Lz4, old_lz4(bytes)),
        ("zstd", Codec::Zstd, zstd(bytes)),
        ("zstd, two frames", Codec::Zstd, {
            let (a, b) = bytes.split_at(bytes.len() / 2);
            [zstd(a), zstd(b)].concat()
        }),
    ]
}

/// As Kafka's Java client wrote it before 0.10: the magic counts for the header's checksum.
fn old_lz4(bytes: &[u8]) -> Vec<u8> {
    let mut out = lz4(bytes, FrameInfo::new().block_size(BlockSize::Max64KB));
    let right = out[6];
    out[6] = lz4::header_checksum(&out[..6]);
    assert_ne!(out[6], right);
    out
}

/// Repeats within and across blocks, and does not compress to nothing.
fn sample(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 24
    };
    let mut bytes = Vec::new();
    while bytes.len() < len {
        match bytes.len().checked_sub(next() as usize * 200 + 50) {
            Some(back) if next() < 160 => bytes.extend_from_within(back..back + 40),
            _ => bytes.extend((0..30).map(|_| next() as u8)),
        }
    }
    bytes.truncate(len);
    bytes
}

fn decompress(codec: Codec, input: &[u8], limit: usize) -> Result<Bytes, DecompressError> {
    Codecs::new(limit).decompress(codec, input)
}

/// Decompresses into a buffer of its own, past the pool, which hides what was large: the result, and how much was allocated.
fn fill(limit: usize, run: impl FnOnce(&mut Output) -> Result<(), DecompressError>) -> (Result<(), DecompressError>, usize) {
    let mut output = Output { buffer: Vec::new(), len: 0, limit };
    let result = run(&mut output);
    (result, output.buffer.capacity())
}

#[test]
fn every_framing_round_trips() {
    let mut codecs = Codecs::new(LIMIT);
    for len in [0, 1, 12, 13, 999, 1000, 65_536, 65_537, 140_000] {
        let bytes = sample(len);
        for (name, codec, encoded) in encodings(&bytes) {
            let output = codecs.decompress(codec, &encoded).unwrap_or_else(|error| panic!("{name} of {len} bytes: {error:?}"));
            assert!(output == bytes, "{name} of {len} bytes");
        }
    }
}

#[test]
fn output_of_exactly_the_limit_passes_and_one_byte_more_is_refused() {
    let bytes = sample(100_000);
    for (name, codec, encoded) in encodings(&bytes) {
        assert!(decompress(codec, &encoded, bytes.len()).is_ok_and(|output| output == bytes), "{name}");
        let limit = bytes.len() - 1;
        assert_eq!(decompress(codec, &encoded, limit), Err(DecompressError::TooLarge { limit }), "{name}");
    }
}

#[test]
fn what_was_cut_off_is_an_error_at_every_byte() {
    let bytes = sample(800);
    let mut codecs = Codecs::new(LIMIT);
    for (name, codec, encoded) in encodings(&bytes) {
        for end in 1..encoded.len() {
            match codecs.decompress(codec, &encoded[..end]) {
                Err(DecompressError::Corrupt(_)) => {}
                Err(error) => panic!("{name} cut at {end}: {error:?}"),
                // Two of something are one of it when cut between them.
                Ok(output) => {
                    assert!(output.len() < bytes.len() && name.contains("two") || codec == Codec::Snappy, "{name} cut at {end}")
                }
            }
        }
    }
}

#[test]
fn trailing_garbage_is_an_error() {
    for (name, codec, mut encoded) in encodings(&sample(3000)) {
        encoded.extend(b"garbage");
        assert!(matches!(decompress(codec, &encoded, LIMIT), Err(DecompressError::Corrupt(_))), "{name}");
    }
}

#[test]
fn trap_4_a_gzip_bomb_is_refused_under_the_cap() {
    // 1 GiB in 2 MB at most: of members that end below the limit, or of such that pass it by themselves.
    for member_len in [1 << 16, 2 << 20] {
        let mut member = GzEncoder::new(Vec::new(), Compression::best());
        member.write_all(&vec![0; member_len]).unwrap();
        let bomb = member.finish().unwrap().repeat((1 << 30) / member_len);
        assert!(bomb.len() < 2 << 20, "1 GiB from {} bytes", bomb.len());
        let (result, allocated) = fill(LIMIT, |output| gzip::decompress(&bomb, output));
        assert_eq!(result, Err(DecompressError::TooLarge { limit: LIMIT }));
        assert!(allocated <= LIMIT);
    }
}

/// A gigabyte of zeros from some megabytes or less, in each codec, as tightly as its writers can.
fn bombs() -> [(&'static str, Codec, Vec<u8>); 6] {
    const BYTES: usize = 1 << 30;
    const PART: usize = 16 << 20;

    let zeros = vec![0; PART];
    let member = gzip_best(&zeros);
    let xerial = {
        let block = snappy_raw(&zeros);
        let block = [&(block.len() as u32).to_be_bytes()[..], &block].concat();
        [b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01", &block.repeat(BYTES / PART)[..]].concat()
    };
    [
        ("gzip", Codec::Gzip, member.repeat(BYTES / PART)),
        ("gzip in one member", Codec::Gzip, member),
        ("lz4", Codec::Lz4, lz4(&zeros, FrameInfo::new().block_size(BlockSize::Max4MB)).repeat(BYTES / PART)),
        ("snappy", Codec::Snappy, xerial),
        ("zstd", Codec::Zstd, zstd(&zeros).repeat(BYTES / PART)),
        ("zstd in one frame", Codec::Zstd, repeated_blocks(BYTES)),
    ]
}

/// The tightest there is in any codec: a frame of zstd whose blocks each say "this byte, 131,072 times", in four bytes (RFC 8878, 3.1.1.2).
fn repeated_blocks(bytes: usize) -> Vec<u8> {
    const BLOCK: usize = 1 << 17;
    let (magic, window_of_a_block) = (0xFD2F_B528_u32.to_le_bytes(), [0, 7 << 3]);
    let mut frame = [&magic[..], &window_of_a_block].concat();
    for block in 1..=bytes / BLOCK {
        let is_last = u32::from(block == bytes / BLOCK);
        frame.extend_from_slice(&((BLOCK as u32) << 3 | 1 << 1 | is_last).to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

#[test]
fn the_tightest_bomb_is_a_good_frame() {
    let bomb = repeated_blocks(1 << 30);
    assert!(bomb.len() < 33 << 10, "1 GiB from {} bytes", bomb.len());
    assert_eq!(decompress(Codec::Zstd, &repeated_blocks(1 << 20), 1 << 20), Ok(vec![0; 1 << 20].into()));
}

fn gzip_best(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// While a buffer grows its old half is still there; the decoders have some state besides.
#[test]
fn trap_4_a_bomb_of_each_codec_is_refused_within_twice_the_limit_of_memory() {
    for (name, codec, bomb) in bombs() {
        for limit in [64 << 10, 1 << 20, 15 << 20] {
            let mut refused = None;
            let held = allocation_counter::measure(|| refused = Some(decompress(codec, &bomb, limit))).bytes_max;
            assert_eq!(refused, Some(Err(DecompressError::TooLarge { limit })), "{name} of {} bytes", bomb.len());
            assert!(
                held <= (2 * limit + (1 << 20)) as u64,
                "{name} of {} bytes: {held} bytes for a limit of {limit}",
                bomb.len()
            );
        }
    }
}

/// What costs little to send and much to read: as many frames as fit, with nothing in them.
#[test]
fn many_frames_with_nothing_in_them_are_read_at_the_speed_of_their_bytes() {
    const INPUT_LEN: usize = 1 << 20;
    /// A hundred times what a fetch of so many bytes takes to arrive from a fast network, and in a debug build.
    const AT_MOST: std::time::Duration = std::time::Duration::from_secs(10);

    let skippable = [&0x184d_2a50_u32.to_le_bytes()[..], &[0; 4]].concat();
    for (name, codec, frame) in [
        ("gzip", Codec::Gzip, gzip(b"")),
        ("lz4", Codec::Lz4, lz4(b"", FrameInfo::new().block_size(BlockSize::Max4MB))),
        ("lz4, skippable", Codec::Lz4, skippable.clone()),
        ("snappy", Codec::Snappy, snappy_xerial(b"", 1)),
        ("zstd", Codec::Zstd, zstd(b"")),
        ("zstd, skippable", Codec::Zstd, skippable),
    ] {
        let last = match codec {
            Codec::Snappy => snappy_xerial(b"after all", 100),
            _ => encodings(b"after all").into_iter().find(|(_, of, _)| *of == codec).unwrap().2,
        };
        let input = [frame.repeat(INPUT_LEN / frame.len()), last].concat();
        #[expect(clippy::disallowed_methods, reason = "how long it really takes")]
        let started = std::time::Instant::now();
        assert_eq!(decompress(codec, &input, LIMIT).as_deref(), Ok(&b"after all"[..]), "{name}");
        println!("{name}: {:?}", started.elapsed());
        assert!(started.elapsed() < AT_MOST, "{name}: {:?}", started.elapsed());
    }
}

#[test]
fn trap_4_a_snappy_header_of_4_gib_allocates_nothing() {
    let mut decoder = snap::raw::Decoder::new();
    let mut bytes = vec![0xff, 0xff, 0xff, 0xff, 0x0f];
    bytes.extend([0; 63]);
    let (result, allocated) = fill(i32::MAX as usize, |output| snappy::decompress(&mut decoder, &bytes, output));
    assert_eq!((result, allocated), (Err(DecompressError::TooLarge { limit: i32::MAX as usize }), 0));
    // One GiB is within the limit, but not within what 68 bytes can make.
    bytes[..5].copy_from_slice(&[0x80, 0x80, 0x80, 0x80, 0x04]);
    let (result, allocated) = fill(i32::MAX as usize, |output| snappy::decompress(&mut decoder, &bytes, output));
    let error = DecompressError::Corrupt("states more output than its input can make".into());
    assert_eq!((result, allocated), (Err(error), 0));
}

#[test]
fn trap_4_a_zstd_frame_lying_about_its_content_size_reserves_little() {
    // Magic; single segment with an 8 byte content size; one raw block of 5 bytes, the last.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0b1110_0000];
    frame.extend((60u64 << 20).to_le_bytes());
    frame.extend([5 << 3 | 1, 0, 0]);
    frame.extend(b"hello");
    let mut context = zrip::DecompressContext::new();
    let (result, allocated) = fill(64 << 20, |output| zstd::decompress(&mut context, &frame, output));
    assert_eq!(result, Err(DecompressError::Corrupt("states more output than its input can make".into())));
    assert!(allocated < 1 << 20, "{allocated}");
}

#[test]
fn trap_4_a_zstd_window_of_2_gib_takes_no_memory() {
    // Magic; no content size; a window of 2 GiB; one raw block of 5 bytes, the last.
    let frame = [&[0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 5 << 3 | 1, 0, 0][..], b"hello"].concat();
    let mut read = None;
    let held = allocation_counter::measure(|| read = Some(decompress(Codec::Zstd, &frame, 64 << 20))).bytes_max;
    assert!(held < 2 << 20, "{held} bytes for {read:?}");
}

#[test]
fn trap_4_an_lz4_block_cannot_take_more_than_its_bytes_can_make() {
    // A frame that allows blocks of 4 MiB, with one block of three bytes.
    let mut frame = vec![0x04, 0x22, 0x4d, 0x18, 0b0110_0000, 0x70];
    frame.push(lz4::header_checksum(&frame[4..]));
    frame.extend([3, 0, 0, 0, 0x2f, b'a', b'b']);
    frame.extend([0; 4]);
    let (result, allocated) = fill(64 << 20, |output| lz4::decompress(&frame, output));
    assert_eq!(result, Ok(()));
    assert!(allocated < 4096, "{allocated}");
    // A block longer than its frame's maximum is refused before it is read.
    frame[7..11].copy_from_slice(&[0xff, 0xff, 0xff, 0x7f]);
    let (result, allocated) = fill(64 << 20, |output| lz4::decompress(&frame, output));
    assert_eq!((result, allocated), (Err(DecompressError::Corrupt("block longer than its frame allows".into())), 0));
}

#[test]
fn trap_4_an_lz4_bomb_is_refused_under_the_cap() {
    let bomb = lz4(&vec![0; 16 << 20], FrameInfo::new().block_size(BlockSize::Max4MB));
    assert!(bomb.len() < 80_000);
    assert_eq!(decompress(Codec::Lz4, &bomb, LIMIT), Err(DecompressError::TooLarge { limit: LIMIT }));
}

#[test]
fn trap_14_lz4_blocks_that_depend_on_the_block_before() {
    // Random bytes twice: only a block that looks back into the one before can compress them.
    let once: Vec<u8> = (0..60_000u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u8).collect();
    let bytes = [once.clone(), once].concat();
    let linked = lz4(&bytes, FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Linked));
    assert!(linked.len() < 70_000, "{} bytes: not linked", linked.len());
    assert_eq!(decompress(Codec::Lz4, &linked, LIMIT).unwrap(), bytes);
}

#[test]
fn each_lz4_checksum_is_verified() {
    let bytes = sample(2000);
    let good = lz4(&bytes, FrameInfo::new().block_size(BlockSize::Max64KB).block_checksums(true).content_checksum(true));
    let corrupt = |at: usize| {
        let mut bad = good.clone();
        bad[at] ^= 1;
        decompress(Codec::Lz4, &bad, LIMIT).unwrap_err()
    };
    let what = |what: &str| DecompressError::Corrupt(what.into());
    assert_eq!(corrupt(6), what("wrong header checksum"));
    assert_eq!(corrupt(20), what("wrong block checksum"));
    assert_eq!(corrupt(good.len() - 1), what("wrong content checksum"));
}

#[test]
fn xxh32_gives_the_reference_values() {
    for (input, sum) in
        [("", 0x02cc_5d05), ("a", 0x550d_7456), ("abc", 0x32d1_53ff), ("Nobody inspects the spammish repetition", 0xe229_3b2f)]
    {
        assert_eq!(lz4::xxh32(input.as_bytes()), sum, "{input:?}");
    }
}

#[test]
fn a_dropped_output_is_filled_again_and_a_held_one_is_not() {
    let mut codecs = Codecs::new(LIMIT);
    let (a, b) = (gzip(&[b'a'; 5000]), gzip(&[b'b'; 100]));
    let first = codecs.decompress(Codec::Gzip, &a).unwrap();
    let held = first.slice(10..20);
    let place = first.as_ptr();
    drop(first);
    let second = codecs.decompress(Codec::Gzip, &b).unwrap();
    assert_ne!(second.as_ptr(), place);
    assert_eq!(held, [b'a'; 10].as_slice());
    drop((held, second));
    let third = codecs.decompress(Codec::Gzip, &b).unwrap();
    assert_eq!(third, [b'b'; 100].as_slice(), "nothing of the former use shows");
    let fourth = codecs.decompress(Codec::Gzip, &b).unwrap();
    assert!([third.as_ptr(), fourth.as_ptr()].contains(&place), "the first buffer is in use again");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_input_panics(mut bytes: Vec<u8>, flips in prop::collection::vec((any::<usize>(), any::<u8>()), 0..4), len in 0..1000usize) {
        let mut codecs = Codecs::new(10_000);
        for (_, codec, mut encoded) in encodings(&sample(len)) {
            for &(at, mask) in &flips {
                let at = at % encoded.len();
                encoded[at] ^= mask;
            }
            if let Ok(output) = codecs.decompress(codec, &encoded) {
                prop_assert!(output.len() <= 10_000);
            }
            let _ = codecs.decompress(codec, &bytes);
        }
        bytes.splice(0..0, [0x04, 0x22, 0x4d, 0x18, 0b0100_0000, 0x40, 0xc0]);
        let _ = codecs.decompress(Codec::Lz4, &bytes);
    }
}
