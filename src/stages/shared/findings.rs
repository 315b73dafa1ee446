//! Numbers found of layers and of their parts: as tables, and as a checkpoint of the layers that are done.

use std::path::Path;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::{STATE, layers};
use crate::artifacts::activations::{Activations, Layer};
use crate::artifacts::table::Table;
use crate::artifacts::tensor::{Tensor, TensorFile};
use crate::engine::checkpoint::Checkpoint;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::stage::Files;
use crate::manifold::gram::Points;
use crate::manifold::watch::Watch;

/// The findings of a layer: `L` numbers of its own, and `R` of each of its parts.
#[derive(Clone, Debug)]
pub struct Finding<const L: usize, const R: usize> {
    /// The layer's numbers; NaN where there is none.
    pub numbers: [f64; L],
    /// Those of its parts.
    pub rows: Vec<[f64; R]>,
}

/// The findings of the layers that are done, in their order: numbers, or why there are none.
#[derive(Clone, Debug)]
pub struct Findings<const L: usize, const R: usize>(Vec<Result<Finding<L, R>, String>>);

impl<const L: usize, const R: usize> Findings<L, R> {
    /// Measures layer after layer, with a pause point before each.
    ///
    /// `measure` gives the finding of a layer's manifolds, or why there is none; `None` when the watch says stop. Fails
    /// where no layer has any.
    pub fn of(
        cx: &mut Context<'_>,
        activations: &Activations,
        measure: impl Fn(&[Points<'_>], &Watch<'_>) -> Option<Result<Finding<L, R>, String>>,
    ) -> anyhow::Result<Self> {
        let count = activations.layers.len() as f64;
        let mut found = cx.resume().unwrap_or_else(|| Self(Vec::new()));
        for (done, layer) in activations.layers.iter().enumerate().skip(found.0.len()) {
            cx.pause_point(|| Ok(&found))?;
            let (sink, cancel) = (cx.sink(), cx.cancel());
            let progress = |part: f64| sink((done as f64 + part) / count, layer.name.clone());
            let cancelled = || cancel.load(Ordering::Relaxed);
            let groups = layers::groups(layer, &activations.labels);
            let points: Vec<Points<'_>> =
                groups.iter().map(|values| Points { values, features: layer.features }).collect();
            match measure(&points, &Watch::new(&progress, &cancelled)) {
                Some(finding) => found.0.push(finding),
                None => {
                    cx.pause_point(|| Ok(&found))?;
                    anyhow::bail!(Failure::interrupted());
                }
            }
        }
        if let Some(Err(reason)) = found.0.first()
            && found.0.iter().all(Result::is_err)
        {
            let name = &activations.layers[0].name;
            let message = format!("no layer could be measured; of `{name}`: {reason}");
            anyhow::bail!(Failure::data(message));
        }
        Ok(found)
    }

    /// Returns the mean of a number over the layers that have it.
    pub fn mean(&self, number: usize) -> f64 {
        let all = self.0.iter().flatten().map(|finding| finding.numbers[number]);
        let values: Vec<f64> = all.filter(|value| value.is_finite()).collect();
        values.iter().sum::<f64>() / values.len() as f64
    }

    /// One row a layer, with a reason under `failed` where there are no numbers.
    pub fn by_layer(&self, layers: &[Layer], names: &[&str; L]) -> Table {
        let column = |i: usize| {
            self.0.iter().map(move |layer| layer.as_ref().map_or(f64::NAN, |f| f.numbers[i]))
        };
        let table = Table::new().texts("layer", layers.iter().map(|layer| layer.name.clone()));
        let table = (0..L).fold(table, |table, i| table.floats(names[i], column(i)));
        table.maybe_texts("failed", self.0.iter().map(|layer| layer.as_ref().err().cloned()))
    }

    /// One row for each part of each layer; `part` names what the rows are.
    pub fn by_row(&self, layers: &[Layer], part: &str, names: &[&str; R]) -> Table {
        let rows = || {
            let measured = self.0.iter().zip(layers);
            let measured =
                measured.filter_map(|(found, layer)| Some((found.as_ref().ok()?, layer)));
            measured.flat_map(|(found, layer)| {
                found.rows.iter().enumerate().map(move |(i, row)| (&layer.name, i, row))
            })
        };
        let table = Table::new()
            .texts("layer", rows().map(|(layer, ..)| layer))
            .counts(part, rows().map(|(_, i, _)| i));
        (0..R).fold(table, |table, i| table.floats(names[i], rows().map(move |(.., row)| row[i])))
    }
}

/// What is no number.
#[derive(Serialize, Deserialize)]
struct Words {
    failed: Option<String>,
    rows: usize,
}

impl<const L: usize, const R: usize> Checkpoint for Findings<L, R> {
    const FORMAT: u32 = 1;

    fn place(&self) -> String {
        format!("layer {}", self.0.len() + 1)
    }

    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let words = |layer: &Result<Finding<L, R>, String>| Words {
            failed: layer.as_ref().err().cloned(),
            rows: layer.as_ref().map_or(0, |finding| finding.rows.len()),
        };
        let words: Vec<Words> = self.0.iter().map(words).collect();
        let findings = self.0.iter().flatten();
        TensorFile::about(serde_json::to_value(words)?)
            .with("layers", Tensor::rows(findings.clone().map(|finding| finding.numbers)))
            .with("rows", Tensor::rows(findings.flat_map(|finding| finding.rows.iter().copied())))
            .save(&folder.join(STATE))
    }

    fn load(files: &Files) -> anyhow::Result<Self> {
        let mut file = TensorFile::load(files.path(STATE)?)?;
        let words: Vec<Words> = serde_json::from_value(file.about.take())?;
        let mut layers = file.take_rows("layers")?.into_iter();
        let mut rows = file.take_rows("rows")?.into_iter();
        let mut findings = Vec::new();
        for words in words {
            findings.push(match words.failed {
                Some(reason) => Err(reason),
                None => {
                    let numbers = layers.next().context("there are fewer layers than named")?;
                    let rows: Vec<_> = rows.by_ref().take(words.rows).collect();
                    ensure!(rows.len() == words.rows, "there are fewer rows than counted");
                    Ok(Finding { numbers, rows })
                }
            });
        }
        Ok(Self(findings))
    }
}
