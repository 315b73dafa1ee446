//! MINRES-QLP against dense pseudo-inverses, and the ways to stop that need a system of their own.

use faer::Mat;

use crate::{
    landscape::{
        hessian,
        minres_qlp::{Flag, Solution, SolverOptions, solve, solve_shifted},
        vector,
    },
    rng::{Stream, Streams},
};

/// No limits but of iterations.
const FREE: SolverOptions = SolverOptions {
    rtol: 0.0,
    iterations: None,
    norm_limit: f64::INFINITY,
    condition_limit: f64::INFINITY,
    reorthogonalize: false,
};

fn normal(n: usize, stream: &mut Stream) -> Vec<f64> {
    let mut values = vec![0.0; n];
    stream.fill_normal(&mut values);
    values
}

/// A symmetric matrix of given eigenvalues, with eigenvectors at random.
fn matrix(values: &[f64], stream: &mut Stream) -> Mat<f64> {
    let n = values.len();
    let gaussian = normal(n * n, stream);
    // The eigenvectors of a random symmetric matrix are orthonormal and uniform.
    let symmetric = Mat::from_fn(n, n, |i, j| gaussian[i * n + j] + gaussian[j * n + i]);
    let vectors = hessian::eigen(symmetric.as_ref()).unwrap().vectors;
    let product = Mat::from_fn(n, n, |i, j| {
        (0..n).map(|k| vectors[(i, k)] * values[k] * vectors[(j, k)]).sum::<f64>()
    });
    Mat::from_fn(n, n, |i, j| 0.5 * (product[(i, j)] + product[(j, i)]))
}

fn multiply(matrix: &Mat<f64>) -> impl FnMut(&[f64], &mut [f64]) + '_ {
    |v, out| {
        for (out, column) in out.iter_mut().zip(matrix.col_iter()) {
            // The matrix is symmetric: a column is a row.
            *out = column.iter().zip(v).map(|(a, v)| a * v).sum();
        }
    }
}

/// The pseudo-inverse times b, by the eigenvalues beyond a share of the largest.
fn pseudo_inverse(matrix: &Mat<f64>, b: &[f64], cutoff: f64) -> Vec<f64> {
    let eigen = hessian::eigen(matrix.as_ref()).unwrap();
    let largest = eigen.values.iter().fold(0.0, |largest: f64, v| largest.max(v.abs()));
    let mut x = vec![0.0; b.len()];
    for (value, column) in eigen.values.iter().zip(eigen.vectors.col_iter()) {
        if value.abs() > cutoff * largest {
            let u: Vec<f64> = column.iter().copied().collect();
            vector::add_scaled(vector::dot(&u, b) / value, &u, &mut x);
        }
    }
    x
}

fn error(found: &[f64], expected: &[f64]) -> f64 {
    vector::norm(&vector::moved(found, -1.0, expected)) / vector::norm(expected)
}

/// Eigenvalues evenly from `least` to 1 in absolute value on a logarithmic scale, of both signs; then zeros.
fn graded(regular: usize, zeros: usize, least: f64) -> Vec<f64> {
    let value = |i: usize| {
        let sign = if i.is_multiple_of(3) { -1.0 } else { 1.0 };
        sign * least.powf(i as f64 / (regular - 1) as f64)
    };
    (0..regular).map(value).chain((0..zeros).map(|_| 0.0)).collect()
}

#[test]
fn random_systems_have_the_solutions_of_the_pseudo_inverse() {
    for seed in 0..40 {
        let mut stream = Streams::new(seed, "test").stream("system");
        let n = 5 + stream.below(40) as usize;
        let zeros = if seed % 2 == 0 { 0 } else { 1 + stream.below(n as u64 / 2) as usize };
        let values: Vec<f64> = (0..n)
            .map(|i| {
                let sign = if seed % 4 < 2 || stream.uniform() < 0.5 { 1.0 } else { -1.0 };
                if i < zeros { 0.0 } else { sign * (0.1 + 2.0 * stream.uniform()) }
            })
            .collect();
        let a = matrix(&values, &mut stream);
        let mut b = normal(n, &mut stream);
        let compatible = zeros == 0 || seed % 8 < 4;
        if compatible {
            let x = b.clone();
            multiply(&a)(&x, &mut b);
        }
        let expected = pseudo_inverse(&a, &b, 1e-10);
        for reorthogonalize in [false, true] {
            let options = SolverOptions {
                rtol: 1e-13,
                iterations: Some(4 * n),
                norm_limit: 1e4,
                condition_limit: 1e15,
                reorthogonalize,
            };
            let Solution { x, report, .. } = solve(multiply(&a), &b, &options);
            let case = format!("{seed} {n} {zeros} {report:?}");
            // Of incompatible systems a pivot as small as 1 / acond is gone through on the way, and its rounding kept.
            let bound = 1e-10 + if compatible { 0.0 } else { 1e-15 * report.acond };
            assert!(error(&x, &expected) < bound, "{} {case}", error(&x, &expected));
            let ends: &[Flag] = if compatible {
                &[Flag::Solved, Flag::SolvedToRounding]
            } else {
                &[Flag::LeastSquares, Flag::LeastSquaresToRounding, Flag::NormLimit]
            };
            assert!(ends.contains(&report.flag), "{case}");
            assert!(!reorthogonalize || report.iterations <= n - zeros + 1, "{case}");
        }
    }
}

#[test]
fn reorthogonalized_it_solves_ill_conditioned_systems_in_as_many_steps_as_they_have_rows() {
    for seed in 0..4 {
        let mut stream = Streams::new(seed, "test").stream("ill-conditioned");
        let a = matrix(&graded(60, 12, 1e-6), &mut stream);
        let mut b = vec![0.0; 72];
        multiply(&a)(&normal(72, &mut stream), &mut b);
        let expected = pseudo_inverse(&a, &b, 1e-10);
        let at = |reorthogonalize| {
            let options = SolverOptions { rtol: 1e-15, reorthogonalize, ..FREE };
            let found = solve(multiply(&a), &b, &options);
            (error(&found.x, &expected), found.report)
        };
        let ((kept, report), (passing, other)) = (at(true), at(false));
        // The condition 1e6 times the rounding of products.
        assert!(kept < 1e-8, "{seed}: {kept} {report:?}");
        assert!(report.iterations <= 61, "{seed}: {report:?}");
        assert!(passing > 1e-3, "{seed}: {passing} {other:?}");
    }
}

#[test]
fn reorthogonalized_it_finds_least_squares_of_ill_conditioned_incompatible_systems() {
    for seed in 0..4 {
        let mut stream = Streams::new(seed, "test").stream("incompatible");
        let a = matrix(&graded(40, 10, 1e-4), &mut stream);
        let b = normal(50, &mut stream);
        let expected = pseudo_inverse(&a, &b, 1e-10);
        // Past the solution lies what a refused component would add: the limit is far above the solution's norm.
        let norm_limit = 1e3 * vector::norm(&expected);
        let at = |reorthogonalize| {
            let options = SolverOptions { norm_limit, reorthogonalize, ..FREE };
            let found = solve(multiply(&a), &b, &options);
            (error(&found.x, &expected), found.report)
        };
        let ((kept, report), (passing, other)) = (at(true), at(false));
        // The square of the condition 1e4 times the rounding of products.
        assert!(kept < 1e-8, "{seed}: {kept} {report:?}");
        assert!(report.iterations <= 41, "{seed}: {report:?}");
        assert!(passing > 1e-3, "{seed}: {passing} {other:?}");
    }
}

#[test]
fn shifted_systems_that_share_products_are_solved_as_if_alone() {
    let mut stream = Streams::new(8, "test").stream("shifted");
    // The last shift makes the matrix singular, and the system incompatible: where rounding decides when that shows,
    // it shows at different times.
    let values: Vec<f64> = (0..30).map(|i| 0.25 * f64::from(i - 10) + 0.1).collect();
    let a = matrix(&values, &mut stream);
    let b = normal(30, &mut stream);
    let all = [100.0, 1.0, 0.1, 0.25, 0.0, -0.1];
    for reorthogonalize in [false, true] {
        let shifts = if reorthogonalize { &all[..] } else { &all[..5] };
        let options = SolverOptions {
            rtol: 1e-11,
            iterations: Some(60),
            norm_limit: 1e5,
            reorthogonalize,
            ..FREE
        };
        let mut products = 0;
        let counted = |v: &[f64], out: &mut [f64]| {
            products += 1;
            multiply(&a)(v, out);
        };
        let together = solve_shifted(counted, &b, shifts, &options);
        let mut most = 0;
        for (shift, found) in shifts.iter().zip(together) {
            let n = b.len();
            let shifted = Mat::from_fn(n, n, |i, j| a[(i, j)] + if i == j { *shift } else { 0.0 });
            let alone = solve(multiply(&shifted), &b, &options);
            let expected = pseudo_inverse(&shifted, &b, 1e-10);
            most = most.max(alone.report.iterations);
            let flag = found.flag();
            let found = found.finish(multiply(&a), &b);
            assert_eq!(flag, found.report.flag);
            let case = format!("{shift} {:?} {:?}", found.report, alone.report);
            assert!(error(&found.x, &expected) < 1e-7, "{case}");
            assert!(error(&found.x, &alone.x) < 1e-7, "{case}");
            assert!((found.report.relres - alone.report.relres).abs() < 1e-10, "{case}");
            assert!((found.report.anorm / alone.report.anorm - 1.0).abs() < 1e-3, "{case}");
        }
        // The longest solve's, and one more where its last iteration is not counted.
        assert!(products <= most + 2, "{products} {most}");
    }
}

#[test]
fn a_solution_that_grows_without_limit_is_told_an_eigenvector() {
    // Tridiagonal, so that the Lanczos vectors from the first unit vector are the unit vectors. After two iterations x
    // is so long that its rounding is as large as b, and the residual still that of x = 0.
    let rows = [[0.0, 1e-3, 0.0], [1e-3, 8e7, 1.0], [0.0, 1.0, 0.0]];
    let found = solve(
        |v: &[f64], out: &mut [f64]| {
            for (out, row) in out.iter_mut().zip(&rows) {
                *out = vector::dot(row, v);
            }
        },
        &[1.0, 0.0, 0.0],
        &FREE,
    );
    assert_eq!((found.report.flag, found.report.flag.code()), (Flag::ConvergedToEigenvector, 5));
    assert_eq!(found.report.iterations, 2);
    assert!((found.report.xnorm / 8e7 - 1.0).abs() < 1e-6, "{:?}", found.report);
}

#[test]
fn without_a_single_iteration_there_is_no_solution() {
    let options = SolverOptions { iterations: Some(0), ..FREE };
    let stopped = solve_shifted(|_: &[f64], _: &mut [f64]| (), &[1.0], &[0.0, 1.0], &options);
    for one in &stopped {
        assert_eq!((one.flag(), one.x()), (Flag::IterationLimit, &[0.0][..]));
    }
    assert_eq!(stopped.len(), 2);
}
