//! All chance in the simulation comes from here, so that a seed tells the whole story. A world can also be driven by
//! bytes, as a fuzzer gives them; when those run out, they decide as a seed what follows.

/// SplitMix64 (Steele, Lea, Flood 2014), fed by a seed or, as long as they last, by bytes.
#[derive(Clone)]
pub(crate) struct Dice {
    state: u64,
    bytes: Vec<u8>,
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice { state: seed, bytes: Vec::new() }
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Dice {
        let state = bytes.iter().fold(bytes.len() as u64, |hash, byte| mix(hash ^ u64::from(*byte)));
        Dice { state, bytes: bytes.iter().rev().copied().collect() }
    }

    /// Dice of their own for this, drawn from these without a throw: what they decide changes nothing else in the world.
    pub(crate) fn aside(&self, what: u64) -> Dice {
        Dice { state: mix(self.state ^ mix(what.wrapping_add(self.bytes.len() as u64))), bytes: Vec::new() }
    }

    pub(crate) fn next(&mut self) -> u64 {
        if let Some(byte) = self.bytes.pop() {
            return u64::from(byte);
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// A number below `end`; 0 if that is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub(crate) fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    pub(crate) fn chance(&mut self, percent: u8) -> bool {
        self.below(100) < u64::from(percent)
    }

    pub(crate) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
