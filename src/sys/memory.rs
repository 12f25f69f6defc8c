//! Giving memory back when there is time. Work leaves free heap, touched stack and text that was run once; an init
//! that then sleeps for years should not keep them. Nothing depends on it, so nothing here fails.

use nix::errno::Errno;

/// To be called first. glibc keeps freed pieces for the thread that freed them, up to seven of each of 64 sizes; nobody
/// else can use those, and no trimming gives their pages back. So the main thread does without: what glibc does at the
/// end of a thread gives back what it has kept, and makes it keep nothing from then on.
pub fn keep_no_cache() {
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    {
        unsafe extern "C" {
            /// Since glibc 2.28, where it is hidden in the static library: the linker would miss it.
            fn __malloc_arena_thread_freeres();
        }
        // SAFETY: it takes nothing, and a thread that is about to end may still use its heap after this.
        unsafe { __malloc_arena_thread_freeres() };
    }
}

/// Returns what work has left behind: free pages of the heap (malloc_trim(3)) and of the stack.
pub fn trim() {
    trim_heap();
    trim_stack();
}

#[cfg(target_env = "gnu")]
fn trim_heap() {
    // SAFETY: malloc_trim takes a number and changes only what nobody uses.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries give free memory back by themselves.
#[cfg(not(target_env = "gnu"))]
fn trim_heap() {}

/// Pages are at most this large on the machines that pm3 is built for.
const PAGE: usize = 1 << 16;

/// What lies further below the stack's top than deep calls ever reach. The kernel keeps a megabyte below a stack free
/// of other mappings, so this much is the stack's or nobody's.
const DEEP: usize = 8 * PAGE;

#[inline(never)]
fn trim_stack() {
    let here = 0u8;
    // Well below this frame and those of the call.
    let end = ((&raw const here) as usize).saturating_sub(4096) & !4095;
    discard(end.saturating_sub(DEEP), end);
}

unsafe extern "C" {
    /// Where the program begins in memory, and where its text ends; set by the linker.
    safe static __executable_start: u8;
    safe static etext: u8;
}

/// Drops the program's own text and constants; the kernel has them in its cache, and what is needed comes back page by
/// page. Never what relocation or the program writes to: that would come back as it is in the file.
pub fn drop_text() {
    let start = (&raw const __executable_start) as usize;
    let end = (&raw const etext) as usize & !(PAGE - 1);
    discard(start, end);
}

/// Tells the kernel that the contents of whole pages in this range are not needed.
fn discard(start: usize, end: usize) {
    if let Some(length) = end.checked_sub(start).filter(|length| *length > 0) {
        let start = std::ptr::with_exposed_provenance_mut(start);
        // SAFETY: only called for stack below every live frame, and for unwritten pages of the program's file, which
        // read the same again.
        let _ = Errno::result(unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) });
    }
}
