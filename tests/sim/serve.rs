//! Runs that have clients: when one listens, who is drained before it is signalled, and where new connections wait.

use pm3::supervisor::Supervisor;
use pm3::supervisor::event::{Half, Millis, Mono, RunId};
use pm3::supervisor::instance::Instance;
use pm3::supervisor::spec::Ready;
use pm3::supervisor::station::Station;

use crate::hear::is_online;
use crate::model::{First, Goal, Place, Status, may_overlap};
use crate::oracle::{Oracle, Verdict, ensure};
use crate::run::Run;

impl Place {
    /// After two short runs, when the next has lived for longer.
    pub(crate) fn proven_at(&self) -> Option<Mono> {
        let online = self.run.as_ref().filter(|run| run.is_up_or_coming() && run.online_since.is_some());
        let began = online.filter(|_| self.shorts >= 2).and_then(|run| run.began);
        began.map(|began| began.after(self.spec.restart.min_uptime.span()))
    }

    /// How long a run has to be ready; None: it is when it executes. One that follows another which listens, or did, has
    /// to listen, as all have whose entry says so, unless it says itself when it is ready. Who was handed sockets does from
    /// the start, and nobody sees it of who opens its own.
    pub(crate) fn ready_within(&self, is_second: bool) -> Option<Millis> {
        let first_listens = self.run.as_ref().is_some_and(|first| first.listens);
        let follows = if is_second { first_listens } else { self.expected };
        let is_seen = self.spec.listen().is_empty() && !self.spec.owns_ports();
        let listens = follows && is_seen || *self.spec.ready() == Ready::Listening;
        self.spec.ready_within().or(listens.then(|| self.spec.listens_within()))
    }
}

impl Oracle {
    pub(crate) fn hear_listening(&mut self, now: Mono, run: RunId) {
        let Some(place) = self.model.find(run) else { return };
        let says_it_itself = place.spec.ready_within().is_some();
        let is_first = place.run.as_ref().is_some_and(|first| first.id == run);
        let Some(known) = place.run_mut(run) else { return };
        known.listens = true;
        if known.is_preparing() && !says_it_itself {
            is_online(place, run, now);
        }
        // It has bound what it wants to, and who would have had it end first, unasked, did not know of its clients.
        let may_overlap = may_overlap(&place.spec);
        for mark in place.mark.iter_mut().filter(|_| is_first) {
            mark.from = None;
            if !mark.told && may_overlap {
                mark.first = First::New;
            }
        }
    }

    /// Others are told to go elsewhere for as long as it takes to tell it from the short runs before it.
    pub(crate) fn allow_quarantine(&self, now: Mono, who: &str, span: Millis) -> Verdict {
        let until = now.after(span.span());
        let fits = |place: &Place| place.who() == *who && place.spec.instances > 1 && place.proven_at() == Some(until);
        ensure!(self.model.places.iter().any(fits), "{who} is in quarantine for nothing, or for too long");
        Ok(())
    }

    pub(crate) fn hear_drained(&mut self, run: RunId) {
        let known = self.model.find(run).and_then(|place| place.run_mut(run));
        if let Some(known) = known.filter(|known| known.drain_until.is_some()) {
            known.drained = true;
        }
    }

    /// It has clients, and somebody else serves in its place, or will.
    fn serves_for_others_to_follow(&self, place: &Place, live: &Run) -> bool {
        let gently = match place.goal {
            Goal::Stop | Goal::Remove => place.gently,
            Goal::Run | Goal::Idle => !live.late,
        };
        gently && live.listens && live.online_since.is_some() && place.spec.stop.drain > Millis::ZERO
    }

    /// It may not be signalled before it has been drained. At the end of pm3 nobody waits for clients.
    pub(crate) fn has_to_drain(&self, place: &Place, live: &Run) -> bool {
        self.model.ending.is_none() && self.serves_for_others_to_follow(place, live)
    }

    pub(crate) fn allow_drain(&mut self, now: Mono, run: RunId) -> Verdict {
        let Some(place) = self.model.find(run).cloned() else { return Err(format!("{run:?} is drained, and is gone")) };
        let who = place.who();
        let is_second = place.second.as_ref().is_some_and(|second| second.id == run);
        let found = place.run.iter().chain(&place.second).find(|known| known.id == run);
        let Some(mut live) = found.cloned() else { return Err("unreachable".into()) };
        ensure!(live.is_up_or_coming(), "{who}: drained after it was asked to end");
        ensure!(self.serves_for_others_to_follow(&place, &live), "{who}: drained for nobody");
        ensure!(self.model.ending.as_ref().is_none_or(|ending| ending.begun == now), "{who}: drained while pm3 ends");
        self.may_end(now, &place, is_second, &live)?;
        self.note_asked(run, is_second);
        (live.asked, live.drain_until) = (true, Some(now.after(place.spec.stop.drain.span())));
        if let Some(known) = self.model.find(run).and_then(|place| place.run_mut(run)) {
            *known = live;
        }
        Ok(())
    }

    /// Nobody of its app is to run any more.
    fn is_unwanted(&self, place: &Place) -> bool {
        self.model.of(&place.spec.name).all(|one| one.goal != Goal::Run)
    }

    /// Whether one that is drained may be signalled.
    pub(crate) fn end_drain(&self, now: Mono, place: &Place, live: &Run) -> Verdict {
        let hurried = matches!(place.goal, Goal::Stop | Goal::Remove) && !place.gently;
        let over = live.drained || live.drain_until.is_some_and(|until| until <= now);
        let hurried = hurried || self.is_unwanted(place);
        ensure!(over || hurried || self.model.ending.is_some(), "{}: signalled while it is drained", place.who());
        Ok(())
    }

    /// Nobody is drained for longer than there is a reason to.
    pub(crate) fn check_drained(&self, now: Mono, place: &Place, run: &Run) -> Verdict {
        let Some(until) = run.drain_until else { return Ok(()) };
        let who = place.who();
        ensure!(!run.drained && until > now, "{who}: is drained, and goes on");
        let unwanted = matches!(place.goal, Goal::Stop | Goal::Remove);
        ensure!(!unwanted || place.gently, "{who}: drained while nobody else serves");
        ensure!(self.model.ending.is_some() || !self.is_unwanted(place), "{who}: drained, and its app is not to run");
        let is_second = place.second.as_ref().is_some_and(|second| second.id == run.id);
        let needed = !is_second && self.model.dependant_alive(&place.spec.name).is_some();
        ensure!(self.model.ending.is_none() || needed, "{who}: drained at the end");
        Ok(())
    }

    /// New connections have somewhere to go: to the run that serves, or to where the next one comes.
    pub(crate) fn check_stations(&self, place: &Place, one: &Instance) -> Verdict {
        let (who, other) = (place.who(), place.half.other());
        let (here, there) = (one.station(place.half), one.station(other));
        let status = self.model.status(place);
        let online = if place.proven_at().is_some() { Station::Proving } else { Station::Serving };
        let serves = |half| matches!(half, Station::Serving | Station::Proving);
        ensure!(serves(here) == (status == Status::Online), "{who} is {status:?}, its half {here:?}");
        ensure!(!serves(here) || here == online, "{who} is in quarantine for nothing, or should be: {here:?}");
        ensure!(!serves(there), "{who}: both halves serve");
        ensure!(place.run.is_none() || here != Station::Gone, "{who}: its half is given up, and it has a run there");
        ensure!(place.second.is_none() || there != Station::Gone, "{who}: half of its second run is given up");
        let over = matches!(status, Status::Stopped | Status::Errored | Status::Finished);
        let wanted = self.model.ending.is_none() && place.goal == Goal::Run && !over;
        let open = [here, there].into_iter().any(|half| serves(half) || half == Station::Coming);
        ensure!(!wanted || open, "{who}: nobody is there or to come for new clients");
        let apart = here != Station::Coming || place.stays || !place.run.as_ref().is_some_and(Run::leaves_clients);
        ensure!(apart, "{who}: new clients wait for one that is on its way out");
        let over = over && !place.has_processes();
        ensure!(!over || here == Station::Gone && there == Station::Gone, "{who} is {status:?}, and keeps its port");
        Ok(())
    }

    /// Notes where clients wait for the next run: there it has to come.
    pub(crate) fn see_coming(&mut self, pm3: &Supervisor) {
        for place in &mut self.model.places {
            let Some((_, one)) = pm3.instance(place.id) else { continue };
            let coming = [Half::First, Half::Second].into_iter().find(|half| one.station(*half) == Station::Coming);
            // Of two that leave, and that nobody has reached, either may be the last.
            let listens = |run: &Option<Run>| run.as_ref().is_some_and(|run| run.listens);
            let known = place.second.is_none() || listens(&place.run) != listens(&place.second);
            place.coming = coming.filter(|_| known);
        }
    }
}
