//! Critical points: the solver, losses and their derivatives, the linear autoencoder, published searches.

use std::path::Path;

use anyhow::Context as _;
use rayon::prelude::*;
use serde_json::Value;
use wavecrest::landscape::activation::Activation;
use wavecrest::landscape::damped_newton::{self, DampedNewtonOptions};
use wavecrest::landscape::data::{Data, Targets};
use wavecrest::landscape::flatness::{self, FlatnessOptions};
use wavecrest::landscape::hessian;
use wavecrest::landscape::linear_autoencoder::LinearAutoencoder;
use wavecrest::landscape::minres_qlp::{self, SolverOptions};
use wavecrest::landscape::network::{Architecture, Cost, Network};
use wavecrest::landscape::newton_mr::{self, NewtonMrOptions};
use wavecrest::landscape::objective::Objective as _;
use wavecrest::landscape::search::{Control, Status};
use wavecrest::store::files;

use crate::npz::{Array, Npz};
use crate::table::{Comparisons, largest_difference, relative};

/// Of the published searches every this many is run again.
const EVERY: usize = 5;

/// Compares with the files of a folder.
pub(crate) fn compare(folder: &Path, table: &mut Comparisons) -> anyhow::Result<()> {
    let about = |name: &str| -> anyhow::Result<Vec<Value>> {
        // Python writes NaN, which is no JSON.
        let text = files::read_text(&folder.join(name))?.replace(": NaN", ": null");
        serde_json::from_str(&text).with_context(|| name.to_owned())
    };
    let open = |name: &str| Npz::open(&folder.join(name)).with_context(|| name.to_owned());
    systems(&open("06_minres_qlp_cases.npz")?, &about("06_minres_qlp_cases.json")?, table)
        .context("06")?;
    networks(&open("07_hvp_hessian_cases.npz")?, &about("07_hvp_hessian_cases.json")?, table)
        .context("07")?;
    analytic(&open("02_dlae_analytic.npz")?, table).context("02")?;
    failures(&open("09_flatness_at_paper_failures.npz")?, table).context("09")?;
    searches(&open("01_paper_dlae_newtonmr.npz")?, table).context("01")?;
    damped(&open("1x_dlae128_problem.npz")?, &open("1x_dlae128_tr_fixed.npz")?, table).context("1x")
}

fn number(value: &Value, key: &str) -> anyhow::Result<f64> {
    value[key].as_f64().with_context(|| format!("no number `{key}`"))
}

/// Solves systems; solutions may differ by ten times what a change of the last bit makes, of some 1e-12 at least.
fn systems(file: &Npz, about: &[Value], table: &mut Comparisons) -> anyhow::Result<()> {
    let (mut errors, mut flags, mut in_kernel) = (Vec::new(), 0, Vec::new());
    for case in about {
        let name = case["case"].as_str().context("no `case`")?;
        let get = |what: &str| file.get(&format!("{name}_{what}"));
        let (matrix, b, expected) = (get("A")?, get("b")?.data, get("x")?.data);
        let parameters = &case["params"];
        let options = SolverOptions {
            rtol: number(parameters, "rtol")?,
            iterations: Some(number(parameters, "maxit")? as usize),
            norm_limit: number(parameters, "maxxnorm")?,
            condition_limit: number(parameters, "acondlim")?,
            ..SolverOptions::default()
        };
        let multiply = |v: &[f64], out: &mut [f64]| {
            for (i, out) in out.iter_mut().enumerate() {
                *out = matrix.row(i).iter().zip(v).map(|(a, v)| a * v).sum();
            }
        };
        let found = minres_qlp::solve(multiply, &b, &options);
        if case["name"] == "b_in_kernel" {
            // The published program returns a vector of norm 1e14 here; the solution is zero.
            in_kernel.push(largest_difference(&found.x, &vec![0.0; b.len()]));
            continue;
        }
        let scale = largest_difference(&expected, &vec![0.0; b.len()]);
        let error = largest_difference(&found.x, &expected) / if scale > 0.0 { scale } else { 1.0 };
        errors.push(error / f64::max(10.0 * number(case, "sensitivity_rel")?, 1e-12));
        let code = found.report.flag.code() as f64;
        let allowed = [get("out")?.data[0], number(case, "flag_under_perturbation")?];
        flags += usize::from(!allowed.contains(&code));
    }
    table.count("MINRES-QLP flag", errors.len(), flags);
    table.add("MINRES-QLP solution, in units of ten perturbations", 1.0, errors);
    table.add("MINRES-QLP solution for b in the kernel", 0.0, in_kernel);
    Ok(())
}

/// Evaluates networks with all derivatives.
fn networks(file: &Npz, about: &[Value], table: &mut Comparisons) -> anyhow::Result<()> {
    let mut errors = [const { Vec::new() }; 5];
    for case in about {
        let name = case["name"].as_str().context("no `name`")?;
        let get = |what: &str| file.get(&format!("{name}_{what}"));
        let network = network(case, &get("X")?, &get("Y")?)?;
        let point = network.evaluate(&get("theta")?.data);
        let product = |v: &[f64]| {
            let mut out = vec![0.0; v.len()];
            point.hessian_vector(v, &mut out);
            out
        };
        let (directions, products) = (get("V")?, get("HV")?);
        let (directions, products) = (directions.transposed(), products.transposed());
        let each = directions.chunks(network.dim()).zip(products.chunks(network.dim()));
        let matrix = hessian::hessian(&*point);
        let entries: Vec<f64> = matrix.col_iter().flat_map(|c| c.iter().copied()).collect();
        let values = hessian::spectrum(&*point)?;
        let found = [
            (point.loss() - get("loss")?.data[0]).abs(),
            largest_difference(point.gradient(), &get("grad")?.data),
            each.map(|(v, hv)| largest_difference(&product(v), hv)).fold(0.0, f64::max),
            largest_difference(&entries, &get("H")?.data),
            largest_difference(&values, &get("eig")?.data),
        ];
        errors.iter_mut().zip(found).for_each(|(errors, found)| errors.push(found));
    }
    let names = ["loss", "gradient", "Hessian products", "Hessian", "Hessian eigenvalues"];
    for (name, errors) in names.iter().zip(errors) {
        table.add(&format!("{name} of networks"), 1e-12, errors);
    }
    Ok(())
}

fn network(case: &Value, x: &Array, y: &Array) -> anyhow::Result<Network> {
    let layers = case["layer_sizes"].as_array().context("no `layer_sizes`")?;
    let layers = layers.iter().filter_map(Value::as_u64).map(|n| n as usize);
    let samples = x.shape[1];
    let label = |s: usize| (0..y.shape[0]).find(|o| y.row(*o)[s] == 1.0);
    let (cost, targets) = if case["cost"] == "ce" {
        let labels = (0..samples).map(label).collect::<Option<_>>();
        (Cost::CrossEntropy, Targets::Labels(labels.context("a sample without a label")?))
    } else {
        (Cost::MeanSquaredError, Targets::Values(y.transposed()))
    };
    let architecture = Architecture {
        sizes: std::iter::once(x.shape[0]).chain(layers).collect(),
        bias: case["bias"] == true,
        activation: match case["activation"].as_str() {
            Some("swish") => Activation::Swish,
            Some("sigmoid") => Activation::Sigmoid,
            Some("softplus") => Activation::Softplus,
            Some("none") => Activation::Linear,
            other => anyhow::bail!("activation {other:?}"),
        },
        cost,
        l2: number(case, "l2_mean_coef")?,
    };
    let data = Data { samples, inputs: x.transposed(), targets };
    Ok(Network::new(architecture, data)?)
}

/// Lists the critical points of two linear autoencoders.
fn analytic(file: &Npz, table: &mut Comparisons) -> anyhow::Result<()> {
    let (mut losses, mut indices, mut spectra) = (Vec::new(), 0, Vec::new());
    for draw in ["icml", "thesis"] {
        let get = |what: &str| file.get(&format!("{draw}_{what}"));
        let autoencoder = LinearAutoencoder::from_moments(&get("C")?.data, 16, 4)?;
        let (masks, loss, count) = (get("mask")?, get("loss")?.data, get("index_count")?.data);
        for i in 0..loss.len() {
            let point = autoencoder.critical_point(&components(masks.row(i)));
            losses.push(relative(point.loss, loss[i]));
            indices += usize::from(point.negative as f64 != count[i]);
        }
        if draw == "icml" {
            let published = get("published_spectrum_every25")?;
            for i in 0..published.shape[0] {
                let ours = autoencoder.spectrum(&components(masks.row(25 * i)));
                spectra.push(largest_difference(&ours, published.row(i)));
            }
        }
    }
    table.count("index of analytic critical points", losses.len(), indices);
    table.add("loss of analytic critical points (relative)", 1e-12, losses);
    table.add("Hessian eigenvalues of analytic critical points", 1e-12, spectra);
    Ok(())
}

/// The components that a mask over ascending eigenvalues keeps; the first is that of the largest.
fn components(mask: &[f64]) -> Vec<usize> {
    (0..mask.len()).filter(|component| mask[mask.len() - 1 - component] != 0.0).collect()
}

/// The published linear autoencoder on samples that are columns.
fn autoencoder(x: &Array) -> anyhow::Result<Network> {
    let data = Data { samples: x.shape[1], inputs: x.transposed(), targets: Targets::Inputs };
    Ok(Network::new(Architecture::default(), data)?)
}

/// Measures the points where published searches failed.
fn failures(file: &Npz, table: &mut Comparisons) -> anyhow::Result<()> {
    let network = autoencoder(&file.get("Xc")?)?;
    let (thetas, out) = (file.get("theta")?, file.get("out")?);
    let expected = |name: &str| anyhow::Ok(file.get(name)?.data);
    let rtol = expected("rtol")?;
    let published = rtol.iter().position(|rtol| *rtol == 5e-4).context("no rtol of 5e-4")?;
    let (squared, spectral) = (expected("m_sgn")?, expected("m_spec_norm")?);
    let (frobenius, fine, coarse) =
        (expected("m_frob_norm")?, expected("m_index_1e-5")?, expected("m_index_1e-3")?);
    let options = FlatnessOptions { index_cutoffs: vec![1e-5, 1e-3], ..FlatnessOptions::default() };
    let (mut residuals, mut norms, mut different) = (Vec::new(), Vec::new(), [0; 2]);
    for i in 0..thetas.shape[0] {
        let found = flatness::measure(&*network.evaluate(thetas.row(i)), &options)?;
        let solve = &out.row(i)[10 * published..][..10];
        residuals.push((found.solve.relres - solve[4]).abs());
        different[0] += usize::from(found.solve.flag.code() as f64 != solve[0]);
        norms.push(relative(found.squared_gradient_norm, squared[i]));
        norms.push(relative(found.spectral_norm, spectral[i]));
        norms.push(relative(found.frobenius_norm, frobenius[i]));
        different[1] += usize::from(found.indices[0] != fine[i] || found.indices[1] != coarse[i]);
    }
    table.count("flag at published failures", residuals.len(), different[0]);
    table.count("index at published failures", residuals.len(), different[1]);
    table.add("relative residual at published failures", 1e-6, residuals);
    table.add("gradient and Hessian norms at published failures (relative)", 1e-9, norms);
    Ok(())
}

/// Evaluates the published searches' ends, and runs some of the searches again.
fn searches(file: &Npz, table: &mut Comparisons) -> anyhow::Result<()> {
    let x = file.get("X")?;
    let network = autoencoder(&x)?;
    let analytic = LinearAutoencoder::from_inputs(&x.transposed(), 16, 4)?;
    let (starts, ends) = (file.get("theta0")?, file.get("final_theta")?);
    let (losses, squares) = (file.get("losses")?, file.get("sgn")?);
    let (final_losses, success) = (file.get("final_loss")?.data, file.get("success")?.data);
    let count = file.get("analytic_index_count")?.data;
    let (mut loss_errors, mut squared_errors, mut wrong) = (Vec::new(), Vec::new(), 0);
    for i in 0..starts.shape[0] {
        let (start, end) = (network.evaluate(starts.row(i)), network.evaluate(ends.row(i)));
        loss_errors.push(relative(start.loss(), losses.row(i)[0]));
        loss_errors.push(relative(end.loss(), final_losses[i]));
        squared_errors.push(relative(start.squared_gradient_norm(), squares.row(i)[0]));
        if success[i] != 0.0 {
            let negative = hessian::negative_count(&hessian::spectrum(&*end)?, 1e-5);
            wrong += usize::from(negative as f64 != count[i]);
        }
    }
    table.add("loss at published starts and ends (relative)", 1e-12, loss_errors);
    table.add("squared gradient norm at published starts (relative)", 1e-12, squared_errors);
    table.count("index at published successes", success.iter().sum::<f64>() as usize, wrong);
    let options = NewtonMrOptions::default();
    let again: Vec<usize> = (0..starts.shape[0]).step_by(EVERY).collect();
    let ends = again
        .par_iter()
        .map(|i| newton_mr::search(&network, starts.row(*i), &options, &Control::default()))
        .collect::<Result<Vec<_>, _>>()?;
    let (mut errors, mut wrong) = (Vec::new(), 0);
    for outcome in &ends {
        let point = network.evaluate(&outcome.theta);
        if point.squared_gradient_norm() < 1e-10 {
            let nearest = analytic.match_components(&outcome.theta, 0.9)?.point;
            errors.push((point.loss() - nearest.loss).abs());
            let negative = hessian::negative_count(&hessian::spectrum(&*point)?, 1e-5);
            wrong += usize::from(negative != nearest.negative);
        }
    }
    let (runs, successes) = (ends.len() as f64, errors.len() as f64);
    // Four standard deviations of so many runs that succeed as often.
    let tolerance = 4.0 * (0.8f64 * 0.2 / runs).sqrt();
    let mut quantity = format!("Newton-MR from published starts: {successes} of {runs}");
    quantity += " succeed, published 80 %";
    table.add(&quantity, tolerance, [(successes / runs - 0.8).abs()]);
    table.count("index where those succeed", errors.len(), wrong);
    table.add("loss of the nearest analytic point where those succeed", 1e-6, errors);
    Ok(())
}

/// Takes the first step of damped Newton with the dampings of the published program, whose mistakes were mended.
fn damped(problem: &Npz, mended: &Npz, table: &mut Comparisons) -> anyhow::Result<()> {
    let network = autoencoder(&problem.get("X")?)?;
    let (starts, before, after) =
        (problem.get("theta0")?, problem.get("theta0_sgn")?.data, mended.get("sgn")?);
    let dampings = vec![0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6];
    let mut options = DampedNewtonOptions { dampings, ..DampedNewtonOptions::default() };
    (options.solver.iterations, options.search.iterations) = (Some(128), 1);
    let mut wrong = 0;
    for run in 0..after.shape[0] {
        // Every other start was taken.
        let start = starts.row(2 * run);
        let outcome = damped_newton::search(&network, start, &options, &Control::default())?;
        let stays = after.row(run)[1] == before[2 * run];
        wrong += usize::from(stays != (outcome.status == Status::NoDecrease));
    }
    table.count("whether damped Newton finds a step", after.shape[0], wrong);
    Ok(())
}
