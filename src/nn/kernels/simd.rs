//! The vector instructions of the processor that the program runs on, for `f32` and `f64` alike.
//!
//! One binary holds a kernel several times over, for AVX-512, for AVX2 and without either, and picks at run time.

use std::sync::OnceLock;

use pulp::{Arch, Simd, WithSimd};

use crate::nn::host::Real;

/// A floating-point type with its vectors: as many elements as a register of the instruction set `S` holds.
pub trait Element: Real {
    type Lanes<S: Simd>: Copy;

    /// Elements of a vector.
    fn count<S: Simd>() -> usize;
    /// Sees a slice as vectors. What is left at the end is left out.
    fn vectors<S: Simd>(slice: &[Self]) -> &[Self::Lanes<S>];
    /// The same, to write to.
    fn vectors_mut<S: Simd>(slice: &mut [Self]) -> &mut [Self::Lanes<S>];
    /// Repeats a number in each lane.
    fn splat<S: Simd>(simd: S, value: Self) -> Self::Lanes<S>;
    fn plus<S: Simd>(simd: S, a: Self::Lanes<S>, b: Self::Lanes<S>) -> Self::Lanes<S>;
    fn minus<S: Simd>(simd: S, a: Self::Lanes<S>, b: Self::Lanes<S>) -> Self::Lanes<S>;
    fn times<S: Simd>(simd: S, a: Self::Lanes<S>, b: Self::Lanes<S>) -> Self::Lanes<S>;
    /// Computes a·b + c, rounded once where the processor has such an instruction.
    fn fused<S: Simd>(
        simd: S,
        a: Self::Lanes<S>,
        b: Self::Lanes<S>,
        c: Self::Lanes<S>,
    ) -> Self::Lanes<S>;
}

macro_rules! element {
    ($type:ty, $lanes:ident, $count:ident, $vectors:ident, $vectors_mut:ident,
     $splat:ident, $add:ident, $sub:ident, $mul:ident, $mul_add:ident) => {
        impl Element for $type {
            type Lanes<S: Simd> = S::$lanes;

            #[inline(always)]
            fn count<S: Simd>() -> usize {
                S::$count
            }
            #[inline(always)]
            fn vectors<S: Simd>(slice: &[Self]) -> &[S::$lanes] {
                S::$vectors(slice).0
            }
            #[inline(always)]
            fn vectors_mut<S: Simd>(slice: &mut [Self]) -> &mut [S::$lanes] {
                S::$vectors_mut(slice).0
            }
            #[inline(always)]
            fn splat<S: Simd>(simd: S, value: Self) -> S::$lanes {
                simd.$splat(value)
            }
            #[inline(always)]
            fn plus<S: Simd>(simd: S, a: S::$lanes, b: S::$lanes) -> S::$lanes {
                simd.$add(a, b)
            }
            #[inline(always)]
            fn minus<S: Simd>(simd: S, a: S::$lanes, b: S::$lanes) -> S::$lanes {
                simd.$sub(a, b)
            }
            #[inline(always)]
            fn times<S: Simd>(simd: S, a: S::$lanes, b: S::$lanes) -> S::$lanes {
                simd.$mul(a, b)
            }
            #[inline(always)]
            fn fused<S: Simd>(simd: S, a: S::$lanes, b: S::$lanes, c: S::$lanes) -> S::$lanes {
                simd.$mul_add(a, b, c)
            }
        }
    };
}

element!(
    f32,
    f32s,
    F32_LANES,
    as_simd_f32s,
    as_mut_simd_f32s,
    splat_f32s,
    add_f32s,
    sub_f32s,
    mul_f32s,
    mul_add_e_f32s
);
element!(
    f64,
    f64s,
    F64_LANES,
    as_simd_f64s,
    as_mut_simd_f64s,
    splat_f64s,
    add_f64s,
    sub_f64s,
    mul_f64s,
    mul_add_e_f64s
);

/// Runs a kernel on the widest instructions that the processor has.
#[inline]
pub fn vectorize<K: WithSimd>(kernel: K) -> K::Output {
    static ARCH: OnceLock<Arch> = OnceLock::new();
    ARCH.get_or_init(Arch::new).dispatch(kernel)
}
