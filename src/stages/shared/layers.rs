//! The layers of activations, and the manifolds in them.

use std::io;
use std::sync::{Mutex, PoisonError};

use crate::artifacts::activations::{Activations, Layer, Named};
use crate::artifacts::activations_reader::{ActivationsReader, OpenLayer};
use crate::engine::failure::Failure;
use crate::manifold::gram::{PointSource, PointsError};

/// Leaves the layers that are named; all of them where none are. Fails where there is no such layer, or no manifold.
pub fn choose(activations: &mut Activations, wanted: Option<&[String]>) -> anyhow::Result<()> {
    retain(&mut activations.layers, &activations.labels, wanted)
}

/// Leaves those of some layers that are named, as [`choose`].
pub fn retain(
    layers: &mut Vec<impl Named>,
    labels: &[u32],
    wanted: Option<&[String]>,
) -> anyhow::Result<()> {
    if let Some(wanted) = wanted {
        let names: Vec<&str> = layers.iter().map(Named::name).collect();
        if let Some(unknown) = wanted.iter().find(|name| !names.contains(&name.as_str())) {
            let message = format!("the activations have no layer `{unknown}`");
            let hint = format!("they have {}", names.join(", "));
            anyhow::bail!(Failure::user(message).hint(hint));
        }
        layers.retain(|layer| wanted.iter().any(|name| name == layer.name()));
    }
    anyhow::ensure!(
        !labels.is_empty(),
        Failure::data("the stimuli have no labels, so there are no manifolds")
            .hint("show the encoder stimuli of `manifold.build`, or labeled images")
    );
    Ok(())
}

/// The stimuli of each manifold, in the order of their labels.
fn stimuli(labels: &[u32]) -> Vec<Vec<usize>> {
    let mut known: Vec<u32> = labels.to_vec();
    known.sort_unstable();
    known.dedup();
    let mut stimuli = vec![Vec::new(); known.len()];
    for (row, label) in labels.iter().enumerate() {
        stimuli[known.binary_search(label).expect("every label is known")].push(row);
    }
    stimuli
}

/// The rows of each manifold of a layer, in the order of their labels.
pub fn groups(layer: &Layer, labels: &[u32]) -> Vec<Vec<f32>> {
    let rows = |own: Vec<usize>| {
        let row = |row: usize| &layer.values[row * layer.features..][..layer.features];
        own.into_iter().flat_map(row).copied().collect()
    };
    stimuli(labels).into_iter().map(rows).collect()
}

/// Numbers of a manifold that are read ahead: 1 MiB of them, so that a read costs little beside what is done with it.
const WINDOW: usize = 1 << 18;

/// The manifolds of a layer whose answers stay in their file, but for a window of each.
pub struct OpenManifolds<'a> {
    reader: &'a ActivationsReader,
    layer: &'a OpenLayer,
    manifolds: Vec<(Vec<usize>, Mutex<Window>)>,
}

/// Some features of all points of a manifold.
#[derive(Default)]
struct Window {
    start: usize,
    width: usize,
    values: Vec<f32>,
}

impl<'a> OpenManifolds<'a> {
    /// Finds the manifolds of a layer.
    pub fn new(reader: &'a ActivationsReader, layer: &'a OpenLayer) -> Self {
        let stimuli = stimuli(&reader.labels).into_iter();
        let manifolds = stimuli.map(|own| (own, Mutex::default())).collect();
        Self { reader, layer, manifolds }
    }
}

impl PointSource for OpenManifolds<'_> {
    fn features(&self) -> usize {
        self.layer.features
    }

    fn counts(&self) -> Vec<usize> {
        self.manifolds.iter().map(|(stimuli, _)| stimuli.len()).collect()
    }

    fn check(&self) -> Result<(), PointsError> {
        match self.manifolds.len() {
            few @ (0 | 1) => Err(PointsError::TooFewManifolds(few)),
            _ if self.layer.features == 0 => {
                Err(PointsError::Shape { manifold: 0, values: 0, features: 0 })
            }
            _ => Ok(()),
        }
    }

    fn read(&self, manifold: usize, start: usize, out: &mut [f32]) -> Result<(), PointsError> {
        let (stimuli, window) = &self.manifolds[manifold];
        let width = out.len() / stimuli.len();
        let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
        if start < window.start || start + width > window.start + window.width {
            let ahead = (WINDOW / stimuli.len()).max(width).min(self.layer.features - start);
            let unreadable = |error: io::Error| PointsError::Unreadable(error.kind());
            window.read(self, stimuli, start, ahead).map_err(unreadable)?;
        }
        let Window { start: first, width: wide, values } = &*window;
        for (row, out) in values.chunks_exact(*wide).zip(out.chunks_exact_mut(width)) {
            out.copy_from_slice(&row[start - first..][..width]);
        }
        Ok(())
    }
}

impl Window {
    fn read(
        &mut self,
        of: &OpenManifolds<'_>,
        stimuli: &[usize],
        start: usize,
        width: usize,
    ) -> io::Result<()> {
        // Until it is filled it holds nothing.
        (self.start, self.width) = (start, 0);
        self.values.resize(stimuli.len() * width, 0.0);
        for (stimulus, out) in stimuli.iter().zip(self.values.chunks_exact_mut(width)) {
            of.reader.read(of.layer, *stimulus, start, out)?;
        }
        self.width = width;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::stage::Artifact as _;

    #[test]
    fn manifolds_in_a_file_are_those_in_memory() {
        // Windows of 1 MiB hold 131072 features of two points, 87381 of three.
        let features = 300_000;
        let values: Vec<f32> = (0..5 * features).map(|v| (v % 8191) as f32).collect();
        let layer = Layer { name: "wide".into(), features, values };
        let labels = vec![9, 2, 9, 2, 2];
        let all = Activations { count: 5, labels: labels.clone(), layers: vec![layer] };
        let folder = tempfile::tempdir().unwrap();
        all.save(folder.path()).unwrap();
        let path = folder.path().join("activations.safetensors");
        let reader = ActivationsReader::open(&path).unwrap();
        let open = OpenManifolds::new(&reader, &reader.layers[0]);
        open.check().unwrap();
        assert_eq!((open.features(), open.counts()), (features, vec![3, 2]));
        let groups = groups(&all.layers[0], &labels);
        for (start, width) in [(0, 100), (90, 400), (200_000, 100_000), (50, 7), (0, features)] {
            for (manifold, group) in groups.iter().enumerate() {
                let mut out = vec![0.0; open.counts()[manifold] * width];
                open.read(manifold, start, &mut out).unwrap();
                for (row, out) in group.chunks(features).zip(out.chunks(width)) {
                    assert!(row[start..start + width] == *out, "{manifold} {start} {width}");
                }
            }
        }
    }

    #[test]
    fn a_file_that_shrinks_is_told() {
        let values = vec![1.0; 40];
        let layers = vec![Layer { name: "a".into(), features: 10, values }];
        let all = Activations { count: 4, labels: vec![0, 0, 1, 1], layers };
        let folder = tempfile::tempdir().unwrap();
        all.save(folder.path()).unwrap();
        let path = folder.path().join("activations.safetensors");
        let reader = ActivationsReader::open(&path).unwrap();
        // In place, so that the open file is cut short.
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(8).unwrap();
        let open = OpenManifolds::new(&reader, &reader.layers[0]);
        let error = open.read(1, 0, &mut [0.0; 20]).unwrap_err();
        assert_eq!(error, PointsError::Unreadable(io::ErrorKind::UnexpectedEof));
    }
}
