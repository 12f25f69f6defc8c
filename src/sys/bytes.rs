//! Searches for a byte with the C library's functions, which use the widest instructions of the machine whatever a build is
//! optimised for; the standard library's own search is not public. Everything that apps write goes through here.

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

#[cfg(test)]
mod tests {
    use super::*;

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
