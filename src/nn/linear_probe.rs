//! A linear classifier on fixed features: how much of a task a representation gives away.

use std::ops::ControlFlow;

use faer::Accum;
use rayon::prelude::*;

use super::error::NnError;
use super::features::Features;
use super::host::{Matrix, multiply};
use super::optimizer::adam::AdamConfig;
use crate::rng::Streams;

/// The parameters of a probe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProbeConfig {
    pub classes: usize,
    pub epochs: usize,
    /// Samples of a step.
    pub batch: usize,
    pub optimizer: AdamConfig,
    pub scaling: Scaling,
}

/// What is done to features beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaling {
    /// Nothing.
    None,
    /// Each feature is brought to mean 0 and variance 1 over the training set; a constant one to 0.
    Standardize,
}

/// Features and the class of each row, below the number of classes.
#[derive(Clone, Copy, Debug)]
pub struct Samples<'a> {
    pub features: &'a Features,
    pub labels: &'a [u32],
}

/// What an epoch came to.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeRow {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean cross-entropy, in nats, over the epoch's steps, each before its update.
    pub train_loss: f64,
    /// Share of right answers over the epoch's steps, each before its update.
    pub train_accuracy: f64,
    /// Share of right answers on the test set after the epoch.
    pub test_accuracy: f64,
}

/// A trained probe: logit c of features x is `weights[c]`·x + `biases[c]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    pub rows: Vec<ProbeRow>,
    /// classes×features, row-major; for features scaled as configured.
    pub weights: Vec<f32>,
    pub biases: Vec<f32>,
    /// Test accuracy after the last epoch.
    pub final_test_accuracy: f64,
    /// The best test accuracy of all epochs: selected on the test set, as in Ligeralde et al. (2023).
    pub best_test_accuracy: f64,
    /// The first epoch with that accuracy.
    pub best_epoch: usize,
}

/// How far the training of a probe has come: another goes on from there to the same bits.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeProgress {
    /// One row an epoch that is done.
    pub rows: Vec<ProbeRow>,
    /// Steps of Adam.
    pub steps: u64,
    pub weights: Vec<f32>,
    pub biases: Vec<f32>,
    /// Adam's running means of the gradient and its square, for weights then biases.
    pub first: Vec<f32>,
    pub second: Vec<f32>,
}

impl ProbeProgress {
    fn start(features: usize, config: &ProbeConfig, streams: &Streams) -> Self {
        let mut stream = streams.stream("init");
        let bound = 1.0 / (features as f64).sqrt();
        let mut draw = |n: usize| -> Vec<f32> {
            (0..n).map(|_| (bound * (2.0 * stream.uniform() - 1.0)) as f32).collect()
        };
        let classes = config.classes;
        let (weights, biases) = (draw(classes * features), draw(classes));
        let size = classes * (features + 1);
        let (first, second) = (vec![0.0; size], vec![0.0; size]);
        Self { rows: Vec::with_capacity(config.epochs), steps: 0, weights, biases, first, second }
    }

    fn check(&self, features: usize, config: &ProbeConfig) -> Result<(), NnError> {
        let size = config.classes * (features + 1);
        for (what, expected, found) in [
            ("the saved weights", size - config.classes, self.weights.len()),
            ("the saved biases", config.classes, self.biases.len()),
            ("the saved means", size, self.first.len()),
            ("the saved squares", size, self.second.len()),
        ] {
            if expected != found {
                return Err(NnError::WrongLength { what, expected, found });
            }
        }
        Ok(())
    }
}

/// Trains a softmax classifier with Adam on batches in random order (stream `shuffle`, one lane an epoch).
///
/// Weights and biases start uniform within ±1/√features (stream `init`), `PyTorch`'s default, or the training goes on
/// `from` where it was. The observer is called after each epoch, and ends the training with [`NnError::Cancelled`] if it breaks.
pub fn train_probe(
    config: &ProbeConfig,
    train: Samples,
    test: Samples,
    streams: &Streams,
    from: Option<ProbeProgress>,
    observe: &mut dyn FnMut(&ProbeProgress) -> ControlFlow<()>,
) -> Result<Probe, NnError> {
    check(config, train, test)?;
    let (train_features, test_features) = scale(config.scaling, train.features, test.features);
    let mut model = Model::new(train.features.columns, config, streams, from)?;
    for epoch in model.at.rows.len() + 1..=config.epochs {
        let order = streams.indexed("shuffle", epoch as u64).permutation(train.labels.len());
        let (mut loss, mut right) = (0.0, 0);
        for (i, batch) in order.chunks(config.batch).enumerate() {
            let (batch_loss, batch_right) = model.step(&train_features, train.labels, batch);
            if !batch_loss.is_finite() {
                let (what, value) = ("the loss", batch_loss);
                return Err(NnError::NotFinite { what, epoch, step: i + 1, value });
            }
            loss += batch_loss;
            right += batch_right;
        }
        let samples = train.labels.len() as f64;
        let (train_loss, train_accuracy) = (loss / samples, right as f64 / samples);
        let test_accuracy = model.accuracy(&test_features, test.labels);
        model.at.rows.push(ProbeRow { epoch, train_loss, train_accuracy, test_accuracy });
        if observe(&model.at).is_break() {
            return Err(NnError::Cancelled);
        }
    }
    let ProbeProgress { rows, weights, biases, .. } = model.at;
    let mut best = &rows[0];
    for row in &rows {
        if row.test_accuracy > best.test_accuracy {
            best = row;
        }
    }
    let (best_test_accuracy, best_epoch) = (best.test_accuracy, best.epoch);
    let final_test_accuracy = rows[rows.len() - 1].test_accuracy;
    Ok(Probe { rows, weights, biases, final_test_accuracy, best_test_accuracy, best_epoch })
}

fn check(config: &ProbeConfig, train: Samples, test: Samples) -> Result<(), NnError> {
    config.optimizer.check()?;
    for (name, value) in
        [("classes", config.classes), ("epochs", config.epochs), ("batch", config.batch)]
    {
        if value == 0 {
            let value = value.to_string();
            return Err(NnError::InvalidValue { name, condition: "at least 1", value });
        }
    }
    for Samples { features, labels } in [train, test] {
        for (what, expected, found) in [
            ("the list of labels", features.rows, labels.len()),
            ("the features", features.rows * features.columns, features.values.len()),
            ("a row of test features", train.features.columns, features.columns),
        ] {
            if expected != found {
                return Err(NnError::WrongLength { what, expected, found });
            }
        }
        if features.values.is_empty() {
            let (name, value) = ("number of samples and features", "0".to_owned());
            return Err(NnError::InvalidValue { name, condition: "above 0", value });
        }
        if !features.values.iter().all(|value| value.is_finite()) {
            return Err(NnError::NotFiniteInput { what: "the features" });
        }
        if let Some(sample) = labels.iter().position(|label| *label as usize >= config.classes) {
            let (label, classes) = (labels[sample], config.classes);
            return Err(NnError::LabelOutOfRange { sample, label, classes });
        }
    }
    Ok(())
}

/// Scales both sets by the training set's statistics.
fn scale(scaling: Scaling, train: &Features, test: &Features) -> (Vec<f32>, Vec<f32>) {
    if scaling == Scaling::None {
        return (train.values.clone(), test.values.clone());
    }
    let (columns, rows) = (train.columns, train.rows as f64);
    let mut mean = vec![0.0; columns];
    let mut variance = vec![0.0; columns];
    for row in train.values.chunks_exact(columns) {
        mean.iter_mut().zip(row).for_each(|(m, v)| *m += f64::from(*v) / rows);
    }
    for row in train.values.chunks_exact(columns) {
        for ((s, v), m) in variance.iter_mut().zip(row).zip(&mean) {
            *s += (f64::from(*v) - m).powi(2) / rows;
        }
    }
    // Below this share of the mean a spread is rounding, and the feature constant.
    let is_constant = |variance: f64, mean: f64| variance.sqrt() <= 1e-6 * mean.abs();
    let factor: Vec<f64> = (variance.iter().zip(&mean))
        .map(|(s, m)| if is_constant(*s, *m) { 0.0 } else { 1.0 / s.sqrt() })
        .collect();
    let scaled = |values: &[f32]| {
        let columns = |row: usize| row % columns;
        let scaled = values.iter().enumerate().map(|(i, v)| (f64::from(*v), columns(i)));
        scaled.map(|(v, i)| ((v - mean[i]) * factor[i]) as f32).collect()
    };
    (scaled(&train.values), scaled(&test.values))
}

/// Test rows of one parallel task.
const BLOCK: usize = 256;

struct Model {
    features: usize,
    classes: usize,
    optimizer: AdamConfig,
    at: ProbeProgress,
    /// The batch's features, gathered.
    batch: Vec<f32>,
    /// The gradient of weights then biases.
    gradient: Vec<f32>,
}

impl Model {
    fn new(
        features: usize,
        config: &ProbeConfig,
        streams: &Streams,
        from: Option<ProbeProgress>,
    ) -> Result<Self, NnError> {
        let at = from.unwrap_or_else(|| ProbeProgress::start(features, config, streams));
        at.check(features, config)?;
        let (classes, optimizer) = (config.classes, config.optimizer);
        let gradient = vec![0.0; classes * (features + 1)];
        Ok(Self { features, classes, optimizer, at, batch: Vec::new(), gradient })
    }

    fn logits(&self, features: &[f32]) -> Vec<f32> {
        let features = Matrix::new(features, self.features);
        let mut logits = self.at.biases.repeat(features.rows);
        let weights = Matrix::new(&self.at.weights, self.features);
        multiply(&mut logits, Accum::Add, features.view(), weights.view().transpose());
        logits
    }

    /// Takes one step. Yields the summed cross-entropy and the right answers before it.
    fn step(&mut self, features: &[f32], labels: &[u32], batch: &[usize]) -> (f64, usize) {
        self.batch.clear();
        for row in batch {
            self.batch.extend(&features[row * self.features..][..self.features]);
        }
        let mut logits = self.logits(&self.batch);
        let (mut loss, mut right) = (0.0, 0);
        for (logits, row) in logits.chunks_exact_mut(self.classes).zip(batch) {
            let label = labels[*row] as usize;
            right += usize::from(largest(logits) == label);
            loss += to_gradient(logits, label, batch.len());
        }
        let d_logits = Matrix::new(&logits, self.classes);
        let (d_weights, d_biases) = self.gradient.split_at_mut(self.at.weights.len());
        let rows = Matrix::new(&self.batch, self.features);
        multiply(d_weights, Accum::Replace, d_logits.view().transpose(), rows.view());
        d_biases.fill(0.0);
        for d in logits.chunks_exact(self.classes) {
            d_biases.iter_mut().zip(d).for_each(|(sum, d)| *sum += d);
        }
        self.update();
        (loss, right)
    }

    /// Applies Adam to weights and biases.
    fn update(&mut self) {
        let at = &mut self.at;
        at.steps += 1;
        let step = self.optimizer.at(at.steps);
        let values = at.weights.iter_mut().chain(&mut at.biases);
        let means = at.first.iter_mut().zip(&mut at.second);
        for ((w, g), (m, v)) in values.zip(&self.gradient).zip(means) {
            step.move_first(m, *g, *w);
            step.move_second(v, *g, *w);
            step.move_weight(w, *m, *v);
        }
    }

    fn accuracy(&self, features: &[f32], labels: &[u32]) -> f64 {
        let right = |(features, labels): (&[f32], &[u32])| {
            let logits = self.logits(features);
            let answers = logits.chunks_exact(self.classes).map(largest);
            answers.zip(labels).filter(|(answer, label)| *answer == **label as usize).count()
        };
        let blocks = features.par_chunks(BLOCK * self.features).zip(labels.par_chunks(BLOCK));
        blocks.map(right).sum::<usize>() as f64 / labels.len() as f64
    }
}

/// Finds the first of the largest values.
fn largest(values: &[f32]) -> usize {
    let mut best = 0;
    for (i, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = i;
        }
    }
    best
}

/// Turns logits into the gradient of the batch's mean cross-entropy, and yields this sample's cross-entropy.
fn to_gradient(logits: &mut [f32], label: usize, batch: usize) -> f64 {
    let largest = f64::from(logits[largest(logits)]);
    let score = f64::from(logits[label]) - largest;
    let sum: f64 = logits.iter().map(|l| libm::exp(f64::from(*l) - largest)).sum();
    for (i, l) in logits.iter_mut().enumerate() {
        let share = libm::exp(f64::from(*l) - largest) / sum - f64::from(u8::from(i == label));
        *l = (share / batch as f64) as f32;
    }
    libm::log(sum) - score
}

#[cfg(test)]
mod tests {
    use rayon::ThreadPoolBuilder;

    use super::*;

    const CLASSES: usize = 4;

    fn config() -> ProbeConfig {
        let optimizer = AdamConfig { learning_rate: 0.02, ..Default::default() };
        ProbeConfig { classes: CLASSES, epochs: 15, batch: 20, optimizer, scaling: Scaling::None }
    }

    /// Clouds around random centers, `distance` deviations apart.
    fn clouds(rows: usize, columns: usize, distance: f64, purpose: &str) -> (Features, Vec<u32>) {
        let streams = Streams::new(4, "test");
        let (mut centers, mut noise) = (vec![0.0; CLASSES * columns], streams.stream(purpose));
        streams.stream("centers").fill_normal(&mut centers);
        let labels: Vec<u32> = (0..rows).map(|_| noise.below(CLASSES as u64) as u32).collect();
        let center = |label: u32| &centers[label as usize * columns..][..columns];
        let values = labels.iter().flat_map(|label| center(*label));
        let values = values.map(|c| (distance * c + noise.normal()) as f32).collect();
        (Features { rows, columns, values }, labels)
    }

    fn run(config: &ProbeConfig, distance: f64) -> Probe {
        let ((x, a), (y, b)) =
            (clouds(200, 9, distance, "train"), clouds(101, 9, distance, "test"));
        let (train, test) =
            (Samples { features: &x, labels: &a }, Samples { features: &y, labels: &b });
        let mut observe = |_: &ProbeProgress| ControlFlow::Continue(());
        train_probe(config, train, test, &Streams::new(1, "test"), None, &mut observe).unwrap()
    }

    #[test]
    fn separable_classes_are_separated_and_equal_ones_are_not() {
        let probe = run(&config(), 4.0);
        assert_eq!((probe.final_test_accuracy, probe.rows[14].train_accuracy), (1.0, 1.0));
        assert!(
            probe.rows[14].train_loss < 0.1 && probe.rows[0].train_loss > probe.rows[14].train_loss
        );
        let chance = run(&config(), 0.0);
        // Five deviations of a share of 1/4 among 101.
        assert!((chance.final_test_accuracy - 0.25).abs() < 5.0 * (0.25f64 * 0.75 / 101.0).sqrt());
        let best = chance.rows.iter().map(|row| row.test_accuracy).fold(0.0, f64::max);
        assert_eq!(chance.best_test_accuracy, best);
        assert_eq!(chance.rows[chance.best_epoch - 1].test_accuracy, best);
    }

    #[test]
    fn the_first_loss_is_that_of_the_initial_weights() {
        // Features of zero: logits are the biases, and without a learning rate they stay.
        let optimizer = AdamConfig { learning_rate: 0.0, ..Default::default() };
        let config = ProbeConfig { epochs: 1, optimizer, ..config() };
        let x = Features { rows: 4, columns: 16, values: vec![0.0; 64] };
        let samples = Samples { features: &x, labels: &[0, 1, 2, 3] };
        let mut observe = |_: &ProbeProgress| ControlFlow::Continue(());
        let probe =
            train_probe(&config, samples, samples, &Streams::new(1, "t"), None, &mut observe)
                .unwrap();
        assert!(probe.weights.iter().chain(&probe.biases).all(|w| w.abs() <= 0.25));
        let biases: Vec<f64> = probe.biases.iter().map(|b| f64::from(*b)).collect();
        let partition = biases.iter().map(|b| b.exp()).sum::<f64>().ln();
        let expected = partition - biases.iter().sum::<f64>() / 4.0;
        assert!((probe.rows[0].train_loss - expected).abs() < 1e-6);
        assert_eq!(probe.rows[0].test_accuracy, 0.25);
    }

    #[test]
    fn the_gradient_is_that_of_the_cross_entropy() {
        let logits = [0.3f32, -1.2, 2.0];
        let mut gradient = logits;
        let loss = to_gradient(&mut gradient, 1, 5);
        let at = |i: usize, step: f64| {
            let logits: Vec<f64> =
                (0..3).map(|j| f64::from(logits[j]) + if i == j { step } else { 0.0 }).collect();
            logits.iter().map(|l| l.exp()).sum::<f64>().ln() - logits[1]
        };
        assert!((loss - at(0, 0.0)).abs() < 1e-12);
        for (i, found) in gradient.iter().enumerate() {
            let expected = (at(i, 1e-5) - at(i, -1e-5)) / 2e-5 / 5.0;
            assert!((f64::from(*found) - expected).abs() < 1e-7);
        }
    }

    #[test]
    fn standardizing_undoes_any_scale_and_drops_constants() {
        let ((mut x, a), (mut y, b)) = (clouds(200, 9, 4.0, "train"), clouds(101, 9, 4.0, "test"));
        for features in [&mut x, &mut y] {
            features.values.iter_mut().skip(4).step_by(9).for_each(|v| *v = 7.25);
        }
        let train_on = |scale: f32, offset: f32| {
            let scaled = |f: &Features| Features {
                values: f.values.iter().map(|v| v * scale + offset).collect(),
                ..f.clone()
            };
            let (x, y) = (scaled(&x), scaled(&y));
            let config = ProbeConfig { scaling: Scaling::Standardize, ..config() };
            let (train, test) =
                (Samples { features: &x, labels: &a }, Samples { features: &y, labels: &b });
            let mut observe = |_: &ProbeProgress| ControlFlow::Continue(());
            train_probe(&config, train, test, &Streams::new(1, "test"), None, &mut observe).unwrap()
        };
        let (plain, moved) = (train_on(1.0, 0.0), train_on(64.0, 256.0));
        assert_eq!(plain.final_test_accuracy, 1.0);
        assert!((plain.rows[14].train_loss - moved.rows[14].train_loss).abs() < 1e-4);
    }

    #[test]
    fn results_do_not_depend_on_threads_but_on_the_seed() {
        let on = |threads: usize| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run(&config(), 0.5))
        };
        assert_eq!(on(1), on(2));
    }

    #[test]
    fn bad_inputs_are_refused() {
        let check = |config: &ProbeConfig, values: Vec<f32>, labels: &[u32], message: &str| {
            let features = Features { rows: 2, columns: 2, values };
            let samples = Samples { features: &features, labels };
            let mut observe = |_: &ProbeProgress| ControlFlow::Continue(());
            let error =
                train_probe(config, samples, samples, &Streams::new(1, "t"), None, &mut observe);
            assert_eq!(error.unwrap_err().to_string(), message);
        };
        let no_epochs = ProbeConfig { epochs: 0, ..config() };
        check(&no_epochs, vec![0.0; 4], &[0, 1], "epochs must be at least 1, found 0");
        check(&config(), vec![0.0; 3], &[0, 1], "expected 4 elements in the features, found 3");
        check(&config(), vec![0.0; 4], &[0], "expected 2 elements in the list of labels, found 1");
        let label = "label 4 of sample 1 is not below the number of classes: 4";
        check(&config(), vec![0.0; 4], &[0, 4], label);
        let nan = vec![0.0, 1.0, f32::NAN, 0.0];
        check(&config(), nan, &[0, 1], "a value of the features is not finite");
    }
}
