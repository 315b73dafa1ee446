//! Named, seeded, counter-based streams of random numbers.
//!
//! Every random number of a stage comes from here, so that a result depends on nothing but the stage's resolved
//! seed: not on threads, on the order of construction, or on whether the stage was resumed. A stream is ChaCha8
//! keyed by BLAKE3 over (seed, kind, purpose); an indexed stream is another 2^64-block lane of the same key, so
//! item `i` of a parallel loop draws from lane `i` whichever thread runs it. The samplers are ours because their
//! values enter hashed results: the rand crates change theirs between minor releases.

use std::f64::consts;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The streams of one stage: one resolved seed and one kind.
#[derive(Clone, Debug)]
pub struct Streams {
    seed: u64,
    kind: String,
}

impl Streams {
    /// Binds a resolved seed to the kind of the stage that draws from it.
    pub fn new(seed: u64, kind: &str) -> Self {
        Self { seed, kind: kind.to_owned() }
    }

    /// Opens the stream for one purpose, such as `"noise"` or a weight's path.
    pub fn stream(&self, purpose: &str) -> Stream {
        self.indexed(purpose, 0)
    }

    /// Opens lane `index` of a purpose: one lane an item of a loop makes the loop independent of threads.
    pub fn indexed(&self, purpose: &str, index: u64) -> Stream {
        let mut hash = blake3::Hasher::new_derive_key("wavecrest stream v1");
        hash.update(&self.seed.to_le_bytes());
        for part in [self.kind.as_str(), purpose] {
            hash.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        let mut rng = ChaCha8Rng::from_seed(*hash.finalize().as_bytes());
        rng.set_stream(index);
        Stream { rng, spare: None }
    }
}

/// One stream of random numbers.
#[derive(Clone, Debug)]
pub struct Stream {
    rng: ChaCha8Rng,
    /// The second normal of the last Box–Muller pair.
    spare: Option<f64>,
}

impl Stream {
    /// Draws 64 uniform bits.
    pub fn bits(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// Draws uniformly from [0, 1) in steps of 2^-53.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Draws an integer uniformly from `0..n`, without bias (Lemire 2019). `n` is at least 1.
    pub fn below(&mut self, n: u64) -> u64 {
        debug_assert!(n > 0, "an empty range has no element to draw");
        let threshold = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.bits()) * u128::from(n);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }

    /// Draws from the standard normal distribution (Box–Muller, portable bits).
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        // 1 - u lies in (0, 1], where the logarithm is finite.
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.uniform()));
        let angle = consts::TAU * self.uniform();
        self.spare = Some(radius * libm::sin(angle));
        radius * libm::cos(angle)
    }

    /// Draws from the exponential distribution of the given rate (mean `1 / rate`).
    pub fn exponential(&mut self, rate: f64) -> f64 {
        -libm::log(1.0 - self.uniform()) / rate
    }

    /// Fills a slice with standard normals.
    pub fn fill_normal(&mut self, out: &mut [f64]) {
        out.fill_with(|| self.normal());
    }

    /// Puts a slice into uniformly random order (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }

    /// Draws a uniformly random order of `0..n`.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        self.shuffle(&mut order);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_told_apart_by_seed_kind_purpose_and_lane() {
        let first =
            |seed, kind, purpose, lane| Streams::new(seed, kind).indexed(purpose, lane).bits();
        let base = first(1, "a", "b", 0);
        assert_eq!(base, first(1, "a", "b", 0));
        for other in [
            first(2, "a", "b", 0),
            first(1, "ab", "", 0),
            first(1, "a", "c", 0),
            first(1, "a", "b", 1),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn the_first_draws_never_change() {
        // Golden values: a change here changes every cached result of every kind that draws.
        let mut s = Streams::new(2312, "waves.simulate").stream("noise");
        let drawn = [s.bits(), s.uniform().to_bits(), s.normal().to_bits(), s.below(1000)];
        assert_eq!(drawn, GOLDEN);
    }
    const GOLDEN: [u64; 4] =
        [4_180_389_692_499_686_036, 4_596_496_787_992_949_476, 4_612_479_893_167_803_146, 531];

    #[test]
    fn moments_lie_within_five_standard_errors() {
        let n = 200_000;
        let mut s = Streams::new(7, "test").stream("moments");
        let mean = |f: &mut dyn FnMut() -> f64| (0..n).map(|_| f()).sum::<f64>() / f64::from(n);
        let close = |value: f64, expected: f64, sd: f64| {
            assert!(
                (value - expected).abs() < 5.0 * sd / f64::from(n).sqrt(),
                "{value} {expected}"
            );
        };
        close(mean(&mut || s.uniform()), 0.5, (1.0f64 / 12.0).sqrt());
        close(mean(&mut || s.normal()), 0.0, 1.0);
        close(mean(&mut || s.normal().powi(2)), 1.0, 2f64.sqrt());
        close(mean(&mut || s.normal().powi(4)), 3.0, 96f64.sqrt());
        close(mean(&mut || s.exponential(5.0)), 0.2, 0.2);
        close(mean(&mut || s.below(7) as f64), 3.0, 2.0);
    }

    #[test]
    fn a_permutation_holds_each_index_once() {
        let mut order = Streams::new(7, "test").stream("order").permutation(100);
        assert_ne!(order, (0..100).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
