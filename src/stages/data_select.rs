//! `data.select`: some samples of many, or of a layer's answers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::problem::Samples;
use super::shared::samples::AnySamples;
use crate::artifacts::tensors::Tensors;
use crate::engine::context::Context;
use crate::engine::failure::Failure;
use crate::engine::parameter::{Input, Seed};
use crate::engine::stage::{Artifact, Determinism, Outputs, Stage, Violation, each, violations};
use crate::rng::Streams;

/// Chooses samples for a network: some classes, a number drawn at random, the labels as they are or permuted.
///
/// Memorization is studied on few samples whose labels say nothing of them (Zhang et al. 2017; 50 digits 0 and 1 in
/// Frye et al. 2021). Of activations, one layer becomes the samples, so that a network can be trained on what a
/// pre-trained encoder answers: a linear probe with `hidden = []`, or a small head. Without further parameters all
/// samples are kept. Yields tensors `inputs` (samples x features, F64) and, for labeled samples, `labels`. What is to be
/// projected onto principal components is chosen first: `data.pca` takes the result.
///
/// Source: Frye et al. 2021, Neural Computation 33; Zhang et al. 2017, ICLR.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSelect {
    /// The samples: tensors, images (of a dataset the training part), or activations.
    data: Input<AnySamples>,
    /// Of activations of several layers, the one that is taken.
    #[serde(default)]
    layer: Option<String>,
    /// The labels of the classes that are kept, in the order in which they are numbered from 0 on; all classes, as they
    /// are numbered, where absent.
    #[serde(default)]
    classes: Option<Vec<u32>>,
    /// How many samples are drawn of those, without replacement and in their order, at least 2; all where absent.
    #[serde(default)]
    #[schemars(range(min = 2))]
    samples: Option<usize>,
    /// Whether the labels are put into random order: as many of each class as before.
    #[serde(default)]
    permute_labels: bool,
    /// Seed of the draw and of the order.
    #[serde(default)]
    seed: Seed,
}

impl Stage for DataSelect {
    const KIND: &'static str = "data.select";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::Bit;
    const SMALL: bool = true;
    const EXAMPLE: &'static str = r#"
        [stages.chosen]
        kind = "data.select"
        data = "@digits"
    "#;

    fn check(&self) -> Vec<Violation> {
        let classes = self.classes.as_deref().unwrap_or_default();
        let mut broken = violations([
            ("classes", self.classes.is_none() || !classes.is_empty(), "must not be empty"),
            ("samples", self.samples.is_none_or(|n| n > 1), "must be at least 2"),
        ]);
        let places: Vec<usize> = (0..classes.len()).collect();
        let is_first = |i: &usize| !classes[..*i].contains(&classes[*i]);
        broken.extend(each("classes", &places, is_first, "must not name a class twice"));
        broken
    }

    fn outputs(&self) -> Outputs {
        Outputs::main(Tensors::TYPE)
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let samples = cx.load(&self.data)?.choose(self.layer.as_deref())?;
        let streams = self.seed.streams(Self::KIND);
        let mut kept = of_classes(samples, self.classes.as_deref())?;
        if let Some(count) = self.samples {
            kept = drawn(&kept, count, &streams)?;
        }
        if self.permute_labels {
            anyhow::ensure!(
                !kept.labels.is_empty(),
                Failure::data("these samples have no labels to permute")
                    .hint("leave `permute_labels` out, or take labeled samples")
            );
            streams.stream("labels").shuffle(&mut kept.labels);
        }
        cx.metric("samples", kept.count() as f64)?;
        cx.save(&Tensors(kept.to_file()))
    }
}

/// Keeps the samples of some classes and numbers these anew.
fn of_classes(samples: Samples, classes: Option<&[u32]>) -> anyhow::Result<Samples> {
    let Some(classes) = classes else { return Ok(samples) };
    anyhow::ensure!(
        !samples.labels.is_empty(),
        Failure::data("these samples have no labels, so there are no classes to choose")
            .hint("leave `classes` out, or take labeled samples")
    );
    if let Some(missing) = classes.iter().find(|class| !samples.labels.contains(class)) {
        anyhow::bail!(Failure::user(format!("no sample is of class {missing}")));
    }
    let place = |label: &u32| classes.iter().position(|class| class == label);
    let rows: Vec<usize> =
        (0..samples.count()).filter(|row| place(&samples.labels[*row]).is_some()).collect();
    let mut kept = at(&samples, &rows);
    for label in &mut kept.labels {
        *label = place(label).expect("only samples of these classes are kept") as u32;
    }
    Ok(kept)
}

/// Draws some samples, without replacement and in their order.
fn drawn(samples: &Samples, count: usize, streams: &Streams) -> anyhow::Result<Samples> {
    let all = samples.count();
    anyhow::ensure!(
        count <= all,
        Failure::user(format!("{count} samples are to be drawn, and there are {all}"))
            .hint("lower `samples`, or take more data")
    );
    let mut rows = streams.stream("samples").permutation(all);
    rows.truncate(count);
    rows.sort_unstable();
    Ok(at(samples, &rows))
}

/// The samples of some rows.
fn at(samples: &Samples, rows: &[usize]) -> Samples {
    let features = samples.features;
    let row = |row: &usize| samples.inputs[row * features..][..features].iter().copied();
    let labels = if samples.labels.is_empty() { &[][..] } else { rows };
    Samples {
        features,
        inputs: rows.iter().flat_map(row).collect(),
        labels: labels.iter().map(|row| samples.labels[*row]).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::activations::{Activations, Layer};
    use crate::artifacts::images::Images;
    use crate::artifacts::points::Points;
    use crate::artifacts::table::Table;
    use crate::artifacts::trajectory::Trajectory;
    use crate::stages::critical_classify::CriticalClassify;
    use crate::stages::critical_search::CriticalSearch;
    use crate::stages::critical_start::CriticalStart;
    use crate::stages::network_train::NetworkTrain;
    use crate::stages::shared::bench::Bench;

    /// 30 samples of two features, the first of which is their number, in classes 0, 1 and 2.
    fn bench() -> Bench {
        let inputs = (0..30).flat_map(|i| [f64::from(i), 0.5]).collect();
        let samples = Samples { features: 2, inputs, labels: (0..30).map(|i| i % 3).collect() };
        let unlabeled = Samples { labels: Vec::new(), ..samples.clone() };
        Bench::new()
            .put("data", &Tensors(samples.to_file()))
            .put("unlabeled", &Tensors(unlabeled.to_file()))
    }

    fn select(bench: &Bench, text: &str) -> (Vec<u32>, Vec<u32>) {
        let tensors: Tensors = bench.run::<DataSelect>(text).unwrap().main();
        let samples = Samples::of(tensors).unwrap();
        let numbers = samples.inputs.iter().step_by(samples.features);
        (numbers.map(|number| *number as u32).collect(), samples.labels)
    }

    #[test]
    fn classes_are_numbered_in_the_order_in_which_they_are_named() {
        let (numbers, labels) = select(&bench(), "data = '@data'\nclasses = [2, 0]");
        assert_eq!(numbers, (0..30).filter(|i| i % 3 != 1).collect::<Vec<u32>>());
        let expected: Vec<u32> = numbers.iter().map(|i| u32::from(i % 3 == 0)).collect();
        assert_eq!(labels, expected);
        assert_eq!(select(&bench(), "data = '@data'").0.len(), 30);
    }

    #[test]
    fn draws_are_without_replacement_and_labels_are_permuted() {
        let text = "data = '@data'\nsamples = 12\nseed = 4";
        let (numbers, labels) = select(&bench(), text);
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]) && numbers.len() == 12);
        assert!(labels.iter().zip(&numbers).all(|(label, number)| *label == number % 3));
        let (same, permuted) = select(&bench(), &format!("{text}\npermute_labels = true"));
        assert_eq!(same, numbers);
        let sorted = |labels: &[u32]| {
            let mut labels = labels.to_vec();
            labels.sort_unstable();
            labels
        };
        assert_ne!(permuted, labels);
        assert_eq!(sorted(&permuted), sorted(&labels));
        assert_ne!(select(&bench(), &text.replace('4', "5")).0, numbers);
    }

    #[test]
    fn images_and_layers_become_samples() {
        let images = Images {
            count: 2,
            channels: 1,
            height: 1,
            width: 3,
            pixels: vec![0.0, 0.25, 0.5, 1.0, 0.75, 0.5],
            labels: vec![7, 8],
        };
        let layer =
            |name: &str| Layer { name: name.to_owned(), features: 1, values: vec![3.0, 4.0] };
        let layers = vec![layer("stem"), layer("pooled")];
        let activations = Activations { count: 2, labels: vec![0, 1], layers };
        let bench = Bench::new().put("images", &images).put("features", &activations);
        let tensors: Tensors = bench.run::<DataSelect>("data = '@images'").unwrap().main();
        let samples = Samples::of(tensors).unwrap();
        assert_eq!((samples.features, samples.labels), (3, vec![7, 8]));
        assert_eq!(samples.inputs, [0.0, 0.25, 0.5, 1.0, 0.75, 0.5]);
        let text = "data = '@features'\nlayer = 'pooled'";
        assert_eq!(select(&bench, text), (vec![3, 4], vec![0, 1]));
    }

    #[test]
    fn the_loss_of_a_probe_on_a_layers_answers_has_one_critical_point() {
        // Answers of three units, their largest as a rule the label; convex with l2, so that all searches meet.
        let answer = |i: usize| ((i * i * 7 % 23) as f32) / 11.0 - 1.0;
        let values: Vec<f32> =
            (0..120).map(|i| answer(i) + if i % 3 == i / 3 % 3 { 1.0 } else { 0.0 }).collect();
        let layer = Layer { name: "pooled".to_owned(), features: 3, values };
        let labels = (0..40).map(|i| i % 3).collect();
        let features = Activations { count: 40, labels, layers: vec![layer] };
        let bench = Bench::new().put("features", &features);
        let chosen: Tensors = bench.run::<DataSelect>("data = '@features'").unwrap().main();
        let bench = bench.put("data", &chosen);
        let text = "data = '@data'\nhidden = []\nactivation = 'linear'\ntarget = 'labels'\nl2 = 0.1\n\
                    steps = 100\noptimizer = { adam = { rate = 0.02 } }";
        let path: Trajectory = bench.run::<NetworkTrain>(text).unwrap().main();
        assert_eq!(path.dimension, 3 * 3 + 3);
        let bench = bench.put("path", &path);
        let text = "trajectory = '@path'\ncount = 5\nuniform_in = 'steps'";
        let points: Points = bench.run::<CriticalStart>(text).unwrap().main();
        let bench = bench.put("points", &points);
        let text = "points = '@points'\ndata = '@data'\niterations = 60";
        let ends: Points = bench.run::<CriticalSearch>(text).unwrap().main();
        let text = "points = '@ends'\ndata = '@data'\ncutoffs = [1e-8]";
        let found = bench.put("ends", &ends).run::<CriticalClassify>(text).unwrap();
        assert_eq!(found.metrics["critical"], 5.0);
        let frame = found.main::<Table>().frame().unwrap();
        let column = |name: &str| frame.column(name).unwrap().f64().unwrap().to_vec();
        assert_eq!(column("index"), [Some(0.0); 5]);
        let losses = column("loss");
        assert!(
            losses.iter().all(|l| (l.unwrap() - losses[0].unwrap()).abs() < 1e-14),
            "{losses:?}"
        );
        assert!(losses[0].unwrap() < path.losses[0]);
    }

    #[test]
    fn what_cannot_be_chosen_is_refused() {
        for (text, expected) in [
            ("data = '@data'\nclasses = [3]", "no sample is of class 3"),
            ("data = '@data'\nclasses = [1, 1]", "twice"),
            ("data = '@data'\nclasses = []", "not be empty"),
            ("data = '@data'\nclasses = [1]\nsamples = 11", "there are 10"),
            ("data = '@unlabeled'\nclasses = [1]", "no labels"),
            ("data = '@unlabeled'\npermute_labels = true", "no labels to permute"),
            ("data = '@data'\nlayer = 'stem'", "have no layers"),
        ] {
            let error = bench().run::<DataSelect>(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
