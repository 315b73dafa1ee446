//! Points measured so far, and the checkpoint of them.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::STATE;
use super::diagnosis::{Diagnosis, Spectrum};
use super::searches::{REPORT, cut, from_numbers, to_numbers};
use crate::artifacts::tensor::{Tensor, TensorFile};
use crate::engine::checkpoint::Checkpoint;
use crate::engine::stage::Files;
use crate::landscape::lanczos::{Ends, Ritz};

/// What was measured at the first points, or why nothing was.
///
/// The nearest analytic points are not part of a checkpoint: they follow from the points in no time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured(pub Vec<Result<Diagnosis, String>>);

impl Checkpoint for Measured {
    const FORMAT: u32 = 1;

    fn place(&self) -> String {
        format!("{} points measured", self.0.len())
    }

    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let mut numbers = Numbers::default();
        for diagnosis in self.0.iter().flatten() {
            numbers.diagnosis(diagnosis);
        }
        let reasons: Vec<Option<&str>> =
            self.0.iter().map(|measured| measured.as_ref().err().map(String::as_str)).collect();
        TensorFile::about(json!({ REASONS: reasons }))
            .with("numbers", Tensor::f64(&[numbers.0.len()], numbers.0))
            .save(&folder.join(STATE))
    }

    fn load(files: &Files) -> anyhow::Result<Self> {
        let mut file = TensorFile::load(files.path(STATE)?)?;
        let reasons: Vec<Option<String>> = serde_json::from_value(file.about[REASONS].clone())?;
        let ([_], numbers) = file.take_f64("numbers")?;
        let mut left = Left(&numbers);
        let measured = reasons.into_iter().map(|reason| match reason {
            None => Ok(Ok(left.diagnosis()?)),
            Some(reason) => Ok(Err(reason)),
        });
        let measured = measured.collect::<anyhow::Result<_>>()?;
        ensure!(left.0.is_empty(), "there are more numbers than measures");
        Ok(Self(measured))
    }
}

/// Why a point was not measured; null where it was.
const REASONS: &str = "reasons";

/// Measures as numbers, one after the other; lists, and what may be absent, begin with how many they hold.
#[derive(Default)]
struct Numbers(Vec<f64>);

impl Numbers {
    fn list(&mut self, values: &[f64]) {
        self.0.push(values.len() as f64);
        self.0.extend_from_slice(values);
    }

    fn diagnosis(&mut self, of: &Diagnosis) {
        self.0.extend([of.loss, of.squared_gradient_norm, of.spectral_norm]);
        self.0.extend(to_numbers(&of.solve));
        for maybe in [of.rayleigh, of.relative_curvature, of.beyond_gauss_newton] {
            self.list(maybe.as_slice());
        }
        self.list(of.frobenius.map(<[f64; 2]>::from).as_ref().map_or(&[], |pair| &pair[..]));
        self.0.push(f64::from(u8::from(of.kernel_fractions.is_some())));
        self.list(of.kernel_fractions.as_deref().unwrap_or_default());
        self.list(
            &of.density.iter().flat_map(|(place, value)| [*place, *value]).collect::<Vec<_>>(),
        );
        match &of.spectrum {
            Spectrum::Whole(values) => {
                self.0.push(0.0);
                self.list(values);
            }
            Spectrum::Ends(ends, of) => {
                self.0.extend([*of as f64, ends.rounding]);
                self.list(&ends.values);
                self.list(&ends.told.iter().flat_map(|r| [r.value, r.error]).collect::<Vec<_>>());
            }
        }
    }
}

/// What is left to be read.
struct Left<'a>(&'a [f64]);

impl<'a> Left<'a> {
    fn take(&mut self, count: usize) -> anyhow::Result<&'a [f64]> {
        cut(&mut self.0, count)
    }

    fn number(&mut self) -> anyhow::Result<f64> {
        Ok(self.take(1)?[0])
    }

    fn list(&mut self) -> anyhow::Result<&'a [f64]> {
        let count = self.number()?;
        self.take(count as usize)
    }

    fn pairs<T>(&mut self, of: impl Fn(f64, f64) -> T) -> anyhow::Result<Vec<T>> {
        Ok(self.list()?.as_chunks().0.iter().map(|[a, b]| of(*a, *b)).collect())
    }

    fn diagnosis(&mut self) -> anyhow::Result<Diagnosis> {
        let [loss, squared_gradient_norm, spectral_norm] =
            [self.number()?, self.number()?, self.number()?];
        let solve = from_numbers(self.take(REPORT)?.try_into().context("a report is cut short")?)?;
        let mut maybe = || Ok::<_, anyhow::Error>(self.list()?.first().copied());
        let (rayleigh, relative_curvature, beyond_gauss_newton) = (maybe()?, maybe()?, maybe()?);
        let frobenius = self.pairs(|a, b| (a, b))?.first().copied();
        let known = self.number()? > 0.0;
        let fractions = self.list()?;
        Ok(Diagnosis {
            loss,
            squared_gradient_norm,
            solve,
            frobenius,
            rayleigh,
            relative_curvature,
            kernel_fractions: known.then(|| fractions.to_vec()),
            spectral_norm,
            beyond_gauss_newton,
            density: self.pairs(|place, value| (place, value))?,
            spectrum: self.spectrum()?,
            nearest: None,
        })
    }

    fn spectrum(&mut self) -> anyhow::Result<Spectrum> {
        let of = self.number()?;
        if of == 0.0 {
            return Ok(Spectrum::Whole(self.list()?.to_vec()));
        }
        let (rounding, values) = (self.number()?, self.list()?.to_vec());
        let told = self.pairs(|value, error| Ritz { value, error })?;
        Ok(Spectrum::Ends(Ends { told, values, rounding }, of as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::landscape::minres_qlp::{Flag, Report};
    use crate::store::files;

    fn diagnosis(spectrum: Spectrum, known: bool) -> Diagnosis {
        let maybe = |value: f64| known.then_some(value);
        Diagnosis {
            loss: 1.0 / 3.0,
            squared_gradient_norm: 1e-300,
            solve: Report {
                flag: Flag::LeastSquares,
                iterations: 12,
                relres: 0.1,
                relares: -0.0,
                anorm: 3.5,
                acond: f64::INFINITY,
                xnorm: 2.0,
                axnorm: 7.0,
            },
            frobenius: known.then_some((0.25, 1e-9)),
            rayleigh: maybe(-2.5),
            relative_curvature: maybe(0.5),
            kernel_fractions: known.then(Vec::new),
            spectral_norm: 4.0,
            beyond_gauss_newton: maybe(0.125),
            spectrum,
            density: if known { vec![(0.0, 1.0), (0.5, 2.0)] } else { Vec::new() },
            nearest: None,
        }
    }

    #[test]
    fn measures_are_read_as_they_were_written() {
        let told = vec![Ritz { value: -1.0, error: 1e-9 }, Ritz { value: 4.0, error: 0.5 }];
        let ends = Ends { told, values: vec![-1.0, 0.5, 4.0], rounding: 1e-15 };
        let measured = Measured(vec![
            Ok(diagnosis(Spectrum::Whole(vec![-1.0, 0.0, 4.0]), true)),
            Err("its loss or gradient is not finite".to_owned()),
            Ok(diagnosis(Spectrum::Ends(ends, 1_000_000), false)),
            Ok(diagnosis(Spectrum::Whole(Vec::new()), false)),
        ]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(STATE);
        let files = Files([(STATE.to_owned(), path.clone())].into());
        for measured in [measured, Measured::default()] {
            measured.save(folder.path()).unwrap();
            assert_eq!(Measured::load(&files).unwrap(), measured);
        }
        // One number too few, and one too many.
        let mut numbers = Numbers::default();
        numbers.diagnosis(&diagnosis(Spectrum::Whole(vec![1.0]), true));
        for count in [numbers.0.len() - 1, numbers.0.len() + 1] {
            let mut numbers = numbers.0.clone();
            numbers.resize(count, 0.0);
            TensorFile::about(json!({ REASONS: [null] }))
                .with("numbers", Tensor::f64(&[count], numbers))
                .save(&path)
                .unwrap();
            assert!(Measured::load(&files).is_err(), "{count}");
        }
        files::remove(&path).unwrap();
        assert!(Measured::load(&files).is_err());
    }
}
