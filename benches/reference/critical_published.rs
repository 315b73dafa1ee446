//! Critical points: what was published or measured of single points, spectra and the quartic.

use std::path::Path;

use anyhow::Context as _;
use wavecrest::landscape::activation::Activation;
use wavecrest::landscape::data::{Data, Targets};
use wavecrest::landscape::flatness::{self, FlatnessOptions};
use wavecrest::landscape::hessian;
use wavecrest::landscape::minres_qlp::SolverOptions;
use wavecrest::landscape::network::{Architecture, Network};
use wavecrest::landscape::newton_mr::{self, NewtonMrOptions};
use wavecrest::landscape::objective::{Objective as _, Quartic};
use wavecrest::landscape::search::{Control, SearchOptions};

use crate::npz::{Array, Npz};
use crate::table::{Comparisons, largest_difference, relative};

/// Squared gradient norms below which the direction of a gradient is rounding.
const DIRECTED: f64 = 1e-12;

/// Compares with the files of a folder.
pub(crate) fn compare(folder: &Path, table: &mut Comparisons) -> anyhow::Result<()> {
    let open = |name: &str| Npz::open(&folder.join(name)).with_context(|| name.to_owned());
    nonlinear(&open("03_paper_nonlinear_gauss.npz")?, table).context("03")?;
    spectra(&open("04_paper_spectra.npz")?, table).context("04")?;
    quartic(&open("05_toy_quartic.npz")?, table).context("05")?;
    for (name, sizes, l2) in [("nl384", NONLINEAR, 1.0), ("dlae128", &[16, 4, 16][..], 0.0)] {
        let problem = open(&format!("1x_{name}_problem.npz"))?;
        let network = autoencoder(&problem.get("X")?, sizes, l2)?;
        measures(&network, &problem, &open(&format!("1x_{name}_nmr.npz"))?, name, table)
            .context(name)?;
    }
    Ok(())
}

/// The published nonlinear autoencoder.
const NONLINEAR: &[usize] = &[16, 16, 4, 16];

/// An autoencoder of samples that are columns: linear with one hidden layer, Swish with more.
fn autoencoder(x: &Array, sizes: &[usize], l2: f64) -> anyhow::Result<Network> {
    let data = Data { samples: x.shape[1], inputs: x.transposed(), targets: Targets::Inputs };
    let activation = if sizes.len() > 3 { Activation::Swish } else { Activation::Linear };
    let architecture =
        Architecture { sizes: sizes.to_vec(), activation, l2, ..Architecture::default() };
    Ok(Network::new(architecture, data)?)
}

/// Evaluates the ends of the ten published searches on the nonlinear autoencoder.
fn nonlinear(file: &Npz, table: &mut Comparisons) -> anyhow::Result<()> {
    let network = autoencoder(&file.get("X")?, NONLINEAR, 1.0)?;
    let (ends, losses) = (file.get("final_theta")?, file.get("final_loss")?.data);
    let (squares, spectra) = (file.get("final_sgn")?.data, file.get("spectrum")?);
    let (fine, coarse) = (file.get("published_index")?.data, file.get("m_index_1e-3")?.data);
    let (mut errors, mut wrong) = ([const { Vec::new() }; 3], 0);
    for i in 0..ends.shape[0] {
        let point = network.evaluate(ends.row(i));
        let spectrum = hessian::spectrum(&*point)?;
        errors[0].push(relative(point.loss(), losses[i]));
        if squares[i] > DIRECTED {
            errors[1].push(relative(point.squared_gradient_norm(), squares[i]));
        }
        errors[2].push(largest_difference(&spectrum, spectra.row(i)));
        let indices = [hessian::index(&spectrum, 1e-5), hessian::index(&spectrum, 1e-3)];
        wrong += usize::from(indices != [fine[i], coarse[i]]);
    }
    let [of_losses, of_squares, of_spectra] = errors;
    table.add("loss at the ten published ends of the nonlinear net (relative)", 1e-12, of_losses);
    table.add("squared gradient norm there, above 1e-12 (relative)", 1e-8, of_squares);
    table.add("Hessian eigenvalues there", 1e-12, of_spectra);
    table.count("index there, at 1e-5 as published and at 1e-3", fine.len(), wrong);
    Ok(())
}

/// Counts eigenvalues in the published spectra of the three networks on images.
fn spectra(file: &Npz, table: &mut Comparisons) -> anyhow::Result<()> {
    // Least, median and largest index at the ends of 100 and 60 runs, with cut-offs of 1e-3 and 1e-5, to three digits.
    let published = [
        ("ae_final", 1e-3, [0.025, 0.167, 0.266]),
        ("ae_final", 1e-5, [0.152, 0.313, 0.440]),
        ("mlp_final", 1e-3, [0.020, 0.227, 0.312]),
        ("mlp_final", 1e-5, [0.080, 0.315, 0.450]),
    ];
    let mut errors = Vec::new();
    for (name, cutoff, expected) in published {
        let spectra = file.get(name)?;
        let rows = 0..spectra.shape[0];
        let mut found: Vec<f64> = rows.map(|i| hessian::index(spectra.row(i), cutoff)).collect();
        found.sort_by(f64::total_cmp);
        let middle = found.len() / 2;
        let median = f64::midpoint(found[middle - 1], found[middle]);
        let found = [found[0], median, found[found.len() - 1]];
        errors.extend(found.iter().zip(expected).map(|(found, expected)| (found - expected).abs()));
    }
    table.add("index over 160 published spectra: least, median, largest", 1e-3, errors);
    let count = |name: &str, is: &dyn Fn(f64) -> bool, least: usize| -> anyhow::Result<_> {
        let spectra = file.get(name)?;
        let of = |i: usize| spectra.row(i).iter().filter(|value| is(**value)).count();
        Ok((spectra.shape[0], (0..spectra.shape[0]).filter(|i| of(*i) < least).count()))
    };
    // Adding a number to all outputs changes no softmax: 8 weights and a bias, flat without a regularizer.
    let (spectra, wrong) = count("mlp_final", &|value| value.abs() < 1e-14, 9)?;
    table.count("nine zero eigenvalues of a softmax's shift", spectra, wrong);
    // The same with a regularizer of curvature 2 x 0.1 / 1160, for 4 weights.
    let curvature = 2.0 * 0.1 / 1160.0;
    let (spectra, wrong) = count("mem_final", &|value| (value - curvature).abs() < 1e-10, 4)?;
    table.count("four eigenvalues of the regularizer or more", spectra, wrong);
    let minima = file.get("mem_final")?;
    let lowest = |i: usize| minima.row(i).iter().copied().fold(f64::INFINITY, f64::min);
    let wrong = (0..minima.shape[0]).filter(|i| lowest(*i) > -1.7234e-4).count();
    table.count("a negative eigenvalue where minima were claimed", minima.shape[0], wrong);
    Ok(())
}

/// Searches the quartic from a grid of starts.
fn quartic(file: &Npz, table: &mut Comparisons) -> anyhow::Result<()> {
    let options = NewtonMrOptions {
        alpha: 1.0,
        beta: 0.9,
        rho: 0.1,
        pure_rho: Some(0.1),
        solver: SolverOptions {
            rtol: 1e-10,
            iterations: Some(2),
            norm_limit: 1e2,
            condition_limit: 1e15,
            ..SolverOptions::default()
        },
        search: SearchOptions { iterations: 15, tolerance: 0.0, ..SearchOptions::default() },
    };
    let (starts, squares) = (file.get("r0")?, file.get("sgn")?);
    let (points, critical) = (file.get("n_points")?.data, file.get("is_critical")?.data);
    let (mut errors, mut wrong) = (Vec::new(), 0);
    for i in 0..starts.shape[0] {
        let outcome = newton_mr::search(&Quartic, starts.row(i), &options, &Control::default())?;
        let (ours, theirs) = (&outcome.trace, &squares.row(i)[..points[i] as usize]);
        let pairs = ours.iter().zip(theirs);
        errors.push(
            pairs
                .map(|(ours, theirs)| {
                    (ours.squared_gradient_norm - theirs).abs() / theirs.max(1e-8)
                })
                .fold(0.0, f64::max),
        );
        let end = Quartic.evaluate(&outcome.theta).squared_gradient_norm();
        wrong += usize::from((end < 1e-6) != (critical[i] != 0.0));
    }
    errors.sort_by(f64::total_cmp);
    errors.truncate(90);
    table.add("searches of the quartic: every squared gradient norm, best 90", 1e-8, errors);
    table.count("searches of the quartic that end at its critical point", starts.shape[0], wrong);
    Ok(())
}

/// Measures the ends of the searches of the published program.
fn measures(
    network: &Network,
    problem: &Npz,
    runs: &Npz,
    name: &str,
    table: &mut Comparisons,
) -> anyhow::Result<()> {
    let (starts, losses) = (problem.get("theta0")?, problem.get("theta0_loss")?.data);
    let of_starts =
        (0..losses.len()).map(|i| relative(network.evaluate(starts.row(i)).loss(), losses[i]));
    table.add(&format!("{name}: loss at starts (relative)"), 1e-12, of_starts.collect::<Vec<_>>());
    let cutoffs = [1e-8, 1e-5, 1e-3];
    let options = FlatnessOptions {
        index_cutoffs: vec![1e-5, 1e-3],
        kernel_cutoffs: cutoffs.to_vec(),
        ..FlatnessOptions::default()
    };
    let (ends, spectra) = (runs.get("final_theta")?, runs.get("spectrum")?);
    let get = |what: &str| anyhow::Ok(runs.get(&format!("final_{what}"))?.data);
    let (squares, curvatures) = (get("sgn")?, get("Hg_rel_spec")?);
    let (fine, coarse) = (get("index_1e-5")?, get("index_1e-3")?);
    let kernels = [get("kerfrac_1e-08")?, get("kerfrac_1e-05")?, get("kerfrac_0.001")?];
    let (mut values, mut flat, mut wrong) = (Vec::new(), Vec::new(), 0);
    for i in 0..ends.shape[0] {
        let found = flatness::measure(&*network.evaluate(ends.row(i)), &options)?;
        values.push(largest_difference(&found.spectrum, spectra.row(i)) / found.spectral_norm);
        wrong += usize::from(found.indices != [fine[i], coarse[i]]);
        if let Some(gradient) = found.gradient.filter(|_| squares[i] > DIRECTED) {
            flat.push((gradient.relative_curvature - curvatures[i]).abs());
            let fractions = gradient.kernel_fractions.iter().zip(&kernels);
            flat.extend(fractions.map(|(found, expected)| (found - expected[i]).abs()));
        }
    }
    table.add(&format!("{name}: Hessian eigenvalues at ends (of the largest)"), 1e-12, values);
    table.add(&format!("{name}: kernel fractions and ||Hg|| at ends"), 1e-6, flat);
    table.count(&format!("{name}: index at ends"), ends.shape[0], wrong);
    Ok(())
}
