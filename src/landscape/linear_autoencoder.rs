//! The critical points of a linear autoencoder in closed form.
//!
//! The loss of x -> W2 W1 x, with W1 (hidden x features) and W2 (features x hidden), over data with second moments
//! C = X'X / n (X has a sample a row; no mean is removed) is L = tr((I - W) C (I - W)') / features with W = W2 W1: the
//! mean squared error over samples and features. Its critical points are those where W projects onto the span of a
//! set S of at most `hidden` eigenvectors of C (Baldi and Hornik, Neural Networks 2, 1989). Of each such class,
//! which changes of basis (M W1, W2 M^-1) connect, the representative has the eigenvectors as rows of W1 and W2 = W1'.
//! Should eigenvalues of C coincide there are more critical points than the sets listed here.

use faer::Mat;

use crate::landscape::{
    error::{LandscapeError, expect_finite, expect_length, expect_option},
    hessian::{self, Eigen},
    vector,
};

/// The most critical points that are listed.
const LIMIT: usize = 1 << 20;

/// A linear autoencoder's data and width.
#[derive(Clone, Debug)]
pub struct LinearAutoencoder {
    hidden: usize,
    /// Eigenvalues of C, the largest first: component 0 is the first principal component.
    eigenvalues: Vec<f64>,
    /// The eigenvectors, one after the other in the same order.
    eigenvectors: Vec<Vec<f64>>,
}

/// A class of critical points.
#[derive(Clone, Debug, PartialEq)]
pub struct CriticalPoint {
    /// The principal components that are kept, ascending; 0 is the first.
    pub components: Vec<usize>,
    pub loss: f64,
    /// How many eigenvalues of the Hessian are negative.
    pub negative: usize,
    /// The fraction of eigenvalues that are negative.
    pub index: f64,
}

impl CriticalPoint {
    /// Writes the components as people number them, from 1: `1 2 4`, and nothing where there are none.
    pub fn numbered(&self) -> String {
        self.components.iter().map(|c| (c + 1).to_string()).collect::<Vec<_>>().join(" ")
    }
}

/// The critical point that parameters come nearest to.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    pub point: CriticalPoint,
    /// The largest absolute entry of W2 W1 minus the projector, in the coordinates of the eigenvectors.
    pub residual: f64,
}

impl LinearAutoencoder {
    /// Takes the second moments of `samples` x `features` inputs, row-major.
    pub fn from_inputs(
        inputs: &[f64],
        features: usize,
        hidden: usize,
    ) -> Result<Self, LandscapeError> {
        expect_option("features", "at least 1", features as f64, |n| n >= 1.0)?;
        let samples = inputs.len() / features;
        expect_option("samples", "at least 1", samples as f64, |n| n >= 1.0)?;
        expect_length("inputs", samples * features, inputs.len())?;
        let columns: Vec<Vec<f64>> = (0..features)
            .map(|feature| inputs.iter().skip(feature).step_by(features).copied().collect())
            .collect();
        let moments: Vec<f64> = (0..features * features)
            .map(|i| (i / features, i % features))
            .map(|(i, j)| vector::dot(&columns[i.min(j)], &columns[i.max(j)]) / samples as f64)
            .collect();
        Self::from_moments(&moments, features, hidden)
    }

    /// Takes second moments C, `features` x `features`, of which the lower triangle is read.
    pub fn from_moments(
        moments: &[f64],
        features: usize,
        hidden: usize,
    ) -> Result<Self, LandscapeError> {
        expect_option("hidden", "at least 1", hidden as f64, |n| n >= 1.0)?;
        expect_length("second moments", features * features, moments.len())?;
        expect_finite("second moments", moments)?;
        let matrix =
            Mat::from_fn(features, features, |i, j| moments[i.max(j) * features + i.min(j)]);
        let Eigen { values, vectors } = hessian::eigen(matrix.as_ref())?;
        Ok(Self {
            hidden,
            eigenvalues: values.into_iter().rev().collect(),
            eigenvectors: (0..features)
                .rev()
                .map(|j| (0..features).map(|i| vectors[(i, j)]).collect())
                .collect(),
        })
    }

    /// Returns the eigenvalues of C, the largest first.
    pub fn eigenvalues(&self) -> &[f64] {
        &self.eigenvalues
    }

    /// Returns the number of parameters.
    pub fn dim(&self) -> usize {
        2 * self.hidden * self.features()
    }

    fn features(&self) -> usize {
        self.eigenvalues.len()
    }

    /// Returns how many classes of critical points there are: sets of at most `hidden` components.
    pub fn count(&self) -> Result<usize, LandscapeError> {
        let (mut of_size, mut count) = (1usize, 1usize);
        for size in 1..=self.hidden.min(self.features()) {
            of_size = of_size.saturating_mul(self.features() - size + 1) / size;
            count = count.saturating_add(of_size);
        }
        if count > LIMIT {
            return Err(LandscapeError::TooMany { what: "critical points", limit: LIMIT });
        }
        Ok(count)
    }

    /// Lists all classes of critical points, by size and then in lexicographic order.
    pub fn critical_points(&self) -> Result<Vec<CriticalPoint>, LandscapeError> {
        let mut points = Vec::with_capacity(self.count()?);
        for size in 0..=self.hidden.min(self.features()) {
            let mut components: Vec<usize> = (0..size).collect();
            loop {
                points.push(self.critical_point(&components));
                // The last component that can still move up does, and those after it follow closely.
                let movable = |i: &usize| components[*i] + size < self.features() + *i;
                let Some(i) = (0..size).rev().find(movable) else { break };
                let first = components[i] + 1;
                for (offset, component) in components[i..].iter_mut().enumerate() {
                    *component = first + offset;
                }
            }
        }
        Ok(points)
    }

    /// Returns the class of critical points that keeps some components, given ascending and at most `hidden` of them.
    pub fn critical_point(&self, components: &[usize]) -> CriticalPoint {
        let left_out = self.left_out(components);
        let loss = left_out.iter().map(|j| self.eigenvalues[*j]).sum::<f64>();
        // A kept component can be turned towards a larger one, and an unused unit towards any.
        let swaps = components
            .iter()
            .flat_map(|i| left_out.iter().map(move |j| (i, j)))
            .filter(|(i, j)| self.eigenvalues[**j] > self.eigenvalues[**i])
            .count();
        let unused = self.hidden.saturating_sub(components.len());
        let negative = swaps + unused * left_out.len();
        CriticalPoint {
            components: components.to_vec(),
            loss: loss / self.features() as f64,
            negative,
            index: negative as f64 / self.dim() as f64,
        }
    }

    /// Returns the eigenvalues of the Hessian at the representative, ascending.
    ///
    /// Other points of a class have other eigenvalues, but as many that are negative and that are zero.
    pub fn spectrum(&self, components: &[usize]) -> Vec<f64> {
        let scale = 1.0 / self.features() as f64;
        let value = |i: usize| self.eigenvalues[i];
        let left_out = self.left_out(components);
        let unused = self.hidden.saturating_sub(components.len());
        let mut spectrum = Vec::with_capacity(self.dim());
        for i in components {
            // Within the kept span: one direction that keeps W2 W1 and one that does not, a pair of components.
            for _ in components {
                spectrum.extend([0.0, 4.0 * scale * value(*i)]);
            }
            // Towards a component left out: the block 2c [[y, -y], [-y, x]].
            for j in &left_out {
                let (x, y) = (value(*i), value(*j));
                let (middle, radius) = (f64::midpoint(x, y), libm::hypot((x - y) / 2.0, y));
                let far = middle + radius;
                // The product of the two is y (x - y), which avoids cancellation in the smaller one.
                let near = if far == 0.0 { 0.0 } else { y * (x - y) / far };
                spectrum.extend([2.0 * scale * near, 2.0 * scale * far]);
            }
        }
        for _ in 0..unused {
            for j in &left_out {
                spectrum.extend([-2.0 * scale * value(*j), 2.0 * scale * value(*j)]);
            }
            spectrum.extend(std::iter::repeat_n(0.0, 2 * components.len()));
        }
        spectrum.sort_by(f64::total_cmp);
        spectrum
    }

    /// Returns the parameters of the representative: W1 and then W2, row-major.
    pub fn representative(&self, components: &[usize]) -> Vec<f64> {
        let features = self.features();
        let mut theta = vec![0.0; self.dim()];
        let (first, second) = theta.split_at_mut(self.hidden * features);
        for (unit, component) in components.iter().take(self.hidden).enumerate() {
            let eigenvector = &self.eigenvectors[*component];
            first[unit * features..][..features].copy_from_slice(eigenvector);
            for (row, entry) in second.chunks_mut(self.hidden).zip(eigenvector) {
                row[unit] = *entry;
            }
        }
        theta
    }

    /// Returns the class that parameters belong to: the components whose diagonal entry of W2 W1 exceeds `threshold`.
    ///
    /// The entries are u'W2 W1 u for the eigenvectors u: 1 at a critical point that keeps the component, else 0. Frye
    /// et al. 2019 take a threshold of 0.9. The residual tells how far from that class the parameters are.
    pub fn match_components(&self, theta: &[f64], threshold: f64) -> Result<Match, LandscapeError> {
        expect_length("theta", self.dim(), theta.len())?;
        expect_finite("theta", theta)?;
        let (features, hidden) = (self.features(), self.hidden);
        let (first, second) = theta.split_at(hidden * features);
        let along = |vector: &[f64]| -> Vec<f64> {
            self.eigenvectors.iter().map(|u| vector::dot(u, vector)).collect()
        };
        // The rows of W1 and the columns of W2 in the coordinates of the eigenvectors.
        let rows: Vec<Vec<f64>> = first.chunks(features).map(along).collect();
        let column =
            |unit: usize| second.iter().skip(unit).step_by(hidden).copied().collect::<Vec<_>>();
        let columns: Vec<Vec<f64>> = (0..hidden).map(|unit| along(&column(unit))).collect();
        let product = |i: usize, j: usize| -> f64 {
            columns.iter().zip(&rows).map(|(column, row)| column[i] * row[j]).sum()
        };
        let components: Vec<usize> =
            (0..features).filter(|component| product(*component, *component) > threshold).collect();
        let mut residual: f64 = 0.0;
        for (i, j) in (0..features).flat_map(|i| (0..features).map(move |j| (i, j))) {
            let kept = i == j && components.contains(&i);
            residual = residual.max((product(i, j) - f64::from(u8::from(kept))).abs());
        }
        Ok(Match { point: self.critical_point(&components), residual })
    }

    fn left_out(&self, components: &[usize]) -> Vec<usize> {
        (0..self.features()).filter(|component| !components.contains(component)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::landscape::{
        data::{self, Data, Targets},
        network::{Architecture, Network},
        objective::Objective,
    };
    use crate::rng::Streams;

    /// An autoencoder of given width on data whose second moments are diag(1, ..., features).
    fn diagonal(features: usize, hidden: usize) -> LinearAutoencoder {
        let moments: Vec<f64> = (0..features * features)
            .map(|i| if i / features == i % features { (i % features + 1) as f64 } else { 0.0 })
            .collect();
        LinearAutoencoder::from_moments(&moments, features, hidden).unwrap()
    }

    /// The same autoencoder as a network on random data, and in closed form.
    fn both(features: usize, hidden: usize) -> (Network, LinearAutoencoder) {
        let variances: Vec<f64> = (1..=features).map(|v| v as f64).collect();
        let inputs = data::centered_gaussian(100, &variances, &Streams::new(5, "test"));
        let analytic = LinearAutoencoder::from_inputs(&inputs, features, hidden).unwrap();
        let sizes = vec![features, hidden, features];
        let data = Data { samples: 100, inputs, targets: Targets::Inputs };
        let architecture = Architecture { sizes, ..Architecture::default() };
        (Network::new(architecture, data).unwrap(), analytic)
    }

    #[test]
    fn the_published_architecture_has_2517_critical_points() {
        let autoencoder = diagonal(16, 4);
        let points = autoencoder.critical_points().unwrap();
        assert_eq!((points.len(), autoencoder.count().unwrap()), (2517, 2517));
        // Losses lie between sum(1..=12) / 16 and sum(1..=16) / 16.
        let of = |f: fn(f64, f64) -> f64| points.iter().map(|p| p.loss).reduce(f).unwrap();
        assert_eq!((of(f64::min), of(f64::max)), (78.0 / 16.0, 136.0 / 16.0));
        let minima: Vec<_> = points.iter().filter(|point| point.negative == 0).collect();
        assert_eq!((minima.len(), &minima[0].components), (1, &vec![0, 1, 2, 3]));
        assert_eq!((points[0].index, points[0].loss), (0.5, 8.5));
        for pair in points.windows(2) {
            let order = |p: &CriticalPoint| (p.components.len(), p.components.clone());
            assert!(order(&pair[0]) < order(&pair[1]));
        }
    }

    #[test]
    fn representatives_are_critical_with_the_closed_form_spectrum() {
        let (network, autoencoder) = both(6, 3);
        for point in autoencoder.critical_points().unwrap() {
            let theta = autoencoder.representative(&point.components);
            let evaluated = network.evaluate(&theta);
            assert!(evaluated.squared_gradient_norm() < 1e-25, "{point:?}");
            assert!((evaluated.loss() - point.loss).abs() < 1e-14, "{point:?}");
            let numeric = hessian::spectrum(&*evaluated).unwrap();
            let closed = autoencoder.spectrum(&point.components);
            assert_eq!(closed.len(), numeric.len());
            for (closed, numeric) in closed.iter().zip(&numeric) {
                assert!((closed - numeric).abs() < 1e-12, "{point:?}: {closed} {numeric}");
            }
            assert_eq!(hessian::negative_count(&numeric, 1e-5), point.negative, "{point:?}");
            let found = autoencoder.match_components(&theta, 0.9).unwrap();
            assert_eq!(found.point, point);
            assert!(found.residual < 1e-14);
        }
    }

    #[test]
    fn a_change_of_basis_stays_in_the_class_and_a_disturbance_shows() {
        let autoencoder = diagonal(3, 1);
        // M = 2 in (M W1, W2 / M).
        let mut theta = autoencoder.representative(&[1]);
        for w in &mut theta[..3] {
            *w *= 2.0;
        }
        for w in &mut theta[3..] {
            *w /= 2.0;
        }
        let found = autoencoder.match_components(&theta, 0.9).unwrap();
        assert_eq!((found.point.components, found.residual), (vec![1], 0.0));
        // Component 0 is the last coordinate, of variance 3.
        theta[2] += 0.02;
        assert!((autoencoder.match_components(&theta, 0.9).unwrap().residual - 0.01).abs() < 1e-15);
    }

    #[test]
    fn the_scalar_autoencoder_has_a_saddle_at_the_origin() {
        // L = (ab - 1)^2: Hessian [[0, -2], [-2, 0]] at the origin.
        let autoencoder = LinearAutoencoder::from_moments(&[1.0], 1, 1).unwrap();
        assert_eq!(autoencoder.spectrum(&[]), [-2.0, 2.0]);
        assert_eq!(autoencoder.spectrum(&[0]), [0.0, 4.0]);
        let origin = autoencoder.critical_point(&[]);
        assert_eq!((origin.loss, origin.negative, origin.index), (1.0, 1, 0.5));
        let data = Data { samples: 1, inputs: vec![1.0], targets: Targets::Inputs };
        let architecture = Architecture { sizes: vec![1, 1, 1], ..Architecture::default() };
        let network = Network::new(architecture, data).unwrap();
        let point = network.evaluate(&[0.0, 0.0]);
        assert_eq!((point.loss(), point.squared_gradient_norm()), (1.0, 0.0));
        let spectrum = hessian::spectrum(&*point).unwrap();
        assert!((spectrum[0] + 2.0).abs() < 1e-15 && (spectrum[1] - 2.0).abs() < 1e-15);
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(LinearAutoencoder::from_moments(&[1.0; 3], 2, 1).is_err());
        assert!(LinearAutoencoder::from_moments(&[f64::NAN], 1, 1).is_err());
        assert!(LinearAutoencoder::from_inputs(&[1.0; 5], 2, 1).is_err());
        assert!(diagonal(60, 30).critical_points().is_err());
        assert!(diagonal(2, 1).match_components(&[1.0], 0.9).is_err());
    }
}
