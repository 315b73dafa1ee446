//! How far correlations reach in space and time.
//!
//! Both are measured over all pixels together: the covariances of all pairs at a distance, summed, over the sum of the
//! products of their deviations. Where all pixels vary alike this is the mean of Pearson's correlations, and a pixel
//! that hardly varies weighs hardly anything. The reach is where the correlation has fallen to 1/e, for the first time,
//! between two distances by a line through the logarithms: exact where correlations fall exponentially. Its standard
//! error is the jackknife's over ten blocks of the movie (Künsch 1989), which is sound where a block is long beside the
//! times over which the movie is correlated.

use std::collections::{BTreeMap, VecDeque};
use std::f64::consts;

/// Blocks of time, each of which the jackknife leaves out once.
pub const BLOCKS: usize = 10;

/// A length and how well it is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reach {
    /// Where the correlation has fallen to 1/e.
    pub length: f64,
    /// Its standard error, if it is defined with each block left out.
    pub error: Option<f64>,
}

/// Where a curve from 1 at 0 first falls to 1/e; nothing if it does not.
///
/// `curve` holds distances, in order, and correlations.
pub fn fall(curve: &[(f64, f64)]) -> Option<f64> {
    let level = 1.0 / consts::E;
    let mut before = (0.0, 1.0);
    for &(at, value) in curve {
        if value <= level {
            let (from, high) = before;
            let share = if value > 0.0 {
                (libm::log(high) + 1.0) / (libm::log(high) - libm::log(value))
            } else {
                (high - level) / (high - value)
            };
            return Some(from + share * (at - from));
        }
        before = (at, value);
    }
    None
}

/// The reach of correlations whose curve can be had without any one block.
fn reach(blocks: usize, curve: impl Fn(Option<usize>) -> Option<Vec<(f64, f64)>>) -> Option<Reach> {
    let length = fall(&curve(None)?)?;
    let without: Option<Vec<f64>> =
        (0..blocks).map(|block| curve(Some(block)).and_then(|curve| fall(&curve))).collect();
    let error = without.filter(|_| blocks >= 2).map(|lengths| {
        let n = lengths.len() as f64;
        let mean = lengths.iter().sum::<f64>() / n;
        let squares: f64 = lengths.iter().map(|length| (length - mean).powi(2)).sum();
        (squares * (n - 1.0) / n).sqrt()
    });
    Some(Reach { length, error })
}

/// Sums over the frames of a block.
#[derive(Clone, Debug, Default)]
struct Sums {
    frames: u64,
    /// Of each pixel.
    values: Vec<f64>,
    squares: Vec<f64>,
    /// Of each lag: products over all pairs, and how many frames had a partner.
    products: Vec<f64>,
    partners: Vec<u64>,
}

impl Sums {
    fn new(pixels: usize, lags: usize) -> Self {
        let (values, squares) = (vec![0.0; pixels], vec![0.0; pixels]);
        Self { frames: 0, values, squares, products: vec![0.0; lags], partners: vec![0; lags] }
    }

    fn add_frame(&mut self, frame: &[f32]) {
        self.frames += 1;
        for ((sum, square), value) in self.values.iter_mut().zip(&mut self.squares).zip(frame) {
            let value = f64::from(*value);
            *sum += value;
            *square += value * value;
        }
    }

    /// The sums of all blocks but one.
    fn all(blocks: &[Self], without: Option<usize>) -> Self {
        let first = &blocks[0];
        let mut total = Self::new(first.values.len(), first.products.len());
        for (_, block) in blocks.iter().enumerate().filter(|(at, _)| Some(*at) != without) {
            let add = |to: &mut [f64], from: &[f64]| {
                to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
            };
            total.frames += block.frames;
            add(&mut total.values, &block.values);
            add(&mut total.squares, &block.squares);
            add(&mut total.products, &block.products);
            total.partners.iter_mut().zip(&block.partners).for_each(|(to, from)| *to += from);
        }
        total
    }

    /// Mean and variance of each pixel; nothing without frames.
    fn moments(&self) -> Option<Vec<(f64, f64)>> {
        let n = self.frames as f64;
        let moments = self.values.iter().zip(&self.squares).map(|(sum, square)| {
            let mean = sum / n;
            let variance = square / n - mean * mean;
            // What is left of a constant pixel is rounding.
            (mean, if variance > 1e-9 * (square / n) { variance } else { 0.0 })
        });
        (self.frames > 0).then(|| moments.collect())
    }
}

/// The block that a frame lies in.
fn block(frame: usize, frames: usize) -> usize {
    frame * BLOCKS / frames.max(1)
}

/// The sum of products of two rows, in a fixed order that vectors can follow.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut lanes = [0.0f32; 16];
    let (a_chunks, a_rest) = a.as_chunks::<16>();
    let (b_chunks, b_rest) = b.as_chunks::<16>();
    let mut total = 0.0;
    // A lane takes 64 products at most before it goes into the sum of double precision.
    for (a, b) in a_chunks.chunks(64).zip(b_chunks.chunks(64)) {
        lanes.fill(0.0);
        for (a, b) in a.iter().zip(b) {
            lanes.iter_mut().zip(a.iter().zip(b)).for_each(|(lane, (a, b))| *lane += a * b);
        }
        total += lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>();
    }
    total + a_rest.iter().zip(b_rest).map(|(a, b)| f64::from(a * b)).sum::<f64>()
}

/// Correlations between pixels of a frame, along rows, columns and both diagonals.
#[derive(Clone, Debug)]
pub struct InSpace {
    height: usize,
    width: usize,
    frames: usize,
    /// Rows down and columns right of each lag.
    lags: Vec<[isize; 2]>,
    every: usize,
    reference: Vec<f32>,
    shifted: Vec<f32>,
    /// The same with zeros behind each row, as many as the longest lag.
    padded: Vec<f32>,
    blocks: Vec<Sums>,
}

/// Frames that correlations in space are measured on at most, spread evenly: neighboring frames tell the same.
const SPREAD: usize = 20_000;

impl InSpace {
    /// Begins before the first of some frames. Lags go to half of the shorter side, so that each has many pairs.
    pub fn new(height: usize, width: usize, frames: usize) -> Self {
        let longest = (height.min(width) / 2).max(1) as isize;
        let lags: Vec<[isize; 2]> =
            (1..=longest).flat_map(|d| [[0, d], [d, 0], [d, d], [d, -d]]).collect();
        let lags: Vec<[isize; 2]> = lags
            .into_iter()
            .filter(|[y, x]| *y < height as isize && x.unsigned_abs() < width)
            .collect();
        let blocks = vec![Sums::new(height * width, lags.len()); BLOCKS];
        let every = frames.div_ceil(SPREAD).max(1);
        let (reference, shifted) = (Vec::new(), vec![0.0; height * width]);
        let padded = vec![0.0; height * (width + longest as usize)];
        Self { height, width, frames, lags, every, reference, shifted, padded, blocks }
    }

    /// Takes a frame.
    pub fn push(&mut self, index: usize, frame: &[f32]) {
        if !index.is_multiple_of(self.every) {
            return;
        }
        if self.reference.is_empty() {
            self.reference = frame.to_vec();
        }
        // Values from the first frame on keep the digits that their own size would take.
        for ((to, value), first) in self.shifted.iter_mut().zip(frame).zip(&self.reference) {
            *to = value - first;
        }
        let stride = self.padded.len() / self.height;
        let rows = self.shifted.chunks_exact(self.width);
        for (to, row) in self.padded.chunks_exact_mut(stride).zip(rows) {
            to[..self.width].copy_from_slice(row);
        }
        let sums = &mut self.blocks[block(index, self.frames)];
        sums.add_frame(&self.shifted);
        for ([down, right], product) in self.lags.iter().zip(&mut sums.products) {
            // What would reach over the end of a row meets the zeros there.
            let apart = (down * stride as isize + right) as usize;
            let (from, to) = (&self.padded[..self.padded.len() - apart], &self.padded[apart..]);
            *product += dot(from, to);
        }
    }

    /// Where correlations have fallen to 1/e, in pixels.
    pub fn reach(&self) -> Option<Reach> {
        let filled: Vec<Sums> = self.blocks.iter().filter(|b| b.frames > 0).cloned().collect();
        if filled.is_empty() {
            return None;
        }
        reach(filled.len(), |without| self.curve_of(&Sums::all(&filled, without)))
    }

    /// Distances in pixels, a bin each, and the correlations there.
    pub fn curve(&self) -> Vec<(f64, f64)> {
        self.curve_of(&Sums::all(&self.blocks, None)).unwrap_or_default()
    }

    fn curve_of(&self, sums: &Sums) -> Option<Vec<(f64, f64)>> {
        let moments = sums.moments()?;
        let n = sums.frames as f64;
        // By the nearest whole distance: pairs, their distances, covariances and products of deviations.
        let mut bins: BTreeMap<usize, [f64; 4]> = BTreeMap::new();
        for (lag, product) in self.lags.iter().zip(&sums.products) {
            let distance = ((lag[0].pow(2) + lag[1].pow(2)) as f64).sqrt();
            let bin = bins.entry(distance.round() as usize).or_default();
            bin[2] += product / n;
            for (a, b, count) in pairs(*lag, self.height, self.width) {
                for ((mean, variance), (other, spread)) in
                    moments[a..a + count].iter().zip(&moments[b..b + count])
                {
                    bin[0] += 1.0;
                    bin[1] += distance;
                    bin[2] -= mean * other;
                    bin[3] += (variance * spread).sqrt();
                }
            }
        }
        bins.values().map(|[n, d, c, s]| (*s > 0.0).then(|| (d / n, c / s))).collect()
    }
}

/// The pairs of pixels at a lag: rows of them, as where the one and the other begin, and how many there are.
fn pairs(
    lag: [isize; 2],
    height: usize,
    width: usize,
) -> impl Iterator<Item = (usize, usize, usize)> {
    let [down, right] = lag;
    let (down, aside) = (down as usize, right.unsigned_abs());
    (0..height - down).map(move |y| {
        let (a, b) = (y * width, (y + down) * width);
        if right >= 0 { (a, b + aside, width - aside) } else { (a + aside, b, width - aside) }
    })
}

/// Correlations of pixels with themselves at later frames.
#[derive(Clone, Debug)]
pub struct InTime {
    frames: usize,
    lags: Vec<usize>,
    /// Every so many pixels are followed.
    every: usize,
    reference: Vec<f32>,
    /// The last frames, the newest in front.
    past: VecDeque<Vec<f32>>,
    blocks: Vec<Sums>,
}

/// Pixels that are followed in time at most, spread evenly.
const FOLLOWED: usize = 256;
/// The longest lag in frames; a movie shorter than four of it has lags up to a quarter of it.
const LONGEST: usize = 1024;

impl InTime {
    /// Begins before the first of some frames of so many pixels. Lags grow by a fifth, so that logarithms of the
    /// correlations are close to straight between them.
    pub fn new(area: usize, frames: usize) -> Self {
        let longest = (frames / 4).clamp(1, LONGEST);
        let next = |lag: &usize| Some((lag + 1).max(lag * 6 / 5));
        let lags: Vec<usize> =
            std::iter::successors(Some(1), next).take_while(|lag| *lag <= longest).collect();
        let every = area.div_ceil(FOLLOWED);
        let followed = area.div_ceil(every);
        let blocks = vec![Sums::new(followed, lags.len()); BLOCKS];
        Self { frames, lags, every, reference: Vec::new(), past: VecDeque::new(), blocks }
    }

    /// Takes the next frame.
    pub fn push(&mut self, index: usize, frame: &[f32]) {
        let followed = frame.iter().step_by(self.every);
        if self.reference.is_empty() {
            self.reference = followed.clone().copied().collect();
        }
        let longest = self.lags.last().copied().unwrap_or(1);
        let mut now =
            if self.past.len() > longest { self.past.pop_back() } else { None }.unwrap_or_default();
        now.clear();
        now.extend(followed.zip(&self.reference).map(|(value, first)| value - first));
        let sums = &mut self.blocks[block(index, self.frames)];
        sums.add_frame(&now);
        for (at, lag) in self.lags.iter().enumerate() {
            let Some(then) = self.past.get(lag - 1) else { break };
            sums.products[at] += dot(&now, then);
            sums.partners[at] += 1;
        }
        self.past.push_front(now);
    }

    /// Where correlations have fallen to 1/e, in frames.
    pub fn reach(&self) -> Option<Reach> {
        let filled: Vec<Sums> = self.blocks.iter().filter(|b| b.frames > 0).cloned().collect();
        if filled.is_empty() {
            return None;
        }
        reach(filled.len(), |without| self.curve_of(&Sums::all(&filled, without)))
    }

    /// Lags in frames, and the correlations there.
    pub fn curve(&self) -> Vec<(f64, f64)> {
        self.curve_of(&Sums::all(&self.blocks, None)).unwrap_or_default()
    }

    /// The longest lag in frames.
    pub fn longest(&self) -> usize {
        self.lags.last().copied().unwrap_or(0)
    }

    fn curve_of(&self, sums: &Sums) -> Option<Vec<(f64, f64)>> {
        let moments = sums.moments()?;
        let squared: f64 = moments.iter().map(|(mean, _)| mean * mean).sum();
        let variance: f64 = moments.iter().map(|(_, variance)| variance).sum();
        let known = self.lags.iter().zip(&sums.products).zip(&sums.partners);
        (variance > 0.0).then(|| {
            known
                .filter(|(_, partners)| **partners > 0)
                .map(|((lag, product), partners)| {
                    (*lag as f64, (product / *partners as f64 - squared) / variance)
                })
                .collect()
        })
    }
}

#[cfg(test)]
#[path = "correlation_tests.rs"]
mod tests;
