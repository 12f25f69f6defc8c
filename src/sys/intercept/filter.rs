//! The filter, and putting it on. Runs in the child, before its ids change: allocates nothing.

use std::mem::offset_of;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;

use libc::{seccomp_data, sock_filter, sock_fprog};
use nix::errno::Errno;

/// The kernel's number for this machine's way of calling (linux/audit.h). Calls of another way, as of 32-bit programs,
/// go through untouched.
#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;
#[cfg(target_arch = "riscv64")]
const ARCH: u32 = 0xc000_00f3;
/// None: nothing is intercepted.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
const ARCH: u32 = 0;

/// The smallest address of the internet's families, `sockaddr_in`: netlink's is smaller.
const ADDRESS_MIN: u32 = 16;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const fn step(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Where a field of `seccomp_data` is. Of its arguments, which have 64 bits, the low half.
const fn at(offset: usize) -> u32 {
    (offset + if cfg!(target_endian = "big") { 4 } else { 0 }) as u32
}

/// And of one of its arguments.
const fn argument(number: usize) -> u32 {
    at(offset_of!(seccomp_data, args) + number * size_of::<u64>())
}

/// Holds `bind` of what may be an internet address, `listen`, and the question whether a socket listens. The call's
/// number is looked at first: most calls are none of these, and each pays for what it goes through.
static FILTER: [sock_filter; 14] = [
    step(LOAD, offset_of!(seccomp_data, nr) as u32, 0, 0),
    step(IF_EQUAL, libc::SYS_listen as u32, 8, 0),
    step(IF_EQUAL, libc::SYS_bind as u32, 5, 0),
    step(IF_EQUAL, libc::SYS_getsockopt as u32, 0, 9),
    step(LOAD, argument(1), 0, 0),
    step(IF_EQUAL, libc::SOL_SOCKET as u32, 0, 7),
    step(LOAD, argument(2), 0, 0),
    step(IF_EQUAL, libc::SO_ACCEPTCONN as u32, 2, 5),
    step(LOAD, argument(2), 0, 0),
    step(IF_AT_LEAST, ADDRESS_MIN, 0, 3),
    step(LOAD, offset_of!(seccomp_data, arch) as u32, 0, 0),
    step(IF_EQUAL, ARCH, 0, 1),
    step(RETURN, libc::SECCOMP_RET_USER_NOTIF, 0, 0),
    step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
];

/// Puts the filter on this process and all that it becomes, and returns the listener. Without CAP_SYS_ADMIN that takes
/// no_new_privs (seccomp(2)), which is set then if it may be.
///
/// # Errors
/// From seccomp(2): ENOSYS and EINVAL where the kernel is too old, EBUSY where a filter of ours has a listener already,
/// EACCES where it takes no_new_privs and may not have it.
pub(in crate::sys) fn install(may_drop_privs: bool) -> Result<OwnedFd, Errno> {
    let usual = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // From Linux 5.19: a signal that is handled does not make the program repeat a call that we have begun to do.
    let best = usual | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    match put_on(best) {
        Err(Errno::EACCES) if may_drop_privs => {
            crate::sys::spawn::no_new_privs()?;
            put_on(best).or_else(|errno| if errno == Errno::EINVAL { put_on(usual) } else { Err(errno) })
        }
        Err(Errno::EINVAL) => match put_on(usual) {
            Err(Errno::EACCES) if may_drop_privs => crate::sys::spawn::no_new_privs().and_then(|()| put_on(usual)),
            done => done,
        },
        done => done,
    }
}

fn put_on(flags: libc::c_ulong) -> Result<OwnedFd, Errno> {
    let program = sock_fprog { len: FILTER.len() as u16, filter: ptr::from_ref(&FILTER).cast_mut().cast() };
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: `program` names an array of that length; the kernel copies it and writes to neither.
    let fd = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) };
    let fd = RawFd::try_from(Errno::result(fd)?).map_err(|_| Errno::EOVERFLOW)?;
    // SAFETY: the kernel has just made this descriptor for us, close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
