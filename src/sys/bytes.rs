//! Searches of bytes that use what the machine has for many at once, whatever a build is optimised for: for one byte with
//! the C library's functions, as the standard library's own search is not public, and else sixteen at a time. Everything
//! that apps write goes through here.

/// Where the first one is.
#[must_use]
pub fn find(byte: u8, bytes: &[u8]) -> Option<usize> {
    // SAFETY: memchr(3) reads no more than the bytes of the slice.
    let found = unsafe { libc::memchr(bytes.as_ptr().cast(), byte.into(), bytes.len()) };
    offset(found, bytes)
}

/// Where the last one is.
#[must_use]
pub fn find_last(byte: u8, bytes: &[u8]) -> Option<usize> {
    // SAFETY: memrchr(3) reads no more than the bytes of the slice.
    let found = unsafe { libc::memrchr(bytes.as_ptr().cast(), byte.into(), bytes.len()) };
    offset(found, bytes)
}

fn offset(found: *mut libc::c_void, bytes: &[u8]) -> Option<usize> {
    (!found.is_null()).then(|| found.addr() - bytes.as_ptr().addr())
}

/// Where the first one is that does not stand for itself in a text of JSON (RFC 8259 §7): a quote, a backslash, or one below
/// a blank.
#[must_use]
pub fn find_special(bytes: &[u8]) -> Option<usize> {
    let (blocks, tail) = bytes.as_chunks();
    for (at, block) in blocks.iter().enumerate() {
        if let Some(found) = special(block) {
            return Some(at * BLOCK + found);
        }
    }
    match bytes.last_chunk() {
        // With some that have been looked at, where there was none.
        Some(last) => special(last).map(|found| bytes.len() - BLOCK + found),
        None => tail.iter().position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\')),
    }
}

/// Whether all are characters of ASCII.
#[must_use]
pub fn are_ascii(bytes: &[u8]) -> bool {
    let (blocks, tail) = bytes.as_chunks();
    blocks.iter().all(is_ascii) && tail.is_ascii()
}

/// So many are looked at together.
const BLOCK: usize = 16;

#[cfg(target_arch = "x86_64")]
fn is_ascii(block: &[u8; BLOCK]) -> bool {
    // SAFETY: every x86-64 has SSE2.
    unsafe { sse2::high_bits(block) == 0 }
}

#[cfg(target_arch = "x86_64")]
fn special(block: &[u8; BLOCK]) -> Option<usize> {
    // SAFETY: every x86-64 has SSE2.
    let found = unsafe { sse2::specials(block) };
    (found != 0).then(|| found.trailing_zeros() as usize)
}

/// A bit for each byte.
#[cfg(target_arch = "x86_64")]
mod sse2 {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
    };

    use super::BLOCK;

    #[target_feature(enable = "sse2")]
    fn load(block: &[u8; BLOCK]) -> __m128i {
        // SAFETY: it reads sixteen bytes, wherever they lie.
        unsafe { _mm_loadu_si128(block.as_ptr().cast()) }
    }

    #[target_feature(enable = "sse2")]
    pub(super) fn high_bits(block: &[u8; BLOCK]) -> i32 {
        _mm_movemask_epi8(load(block))
    }

    #[target_feature(enable = "sse2")]
    pub(super) fn specials(block: &[u8; BLOCK]) -> i32 {
        let bytes = load(block);
        let quotes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x22));
        let backslashes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x5c));
        // The less of it and the highest below a blank is itself.
        let low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
        _mm_movemask_epi8(_mm_or_si128(low, _mm_or_si128(quotes, backslashes)))
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn is_ascii(block: &[u8; BLOCK]) -> bool {
    u128::from_le_bytes(*block) & (EACH * 0x80) == 0
}

#[cfg(not(target_arch = "x86_64"))]
const EACH: u128 = u128::from_le_bytes([1; BLOCK]);

/// A byte that is less than what is taken from it borrows, which sets its high bit, and the lowest one that is set is right
/// (Warren, Hacker's Delight, 6-1).
#[cfg(not(target_arch = "x86_64"))]
fn special(block: &[u8; BLOCK]) -> Option<usize> {
    let block = u128::from_le_bytes(*block);
    // With this bit turned a quote comes just behind those below a blank, and the blank goes away from there.
    let low_or_quote = (block ^ (EACH * 0x02)).wrapping_sub(EACH * 0x21);
    let backslash = (block ^ (EACH * 0x5c)).wrapping_sub(EACH);
    let found = (low_or_quote | backslash) & !block & (EACH * 0x80);
    (found != 0).then(|| found.trailing_zeros() as usize / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_special_is_found_wherever_it_is() {
        for byte in 0..=255 {
            let is_special = matches!(byte, 0..0x20 | b'"' | b'\\');
            for length in [1, 8, 15, 16, 17, 40] {
                for at in 0..length {
                    let mut bytes = vec![b'x'; length];
                    bytes[at] = byte;
                    assert_eq!(find_special(&bytes), is_special.then_some(at), "{byte:#x} at {at} of {length}");
                    assert_eq!(are_ascii(&bytes), byte < 0x80, "{byte:#x} at {at} of {length}");
                    // What follows it changes nothing.
                    bytes[at..].fill(byte);
                    assert_eq!(find_special(&bytes), is_special.then_some(at), "{byte:#x} from {at} to {length}");
                }
            }
        }
        assert_eq!((find_special(b""), are_ascii(b"")), (None, true));
    }

    #[test]
    fn the_first_and_the_last_are_found_wherever_they_are() {
        for length in 0..100 {
            let mut bytes = vec![b'x'; length];
            assert_eq!((find(b'\n', &bytes), find_last(b'\n', &bytes)), (None, None));
            for at in 0..length {
                bytes[at] = b'\n';
                assert_eq!((find(b'\n', &bytes), find_last(b'\n', &bytes)), (Some(0), Some(at)));
                assert_eq!(find(b'\n', &bytes[at..]), Some(0));
            }
        }
    }
}
