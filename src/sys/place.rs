//! Where pm3 stands among processes: first of its pid namespace or not, and what follows from that.

use std::ffi::{CStr, CString, c_char, c_ulong};
use std::os::linux::fs::MetadataExt;
use std::{fs, io, process};

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::supervisor::event::Sig;

/// Whether we are the first process of our pid namespace: orphans come to us, and our end is everyone's.
pub fn is_pid_1() -> bool {
    process::id() == 1
}

/// Asks for `sig` when our parent dies (PR_SET_PDEATHSIG, prctl(2)). True: it died before this could be asked.
pub fn follow_parent(sig: Sig) -> bool {
    let none: c_ulong = 0;
    let parent = Pid::parent();
    // SAFETY: PR_SET_PDEATHSIG takes numbers. It cannot fail with a valid signal.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, c_ulong::from(sig.0), none, none, none) };
    Pid::parent() != parent
}

/// The environment that we were given, `NAME=value` as the kernel has it.
pub fn environment() -> Vec<CString> {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: pm3 never changes its environment.
    let first = unsafe { environ };
    let entry = |at| {
        // SAFETY: the array ends with a null pointer, and nobody reads behind it: see `map_while`.
        let entry = unsafe { *first.add(at) };
        // SAFETY: every other entry is a C string.
        (!entry.is_null()).then(|| unsafe { CStr::from_ptr(entry) }.to_owned())
    };
    if first.is_null() { Vec::new() } else { (0..).map_while(entry).collect() }
}

/// Leaves the directory that we were started in, so that it can be unmounted. Best effort: we may not enter `/`.
pub fn leave_directory() {
    let _ = nix::unistd::chdir("/");
}

/// Makes orphaned descendants our children, which a PID 1 has anyway (PR_SET_CHILD_SUBREAPER, prctl(2)).
pub fn become_subreaper() -> io::Result<()> {
    let yes: c_ulong = 1;
    let none: c_ulong = 0;
    // SAFETY: PR_SET_CHILD_SUBREAPER takes numbers.
    let done = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, yes, none, none, none) };
    Ok(Errno::result(done).map(drop)?)
}

/// The inode of our pid namespace, which names it on this machine (namespaces(7)). None without /proc.
pub fn pid_namespace() -> Option<u64> {
    fs::metadata("/proc/self/ns/pid").ok().map(|file| file.st_ino())
}

/// Whose files and sockets are ours: the effective uid.
pub fn uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// The uid of our pid namespace's PID 1; None where /proc is missing or hides it (`hidepid`, proc(5)).
pub fn init_uid() -> Option<u32> {
    fs::metadata("/proc/1").ok().map(|init| init.st_uid())
}

/// Whether /proc is there and shows our own pid namespace; another one's pids would be other processes.
pub fn has_own_proc() -> bool {
    fs::read_link("/proc/self").is_ok_and(|own| own.to_str() == Some(&process::id().to_string()))
}
