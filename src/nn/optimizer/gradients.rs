//! Gradients by the names of their weights: gathered, added up, measured and clipped.

use std::collections::btree_map::Entry;

use candle_core::backprop::GradStore;
use candle_core::{Result, Var};

use super::super::host::squared_norm;
use super::super::tape::Gradients;

/// Takes the gradients of weights out of what candle's autograd gave; those without one are left out.
pub fn collect<'a>(
    store: &GradStore,
    weights: impl IntoIterator<Item = (&'a String, &'a Var)>,
) -> Gradients {
    let found = |(name, weight): (&String, &Var)| Some((name.clone(), store.get(weight)?.clone()));
    weights.into_iter().filter_map(found).collect()
}

/// Adds gradients to a sum of gradients, which shares no memory with them.
pub fn add(sum: &mut Gradients, more: &Gradients) -> Result<()> {
    for (name, gradient) in more {
        match sum.entry(name.clone()) {
            Entry::Vacant(entry) => drop(entry.insert(gradient.copy()?)),
            Entry::Occupied(mut entry) => {
                let total = (entry.get() + gradient)?;
                entry.insert(total);
            }
        }
    }
    Ok(())
}

/// Computes the Euclidean length of the gradient of all weights together.
pub fn gradient_norm(gradients: &Gradients) -> Result<f64> {
    let squares: Vec<f64> = gradients.values().map(squared_norm).collect::<Result<_>>()?;
    Ok(squares.iter().sum::<f64>().sqrt())
}

/// Yields what multiplies gradients of length `norm`, so that they are no longer than `most`; 1 without such a bound.
///
/// It is `PyTorch`'s min(1, most / (norm + 1e-6)).
pub fn clip_scale(norm: f64, most: Option<f64>) -> f64 {
    most.map_or(1.0, |most| (most / (norm + 1e-6)).min(1.0))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use candle_core::{Device, Tensor};

    use super::*;

    fn of(entries: &[(&str, &[f32])]) -> Gradients {
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        entries.iter().map(|(name, values)| ((*name).to_owned(), tensor(values))).collect()
    }

    #[test]
    fn the_norm_is_over_all_weights() {
        let gradients = of(&[("a", &[6.0]), ("b", &[4.0, 2.0])]);
        assert_eq!(gradient_norm(&gradients).unwrap(), 56f64.sqrt());
        assert_eq!(gradient_norm(&Gradients::new()).unwrap(), 0.0);
    }

    #[test]
    fn sums_are_by_name() {
        let mut sum = of(&[("a", &[1.0, 2.0])]);
        add(&mut sum, &of(&[("a", &[3.0, -2.0]), ("b", &[5.0])])).unwrap();
        let values = |name: &str| sum[name].to_vec1::<f32>().unwrap();
        assert_eq!((values("a"), values("b")), (vec![4.0, 0.0], vec![5.0]));
    }

    #[test]
    fn only_gradients_with_a_weight_are_gathered() {
        let weight = |value: f32| Var::new(&[value], &Device::Cpu).unwrap();
        let weights =
            BTreeMap::from([("a".to_owned(), weight(3.0)), ("b".to_owned(), weight(4.0))]);
        let store = weights["a"].sqr().unwrap().sum_all().unwrap().backward().unwrap();
        let gradients = collect(&store, &weights);
        assert_eq!(gradients.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(gradients["a"].to_vec1::<f32>().unwrap(), [6.0]);
    }

    #[test]
    fn long_gradients_are_clipped_and_short_ones_are_not() {
        assert_eq!(clip_scale(3.0, None), 1.0);
        assert_eq!(clip_scale(0.5, Some(1.0)), 1.0);
        assert_eq!(clip_scale(0.0, Some(1.0)), 1.0);
        assert_eq!(clip_scale(4.0, Some(1.0)), 1.0 / (4.0 + 1e-6));
    }
}
