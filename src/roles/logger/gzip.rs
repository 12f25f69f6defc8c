//! A stream of bytes to a gzip file (RFC 1952) of it: a head, deflate's blocks, and at the end a sum and a length by which
//! whoever reads it knows that it is whole. The blocks are miniz_oxide's work; the frame is here.

use std::io::{self, ErrorKind, Read, Write};

use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress, create_comp_flags_from_zip_params,
};

/// Bytes that are read and written at once.
const PIECE: usize = 64 << 10;

/// Deflate, without a name and a time: both are the file's own. From an unknown system.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// gzip's own level, and blocks without a frame.
const FLAGS: u32 = create_comp_flags_from_zip_params(6, 0, 0);

/// The polynomial, its bits from behind, and what each byte makes of a sum (RFC 1952, 8).
const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut sum, mut bit) = (byte as u32, 0);
        while bit < 8 {
            sum = if sum & 1 == 1 { 0xedb8_8320 ^ (sum >> 1) } else { sum >> 1 };
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
};

/// Compresses all there is, and says how many bytes that were.
///
/// # Errors
/// Of reading and of writing.
pub(super) fn gzip(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<u64> {
    let mut deflate = Box::new(CompressorOxide::new(FLAGS));
    let (mut piece, mut out) = (vec![0; PIECE], vec![0; PIECE]);
    let (mut count, mut sum) = (0, u32::MAX);
    to.write_all(&HEAD)?;
    loop {
        let length = match from.read(&mut piece) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        let mut rest = piece.get(..length).unwrap_or_default();
        (count, sum) = (count + length as u64, added(sum, rest));
        let flush = if length == 0 { TDEFLFlush::Finish } else { TDEFLFlush::None };
        while !rest.is_empty() || length == 0 {
            let (status, taken, made) = compress(&mut deflate, rest, &mut out, flush);
            rest = rest.get(taken..).unwrap_or_default();
            to.write_all(out.get(..made).unwrap_or_default())?;
            match status {
                TDEFLStatus::Okay => {}
                TDEFLStatus::Done => {
                    to.write_all(&(!sum).to_le_bytes())?;
                    // Its lower half, as the format has it.
                    to.write_all(&(count as u32).to_le_bytes())?;
                    return Ok(count);
                }
                TDEFLStatus::BadParam | TDEFLStatus::PutBufFailed => {
                    return Err(io::Error::other("cannot be deflated"));
                }
            }
        }
    }
}

fn added(sum: u32, bytes: &[u8]) -> u32 {
    let add = |sum: u32, byte: &u8| CRC.get(usize::from(sum as u8 ^ byte)).copied().unwrap_or_default() ^ (sum >> 8);
    bytes.iter().fold(sum, add)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn the_sum_is_everybodys() {
        assert_eq!(!added(u32::MAX, b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn what_is_compressed_is_what_it_was() {
        let mut random = 1u64;
        let mut byte = |most: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((random >> 33) % most) as u8
        };
        for (length, kinds) in
            [(0, 1), (1, 256), (PIECE - 1, 3), (PIECE, 256), (PIECE + 1, 2), (300_000, 256), (900_000, 9)]
        {
            let bytes: Vec<u8> = (0..length).map(|_| byte(kinds)).collect();
            let mut made = Vec::new();
            assert_eq!(gzip(&mut &*bytes, &mut made).unwrap(), length as u64);
            let mut back = Vec::new();
            // It checks the sum and the length, too.
            GzDecoder::new(&*made).read_to_end(&mut back).unwrap();
            assert!(back == bytes, "{length} {kinds}");
            assert!(made.len() <= length + length / 1_000 + 64 && (kinds > 9 || made.len() <= length / 2 + 64));
        }
    }
}
