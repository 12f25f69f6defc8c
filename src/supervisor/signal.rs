//! Signal numbers and their names, as Linux has them on every architecture that pm3 is built for (signal(7)).

use std::fmt;

use serde::{Deserialize, Serialize};

/// A signal number, 1 to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sig(pub u8);

/// The first and last realtime signal that programs see as `SIGRTMIN` and `SIGRTMAX` (glibc keeps 32 and 33).
const RTMIN: u8 = 34;
const RTMAX: u8 = 64;

const NAMES: [(u8, &str); 31] = [
    (1, "HUP"),
    (2, "INT"),
    (3, "QUIT"),
    (4, "ILL"),
    (5, "TRAP"),
    (6, "ABRT"),
    (7, "BUS"),
    (8, "FPE"),
    (9, "KILL"),
    (10, "USR1"),
    (11, "SEGV"),
    (12, "USR2"),
    (13, "PIPE"),
    (14, "ALRM"),
    (15, "TERM"),
    (16, "STKFLT"),
    (17, "CHLD"),
    (18, "CONT"),
    (19, "STOP"),
    (20, "TSTP"),
    (21, "TTIN"),
    (22, "TTOU"),
    (23, "URG"),
    (24, "XCPU"),
    (25, "XFSZ"),
    (26, "VTALRM"),
    (27, "PROF"),
    (28, "WINCH"),
    (29, "IO"),
    (30, "PWR"),
    (31, "SYS"),
];

impl Sig {
    pub const HUP: Sig = Sig(1);
    pub const INT: Sig = Sig(2);
    pub const QUIT: Sig = Sig(3);
    pub const KILL: Sig = Sig(9);
    pub const USR1: Sig = Sig(10);
    pub const USR2: Sig = Sig(12);
    pub const PIPE: Sig = Sig(13);
    pub const TERM: Sig = Sig(15);
    pub const CHLD: Sig = Sig(17);
    pub const CONT: Sig = Sig(18);
    pub const STOP: Sig = Sig(19);
    pub const TSTP: Sig = Sig(20);
    pub const WINCH: Sig = Sig(28);
    pub const TTIN: Sig = Sig(21);
    pub const TTOU: Sig = Sig(22);
    pub const XFSZ: Sig = Sig(25);
    pub const PWR: Sig = Sig(30);

    /// From a number (`15`), a name (`TERM`, `sigterm`) or a realtime name (`RTMIN+3`, `SIGRTMAX-1`).
    pub fn parse(text: &str) -> Option<Sig> {
        if let Ok(number) = text.parse::<u8>() {
            return (1..=RTMAX).contains(&number).then_some(Sig(number));
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((number, _)) = NAMES.iter().find(|(_, known)| *known == name) {
            return Some(Sig(*number));
        }
        let number = match name {
            "POLL" => 29,
            "CLD" => 17,
            "RTMIN" => RTMIN,
            "RTMAX" => RTMAX,
            _ => match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
                (Some(up), _) => RTMIN.checked_add(up.parse().ok()?)?,
                (_, Some(down)) => RTMAX.checked_sub(down.parse().ok()?)?,
                (None, None) => return None,
            },
        };
        (number < RTMIN && !name.starts_with("RT") || (RTMIN..=RTMAX).contains(&number)).then_some(Sig(number))
    }

    /// The names that `parse` knows, without `SIG`, for suggestions.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(_, name)| *name)
    }
}

impl fmt::Display for Sig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((_, name)) = NAMES.iter().find(|(number, _)| *number == self.0) {
            return write!(f, "SIG{name}");
        }
        match self.0.checked_sub(RTMIN) {
            Some(0) => f.write_str("SIGRTMIN"),
            Some(up) => write!(f, "SIGRTMIN+{up}"),
            None => write!(f, "signal {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_mean_the_same() {
        for number in 1..=RTMAX {
            let sig = Sig(number);
            if !(32..RTMIN).contains(&number) {
                assert_eq!(Sig::parse(&sig.to_string()), Some(sig));
            }
            assert_eq!(Sig::parse(&number.to_string()), Some(sig));
        }
        assert_eq!(Sig::parse("term"), Some(Sig::TERM));
        assert_eq!(Sig::parse("rtmax-1"), Some(Sig(63)));
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for text in ["", "0", "65", "SIG", "RTMIN+31", "RTMAX-31", "RTMIN-1", "TERM ", "SIGSIGTERM", "-9", "256"] {
            assert_eq!(Sig::parse(text), None, "{text:?}");
        }
    }
}
