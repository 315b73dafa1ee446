//! What is measured at a point of a landscape, by its whole spectrum or by the ends of it.

use crate::landscape::density::Quadrature;
use crate::landscape::error::LandscapeError;
use crate::landscape::flatness::{
    FlatnessOptions, GradientFlatness, is_approximately_flat, measure, measure_large,
};
use crate::landscape::hessian;
use crate::landscape::lanczos::{Ends, EndsOptions};
use crate::landscape::linear_autoencoder::{LinearAutoencoder, Match};
use crate::landscape::minres_qlp::Report;
use crate::landscape::objective::{Objective, Point};
use crate::rng::Streams;

/// How points are measured.
#[derive(Clone, Debug)]
pub struct Instruments {
    /// The solver and the cut-offs.
    pub flatness: FlatnessOptions,
    /// The most parameters of which the whole spectrum is computed.
    pub dense_up_to: usize,
    /// How the ends are looked for otherwise.
    pub ends: EndsOptions,
    /// Random vectors that the density is then averaged over.
    pub probes: usize,
    /// Places where the density is told, and its broadening as a share of the spectrum's range.
    pub density: (usize, f64),
    /// The critical points in closed form, where they are known.
    pub analytic: Option<LinearAutoencoder>,
}

/// The measures at one point.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnosis {
    /// The loss.
    pub loss: f64,
    /// The squared gradient norm.
    pub squared_gradient_norm: f64,
    /// The solve for a Newton step.
    pub solve: Report,
    /// The relative residual and that in the co-kernel, by the Frobenius norm of the Hessian.
    pub frobenius: Option<(f64, f64)>,
    /// How the Hessian curves along the gradient; none where that is zero.
    pub rayleigh: Option<f64>,
    /// The norm of the Hessian along the gradient, as a share of the largest.
    pub relative_curvature: Option<f64>,
    /// The share of the gradient in the kernel by each cut-off, where eigenvectors are known.
    pub kernel_fractions: Option<Vec<f64>>,
    /// The largest absolute eigenvalue, or what it is at least.
    pub spectral_norm: f64,
    /// The share of the Hessian that is not its Gauss-Newton matrix; unknown of a large one, and of a plain function.
    pub beyond_gauss_newton: Option<f64>,
    /// What is known of the eigenvalues.
    pub spectrum: Spectrum,
    /// The density of the eigenvalues: places, and values there.
    pub density: Vec<(f64, f64)>,
    /// The analytic critical point that is nearest, where there are any.
    pub nearest: Option<Match>,
}

/// What is known of the eigenvalues.
#[derive(Clone, Debug, PartialEq)]
pub enum Spectrum {
    /// All of them, ascending.
    Whole(Vec<f64>),
    /// Those at the ends, of so many.
    Ends(Ends, usize),
}

impl Instruments {
    /// Measures a point, but for the nearest analytic one; says why where it cannot be measured.
    pub fn measure(&self, loss: &dyn Objective, theta: &[f64]) -> Result<Diagnosis, String> {
        let point = loss.evaluate(theta);
        if !point.is_finite() {
            return Err("its loss or gradient is not finite".to_owned());
        }
        let measured =
            if theta.len() <= self.dense_up_to { self.whole(&*point) } else { self.large(&*point) };
        measured.map_err(|error| error.to_string())
    }

    /// Finds the analytic critical point that is nearest, where they are known.
    pub fn find_nearest(&self, theta: &[f64], mut found: Diagnosis) -> Result<Diagnosis, String> {
        let nearest = self
            .analytic
            .as_ref()
            .map(|analytic| analytic.match_components(theta, 0.9))
            .transpose();
        found.nearest = nearest.map_err(|error| error.to_string())?;
        Ok(found)
    }

    fn whole(&self, point: &dyn Point) -> Result<Diagnosis, LandscapeError> {
        let found = measure(point, &self.flatness)?;
        let gradient = |of: fn(&GradientFlatness) -> f64| found.gradient.as_ref().map(of);
        let (places, width) = self.density;
        Ok(Diagnosis {
            loss: found.loss,
            squared_gradient_norm: found.squared_gradient_norm,
            solve: found.solve,
            frobenius: Some((found.relres_frobenius, found.relares_frobenius)),
            rayleigh: gradient(|g| g.rayleigh),
            relative_curvature: gradient(|g| g.relative_curvature),
            kernel_fractions: found.gradient.as_ref().map(|g| g.kernel_fractions.clone()),
            spectral_norm: found.spectral_norm,
            beyond_gauss_newton: found.beyond_gauss_newton,
            density: Quadrature::exact(&found.spectrum).broadened(width, places),
            spectrum: Spectrum::Whole(found.spectrum),
            nearest: None,
        })
    }

    fn large(&self, point: &dyn Point) -> Result<Diagnosis, LandscapeError> {
        // The same vectors at every point and in every experiment: what they measure does not depend on them.
        let streams = Streams::new(0, "critical.classify");
        let dim = point.gradient().len();
        let found = measure_large(point, &self.flatness.solver, self.ends, &streams)?;
        let multiply = |v: &[f64], out: &mut [f64]| point.hessian_vector(v, out);
        let probing = (self.probes, self.ends.steps);
        let quadrature = Quadrature::stochastic(&multiply, dim, probing, &streams)?;
        let (places, width) = self.density;
        Ok(Diagnosis {
            loss: found.loss,
            squared_gradient_norm: found.squared_gradient_norm,
            solve: found.solve,
            frobenius: None,
            rayleigh: found.rayleigh,
            relative_curvature: found.relative_curvature,
            kernel_fractions: None,
            spectral_norm: found.ends.norm(),
            beyond_gauss_newton: None,
            spectrum: Spectrum::Ends(found.ends, dim),
            density: quadrature.broadened(width, places),
            nearest: None,
        })
    }
}

impl Diagnosis {
    /// Whether the point is approximately gradient-flat, as published.
    pub fn is_flat(&self) -> bool {
        is_approximately_flat(&self.solve)
    }
}

impl Spectrum {
    /// How many eigenvalues are below `-cutoff`; none where that is not known.
    pub fn negative(&self, cutoff: f64) -> Option<usize> {
        match self {
            Self::Whole(values) => Some(hessian::negative_count(values, cutoff)),
            Self::Ends(..) => None,
        }
    }

    /// The index, or between which numbers it is proven to lie: at least, at most.
    pub fn index_bounds(&self, cutoff: f64) -> (f64, f64) {
        match self {
            Self::Whole(values) => (hessian::index(values, cutoff), hessian::index(values, cutoff)),
            Self::Ends(ends, count) => {
                let share = |n: usize| n as f64 / *count as f64;
                let others = count - ends.positive_at_least(-cutoff);
                (share(ends.negative_at_least(cutoff)), share(others))
            }
        }
    }

    /// The eigenvalues that are known, ascending, and how far each may be off where it is an approximation.
    pub fn values(&self) -> Vec<(f64, Option<f64>)> {
        match self {
            Self::Whole(values) => values.iter().map(|value| (*value, None)).collect(),
            Self::Ends(ends, _) => ends.told.iter().map(|r| (r.value, Some(r.error))).collect(),
        }
    }
}
