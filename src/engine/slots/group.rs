//! The slots of one address: a group of the kernel's (SO_REUSEPORT in socket(7)), in which the kernel knows them by their
//! numbers. What is done here is done in an order in which no number ever means another slot than the program thinks.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use log::{debug, warn};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::Owner;
use crate::engine::SLOTS;
use crate::supervisor::event::{Half, InstanceId, Mono, RunId};
use crate::supervisor::station::Station;
use crate::sys::slot::{self, Shares, Slot};

/// The slots of one address of one app.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) address: SocketAddr,
    pub(super) app: Box<str>,
    /// So many may wait at each.
    pub(super) backlog: u32,
    /// The app's entry names it.
    pub(super) is_named: bool,
    /// It did, and does not any more: who has it may keep it, and nobody else is to come.
    pub(super) is_dropped: bool,
    /// In the kernel's order: as they began to listen, the last in the place of one that went.
    pub(super) places: Vec<Place>,
    /// The numbers of those that get new connections, as the kernel was told.
    pub(super) steered: Shares,
    /// Connections that waited at slots when those were closed, until that is counted.
    pub(super) lost: Vec<(InstanceId, u64)>,
}

/// A slot, and whose it is.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) number: usize,
    pub(super) slot: Slot,
    pub(super) instance: InstanceId,
    pub(super) half: Half,
    /// The run that has it. It may hold it still when it has ended: some process of its tree.
    pub(super) lent: Option<RunId>,
    /// That run listens.
    pub(super) listens: bool,
    /// It belongs to nobody, and nothing is to wait there.
    pub(super) parked: bool,
    /// Since when its run listens elsewhere and not here.
    pub(super) spurned: Option<Mono>,
}

/// A program that listens somewhere and not where the one before it did has so long to do so. Then its settings are
/// others, and what waits there would wait for ever.
pub(super) const SPURNED: Duration = Duration::from_secs(10);

/// Of a slot, only that somebody has shut it down is of interest, and that is told whatever is asked for. Nothing else is:
/// nobody can write to a listening socket. EPOLLPRI would not do: the kernel wakes whoever waits for that at each connection,
/// to find that there is none (`sock_def_readable`).
const SILENT: Interest = Interest::WRITABLE;

impl Group {
    /// Without any slots yet.
    pub(super) fn new(address: SocketAddr, owner: Owner<'_>) -> Group {
        Group {
            address,
            app: owner.app.into(),
            backlog: owner.backlog,
            is_named: false,
            is_dropped: false,
            places: Vec::new(),
            steered: Shares::default(),
            lost: Vec::new(),
        }
    }

    /// An app that has this address would take connections which are this group's, or lose its own to it.
    pub(super) fn is_in_the_way(&self, address: &SocketAddr, app: &str) -> bool {
        let (ours, theirs) = (self.address.ip(), address.ip());
        // At `::`, IPv4 is heard too.
        let is_any = |ip: IpAddr, other: IpAddr| ip.is_unspecified() && (ip.is_ipv6() || other.is_ipv4());
        *self.app != *app
            && self.address.port() == address.port()
            && (ours == theirs || is_any(ours, theirs) || is_any(theirs, ours))
    }

    /// The place of this half, opened if need be.
    pub(super) fn place(
        &mut self,
        instance: InstanceId,
        half: Half,
        last: &mut usize,
        registry: &Registry,
    ) -> io::Result<usize> {
        let known = self.places.iter().position(|place| (place.instance, place.half) == (instance, half));
        if let Some(known) = known {
            self.take_back(known, registry);
            return Ok(known);
        }
        let slot = Slot::open(&self.address, self.backlog)?;
        *last = last.saturating_add(1);
        registry.register(&mut SourceFd(&slot.as_raw_fd()), Token(SLOTS + *last), SILENT)?;
        if self.places.is_empty() {
            // From now on a program tells to whom new connections go, so that nobody gets any by joining.
            let _ = slot.steer(&Shares::equal(&[0]));
        }
        self.places.push(Place {
            number: *last,
            slot,
            instance,
            half,
            lent: None,
            listens: false,
            parked: false,
            spurned: None,
        });
        // The kernel hears of it by the next program.
        self.steered = Shares::default();
        Ok(self.places.len() - 1)
    }

    /// Something has become of a slot: as `Slots::stirred`.
    pub(super) fn stirred(&mut self, number: usize, late: bool, registry: &Registry) {
        let Some(at) = self.places.iter().position(|place| place.number == number) else { return };
        if late && self.places.get(at).is_some_and(|place| place.parked) {
            self.remove(at, true, registry);
            self.steered = Shares::default();
            return;
        }
        // What was told of it may be over: then it has kept its number.
        if self.places.get(at).is_some_and(|place| place.slot.is_open()) {
            return;
        }
        let place = self.places.swap_remove(at);
        match place.slot.listen(self.backlog) {
            Ok(()) => self.places.push(place),
            Err(error) => warn!("{}: {} was shut down and cannot listen again: {error}", self.app, self.address),
        }
        self.steered = Shares::default();
    }

    pub(super) fn settle(
        &mut self,
        station: &impl Fn(InstanceId, Half) -> Station,
        now: Mono,
        last: &mut usize,
        registry: &Registry,
    ) {
        if !self.is_dropped {
            self.open_others(station, last, registry);
        }
        let is_dropped = self.is_dropped;
        let is_gone = |place: &Place| {
            let is_spurned = place.spurned.is_some_and(|since| since.after(SPURNED) <= now);
            is_spurned || is_dropped && place.lent.is_none() || station(place.instance, place.half) == Station::Gone
        };
        if self.places.iter().all(is_gone) {
            while let Some(place) = self.places.pop() {
                self.close(place, registry);
            }
            return;
        }
        self.steer(self.wanted(station));
        // From the last on: that one leaves no gap.
        for at in (0..self.places.len()).rev() {
            if self.places.get(at).is_some_and(is_gone) {
                self.remove(at, false, registry);
                self.steer(self.wanted(station));
            }
        }
    }

    /// The numbers of those that are to get new connections: who serves, and who is held beside them; else who has still to
    /// prove that it can, else who is to come, else all.
    fn wanted(&self, station: &impl Fn(InstanceId, Half) -> Station) -> Shares {
        let of = |place: &Place| station(place.instance, place.half);
        let few = self.those(|place| place.listens && of(place).percent().is_some());
        let percent = self.places.iter().filter_map(|place| of(place).percent()).max().unwrap_or_default();
        let serving = |station| self.those(|place| place.listens && of(place) == station);
        let most = Some(serving(Station::Serving)).filter(|most| !most.is_empty());
        let most = most.unwrap_or_else(|| serving(Station::Proving));
        if !most.is_empty() || !few.is_empty() {
            return Shares { most, few, percent };
        }
        let next = self.those(|place| matches!(of(place), Station::Coming | Station::Serving | Station::Proving));
        Shares::equal(&if next.is_empty() { self.those(|_| true) } else { next })
    }

    fn steer(&mut self, wanted: Shares) {
        // One that was shut down is heard of soon, and then this comes again. Until then the numbers are others.
        if wanted == self.steered || self.places.iter().any(|place| !place.slot.is_open()) {
            return;
        }
        debug!("{}: {} goes to {wanted:?} of {}", self.app, self.address, self.places.len());
        // By one more that is the last for a moment and that no program names: all others are in somebody's hands.
        let told = Slot::open(&self.address, self.backlog).and_then(|slot| {
            let told = slot.steer(&wanted);
            slot.close();
            told
        });
        if let Err(error) = told {
            warn!("{}: new connections to {} go to all of its slots: {error}", self.app, self.address);
        }
        self.steered = wanted;
    }

    /// Takes a slot out of the group. The last one takes its number at that moment, so neither may get new connections
    /// then: if nobody else could, it is parked instead, until it is needed again or is the last itself. What comes late
    /// to one that is parked would wait for ever, so then it goes all the same (`hurry`).
    fn remove(&mut self, at: usize, hurry: bool, registry: &Registry) {
        let last = self.places.len().saturating_sub(1);
        if at != last {
            let numbers = [at, last].map(number);
            if let Some(others) = self.steered.without(&numbers) {
                self.steer(others);
            } else if !hurry {
                return self.park(at, registry);
            }
        }
        let place = self.places.swap_remove(at);
        self.close(place, registry);
    }

    /// It is somebody's again.
    fn take_back(&mut self, at: usize, registry: &Registry) {
        let Some(place) = self.places.get_mut(at).filter(|place| place.parked) else { return };
        place.parked = false;
        let token = Token(SLOTS + place.number);
        let _ = registry.reregister(&mut SourceFd(&place.slot.as_raw_fd()), token, SILENT);
    }

    fn park(&mut self, at: usize, registry: &Registry) {
        let Some(place) = self.places.get_mut(at).filter(|place| !place.parked) else { return };
        place.parked = true;
        let token = Token(SLOTS + place.number);
        let _ = registry.reregister(&mut SourceFd(&place.slot.as_raw_fd()), token, Interest::READABLE);
    }

    /// Closes one that is no longer among the places.
    fn close(&mut self, place: Place, registry: &Registry) {
        let _ = registry.deregister(&mut SourceFd(&place.slot.as_raw_fd()));
        let waiting = place.slot.queue().map_or(0, |queue| queue.waiting);
        if waiting > 0 {
            let connections = if waiting == 1 { "connection" } else { "connections" };
            let are_handed_on = !self.places.is_empty() && slot::are_handed_on();
            let what = if are_handed_on { "handed on" } else { "reset" };
            warn!("{}: {waiting} {connections} that waited at {} are {what}", self.app, self.address);
            if !are_handed_on {
                self.lost.push((place.instance, waiting.into()));
            }
        }
        place.slot.close();
    }

    /// Who changes halves is expected at the same address, at a slot of the other half: what comes meanwhile can wait there.
    fn open_others(&mut self, station: &impl Fn(InstanceId, Half) -> Station, last: &mut usize, registry: &Registry) {
        for at in 0..self.places.len() {
            let Some((instance, half)) = self.places.get(at).map(|place| (place.instance, place.half)) else { return };
            let (leaves, other) = (station(instance, half), half.other());
            if matches!(leaves, Station::Aside | Station::Gone)
                && station(instance, other) == Station::Coming
                && let Err(error) = self.place(instance, other, last, registry)
            {
                warn!("{}: no slot for the next run at {}: {error}", self.app, self.address);
            }
        }
    }

    fn those(&self, are: impl Fn(&Place) -> bool) -> Vec<u32> {
        self.places.iter().enumerate().filter(|(_, place)| are(place)).map(|(at, _)| number(at)).collect()
    }
}

/// The kernel's number for one of a group's places.
pub(super) fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
