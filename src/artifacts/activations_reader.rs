//! Activations read piece by piece, for layers that are larger than memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::activations::{Activations, FILE, LABELS, Named};
use super::tensor;
use crate::engine::failure::Failure;
use crate::engine::stage::{Artifact, Files, Source};
use crate::store::files;

/// Open activations: labels and the shapes of layers are read, the answers are not.
///
/// A field of type `Input<ActivationsReader>` takes what one of type `Input<Activations>` takes. Answers are read with
/// plain reads at offsets, so that a damaged disk is an error and not a signal.
#[derive(Debug)]
pub struct ActivationsReader {
    /// Number of stimuli.
    pub count: usize,
    /// The label of each stimulus; empty where there are none.
    pub labels: Vec<u32>,
    /// The layers, from the input on.
    pub layers: Vec<OpenLayer>,
    file: File,
    path: PathBuf,
}

/// A layer whose answers are in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenLayer {
    /// Its name, such as `layer2.1`.
    pub name: String,
    /// Units.
    pub features: usize,
    /// Where its first answer lies in the file, in bytes.
    start: u64,
}

impl Named for OpenLayer {
    fn name(&self) -> &str {
        &self.name
    }

    fn features(&self) -> usize {
        self.features
    }
}

impl ActivationsReader {
    /// Opens a file of activations and checks its header and length.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let (file, length) = (files::open(path)?, files::length(path)?);
        let name = || format!("`{}` holds no activations", path.display());
        let (metadata, first) = tensor::header(&file, length).with_context(name)?;
        let about = tensor::about(&metadata).with_context(name)?;
        let names = Activations::names(&about)?;
        let (shape, start) = place(&metadata, first, length, LABELS, Dtype::U32)?;
        let mut labels = vec![0u32; shape.iter().product()];
        file.read_exact_at(bytemuck::cast_slice_mut(&mut labels), start).with_context(name)?;
        let mut layers = Vec::with_capacity(names.len());
        let mut count = None;
        for name in names {
            let (shape, start) = place(&metadata, first, length, &name, Dtype::F32)?;
            let &[rows, features] = shape else {
                anyhow::bail!("layer `{name}` has {} dimensions, not 2", shape.len());
            };
            ensure!(*count.get_or_insert(rows) == rows, "layer `{name}` has other stimuli");
            layers.push(OpenLayer { name, features, start });
        }
        let count = count.unwrap_or(0);
        ensure!(
            labels.is_empty() || labels.len() == count,
            "{count} stimuli, {} labels",
            labels.len()
        );
        Ok(Self { count, labels, layers, file, path: path.to_owned() })
    }

    /// Reads some answers of a layer to one stimulus, from the unit `first` on.
    pub fn read(
        &self,
        layer: &OpenLayer,
        stimulus: usize,
        first: usize,
        out: &mut [f32],
    ) -> io::Result<()> {
        debug_assert!(
            stimulus < self.count && first + out.len() <= layer.features,
            "no such answer"
        );
        let place = (stimulus * layer.features + first) * size_of::<f32>();
        self.file.read_exact_at(bytemuck::cast_slice_mut(out), layer.start + place as u64)
    }

    /// The file that is read.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The shape of a tensor, and where it lies in a file of so many bytes whose values begin at `first`.
fn place<'a>(
    metadata: &'a Metadata,
    first: usize,
    length: u64,
    name: &str,
    dtype: Dtype,
) -> anyhow::Result<(&'a [usize], u64)> {
    let info: &TensorInfo =
        metadata.info(name).with_context(|| format!("there is no tensor `{name}`"))?;
    ensure!(info.dtype == dtype, "tensor `{name}` is {:?}, not {dtype:?}", info.dtype);
    let (start, end) = info.data_offsets;
    let end = (first + end) as u64;
    ensure!(
        end <= length,
        Failure::data(format!("tensor `{name}` ends at byte {end} of a file of {length}"))
            .hint("the file is cut short: make it again")
    );
    let bytes = info.shape.iter().try_fold(4usize, |all, n| all.checked_mul(*n));
    ensure!(bytes == Some(info.data_offsets.1 - start), "tensor `{name}` does not fill its place");
    Ok((&info.shape, (first + start) as u64))
}

impl Source for ActivationsReader {
    const ACCEPTS: &'static [&'static str] = &[Activations::TYPE];
    fn read(_kind: &str, files: &Files) -> anyhow::Result<Self> {
        Self::open(files.path(FILE)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::activations::Layer;

    fn saved() -> (tempfile::TempDir, PathBuf) {
        let layer = |name: &str, features: usize| {
            let values = (0..5 * features).map(|v| v as f32).collect();
            Layer { name: name.into(), features, values }
        };
        let layers = vec![layer("input", 7), layer("a", 3)];
        let folder = tempfile::tempdir().unwrap();
        let all = Activations { count: 5, labels: vec![4, 4, 1, 1, 1], layers };
        all.save(folder.path()).unwrap();
        let path = folder.path().join(FILE);
        (folder, path)
    }

    #[test]
    fn answers_are_those_that_were_saved() {
        let (_folder, path) = saved();
        let reader = ActivationsReader::open(&path).unwrap();
        assert_eq!((reader.count, reader.labels.as_slice()), (5, &[4, 4, 1, 1, 1][..]));
        let shapes: Vec<_> = reader.layers.iter().map(|l| (l.name.as_str(), l.features)).collect();
        assert_eq!(shapes, [("input", 7), ("a", 3)]);
        let mut out = [0.0; 2];
        reader.read(&reader.layers[1], 4, 1, &mut out).unwrap();
        assert_eq!(out, [13.0, 14.0]);
        reader.read(&reader.layers[0], 2, 5, &mut out).unwrap();
        assert_eq!(out, [19.0, 20.0]);
    }

    #[test]
    fn a_cut_file_is_refused() {
        let (_folder, path) = saved();
        let whole = files::read(&path).unwrap();
        for length in [0, 5, 20, whole.len() - 1] {
            files::write(&path, &whole[..length]).unwrap();
            assert!(ActivationsReader::open(&path).is_err(), "{length}");
        }
        let failure = Failure::from_error(ActivationsReader::open(&path).unwrap_err());
        assert!(failure.hint.is_some_and(|hint| hint.contains("cut short")), "{}", failure.message);
    }
}
