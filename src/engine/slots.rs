//! The listening sockets that pm3 owns: which there are, whose they are, and which of them get new connections.
//!
//! A slot belongs to one half of an instance and to one address, and is lent to the run that binds that address. It stays
//! when the run ends, and with it what waits there: the next run of that half serves it. All slots of an address are one
//! group of the kernel's, and a program tells the kernel to which of them new connections go. What is right follows from
//! the supervisor's state alone (`Station`), and is made so after every step.

mod group;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mio::Registry;

use super::Engine;
use super::listen::{self, Locals};
use crate::supervisor::event::{Half, InstanceId, Mono, RunId};
use crate::supervisor::instance::Instance;
use crate::supervisor::spec::AppSpec;
use crate::supervisor::station::Station;
use crate::sys::clock;
use crate::sys::slot::{self, Slot};
use group::{Group, Place, SPURNED, number};

/// All slots.
#[derive(Debug, Default)]
pub(super) struct Slots {
    groups: Vec<Group>,
    pub(super) locals: Locals,
    /// The number of the last one that was opened.
    last: usize,
    /// How many connections of an instance were reset, as no run was to come for them; most have none.
    resets: Vec<(InstanceId, u64)>,
}

/// Whose slot is meant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner<'a> {
    pub(super) app: &'a str,
    pub(super) instance: InstanceId,
    pub(super) half: Half,
    /// So many may wait at it.
    pub(super) backlog: u32,
}

impl<'a> Owner<'a> {
    pub(super) fn new(app: &'a AppSpec, instance: InstanceId, half: Half) -> Owner<'a> {
        Owner { app: &app.name, instance, half, backlog: listen::backlog(app) }
    }
}

/// How a run of an app is reached, and no other of its runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// There, by who comes from here; from wherever, if it is the only one.
    To(SocketAddr, Option<Ipv4Addr>),
    /// It does not listen there, though others of its app may.
    Deaf(u16),
    /// It has no slot.
    Unknown,
}

impl Slots {
    /// The slot of this owner at this address, lent to its run; opened if need be.
    ///
    /// # Errors
    /// As [`Slot::open`]'s; EADDRINUSE also where it would take connections from another app's.
    pub(super) fn lend(
        &mut self,
        address: SocketAddr,
        owner: Owner<'_>,
        run: RunId,
        registry: &Registry,
    ) -> io::Result<&Slot> {
        let place = self.open(address, owner, registry)?;
        if place.lent != Some(run) {
            (place.lent, place.listens) = (Some(run), false);
        }
        Ok(&place.slot)
    }

    /// The same for a run that is to come. Where it cannot be opened, the start of that run says why.
    pub(super) fn prepare(&mut self, address: SocketAddr, owner: Owner<'_>, registry: &Registry) {
        let _ = self.open(address, owner, registry);
    }

    fn open(&mut self, address: SocketAddr, owner: Owner<'_>, registry: &Registry) -> io::Result<&mut Place> {
        let known = self.groups.iter().position(|group| group.address == address && *group.app == *owner.app);
        let at = match known {
            Some(at) => at,
            None if self.groups.iter().any(|group| group.is_in_the_way(&address, owner.app)) => {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            None => {
                self.groups.push(Group::new(address, owner));
                self.groups.len() - 1
            }
        };
        let opened = match self.groups.get_mut(at) {
            Some(group) => {
                group.backlog = owner.backlog;
                group.place(owner.instance, owner.half, &mut self.last, registry)
            }
            None => Err(io::ErrorKind::NotFound.into()),
        };
        if opened.is_err() {
            self.groups.retain(|group| !group.places.is_empty());
        }
        opened.and_then(|place| {
            let group = self.groups.get_mut(at).and_then(|group| group.places.get_mut(place));
            group.ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    /// A run listens at the slot with this inode, if that is one that it was lent. True then.
    pub(super) fn listens(&mut self, run: RunId, inode: u64) -> bool {
        let mut places = self.groups.iter_mut().flat_map(|group| &mut group.places);
        let Some(place) = places.find(|place| place.lent == Some(run) && place.slot.inode == inode) else {
            return false;
        };
        place.listens = true;
        true
    }

    /// Whether a run listens at as many addresses as the other one: it can take its place. They need not be the same,
    /// as its settings may be others.
    pub(super) fn serves_as(&self, run: RunId, other: RunId) -> bool {
        let serves = |group: &Group, run| group.places.iter().any(|place| place.lent == Some(run) && place.listens);
        let count = |run| self.groups.iter().filter(|group| serves(group, run)).count();
        count(run) >= count(other)
    }

    /// One half of an instance gets the slots of another one, with what waits there. If it had some of its own, they are
    /// the other one's then, which has no use for them.
    pub(super) fn hand_over(&mut self, from: (InstanceId, Half), to: (InstanceId, Half)) {
        for place in self.groups.iter_mut().flat_map(|group| &mut group.places) {
            let owner = (place.instance, place.half);
            if owner == from {
                (place.instance, place.half) = to;
            } else if owner == to {
                (place.instance, place.half) = from;
            }
        }
    }

    /// The run is over. What waits at its slots waits for the next one.
    pub(super) fn run_is_over(&mut self, run: RunId) {
        self.locals.run_is_over(run);
        for place in self.groups.iter_mut().flat_map(|group| &mut group.places) {
            if place.lent == Some(run) {
                (place.lent, place.listens) = (None, false);
            }
        }
    }

    /// What names them on this machine.
    pub(super) fn inodes(&self) -> Vec<u64> {
        let slots = self.groups.iter().flat_map(|group| &group.places).map(|place| place.slot.inode);
        slots.chain(self.locals.inodes()).collect()
    }

    /// An instance has a slot.
    pub(super) fn serve(&self, instance: InstanceId) -> bool {
        self.groups.iter().flat_map(|group| &group.places).any(|place| place.instance == instance)
    }

    /// Where a run is reached.
    pub(super) fn ports(&self, run: RunId) -> Vec<u16> {
        let lent = |group: &&Group| group.places.iter().any(|place| place.lent == Some(run));
        let mut ports: Vec<u16> = self.groups.iter().filter(lent).map(|group| group.address.port()).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// How a run of this app is reached, at this port if one is given, else at the first where it listens. What its slot's
    /// number is may change at any time; then a client may reach another one, once.
    pub(super) fn way(&self, app: &str, run: RunId, port: Option<u16>) -> Way {
        let mut way = Way::Unknown;
        let groups = self.groups.iter().filter(|group| *group.app == *app);
        for group in groups.filter(|group| port.is_none_or(|port| port == group.address.port())) {
            let mut address = group.address;
            let at = group.places.iter().position(|place| place.lent == Some(run) && place.listens);
            let Some(at) = at else {
                way = Way::Deaf(address.port());
                continue;
            };
            if address.ip().is_unspecified() {
                address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
            }
            let source = slot::source(number(at));
            return Way::To(address, source.filter(|_| address.is_ipv4() && group.places.len() > 1));
        }
        way
    }

    /// Connections that wait at a run's slots.
    pub(super) fn waiting(&self, run: RunId) -> u32 {
        let places = self.groups.iter().flat_map(|group| &group.places).filter(|place| place.lent == Some(run));
        places.filter_map(|place| place.slot.queue()).map(|queue| queue.waiting).sum()
    }

    /// How many descriptors they are.
    pub(super) fn count(&self) -> usize {
        self.groups.iter().map(|group| group.places.len()).sum::<usize>() + self.locals.count()
    }

    /// Something has become of a slot. Somebody who was lent it has shut it down, which stops it for all (shutdown(2)):
    /// it listens again at once, as the newest of its group. Or it is parked, and somebody has come late.
    pub(super) fn stirred(&mut self, number: usize, late: bool, registry: &Registry) {
        self.groups.iter_mut().for_each(|group| group.stirred(number, late, registry));
    }

    /// When a slot is given up that its run does not want.
    pub(super) fn deadline(&self) -> Option<Mono> {
        let places = self.groups.iter().flat_map(|group| &group.places);
        places.filter_map(|place| place.spurned).min().map(|since| since.after(SPURNED))
    }

    /// Notes which slots their runs do not want, though they listen at others.
    fn see_spurned(&mut self, station: &impl Fn(InstanceId, Half) -> Station, now: Mono) {
        let places = self.groups.iter().flat_map(|group| &group.places);
        let busy: Vec<_> = places.filter(|place| place.listens).map(|place| (place.instance, place.half)).collect();
        for place in self.groups.iter_mut().flat_map(|group| &mut group.places) {
            let (owner, serves) = ((place.instance, place.half), station(place.instance, place.half));
            let spurned =
                place.lent.is_none() && matches!(serves, Station::Serving | Station::Proving) && busy.contains(&owner);
            place.spurned = spurned.then(|| place.spurned.unwrap_or(now));
        }
    }

    /// Makes what the kernel does agree with what is right by now. `is_named`: an app's entry names this address.
    fn settle(
        &mut self,
        station: impl Fn(InstanceId, Half) -> Station,
        is_named: impl Fn(&str, SocketAddr) -> bool,
        now: Mono,
        registry: &Registry,
    ) {
        self.see_spurned(&station, now);
        for group in &mut self.groups {
            let is_named = is_named(&group.app, group.address);
            let was_named = std::mem::replace(&mut group.is_named, is_named);
            group.is_dropped = !is_named && (group.is_dropped || was_named);
            group.settle(&station, now, &mut self.last, registry);
        }
        self.count_lost();
        self.groups.retain(|group| !group.places.is_empty());
    }

    /// How many connections to this instance were reset, because no run was to come for them.
    pub(super) fn resets(&self, instance: InstanceId) -> u64 {
        self.resets.iter().find(|(known, _)| *known == instance).map_or(0, |(_, resets)| *resets)
    }

    fn count_lost(&mut self) {
        for (instance, lost) in self.groups.iter_mut().flat_map(|group| std::mem::take(&mut group.lost)) {
            match self.resets.iter_mut().find(|(known, _)| *known == instance) {
                Some((_, resets)) => *resets = resets.saturating_add(lost),
                None => self.resets.push((instance, lost)),
            }
        }
    }
}

impl Engine {
    /// Opens, closes and steers as the supervisor's state wants it.
    pub(super) fn mind_slots(&mut self) {
        // Numbers of instances start over some day.
        let supervisor = &self.supervisor;
        self.slots.resets.retain(|(id, _)| supervisor.instance(*id).is_some());
        let is_idle = self.slots.groups.is_empty() && self.slots.locals.is_empty();
        if is_idle && self.supervisor.instances().all(|(app, _)| app.listen().is_empty()) {
            return;
        }
        let mut all: Vec<(&AppSpec, &Instance)> = self.supervisor.instances().collect();
        all.sort_unstable_by_key(|(_, one)| one.id);
        let registry = self.poll.registry();
        let halves = |one: &Instance| [one.half, one.half.other()].map(|half| (half, one.station(half)));
        for (app, one) in all.iter().filter(|(app, _)| !app.listen().is_empty()) {
            for (half, _) in halves(one).into_iter().filter(|(_, station)| *station == Station::Coming) {
                self.slots.open_named(app, Owner::new(app, one.id, half), registry);
            }
        }
        let known = |id: InstanceId| all.binary_search_by_key(&id, |(_, one)| one.id).ok().and_then(|at| all.get(at));
        let station = |id: InstanceId, half: Half| match known(id).map(|(app, one)| (app, one.station(half))) {
            // Who comes binds its own ports, and nobody may be in the way.
            Some((app, Station::Coming)) if app.owns_ports() => Station::Gone,
            Some((_, station)) => station,
            None => Station::Gone,
        };
        let of = |name: &str| all.iter().find(|(app, _)| *app.name == *name).map(|(app, _)| app);
        let is_named = |name: &str, address| of(name).is_some_and(|app| listen::names(app, address));
        self.slots.settle(station, is_named, clock::now(), registry);
        self.slots.locals.keep(|name, path| {
            let lives = |one: &Instance| halves(one).iter().any(|(_, station)| *station != Station::Gone);
            all.iter().any(|(app, one)| *app.name == *name && listen::names_path(app, path) && lives(one))
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::{AsFd, AsRawFd};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use nix::libc::linger;
    use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};

    use super::*;

    /// Slots of as many instances at a free port, each lent to a run with its instance's number that listens there.
    fn slots(count: u32) -> (Slots, mio::Poll, SocketAddr) {
        let poll = mio::Poll::new().unwrap();
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut slots = Slots::default();
        for number in 0..count {
            let (run, instance) = (RunId(number.into()), InstanceId(number));
            let owner = Owner { app: "web", instance, half: Half::First, backlog: 64 };
            let inode = slots.lend(address, owner, run, poll.registry()).unwrap().inode;
            assert!(slots.listens(run, inode));
        }
        (slots, poll, address)
    }

    fn settle(slots: &mut Slots, poll: &mio::Poll, serve: &[u32]) {
        let station = |id: InstanceId, half| match half {
            Half::First if serve.contains(&id.0) => Station::Serving,
            Half::First => Station::Aside,
            Half::Second => Station::Gone,
        };
        slots.settle(station, |_, _| false, clock::now(), poll.registry());
    }

    /// So many clients connect; how many of them wait at each instance's slot.
    fn gained(slots: &Slots, address: SocketAddr, clients: usize) -> Vec<u32> {
        let waiting = || (0..3).map(|run| slots.waiting(RunId(run))).collect::<Vec<_>>();
        let before = waiting();
        let clients: Vec<TcpStream> = (0..clients).map(|_| TcpStream::connect(address).unwrap()).collect();
        let gained = waiting().iter().zip(before).map(|(after, before)| after - before).collect();
        std::mem::forget(clients);
        gained
    }

    #[test]
    fn one_that_is_shut_down_before_others_are_steered_listens_again() {
        for down in 0..3 {
            let (mut slots, poll, address) = slots(3);
            settle(&mut slots, &poll, &[0, 1]);
            let place = &slots.groups[0].places[down];
            let number = place.number;
            shutdown(place.slot.as_raw_fd(), Shutdown::Both).unwrap();
            // Before pm3 hears of it, the state wants others to serve.
            settle(&mut slots, &poll, &[0, 1, 2]);
            slots.stirred(number, false, poll.registry());
            // What is told of those that listen changes nothing.
            (1..=3).for_each(|number| slots.stirred(number, false, poll.registry()));
            for serves in 0..3 {
                settle(&mut slots, &poll, &[serves]);
                let mut expected = vec![0; 3];
                expected[serves as usize] = 8;
                assert_eq!(gained(&slots, address, 8), expected, "after {down}");
            }
        }
    }

    /// Whatever becomes of a test, nobody waits for its server or goes on asking it.
    struct Ends<'a>(&'a AtomicBool, &'a TcpListener);

    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
            let _ = shutdown(self.1.as_raw_fd(), Shutdown::Both);
        }
    }

    /// The kernel looks for a listener while others begin to listen and cease to.
    #[test]
    fn others_come_and_go_and_nobody_is_reset() {
        for home in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(address) = TcpListener::bind(home).and_then(|free| free.local_addr()) else { continue };
            let (mut slots, poll) = (Slots::default(), mio::Poll::new().unwrap());
            let over = &AtomicBool::new(false);
            let owner = |number| Owner { app: "web", instance: InstanceId(number), half: Half::First, backlog: 64 };
            let slot = slots.lend(address, owner(0), RunId(0), poll.registry()).unwrap();
            slot.set_nonblocking(false);
            let (listener, inode) = (TcpListener::from(slot.as_fd().try_clone_to_owned().unwrap()), slot.inode);
            assert!(slots.listens(RunId(0), inode));
            thread::scope(|scope| {
                let ends = Ends(over, &listener);
                scope.spawn(|| {
                    for mut client in listener.incoming().map_while(Result::ok) {
                        let _ = client.write_all(b"!");
                    }
                });
                let client = || {
                    let mut client = TcpStream::connect(address)?;
                    client.read_exact(&mut [0])?;
                    // A firewall would remember so many for minutes, and drop what is new when its table is full.
                    Ok(setsockopt(&client, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })?)
                };
                let clients = [0; 2].map(|_| {
                    scope.spawn(move || {
                        let all = std::iter::repeat_with(client).take_while(|_| !over.load(Ordering::Relaxed));
                        all.filter_map(Result::err).map(|error: io::Error| error.to_string()).collect::<Vec<_>>()
                    })
                });
                for round in 0..20_000 {
                    let number = 1 + round % 3;
                    settle(&mut slots, &poll, &[0]);
                    slots.lend(address, owner(number), RunId(number.into()), poll.registry()).unwrap();
                    settle(&mut slots, &poll, &[0]);
                    let station = |id: InstanceId, half| {
                        if id.0 == 0 && half == Half::First { Station::Serving } else { Station::Gone }
                    };
                    slots.settle(station, |_, _| false, clock::now(), poll.registry());
                }
                over.store(true, Ordering::Relaxed);
                let failed = clients.map(|client| client.join().unwrap()).concat();
                drop(ends);
                assert_eq!(failed, Vec::<String>::new(), "{home}");
            });
        }
    }
}
