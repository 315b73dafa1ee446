//! What pre-training asks of the frames of a batch: the losses that an experiment may name.

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::contrastive::{BatchLoss, Origins, neighbor_contrast, neighbor_pairs, wave_contrast};
use super::error::NnError;
use super::layers::normalize_rows;
use super::mmcr::{Mmcr, mmcr};
use super::noncontrastive::{BarlowTwins, Vicreg, barlow_twins, vicreg};
use crate::omit::is_one;

/// What is asked of the frames of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// The frames before and after an anchor with all frames of other events; positives are not in the denominator.
    WaveContrast(WaveContrast),
    /// NT-Xent over pairs of neighboring frames: each with all other frames, its own event's among them.
    NtXent(Temperature),
    /// Barlow Twins over pairs of neighboring frames: no negatives, dimensions uncorrelated.
    BarlowTwins(BarlowTwins),
    /// `VICReg` over pairs of neighboring frames: no negatives, dimensions wide and uncorrelated.
    Vicreg(Vicreg),
    /// Maximum manifold capacity: no negatives, centroids of events wide apart and each event compact.
    Mmcr(Mmcr),
}

/// The parameters of the loss of Ligeralde et al. 2023.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WaveContrast {
    /// Divides the cosines in the loss; above 0. The paper names none; 0.5 is that of its code. Lower values weigh the
    /// most similar negatives more.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub temperature: f64,
    /// Frames on each side of an anchor that are its positives, at least 1: those at a distance of 1 to this in the
    /// same event. 1 where absent, as in the paper.
    #[serde(skip_serializing_if = "is_one")]
    #[schemars(range(min = 1), extend("default" = 1))]
    pub neighbors: usize,
}

impl Default for WaveContrast {
    /// The values in the code of Ligeralde et al. 2023.
    fn default() -> Self {
        Self { temperature: Temperature::default().temperature, neighbors: 1 }
    }
}

/// The one parameter of a contrastive loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Temperature {
    /// Divides the cosines in the loss; above 0. The paper names none; 0.5 is that of its code. Lower values weigh the
    /// most similar negatives more.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub temperature: f64,
}

impl Default for Temperature {
    /// The value in the code of Ligeralde et al. 2023.
    fn default() -> Self {
        Self { temperature: 0.5 }
    }
}

impl Default for Objective {
    /// The loss of Ligeralde et al. 2023.
    fn default() -> Self {
        Self::WaveContrast(WaveContrast::default())
    }
}

impl Objective {
    /// Every number that it has: its path, whether it is in its range, and that range.
    pub fn ranges(self) -> Vec<(&'static str, bool, &'static str)> {
        let weight = |name, value: f64| {
            (name, value >= 0.0 && value.is_finite(), "must be finite and at least 0")
        };
        let temperature = |name, value: f64| (name, value > 0.0, "must be above 0");
        match self {
            Self::WaveContrast(w) => vec![
                temperature("wave_contrast.temperature", w.temperature),
                ("wave_contrast.neighbors", w.neighbors >= 1, "must be at least 1"),
            ],
            Self::NtXent(t) => vec![temperature("nt_xent.temperature", t.temperature)],
            Self::BarlowTwins(w) => vec![weight("barlow_twins.redundancy", w.redundancy)],
            Self::Vicreg(w) => vec![
                weight("vicreg.invariance", w.invariance),
                weight("vicreg.variance", w.variance),
                weight("vicreg.covariance", w.covariance),
            ],
            Self::Mmcr(w) => vec![weight("mmcr.local_weight", w.local_weight)],
        }
    }

    /// Disjoint pairs of neighboring frames that a batch holds at least: losses over pairs contrast them with each
    /// other or take their means and variances.
    pub(super) fn pairs(self) -> usize {
        match self {
            Self::WaveContrast(_) | Self::Mmcr(_) => 1,
            Self::NtXent(_) | Self::BarlowTwins(_) | Self::Vicreg(_) => 2,
        }
    }

    /// The loss of a batch whose rows have these origins and became `y` in the projector; contrastive ones and MMCR look
    /// at their directions only.
    pub(super) fn loss(self, y: &Tensor, origins: Origins) -> Result<BatchLoss, NnError> {
        let paired = |f: &dyn Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>| {
            let (first, second) = neighbor_pairs(y, origins)?;
            Ok(BatchLoss { loss: f(&first, &second)?, anchors: first.dim(0)? })
        };
        match self {
            Self::WaveContrast(w) => {
                wave_contrast(&normalize_rows(y)?, origins, w.temperature, w.neighbors)
            }
            Self::NtXent(t) => neighbor_contrast(&normalize_rows(y)?, origins, t.temperature),
            Self::BarlowTwins(weights) => paired(&|a, b| barlow_twins(a, b, weights)),
            Self::Vicreg(weights) => paired(&|a, b| vicreg(a, b, weights)),
            Self::Mmcr(weights) => mmcr(&normalize_rows(y)?, origins.events, weights),
        }
    }
}
