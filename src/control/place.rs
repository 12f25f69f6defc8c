//! Where the control socket is. Pure: the facts are passed in, the lists come out; nobody connects or creates here.
//!
//! The server takes the first path that it can create, the client the first that it can connect to:
//!
//! 1. `--socket`, a path or `@name`: named by hand, so nothing else is tried.
//! 2. `$PM3_HOME/control.sock` (for the server also `[pm3] runtime_dir`): nothing after 3 is tried, so that a
//!    command meant for one pm3 does not reach another.
//! 3. The abstract name `@pm3/<uid>/<inode of /proc/self/ns/pid>`, which PID 1 always offers: one place for clients
//!    of any uid and any `$HOME`, and for a read-only root. Pods share abstract names but not that inode.
//! 4. For root `/run/pm3`; for others `$XDG_RUNTIME_DIR/pm3`, then `~/.pm3`.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// The socket's name in its directory.
pub const SOCKET: &str = "control.sock";

/// The directory: anyone may look for the socket's name, none may list it.
pub const DIRECTORY_MODE: u32 = 0o711;

/// An address of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A name without a file (unix(7)), without its leading NUL.
    Abstract(String),
    Path(PathBuf),
}

impl Address {
    /// As given by `--socket`: a path, or `@` and a name.
    pub fn parse(text: &Path) -> Address {
        match text.to_str().and_then(|text| text.strip_prefix('@')) {
            Some(name) => Address::Abstract(name.into()),
            None => Address::Path(text.into()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Abstract(name) => write!(f, "@{name}"),
            Address::Path(path) => path.display().fmt(f),
        }
    }
}

/// What the places depend on.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The effective uid of this process.
    pub uid: u32,
    /// Inode of `/proc/self/ns/pid`; None without a `/proc`, and then without an abstract name.
    pub pid_namespace: Option<u64>,
    /// `--socket`.
    pub socket: Option<PathBuf>,
    /// `$PM3_HOME`, `$XDG_RUNTIME_DIR` and `$HOME`; an empty or relative one counts as not set.
    pub pm3_home: Option<PathBuf>,
    pub xdg_runtime_dir: Option<PathBuf>,
    pub home: Option<PathBuf>,
}

impl Facts {
    /// `variable` reads the environment.
    pub fn new(
        uid: u32,
        pid_namespace: Option<u64>,
        socket: Option<PathBuf>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Facts {
        let directory = |name| variable(name).map(PathBuf::from);
        Facts {
            uid,
            pid_namespace,
            socket,
            pm3_home: directory("PM3_HOME"),
            xdg_runtime_dir: directory("XDG_RUNTIME_DIR"),
            home: directory("HOME"),
        }
    }

    /// The places of 4: those that were not named.
    fn usual(&self) -> Vec<PathBuf> {
        if self.uid == 0 {
            return vec![Path::new("/run/pm3").join(SOCKET)];
        }
        let xdg = absolute(&self.xdg_runtime_dir).map(|dir| dir.join("pm3").join(SOCKET));
        let home = absolute(&self.home).map(|dir| dir.join(".pm3").join(SOCKET));
        xdg.into_iter().chain(home).collect()
    }

    fn abstract_name(&self, uid: u32) -> Option<Address> {
        Some(Address::Abstract(format!("pm3/{uid}/{}", self.pid_namespace?)))
    }
}

/// pm3's home: where the background supervisor keeps its log, the apps' logs and what `pm3 save` saves. `$PM3_HOME`, else
/// `~/.pm3`, by `$HOME` or else by `passwd`, the home directory in /etc/passwd. None: this user has none.
pub fn home(facts: &Facts, passwd: impl FnOnce() -> Option<PathBuf>) -> Option<PathBuf> {
    let named = absolute(&facts.pm3_home).map(Path::to_path_buf);
    let own = || absolute(&facts.home).map(Path::to_path_buf).or_else(|| absolute(&passwd()).map(Path::to_path_buf));
    named.or_else(|| Some(own()?.join(".pm3")))
}

fn absolute(dir: &Option<PathBuf>) -> Option<&Path> {
    dir.as_deref().filter(|dir| dir.is_absolute())
}

/// Where a server listens: at `always`, and at the first of `first_of` that works.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerPlaces {
    pub always: Option<Address>,
    /// Where its clients look before: whoever listens there gets what is meant for this one.
    pub before: Option<Address>,
    pub first_of: Vec<Address>,
}

/// The places of a server. `runtime_dir` is the file's setting.
pub fn of_server(facts: &Facts, is_pid1: bool, runtime_dir: Option<&Path>) -> ServerPlaces {
    let always = if is_pid1 { facts.abstract_name(facts.uid) } else { None };
    let named = match &facts.socket {
        Some(socket) => Some(Address::parse(socket)),
        None => runtime_dir.or(absolute(&facts.pm3_home)).map(|dir| Address::Path(dir.join(SOCKET))),
    };
    let is_named = named.is_some();
    let first_of = match named {
        Some(address) => vec![address],
        None => facts.usual().into_iter().map(Address::Path).collect(),
    };
    let before = if is_named || is_pid1 { None } else { facts.abstract_name(facts.uid) };
    ServerPlaces { always, before, first_of }
}

/// A place where a client looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub address: Address,
    /// The caller said so: whoever listens there is whom they mean. Elsewhere it must be root, the caller's own
    /// user, or PID 1.
    pub named: bool,
}

/// The places of a client, in order. `init_uid` is the owner of `/proc/1`, if that can be read.
pub fn of_client(facts: &Facts, init_uid: Option<u32>) -> Vec<Candidate> {
    let candidate = |named: bool| move |address: Address| Candidate { address, named };
    if let Some(socket) = &facts.socket {
        return vec![candidate(true)(Address::parse(socket))];
    }
    let mut uids: Vec<u32> = init_uid.into_iter().collect();
    for uid in [facts.uid, 0] {
        if !uids.contains(&uid) {
            uids.push(uid);
        }
    }
    let names = uids.into_iter().filter_map(|uid| facts.abstract_name(uid)).map(candidate(false));
    match absolute(&facts.pm3_home) {
        Some(home) => [candidate(true)(Address::Path(home.join(SOCKET)))].into_iter().chain(names).collect(),
        None => names.chain(facts.usual().into_iter().map(Address::Path).map(candidate(false))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(uid: u32) -> Facts {
        Facts {
            uid,
            pid_namespace: Some(402),
            home: Some("/home/ann".into()),
            xdg_runtime_dir: Some("/run/user/7".into()),
            ..Facts::default()
        }
    }

    fn server(facts: &Facts, is_pid1: bool, runtime_dir: Option<&str>) -> String {
        let ServerPlaces { always, before, first_of } = of_server(facts, is_pid1, runtime_dir.map(Path::new));
        let first_of: Vec<String> = first_of.iter().map(Address::to_string).collect();
        let before = before.map(|address| format!("not beside {address}"));
        let always = always.map(|address| address.to_string()).or(before).unwrap_or_default();
        format!("{always} | {}", first_of.join(" "))
    }

    fn client(facts: &Facts, init_uid: Option<u32>) -> String {
        let mark = |candidate: &Candidate| format!("{}{}", candidate.address, if candidate.named { "!" } else { "" });
        of_client(facts, init_uid).iter().map(mark).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn servers_listen_where_the_page_says() {
        let named = Facts { socket: Some("/tmp/x.sock".into()), pm3_home: Some("/data".into()), ..facts(7) };
        let at_home = Facts { pm3_home: Some("/data".into()), ..facts(7) };
        let bare = Facts { xdg_runtime_dir: None, home: Some("".into()), ..facts(7) };
        let blind = Facts { pid_namespace: None, ..facts(0) };
        for (found, expected) in [
            (server(&facts(0), true, None), "@pm3/0/402 | /run/pm3/control.sock"),
            (server(&facts(0), false, None), "not beside @pm3/0/402 | /run/pm3/control.sock"),
            (server(&facts(7), true, None), "@pm3/7/402 | /run/user/7/pm3/control.sock /home/ann/.pm3/control.sock"),
            (
                server(&facts(7), false, None),
                "not beside @pm3/7/402 | /run/user/7/pm3/control.sock /home/ann/.pm3/control.sock",
            ),
            (server(&named, true, Some("/etc/x")), "@pm3/7/402 | /tmp/x.sock"),
            (server(&at_home, false, None), " | /data/control.sock"),
            (server(&at_home, false, Some("/etc/x")), " | /etc/x/control.sock"),
            (server(&bare, true, None), "@pm3/7/402 | "),
            (server(&blind, true, None), " | /run/pm3/control.sock"),
        ] {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn clients_look_where_the_page_says() {
        let named = Facts { socket: Some("@mine".into()), pm3_home: Some("/data".into()), ..facts(7) };
        let at_home = Facts { pm3_home: Some("/data".into()), ..facts(7) };
        let relative = Facts { pm3_home: Some("data".into()), ..facts(0) };
        for (found, expected) in [
            (client(&facts(0), Some(0)), "@pm3/0/402 /run/pm3/control.sock"),
            (client(&facts(0), Some(7)), "@pm3/7/402 @pm3/0/402 /run/pm3/control.sock"),
            (
                client(&facts(7), Some(0)),
                "@pm3/0/402 @pm3/7/402 /run/user/7/pm3/control.sock /home/ann/.pm3/control.sock",
            ),
            (client(&facts(7), None), "@pm3/7/402 @pm3/0/402 /run/user/7/pm3/control.sock /home/ann/.pm3/control.sock"),
            (client(&named, Some(0)), "@mine!"),
            (client(&at_home, Some(0)), "/data/control.sock! @pm3/0/402 @pm3/7/402"),
            (client(&relative, Some(0)), "@pm3/0/402 /run/pm3/control.sock"),
        ] {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn home_is_where_the_page_says() {
        let passwd = || Some(PathBuf::from("/root"));
        let bare = Facts { home: None, ..facts(0) };
        for (facts, expected) in [
            (Facts { pm3_home: Some("/data".into()), ..facts(7) }, "/data"),
            (Facts { pm3_home: Some("data".into()), ..facts(7) }, "/home/ann/.pm3"),
            (Facts { home: Some("".into()), ..facts(0) }, "/root/.pm3"),
            (bare.clone(), "/root/.pm3"),
        ] {
            assert_eq!(home(&facts, passwd), Some(expected.into()));
        }
        assert_eq!(home(&bare, || None), None);
    }

    #[test]
    fn what_a_server_without_names_offers_a_client_finds() {
        for uid in [0, 7] {
            let ServerPlaces { always, first_of, .. } = of_server(&facts(uid), true, None);
            let looked: Vec<Address> =
                of_client(&facts(uid), Some(uid)).into_iter().map(|candidate| candidate.address).collect();
            assert!(always.into_iter().chain(first_of).all(|address| looked.contains(&address)));
        }
    }
}
