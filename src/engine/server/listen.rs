//! Opens the places where the control socket is: a file that a dead pm3 left behind is replaced, a living pm3 is left
//! alone. None of it waits: a pm3 that is stopped would never answer.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};

use mio::net::{UnixListener, UnixStream};

use crate::control::place::{Address, DIRECTORY_MODE};
use crate::sys::socket::{self, Owner, Peer};
use crate::sys::{self, dirs};

/// A place that is open for clients.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: UnixListener,
    file: Option<SocketFile>,
}

/// The name of a socket in the file system.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Held for as long as the socket is ours: of two pm3 that start at the same moment, one gets it.
    _lock: File,
}

impl Listener {
    /// Listens at `address`; `group` may use it too.
    ///
    /// # Errors
    /// [`ErrorKind::AddrInUse`]: another pm3 is running there. Else what the step that failed says.
    pub(super) fn open(address: &Address, group: Option<u32>) -> io::Result<Listener> {
        match address {
            Address::Abstract(name) => {
                let socket = match UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?) {
                    Err(error) if error.kind() == ErrorKind::AddrInUse => return Err(taken(address)),
                    other => other.map_err(at("bind"))?,
                };
                Ok(Listener { socket, file: None })
            }
            Address::Path(path) => {
                make_directory(path)?;
                let Some(lock) = lock(path)? else { return Err(taken(address)) };
                remove_stale(path, address)?;
                // Each connection is checked as well.
                let mode = if group.is_some() { 0o660 } else { 0o600 };
                let owner = Owner { uid: None, gid: group };
                let socket =
                    UnixListener::from_std(socket::listen_at(path, mode, owner, socket::BACKLOG).map_err(at("bind"))?);
                Ok(Listener { socket, file: Some(SocketFile { path: path.clone(), _lock: lock }) })
            }
        }
    }

    /// Takes the socket's name away. Whoever connected stays connected.
    pub(super) fn remove(&self) {
        if let Some(file) = &self.file {
            // Nothing to be done if it fails: the next pm3 replaces it.
            let _ = fs::remove_file(&file.path);
        }
    }
}

/// Puts the step that failed in front of what failed. What is no errno says all there is to say.
fn at(step: &'static str) -> impl Fn(io::Error) -> io::Error {
    move |error| match error.raw_os_error() {
        Some(errno) => io::Error::new(error.kind(), format!("{step}: {}", sys::why(errno))),
        None => error,
    }
}

fn taken(address: &Address) -> io::Error {
    let pid = listener_of(address).map_or(0, |peer| peer.pid);
    // One that is only starting, is stopped, or lives in another container, has no pid that could be told.
    let who = if pid == 0 { "pm3 runs there already".to_owned() } else { format!("pm3 runs there already, pid {pid}") };
    io::Error::new(ErrorKind::AddrInUse, who)
}

/// Who listens at a place. None: nobody, or nobody who can be asked without waiting.
pub(super) fn listener_of(address: &Address) -> Option<Peer> {
    let stream = match address {
        Address::Abstract(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name).ok()?),
        Address::Path(path) => UnixStream::connect(path),
    };
    socket::peer(stream.ok()?).ok()
}

fn make_directory(path: &Path) -> io::Result<()> {
    match path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        Some(directory) => dirs::make(directory, DIRECTORY_MODE).map_err(at("mkdir")),
        None => Ok(()),
    }
}

/// Takes the lock beside the socket; None: another pm3 has it. Its file stays for good: removing it would let two hold "the" lock.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = dirs::open_lock(Path::new(&name)).map_err(at("lock file"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(at("lock")(error)),
    }
}

/// Makes room for our socket. The lock says that no other pm3 of this place lives, unless someone removed its file.
fn remove_stale(path: &Path, address: &Address) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at("stat")(error)),
        Ok(there) if !there.file_type().is_socket() => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(at("unlink")),
        // Accepted, or a queue that is full: someone is there.
        _ => Err(taken(address)),
    }
}
