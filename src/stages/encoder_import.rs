//! `encoder.import`: a network that was trained elsewhere.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::network::to_artifact;
use super::shared::training::failure;
use crate::artifacts::encoder::Encoder;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::parameter::DataPath;
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage};
use crate::nn::encoder::{Architecture, EncoderConfig, EncoderNetwork, Stem, StemInit};
use crate::rng::Streams;
use crate::store::files;

/// Reads a residual network from a file of weights with torchvision's names.
///
/// The file is a `state_dict` as `safetensors.torch.save_file` writes it. Its tensors tell the network: ResNet-9, 18, 34
/// or 50 by their names, the stem by the first convolution's kernel (7 is `imagenet`, 3 is `cifar`), width and channels by
/// its shape. A missing, unknown or wrongly shaped tensor is an error that lists all of them. The classifier (`fc`), a
/// projector (`projector`) and the counters of batches (`num_batches_tracked`) are left out, which the log says; floats of 16 and 64 bits become
/// floats of 32. `.pt` and `.pth` files are not read: they are pickles, which may run code.
///
/// The network sees images with values from 0 to 1, as every encoder here does: nothing is taken off them and nothing
/// divides them, as torchvision's transforms for its own weights do.
///
/// Source: He et al. 2016 (arXiv:1512.03385), in torchvision's variant: a bottleneck has its stride in the 3×3 convolution.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EncoderImport {
    /// The file, in the format safetensors.
    path: DataPath,
    /// What the names of the encoder's tensors begin with, such as `module.encoder_q.`; tensors whose names do not are left
    /// out. Where absent, `module.`, `model.`, `encoder.` and `backbone.` are taken off as long as all names begin with
    /// them.
    #[serde(default)]
    prefix: Option<String>,
}

impl Stage for EncoderImport {
    const KIND: &'static str = "encoder.import";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Bit;
    const EXAMPLE: &'static str = r#"
        [stages.imported]
        kind = "encoder.import"
        path = "data/resnet18.safetensors"
    "#;

    fn outputs(&self) -> Outputs {
        Outputs::main(Encoder::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let bytes = files::read(self.path.path())?;
        cx.progress(0.3, || "read".into());
        let (prefix, views) = self.encoder_of(open(self.path.written(), &bytes)?)?;
        let config = config_of(self.path.written(), &prefix, &views)?;
        // Every weight drawn here is overwritten below.
        let network = blank(config)?;
        check_tensors(self.path.written(), &network, &views)?;
        let tensors = views.iter().map(|(name, view)| Ok((name.clone(), converted(name, view)?)));
        let tensors = tensors.collect::<anyhow::Result<BTreeMap<_, _>>>()?;
        network.network.parameters.load(&tensors).map_err(failure)?;
        let told = serde_json::to_string(&config)?;
        tracing::info!("the network that the tensors tell: {told}");
        cx.metric("parameters", network.network.parameters.count() as f64)?;
        cx.save(&to_artifact(&network)?)
    }
}

/// Tensors in a file, by their names.
type Views<'a> = BTreeMap<String, TensorView<'a>>;

fn open<'a>(file: &str, bytes: &'a [u8]) -> anyhow::Result<Views<'a>> {
    let error = match SafeTensors::deserialize(bytes) {
        Ok(tensors) => return Ok(tensors.tensors().into_iter().collect()),
        Err(error) => error,
    };
    // The content tells the format, not the name: zip archives since PyTorch 1.6, bare pickles before.
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(&[0x80, 2]) {
        let message =
            format!("{file} is a pickle as `torch.save` writes it, which may run code when read");
        return Err(Failure::data(message).hint(conversion(file)).into());
    }
    let hint = "the file must be whole and in the format safetensors";
    Err(Failure::data(format!("{file} cannot be read: {error}")).hint(hint).into())
}

/// The Python that makes a file of weights safe to read.
fn conversion(file: &str) -> String {
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    format!(
        "two lines of Python write its weights anew:\n    \
         state = torch.load({file:?}, map_location=\"cpu\", weights_only=True)\n    \
         safetensors.torch.save_file({{k: v.contiguous() for k, v in state.get(\"state_dict\", state).items()}}, \
         \"{stem}.safetensors\")"
    )
}

/// What training in parallel and models around an encoder put before its names.
const WRAPPERS: [&str; 4] = ["module.", "model.", "encoder.", "backbone."];

impl EncoderImport {
    /// Chooses the encoder's tensors, and takes off what stands before their names.
    fn encoder_of<'a>(&self, views: Views<'a>) -> anyhow::Result<(String, Views<'a>)> {
        let prefix = self.prefix.clone().unwrap_or_else(|| shared(&views));
        let (mut kept, mut left) = (Views::new(), Vec::new());
        for (name, view) in views {
            match name.strip_prefix(&prefix) {
                Some(own) if !is_beside(own) => drop(kept.insert(own.to_owned(), view)),
                _ => left.push(name),
            }
        }
        if kept.is_empty() {
            let message = format!(
                "{} holds no tensor of an encoder whose name begins with `{prefix}`",
                self.path.written()
            );
            let seen = left.iter().take(3).map(|name| format!("`{name}`")).collect::<Vec<_>>();
            let hint = format!(
                "its names are {} and so on; `prefix` says how they begin",
                seen.join(", ")
            );
            return Err(Failure::data(message).hint(hint).into());
        }
        if !prefix.is_empty() {
            tracing::info!("taken off every name: `{prefix}`");
        }
        if !left.is_empty() {
            tracing::info!("left out: {}", left.join(", "));
        }
        Ok((prefix, kept))
    }
}

/// Yields all that wrappers put before each of the names.
fn shared(views: &Views) -> String {
    let mut prefix = String::new();
    let begin = |with: &str| !views.is_empty() && views.keys().all(|name| name.starts_with(with));
    while let Some(longer) =
        WRAPPERS.iter().map(|wrapper| format!("{prefix}{wrapper}")).find(|longer| begin(longer))
    {
        prefix = longer;
    }
    prefix
}

/// Tells whether a tensor of torchvision's networks is none of an encoder's.
fn is_beside(name: &str) -> bool {
    let head = name.starts_with("fc.") || name.starts_with("projector.");
    head || name.ends_with("num_batches_tracked")
}

/// Reads the network's shape from its tensors: the architecture whose names are most alike.
fn config_of(file: &str, prefix: &str, views: &Views) -> anyhow::Result<EncoderConfig> {
    let stem = views.get("conv1.weight").map(TensorView::shape);
    let Some(&[width, channels, height, across]) = stem else {
        let found = stem.map_or("not there".into(), |shape| format!("of shape {shape:?}"));
        let message = format!("{file} holds no residual network: `conv1.weight` is {found}");
        return Err(Failure::data(message).hint(stem_hint(prefix, views)).into());
    };
    let stem = match (height, across) {
        (7, 7) => Stem::ImageNet,
        (3, 3) => Stem::Cifar,
        _ => {
            let message = format!("{file} has a first convolution of {height}×{across}");
            let hint = "a stem is 7×7 (`imagenet`) or 3×3 (`cifar`)";
            return Err(Failure::data(message).hint(hint).into());
        }
    };
    if !(1..=1024).contains(&width) || channels == 0 {
        let message = format!("{file} has a first convolution of {channels} channels to {width}");
        let hint = "a network has 1 to 1024 channels after its first convolution";
        return Err(Failure::data(message).hint(hint).into());
    }
    let of = |architecture| {
        let stem_init = StemInit::Kaiming;
        EncoderConfig { architecture, stem, width, channels, stem_init }
    };
    let mut nearest: Option<(usize, EncoderConfig)> = None;
    for architecture in Architecture::RESIDUAL {
        // Names do not depend on the width.
        let named = blank(EncoderConfig { width: 1, channels: 1, ..of(architecture) })?;
        let named = named.network.parameters.to_tensors()?;
        let both = named.keys().filter(|name| views.contains_key(*name)).count();
        let differ = named.len() + views.len() - 2 * both;
        if nearest.is_none_or(|(least, _)| differ < least) {
            nearest = Some((differ, of(architecture)));
        }
    }
    Ok(nearest.map_or_else(|| of(Architecture::default()), |(_, config)| config))
}

/// Says how the names might become torchvision's.
fn stem_hint(taken: &str, views: &Views) -> String {
    let wrapped = views.keys().find_map(|name| name.strip_suffix("conv1.weight"));
    match wrapped.filter(|prefix| !prefix.is_empty() && !prefix.contains("layer")) {
        Some(prefix) => format!(
            "there is `{taken}{prefix}conv1.weight`: say `prefix = \"{taken}{prefix}\"`"
        ),
        None => "names are those of torchvision's `resnet18`: `conv1.weight`, `layer1.0.bn1.bias`; `prefix` says what \
                 stands before them"
            .to_owned(),
    }
}

fn blank(config: EncoderConfig) -> anyhow::Result<EncoderNetwork> {
    EncoderNetwork::new(config, &Streams::new(0, "blank"), &Device::Cpu, DType::F32)
        .map_err(failure)
}

/// Fails, and lists every tensor that is not as the network needs it.
fn check_tensors(file: &str, network: &EncoderNetwork, views: &Views) -> anyhow::Result<()> {
    let expected = network.network.parameters.to_tensors()?;
    let mut wrong = Vec::new();
    for (name, tensor) in &expected {
        let shape = tensor.dims();
        match views.get(name) {
            None => wrong.push(format!("`{name}` is missing, expected {shape:?}")),
            Some(view) if view.shape() != shape => {
                wrong.push(format!("`{name}` has shape {:?}, expected {shape:?}", view.shape()));
            }
            Some(view) if float(view.dtype()).is_none() => {
                wrong.push(format!("`{name}` is of {:?}, expected floats", view.dtype()));
            }
            Some(_) => (),
        }
    }
    for (name, view) in views.iter().filter(|(name, _)| !expected.contains_key(*name)) {
        wrong.push(format!("`{name}` is unknown, of shape {:?}", view.shape()));
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let EncoderConfig { architecture, width, channels, .. } = network.config;
    let message = format!(
        "{file} is not the nearest network, a {architecture:?} of width {width} for images of {channels} channels:\n    {}",
        wrong.join("\n    ")
    );
    let hint = "names and shapes are those of torchvision's ResNet-18, 34 or 50, or of one with a single block a stage \
                (ResNet-9); ResNeXt and Wide ResNet are others; `prefix` chooses among several networks in one file";
    Err(Failure::data(message).hint(hint).into())
}

fn float(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        Dtype::F32 => Some(DType::F32),
        Dtype::F64 => Some(DType::F64),
        _ => None,
    }
}

/// Copies a tensor as 32-bit floats.
fn converted(name: &str, view: &TensorView) -> anyhow::Result<Tensor> {
    let dtype = float(view.dtype()).expect("what is not of floats was refused");
    let tensor = Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu)?;
    let tensor = tensor.to_dtype(DType::F32)?;
    let finite = tensor.flatten_all()?.to_vec1::<f32>()?.iter().all(|v| v.is_finite());
    anyhow::ensure!(
        finite,
        Failure::data(format!("a value of tensor `{name}` is not finite in 32 bits"))
            .hint("the training that left it failed: take an earlier checkpoint of it")
    );
    Ok(tensor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::tensor::{Data, Tensor as Plain};
    use crate::engine::failure::FailureKind;
    use crate::stages::encoder_random::EncoderRandom;
    use crate::stages::shared::bench::{Bench, Results};

    /// Tensors of a file by name: of which type, of which shape, and their bytes.
    type File = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

    fn encoder(parameters: &str) -> Encoder {
        Bench::new().run::<EncoderRandom>(parameters).unwrap().main()
    }

    fn floats(plain: &Plain) -> &[f32] {
        let Data::F32(values) = &plain.data else { panic!() };
        values
    }

    /// What torchvision would save of an encoder: the classifier and the counters among it.
    fn state_dict(encoder: &Encoder, prefix: &str) -> File {
        let mut file = File::new();
        let mut put = |name: &str, dtype, shape: &[usize], bytes: Vec<u8>| {
            file.insert(format!("{prefix}{name}"), (dtype, shape.to_vec(), bytes));
        };
        for (name, plain) in &encoder.file.tensors {
            let bytes = floats(plain).iter().flat_map(|v| v.to_le_bytes()).collect();
            put(name, Dtype::F32, &plain.shape, bytes);
            if let Some(norm) = name.strip_suffix("running_mean") {
                let counter = 7i64.to_le_bytes().to_vec();
                put(&format!("{norm}num_batches_tracked"), Dtype::I64, &[], counter);
            }
        }
        put("fc.weight", Dtype::F32, &[2, 3], vec![0; 24]);
        put("fc.bias", Dtype::F32, &[2], vec![0; 8]);
        file
    }

    fn written(file: &File) -> Vec<u8> {
        let mut views = Vec::new();
        for (name, (dtype, shape, bytes)) in file {
            views.push((name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
        }
        safetensors::serialize(views, None).unwrap()
    }

    fn import(bytes: &[u8], more: &str) -> anyhow::Result<Results> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.pth");
        files::write(&path, bytes).unwrap();
        Bench::new().run::<EncoderImport>(&format!("path = '{}'\n{more}", path.display()))
    }

    fn imported(file: &File, more: &str) -> Encoder {
        import(&written(file), more).unwrap().main()
    }

    fn failure_of(bytes: &[u8], more: &str) -> Failure {
        let failure = Failure::from_error(import(bytes, more).unwrap_err());
        assert_eq!(failure.kind, FailureKind::Data, "{failure}");
        failure
    }

    #[test]
    fn the_tensors_tell_the_network() {
        for architecture in ["resnet9", "resnet18", "resnet34", "resnet50"] {
            for (stem, channels) in [("imagenet", 3), ("cifar", 1)] {
                let text = format!(
                    "architecture = '{architecture}'\nstem = '{stem}'\nwidth = 2\nchannels = {channels}\n\
                     stem_init = 'kaiming'"
                );
                let encoder = encoder(&text);
                assert_eq!(imported(&state_dict(&encoder, ""), ""), encoder, "{text}");
            }
        }
    }

    #[test]
    fn what_stands_before_all_names_is_taken_off() {
        let encoder = encoder("width = 2\nstem_init = 'kaiming'");
        for prefix in ["module.", "module.encoder.", "model.backbone."] {
            assert_eq!(imported(&state_dict(&encoder, prefix), ""), encoder, "{prefix}");
        }
        // Of two networks in a file, one is asked for.
        let mut both = state_dict(&encoder, "module.encoder_q.");
        both.extend(state_dict(&encoder, "module.encoder_k."));
        both.insert("module.queue".into(), (Dtype::I64, vec![1], vec![0; 8]));
        assert_eq!(imported(&both, "prefix = 'module.encoder_q.'"), encoder);
        let failure = failure_of(&written(&both), "");
        assert!(failure.message.ends_with("`conv1.weight` is not there"), "{failure}");
        let hint = failure.hint.unwrap();
        assert!(hint.contains("say `prefix = \"module.encoder_k.\"`"), "{hint}");
        let failure = failure_of(&written(&both), "prefix = 'net.'");
        assert!(failure.message.ends_with("whose name begins with `net.`"), "{failure}");
    }

    #[test]
    fn floats_of_other_widths_become_single() {
        let mut file = state_dict(&encoder("width = 2"), "");
        // 0.5 in each format: sign, exponent, mantissa.
        for (name, dtype, half) in [
            ("bn1.weight", Dtype::F16, 0x3800u16.to_le_bytes().to_vec()),
            ("bn1.bias", Dtype::BF16, 0x3f00u16.to_le_bytes().to_vec()),
            ("bn1.running_mean", Dtype::F64, 0.5f64.to_le_bytes().to_vec()),
        ] {
            file.insert(name.into(), (dtype, vec![2], half.repeat(2)));
        }
        let read = imported(&file, "");
        for name in ["bn1.weight", "bn1.bias", "bn1.running_mean"] {
            assert_eq!(floats(&read.file.tensors[name]), [0.5, 0.5], "{name}");
        }
        file.insert("bn1.bias".into(), (Dtype::F64, vec![2], 1e300f64.to_le_bytes().repeat(2)));
        let failure = failure_of(&written(&file), "");
        assert_eq!(failure.message, "a value of tensor `bn1.bias` is not finite in 32 bits");
    }

    #[test]
    fn all_that_does_not_fit_is_listed() {
        let mut file = state_dict(&encoder("width = 2"), "");
        file.remove("layer2.0.bn1.bias").unwrap();
        file.remove("layer4.1.conv2.weight").unwrap();
        file.insert("layer1.0.bn1.weight".into(), (Dtype::F32, vec![3], vec![0; 12]));
        file.insert("layer1.0.bn1.bias".into(), (Dtype::U8, vec![2], vec![0; 2]));
        file.insert("head.weight".into(), (Dtype::F32, vec![1, 2], vec![0; 8]));
        let failure = failure_of(&written(&file), "");
        let (first, rest) = failure.message.split_once('\n').unwrap();
        let named = "is not the nearest network, a ResNet18 of width 2 for images of 3 channels:";
        assert!(first.ends_with(named), "{first}");
        let lines: Vec<&str> = rest.lines().map(str::trim).collect();
        let expected = [
            "`layer1.0.bn1.bias` is of U8, expected floats",
            "`layer1.0.bn1.weight` has shape [3], expected [2]",
            "`layer2.0.bn1.bias` is missing, expected [4]",
            "`layer4.1.conv2.weight` is missing, expected [16, 16, 3, 3]",
            "`head.weight` is unknown, of shape [1, 2]",
        ];
        assert_eq!(lines, expected);
        assert!(failure.hint.unwrap().contains("torchvision's ResNet-18, 34 or 50"));
        file.insert("conv1.weight".into(), (Dtype::F32, vec![2, 3, 5, 5], vec![0; 600]));
        let failure = failure_of(&written(&file), "");
        assert!(failure.message.ends_with("has a first convolution of 5×5"), "{failure}");
    }

    #[test]
    fn pickles_are_refused_with_what_to_do() {
        for bytes in [&b"PK\x03\x04\0\0\0\0\0\0"[..], &[0x80, 2, 0x8a, 0x0a, 0, 0, 0, 0, 0]] {
            let failure = failure_of(bytes, "");
            assert!(failure.message.contains("net.pth is a pickle"), "{failure}");
            let hint = failure.hint.unwrap();
            assert!(hint.contains("safetensors.torch.save_file"), "{hint}");
            assert!(hint.ends_with("net.safetensors\")"), "{hint}");
        }
        let failure = failure_of(b"no weights at all", "");
        assert!(failure.message.contains("net.pth cannot be read"), "{failure}");
    }
}
