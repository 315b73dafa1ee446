//! The table of comparisons.

use std::fmt;

/// Comparisons so far.
#[derive(Default)]
pub(crate) struct Comparisons(Vec<Comparison>);

/// One quantity, over all its cases.
struct Comparison {
    quantity: String,
    cases: usize,
    worst: f64,
    tolerance: f64,
}

impl Comparisons {
    /// Adds a quantity with the error of each case.
    pub(crate) fn add(
        &mut self,
        quantity: &str,
        tolerance: f64,
        errors: impl IntoIterator<Item = f64>,
    ) {
        let errors: Vec<f64> = errors.into_iter().collect();
        // NaN is the worst of all errors.
        let worst = errors.iter().fold(0.0, |worst: f64, error| {
            if error.is_nan() || worst.is_nan() { f64::NAN } else { worst.max(*error) }
        });
        let quantity = quantity.to_owned();
        self.0.push(Comparison { quantity, cases: errors.len(), worst, tolerance });
    }

    /// Adds a quantity that must be equal: how many of `cases` are not.
    pub(crate) fn count(&mut self, quantity: &str, cases: usize, different: usize) {
        let quantity = format!("{quantity}: cases that differ");
        self.0.push(Comparison { quantity, cases, worst: different as f64, tolerance: 0.0 });
    }

    /// Tells whether every error is within its tolerance, of at least one case each.
    pub(crate) fn pass(&self) -> bool {
        self.0.iter().all(Comparison::passes)
    }
}

impl Comparison {
    fn passes(&self) -> bool {
        self.cases > 0 && self.worst <= self.tolerance
    }
}

impl fmt::Display for Comparisons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| quantity | cases | worst error | tolerance | pass |")?;
        writeln!(f, "|---|---|---|---|---|")?;
        for row in &self.0 {
            let Comparison { quantity, cases, worst, tolerance } = row;
            let pass = if row.passes() { "yes" } else { "NO" };
            writeln!(f, "| {quantity} | {cases} | {worst:.1e} | {tolerance:.0e} | {pass} |")?;
        }
        Ok(())
    }
}

/// Returns the largest absolute difference of two lists of numbers.
pub(crate) fn largest_difference(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len(), "lists of one length are compared");
    let each = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs());
    each.fold(0.0, |largest, e| if e.is_nan() || e > largest { e } else { largest })
}

/// Returns the difference relative to the expected value, absolute where that is zero.
pub(crate) fn relative(found: f64, expected: f64) -> f64 {
    (found - expected).abs() / if expected == 0.0 { 1.0 } else { expected.abs() }
}
