//! The transforms of Winograd's algorithm, on vectors of channels.
//!
//! Each pair of functions in one dimension is a matrix and its transpose: [`super::winograd`] says at which points. In
//! two dimensions they run along one axis, then along the other.

use pulp::{Simd, WithSimd};

use super::simd::Element;

/// Outputs of a tile along an axis.
pub(super) const OUT: usize = 4;
/// Inputs of a tile along an axis.
pub(super) const IN: usize = 6;
/// Numbers that a tile is transformed to.
pub(super) const POINTS: usize = IN * IN;

/// The two magnitudes at which polynomials are evaluated, besides 0 and ∞.
const A: f64 = 5.0 / 8.0;
const B: f64 = 3.0 / 2.0;
const A2: f64 = A * A;
const B2: f64 = B * B;
/// The products of the differences between a point and the others, for 0, ±A and ±B.
const N0: f64 = A2 * B2;
const NA: f64 = 2.0 * A2 * (A2 - B2);
const NB: f64 = 2.0 * B2 * (B2 - A2);

/// How images are cut into tiles.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub tiles_down: usize,
    pub tiles_across: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

type Six<T, S> = [<T as Element>::Lanes<S>; IN];

/// Bᵀd.
#[inline(always)]
fn input<T: Element, S: Simd>(simd: S, d: Six<T, S>) -> Six<T, S> {
    let k = |value: f64| T::splat(simd, T::from_f64(value));
    let fma = |a, b, c| T::fused(simd, a, b, c);
    let mul = |a, b| T::times(simd, a, b);
    let even_a = fma(k(-B2), d[2], d[4]);
    let odd_a = mul(k(A), fma(k(-B2), d[1], d[3]));
    let even_b = fma(k(-A2), d[2], d[4]);
    let odd_b = mul(k(B), fma(k(-A2), d[1], d[3]));
    [
        fma(k(N0), d[0], fma(k(-(A2 + B2)), d[2], d[4])),
        T::plus(simd, even_a, odd_a),
        T::minus(simd, even_a, odd_a),
        T::plus(simd, even_b, odd_b),
        T::minus(simd, even_b, odd_b),
        fma(k(N0), d[1], fma(k(-(A2 + B2)), d[3], d[5])),
    ]
}

/// Bv, the adjoint of [`input`].
#[inline(always)]
fn input_back<T: Element, S: Simd>(simd: S, v: Six<T, S>) -> Six<T, S> {
    let k = |value: f64| T::splat(simd, T::from_f64(value));
    let fma = |a, b, c| T::fused(simd, a, b, c);
    let mul = |a, b| T::times(simd, a, b);
    let (sum_a, difference_a) = (T::plus(simd, v[1], v[2]), mul(k(A), T::minus(simd, v[1], v[2])));
    let (sum_b, difference_b) = (T::plus(simd, v[3], v[4]), mul(k(B), T::minus(simd, v[3], v[4])));
    [
        mul(k(N0), v[0]),
        fma(k(-B2), difference_a, fma(k(-A2), difference_b, mul(k(N0), v[5]))),
        fma(k(-B2), sum_a, fma(k(-A2), sum_b, mul(k(-(A2 + B2)), v[0]))),
        fma(k(-(A2 + B2)), v[5], T::plus(simd, difference_a, difference_b)),
        T::plus(simd, v[0], T::plus(simd, sum_a, sum_b)),
        v[5],
    ]
}

/// Aᵀm.
#[inline(always)]
fn output<T: Element, S: Simd>(simd: S, m: Six<T, S>) -> [T::Lanes<S>; OUT] {
    let k = |value: f64| T::splat(simd, T::from_f64(value));
    let fma = |a, b, c| T::fused(simd, a, b, c);
    let mul = |a, b| T::times(simd, a, b);
    let (sum_a, difference_a) = (T::plus(simd, m[1], m[2]), T::minus(simd, m[1], m[2]));
    let (sum_b, difference_b) = (T::plus(simd, m[3], m[4]), T::minus(simd, m[3], m[4]));
    [
        T::plus(simd, m[0], T::plus(simd, sum_a, sum_b)),
        fma(k(A), difference_a, mul(k(B), difference_b)),
        fma(k(A2), sum_a, mul(k(B2), sum_b)),
        fma(k(A * A2), difference_a, fma(k(B * B2), difference_b, m[5])),
    ]
}

/// Ay, the adjoint of [`output`].
#[inline(always)]
fn output_back<T: Element, S: Simd>(simd: S, y: [T::Lanes<S>; OUT]) -> Six<T, S> {
    let k = |value: f64| T::splat(simd, T::from_f64(value));
    let fma = |a, b, c| T::fused(simd, a, b, c);
    let mul = |a, b| T::times(simd, a, b);
    let even_a = fma(k(A2), y[2], y[0]);
    let odd_a = mul(k(A), fma(k(A2), y[3], y[1]));
    let even_b = fma(k(B2), y[2], y[0]);
    let odd_b = mul(k(B), fma(k(B2), y[3], y[1]));
    [
        y[0],
        T::plus(simd, even_a, odd_a),
        T::minus(simd, even_a, odd_a),
        T::plus(simd, even_b, odd_b),
        T::minus(simd, even_b, odd_b),
        y[3],
    ]
}

/// Gg.
#[inline(always)]
fn weights<T: Element, S: Simd>(simd: S, g: [T::Lanes<S>; 3]) -> Six<T, S> {
    let k = |value: f64| T::splat(simd, T::from_f64(value));
    let fma = |a, b, c| T::fused(simd, a, b, c);
    let mul = |a, b| T::times(simd, a, b);
    let even_a = fma(k(A2 / NA), g[2], mul(k(1.0 / NA), g[0]));
    let odd_a = mul(k(A / NA), g[1]);
    let even_b = fma(k(B2 / NB), g[2], mul(k(1.0 / NB), g[0]));
    let odd_b = mul(k(B / NB), g[1]);
    [
        mul(k(1.0 / N0), g[0]),
        T::plus(simd, even_a, odd_a),
        T::minus(simd, even_a, odd_a),
        T::plus(simd, even_b, odd_b),
        T::minus(simd, even_b, odd_b),
        g[2],
    ]
}

/// Gᵀu, the adjoint of [`weights`].
#[inline(always)]
fn weights_back<T: Element, S: Simd>(simd: S, u: Six<T, S>) -> [T::Lanes<S>; 3] {
    let k = |value: f64| T::splat(simd, T::from_f64(value));
    let fma = |a, b, c| T::fused(simd, a, b, c);
    let mul = |a, b| T::times(simd, a, b);
    let (sum_a, difference_a) = (T::plus(simd, u[1], u[2]), T::minus(simd, u[1], u[2]));
    let (sum_b, difference_b) = (T::plus(simd, u[3], u[4]), T::minus(simd, u[3], u[4]));
    [
        fma(k(1.0 / NA), sum_a, fma(k(1.0 / NB), sum_b, mul(k(1.0 / N0), u[0]))),
        fma(k(A / NA), difference_a, mul(k(B / NB), difference_b)),
        fma(k(A2 / NA), sum_a, fma(k(B2 / NB), sum_b, u[5])),
    ]
}

/// Images to 36 planes of tiles × channels.
pub(super) struct Input<'a, T> {
    pub block: Block,
    pub x: &'a [T],
    pub out: &'a mut [T],
}

impl<T: Element> WithSimd for Input<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { block, x, out } = self;
        let x = T::vectors::<S>(x);
        let out = T::vectors_mut::<S>(out);
        let c = block.channels / T::count::<S>();
        let plane = out.len() / POINTS;
        let zero = T::splat(simd, T::zero());
        block.for_each_tile(x.len() / c, |tile, image, top, left| {
            for lane in 0..c {
                let mut rows = [[zero; IN]; IN];
                for (i, row) in rows.iter_mut().enumerate() {
                    let y = top + i;
                    if y == 0 || y > block.height {
                        continue;
                    }
                    let line = &x[(image + (y - 1) * block.width) * c..][..block.width * c];
                    let mut d = [zero; IN];
                    for (j, d) in d.iter_mut().enumerate() {
                        let column = left + j;
                        if column > 0 && column <= block.width {
                            *d = line[(column - 1) * c + lane];
                        }
                    }
                    *row = input::<T, S>(simd, d);
                }
                for j in 0..IN {
                    let column = input::<T, S>(simd, std::array::from_fn(|i| rows[i][j]));
                    for (i, value) in column.into_iter().enumerate() {
                        out[(i * IN + j) * plane + tile * c + lane] = value;
                    }
                }
            }
        });
    }
}

/// The adjoint of [`Input`]: adds 36 planes to images.
pub(super) struct InputBack<'a, T> {
    pub block: Block,
    pub dv: &'a [T],
    pub dx: &'a mut [T],
}

impl<T: Element> WithSimd for InputBack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { block, dv, dx } = self;
        let dv = T::vectors::<S>(dv);
        let dx = T::vectors_mut::<S>(dx);
        let c = block.channels / T::count::<S>();
        let plane = dv.len() / POINTS;
        let zero = T::splat(simd, T::zero());
        block.for_each_tile(dx.len() / c, |tile, image, top, left| {
            for lane in 0..c {
                let mut rows = [[zero; IN]; IN];
                for j in 0..IN {
                    let column =
                        std::array::from_fn(|i| dv[(i * IN + j) * plane + tile * c + lane]);
                    for (row, value) in rows.iter_mut().zip(input_back::<T, S>(simd, column)) {
                        row[j] = value;
                    }
                }
                for (i, row) in rows.into_iter().enumerate() {
                    let y = top + i;
                    if y == 0 || y > block.height {
                        continue;
                    }
                    let line = &mut dx[(image + (y - 1) * block.width) * c..][..block.width * c];
                    for (j, d) in input_back::<T, S>(simd, row).into_iter().enumerate() {
                        let column = left + j;
                        if column > 0 && column <= block.width {
                            let at = &mut line[(column - 1) * c + lane];
                            *at = T::plus(simd, *at, d);
                        }
                    }
                }
            }
        });
    }
}

/// 36 planes of tiles × filters to outputs.
pub(super) struct Output<'a, T> {
    pub block: Block,
    pub products: &'a [T],
    pub y: &'a mut [T],
}

impl<T: Element> WithSimd for Output<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { block, products, y } = self;
        let products = T::vectors::<S>(products);
        let y = T::vectors_mut::<S>(y);
        let c = block.channels / T::count::<S>();
        let plane = products.len() / POINTS;
        let zero = T::splat(simd, T::zero());
        block.for_each_tile(y.len() / c, |tile, image, top, left| {
            for lane in 0..c {
                let mut rows = [[zero; IN]; OUT];
                for j in 0..IN {
                    let column =
                        std::array::from_fn(|i| products[(i * IN + j) * plane + tile * c + lane]);
                    for (row, value) in rows.iter_mut().zip(output::<T, S>(simd, column)) {
                        row[j] = value;
                    }
                }
                for (i, row) in rows.into_iter().enumerate() {
                    if top + i >= block.height {
                        break;
                    }
                    let line = &mut y[(image + (top + i) * block.width) * c..][..block.width * c];
                    for (j, value) in output::<T, S>(simd, row).into_iter().enumerate() {
                        if left + j < block.width {
                            line[(left + j) * c + lane] = value;
                        }
                    }
                }
            }
        });
    }
}

/// The adjoint of [`Output`]: gradients of outputs to 36 planes.
pub(super) struct OutputBack<'a, T> {
    pub block: Block,
    pub dy: &'a [T],
    pub out: &'a mut [T],
}

impl<T: Element> WithSimd for OutputBack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { block, dy, out } = self;
        let dy = T::vectors::<S>(dy);
        let out = T::vectors_mut::<S>(out);
        let c = block.channels / T::count::<S>();
        let plane = out.len() / POINTS;
        let zero = T::splat(simd, T::zero());
        block.for_each_tile(dy.len() / c, |tile, image, top, left| {
            for lane in 0..c {
                let mut rows = [[zero; IN]; OUT];
                for (i, row) in rows.iter_mut().enumerate() {
                    if top + i >= block.height {
                        continue;
                    }
                    let line = &dy[(image + (top + i) * block.width) * c..][..block.width * c];
                    let mut values = [zero; OUT];
                    for (j, value) in values.iter_mut().enumerate() {
                        if left + j < block.width {
                            *value = line[(left + j) * c + lane];
                        }
                    }
                    *row = output_back::<T, S>(simd, values);
                }
                for j in 0..IN {
                    let column = output_back::<T, S>(simd, std::array::from_fn(|i| rows[i][j]));
                    for (i, value) in column.into_iter().enumerate() {
                        out[(i * IN + j) * plane + tile * c + lane] = value;
                    }
                }
            }
        });
    }
}

impl Block {
    /// Calls `f` with each tile of some images: its number, the first pixel of its image, its first row and column.
    #[inline(always)]
    fn for_each_tile(&self, pixels: usize, mut f: impl FnMut(usize, usize, usize, usize)) {
        let mut tile = 0;
        for image in (0..pixels).step_by(self.height * self.width) {
            for down in 0..self.tiles_down {
                for across in 0..self.tiles_across {
                    f(tile, image, down * OUT, across * OUT);
                    tile += 1;
                }
            }
        }
    }
}

/// The nine taps of a channel, 9×m, to its rows of the 36 planes.
pub(super) struct Weights<'a, 'b, T> {
    pub taps: &'a [T],
    pub planes: &'a mut [&'b mut [T]],
    pub at: usize,
}

impl<T: Element> WithSimd for Weights<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let filters = self.taps.len() / 9;
        let taps = T::vectors::<S>(self.taps);
        let m = filters / T::count::<S>();
        for lane in 0..m {
            let rows: [Six<T, S>; 3] = std::array::from_fn(|i| {
                weights::<T, S>(simd, std::array::from_fn(|j| taps[(3 * i + j) * m + lane]))
            });
            for j in 0..IN {
                let column = weights::<T, S>(simd, std::array::from_fn(|i| rows[i][j]));
                for (i, value) in column.into_iter().enumerate() {
                    let row = &mut self.planes[i * IN + j][self.at..][..filters];
                    T::vectors_mut::<S>(row)[lane] = value;
                }
            }
        }
    }
}

/// The gradients of some filters of a channel in the 36 planes to those of its nine taps.
pub(super) struct WeightsBack<'a, T> {
    pub transformed: &'a [T],
    pub at: usize,
    pub plane: usize,
    pub filters: usize,
    pub taps: &'a mut [T],
}

impl<T: Element> WithSimd for WeightsBack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let stride = self.taps.len() / 9 / T::count::<S>();
        let taps = T::vectors_mut::<S>(self.taps);
        for lane in 0..self.filters / T::count::<S>() {
            let row = |point: usize| {
                T::vectors::<S>(&self.transformed[point * self.plane + self.at..][..self.filters])
                    [lane]
            };
            let mut rows = [[T::splat(simd, T::zero()); IN]; 3];
            for j in 0..IN {
                let column = weights_back::<T, S>(simd, std::array::from_fn(|i| row(i * IN + j)));
                for (row, value) in rows.iter_mut().zip(column) {
                    row[j] = value;
                }
            }
            for (i, row) in rows.into_iter().enumerate() {
                for (j, value) in weights_back::<T, S>(simd, row).into_iter().enumerate() {
                    taps[(3 * i + j) * stride + lane] = value;
                }
            }
        }
    }
}
