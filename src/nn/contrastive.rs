//! Contrastive losses over unit rows, and the two numbers that describe how the rows lie.

use std::collections::BTreeMap;

use candle_core::{D, DType, Tensor};

use super::error::NnError;

/// A loss of one batch.
#[derive(Clone, Debug)]
pub struct BatchLoss {
    /// A scalar that gradients flow from: the mean over the anchors.
    pub loss: Tensor,
    /// How much the batch counts beside others: rows that have a positive, or pairs.
    pub anchors: usize,
}

/// Where each row of a batch comes from: its event and its frame within the event.
#[derive(Clone, Copy, Debug)]
pub struct Origins<'a> {
    pub events: &'a [u32],
    pub positions: &'a [u32],
}

/// Contrasts the neighbors in time with the frames of other events (Ligeralde et al. 2023, section 2.1).
///
/// With s(i, j) = z(i)·z(j) / `temperature`, the loss of anchor i is −ln(Σ₊ exp s / Σ₋ exp s): the positives are
/// the frames of the same event at a distance of 1 to `neighbors` frames, before and after, the negatives all frames of
/// other events. Other frames of the same event are neither. Positives are not in the denominator, so the loss can be
/// negative. Rows without a positive are no anchors; it is an error if there is no anchor, or if the batch holds a
/// single event. The paper has one neighbor on each side.
///
/// `z` is n×d with rows of unit length; `neighbors` is at least 1.
pub fn wave_contrast(
    z: &Tensor,
    origins: Origins,
    temperature: f64,
    neighbors: usize,
) -> Result<BatchLoss, NnError> {
    let (n, events, positions) = (z.dim(0)?, origins.events, origins.positions);
    check_origins(n, origins)?;
    check_temperature(temperature)?;
    if neighbors == 0 {
        let (name, condition, value) = ("neighbors", "at least 1", "0".to_owned());
        return Err(NnError::InvalidValue { name, condition, value });
    }
    let positive = |i: usize, j: usize| {
        let distance = positions[i].abs_diff(positions[j]) as usize;
        events[i] == events[j] && (1..=neighbors).contains(&distance)
    };
    let anchors: Vec<usize> = (0..n).filter(|&i| (0..n).any(|j| positive(i, j))).collect();
    let first = *anchors.first().ok_or(NnError::NoPositives)?;
    if events.iter().all(|event| *event == events[first]) {
        return Err(NnError::NoNegatives { event: events[first] });
    }
    let mask = |holds: &dyn Fn(usize, usize) -> bool| {
        let values = anchors.iter().flat_map(|&i| (0..n).map(move |j| (i, j)));
        let values: Vec<u8> = values.map(|(i, j)| u8::from(holds(i, j))).collect();
        Tensor::from_vec(values, (anchors.len(), n), z.device())
    };
    let rows: Vec<u32> = anchors.iter().map(|&i| i as u32).collect();
    let rows = z.index_select(&Tensor::new(rows, z.device())?, 0)?;
    let similarity = (rows.matmul(&z.t()?)? / temperature)?;
    let positives = log_sum_exp(&similarity, &mask(&positive)?)?;
    let negatives = log_sum_exp(&similarity, &mask(&|i, j| events[i] != events[j])?)?;
    Ok(BatchLoss { loss: (negatives - positives)?.mean_all()?, anchors: anchors.len() })
}

/// Contrasts neighboring frames with all others: [`nt_xent`] over disjoint pairs of frames that follow each other.
///
/// It is an error if no two frames follow each other, or if there are fewer than two pairs.
pub fn neighbor_contrast(
    z: &Tensor,
    origins: Origins,
    temperature: f64,
) -> Result<BatchLoss, NnError> {
    let (first, second) = neighbor_pairs(z, origins)?;
    nt_xent(&first, &second, temperature)
}

/// Takes disjoint pairs of frames that follow each other apart: the first of each, and the second.
///
/// It is an error if no two frames follow each other, or if there are fewer than two pairs.
pub fn neighbor_pairs(z: &Tensor, origins: Origins) -> Result<(Tensor, Tensor), NnError> {
    check_origins(z.dim(0)?, origins)?;
    let (mut first, mut second): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
    let mut row = 0;
    while row + 1 < origins.events.len() {
        let follows = origins.events[row] == origins.events[row + 1]
            && origins.positions[row] + 1 == origins.positions[row + 1];
        if follows {
            first.push(row as u32);
            second.push(row as u32 + 1);
        }
        row += if follows { 2 } else { 1 };
    }
    if first.is_empty() {
        return Err(NnError::NoPositives);
    }
    if first.len() < 2 {
        return Err(NnError::NoNegatives { event: origins.events[first[0] as usize] });
    }
    let pick = |rows: Vec<u32>| z.index_select(&Tensor::new(rows, z.device())?, 0);
    Ok((pick(first)?, pick(second)?))
}

/// Contrasts two views of each image with all others: NT-Xent (Chen et al. 2020, eq. 1).
///
/// `first` and `second` are n×d with rows of unit length; row i of one is the positive of row i of the other. The
/// denominator runs over all 2n − 1 other rows, the positive among them.
pub fn nt_xent(first: &Tensor, second: &Tensor, temperature: f64) -> Result<BatchLoss, NnError> {
    check_temperature(temperature)?;
    let n = first.dim(0)?;
    let z = Tensor::cat(&[first, second], 0)?;
    let similarity = (z.matmul(&z.t()?)? / temperature)?;
    let others: Vec<u8> = (0..4 * n * n).map(|at| u8::from(at / (2 * n) != at % (2 * n))).collect();
    let all = log_sum_exp(&similarity, &Tensor::from_vec(others, (2 * n, 2 * n), z.device())?)?;
    let positive = ((first * second)?.sum(1)? / temperature)?;
    Ok(BatchLoss { loss: (all.mean_all()? - positive.mean_all()?)?, anchors: 2 * n })
}

/// Averages the cosine over pairs of neighbors in time, in [−1, 1]: the alignment of positives.
pub fn alignment(z: &Tensor, origins: Origins) -> Result<f64, NnError> {
    check_origins(z.dim(0)?, origins)?;
    let rows: Vec<Vec<f64>> = z.to_dtype(DType::F64)?.to_vec2()?;
    let places = origins.events.iter().zip(origins.positions);
    let row_at: BTreeMap<(u32, u32), usize> =
        places.enumerate().map(|(row, (e, p))| ((*e, *p), row)).collect();
    let (mut sum, mut pairs) = (0.0, 0usize);
    for ((event, position), row) in &row_at {
        if let Some(next) = row_at.get(&(*event, position + 1)) {
            sum += rows[*row].iter().zip(&rows[*next]).map(|(a, b)| a * b).sum::<f64>();
            pairs += 1;
        }
    }
    if pairs == 0 { Err(NnError::NoPositives) } else { Ok(sum / pairs as f64) }
}

/// Computes ln of the mean of exp(−2‖a − b‖²) over pairs of rows (Wang & Isola 2020, eq. 5 with t = 2).
///
/// `z` is n×d, n ≥ 2, with rows of unit length. The value lies in [−8, 0]; 0 means that all rows are one.
pub fn uniformity(z: &Tensor) -> Result<f64, NnError> {
    let n = z.dim(0)?;
    if n < 2 {
        return Err(NnError::WrongLength { what: "the batch", expected: 2, found: n });
    }
    let z = z.detach();
    // For unit rows −2‖a − b‖² = 4(a·b − 1).
    let kernel = |cosine: &Tensor| ((cosine - 1.0)? * 4.0)?.exp();
    let sum = |x: &Tensor| -> Result<f64, NnError> {
        let rows: Vec<f64> = x.sum(D::Minus1)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
        Ok(rows.iter().sum())
    };
    let all = sum(&kernel(&z.matmul(&z.t()?)?)?)?;
    let same = sum(&kernel(&z.sqr()?.sum_keepdim(1)?)?)?;
    Ok(((all - same) / (n * (n - 1)) as f64).ln())
}

fn check_origins(rows: usize, origins: Origins) -> Result<(), NnError> {
    for (what, found) in [
        ("the list of events", origins.events.len()),
        ("the list of positions", origins.positions.len()),
    ] {
        if found != rows {
            return Err(NnError::WrongLength { what, expected: rows, found });
        }
    }
    Ok(())
}

fn check_temperature(temperature: f64) -> Result<(), NnError> {
    if temperature > 0.0 && temperature.is_finite() {
        return Ok(());
    }
    let value = temperature.to_string();
    Err(NnError::InvalidValue { name: "temperature", condition: "above 0", value })
}

/// Computes ln Σ exp(x) over the elements of each row where `mask` is 1, of which there is at least one.
fn log_sum_exp(x: &Tensor, mask: &Tensor) -> Result<Tensor, NnError> {
    // Far below any similarity, and finite so that nothing becomes inf − inf.
    let excluded = (x.zeros_like()?.detach() - 1e30)?;
    let x = mask.where_cond(x, &excluded)?;
    let largest = x.max_keepdim(1)?.detach();
    Ok((x.broadcast_sub(&largest)?.exp()?.sum_keepdim(1)?.log()? + largest)?.squeeze(1)?)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::super::layers::normalize_rows;
    use super::super::layers::tests::{check_gradient, normal};
    use super::*;

    const ORIGINS: Origins =
        Origins { events: &[0, 0, 0, 1, 1, 2, 3, 3], positions: &[0, 1, 2, 0, 1, 0, 4, 5] };

    fn wave(z: &Tensor, origins: Origins, temperature: f64) -> f64 {
        wave_contrast(z, origins, temperature, 1).unwrap().loss.to_scalar().unwrap()
    }

    /// Rows of a matrix given by angles on the unit circle.
    fn circle(angles: &[f64]) -> Tensor {
        let rows: Vec<f64> = angles.iter().flat_map(|a| [a.cos(), a.sin()]).collect();
        Tensor::from_vec(rows, (angles.len(), 2), &Device::Cpu).unwrap()
    }

    #[test]
    fn equal_rows_leave_the_logarithms_of_the_counts() {
        let z = circle(&[0.3; 8]);
        // Anchors 0, 2 have one positive and 1 two, of five negatives; 3, 4 and 6, 7 one of six; 5 is no anchor.
        let expected = (2.0 * 5f64.ln() + 2.5f64.ln() + 4.0 * 6f64.ln()) / 7.0;
        assert!((wave(&z, ORIGINS, 0.5) - expected).abs() < 1e-12);
        assert_eq!(wave_contrast(&z, ORIGINS, 0.5, 1).unwrap().anchors, 7);
        // With two neighbors on each side, each frame of event 0 has two positives; of event 3 there are no more.
        let expected = (3.0 * 2.5f64.ln() + 4.0 * 6f64.ln()) / 7.0;
        let found = wave_contrast(&z, ORIGINS, 0.5, 2).unwrap().loss.to_scalar::<f64>().unwrap();
        assert!((found - expected).abs() < 1e-12);
        let pair = nt_xent(&z, &z, 0.5).unwrap();
        assert!((pair.loss.to_scalar::<f64>().unwrap() - 15f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn two_events_on_a_circle_are_worked_by_hand() {
        // Frames of event 0 at 0° and 60°, of event 1 at 90° and 180°; τ = ½.
        let degree = std::f64::consts::PI / 180.0;
        let z = circle(&[0.0, 60.0 * degree, 90.0 * degree, 180.0 * degree]);
        let origins = Origins { events: &[7, 7, 9, 9], positions: &[0, 1, 0, 1] };
        let cosine = |angle: f64| 2.0 * (angle * degree).cos();
        let sum = |angles: [f64; 2]| angles.map(|a| cosine(a).exp()).iter().sum::<f64>().ln();
        let negatives = [[90.0, 180.0], [30.0, 120.0], [90.0, 30.0], [180.0, 120.0]].map(sum);
        let positives = [60.0, 60.0, 90.0, 90.0].map(cosine);
        let expected = (negatives.iter().sum::<f64>() - positives.iter().sum::<f64>()) / 4.0;
        assert!((wave(&z, origins, 0.5) - expected).abs() < 1e-12);
        // The pairs (0°, 90°) and (60°, 180°) as views: each row against its three others.
        let (a, b) =
            (z.index_select(&ids(&[0, 1]), 0).unwrap(), z.index_select(&ids(&[2, 3]), 0).unwrap());
        let all =
            [[60.0, 90.0, 180.0], [60.0, 30.0, 120.0], [90.0, 30.0, 90.0], [180.0, 120.0, 90.0]]
                .map(|angles| angles.map(|a| cosine(a).exp()).iter().sum::<f64>().ln());
        let expected = (all.iter().sum::<f64>() - 2.0 * (cosine(90.0) + cosine(120.0))) / 4.0;
        let found = nt_xent(&a, &b, 0.5).unwrap().loss.to_scalar::<f64>().unwrap();
        assert!((found - expected).abs() < 1e-12);
    }

    /// Values of PyTorch 2.15.0 in f64 for z = rows of sin(1.3 i + 0.2), ten of four, scaled to unit length.
    ///
    /// Wave contrast: `s = exp(z @ z.T / 0.5)`, `-log((s * positive).sum(1) / (s * negative).sum(1))` averaged over
    /// rows with a positive. NT-Xent: `cross_entropy(l, t)` with `l = u @ u.T / 0.2`, its diagonal minus infinity, `u`
    /// the first views above the second, `t` the row of the other view.
    #[test]
    fn values_are_pytorchs() {
        let values: Vec<f64> = (0..40).map(|i| (1.3 * f64::from(i) + 0.2).sin()).collect();
        let z = normalize_rows(&Tensor::from_vec(values, (10, 4), &Device::Cpu).unwrap()).unwrap();
        let events = [0, 0, 0, 0, 1, 1, 2, 2, 2, 3];
        let origins = Origins { events: &events, positions: &[0, 1, 2, 3, 0, 1, 0, 1, 2, 0] };
        assert!((wave(&z, origins, 0.5) - 1.304_868_484_532_327).abs() < 1e-13);
        let paired = neighbor_contrast(&z, origins, 0.2).unwrap();
        assert_eq!(paired.anchors, 8);
        let found = paired.loss.to_scalar::<f64>().unwrap();
        assert!((found - 2.272_915_349_499_834_6).abs() < 1e-13, "{found}");
    }

    fn ids(rows: &[u32]) -> Tensor {
        Tensor::new(rows, &Device::Cpu).unwrap()
    }

    #[test]
    fn the_loss_is_stable_at_low_temperature() {
        // At τ = 1/1000 the exponentials overflow f32; the loss is then (largest negative − positive) / τ.
        let z = circle(&[0.0, 0.1, 1.0, 1.1]).to_dtype(DType::F32).unwrap();
        let origins = Origins { events: &[0, 0, 1, 1], positions: &[0, 1, 0, 1] };
        let loss = wave_contrast(&z, origins, 1e-3, 1).unwrap().loss.to_scalar::<f32>().unwrap();
        let nearest =
            [1f64.cos(), 0.9f64.cos(), 0.9f64.cos(), 1f64.cos()].iter().sum::<f64>() / 4.0;
        let expected = (nearest - 0.1f64.cos()) * 1e3;
        assert!((f64::from(loss) - expected).abs() < 1e-3 * expected.abs(), "{loss} {expected}");
    }

    #[test]
    fn gradients_are_right() {
        let x: Var = normal("x", &[8, 3]);
        for neighbors in [1, 2] {
            check_gradient("wave", &[&x], &|| {
                wave_contrast(&normalize_rows(&x).unwrap(), ORIGINS, 0.5, neighbors).unwrap().loss
            });
        }
        let y = normal("y", &[8, 3]);
        check_gradient("nt-xent", &[&x, &y], &|| {
            nt_xent(&normalize_rows(&x).unwrap(), &normalize_rows(&y).unwrap(), 0.2).unwrap().loss
        });
    }

    #[test]
    fn neighbors_are_paired_once() {
        // Frames 0, 1 of event 0 and both of events 1 and 3; frame 2 of event 0 and event 2 are left over.
        let z = normalize_rows(&normal("x", &[8, 3])).unwrap();
        let pick = |rows: &[u32]| z.index_select(&ids(rows), 0).unwrap();
        let value = |contrast: BatchLoss| contrast.loss.to_scalar::<f64>().unwrap();
        let expected = nt_xent(&pick(&[0, 3, 6]), &pick(&[1, 4, 7]), 0.5).unwrap();
        assert_eq!(value(neighbor_contrast(&z, ORIGINS, 0.5).unwrap()), value(expected));
        let fails = |events: &[u32], positions: &[u32]| {
            let z = z.narrow(0, 0, events.len()).unwrap();
            neighbor_contrast(&z, Origins { events, positions }, 0.5).unwrap_err()
        };
        assert!(matches!(fails(&[0, 0, 1], &[0, 1, 0]), NnError::NoNegatives { event: 0 }));
        assert!(matches!(fails(&[0, 1, 2], &[0, 1, 2]), NnError::NoPositives));
    }

    #[test]
    fn the_order_of_rows_does_not_matter() {
        let z = normalize_rows(&normal("x", &[8, 3])).unwrap();
        let order = [5, 2, 7, 0, 3, 6, 1, 4];
        let events = order.map(|i: u32| ORIGINS.events[i as usize]);
        let positions = order.map(|i: u32| ORIGINS.positions[i as usize]);
        let shuffled = z.index_select(&ids(&order), 0).unwrap();
        let origins = Origins { events: &events, positions: &positions };
        assert!((wave(&z, ORIGINS, 0.5) - wave(&shuffled, origins, 0.5)).abs() < 1e-12);
        assert!(
            (alignment(&z, ORIGINS).unwrap() - alignment(&shuffled, origins).unwrap()).abs()
                < 1e-12
        );
    }

    #[test]
    fn alignment_and_uniformity_are_known_on_a_circle() {
        let angles = [0.0, 1.0, 3.0];
        let origins = Origins { events: &[0, 0, 0], positions: &[0, 1, 2] };
        let found = alignment(&circle(&angles), origins).unwrap();
        assert!((found - f64::midpoint(1f64.cos(), 2f64.cos())).abs() < 1e-14);
        let kernel = |angle: f64| (4.0 * (angle.cos() - 1.0)).exp();
        let expected = ((kernel(1.0) + kernel(2.0) + kernel(3.0)) / 3.0).ln();
        assert!((uniformity(&circle(&angles)).unwrap() - expected).abs() < 1e-12);
        assert!(uniformity(&circle(&[0.5; 4])).unwrap().abs() < 1e-12);
    }

    #[test]
    fn batches_without_contrast_are_explained() {
        let check = |events: &[u32], positions: &[u32], temperature: f64, message: &str| {
            let z = circle(&[0.0; 3]);
            let origins = Origins { events, positions };
            let error = wave_contrast(&z, origins, temperature, 1).unwrap_err();
            assert_eq!(error.to_string(), message);
        };
        let origins = Origins { events: &[0, 0, 1], positions: &[0, 1, 0] };
        let error = wave_contrast(&circle(&[0.0; 3]), origins, 0.5, 0).unwrap_err();
        assert_eq!(error.to_string(), "neighbors must be at least 1, found 0");
        let single = "no anchor of the batch has a negative: the only positives are in event 4";
        check(&[4; 3], &[0, 1, 2], 0.5, single);
        check(&[0, 1, 2], &[0; 3], 0.5, "no event has two frames, so no frame has a positive");
        check(&[0, 0, 1], &[0, 1, 0], 0.0, "temperature must be above 0, found 0");
        check(&[0, 0], &[0, 1, 0], 0.5, "expected 3 elements in the list of events, found 2");
    }
}
