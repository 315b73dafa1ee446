//! By how much the numbers in two files differ.

use std::collections::BTreeMap;
use std::path::Path;

use polars::prelude::DataType;

use crate::artifacts::table::{self, Table};
use crate::artifacts::tensor::{Data, TensorFile};
use crate::engine::stage::{Artifact as _, Files};

/// Says in what two files of one name differ: by the largest difference of their numbers, where they hold numbers.
pub fn between(name: &str, a: &Path, b: &Path) -> String {
    let numbers = match Path::new(name).extension().and_then(|e| e.to_str()) {
        Some("safetensors") => tensors(a).zip(tensors(b)),
        Some("parquet") => columns(a).zip(columns(b)),
        _ => None,
    };
    match numbers.map(|(a, b)| largest(&a, &b)) {
        Some(Some((place, by, relative))) => {
            format!("numbers differ by up to {by:.3e} (relative {relative:.1e}, in `{place}`)")
        }
        Some(None) => "the numbers have other names or shapes".to_owned(),
        None => "the bytes differ".to_owned(),
    }
}

/// Numbers by name.
type Numbers = BTreeMap<String, Vec<f64>>;

/// Where the largest difference is, how large it is, and how large relative to the largest number there.
fn largest(a: &Numbers, b: &Numbers) -> Option<(String, f64, f64)> {
    let mut found = (String::new(), 0.0, 0.0);
    for (name, left) in a {
        let right = b.get(name).filter(|right| right.len() == left.len())?;
        let differences = left.iter().zip(right).map(|(x, y)| (x - y).abs());
        let by = differences.fold(0.0, f64::max);
        if by >= found.1 {
            let scale = left.iter().fold(f64::MIN_POSITIVE, |scale, x| scale.max(x.abs()));
            found = (name.clone(), by, by / scale);
        }
    }
    (a.len() == b.len()).then_some(found)
}

fn tensors(path: &Path) -> Option<Numbers> {
    let tensors = TensorFile::load(path).ok()?.tensors;
    let numbers = |data: Data| match data {
        Data::F32(data) => data.into_iter().map(f64::from).collect(),
        Data::F64(data) => data,
        Data::U32(data) => data.into_iter().map(f64::from).collect(),
        Data::I64(data) => data.into_iter().map(|n| n as f64).collect(),
    };
    Some(tensors.into_iter().map(|(name, tensor)| (name, numbers(tensor.data))).collect())
}

fn columns(path: &Path) -> Option<Numbers> {
    let files = Files(BTreeMap::from([(table::FILE.to_owned(), path.to_path_buf())]));
    let frame = Table::load(&files).ok()?.frame().ok()?;
    let mut numbers = Numbers::new();
    for column in frame.columns() {
        if column.dtype().is_primitive_numeric() {
            let cast = column.cast(&DataType::Float64).ok()?;
            let cells = cast.f64().ok()?.iter().map(|cell| cell.unwrap_or(f64::NAN)).collect();
            numbers.insert(column.name().to_string(), cells);
        }
    }
    Some(numbers)
}
