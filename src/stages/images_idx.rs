//! `images.idx`: labeled images in the IDX format of MNIST.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use flate2::read::GzDecoder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::artifacts::dataset::Dataset;
use crate::artifacts::images::Images;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::parameter::DataPath;
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, violations};
use crate::store::files;

/// Reads a data set in the format of MNIST and Fashion-MNIST.
///
/// The folder holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
/// `t10k-labels-idx1-ubyte`, each as it is or gzipped with `.gz`. Pixels from 0 to 255 become 0 to 1.
///
/// Source: none; the format is that of MNIST, which Fashion-MNIST took over.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImagesIdx {
    /// The folder.
    root: DataPath,
    /// At most this many images to train on, from the first; all where absent.
    #[serde(default)]
    train: Option<usize>,
    /// At most this many images to test with, from the first; all where absent.
    #[serde(default)]
    test: Option<usize>,
}

impl Stage for ImagesIdx {
    const KIND: &'static str = "images.idx";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Bit;
    const EXAMPLE: &'static str = r#"
        [stages.photos]
        kind = "images.idx"
        root = "data/fashion-mnist"
    "#;

    fn check(&self) -> Vec<Violation> {
        violations([
            ("train", self.train.is_none_or(|n| n > 0), "must be at least 1"),
            ("test", self.test.is_none_or(|n| n > 0), "must be at least 1"),
        ])
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Dataset::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let root = self.root.path();
        let train = part(root, "train", self.train)?;
        cx.progress(0.8, || "read the training images".into());
        let test = part(root, "t10k", self.test)?;
        cx.metric("train", train.count as f64)?;
        cx.metric("test", test.count as f64)?;
        cx.save(&Dataset { train, test })
    }
}

fn part(root: &Path, name: &str, limit: Option<usize>) -> anyhow::Result<Images> {
    let (shape, bytes) = idx(root, &format!("{name}-images-idx3-ubyte"), 3)?;
    let (_, labels) = idx(root, &format!("{name}-labels-idx1-ubyte"), 1)?;
    let [count, height, width] = shape[..] else { unreachable!("three dimensions were asked for") };
    anyhow::ensure!(
        labels.len() == count,
        Failure::data(format!("`{name}` has {count} images and {} labels", labels.len()))
            .hint("do both files belong together?")
    );
    let kept = limit.unwrap_or(count).min(count);
    let pixels = bytes[..kept * height * width].iter().map(|b| f32::from(*b) / 255.0).collect();
    let labels = labels[..kept].iter().map(|b| u32::from(*b)).collect();
    Ok(Images { count: kept, channels: 1, height, width, pixels, labels })
}

/// Reads an IDX file of bytes: its dimensions, and the bytes.
fn idx(root: &Path, name: &str, dimensions: usize) -> anyhow::Result<(Vec<usize>, Vec<u8>)> {
    let (path, bytes) = open(root, name)?;
    let shown = || path.display().to_string();
    let wrong = |what: String| {
        Failure::data(format!("{}: {what}", path.display()))
            .hint("is the file whole? IDX is the format of MNIST: a header and bytes")
    };
    let header = 4 + 4 * dimensions;
    anyhow::ensure!(bytes.len() >= header, wrong("too short to be an IDX file".into()));
    // Two zero bytes, 8 for unsigned bytes, then the number of dimensions (http://yann.lecun.com/exdb/mnist).
    anyhow::ensure!(
        bytes[..3] == [0, 0, 8] && usize::from(bytes[3]) == dimensions,
        wrong(format!("not an IDX file of bytes in {dimensions} dimensions"))
    );
    let size = |i: usize| -> anyhow::Result<usize> {
        let at = 4 + 4 * i;
        let number = u32::from_be_bytes(bytes[at..at + 4].try_into().with_context(shown)?);
        Ok(number as usize)
    };
    let shape = (0..dimensions).map(size).collect::<anyhow::Result<Vec<_>>>()?;
    let expected = shape.iter().try_fold(1usize, |product, n| product.checked_mul(*n));
    let found = bytes.len() - header;
    anyhow::ensure!(
        expected == Some(found),
        wrong(format!("{found} bytes for the shape {shape:?}"))
    );
    Ok((shape, bytes[header..].to_vec()))
}

fn open(root: &Path, name: &str) -> anyhow::Result<(PathBuf, Vec<u8>)> {
    let (plain, zipped) = (root.join(name), root.join(format!("{name}.gz")));
    if plain.is_file() {
        let bytes = files::read(&plain)?;
        return Ok((plain, bytes));
    }
    anyhow::ensure!(
        zipped.is_file(),
        Failure::data(format!("there is neither {} nor {name}.gz beside it", plain.display()))
            .hint("Debian's package `dataset-fashion-mnist` puts such files into /usr/share/datasets/fashion-mnist")
    );
    let mut bytes = Vec::new();
    GzDecoder::new(files::read(&zipped)?.as_slice()).read_to_end(&mut bytes).map_err(|error| {
        Failure::data(format!("{} cannot be read: {error}", zipped.display()))
            .hint("the name ends in `.gz`: the file must be whole and gzipped")
    })?;
    Ok((zipped, bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::engine::failure::FailureKind;
    use crate::stages::shared::bench::Bench;

    fn file(dimensions: &[u32], body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, dimensions.len() as u8];
        bytes.extend(dimensions.iter().flat_map(|d| d.to_be_bytes()));
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn plain_and_gzipped_files_are_read_and_bad_ones_named() {
        let folder = tempfile::tempdir().unwrap();
        let put =
            |name: &str, bytes: &[u8]| files::write(&folder.path().join(name), bytes).unwrap();
        put("train-images-idx3-ubyte", &file(&[2, 1, 2], &[0, 255, 51, 102]));
        put("train-labels-idx1-ubyte", &file(&[2], &[7, 1]));
        let mut zipped = GzEncoder::new(Vec::new(), Compression::default());
        zipped.write_all(&file(&[1, 1, 2], &[255, 0])).unwrap();
        put("t10k-images-idx3-ubyte.gz", &zipped.finish().unwrap());
        put("t10k-labels-idx1-ubyte", &file(&[1], &[3]));
        let text = format!("root = '{}'", folder.path().display());
        let data: Dataset = Bench::new().run::<ImagesIdx>(&text).unwrap().main();
        assert_eq!(data.train.pixels, [0.0, 1.0, 0.2, 0.4]);
        assert_eq!((data.train.labels, data.test.labels), (vec![7, 1], vec![3]));
        put("t10k-labels-idx1-ubyte", &file(&[2], &[3]));
        let error = Bench::new().run::<ImagesIdx>(&text).unwrap_err().to_string();
        assert!(error.contains("1 bytes for the shape [2]"), "{error}");
        put("t10k-images-idx3-ubyte.gz", b"not gzipped");
        let failure = Failure::from_error(Bench::new().run::<ImagesIdx>(&text).unwrap_err());
        assert_eq!(failure.kind, FailureKind::Data);
        assert!(failure.message.contains("idx3-ubyte.gz cannot be read"), "{failure}");
    }
}
