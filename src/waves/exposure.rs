//! Calcium-like traces of spikes: what a camera would see of an indicator that each spike lights up.

use super::math;

/// The trace of one spike: a decaying exponential, less a faster one where it rises; its area is 1.
///
/// `h(t) = (e^(-t/decay) - e^(-t/rise)) / (decay - rise)`, without the second term where `rise` is 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kernel {
    /// Time constant of the decay in s, above 0.
    pub decay: f64,
    /// Time constant of the rise in s, from 0 to below `decay`.
    pub rise: f64,
}

/// The frames of a camera; each is exposed until the next one begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exposure {
    /// When the first frame begins, in s.
    pub start: f64,
    /// Frames a second.
    pub rate: f64,
    /// Number of frames.
    pub frames: usize,
}

/// A spike, at a time in s, in a pixel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spike {
    /// When it was.
    pub time: f64,
    /// Where it was.
    pub pixel: usize,
}

/// A trace that has sunk to this is silent: smaller numbers would only be slow.
const SILENT: f64 = 1e-30;

/// Why no frames are made.
#[derive(Debug, PartialEq, Eq)]
pub enum ExposureError<E> {
    /// So many frames do not fit into memory.
    Memory,
    /// The caller asked to stop.
    Stopped(E),
}

/// Yields the mean of each pixel's trace over each frame, frame by frame.
///
/// Spikes before the first frame count with what is left of them. Exact for spikes at any time: with
/// `S = Σ e^(-(t - s)/τ)` over the spikes `s` before a frame that begins at `t` and lasts `Δ`, an exponential has the
/// integral `τ S (1 - e^(-Δ/τ)) + τ Σ (1 - e^(-(t + Δ - s)/τ))` over that frame, the second sum over the spikes in it.
/// Spikes are sorted first, so that their order changes no bit. `observe` is called after each frame.
pub fn expose<E>(
    mut spikes: Vec<Spike>,
    pixels: usize,
    kernel: Kernel,
    exposure: Exposure,
    mut observe: impl FnMut(usize) -> Result<(), E>,
) -> Result<Vec<f32>, ExposureError<E>> {
    spikes.sort_by(|a, b| a.time.total_cmp(&b.time).then(a.pixel.cmp(&b.pixel)));
    let mut movie: Vec<f32> = Vec::new();
    let room = pixels.checked_mul(exposure.frames).ok_or(ExposureError::Memory)?;
    movie.try_reserve_exact(room).map_err(|_| ExposureError::Memory)?;
    let mut terms: Vec<Term> = kernel.terms().map(|term| Term::new(term, pixels)).collect();
    let mut left = spikes.iter().peekable();
    while let Some(spike) = left.next_if(|spike| spike.time < exposure.start) {
        for term in &mut terms {
            term.add(*spike, exposure.start);
        }
    }
    let mut sums = vec![0.0; pixels];
    for frame in 0..exposure.frames {
        let (begin, end) = (exposure.begin(frame), exposure.begin(frame + 1));
        sums.fill(0.0);
        for term in &mut terms {
            term.pass(end - begin, &mut sums);
        }
        while let Some(spike) = left.next_if(|spike| spike.time < end) {
            for term in &mut terms {
                sums[spike.pixel] += term.integral(end - spike.time);
                term.add(*spike, end);
            }
        }
        movie.extend(sums.iter().map(|sum| (sum / (end - begin)) as f32));
        observe(frame).map_err(ExposureError::Stopped)?;
    }
    Ok(movie)
}

impl Exposure {
    /// When a frame begins.
    pub fn begin(&self, frame: usize) -> f64 {
        self.start + frame as f64 / self.rate
    }
}

impl Kernel {
    /// The exponentials with the weights of their values.
    fn terms(self) -> impl Iterator<Item = (f64, f64)> {
        let weight = 1.0 / (self.decay - self.rise);
        let rise = (self.rise > 0.0).then_some((self.rise, -weight));
        std::iter::once((self.decay, weight)).chain(rise)
    }
}

/// One exponential, and what it has come to in every pixel.
struct Term {
    time: f64,
    weight: f64,
    /// The sum of `e^(-(t - s)/τ)` over all spikes so far.
    state: Vec<f64>,
}

impl Term {
    fn new((time, weight): (f64, f64), pixels: usize) -> Self {
        Self { time, weight, state: vec![0.0; pixels] }
    }

    /// Adds a spike to what is there at a later time.
    fn add(&mut self, spike: Spike, now: f64) {
        self.state[spike.pixel] += math::exp((spike.time - now) / self.time);
    }

    /// The integral of a spike's trace up to so long after it.
    fn integral(&self, after: f64) -> f64 {
        // Near 0 the difference from 1 would lose its digits.
        -self.weight * self.time * libm::expm1(-after / self.time)
    }

    /// Adds the integral over a time in which nothing happens, at the end of which the state is.
    fn pass(&mut self, length: f64, sums: &mut [f64]) {
        let whole = self.integral(length);
        let kept = math::exp(-length / self.time);
        for (state, sum) in self.state.iter_mut().zip(sums) {
            *sum += whole * *state;
            *state *= kept;
            *state = if *state < SILENT { 0.0 } else { *state };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;

    const EXPOSURE: Exposure = Exposure { start: 2.0, rate: 35.0 / 3.0, frames: 60 };

    fn frames(spikes: &[(f64, usize)], pixels: usize, kernel: Kernel) -> Vec<f32> {
        let spikes = spikes.iter().map(|&(time, pixel)| Spike { time, pixel }).collect();
        expose(spikes, pixels, kernel, EXPOSURE, |_| Ok::<(), ()>(())).unwrap()
    }

    /// The antiderivative of the trace of a spike at 0.
    fn area(kernel: Kernel, t: f64) -> f64 {
        let Kernel { decay, rise } = kernel;
        let part = |tau: f64| if tau > 0.0 { tau * (1.0 - libm::exp(-t / tau)) } else { 0.0 };
        if t <= 0.0 { 0.0 } else { (part(decay) - part(rise)) / (decay - rise) }
    }

    #[test]
    fn frames_are_the_means_of_all_traces() {
        let streams = Streams::new(7, "calcium");
        let mut rng = streams.stream("spikes");
        // Before, during and after the frames; the first on an edge between frames.
        let mut spikes = vec![(2.0 + 7.0 * 3.0 / 35.0, 1)];
        spikes.extend((0..300).map(|_| (10.0 * rng.uniform(), rng.below(3) as usize)));
        for kernel in [
            Kernel { decay: 1.0, rise: 0.0 },
            Kernel { decay: 0.6, rise: 0.09 },
            Kernel { decay: 0.01, rise: 0.0 },
        ] {
            let found = frames(&spikes, 3, kernel);
            assert_eq!(found.len(), 180);
            for (at, value) in found.iter().enumerate() {
                let (frame, pixel) = (at / 3, at % 3);
                let (begin, end) = (EXPOSURE.begin(frame), EXPOSURE.begin(frame + 1));
                let sum: f64 = spikes
                    .iter()
                    .filter(|spike| spike.1 == pixel)
                    .map(|spike| area(kernel, end - spike.0) - area(kernel, begin - spike.0))
                    .sum();
                let expected = sum / (end - begin);
                // Half a unit in the last place of a single, and differences of areas near 1.
                let tolerance = 6e-8 * expected.abs() + 1e-12 * spikes.len() as f64;
                assert!((f64::from(*value) - expected).abs() <= tolerance, "{value} {expected}");
            }
        }
    }

    #[test]
    fn a_spike_has_area_one_wherever_it_falls() {
        for time in [2.0, 2.01, 2.05, 2.0857] {
            let kernel = Kernel { decay: 0.2, rise: 0.05 };
            let sum: f32 = frames(&[(time, 0)], 1, kernel).iter().sum();
            let missing = 1.0 - area(kernel, EXPOSURE.begin(60) - time);
            let seen = f64::from(sum) / EXPOSURE.rate;
            assert!((seen - (1.0 - missing)).abs() < 1e-6, "{time}: {seen}");
        }
    }

    #[test]
    fn the_order_of_spikes_changes_no_bit() {
        let spikes = [(2.3, 0), (1.1, 1), (4.0, 0), (4.0, 1), (2.30001, 0)];
        let mut reversed = spikes;
        reversed.reverse();
        let kernel = Kernel { decay: 1.0, rise: 0.0 };
        assert_eq!(frames(&spikes, 2, kernel), frames(&reversed, 2, kernel));
    }

    #[test]
    fn what_does_not_fit_or_is_stopped_is_told() {
        let kernel = Kernel { decay: 1.0, rise: 0.0 };
        let endless = Exposure { frames: usize::MAX / 2, ..EXPOSURE };
        let error = expose(vec![], 3, kernel, endless, |_| Ok::<(), ()>(())).unwrap_err();
        assert_eq!(error, ExposureError::Memory);
        let stop = |frame: usize| if frame < 3 { Ok(()) } else { Err(frame) };
        let error = expose(vec![], 3, kernel, EXPOSURE, stop).unwrap_err();
        assert_eq!(error, ExposureError::Stopped(3));
    }
}
