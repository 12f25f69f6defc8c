//! What is remembered, and who reads: the apps with their recent lines, and the clients that init has handed over. Nothing
//! here reads pipes or writes files.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::flood::Flood;
use super::lines::Line;
use super::reader::Reader;
use super::ring::{Recent, Ring};
use super::source::Whose;
use crate::control::logs::{self, Event, Query, Stream};
use crate::control::role::{Known, LogFile, Targets};
use crate::control::{Problem, Refusal};
use crate::supervisor::event::{InstanceId, Mono, Outcome};
use crate::sys::place;

/// Clients at once. Each is somebody at a terminal, or something that ships logs.
const READERS_MAX: usize = 64;

/// Clients at once with one uid. Those of our own user come in up to this, however many others there are.
const READERS_PER_UID_MAX: usize = 16;

/// Bytes of remembered lines that one client is shown, roughly: the newest. Others wait meanwhile.
const PAST_MAX: usize = 2 << 20;

/// What a line takes beside its text.
const FRAME: usize = 128;

/// Bytes that all clients together may be behind. Above it, those who are furthest behind are cut off.
const BEHIND_ALL_MAX: usize = 16 << 20;

/// What a client wants to see.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) query: Query,
    pub(super) of: Targets,
    /// What of that does not arrive elsewhere.
    pub(super) lost: Vec<Event>,
    /// There is no descriptor for one more client.
    pub(super) crowded: bool,
}

/// What is known of an app, all its instances together.
#[derive(Debug, Default)]
struct App {
    ring: Ring,
    /// It may not write as much as it wants.
    flood: Option<Flood>,
}

/// All that is known of apps and readers.
#[derive(Debug)]
pub(super) struct Desk {
    /// By id.
    instances: BTreeMap<InstanceId, Known>,
    /// Instances that are gone; what is in their pipes comes first.
    going: BTreeSet<InstanceId>,
    /// By name.
    apps: BTreeMap<Box<str>, App>,
    /// By token.
    readers: BTreeMap<usize, Reader>,
    next_reader: usize,
}

impl Desk {
    /// All tokens from `first` on are the readers'.
    pub(super) fn new(first: usize) -> Desk {
        let (instances, going) = (BTreeMap::new(), BTreeSet::new());
        Desk { instances, going, apps: BTreeMap::new(), readers: BTreeMap::new(), next_reader: first }
    }

    /// An instance is there, or has changed.
    pub(super) fn know(&mut self, known: Known) {
        let App { ring, flood } = self.apps.entry(known.app.clone()).or_default();
        ring.limit(usize::try_from(known.memory).unwrap_or(usize::MAX));
        if flood.as_ref().map(|flood| flood.rate) != known.rate
            && let Some(mut before) = std::mem::replace(flood, known.rate.map(Flood::new))
        {
            before.tell_sum(&known.app);
        }
        self.instances.insert(known.id, known);
    }

    pub(super) fn known(&self, id: InstanceId) -> Option<&Known> {
        self.instances.get(&id)
    }

    /// The instances that are meant.
    pub(super) fn meant(&self, of: &Targets) -> Vec<&Known> {
        self.instances.values().filter(|known| of.has(&known.app, known.id)).collect()
    }

    /// The instance is gone for good.
    pub(super) fn forget(&mut self, id: InstanceId) {
        self.going.insert(id);
    }

    /// Says good-bye to instances that are gone, once `is_empty` says that nothing of them is left in a pipe.
    pub(super) fn dismiss(&mut self, registry: &Registry, is_empty: impl Fn(InstanceId) -> bool) {
        let gone: Vec<InstanceId> = self.going.iter().copied().filter(|id| is_empty(*id)).collect();
        for id in gone {
            self.going.remove(&id);
            let Some(known) = self.instances.remove(&id) else { continue };
            if self.instances.values().all(|other| other.app != known.app) {
                let flood = self.apps.remove(&known.app).and_then(|app| app.flood);
                flood.into_iter().for_each(|mut flood| flood.tell_sum(&known.app));
            }
            for reader in self.readers.values_mut().filter(|reader| reader.of.has(&known.app, id)) {
                reader.tell(&Event::Deleted { app: known.app.clone(), id: id.0 });
                let more = self.instances.values().any(|other| reader.of.has(&other.app, other.id));
                if !(more || reader.of.all) {
                    reader.leave(Outcome::default());
                }
            }
            self.go_on(registry);
        }
    }

    /// Forgets what these apps, or these instances, wrote.
    pub(super) fn clear(&mut self, of: &Targets) {
        for known in self.instances.values().filter(|known| of.has(&known.app, known.id)) {
            if let Some(app) = self.apps.get_mut(&known.app) {
                app.ring.clear();
            }
        }
    }

    /// When there is something to tell of floods.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.apps.values().filter_map(|app| app.flood.as_ref()?.deadline()).min()
    }

    fn floods(&mut self) -> impl Iterator<Item = (&str, &mut Flood)> {
        self.apps.iter_mut().filter_map(|(name, app)| Some((&**name, app.flood.as_mut()?)))
    }

    /// Tells of floods what is due.
    pub(super) fn tell_of_floods(&mut self, now: Mono) {
        self.floods().for_each(|(app, flood)| flood.go_on(app, now));
    }

    /// Remembers lines of one stream that have come at this moment, shows them to whoever reads it, and says whether they are
    /// to be written: those of a flood are not, and are remembered all the same.
    pub(super) fn take<'a>(
        &'a mut self,
        app: &str,
        id: InstanceId,
        stream: Stream,
        time_ms: u64,
        now: Mono,
    ) -> impl FnMut(Line<'_>) -> bool + use<'a> {
        let (mut ring, mut flood) = self.apps.get_mut(app).map(|app| (&mut app.ring, app.flood.as_mut())).unzip();
        let mut readers: Vec<&mut Reader> = self
            .readers
            .values_mut()
            .filter(|reader| reader.query.follow && reader.wants(app, id.0, stream, time_ms))
            .collect();
        let app: Box<str> = app.into();
        move |line: Line<'_>| {
            if let Some(ring) = &mut ring {
                ring.push(time_ms, id.0, stream, line.bytes);
            }
            for reader in &mut readers {
                line.each().for_each(|line| reader.show(&|| line_of(&app, time_ms, id.0, stream, line.bytes)));
            }
            flood.as_mut().and_then(Option::as_mut).is_none_or(|flood| flood.lets(line.bytes.len(), now))
        }
    }

    /// How many of the newest bytes of this stream it has to be shown. None: all.
    pub(super) fn sees(&self, whose: &Whose, time_ms: u64) -> Option<usize> {
        let Whose { app, id, stream, .. } = whose;
        let reads = |reader: &Reader| reader.query.follow && reader.wants(app, id.0, *stream, time_ms);
        let ring = self.apps.get(app).map_or(0, |app| app.ring.most());
        (!self.readers.values().any(reads)).then_some(ring)
    }

    /// The last lines of an instance, as many as fit into so many bytes; of the last one, if that does not, its beginning.
    pub(super) fn last_words(&self, id: InstanceId, most: usize) -> Vec<u8> {
        let ring = self.instances.get(&id).and_then(|known| self.apps.get(&known.app)).map(|app| &app.ring);
        // None is shorter than its end.
        let lines = ring.map(|ring| ring.last(most, |_, of, _| of == id.0)).unwrap_or_default();
        let mut room = most;
        let fits = |line: &&Recent| {
            let left = room.checked_sub(line.bytes.len() + 1);
            room = left.unwrap_or_default();
            left.is_some()
        };
        let count = lines.iter().rev().take_while(fits).count().max(1);
        let lines = lines.iter().skip(lines.len().saturating_sub(count));
        lines.flat_map(|line| line.bytes.iter().chain(b"\n")).take(most).copied().collect()
    }

    /// How many clients read.
    pub(super) fn readers(&self) -> usize {
        self.readers.len()
    }

    /// Whether an instance writes to this file.
    pub(super) fn names(&self, file: &LogFile) -> bool {
        self.instances.values().any(|known| known.files().any(|own| own == file))
    }

    /// A client wants to see output.
    pub(super) fn serve(&mut self, connection: OwnedFd, asked: Asked, registry: &Registry) {
        let Asked { query, of, lost, crowded } = asked;
        let mut reader = Reader::new(connection, query, of);
        let token = self.next_reader;
        let interests = Interest::READABLE | Interest::WRITABLE;
        let watched = reader
            .set_nonblocking()
            .and_then(|()| registry.register(&mut SourceFd(&reader.as_raw_fd()), Token(token), interests));
        if let Err(error) = watched {
            log::warn!("logger: a client cannot be served: {error}");
            return;
        }
        let of_uid = self.readers.values().filter(|other| other.uid == reader.uid).count();
        let is_ours = reader.uid == Some(place::uid());
        if crowded || of_uid >= READERS_PER_UID_MAX || self.readers.len() >= READERS_MAX && !is_ours {
            let why = "too many clients read output already".into();
            reader.refuse(Refusal { problem: Problem::Other, why, hint: "end one of them".into() });
        } else {
            lost.iter().for_each(|event| reader.tell(event));
            self.tell_past(&mut reader);
        }
        self.next_reader += 1;
        if reader.go_on() {
            self.readers.insert(token, reader);
        }
        self.cut_off_who_is_far_behind(registry);
    }

    fn cut_off_who_is_far_behind(&mut self, registry: &Registry) {
        while self.readers.values().map(Reader::behind).sum::<usize>() > BEHIND_ALL_MAX {
            let furthest = self.readers.iter().max_by_key(|(_, reader)| reader.behind());
            let Some(reader) = furthest.map(|(token, _)| *token).and_then(|token| self.readers.remove(&token)) else {
                return;
            };
            let _ = registry.deregister(&mut SourceFd(&reader.as_raw_fd()));
        }
    }

    fn tell_past(&self, reader: &mut Reader) {
        let most = reader.query.lines.map_or(usize::MAX, |lines| usize::try_from(lines).unwrap_or(usize::MAX));
        let mut past: Vec<(&str, Recent)> = Vec::new();
        for (app, App { ring, .. }) in &self.apps {
            let lines = ring.last(most, |time, id, stream| reader.wants(app, id, stream, time));
            past.extend(lines.into_iter().map(|line| (&**app, line)));
        }
        // Stable: what came at the same moment stays in its order.
        past.sort_by_key(|(_, line)| line.time_ms);
        let mut room = PAST_MAX;
        let fits = |(_, line): &&(&str, Recent)| {
            let left = room.checked_sub(line.bytes.len() + FRAME);
            room = left.unwrap_or_default();
            left.is_some()
        };
        let kept = past.iter().rev().take_while(fits).count();
        let older = past.len().saturating_sub(kept);
        if older > 0 {
            reader.tell(&Event::Missed { lines: older as u64 });
            past.drain(..older);
        }
        for (app, Recent { time_ms, id, stream, bytes }) in past {
            reader.tell(&Event::Line(line_of(app, time_ms, id, stream, &bytes)));
        }
        let comes = reader.of.all || !self.meant(&reader.of).is_empty();
        if reader.query.follow && comes {
            reader.tell(&Event::Live);
        } else {
            reader.leave(Outcome::default());
        }
    }

    /// Answers a client that asked for something else than lines.
    pub(super) fn answer(connection: OwnedFd, outcome: Outcome) {
        let mut reader = Reader::new(connection, Query::default(), Targets::default());
        // An answer of one line fits into an empty socket's buffer.
        let _ = reader.set_nonblocking();
        reader.leave(outcome);
        reader.go_on();
    }

    /// A reader has room again, or is gone.
    pub(super) fn ready(&mut self, token: usize, registry: &Registry) {
        let Some(reader) = self.readers.get_mut(&token) else { return };
        if !(reader.is_there() && reader.go_on()) {
            let _ = registry.deregister(&mut SourceFd(&reader.as_raw_fd()));
            self.readers.remove(&token);
        }
    }

    /// Sends readers what they have been shown.
    pub(super) fn go_on(&mut self, registry: &Registry) {
        self.readers.retain(|_, reader| {
            let stays = reader.go_on();
            if !stays {
                let _ = registry.deregister(&mut SourceFd(&reader.as_raw_fd()));
            }
            stays
        });
    }

    /// pm3 ends, and nothing more will come.
    pub(super) fn close(&mut self) {
        for reader in self.readers.values_mut() {
            reader.leave(Outcome::default());
            reader.go_on();
        }
        self.readers.clear();
    }

    /// Tells what has been dropped and is not told yet: nothing more will be.
    pub(super) fn tell_sums(&mut self) {
        self.floods().for_each(|(app, flood)| flood.tell_sum(app));
    }
}

fn line_of(app: &str, time_ms: u64, id: u32, stream: Stream, bytes: &[u8]) -> logs::Line {
    let text = String::from_utf8_lossy(bytes).into();
    logs::Line { time_ms, app: app.into(), id, stream: Some(stream), text }
}
