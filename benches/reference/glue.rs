//! Analysis by dichotomies: given points, vectors and signs.

use std::path::Path;

use anyhow::{Context as _, ensure};
use faer::MatRef;
use serde_json::Value;
use wavecrest::manifold::glue::geometry_of_draws;
use wavecrest::manifold::joint::Joint;
use wavecrest::manifold::watch::Watch;
use wavecrest::store::files;

use crate::table::{Comparisons, relative};

/// Compares with every `glue_*.json` of a folder.
pub(crate) fn compare(golden: &Path, table: &mut Comparisons) -> anyhow::Result<()> {
    let (mut measures, mut identities, mut alignments) = (Vec::new(), Vec::new(), Vec::new());
    for name in files::list(golden)? {
        let Some(case) = name.strip_prefix("glue_").and_then(|n| n.strip_suffix(".json")) else {
            continue;
        };
        let about: Value = serde_json::from_str(&files::read_text(&golden.join(&name))?)?;
        let errors = one(golden, case, &about).with_context(|| name.clone())?;
        measures.extend(errors.0);
        identities.push(errors.1);
        alignments.extend(errors.2);
    }
    table.add("GLUE: capacity, dimension, radius, utility (relative)", 1e-9, measures);
    table.add("GLUE: capacity against its identity (relative)", 1e-12, identities);
    table.add("GLUE: alignments in three conventions", 1e-9, alignments);
    Ok(())
}

fn one(golden: &Path, case: &str, about: &Value) -> anyhow::Result<([f64; 4], f64, [f64; 9])> {
    let numbers = |suffix: &str| -> anyhow::Result<Vec<f64>> {
        let bytes = files::read(&golden.join(format!("glue_{case}.{suffix}.bin")))?;
        let eights = bytes.chunks_exact(8).map(|b| b.try_into().expect("eight bytes"));
        Ok(eights.map(f64::from_le_bytes).collect())
    };
    let size = |key: &str| -> anyhow::Result<usize> {
        Ok(about[key].as_u64().with_context(|| format!("no number `{key}`"))? as usize)
    };
    let (p, m, n, draws) = (size("P")?, size("M")?, size("N")?, size("n_t")?);
    let (points, vectors, signs) = (numbers("X")?, numbers("T")?, numbers("Y")?);
    ensure!(points.len() == p * m * n && vectors.len() == draws * n, "the files have other sizes");
    let points = MatRef::from_row_major_slice(&points, p * m, n);
    let vectors = MatRef::from_row_major_slice(&vectors, draws, n);
    let joint = Joint::from_coordinates(points, (0..p * m).map(|i| i / m).collect());
    let along = points * vectors.transpose();
    let each = (0..draws).map(|k| (along.col_as_slice(k), signs[k * p..][..p].to_vec()));
    let g = geometry_of_draws(&joint, each.collect(), &Watch::none())?;
    let expected =
        |key: &str| about["metrics"][key].as_f64().with_context(|| format!("no metric `{key}`"));
    let (capacity, dimension) = (g.capacity.value, g.dimension.value);
    let (radius, utility) = (g.radius.value, g.utility.value);
    let measures = [
        relative(capacity, expected("capacity")?),
        relative(dimension, expected("dimension")?),
        relative(radius, expected("radius")?),
        relative(utility, expected("utility")?),
    ];
    let identity = relative(utility * (1.0 + radius.powi(-2)) / dimension, capacity);
    let (center, axes, both) = (g.alignments.center, g.alignments.axes, g.alignments.center_axes);
    let mut alignments = [0.0; 9];
    let kinds = [("center", center), ("axis", axes), ("center_axis", both)];
    for (three, (name, found)) in alignments.chunks_exact_mut(3).zip(kinds) {
        let all =
            [("abs_raw", found.raw), ("signed_cos", found.cosine), ("abs_cos", found.absolute)];
        for (error, (convention, found)) in three.iter_mut().zip(all) {
            *error = (found.value - expected(&format!("{name}_{convention}"))?).abs();
        }
    }
    Ok((measures, identity, alignments))
}
