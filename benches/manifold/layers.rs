//! Layers to measure.

use wavecrest::manifold::gram::Points;
use wavecrest::rng::Streams;

/// Manifolds of equally many points.
pub(crate) struct Layer {
    features: usize,
    points: usize,
    /// Numbers from the beginning of one manifold to that of the next.
    stride: usize,
    manifolds: usize,
    values: Vec<f32>,
}

/// Standard normals.
pub(crate) fn normals(count: usize, purpose: &str) -> Vec<f64> {
    let mut values = vec![0.0; count];
    Streams::new(1, "bench").stream(purpose).fill_normal(&mut values);
    values
}

/// A layer of the paper's size, 50 manifolds of 20 points.
pub(crate) fn paper(features: usize) -> Layer {
    Layer::of(50, 20, features)
}

impl Layer {
    /// Clouds about centers that share a few directions, as rectified activations do.
    pub(crate) fn of(manifolds: usize, points: usize, features: usize) -> Self {
        let (centers, shared) =
            (normals(manifolds * features, "centers"), normals(6 * features, "shared"));
        let (weights, noise) =
            (normals(6 * manifolds, "weights"), normals(manifolds * points * features, "noise"));
        let common = |manifold: usize, feature: usize| -> f64 {
            (0..6).map(|k| weights[6 * manifold + k] * shared[k * features + feature]).sum()
        };
        let center: Vec<f64> = (0..manifolds * features)
            .map(|n| centers[n] + 0.5 * common(n / features, n % features))
            .collect();
        let value = |n: usize| {
            let (manifold, feature) = (n / (points * features), n % features);
            (center[manifold * features + feature] + 0.7 * noise[n]).max(0.0) as f32
        };
        let values = (0..noise.len()).map(value).collect();
        Self { features, points, stride: points * features, manifolds, values }
    }

    /// Noise, of which each manifold sees another stretch: what takes memory is the analysis alone.
    pub(crate) fn overlapping(manifolds: usize, points: usize, features: usize) -> Self {
        let stride = 7919;
        let count = points * features + manifolds * stride;
        let values = normals(count, "values").into_iter().map(|x| x as f32).collect();
        Self { features, points, stride, manifolds, values }
    }

    pub(crate) fn points(&self) -> Vec<Points<'_>> {
        let features = self.features;
        let values = |i: usize| &self.values[i * self.stride..][..self.points * features];
        (0..self.manifolds).map(|i| Points { values: values(i), features }).collect()
    }
}
