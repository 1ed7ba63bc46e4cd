//! The random numbers of `numpy.random.default_rng(seed)`, number for number: games whose episodes were recorded there
//! are played again here.

/// PCG64 (XSL-RR 128/64), seeded as numpy's `SeedSequence` does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generator {
    state: u128,
    increment: u128,
}

const MULTIPLIER: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;
/// Words of the pool that a seed is spread over.
const POOL: usize = 4;

impl Generator {
    /// The one of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let [a, b, c, d] = spread(seed);
        let increment = ((u128::from(c) << 64 | u128::from(d)) << 1) | 1;
        let mut generator = Self { state: increment, increment };
        generator.state = generator.state.wrapping_add(u128::from(a) << 64 | u128::from(b));
        generator.step();
        generator
    }

    fn step(&mut self) {
        self.state = self.state.wrapping_mul(MULTIPLIER).wrapping_add(self.increment);
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.step();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the halves of a number, and its six highest bits"
        )]
        let (high, low, turns) = ((self.state >> 64) as u64, self.state as u64, (self.state >> 122) as u32);
        (high ^ low).rotate_right(turns)
    }

    /// `random()`: from 0 up to, not with, 1.
    pub fn unit(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits are what a double holds")]
        let bits = (self.next_u64() >> 11) as f64;
        bits / (1_u64 << 53) as f64
    }

    /// `uniform(low, high)`.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }
}

/// What `SeedSequence(seed).generate_state(4, uint64)` gives.
fn spread(seed: u64) -> [u64; 4] {
    const MULTIPLY_IN: u32 = 0x931e_8875;
    const MULTIPLY_OUT: u32 = 0x58f3_8ded;
    let mut by = 0x43b0_d7e5_u32;
    let mut hash = |value: u32| {
        let value = value ^ by;
        by = by.wrapping_mul(MULTIPLY_IN);
        let value = value.wrapping_mul(by);
        value ^ (value >> 16)
    };
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a seed")]
    let entropy = [seed as u32, (seed >> 32) as u32, 0, 0];
    let mut pool: [u32; POOL] = entropy.map(&mut hash);
    for from in 0..POOL {
        for to in (0..POOL).filter(|to| *to != from) {
            let (left, right) =
                (pool[to].wrapping_mul(0xca01_f9dd), hash(pool[from]).wrapping_mul(0x4973_f715));
            let mixed = left.wrapping_sub(right);
            pool[to] = mixed ^ (mixed >> 16);
        }
    }
    let mut by = 0x8b51_f9dd_u32;
    let mut word = |at: usize| {
        let value = pool[at % POOL] ^ by;
        by = by.wrapping_mul(MULTIPLY_OUT);
        let value = value.wrapping_mul(by);
        u64::from(value ^ (value >> 16))
    };
    std::array::from_fn(|at| word(2 * at) | word(2 * at + 1) << 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_numpy() {
        let mut generator = Generator::new(42);
        let numbers = [generator.next_u64(), generator.next_u64()];
        assert_eq!(numbers, [14_276_969_152_011_380_360, 8_095_878_257_575_067_585]);
        let mut generator = Generator::new(42);
        assert_eq!([generator.unit(), generator.unit()], [0.773_956_048_555_963_3, 0.438_878_439_752_052_3]);
        // A seed of more than 32 bits is two words.
        let mut generator = Generator::new(0x1234_5678_9abc_def0);
        assert_eq!(generator.next_u64(), LARGE);
        assert!((Generator::new(0).uniform(-1.0, 1.0) - UNIFORM).abs() < f64::EPSILON);
    }

    // Of numpy 2.4.6.
    const LARGE: u64 = 3_766_508_136_411_593_918;
    const UNIFORM: f64 = 0.273_923_374_642_908_6;
}
