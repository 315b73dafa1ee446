//! The state of pre-training as a checkpoint.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use candle_core::{Device, Tensor};
use serde_json::json;

use super::STATE;
use super::network::{to_candle, to_plain};
use crate::artifacts::tensor::{Tensor as Plain, TensorFile};
use crate::engine::checkpoint::Checkpoint;
use crate::engine::stage::Files;
use crate::nn::loss_scale::LossScale;
use crate::nn::simclr::EpochRow;
use crate::nn::simclr_state::{PretrainState, Reached};

impl Checkpoint for PretrainState {
    const FORMAT: u32 = 3;

    fn place(&self) -> String {
        format!("epoch {}, step {}", self.reached.rows.len() + 1, self.reached.steps + 1)
    }

    fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let Reached { rows, steps, sums, anchors, frames_seen } = &self.reached;
        let LossScale { factor, calm } = self.loss_scale;
        let row = |r: &EpochRow| {
            let held_out = r.held_out_loss.unwrap_or(f64::NAN);
            [r.train_loss, r.alignment, r.uniformity, r.gradient_norm, r.learning_rate, held_out]
        };
        let mut file = TensorFile::about(json!({ "steps": steps, "frames_seen": frames_seen }))
            .with("rows", Plain::rows(rows.iter().map(row)))
            .with("sums", Plain::rows([*sums]))
            .with("anchors", Plain::rows([[*anchors]]))
            .with("loss_scale", Plain::rows([[factor, calm as f64]]));
        for (part, tensors) in
            PARTS.into_iter().zip([&self.encoder, &self.projector, &self.optimizer])
        {
            for (name, tensor) in tensors {
                file.tensors.insert(format!("{part}/{name}"), to_plain(tensor)?);
            }
        }
        file.save(&folder.join(STATE))
    }

    fn load(files: &Files) -> anyhow::Result<Self> {
        let mut file = TensorFile::load(files.path(STATE)?)?;
        let number = |name: &str| {
            let number = file.about[name].as_u64().map(|number| number as usize);
            number.with_context(|| format!("`{name}` is missing"))
        };
        let (steps, frames_seen) = (number("steps")?, number("frames_seen")?);
        let row = |(i, row): (usize, [f64; 6])| {
            let [train_loss, alignment, uniformity, gradient_norm, learning_rate, held_out] = row;
            let held_out_loss = (!held_out.is_nan()).then_some(held_out);
            EpochRow {
                epoch: i + 1,
                train_loss,
                alignment,
                uniformity,
                gradient_norm,
                learning_rate,
                held_out_loss,
            }
        };
        let rows = file.take_rows("rows")?.into_iter().enumerate().map(row).collect();
        let sums = *file.take_rows("sums")?.first().context("`sums` is empty")?;
        let [anchors] = *file.take_rows("anchors")?.first().context("`anchors` is empty")?;
        let [factor, calm] =
            *file.take_rows("loss_scale")?.first().context("`loss_scale` is empty")?;
        let part = |part: &str| -> anyhow::Result<BTreeMap<String, Tensor>> {
            let prefix = format!("{part}/");
            let own = file.tensors.iter().filter_map(|(n, t)| Some((n.strip_prefix(&prefix)?, t)));
            own.map(|(name, plain)| Ok((name.to_owned(), to_candle(plain, &Device::Cpu)?)))
                .collect()
        };
        let [encoder, projector, optimizer] = PARTS;
        Ok(Self {
            encoder: part(encoder)?,
            projector: part(projector)?,
            optimizer: part(optimizer)?,
            loss_scale: LossScale { factor, calm: calm as u64 },
            reached: Reached { rows, steps, sums, anchors, frames_seen },
        })
    }
}

/// What a state's tensors belong to.
const PARTS: [&str; 3] = ["encoder", "projector", "optimizer"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back() {
        let row = EpochRow {
            epoch: 1,
            train_loss: 0.5,
            alignment: 0.25,
            uniformity: -1.5,
            gradient_norm: 3.0,
            learning_rate: 0.125,
            held_out_loss: None,
        };
        let rows = vec![row.clone(), EpochRow { epoch: 2, held_out_loss: Some(0.75), ..row }];
        let reached =
            Reached { rows, steps: 3, sums: [1.0, 2.0, 3.0, 4.0], anchors: 5.0, frames_seen: 6 };
        let weight = Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap();
        let state = PretrainState {
            reached,
            encoder: [("w".to_owned(), weight)].into(),
            projector: BTreeMap::new(),
            optimizer: BTreeMap::new(),
            loss_scale: LossScale { factor: 1024.0, calm: 1999 },
        };
        let folder = tempfile::tempdir().unwrap();
        state.save(folder.path()).unwrap();
        let files = Files([(STATE.to_owned(), folder.path().join(STATE))].into());
        let back = PretrainState::load(&files).unwrap();
        assert_eq!((&back.reached, back.loss_scale), (&state.reached, state.loss_scale));
        assert_eq!(back.encoder["w"].to_vec1::<f32>().unwrap(), [1.0, 2.0]);
        assert!(back.projector.is_empty() && back.optimizer.is_empty());
    }
}
