//! How flat a loss is along its gradient at a point, by several measures side by side.
//!
//! Where the gradient lies in the kernel of the Hessian, Newton steps vanish though the gradient does not: such
//! gradient-flat points stop a search as critical points do. The published measure, the relative residual of a solve,
//! depends on the solver's tolerance and on its estimate of ||H||; the others do not.

use faer::Mat;

use crate::{
    landscape::{
        error::LandscapeError,
        hessian,
        lanczos::{self, Ends, EndsOptions},
        minres_qlp::{self, Report, Solution, SolverOptions},
        objective::Point,
        vector,
    },
    rng::Streams,
};

/// The relative residual above which a point is approximately gradient-flat (Frye et al. 2021).
pub const FLAT_RELRES: f64 = 0.9;

/// The relative residual in the co-kernel below which a point is approximately gradient-flat (Frye et al. 2021).
pub const FLAT_RELARES: f64 = 5e-4;

/// What is measured at a point.
#[derive(Clone, Debug, PartialEq)]
pub struct FlatnessOptions {
    /// Eigenvalues count as negative below minus each of these.
    pub index_cutoffs: Vec<f64>,
    /// Eigenvalues count as zero within each of these.
    pub kernel_cutoffs: Vec<f64>,
    pub solver: SolverOptions,
}

impl Default for FlatnessOptions {
    /// The published cut-offs for images and for Gaussian data, and one below any regularizer's curvature.
    fn default() -> Self {
        Self {
            index_cutoffs: vec![1e-3, 1e-5, 1e-8],
            kernel_cutoffs: vec![1e-3, 1e-5, 1e-8],
            solver: SolverOptions::default(),
        }
    }
}

/// The measures at one point, with g its gradient and H its Hessian.
#[derive(Clone, Debug, PartialEq)]
pub struct Flatness {
    pub loss: f64,
    pub squared_gradient_norm: f64,
    /// The solve for a Newton step p, with the published residuals.
    pub solve: Report,
    /// ||Hp + g|| / (||H||_F ||p|| + ||g||), as printed in Frye et al. 2021; at most `solve.relres`, roughly.
    pub relres_frobenius: f64,
    /// ||H(Hp + g)|| / (||H||_F ||Hp + g||).
    pub relares_frobenius: f64,
    /// The largest absolute eigenvalue of H.
    pub spectral_norm: f64,
    /// ||H||_F.
    pub frobenius_norm: f64,
    /// ||H - G||_F / ||H||_F, with G the Gauss-Newton matrix: how much of the curvature is the network's own, not the
    /// cost's. 0 where residuals are 0; `None` where the loss is no cost of outputs.
    pub beyond_gauss_newton: Option<f64>,
    /// How H acts on the gradient; `None` where the gradient is zero.
    pub gradient: Option<GradientFlatness>,
    /// One index a cut-off, in the order of the options.
    pub indices: Vec<f64>,
    /// The eigenvalues of H, ascending.
    pub spectrum: Vec<f64>,
}

/// How the Hessian acts on a gradient that is not zero.
#[derive(Clone, Debug, PartialEq)]
pub struct GradientFlatness {
    /// g'Hg / g'g.
    pub rayleigh: f64,
    /// ||Hg|| / (||H||_2 ||g||), in [0, 1]; 0 at gradient-flat points.
    pub relative_curvature: f64,
    /// The share of ||g||^2 along eigenvectors whose eigenvalue is within each cut-off, in the order of the options.
    pub kernel_fractions: Vec<f64>,
}

/// Measures the flatness at a point; costs one Hessian, its eigenvectors and the Gauss-Newton matrix.
pub fn measure(point: &dyn Point, options: &FlatnessOptions) -> Result<Flatness, LandscapeError> {
    let gradient = point.gradient();
    let matrix = hessian::hessian(point);
    let eigen = hessian::eigen(matrix.as_ref())?;
    let (spectral_norm, frobenius_norm) = (eigen.norm(), vector::norm(&eigen.values));
    let negative: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let solution = newton_step(point, &negative, &options.solver);
    let residual = vector::moved(&negative, -1.0, &solution.image);
    let residual_norm = vector::norm(&residual);
    let (mut normal, mut hg) = (vec![0.0; gradient.len()], vec![0.0; gradient.len()]);
    point.hessian_vector(&residual, &mut normal);
    point.hessian_vector(gradient, &mut hg);
    let gradient_norm = vector::norm(gradient);
    let ratio = |a: f64, b: f64| if a == 0.0 { 0.0 } else { a / b };
    Ok(Flatness {
        loss: point.loss(),
        squared_gradient_norm: point.squared_gradient_norm(),
        solve: solution.report,
        relres_frobenius: ratio(
            residual_norm,
            frobenius_norm * vector::norm(&solution.x) + gradient_norm,
        ),
        relares_frobenius: ratio(vector::norm(&normal), frobenius_norm * residual_norm),
        spectral_norm,
        frobenius_norm,
        beyond_gauss_newton: hessian::gauss_newton(point)
            .map(|cost| ratio((&matrix - cost).norm_l2(), frobenius_norm)),
        gradient: (gradient_norm > 0.0).then(|| GradientFlatness {
            rayleigh: vector::dot(gradient, &hg) / (gradient_norm * gradient_norm),
            relative_curvature: ratio(vector::norm(&hg), spectral_norm * gradient_norm),
            kernel_fractions: kernel_fractions(gradient, &eigen, &options.kernel_cutoffs),
        }),
        indices: options
            .index_cutoffs
            .iter()
            .map(|cutoff| hessian::index(&eigen.values, *cutoff))
            .collect(),
        spectrum: eigen.values,
    })
}

/// The measures at a point whose Hessian is too large for its eigenvectors.
#[derive(Clone, Debug, PartialEq)]
pub struct LargeFlatness {
    pub loss: f64,
    pub squared_gradient_norm: f64,
    /// The solve for a Newton step p, with the published residuals.
    pub solve: Report,
    /// g'Hg / g'g; `None` where the gradient is zero.
    pub rayleigh: Option<f64>,
    /// ||Hg|| / (||H||_2 ||g||), with the largest absolute Ritz value for ||H||_2: from above, to rounding.
    pub relative_curvature: Option<f64>,
    /// The ends of the spectrum of H, as far as they are proven.
    pub ends: Ends,
}

/// Measures the flatness at a point by products with its Hessian alone, in memory for `ends.steps` vectors.
pub fn measure_large(
    point: &dyn Point,
    solver: &SolverOptions,
    ends: EndsOptions,
    streams: &Streams,
) -> Result<LargeFlatness, LandscapeError> {
    let gradient = point.gradient();
    let negative: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let solve = newton_step(point, &negative, solver).report;
    let multiply = |v: &[f64], out: &mut [f64]| point.hessian_vector(v, out);
    let ends = lanczos::ends(&multiply, gradient.len(), ends, streams)?;
    let mut hg = vec![0.0; gradient.len()];
    point.hessian_vector(gradient, &mut hg);
    let squared_gradient_norm = point.squared_gradient_norm();
    let of_gradient = |measure: f64| (squared_gradient_norm > 0.0).then_some(measure);
    let (curved, norm) = (vector::norm(&hg), ends.norm() * squared_gradient_norm.sqrt());
    Ok(LargeFlatness {
        loss: point.loss(),
        squared_gradient_norm,
        solve,
        rayleigh: of_gradient(vector::dot(gradient, &hg) / squared_gradient_norm),
        relative_curvature: of_gradient(if curved == 0.0 { 0.0 } else { curved / norm }),
        ends,
    })
}

/// Solves for the Newton step at a point.
fn newton_step(point: &dyn Point, negative_gradient: &[f64], solver: &SolverOptions) -> Solution {
    let multiply = |v: &[f64], out: &mut [f64]| point.hessian_vector(v, out);
    minres_qlp::solve(multiply, negative_gradient, solver)
}

/// Tells whether a solve finds its point approximately gradient-flat: r > 0.9 and `r_H` < 5e-4.
pub fn is_approximately_flat(report: &Report) -> bool {
    report.relres > FLAT_RELRES && report.relares < FLAT_RELARES
}

fn kernel_fractions(gradient: &[f64], eigen: &hessian::Eigen, cutoffs: &[f64]) -> Vec<f64> {
    let vectors: &Mat<f64> = &eigen.vectors;
    let shares: Vec<f64> = vectors
        .col_iter()
        .map(|column| column.iter().zip(gradient).map(|(u, g)| u * g).sum::<f64>().powi(2))
        .collect();
    // The eigenvectors are orthonormal within rounding; dividing by the sum keeps the fraction in [0, 1].
    let total: f64 = shares.iter().sum();
    let within = |cutoff: f64| {
        let pairs = eigen.values.iter().zip(&shares);
        pairs.filter(|(value, _)| value.abs() < cutoff).map(|(_, share)| share).sum::<f64>()
    };
    cutoffs.iter().map(|cutoff| within(*cutoff) / total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::landscape::{
        data::{Data, Targets},
        minres_qlp::Flag,
        network::{Architecture, Network},
        objective::{Objective, Quartic},
    };

    fn at(x: f64, y: f64) -> Flatness {
        measure(&*Quartic.evaluate(&[x, y]), &FlatnessOptions::default()).unwrap()
    }

    #[test]
    fn a_gradient_flat_point_of_the_quartic_is_told_from_a_critical_one() {
        let flat = at(2f64.sqrt(), 0.0);
        let gradient = flat.gradient.unwrap();
        assert!(gradient.rayleigh.abs() < 1e-14 && gradient.relative_curvature < 1e-15);
        assert_eq!(gradient.kernel_fractions, [1.0, 1.0, 1.0]);
        assert!(flat.solve.relres > 0.999 && flat.relres_frobenius > 0.999);
        assert!(flat.relares_frobenius < 1e-15);

        let critical = at(-3.0, 0.0);
        assert_eq!(critical.gradient, None);
        assert_eq!(critical.beyond_gauss_newton, None);
        assert_eq!(critical.solve.flag, Flag::Zero);
        assert_eq!(critical.solve.relres, 0.0);
        assert_eq!(critical.indices, [0.0; 3]);
        assert!((critical.frobenius_norm - 21f64.hypot(10.0)).abs() < 1e-13);
    }

    #[test]
    fn products_alone_measure_what_eigenvectors_do() {
        let whole = at(0.0, 1.0);
        let options = EndsOptions { steps: 2, told: 1 };
        let (solver, streams) = (SolverOptions::default(), Streams::new(1, "test"));
        let large = |x: f64, y: f64| {
            measure_large(&*Quartic.evaluate(&[x, y]), &solver, options, &streams).unwrap()
        };
        let found = large(0.0, 1.0);
        assert_eq!((found.loss, found.solve), (whole.loss, whole.solve));
        let gradient = whole.gradient.unwrap();
        assert!((found.rayleigh.unwrap() - gradient.rayleigh).abs() < 1e-13);
        let curvature = found.relative_curvature.unwrap();
        assert!((curvature - gradient.relative_curvature).abs() < 1e-13);
        assert_eq!(
            (found.ends.negative_at_least(1e-3), found.ends.positive_at_least(1e-3)),
            (1, 1)
        );
        let critical = large(-3.0, 0.0);
        assert_eq!((critical.rayleigh, critical.relative_curvature), (None, None));
    }

    #[test]
    fn measures_of_a_diagonal_hessian_are_closed_forms() {
        // g = (x^3 - 6x + 9, 3.6y^3 + 10y), H = diag(3x^2 - 6, 10.8y^2 + 10).
        let found = at(0.0, 1.0);
        let (g, h) = ([9.0f64, 13.6], [-6.0, 20.8]);
        let squared = g[0] * g[0] + g[1] * g[1];
        let gradient = found.gradient.unwrap();
        let rayleigh = (h[0] * g[0] * g[0] + h[1] * g[1] * g[1]) / squared;
        let relative = (h[0] * g[0]).hypot(h[1] * g[1]) / (20.8 * f64::sqrt(squared));
        assert!((gradient.rayleigh - rayleigh).abs() < 1e-13);
        assert!((gradient.relative_curvature - relative).abs() < 1e-14);
        assert_eq!(gradient.kernel_fractions, [0.0; 3]);
        assert_eq!(found.indices, [0.5; 3]);
        assert!(found.relres_frobenius < 1e-14);
        assert!(!is_approximately_flat(&found.solve));
    }

    #[test]
    fn the_scalar_autoencoder_curves_beyond_its_cost_at_the_origin_alone() {
        // (ab - 1)^2: at the origin the Hessian is [[0, -2], [-2, 0]] and no derivative of ab is left; at (1, 1) the
        // residual is zero, and the Hessian 2 [[1, 1], [1, 1]] is that of the cost.
        let data = Data { samples: 1, inputs: vec![1.0], targets: Targets::Inputs };
        let architecture = Architecture { sizes: vec![1, 1, 1], ..Architecture::default() };
        let network = Network::new(architecture, data).unwrap();
        let share = |theta: [f64; 2]| {
            let found = measure(&*network.evaluate(&theta), &FlatnessOptions::default()).unwrap();
            found.beyond_gauss_newton.unwrap()
        };
        assert_eq!(share([0.0, 0.0]), 1.0);
        assert!(share([1.0, 1.0]) < 1e-15, "{}", share([1.0, 1.0]));
    }
}
