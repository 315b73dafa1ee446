//! What was found of the points of a landscape, as tables.

use super::diagnosis::{Diagnosis, Spectrum};
use super::problem::Problem;
use crate::artifacts::table::Table;
use crate::landscape::linear_autoencoder::Match;

/// The class of a point whose gradient vanishes.
pub const CRITICAL: &str = "critical";
/// The class of a point whose gradient lies in the kernel of the Hessian, nearly.
pub const FLAT: &str = "gradient-flat";
/// The class of other points.
pub const NEITHER: &str = "neither";
/// The class of points that cannot be measured.
const FAILED: &str = "failed";

/// The relative residual from which half of the gradient is in the kernel (Frye et al. 2021).
const HALF_FLAT: f64 = 0.5;

/// What was found of points.
pub struct Diagnoses<'a> {
    /// The measures of each, or why there are none.
    pub measured: Vec<Result<Diagnosis, String>>,
    /// The points.
    pub thetas: &'a [&'a [f64]],
    /// Their loss.
    pub problem: &'a Problem,
    /// Squared gradient norms below which a point is critical; the first gives the class.
    pub critical_below: &'a [f64],
    /// Cut-offs of the index; the first gives that of the main table.
    pub cutoffs: &'a [f64],
}

impl Diagnoses<'_> {
    /// The class of each point.
    pub fn classes(&self) -> impl Iterator<Item = &'static str> {
        self.measured.iter().map(|m| match m {
            Err(_) => FAILED,
            Ok(m) if m.squared_gradient_norm < self.critical_below[0] => CRITICAL,
            Ok(m) if m.is_flat() => FLAT,
            Ok(_) => NEITHER,
        })
    }

    /// Counts the critical points whose class is certain: the weights' product is its projection within 1e-3.
    pub fn recovered(&self) -> usize {
        let certain = |(m, class): &(&Result<Diagnosis, String>, &str)| {
            let found = m.as_ref().ok().and_then(|m| m.nearest.as_ref());
            *class == CRITICAL && found.is_some_and(|found| found.residual < 1e-3)
        };
        self.measured.iter().zip(self.classes()).filter(certain).count()
    }

    /// The curvature that the regularizer gives to every direction: 2 l2 / N; none where there is no regularizer.
    fn regularizer(&self) -> Option<f64> {
        let Problem::Network(network) = self.problem else { return None };
        let parameters = self.thetas.first()?.len() as f64;
        (network.l2 > 0.0).then_some(2.0 * network.l2 / parameters)
    }

    fn exceeds_regularizer(&self, cutoff: f64) -> bool {
        self.regularizer().is_some_and(|curvature| cutoff > curvature)
    }

    /// Says which cut-offs hide saddles near the origin, if any do.
    pub fn coarse_cutoffs(&self) -> Option<String> {
        let curvature = self.regularizer()?;
        let coarse = self.cutoffs.iter().filter(|cutoff| self.exceeds_regularizer(**cutoff));
        let coarse: Vec<String> = coarse.map(|cutoff| format!("{cutoff:e}")).collect();
        (!coarse.is_empty()).then(|| {
            format!(
                "an index with a cut-off of {} cannot see saddles near the origin: it exceeds the \
                 regularizer's own curvature 2 l2 / N, {curvature:.2e}",
                coarse.join(", ")
            )
        })
    }

    /// The points that were measured, with their positions.
    fn known(&self) -> impl Iterator<Item = (usize, &Diagnosis)> {
        let each = self.measured.iter().enumerate();
        each.filter_map(|(point, m)| m.as_ref().ok().map(|m| (point, m)))
    }

    /// A column of numbers, empty where a point could not be measured.
    fn column(&self, f: &dyn Fn(&Diagnosis) -> Option<f64>) -> Vec<Option<f64>> {
        self.measured.iter().map(|m| m.as_ref().ok().and_then(f)).collect()
    }

    /// One row a point.
    pub fn table(&self) -> Table {
        let holds =
            |f: fn(&Diagnosis) -> bool| self.measured.iter().map(move |m| m.as_ref().is_ok_and(f));
        let nearest = |f: &dyn Fn(&Diagnosis, &Match) -> f64| {
            self.column(&|m| m.nearest.as_ref().map(|nearest| f(m, nearest)))
        };
        let cutoff = self.cutoffs[0];
        let negative = |m: &Diagnosis| m.spectrum.negative(cutoff);
        let components = |m: &Diagnosis| m.nearest.as_ref().map(|n| n.point.numbered());
        let table = Table::new()
            .counts("point", 0..self.measured.len())
            .texts("class", self.classes())
            .flags("critical", self.classes().map(|class| class == CRITICAL))
            .flags("flat", holds(Diagnosis::is_flat))
            .flags("half_flat", holds(|m| m.solve.relres >= HALF_FLAT))
            .maybe_floats("loss", self.column(&|m| Some(m.loss)))
            .maybe_floats("squared_gradient_norm", self.column(&|m| Some(m.squared_gradient_norm)))
            .maybe_floats("index", self.column(&|m| index(&m.spectrum, cutoff)))
            .maybe_floats("negative", self.column(&|m| negative(m).map(|n| n as f64)))
            .maybe_floats("residual", self.column(&|m| Some(m.solve.relres)))
            .maybe_floats("cokernel_residual", self.column(&|m| Some(m.solve.relares)))
            .maybe_floats("flag", self.column(&|m| Some(m.solve.flag.code() as f64)))
            .maybe_floats("residual_frobenius", self.column(&|m| Some(m.frobenius?.0)))
            .maybe_floats("cokernel_residual_frobenius", self.column(&|m| Some(m.frobenius?.1)))
            .maybe_floats("inner_iterations", self.column(&|m| Some(m.solve.iterations as f64)))
            .maybe_floats("rayleigh", self.column(&|m| m.rayleigh))
            .maybe_floats("relative_curvature", self.column(&|m| m.relative_curvature))
            .maybe_floats(
                "kernel_fraction",
                self.column(&|m| m.kernel_fractions.as_ref().map(|fractions| fractions[0])),
            )
            .maybe_floats("spectral_norm", self.column(&|m| Some(m.spectral_norm)))
            .maybe_floats("beyond_gauss_newton", self.column(&|m| m.beyond_gauss_newton))
            .maybe_texts(
                "components",
                self.measured.iter().map(|m| m.as_ref().ok().and_then(components)),
            )
            .maybe_floats("subset_residual", nearest(&|_, nearest| nearest.residual))
            .maybe_floats("loss_error", nearest(&|m, nearest| (m.loss - nearest.point.loss).abs()))
            .maybe_floats(
                "index_matches",
                nearest(&|m, n| f64::from(u8::from(negative(m) == Some(n.point.negative)))),
            )
            .maybe_texts("failed", self.measured.iter().map(|m| m.as_ref().err().cloned()));
        self.parameters(table)
    }

    /// Adds the parameters of a function, by name.
    fn parameters(&self, mut table: Table) -> Table {
        if let Problem::Function(function) = self.problem {
            for (i, name) in function.parameters().iter().enumerate() {
                table = table.floats(name, self.thetas.iter().map(|theta| theta[i]));
            }
        }
        table
    }

    /// One row for each point and squared gradient norm below which it might be critical.
    pub fn critical(&self) -> Table {
        let rows: Vec<(usize, f64)> = (0..self.measured.len())
            .flat_map(|point| self.critical_below.iter().map(move |below| (point, *below)))
            .collect();
        let measured = |point: usize| self.measured[point].as_ref().ok();
        let column = |f: &dyn Fn(&Diagnosis) -> Option<f64>| -> Vec<Option<f64>> {
            rows.iter().map(|(point, _)| measured(*point).and_then(f)).collect()
        };
        let is_critical = |(point, below): &(usize, f64)| {
            measured(*point).is_some_and(|m| m.squared_gradient_norm < *below)
        };
        Table::new()
            .counts("point", rows.iter().map(|(point, _)| *point))
            .floats("below", rows.iter().map(|(_, below)| *below))
            .flags("critical", rows.iter().map(is_critical))
            .maybe_floats("loss", column(&|m| Some(m.loss)))
            .maybe_floats("index", column(&|m| index(&m.spectrum, self.cutoffs[0])))
            .maybe_floats("squared_gradient_norm", column(&|m| Some(m.squared_gradient_norm)))
    }

    /// One row for each point that was measured and each component that the class nearest to it may keep; 0 stands for
    /// keeping none.
    pub fn components(&self) -> Table {
        let mut rows = Vec::new();
        for ((point, found), class) in self.measured.iter().enumerate().zip(self.classes()) {
            let Some(nearest) = found.as_ref().ok().and_then(|m| m.nearest.as_ref()) else {
                continue;
            };
            let kept = &nearest.point.components;
            rows.push((point, 0, kept.is_empty(), class == CRITICAL));
            let each = 0..self.inputs();
            rows.extend(each.map(|c| (point, c + 1, kept.contains(&c), class == CRITICAL)));
        }
        Table::new()
            .counts("point", rows.iter().map(|(point, ..)| *point))
            .counts("component", rows.iter().map(|(_, component, ..)| *component))
            .flags("kept", rows.iter().map(|(_, _, kept, _)| *kept))
            .flags("critical", rows.iter().map(|(.., critical)| *critical))
    }

    /// The inputs of a network; none of a function.
    fn inputs(&self) -> usize {
        match self.problem {
            Problem::Network(network) => network.sizes[0],
            Problem::Function(_) => 0,
        }
    }

    /// One row for each point that was measured and each cut-off of the index.
    pub fn indices(&self) -> Table {
        let rows = || {
            self.known().flat_map(|(point, m)| {
                self.cutoffs.iter().enumerate().map(move |(i, cutoff)| (point, m, i, *cutoff))
            })
        };
        let bounds = || rows().map(|(_, m, _, cutoff)| m.spectrum.index_bounds(cutoff));
        Table::new()
            .counts("point", rows().map(|(point, ..)| point))
            .floats("cutoff", rows().map(|(.., cutoff)| cutoff))
            .maybe_floats("index", rows().map(|(_, m, _, cutoff)| index(&m.spectrum, cutoff)))
            .floats("index_at_least", bounds().map(|(least, _)| least))
            .floats("index_at_most", bounds().map(|(_, most)| most))
            .flags("exceeds_regularizer", rows().map(|(.., c)| self.exceeds_regularizer(c)))
            .maybe_floats(
                "kernel_fraction",
                rows().map(|(_, m, i, _)| m.kernel_fractions.as_ref().map(|g| g[i])),
            )
            .floats("loss", rows().map(|(_, m, ..)| m.loss))
    }

    /// One row for each point that was measured and each eigenvalue that is known of it.
    pub fn spectra(&self) -> Table {
        let values: Vec<(usize, usize, f64, Option<f64>)> = self
            .known()
            .flat_map(|(point, m)| {
                let values = m.spectrum.values().into_iter().enumerate();
                values.map(move |(rank, (value, error))| (point, rank, value, error))
            })
            .collect();
        Table::new()
            .counts("point", values.iter().map(|(point, ..)| *point))
            .counts("rank", values.iter().map(|(_, rank, ..)| *rank))
            .floats("eigenvalue", values.iter().map(|(_, _, value, _)| *value))
            .maybe_floats("error", values.iter().map(|(.., error)| *error))
    }

    /// One row for each point that was measured and each place of its density.
    pub fn density(&self) -> Table {
        let places = || {
            self.known().flat_map(|(point, m)| m.density.iter().map(move |place| (point, *place)))
        };
        Table::new()
            .counts("point", places().map(|(point, _)| point))
            .floats("eigenvalue", places().map(|(_, (eigenvalue, _))| eigenvalue))
            .floats("density", places().map(|(_, (_, density))| density))
    }
}

/// The index, where it is known.
fn index(spectrum: &Spectrum, cutoff: f64) -> Option<f64> {
    let (least, most) = spectrum.index_bounds(cutoff);
    (least == most).then_some(least)
}
