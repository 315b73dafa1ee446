//! Tensors in a `.safetensors` file, with at most one metadata entry.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail, ensure};
use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensors, View};
use serde_json::Value as Json;

use crate::store::files;

/// A dense tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Length of each dimension.
    pub shape: Vec<usize>,
    /// The numbers.
    pub data: Data,
}

/// The numbers of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 64-bit floats.
    F64(Vec<f64>),
    /// 32-bit whole numbers.
    U32(Vec<u32>),
    /// 64-bit whole numbers, `PyTorch`'s own.
    I64(Vec<i64>),
}

impl Tensor {
    /// A tensor of 32-bit floats.
    pub fn f32(shape: &[usize], data: Vec<f32>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len(), "the shape fits the data");
        Self { shape: shape.to_vec(), data: Data::F32(data) }
    }

    /// A tensor of 64-bit floats.
    pub fn f64(shape: &[usize], data: Vec<f64>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len(), "the shape fits the data");
        Self { shape: shape.to_vec(), data: Data::F64(data) }
    }

    /// A matrix of 64-bit floats, row by row.
    pub fn rows<const N: usize>(rows: impl IntoIterator<Item = [f64; N]>) -> Self {
        let data: Vec<f64> = rows.into_iter().flatten().collect();
        Self::f64(&[data.len() / N, N], data)
    }

    /// A vector of whole numbers.
    pub fn u32(data: Vec<u32>) -> Self {
        Self { shape: vec![data.len()], data: Data::U32(data) }
    }

    /// A tensor of 64-bit whole numbers.
    pub fn i64(shape: &[usize], data: Vec<i64>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len(), "the shape fits the data");
        Self { shape: shape.to_vec(), data: Data::I64(data) }
    }

    fn view(&self) -> TensorView<'_> {
        let (dtype, bytes) = match &self.data {
            Data::F32(data) => (Dtype::F32, bytemuck::cast_slice(data)),
            Data::F64(data) => (Dtype::F64, bytemuck::cast_slice(data)),
            Data::U32(data) => (Dtype::U32, bytemuck::cast_slice(data)),
            Data::I64(data) => (Dtype::I64, bytemuck::cast_slice(data)),
        };
        TensorView { shape: Cow::Borrowed(&self.shape), dtype, bytes }
    }
}

/// A tensor whose numbers stay where they are while they are written.
#[derive(Clone, Debug)]
pub struct TensorView<'a> {
    shape: Cow<'a, [usize]>,
    dtype: Dtype,
    bytes: &'a [u8],
}

impl<'a> TensorView<'a> {
    /// Sees 32-bit floats as a tensor.
    pub fn f32(shape: &[usize], data: &'a [f32]) -> Self {
        Self::of(shape, data, Dtype::F32)
    }

    /// Sees 64-bit floats as a tensor.
    pub fn f64(shape: &[usize], data: &'a [f64]) -> Self {
        Self::of(shape, data, Dtype::F64)
    }

    /// Sees whole numbers from 0 on as a tensor of one dimension.
    pub fn u32(data: &'a [u32]) -> Self {
        Self::of(&[data.len()], data, Dtype::U32)
    }

    fn of<T: bytemuck::NoUninit>(shape: &[usize], data: &'a [T], dtype: Dtype) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len(), "the shape fits the data");
        Self { shape: shape.to_vec().into(), dtype, bytes: bytemuck::cast_slice(data) }
    }
}

/// A tensor that is laid out: its bytes are noted in the order of the format, and stay where they are.
struct Laid<'a, 'b> {
    tensor: &'a TensorView<'a>,
    pieces: &'b RefCell<Vec<&'a [u8]>>,
}

impl View for Laid<'_, '_> {
    fn dtype(&self) -> Dtype {
        self.tensor.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.tensor.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        self.pieces.borrow_mut().push(self.tensor.bytes);
        Cow::Borrowed(&[])
    }
    fn data_len(&self) -> usize {
        self.tensor.bytes.len()
    }
}

/// A file of tensors that are written from where they are, without a copy of their numbers.
#[derive(Clone, Debug, Default)]
pub struct TensorViews<'a> {
    tensors: Vec<(String, TensorView<'a>)>,
    about: Json,
}

impl<'a> TensorViews<'a> {
    /// Begins a file with what there is to say about its tensors.
    pub fn about(about: Json) -> Self {
        Self { tensors: Vec::new(), about }
    }

    /// Adds a tensor.
    #[must_use]
    pub fn with(mut self, name: &str, tensor: TensorView<'a>) -> Self {
        self.tensors.push((name.to_owned(), tensor));
        self
    }

    /// Writes the file.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        #[expect(clippy::disallowed_types, reason = "the crate asks for it; it holds one entry")]
        let about = (!self.about.is_null())
            .then(|| std::collections::HashMap::from([(ABOUT.to_owned(), self.about.to_string())]));
        let pieces = RefCell::new(Vec::with_capacity(self.tensors.len()));
        let laid =
            self.tensors.iter().map(|(name, tensor)| (name, Laid { tensor, pieces: &pieces }));
        let header = safetensors::serialize(laid, about)?;
        let mut pieces = pieces.take();
        pieces.insert(0, &header);
        Ok(files::write_pieces(path, &pieces)?)
    }
}

/// Tensors by name, and what else there is to say about them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorFile {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Plain data beside them; `null` where there is none.
    pub about: Json,
}

/// The one metadata key: the format keeps no order among several.
const ABOUT: &str = "about";

/// What a header says beside its tensors; `null` where there is nothing.
pub(super) fn about(header: &Metadata) -> serde_json::Result<Json> {
    match header.metadata().as_ref().and_then(|entries| entries.get(ABOUT)) {
        Some(text) => serde_json::from_str(text),
        None => Ok(Json::Null),
    }
}

/// Bytes that say how long the header is.
const PREFIX: usize = 8;

/// Reads what stands before the values of a file of so many bytes, and at which byte they begin.
pub(super) fn header(file: &File, length: u64) -> anyhow::Result<(Metadata, usize)> {
    let mut prefix = [0; PREFIX];
    file.read_exact_at(&mut prefix, 0)?;
    let end = u64::from_le_bytes(prefix).checked_add(PREFIX as u64).filter(|end| *end <= length);
    let end = usize::try_from(end.context("its header is longer than the file")?)?;
    let mut header = vec![0; end - PREFIX];
    file.read_exact_at(&mut header, PREFIX as u64)?;
    Ok((serde_json::from_slice(&header)?, end))
}

impl TensorFile {
    /// Begins a file with what there is to say about its tensors.
    pub fn about(about: Json) -> Self {
        Self { tensors: BTreeMap::new(), about }
    }

    /// Adds a tensor.
    #[must_use]
    pub fn with(mut self, name: &str, tensor: Tensor) -> Self {
        self.tensors.insert(name.to_owned(), tensor);
        self
    }

    /// Writes the file.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let views = TensorViews::about(self.about.clone());
        let tensors = self.tensors.iter();
        tensors.fold(views, |views, (name, tensor)| views.with(name, tensor.view())).save(path)
    }

    /// Reads a file.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let bytes = files::read(path)?;
        let name = || path.display().to_string();
        let (_, header) = SafeTensors::read_metadata(&bytes).with_context(name)?;
        let about = about(&header).with_context(name)?;
        let views = SafeTensors::deserialize(&bytes).with_context(name)?;
        let mut tensors = BTreeMap::new();
        for (name, view) in views.tensors() {
            let bytes = view.data();
            let data = match view.dtype() {
                Dtype::F32 => Data::F32(bytemuck::pod_collect_to_vec(bytes)),
                Dtype::F64 => Data::F64(bytemuck::pod_collect_to_vec(bytes)),
                Dtype::U32 => Data::U32(bytemuck::pod_collect_to_vec(bytes)),
                Dtype::I64 => Data::I64(bytemuck::pod_collect_to_vec(bytes)),
                other => bail!("tensor `{name}` is {other:?}; F32, F64, U32 and I64 can be read"),
            };
            tensors.insert(name, Tensor { shape: view.shape().to_vec(), data });
        }
        Ok(Self { tensors, about })
    }

    fn take(&mut self, name: &str) -> anyhow::Result<Tensor> {
        self.tensors.remove(name).ok_or_else(|| anyhow!("there is no tensor `{name}`"))
    }

    /// Takes a tensor of 32-bit floats with as many dimensions as asked for.
    pub fn take_f32<const N: usize>(
        &mut self,
        name: &str,
    ) -> anyhow::Result<([usize; N], Vec<f32>)> {
        let tensor = self.take(name)?;
        let Data::F32(data) = tensor.data else { bail!("tensor `{name}` is not F32") };
        Ok((dimensions(name, &tensor.shape)?, data))
    }

    /// Takes a tensor of 64-bit floats with as many dimensions as asked for.
    pub fn take_f64<const N: usize>(
        &mut self,
        name: &str,
    ) -> anyhow::Result<([usize; N], Vec<f64>)> {
        let tensor = self.take(name)?;
        let Data::F64(data) = tensor.data else { bail!("tensor `{name}` is not F64") };
        Ok((dimensions(name, &tensor.shape)?, data))
    }

    /// Takes a matrix of 64-bit floats with as many columns as asked for, row by row.
    pub fn take_rows<const N: usize>(&mut self, name: &str) -> anyhow::Result<Vec<[f64; N]>> {
        let ([_, columns], data) = self.take_f64(name)?;
        ensure!(columns == N, "tensor `{name}` has {columns} columns, not {N}");
        Ok(data.as_chunks::<N>().0.to_vec())
    }

    /// Takes a vector of whole numbers.
    pub fn take_u32(&mut self, name: &str) -> anyhow::Result<Vec<u32>> {
        match self.take(name)?.data {
            Data::U32(data) => Ok(data),
            Data::F32(_) | Data::F64(_) | Data::I64(_) => bail!("tensor `{name}` is not U32"),
        }
    }
}

fn dimensions<const N: usize>(name: &str, shape: &[usize]) -> anyhow::Result<[usize; N]> {
    ensure!(shape.len() == N, "tensor `{name}` has {} dimensions, not {N}", shape.len());
    Ok(shape.try_into().expect("the length was checked"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_the_bytes_repeat() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        let file = TensorFile::about(json!({ "b": 1, "a": [0.5] }))
            .with("x", Tensor::f32(&[2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
            .with("y", Tensor::f64(&[1], vec![0.1]))
            .with("z", Tensor::u32(vec![7, 8]))
            .with("count", Tensor::i64(&[], vec![-3]))
            .with("rows", Tensor::rows([[0.5, f64::NAN], [f64::INFINITY, -0.0]]));
        file.save(&path).unwrap();
        let first = files::read(&path).unwrap();
        let mut back = TensorFile::load(&path).unwrap();
        let rows = back.clone().take_rows::<2>("rows").unwrap();
        let bits = |rows: &[[f64; 2]]| rows.as_flattened().iter().map(|v| v.to_bits()).collect();
        let expected: Vec<u64> = bits(&[[0.5, f64::NAN], [f64::INFINITY, -0.0]]);
        assert_eq!(expected, bits(&rows));
        assert!(back.clone().take_rows::<3>("rows").is_err());
        back.save(&path).unwrap();
        assert_eq!(files::read(&path).unwrap(), first);
        let turned = back.tensors.iter().rev();
        let views = TensorViews::about(back.about.clone());
        let views = turned.fold(views, |views, (name, tensor)| views.with(name, tensor.view()));
        views.save(&path).unwrap();
        assert_eq!(files::read(&path).unwrap(), first, "whatever order they are given in");
        assert_eq!(back.take_f32::<2>("x").unwrap().0, [2, 3]);
        assert!(back.take_f64::<2>("y").is_err() && back.take_u32("w").is_err());
    }
}
