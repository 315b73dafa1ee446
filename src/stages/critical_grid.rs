//! `critical.grid`: points of a function on a grid.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::problem::{Function, Problem, failure};
use crate::artifacts::points::Points;
use crate::artifacts::table::Table;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, each, violations};
use crate::landscape::hessian;

/// The most points of a grid.
const LARGEST: usize = 1_000_000;

/// Lays points of a function on a grid, from where searches begin as they do from those of `critical.start`.
///
/// A function has no data: `critical.search` and `critical.classify` take its points without `data`. Table `values` has
/// a row for each point: the parameters by name, the function, its squared gradient norm, and the Newton step there
/// (`newton_x` and so on), by the pseudo-inverse of the Hessian, to draw the function with. Defaults are the published
/// grid of 10 x 10 points.
///
/// Source: Frye 2020, thesis, ch. 3; Frye et al. 2021, Neural Computation 33.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CriticalGrid {
    /// The function.
    #[serde(default)]
    function: Function,
    /// Where the grid begins, one number for each parameter of the function.
    #[serde(default = "published_low")]
    low: Vec<f64>,
    /// Where it ends, one number for each parameter, at least that of `low`.
    #[serde(default = "published_high")]
    high: Vec<f64>,
    /// Points along each parameter, evenly spaced with both ends, at least 1; a single one lies in the middle. At most
    /// 1000000 points in all.
    #[serde(default = "published_per_axis")]
    per_axis: Vec<usize>,
}

fn published_low() -> Vec<f64> {
    vec![-4.0; 2]
}
fn published_high() -> Vec<f64> {
    vec![4.0; 2]
}
fn published_per_axis() -> Vec<usize> {
    vec![10; 2]
}

impl Stage for CriticalGrid {
    const KIND: &'static str = "critical.grid";
    const VERSION: u32 = 2;
    const DETERMINISM: Determinism = Determinism::Machine;
    const SMALL: bool = true;
    const EXAMPLE: &'static str = r#"
        [stages.grid]
        kind = "critical.grid"
    "#;

    fn check(&self) -> Vec<Violation> {
        let parameters = self.function.parameters().len();
        let rule = format!("must hold {parameters} numbers, one for each parameter");
        let fits =
            [("low", self.low.len()), ("high", self.high.len()), ("per_axis", self.per_axis.len())];
        let broken = fits.into_iter().filter(|(_, length)| *length != parameters);
        let mut broken: Vec<Violation> =
            broken.map(|(field, _)| Violation::new(field, rule.as_str())).collect();
        let ordered = self.low.iter().zip(&self.high).all(|(low, high)| low <= high);
        let count = self.per_axis.iter().fold(1usize, |all, n| all.saturating_mul(*n));
        broken.extend(violations([
            ("high", ordered, "must be at least `low`, along each parameter"),
            ("per_axis", count <= LARGEST, "must make at most 1000000 points"),
        ]));
        for (field, numbers) in [("low", &self.low), ("high", &self.high)] {
            broken.extend(each(field, numbers, |n| n.is_finite(), "must hold finite numbers"));
        }
        broken.extend(each("per_axis", &self.per_axis, |n| *n > 0, "must hold numbers from 1 on"));
        broken
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Points::TYPE).and("values", Table::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let problem = Problem::Function(self.function);
        let points = Points {
            problem: problem.carried(),
            dimension: self.function.parameters().len(),
            thetas: self.thetas(),
        };
        cx.save_as("values", &self.values(&problem, &points)?)?;
        cx.save(&points)
    }
}

impl CriticalGrid {
    /// The points, the last parameter running fastest.
    fn thetas(&self) -> Vec<f64> {
        let mut points: Vec<Vec<f64>> = vec![Vec::new()];
        for ((low, high), count) in self.low.iter().zip(&self.high).zip(&self.per_axis) {
            let place = |i: usize| match count {
                1 => f64::midpoint(*low, *high),
                _ => low + i as f64 * ((high - low) / (count - 1) as f64),
            };
            points = points
                .into_iter()
                .flat_map(|point| {
                    (0..*count).map(move |i| [point.as_slice(), &[place(i)]].concat())
                })
                .collect();
        }
        points.concat()
    }

    fn values(&self, problem: &Problem, points: &Points) -> anyhow::Result<Table> {
        let loss = problem.loss(None)?;
        let mut rows = Vec::with_capacity(points.count());
        for theta in points.each() {
            let point = loss.objective().evaluate(theta);
            anyhow::ensure!(
                point.is_finite(),
                Failure::user(format!("the function is not finite at {theta:?}"))
                    .hint("a smaller grid may help: see `low` and `high`")
            );
            let step = hessian::pseudo_inverse_step(&*point).map_err(failure)?;
            rows.push((theta, point.loss(), point.squared_gradient_norm(), step));
        }
        let mut table = Table::new().counts("point", 0..rows.len());
        let names = self.function.parameters();
        for (i, name) in names.iter().enumerate() {
            table = table.floats(name, rows.iter().map(|(theta, ..)| theta[i]));
        }
        table = table
            .floats("loss", rows.iter().map(|(_, loss, ..)| *loss))
            .floats("squared_gradient_norm", rows.iter().map(|(_, _, squared, _)| *squared));
        for (i, name) in names.iter().enumerate() {
            let step = rows.iter().map(|(.., step)| step[i]);
            table = table.floats(&format!("newton_{name}"), step);
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::critical_classify::CriticalClassify;
    use crate::stages::critical_search::CriticalSearch;
    use crate::stages::shared::bench::Bench;

    /// The settings of the thesis for the quartic.
    const SEARCH: &str = "points = '@grid'\niterations = 15\nmethod = { newton_mr = { alpha = 1.0, beta = 0.9, \
                          rho = 0.1, pure_rho = 0.1, rtol = 1e-10, inner_iterations = 2, norm_limit = 1e2, \
                          condition_limit = 1e15 } }";

    fn grid() -> (Bench, Points) {
        let points: Points = Bench::new().run::<CriticalGrid>("").unwrap().main();
        (Bench::new().put("grid", &points), points)
    }

    #[test]
    fn the_published_grid_has_its_corners_and_the_function_its_values() {
        let results = Bench::new().run::<CriticalGrid>("").unwrap();
        let points: Points = results.main();
        assert_eq!((points.count(), points.dimension), (100, 2));
        assert_eq!((&points.thetas[..2], &points.thetas[198..]), (&[-4.0; 2][..], &[4.0; 2][..]));
        assert!((points.thetas[3] + 4.0 - 8.0 / 9.0).abs() < 1e-15);
        let frame = results.output::<Table>("values").frame().unwrap();
        let first = |name: &str| frame.column(name).unwrap().f64().unwrap().get(0).unwrap();
        // At (-4, -4): 64 - 48 - 36 + 230.4 + 80 + 40; g = (-31, -270.4), H = diag(42, 182.8).
        assert!((first("loss") - 330.4).abs() < 1e-12);
        let squared = 31.0 * 31.0 + 270.4 * 270.4;
        assert!((first("squared_gradient_norm") - squared).abs() < 1e-9);
        assert!((first("newton_x") - 31.0 / 42.0).abs() < 1e-14);
        assert!((first("newton_y") - 270.4 / 182.8).abs() < 1e-14);
        let line = "low = [-2.0, -1.0]\nhigh = [2.0, 3.0]\nper_axis = [3, 1]";
        let points: Points = Bench::new().run::<CriticalGrid>(line).unwrap().main();
        assert_eq!(points.thetas, [-2.0, 1.0, 0.0, 1.0, 2.0, 1.0]);
    }

    #[test]
    fn searches_on_the_quartic_end_as_published() {
        // Frye's thesis: 56 of 100 searches come to (-3, 0), 42 near the gradient-flat (sqrt 2, 0), and 2 crawl.
        let (bench, _) = grid();
        let results = bench.run::<CriticalSearch>(SEARCH).unwrap();
        let ends: Points = results.main();
        let near = |theta: &[f64], x: f64, by: f64| (theta[0] - x).hypot(theta[1]) < by;
        let count = |x: f64, by: f64| ends.each().filter(|theta| near(theta, x, by)).count();
        assert_eq!((count(-3.0, 1e-6), count(2f64.sqrt(), 0.25)), (56, 42));
        assert_eq!(count(-(2f64.sqrt()), 0.5), 0);
        let runs = results.output::<Table>("runs").frame().unwrap();
        let squared = runs.column("squared_gradient_norm").unwrap().f64().unwrap();
        let crawl = |s: f64| (s - 21.26).abs() < 0.005;
        assert_eq!(squared.into_no_null_iter().filter(|s| crawl(*s)).count(), 2);
        let found = bench.put("ends", &ends).run::<CriticalClassify>("points = '@ends'").unwrap();
        assert_eq!(found.metrics["critical"], 56.0);
        let frame = found.main::<Table>().frame().unwrap();
        let column = |name: &str| frame.column(name).unwrap().f64().unwrap().to_vec();
        for (end, (x, y)) in ends.each().zip(column("x").into_iter().zip(column("y"))) {
            assert_eq!((Some(end[0]), Some(end[1])), (x, y));
        }
    }

    #[test]
    fn data_of_a_function_and_a_grid_of_other_size_are_refused() {
        let (bench, _) = grid();
        let data = crate::artifacts::tensors::Tensors::default();
        let bench = bench.put("data", &data);
        let error = bench.run::<CriticalSearch>("points = '@grid'\ndata = '@data'").unwrap_err();
        assert!(error.to_string().contains("a function, which has no data"), "{error}");
        let error = bench.run::<CriticalGrid>("low = [0.0]\nhigh = [-5.0, 1.0]").unwrap_err();
        let error = error.to_string();
        assert!(error.contains("must hold 2 numbers") && error.contains("\"high\""), "{error}");
        let error = bench.run::<CriticalGrid>("per_axis = [0, 2000000]").unwrap_err().to_string();
        assert!(error.contains("from 1 on"), "{error}");
    }
}
