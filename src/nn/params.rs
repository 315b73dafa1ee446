//! Named parameters and buffers of a network.
//!
//! Names are torchvision's (`layer2.0.downsample.0.weight`), so that weights move between the two. Each weight is
//! drawn from a stream named by its path: initialization does not depend on the order of construction, and a
//! wider neighbor does not change it.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};

use super::error::NnError;
use crate::rng::Streams;

/// The distribution that a weight starts from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Normal of mean 0.
    Normal { deviation: f64 },
    /// Uniform on `[-bound, bound)`.
    Uniform { bound: f64 },
    /// Every element the same.
    Constant(f64),
}

/// The parameters (trained) and buffers (running statistics) of one network, by name.
#[derive(Debug)]
pub struct Parameters {
    streams: Streams,
    device: Device,
    dtype: DType,
    weights: BTreeMap<String, Var>,
    buffers: BTreeMap<String, Var>,
}

impl Parameters {
    /// Opens an empty store whose weights will be drawn from `streams`.
    pub fn new(streams: &Streams, device: &Device, dtype: DType) -> Self {
        let (weights, buffers) = (BTreeMap::new(), BTreeMap::new());
        Self { streams: streams.clone(), device: device.clone(), dtype, weights, buffers }
    }

    /// Adds a trained parameter, drawn from the stream `init/PATH`.
    pub fn weight(&mut self, path: &str, shape: &[usize], init: Init) -> Result<Var, NnError> {
        let mut stream = self.streams.stream(&format!("init/{path}"));
        let mut draw = || match init {
            Init::Normal { deviation } => deviation * stream.normal(),
            Init::Uniform { bound } => bound * (2.0 * stream.uniform() - 1.0),
            Init::Constant(value) => value,
        };
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| draw()).collect();
        self.check_unused(path)?;
        let var = self.variable(values, shape)?;
        self.weights.insert(path.to_owned(), var.clone());
        Ok(var)
    }

    /// Adds a buffer, which is saved with the weights but not trained.
    pub fn buffer(&mut self, path: &str, shape: &[usize], value: f64) -> Result<Var, NnError> {
        self.check_unused(path)?;
        let var = self.variable(vec![value; shape.iter().product()], shape)?;
        self.buffers.insert(path.to_owned(), var.clone());
        Ok(var)
    }

    /// Lists the trained parameters.
    pub fn weights(&self) -> &BTreeMap<String, Var> {
        &self.weights
    }

    /// Counts the trained numbers.
    pub fn count(&self) -> usize {
        self.weights.values().map(|var| var.elem_count()).sum()
    }

    /// Yields the device that holds the parameters.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Yields the type of the parameters' elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Copies parameters and buffers to `f32` tensors on the CPU.
    pub fn to_tensors(&self) -> Result<BTreeMap<String, Tensor>, NnError> {
        let copy = |(name, var): (&String, &Var)| {
            let tensor = var.as_detached_tensor().to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
            // A tensor of the same type and device would still share the variable's memory.
            Ok((name.clone(), tensor.copy()?))
        };
        self.weights.iter().chain(&self.buffers).map(copy).collect()
    }

    /// Overwrites parameters and buffers with tensors of the same names and shapes.
    ///
    /// Fails, changing nothing, if a name is missing, a name is unknown, or a shape differs.
    pub fn load(&self, tensors: &BTreeMap<String, Tensor>) -> Result<(), NnError> {
        let variables: BTreeMap<&String, &Var> = self.weights.iter().chain(&self.buffers).collect();
        for (name, var) in &variables {
            let tensor = tensors
                .get(*name)
                .ok_or_else(|| NnError::MissingTensor { name: (*name).clone() })?;
            if tensor.dims() != var.dims() {
                let (expected, found) = (var.dims().to_vec(), tensor.dims().to_vec());
                return Err(NnError::WrongShape { name: (*name).clone(), expected, found });
            }
        }
        if let Some(name) = tensors.keys().find(|name| !variables.contains_key(name)) {
            return Err(NnError::UnexpectedTensor { name: name.clone() });
        }
        for (name, var) in variables {
            var.set(&tensors[name].to_dtype(self.dtype)?.to_device(&self.device)?.contiguous()?)?;
        }
        Ok(())
    }

    fn check_unused(&self, path: &str) -> Result<(), NnError> {
        if self.weights.contains_key(path) || self.buffers.contains_key(path) {
            return Err(NnError::DuplicateParameter { name: path.to_owned() });
        }
        Ok(())
    }

    fn variable(&self, values: Vec<f64>, shape: &[usize]) -> Result<Var, NnError> {
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(self.dtype)?;
        Ok(Var::from_tensor(&tensor.to_device(&self.device)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(order: &[&str]) -> Parameters {
        let mut store = Parameters::new(&Streams::new(1, "test"), &Device::Cpu, DType::F32);
        for name in order {
            store.weight(name, &[2, 3], Init::Normal { deviation: 0.1 }).unwrap();
        }
        store.buffer("running", &[2], 1.0).unwrap();
        store
    }

    fn bits(tensor: &Tensor) -> Vec<u32> {
        let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
        values.iter().map(|v| v.to_bits()).collect()
    }

    #[test]
    fn a_weight_depends_on_its_path_and_not_on_the_order() {
        let (one, other) = (store(&["a", "b"]), store(&["b", "a"]));
        for name in ["a", "b"] {
            assert_eq!(bits(&one.weights()[name]), bits(&other.weights()[name]));
        }
        assert_ne!(bits(&one.weights()["a"]), bits(&one.weights()["b"]));
        assert_eq!(one.count(), 12);
    }

    #[test]
    fn tensors_go_out_and_come_back() {
        let (from, to) = (store(&["a", "b"]), store(&["a", "b"]));
        let mut tensors = from.to_tensors().unwrap();
        tensors.insert("a".into(), Tensor::ones((2, 3), DType::F32, &Device::Cpu).unwrap());
        to.load(&tensors).unwrap();
        assert_eq!(bits(&to.weights()["a"]), [1f32.to_bits(); 6]);
        // A saved tensor is a copy: later training does not reach it.
        let saved = to.to_tensors().unwrap();
        to.weights()["a"].set(&to.weights()["b"]).unwrap();
        assert_eq!(bits(&saved["a"]), [1f32.to_bits(); 6]);
    }

    #[test]
    fn wrong_tensors_are_refused_whole() {
        let tensors = store(&["a", "b"]).to_tensors().unwrap();
        let check = |edit: &dyn Fn(&mut BTreeMap<String, Tensor>), message: &str| {
            let (to, mut tensors) = (store(&["a", "b"]), tensors.clone());
            let before = bits(&to.weights()["a"]);
            tensors.insert("a".into(), Tensor::ones((2, 3), DType::F32, &Device::Cpu).unwrap());
            edit(&mut tensors);
            assert_eq!(to.load(&tensors).unwrap_err().to_string(), message);
            assert_eq!(bits(&to.weights()["a"]), before);
        };
        let wide = Tensor::ones((3, 3), DType::F32, &Device::Cpu).unwrap();
        check(
            &|t| drop(t.remove("running")),
            "tensor `running` is missing from the saved parameters",
        );
        check(
            &|t| drop(t.insert("b".into(), wide.clone())),
            "tensor `b` has shape [3, 3], the network needs [2, 3]",
        );
        check(
            &|t| drop(t.insert("fc.weight".into(), wide.clone())),
            "the saved parameters hold a tensor that the network lacks: `fc.weight`",
        );
    }

    #[test]
    fn a_name_is_used_once() {
        let error = store(&["a"]).buffer("a", &[1], 0.0).unwrap_err();
        assert_eq!(error.to_string(), "two parameters have the same name: `a`");
    }
}
