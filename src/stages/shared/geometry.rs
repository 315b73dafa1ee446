//! What was measured of layers: as tables, and as a checkpoint of those that are done.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::STATE;
use crate::artifacts::activations::Named;
use crate::artifacts::table::Table;
use crate::artifacts::tensor::{Tensor, TensorFile};
use crate::engine::checkpoint::Checkpoint;
use crate::engine::stage::Files;
use crate::manifold::centers::RankTrial;
use crate::manifold::mftma::{LayerGeometry, MftmaError};
use crate::manifold::residual::{ManifoldError, ManifoldGeometry};

/// The numbers of a layer; NaN where there is none.
const LAYER: [&str; 15] = [
    "capacity",
    "capacity_se",
    "radius",
    "radius_se",
    "dimension",
    "dimension_se",
    "center_correlation",
    "residual_correlation",
    "removed",
    "max_k",
    "participation_ratio",
    "explained_variance_dimension",
    "manifolds",
    "measured",
    "draws",
];

/// The numbers of a manifold; NaN where there is none.
const MANIFOLD: [&str; 9] = [
    "capacity",
    "capacity_se",
    "radius",
    "dimension",
    "support",
    "interior_fraction",
    "center_norm",
    "points",
    "rank",
];

/// What a number of removed directions gave; NaN where there is no number.
const DIRECTIONS: [&str; 5] = ["residual", "stability", "cost", "min_cost", "max_cost"];

/// Layers that were measured, in the order in which they are.
#[derive(Clone, Debug)]
pub struct Measured(pub Vec<MeasuredLayer>);

/// What was measured of a layer.
#[derive(Clone, Debug)]
pub struct MeasuredLayer {
    /// Why it has no geometry.
    pub failed: Option<String>,
    numbers: [f64; LAYER.len()],
    /// Each manifold's numbers, and why it has none.
    manifolds: Vec<([f64; MANIFOLD.len()], Option<String>)>,
    /// For each number of directions that was tried: that number, and what it gave.
    directions: Vec<(usize, [f64; DIRECTIONS.len()])>,
}

impl MeasuredLayer {
    /// Takes the numbers of a layer.
    pub fn of(geometry: &Result<LayerGeometry, MftmaError>) -> Self {
        let g = match geometry {
            Ok(geometry) => geometry,
            Err(error) => {
                let (manifolds, directions) = (Vec::new(), Vec::new());
                let numbers = [f64::NAN; LAYER.len()];
                return Self { failed: Some(error.to_string()), numbers, manifolds, directions };
            }
        };
        let pooled = g.pooled.as_ref();
        let explained = pooled.and_then(|p| p.explained_variance).map(|count| count as f64);
        let numbers = [
            g.capacity.value,
            g.capacity.standard_error,
            g.radius.value,
            g.radius.standard_error,
            g.dimension.value,
            g.dimension.standard_error,
            g.centers.correlation,
            g.centers.chosen().residual,
            g.centers.k as f64,
            g.centers.max_k as f64,
            pooled.map_or(f64::NAN, |p| p.participation_ratio),
            explained.unwrap_or(f64::NAN),
            g.manifolds.len() as f64,
            g.measured as f64,
            g.draws as f64,
        ];
        let manifolds = g.manifolds.iter().map(manifold).collect();
        let directions = g.centers.trials.iter().map(|t| (t.k, direction(t))).collect();
        Self { failed: None, numbers, manifolds, directions }
    }
}

fn manifold(
    geometry: &Result<ManifoldGeometry, ManifoldError>,
) -> ([f64; MANIFOLD.len()], Option<String>) {
    let m = match geometry {
        Ok(geometry) => geometry,
        Err(error) => return ([f64::NAN; MANIFOLD.len()], Some(error.to_string())),
    };
    let numbers = [
        m.anchors.capacity.value,
        m.anchors.capacity.standard_error,
        m.anchors.radius.value,
        m.anchors.dimension.value,
        m.anchors.support_mean,
        m.anchors.interior_fraction,
        m.center_norm,
        m.points as f64,
        m.rank as f64,
    ];
    (numbers, None)
}

fn direction(trial: &RankTrial) -> [f64; DIRECTIONS.len()] {
    let cost = |of: fn(f64, f64) -> f64| trial.costs.iter().copied().reduce(of);
    let (min, max) = (cost(f64::min), cost(f64::max));
    let (min, max) = (min.unwrap_or(f64::NAN), max.unwrap_or(f64::NAN));
    [trial.residual, trial.stability, trial.cost, min, max]
}

impl Measured {
    /// Means over the layers that have a geometry.
    pub fn means(&self) -> [(&'static str, f64); 4] {
        ["capacity", "radius", "dimension", "removed"].map(|name| {
            let at = LAYER.iter().position(|known| *known == name).expect("a layer has it");
            let values = self.0.iter().filter(|l| l.failed.is_none()).map(|l| l.numbers[at]);
            (name, values.clone().sum::<f64>() / values.count() as f64)
        })
    }

    /// One row a layer; with the number of draws where that was chosen.
    pub fn by_layer(&self, layers: &[impl Named], chosen_draws: bool) -> Table {
        let column = |i: usize| self.0.iter().map(move |layer| layer.numbers[i]);
        let add = |table: Table, i: usize| table.floats(LAYER[i], column(i));
        let table = Table::new().texts("layer", layers.iter().map(|layer| layer.name().to_owned()));
        let table = (0..12).fold(table, add);
        let table = table.counts("features", layers.iter().map(Named::features));
        let table = (12..LAYER.len() - usize::from(!chosen_draws)).fold(table, add);
        table.maybe_texts("failed", self.0.iter().map(|layer| layer.failed.clone()))
    }

    /// One row a manifold of each layer, in the order of their labels.
    pub fn by_manifold(&self, layers: &[impl Named]) -> Table {
        let rows = || {
            let layers = self.0.iter().zip(layers);
            layers.flat_map(|(measured, layer)| {
                let rows = measured.manifolds.iter().enumerate();
                rows.map(move |(i, (numbers, failed))| {
                    (layer.name().to_owned(), i, numbers, failed)
                })
            })
        };
        let table = Table::new()
            .texts("layer", rows().map(|(layer, ..)| layer))
            .counts("manifold", rows().map(|(_, i, ..)| i));
        let add = |table: Table, (i, name): (usize, &&str)| {
            table.floats(name, rows().map(|(_, _, numbers, _)| numbers[i]))
        };
        let table = MANIFOLD.iter().enumerate().fold(table, add);
        table.maybe_texts("failed", rows().map(|(.., failed)| failed.clone()))
    }

    /// One row for each number of directions that was tried on a layer, none included.
    pub fn by_directions(&self, layers: &[impl Named]) -> Table {
        let rows = || {
            let layers = self.0.iter().zip(layers);
            layers.flat_map(|(measured, layer)| {
                let removed = measured.numbers[8];
                let rows = measured.directions.iter();
                rows.map(move |(k, numbers)| (layer.name(), *k, numbers, *k as f64 == removed))
            })
        };
        let table = Table::new()
            .texts("layer", rows().map(|(layer, ..)| layer))
            .counts("k", rows().map(|(_, k, ..)| k));
        let add = |table: Table, (i, name): (usize, &&str)| {
            table.floats(name, rows().map(|(_, _, numbers, _)| numbers[i]))
        };
        let table = DIRECTIONS.iter().enumerate().fold(table, add);
        table.flags("chosen", rows().map(|(.., chosen)| chosen))
    }
}

/// What a layer has beside its numbers.
#[derive(Serialize, Deserialize)]
struct Words {
    failed: Option<String>,
    /// Of each manifold, why it has no geometry.
    manifolds: Vec<Option<String>>,
    /// The numbers of directions that were tried.
    directions: Vec<usize>,
}

impl Checkpoint for Measured {
    const FORMAT: u32 = 2;

    fn place(&self) -> String {
        format!("layer {}", self.0.len() + 1)
    }

    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let words = |layer: &MeasuredLayer| Words {
            failed: layer.failed.clone(),
            manifolds: layer.manifolds.iter().map(|(_, failed)| failed.clone()).collect(),
            directions: layer.directions.iter().map(|(k, _)| *k).collect(),
        };
        let words: Vec<Words> = self.0.iter().map(words).collect();
        let layers = self.0.iter();
        TensorFile::about(serde_json::to_value(words)?)
            .with("layers", Tensor::rows(layers.clone().map(|layer| layer.numbers)))
            .with(
                "manifolds",
                Tensor::rows(layers.clone().flat_map(|l| l.manifolds.iter().map(|(n, _)| *n))),
            )
            .with(
                "directions",
                Tensor::rows(layers.flat_map(|l| l.directions.iter().map(|(_, n)| *n))),
            )
            .save(&folder.join(STATE))
    }

    fn load(files: &Files) -> anyhow::Result<Self> {
        let mut file = TensorFile::load(files.path(STATE)?)?;
        let words: Vec<Words> = serde_json::from_value(file.about.take())?;
        let layers = file.take_rows("layers")?;
        ensure!(layers.len() == words.len(), "the layers are not those that are named");
        let mut manifolds = file.take_rows("manifolds")?.into_iter();
        let mut directions = file.take_rows("directions")?.into_iter();
        let layer = |(words, numbers): (Words, _)| {
            let short = "there are fewer rows than are named";
            let own = words.manifolds.into_iter();
            let own = own.map(|failed| Ok((manifolds.next().context(short)?, failed)));
            let tried = words.directions.into_iter();
            let tried = tried.map(|k| Ok((k, directions.next().context(short)?)));
            Ok(MeasuredLayer {
                failed: words.failed,
                numbers,
                manifolds: own.collect::<anyhow::Result<_>>()?,
                directions: tried.collect::<anyhow::Result<_>>()?,
            })
        };
        Ok(Self(words.into_iter().zip(layers).map(layer).collect::<anyhow::Result<_>>()?))
    }
}
