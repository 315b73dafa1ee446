//! Exponential, logistic and hyperbolic cosine with the same bits on every machine.
//!
//! The system's mathematical library differs between machines and is called once a number. These are plain sums,
//! products and quotients without branches, so that the compiler turns a loop over slices into vector code, and
//! Rust never contracts them into fused operations. Relative error: at most 2e-14, plus the half unit in the last place
//! that any rounding of the argument costs. NaN gives NaN.

use std::f64::consts::{LN_2, LOG2_E};

/// Exponents of two beyond which the functions saturate.
const LIMIT: f64 = 1000.0;
/// Adding 1.5 x 2^52 rounds to an integer, which is then found in the low bits.
const ROUND: f64 = 6_755_399_441_055_744.0;

/// Computes `2^x` as a quotient: numerator and denominator, both positive.
///
/// With `x = k + f` and `|f| <= 1/2` it is `2^k (e + o) / (e - o)`, where `o / e` is the rational function of `f` nearest to
/// `tanh(f ln(2) / 2)`: odd of degree 3 over even of degree 4, fitted by the Remez algorithm, largest relative error
/// of `2^f` 1.11e-14. Left as a quotient because sums such as the logistic function then need one division in all.
/// `x` beyond ±1000 gives `2^±1000`. The parts are products of at most `2^1000` and a number between 6000 and 9000.
#[inline(always)]
pub fn exp2_fraction(x: f64) -> (f64, f64) {
    let (fraction, scale) = reduce(x);
    exp2_of_reduced(fraction, scale)
}

/// Computes `e^x` for |x| ≤ 690; saturates beyond.
#[inline]
pub fn exp(x: f64) -> f64 {
    let (numerator, denominator) = exp2_fraction(x * LOG2_E);
    numerator / denominator
}

/// Computes `1 / (1 + e^-x)`.
#[inline]
pub fn logistic(x: f64) -> f64 {
    let (numerator, denominator) = exp2_fraction(x * LOG2_E);
    numerator / (numerator + denominator)
}

/// Computes the hyperbolic cosine for |x| ≤ 690; saturates beyond.
#[inline]
pub fn cosh(x: f64) -> f64 {
    let power = exp(x);
    0.5 * (power + 1.0 / power)
}

/// Splits `x` into a fraction and the power of two to its integer part: the first half of [`exp2_fraction`].
///
/// A loop over many numbers is faster in two halves: the processor then overlaps more of the short dependent chains.
#[inline(always)]
pub fn reduce(x: f64) -> (f64, f64) {
    // Written as comparisons, each one instruction that lets NaN through; `clamp` would be three.
    let x = if x > LIMIT { LIMIT } else { x };
    let x = if x < -LIMIT { -LIMIT } else { x };
    let rounded = x + ROUND;
    let fraction = x - (rounded - ROUND);
    let scale = f64::from_bits((rounded.to_bits() << 52).wrapping_add(1f64.to_bits()));
    (fraction, scale)
}

/// Computes numerator and denominator of `2^fraction * scale`: the second half of [`exp2_fraction`].
#[inline(always)]
pub fn exp2_of_reduced(fraction: f64, scale: f64) -> (f64, f64) {
    const EVEN: [f64; 2] = [7_285.733_595_477_515, 375.021_653_867_453_15];
    const ODD: [f64; 2] = [2_525.042_850_007_329, 28.875_563_755_792_943];
    let square = fraction * fraction;
    let even = (square + EVEN[1]) * square + EVEN[0];
    let odd = (ODD[1] * square + ODD[0]) * fraction;
    ((even + odd) * scale, even - odd)
}

/// Factor that turns an exponent to base e into one to base 2, over a divisor: `e^(x / width) = 2^(x * per(width))`.
pub fn per(width: f64) -> f64 {
    1.0 / (width * LN_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares over 200,001 points of [-limit, limit]; `slack` allows for the rounding of the argument.
    fn check(name: &str, ours: fn(f64) -> f64, reference: fn(f64) -> f64, limit: f64, slack: f64) {
        let mut worst = (0.0, 0.0);
        for i in -100_000..=100_000 {
            let x = limit * f64::from(i) / 100_000.0;
            let expected = reference(x);
            let error = if expected == 0.0 { ours(x).abs() } else { ours(x) / expected - 1.0 };
            let bound = 2e-14 + slack * x.abs() * f64::EPSILON;
            if error.abs() / bound > worst.0 {
                worst = (error.abs() / bound, x);
            }
        }
        assert!(worst.0 <= 1.0, "{name}: {} of the bound at {}", worst.0, worst.1);
    }

    #[test]
    fn the_functions_agree_with_libm() {
        // Membrane potentials over gate widths stay within ±40; the wide ranges test the reduction.
        for limit in [1e-6, 1.0, 40.0, 690.0] {
            check("exp", exp, libm::exp, limit, 1.5);
            check("cosh", cosh, libm::cosh, limit, 1.5);
            check("logistic", logistic, |x| 1.0 / (1.0 + libm::exp(-x)), limit, 1.5);
        }
    }

    #[test]
    fn exact_values_and_extremes() {
        assert_eq!([exp(0.0), cosh(0.0), logistic(0.0), logistic(1e9)], [1.0, 1.0, 0.5, 1.0]);
        assert!(logistic(-1e9) < 1e-300 && exp(-f64::INFINITY) < 1e-300);
        assert!(exp(f64::INFINITY) > 1e300 && cosh(1e9) > 1e300);
        for f in [exp, cosh, logistic] {
            assert!(f(f64::NAN).is_nan());
        }
        for k in [-1000, -3, 1, 7, 1000] {
            let (numerator, denominator) = exp2_fraction(f64::from(k));
            assert_eq!(numerator / denominator, libm::ldexp(1.0, k));
        }
    }

    #[test]
    fn the_bits_never_change() {
        let points = [-37.5, -1.0, -0.1, 0.3, 2.0, 21.7];
        let mut hash = blake3::Hasher::new();
        for f in [exp, cosh, logistic] {
            for x in points {
                hash.update(&f(x).to_le_bytes());
            }
        }
        assert_eq!(&hash.finalize().to_hex()[..16], "7c3f79e43e5137f7");
    }
}
