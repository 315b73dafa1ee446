//! `encoder.export`: an encoder for other programs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::artifacts::encoder::Encoder;
use crate::artifacts::tensor::{Tensor, TensorFile};
use crate::artifacts::tensors::Tensors;
use crate::engine::context::Context;
use crate::engine::parameter::Input;
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage};

/// Writes an encoder as a whole `state_dict` of torchvision's, for PyTorch and other programs.
///
/// The result is one file, `tensors.safetensors`, of 32-bit floats under torchvision's names and in its layout. It also
/// holds a counter `num_batches_tracked` for each batch normalization, which PyTorch counts up and this program does
/// not: it is 0. So a network of the same shape takes all of it:
/// `model.fc = torch.nn.Identity(); model.load_state_dict(safetensors.torch.load_file(path))`; one that keeps its
/// classifier takes it with `strict=False`. `wavecrest export FILE STAGE FOLDER` copies the file out, and an `exec` stage
/// may read it. The result of any stage that makes an encoder is such a file too, `encoder.safetensors`, without the
/// counters and with the network's shape in its metadata.
///
/// Source: none; names and layout are torchvision's.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EncoderExport {
    /// The encoder.
    encoder: Input<Encoder>,
    /// What is put before each name, such as `backbone.`; nothing where absent.
    #[serde(default)]
    prefix: String,
}

impl Stage for EncoderExport {
    const KIND: &'static str = "encoder.export";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Bit;
    const EXAMPLE: &'static str = r#"
        [stages.exported]
        kind = "encoder.export"
        encoder = "@random"
    "#;

    fn outputs(&self) -> Outputs {
        Outputs::main(Tensors::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let encoder = cx.load(&self.encoder)?;
        let mut file = TensorFile::default();
        for (name, tensor) in encoder.file.tensors {
            if let Some(norm) = name.strip_suffix("running_mean") {
                let counter = format!("{}{norm}num_batches_tracked", self.prefix);
                file = file.with(&counter, Tensor::i64(&[], vec![0]));
            }
            file = file.with(&format!("{}{name}", self.prefix), tensor);
        }
        cx.metric("tensors", file.tensors.len() as f64)?;
        cx.save(&Tensors(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::encoder_import::EncoderImport;
    use crate::stages::encoder_random::EncoderRandom;
    use crate::stages::shared::bench::Bench;

    #[test]
    fn what_is_exported_is_whole_and_comes_back() {
        let encoder: Encoder =
            Bench::new().run::<EncoderRandom>("width = 2\nstem_init = 'kaiming'").unwrap().main();
        let bench = Bench::new().put("net", &encoder);
        let run = |more: &str| bench.run::<EncoderExport>(&format!("encoder = '@net'\n{more}"));
        let results = run("").unwrap();
        let Tensors(file) = results.main();
        // torchvision's resnet18 has 122 entries, of which two are the classifier's.
        assert_eq!((file.tensors.len(), results.metrics["tensors"]), (120, 120.0));
        assert_eq!(file.tensors["bn1.num_batches_tracked"], Tensor::i64(&[], vec![0]));
        assert_eq!(file.tensors["conv1.weight"], encoder.file.tensors["conv1.weight"]);
        let Tensors(file) = run("prefix = 'backbone.'").unwrap().main();
        let folder = tempfile::tempdir().unwrap();
        file.save(&folder.path().join("net.safetensors")).unwrap();
        let text = format!("path = '{}'", folder.path().join("net.safetensors").display());
        let back: Encoder = Bench::new().run::<EncoderImport>(&text).unwrap().main();
        assert_eq!(back, encoder);
    }
}
