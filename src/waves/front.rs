//! How fast a wave's front runs, from when it came to each pixel.

use std::collections::BTreeMap;

use super::quantiles::{mean_of_blocks, quantile};

/// The speed of a front.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrontSpeed {
    /// Pixels a frame.
    pub speed: f64,
    /// Its standard error, where the wave is large enough.
    pub error: Option<f64>,
}

/// Why a wave has no speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSpeed {
    /// It has too few pixels whose neighborhood it also reached.
    Small,
    /// It came to most neighborhoods within one frame.
    Fast,
}

/// A plane is fitted to the arrivals within this many rows and columns of a pixel.
const REACH: usize = 2;
/// Of the pixels in such a window, the wave has reached at least so many: more than half.
const LEAST: usize = 15;
/// Side of the squares over which speeds are compared, in pixels.
const SQUARE: usize = 8;

/// Measures the speed of a front: the inverse of the median slope of its arrival times.
///
/// Where a front runs at speed v, the time T(x, y) at which it arrives has |∇T| = 1/v, whatever its direction and
/// shape (the eikonal equation). The slope at a pixel is that of the plane that fits the arrivals of the 5 × 5 pixels
/// around it best; pixels of whose window the wave reached less than 15 have none. The median over pixels bears places
/// where two fronts collide or one begins, at which the slope is too small. Arrivals are whole frames, which leaves each
/// slope an error of 0.29 / √50 = 0.04 frames a pixel: fronts of up to 5 pixels a frame are resolved well. The standard
/// error is that of the mean over squares of 8 × 8 pixels, each with the median of its slopes, of at least 4 squares of
/// which half has slopes: it holds how much speed differs from place to place.
pub fn speed(arrivals: &[(u32, u32)], width: usize) -> Result<FrontSpeed, NoSpeed> {
    let map = Map::of(arrivals, width).ok_or(NoSpeed::Small)?;
    let places = arrivals.iter().map(|(at, _)| *at as usize);
    let found: Vec<(usize, f64)> = places.filter_map(|at| Some((at, map.slope(at)?))).collect();
    if found.is_empty() {
        return Err(NoSpeed::Small);
    }
    let slope = median(found.iter().map(|(_, slope)| *slope).collect());
    if slope < 1e-9 {
        return Err(NoSpeed::Fast);
    }
    let mut squares: BTreeMap<[usize; 2], Vec<f64>> = BTreeMap::new();
    for (at, slope) in found {
        squares.entry([at / width / SQUARE, at % width / SQUARE]).or_default().push(slope);
    }
    let full = squares.into_values().filter(|slopes| 2 * slopes.len() >= SQUARE * SQUARE);
    let medians: Vec<f64> = full.map(median).collect();
    let error = mean_of_blocks(&medians).filter(|_| medians.len() >= 4);
    Ok(FrontSpeed { speed: 1.0 / slope, error: error.map(|(_, error)| error / slope.powi(2)) })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    quantile(&values, 0.5)
}

/// Arrivals on the smallest rectangle that holds them, with a margin.
struct Map {
    width: usize,
    /// The first row and column of the movie in the rectangle's inside.
    corner: [usize; 2],
    rows: usize,
    columns: usize,
    /// The frame of arrival, counted from the first; no number where the wave did not come.
    times: Vec<f64>,
}

impl Map {
    fn of(arrivals: &[(u32, u32)], width: usize) -> Option<Self> {
        let place = |at: u32| [at as usize / width, at as usize % width];
        let bounds = |axis: usize| {
            let along = arrivals.iter().map(|(at, _)| place(*at)[axis]);
            Some((along.clone().min()?, along.max()?))
        };
        let ((top, bottom), (left, right)) = (bounds(0)?, bounds(1)?);
        let first = arrivals.iter().map(|(_, frame)| *frame).min()?;
        let (rows, columns) = (bottom - top + 1 + 2 * REACH, right - left + 1 + 2 * REACH);
        let mut times = vec![f64::NAN; rows * columns];
        for (at, frame) in arrivals {
            let [y, x] = place(*at);
            times[(y - top + REACH) * columns + x - left + REACH] = f64::from(frame - first);
        }
        Some(Self { width, corner: [top, left], rows, columns, times })
    }

    /// The slope of the plane that fits the arrivals around a pixel best, if there are enough.
    fn slope(&self, at: usize) -> Option<f64> {
        let (row, column) = (at / self.width - self.corner[0], at % self.width - self.corner[1]);
        debug_assert!(row + 2 * REACH < self.rows, "the rectangle has a margin");
        let (mut n, mut sx, mut sy, mut st) = (0.0, 0.0, 0.0, 0.0);
        let (mut sxx, mut sxy, mut syy, mut sxt, mut syt) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for v in 0..=2 * REACH {
            let times = &self.times[(row + v) * self.columns + column..][..=2 * REACH];
            let y = v as f64 - REACH as f64;
            for (u, time) in times.iter().enumerate().filter(|(_, time)| !time.is_nan()) {
                let x = u as f64 - REACH as f64;
                n += 1.0;
                sx += x;
                sy += y;
                st += time;
                sxx += x * x;
                sxy += x * y;
                syy += y * y;
                sxt += x * time;
                syt += y * time;
            }
        }
        if n < LEAST as f64 {
            return None;
        }
        let (xx, xy, yy) = (sxx - sx * sx / n, sxy - sx * sy / n, syy - sy * sy / n);
        let (xt, yt) = (sxt - sx * st / n, syt - sy * st / n);
        // More than half of a square of pixels never lies on one line.
        let determinant = xx * yy - xy * xy;
        let (gx, gy) = ((xt * yy - yt * xy) / determinant, (yt * xx - xt * xy) / determinant);
        Some((gx * gx + gy * gy).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;

    const SIDE: usize = 32;

    /// The arrivals of a front that comes to (x, y) at a time, rounded up to the next frame.
    fn arrivals(time: impl Fn(f64, f64) -> f64) -> Vec<(u32, u32)> {
        let at = |p: usize| time((p % SIDE) as f64, (p / SIDE) as f64).ceil() as u32;
        (0..SIDE * SIDE).map(|p| (p as u32, at(p))).collect()
    }

    #[test]
    fn plane_fronts_have_their_speed_at_any_angle() {
        for degrees in (0..360).step_by(15) {
            let (sin, cos) = f64::from(degrees).to_radians().sin_cos();
            for v in [0.05, 0.15, 0.4, 1.0, 2.0] {
                let found =
                    speed(&arrivals(|x, y| 2000.0 + (cos * x + sin * y) / v), SIDE).unwrap();
                // Rounding to frames leaves a median of some 40 independent slopes an error of 0.01 frames a pixel.
                let tolerance = 0.002 + 0.03 * v;
                assert!((found.speed / v - 1.0).abs() < tolerance, "{degrees} {v}: {found:?}");
            }
        }
    }

    #[test]
    fn circular_fronts_have_their_speed_wherever_they_begin() {
        for (cx, cy) in [(16.0, 16.0), (3.3, 20.7), (0.0, 0.0), (-5.0, 40.0)] {
            for v in [0.1, 0.3, 1.0] {
                let radius = |x: f64, y: f64| ((x - cx).powi(2) + (y - cy).powi(2)).sqrt();
                let found = speed(&arrivals(|x, y| 5.0 + radius(x, y) / v), SIDE).unwrap();
                assert!((found.speed / v - 1.0).abs() < 0.01 + 0.03 * v, "{cx} {v}: {found:?}");
            }
        }
    }

    #[test]
    fn two_fronts_that_collide_have_the_speed_of_each() {
        let found = speed(&arrivals(|x, _| 10.0 + x.min(31.0 - x) / 0.2), SIDE).unwrap();
        assert!((found.speed / 0.2 - 1.0).abs() < 0.01, "{found:?}");
    }

    #[test]
    fn the_error_is_that_of_repeated_fronts() {
        let mut stream = Streams::new(3, "test").stream("fronts");
        let (v, runs) = (0.2, 60);
        let (mut found, mut errors) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            let jitter: Vec<f64> = (0..SIDE * SIDE).map(|_| 2.0 * stream.normal()).collect();
            let time = |x: f64, y: f64| {
                100.0 + (0.6 * x + 0.8 * y) / v + jitter[y as usize * SIDE + x as usize]
            };
            let one = speed(&arrivals(time), SIDE).unwrap();
            found.push(one.speed);
            errors.push(one.error.unwrap());
        }
        let mean = found.iter().sum::<f64>() / runs as f64;
        let spread =
            (found.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / (runs - 1) as f64).sqrt();
        let error = errors.iter().sum::<f64>() / runs as f64;
        // What jitters in one square jitters the other way beside it, so that the error is on the safe side.
        assert!(spread < 1.2 * error && error < 3.0 * spread, "{spread} {error}");
    }

    #[test]
    fn what_is_small_or_at_once_has_no_speed() {
        assert_eq!(speed(&[], SIDE), Err(NoSpeed::Small));
        let line: Vec<(u32, u32)> = (0..32).map(|p| (p, p)).collect();
        assert_eq!(speed(&line, SIDE), Err(NoSpeed::Small));
        assert_eq!(speed(&arrivals(|_, _| 4.0), SIDE), Err(NoSpeed::Fast));
    }
}
