//! What the page of an experiment says besides its figures and tables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::plan::Plan;
use crate::report::page::{Listing, Page, PageHeader};
use crate::store::Summary;
use crate::store::record::Provenance;
use crate::ui::words;

/// Gathers the page's head, stages and provenance from the records that are there.
pub fn facts(plan: &Plan, records: &[Option<Arc<Summary>>]) -> Page {
    let made: Vec<&Provenance> = records.iter().flatten().map(|r| &r.provenance).collect();
    let seconds: f64 = made.iter().map(|p| p.seconds).sum();
    let distinct = |f: &dyn Fn(&Provenance) -> String| -> String {
        let values: BTreeSet<String> = made.iter().map(|p| f(p)).collect();
        values.into_iter().collect::<Vec<_>>().join(", ")
    };
    let mut times: Vec<&str> = made.iter().map(|p| p.started.as_str()).collect();
    times.sort_unstable();
    let day = |at: Option<&&str>| at.and_then(|t| t.get(..10)).unwrap_or_default().to_owned();
    let experiment = &plan.experiment;
    let overrides = match experiment.overlays.as_slice() {
        [] => "none".to_owned(),
        some => some.join(" "),
    };
    let binary = |p: &Provenance| {
        let hash = p.binary.map_or("unknown".to_owned(), |hash| hash.short());
        format!("wavecrest {} (binary {hash})", p.program)
    };
    let commit = |p: &Provenance| words::commit(p.commit.as_deref(), p.dirty);
    Page {
        header: PageHeader {
            title: experiment.name.clone(),
            about: experiment.about.clone(),
            facts: [
                day(times.last()),
                words::count(plan.graph.len(), "node"),
                format!("{} of computing", words::duration(seconds)),
                experiment.overlays.join(" "),
            ]
            .into_iter()
            .filter(|fact| !fact.is_empty())
            .collect(),
        },
        stages: stages(plan, records),
        provenance: vec![
            ("experiment".into(), experiment.file.display().to_string()),
            ("overrides".into(), overrides),
            ("root seed".into(), experiment.seed.to_string()),
            ("program".into(), distinct(&binary)),
            ("commit".into(), distinct(&commit)),
            ("machine".into(), distinct(&|p| p.host.clone())),
            ("computed".into(), format!("{} to {}", day(times.first()), day(times.last()))),
        ],
        ..Page::default()
    }
}

fn stages(plan: &Plan, records: &[Option<Arc<Summary>>]) -> Listing {
    let mut stages: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    for id in plan.graph.ids() {
        let (count, seconds) = stages.entry(&plan.graph.node(id).stage).or_default();
        *count += 1;
        *seconds += records[id.index()].as_ref().map_or(0.0, |r| r.provenance.seconds);
    }
    let row = |stage: &crate::spec::experiment::StageEntry| {
        let (count, seconds) = stages.get(stage.name.as_str()).copied().unwrap_or_default();
        vec![
            stage.name.clone(),
            stage.kind.as_ref().map_or(String::new(), |(kind, _)| kind.clone()),
            count.to_string(),
            words::duration(seconds),
            stage.about.clone().unwrap_or_default(),
        ]
    };
    Listing {
        headers: ["stage", "kind", "instances", "computing", "about"].map(String::from).to_vec(),
        rows: plan.experiment.stages.iter().map(row).collect(),
    }
}
