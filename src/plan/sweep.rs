//! Which axes a stage has: those it names, and those of everything it depends on.

use std::collections::{BTreeMap, BTreeSet};

use super::build::{Kinds, MOST_NODES};
use super::placeholder::{Piece, fill, pieces};
use crate::spec::axes::{Axis, Point};
use crate::spec::experiment::StageEntry;
use crate::spec::value::Entry;
use crate::spec::{Diagnostic, Diagnostics, Experiment, Origin, suggest};

/// The axes of every stage, by stage name, each in the order of `[axes]`.
pub type Sweeps<'a> = BTreeMap<&'a str, Vec<&'a Axis>>;

/// Finds the axes of every stage whose kind is known.
pub fn sweeps<'a>(
    experiment: &'a Experiment,
    kinds: &Kinds<'a>,
    errors: &mut Diagnostics,
) -> Sweeps<'a> {
    let stages = experiment.stages.iter().map(|stage| (stage.name.as_str(), stage)).collect();
    let (found, path) = (BTreeMap::new(), Vec::new());
    let mut search = Search { experiment, stages, kinds, errors, found, path };
    for stage in &experiment.stages {
        search.visit(stage);
    }
    let ordered = |names: &BTreeSet<&str>| {
        experiment.axes.iter().filter(|a| names.contains(a.name.as_str())).collect()
    };
    search.found.iter().map(|(stage, names)| (*stage, ordered(names))).collect()
}

struct Search<'a, 'b> {
    experiment: &'a Experiment,
    stages: BTreeMap<&'a str, &'a StageEntry>,
    kinds: &'b Kinds<'a>,
    errors: &'b mut Diagnostics,
    found: BTreeMap<&'a str, BTreeSet<&'a str>>,
    path: Vec<&'a str>,
}

impl<'a> Search<'a, '_> {
    fn visit(&mut self, stage: &'a StageEntry) -> BTreeSet<&'a str> {
        if let Some(found) = self.found.get(stage.name.as_str()) {
            return found.clone();
        }
        if let Some(at) = self.path.iter().position(|name| *name == stage.name) {
            let mut cycle = self.path[at..].to_vec();
            cycle.push(&stage.name);
            let message = format!("stages depend on each other: {}", cycle.join(" -> "));
            self.errors.push(Diagnostic::at(stage.origin, message));
            return BTreeSet::new();
        }
        self.path.push(&stage.name);
        let mut names = BTreeSet::new();
        for parameter in &stage.parameters {
            self.own_axes(parameter, &mut names);
            if let Some(known) = self.kinds.get(stage.name.as_str())
                && known.fields.iter().any(|f| f.name == parameter.key && f.is_input())
            {
                for target in self.targets(parameter) {
                    names.extend(self.visit(target));
                }
            }
        }
        self.path.pop();
        self.found.insert(&stage.name, names.clone());
        names
    }

    /// Adds the axes that a parameter's placeholders name.
    fn own_axes(&mut self, parameter: &'a Entry, names: &mut BTreeSet<&'a str>) {
        let mut texts: Vec<(&str, Origin)> = Vec::new();
        parameter.value.each_text(&mut |text, origin| texts.push((text, origin)));
        for (text, origin) in texts {
            match pieces(text) {
                Err(message) => self.errors.push(Diagnostic::at(origin, message)),
                Ok(pieces) => {
                    for piece in pieces {
                        let Piece::Hole { axis, .. } = piece else { continue };
                        let known = || self.experiment.axes.iter().map(|a| a.name.as_str());
                        match known().find(|name| *name == axis) {
                            Some(name) => {
                                names.insert(name);
                            }
                            None => {
                                let hint = suggest::hint(axis, "axes", known());
                                let message = format!("no axis is called `{axis}`");
                                let hint = format!("{hint}; a plain `${{` is written `$${{`");
                                self.errors.push(Diagnostic::at(origin, message).hint(hint));
                            }
                        }
                    }
                }
            }
        }
    }

    /// The stages that the edges of a parameter may name, over all values of the axes in them.
    fn targets(&mut self, parameter: &'a Entry) -> Vec<&'a StageEntry> {
        let mut names: BTreeSet<String> = BTreeSet::new();
        let mut axes = BTreeSet::new();
        self.own_axes(parameter, &mut axes);
        let axes: Vec<&Axis> =
            self.experiment.axes.iter().filter(|a| axes.contains(a.name.as_str())).collect();
        if combinations(&axes) > MOST_NODES {
            // Refused when the instances of the stage are counted.
            return Vec::new();
        }
        for place in places(&axes) {
            if let Ok(filled) = fill(&parameter.value, &place) {
                filled.each_text(&mut |text, _| names.extend(stage_of(text).map(str::to_owned)));
            }
        }
        names.iter().filter_map(|name| self.stages.get(name.as_str()).copied()).collect()
    }
}

/// The stage that an edge such as `@waves.history` names.
pub fn stage_of(edge: &str) -> Option<&str> {
    let name = edge.strip_prefix('@')?;
    Some(name.split_once('.').map_or(name, |(stage, _)| stage))
}

/// How many combinations of points there are on some axes.
pub fn combinations(axes: &[&Axis]) -> u128 {
    axes.iter().fold(1, |count, axis| count.saturating_mul(axis.points.len() as u128))
}

/// Every combination of points on some axes, the last axis fastest; one empty combination where there are none.
pub fn places<'a>(axes: &[&'a Axis]) -> Vec<BTreeMap<&'a str, &'a Point>> {
    let mut places = vec![BTreeMap::new()];
    for axis in axes {
        let extended = places.iter().flat_map(|place| {
            axis.points.iter().map(|point| {
                let mut place = place.clone();
                place.insert(axis.name.as_str(), point);
                place
            })
        });
        places = extended.collect();
    }
    places
}
