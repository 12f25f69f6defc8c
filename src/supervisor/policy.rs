//! What follows a run that ended by itself: another run, now or later, or none. PM2's numbers, with a crash limit
//! that counts under back-off too (pm2: "restart strategies"; systemd.service(5): Restart=, RestartPreventExitStatus=).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::{End, Millis, Mono, Oom, Reason, Sig, Verb};
use super::reload::Manner;
use super::spec::{AppSpec, Kind, Restart};

/// PM2's ceiling of the exponential back-off.
const BACKOFF_MAX: Millis = Millis(15_000);

/// A run that stayed up this long has proven itself: the back-off starts anew (PM2's EXP_BACKOFF_RESET_TIMER).
const BACKOFF_RESET: Duration = Duration::from_secs(30);

/// Least first wait after a start that the machine refused: it is short of something, hurrying makes it worse.
const REFUSED_BACKOFF: Millis = Millis(100);

/// A role that worked for this long is replaced at once: apps may wait for it.
const ROLE_PROVEN: Duration = Duration::from_secs(1);

/// So many short runs in a row are no accident. One may be: it was killed, by a person or for want of memory, and the next
/// one is as good as any. After two the next is likely to be as short, and it takes with it whoever it has accepted.
const LOOP: u32 = 2;

/// The longest trial of a new run beside the old one: as long as PM2 waits for one (`listen_timeout`).
const TRIAL_MAX: Millis = Millis(3_000);

/// A run that ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub end: End,
    pub oom: Oom,
    /// How long it ran.
    pub ran: Millis,
}

/// What an instance remembers of its crashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Short runs in a row, the last ones; none any more when the one after them has lived for longer.
    pub unstable: u32,
    /// The last wait of the back-off; zero before the first.
    pub wait: Millis,
    /// After a reload that failed: none is begun by itself before this moment.
    pub retry_at: Mono,
}

/// What comes next for the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Restart { after: Millis },
    Finished,
    Errored,
}

/// Whether an end may be the first sign of pm3's own: a stop signal that everybody gets, and the app got first. It died
/// of the signal, or handled it and left as programs do then: with 0, or with 128 and the signal's number. Such an end
/// waits to be judged; any other is the app's own, and a new run follows at once.
pub fn may_be_a_stop(app: &AppSpec, end: End) -> bool {
    let signals = [Sig::TERM, Sig::INT, Sig::HUP];
    match end {
        End::Signal(sig) => signals.contains(&sig),
        End::Unseen => true,
        // What is over with this end need not wait: pm3's end would change nothing about it.
        End::Code(code) if is_done(app, code) => false,
        End::Code(code) => code == 0 || signals.iter().any(|sig| code == End::Signal(*sig).exit_code()),
    }
}

/// Whether a run that ended with this code is followed by no other, as the file has it.
fn is_done(app: &AppSpec, code: u8) -> bool {
    app.restart.stop_exit_codes.contains(&code) || code == 0 && app.restart.when != Restart::Always
}

/// Whether an end is one after which nothing follows, as the file has it.
pub fn is_final(app: &AppSpec, end: End) -> bool {
    matches!(end, End::Code(code) if is_done(app, code))
}

/// What is said of a run that was asked to end for this reason, and had to be killed. Where SIGKILL is what it is asked
/// with, that says nothing.
pub fn killed(app: &AppSpec, why: Reason) -> Reason {
    if app.stop.signal == Sig::KILL {
        return why;
    }
    Reason::Killed { why: Box::new(why), after: app.stop.timeout }
}

/// Whether the next run is likely to be short, too.
pub fn is_crash_loop(record: &Record) -> bool {
    record.unstable >= LOOP
}

/// Judges a run that ended by itself and writes it into the instance's record.
pub fn judge(app: &AppSpec, record: &mut Record, ended: Ended, random: u32) -> Verdict {
    let policy = &app.restart;
    if let End::Code(code) = ended.end
        && is_done(app, code)
    {
        // A one-shot that ends with such a code is not tried again, but done it is not: nobody who requires it may start.
        let is_failed = app.kind == Kind::Oneshot && code != 0;
        return if is_failed { Verdict::Errored } else { Verdict::Finished };
    }
    if policy.when == Restart::Never {
        return Verdict::Errored;
    }
    if ended.ran.span() >= BACKOFF_RESET {
        record.wait = Millis::ZERO;
    }
    if ended.ran < policy.min_uptime {
        record.unstable = record.unstable.saturating_add(1);
        if record.unstable >= policy.max_restarts.max(1) {
            return Verdict::Errored;
        }
    } else {
        record.unstable = 0;
    }
    let wait = if policy.backoff == Millis::ZERO {
        policy.delay
    } else {
        record.wait = grown(record.wait, policy.backoff);
        record.wait.max(policy.delay)
    };
    Verdict::Restart { after: jittered(wait, policy.jitter_percent, random) }
}

/// The wait after a start that the machine refused for now. It is nobody's crash and is not counted as one.
pub fn refused(app: &AppSpec, record: &mut Record, random: u32) -> Millis {
    record.wait = grown(record.wait, app.restart.backoff.max(REFUSED_BACKOFF));
    jittered(record.wait.max(app.restart.delay), app.restart.jitter_percent, random)
}

/// The wait before one of pm3's own roles is started again, and what it is to remember of that: none where it has done
/// its work for a while.
pub fn of_role(last: Millis, ran: Duration) -> Millis {
    if ran >= ROLE_PROVEN { Millis::ZERO } else { grown(last, REFUSED_BACKOFF) }
}

/// How long a new run has to live beside the old one before it takes over: longer than a short run, which is what
/// the crash limit counts, too.
pub fn trial(app: &AppSpec) -> Millis {
    app.restart.min_uptime.min(TRIAL_MAX)
}

/// How an instance gets a new run that this verb asks for. `restart` keeps PM2's meaning.
pub fn asked_manner(app: &AppSpec, verb: Verb) -> Manner {
    match verb {
        Verb::Reload | Verb::Promote if bars_overlap(app).is_none() => Manner::NewFirst,
        Verb::Reload
        | Verb::Promote
        | Verb::Abort
        | Verb::Start
        | Verb::Stop
        | Verb::Restart
        | Verb::Delete
        | Verb::Reset
        | Verb::Watch => Manner::OldFirst,
    }
}

/// How an instance gets a new run that no verb asks for.
///
/// A change of the file must not take down what works: there the new run comes first, as for a reload. So it does where
/// the run `listens`, as clients would wait. The others keep PM2's order for an app without a shared port. Nobody is
/// connected to it, so nothing is lost between two runs, while two at a time may do the same work twice; and an app above
/// its memory limit is the last to be given a second copy. With `overlap` the new run comes first for these, too.
pub fn manner(app: &AppSpec, reason: &Reason, listens: bool) -> Manner {
    let new_first = match reason {
        Reason::Changed => true,
        Reason::Cron | Reason::Watched(_) | Reason::Memory { .. } | Reason::Unhealthy(_) | Reason::Silent(_) => {
            app.overlap == Some(true) || listens
        }
        Reason::Operator
        | Reason::Ended(_)
        | Reason::Oom(_)
        | Reason::StartFailed(_)
        | Reason::Shutdown
        | Reason::Requires(_)
        | Reason::TakenBack
        | Reason::Owns(_)
        | Reason::Reload(_)
        | Reason::NotReady(_)
        | Reason::Done(_)
        | Reason::Aged(_)
        | Reason::Needless
        | Reason::Unfit(_)
        | Reason::Killed { .. } => false,
    };
    if new_first && bars_overlap(app).is_none() { Manner::NewFirst } else { Manner::OldFirst }
}

/// Why two runs of an instance may not be there at once, as far as its entry says.
pub fn bars_overlap(app: &AppSpec) -> Option<&'static str> {
    match (app.overlap, app.kind, app.restart.when) {
        (Some(false), _, _) => Some("overlap is off"),
        // A job would be done twice.
        (_, Kind::Oneshot, _) | (_, Kind::Service, Restart::Never) => Some("it runs to its end"),
        (Some(true) | None, Kind::Service, Restart::Always | Restart::OnFailure) => None,
    }
}

/// ×1.5 each time, rounded down as PM2 does: 100, 150, 225, 337, …
fn grown(last: Millis, first: Millis) -> Millis {
    if last == Millis::ZERO {
        return first;
    }
    Millis(last.0.saturating_add(last.0 / 2).min(BACKOFF_MAX.0.max(first.0)))
}

/// Longer by a random share of up to `percent`: apps that fell together do not come back together.
fn jittered(wait: Millis, percent: u8, random: u32) -> Millis {
    let most = u64::from(wait.0) * u64::from(percent) / 100;
    let extra = (u64::from(random) * (most + 1)) >> 32;
    Millis(wait.0.saturating_add(u32::try_from(extra).unwrap_or(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::spec::RestartPolicy;

    fn app(policy: RestartPolicy) -> AppSpec {
        AppSpec { restart: policy.into(), ..AppSpec::default() }
    }

    fn ended(end: End, ran: u32) -> Ended {
        Ended { end, oom: Oom::No, ran: Millis(ran) }
    }

    fn waits(app: &AppSpec, runs: &[u32]) -> Vec<u32> {
        let mut record = Record::default();
        let judge = |ran: &u32| match judge(app, &mut record, ended(End::Code(1), *ran), 0) {
            Verdict::Restart { after } => after.0,
            Verdict::Finished | Verdict::Errored => u32::MAX,
        };
        runs.iter().map(judge).collect()
    }

    #[test]
    fn backoff_grows_as_pm2s_does_and_starts_anew_after_30_s() {
        let app = app(RestartPolicy { backoff: Millis(100), max_restarts: 99, ..RestartPolicy::default() });
        let mut runs = [10; 14];
        runs[12] = 29_999;
        runs[13] = 30_000;
        let seen = waits(&app, &runs);
        assert_eq!(seen, [100, 150, 225, 337, 505, 757, 1135, 1702, 2553, 3829, 5743, 8614, 12921, 100]);
    }

    #[test]
    fn the_crash_limit_counts_under_backoff_and_a_long_run_forgives() {
        let limited = app(RestartPolicy {
            backoff: Millis(9_000),
            max_restarts: 3,
            delay: Millis(5),
            ..RestartPolicy::default()
        });
        assert_eq!(waits(&limited, &[0, 999, 999]), [9_000, 13_500, u32::MAX]);
        assert_eq!(waits(&limited, &[0, 999, 1_000, 0, 0, 0]), [9_000, 13_500, 15_000, 15_000, 15_000, u32::MAX]);
        let first = app(RestartPolicy { max_restarts: 0, ..RestartPolicy::default() });
        assert_eq!(waits(&first, &[0]), [u32::MAX]);
    }

    #[test]
    fn exits_that_are_wanted_are_not_crashes() {
        let mut record = Record::default();
        let stop = app(RestartPolicy { stop_exit_codes: vec![3], ..RestartPolicy::default() });
        let on_failure = app(RestartPolicy { when: Restart::OnFailure, ..RestartPolicy::default() });
        let never = app(RestartPolicy { when: Restart::Never, ..RestartPolicy::default() });
        let oneshot = AppSpec { kind: Kind::Oneshot, ..on_failure.clone() };
        let tried_once = AppSpec { kind: Kind::Oneshot, ..stop.clone() };
        let mut judged = |app: &AppSpec, end| judge(app, &mut record, ended(end, 0), 0);
        let again = Verdict::Restart { after: Millis::ZERO };
        assert_eq!(judged(&stop, End::Code(3)), Verdict::Finished);
        assert_eq!(judged(&stop, End::Code(0)), again);
        assert_eq!(judged(&on_failure, End::Code(0)), Verdict::Finished);
        assert_eq!(judged(&on_failure, End::Signal(Sig::KILL)), again);
        assert_eq!(judged(&on_failure, End::Unseen), again);
        assert_eq!(judged(&never, End::Unseen), Verdict::Errored);
        assert_eq!(judged(&never, End::Code(0)), Verdict::Finished);
        assert_eq!(judged(&never, End::Code(2)), Verdict::Errored);
        assert_eq!(judged(&oneshot, End::Code(0)), Verdict::Finished);
        assert_eq!(judged(&oneshot, End::Code(3)), again);
        assert_eq!(judged(&tried_once, End::Code(3)), Verdict::Errored);
    }

    #[test]
    fn an_end_that_may_be_a_stop_waits_unless_it_is_final() {
        let always = app(RestartPolicy { stop_exit_codes: vec![143], ..RestartPolicy::default() });
        let on_failure = app(RestartPolicy { when: Restart::OnFailure, ..RestartPolicy::default() });
        let (code, signal) = (End::Code, End::Signal);
        let ends = [code(0), code(129), code(130), signal(Sig::TERM), signal(Sig::INT), signal(Sig::HUP), End::Unseen];
        for end in ends {
            assert!(may_be_a_stop(&always, end), "{end}");
        }
        for end in [code(1), code(137), code(143), signal(Sig::KILL), signal(Sig::QUIT), signal(Sig(11))] {
            assert!(!may_be_a_stop(&always, end), "{end}");
        }
        assert!(!may_be_a_stop(&on_failure, code(0)));
        assert!(may_be_a_stop(&on_failure, code(143)));
    }

    #[test]
    fn jitter_stays_within_its_share() {
        assert_eq!(jittered(Millis(1_000), 10, 0), Millis(1_000));
        assert_eq!(jittered(Millis(1_000), 10, u32::MAX), Millis(1_100));
        assert_eq!(jittered(Millis(1_000), 0, u32::MAX), Millis(1_000));
        assert_eq!(jittered(Millis(u32::MAX), 100, u32::MAX), Millis(u32::MAX));
    }

    #[test]
    fn a_refused_start_waits_and_is_not_a_crash() {
        let mut record = Record::default();
        let app = app(RestartPolicy::default());
        let waits: Vec<u32> = (0..3).map(|_| refused(&app, &mut record, 0).0).collect();
        assert_eq!((waits, record.unstable), (vec![100, 150, 225], 0));
    }
}
