//! Which axes a stage has: those it names, and those of everything it depends on.

use std::collections::{BTreeMap, BTreeSet};

use super::build::{Kinds, MOST_NODES, Names};
use super::existence;
use super::parameters::{Over, each_edge};
use super::placeholder::{Piece, Place, fill, pieces};
use crate::spec::axes::Axis;
use crate::spec::value::Entry;
use crate::spec::{Diagnostic, Diagnostics, Experiment, Origin, Value, suggest};

/// How a stage is swept.
pub struct Sweep<'a> {
    /// Its axes, in the order of `[axes]`.
    pub axes: Vec<&'a Axis>,
    /// Whether its parameters hold placeholders: where they do not, all instances have the same.
    pub holes: bool,
    /// The combinations of points for which it exists, ascending; all of them where absent.
    pub chosen: Option<Vec<usize>>,
}

impl<'a> Sweep<'a> {
    /// How many instances the stage has.
    pub fn instances(&self) -> u128 {
        self.chosen.as_ref().map_or_else(|| combinations(&self.axes), |chosen| chosen.len() as u128)
    }

    /// The place of an instance; they are counted with the last axis fastest.
    pub fn place(&self, instance: usize) -> Place<'a> {
        place(&self.axes, self.combination(instance))
    }

    /// The combination of an instance, among all that there are on its axes.
    pub fn combination(&self, instance: usize) -> usize {
        self.chosen.as_ref().map_or(instance, |chosen| chosen[instance])
    }

    /// The instance of another stage at the place of one of this stage; none where that has an axis that this lacks, or
    /// does not exist there.
    pub fn project(&self, instance: usize, other: &Self) -> Option<usize> {
        let combination = project(&self.axes, self.combination(instance), &other.axes)?;
        other.instance(combination)
    }

    /// The instances of another stage that are at the place of one of this stage but for some axes, along which all are
    /// taken; none where the other has an axis that this lacks.
    pub fn gather(&self, combination: usize, over: &[&str], other: &Self) -> Option<Vec<usize>> {
        let mut found = vec![0];
        for axis in &other.axes {
            let points: Vec<usize> = if over.contains(&axis.name.as_str()) {
                (0..axis.points.len()).collect()
            } else {
                vec![project(&self.axes, combination, &[axis])?]
            };
            let next = |from: usize| points.iter().map(move |at| from * axis.points.len() + at);
            found = found.into_iter().flat_map(next).collect();
        }
        Some(found.into_iter().filter_map(|combination| other.instance(combination)).collect())
    }

    /// The instance of a combination, where the stage exists for it.
    pub fn instance(&self, combination: usize) -> Option<usize> {
        match &self.chosen {
            None => Some(combination),
            Some(chosen) => chosen.binary_search(&combination).ok(),
        }
    }
}

/// The combination on some axes that one on others is part of; none where one of those is not among them.
pub fn project(from: &[&Axis], combination: usize, to: &[&Axis]) -> Option<usize> {
    let mut found = 0;
    for axis in to {
        let at = from.iter().position(|own| own.name == axis.name)?;
        let faster: usize = from[at + 1..].iter().map(|a| a.points.len()).product();
        found = found * axis.points.len() + combination / faster % axis.points.len();
    }
    Some(found)
}

/// How every stage is swept; indexed as the stages are.
pub type Sweeps<'a> = Vec<Sweep<'a>>;

/// Finds the axes of every stage from its parameters.
pub fn sweeps<'a>(
    experiment: &'a Experiment,
    parameters: &[Value],
    names: &Names<'a>,
    kinds: &Kinds,
    errors: &mut Diagnostics,
) -> Sweeps<'a> {
    let count = experiment.stages.len();
    let states = vec![State::New; count];
    let found = (0..count).map(|_| Found::default()).collect();
    let order = Vec::with_capacity(count);
    let mut search = Search { experiment, parameters, names, kinds, errors, states, found, order };
    for stage in 0..count {
        search.visit(stage);
    }
    let Search { found, order, .. } = search;
    let axes = |found: &Found| found.axes.iter().map(|axis| &experiment.axes[*axis]).collect();
    let sweep = |f: &Found| Sweep { axes: axes(f), holes: f.holes, chosen: None };
    let mut sweeps: Sweeps<'a> = found.iter().map(sweep).collect();
    existence::choose(&mut sweeps, &order, (experiment, parameters, names, kinds), errors);
    sweeps
}

/// How far the search has come with a stage.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    /// It waits on the stages that it depends on.
    Open,
    Done,
}

/// What is found of a stage.
#[derive(Default)]
struct Found {
    /// The indices of its axes.
    axes: BTreeSet<usize>,
    holes: bool,
}

/// A stage that is being searched, and what it reads of others that is still to be looked at, the next one last.
struct Step {
    stage: usize,
    left: Vec<Read>,
}

/// What a stage reads of another: all its instances along these axes, or the one at its own place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Read {
    stage: usize,
    over: BTreeSet<usize>,
    /// Where the first edge that reads it is written.
    origin: Origin,
}

struct Search<'a, 'b> {
    experiment: &'a Experiment,
    parameters: &'b [Value],
    names: &'b Names<'a>,
    kinds: &'b Kinds,
    errors: &'b mut Diagnostics,
    states: Vec<State>,
    found: Vec<Found>,
    /// The stages that are done, each after all that it depends on.
    order: Vec<usize>,
}

impl Search<'_, '_> {
    /// Searches a stage after all it depends on. The way there is a list and no recursion, as a chain of stages may be
    /// longer than the program's stack is deep.
    fn visit(&mut self, stage: usize) {
        if self.states[stage] != State::New {
            return;
        }
        let mut path = vec![self.open(stage)];
        while let Some(step) = path.last_mut() {
            let stage = step.stage;
            match step.left.pop() {
                None => {
                    self.states[stage] = State::Done;
                    self.order.push(stage);
                    path.pop();
                }
                Some(read) if self.states[read.stage] == State::New => {
                    let target = read.stage;
                    // Looked at again when it is done.
                    step.left.push(read);
                    path.push(self.open(target));
                }
                Some(read) if self.states[read.stage] == State::Open => {
                    self.cycle(&path, &read);
                }
                Some(Read { stage: target, over, .. }) => {
                    if !self.found[target].axes.is_empty() {
                        let axes = self.found[target].axes.difference(&over).copied();
                        let axes: Vec<usize> = axes.collect();
                        self.found[stage].axes.extend(axes);
                    }
                }
            }
        }
    }

    /// Begins with a stage: notes the axes that it names itself.
    fn open(&mut self, stage: usize) -> Step {
        self.states[stage] = State::Open;
        let (mut axes, mut holes, mut left) = (BTreeSet::new(), false, Vec::new());
        for parameter in self.parameters[stage].entries() {
            let own = self.own_axes(parameter);
            if let Some(known) = &self.kinds[stage]
                && known.fields.iter().any(|f| f.name == parameter.key && f.is_input())
            {
                left.extend(self.targets(parameter, own.as_ref()));
            }
            holes |= own.is_some();
            axes.extend(own.into_iter().flatten());
        }
        axes.extend(self.experiment.stages[stage].when.keys());
        left.reverse();
        self.found[stage] = Found { axes, holes };
        Step { stage, left }
    }

    /// Reports a way back to a stage that the last one of the way reads.
    fn cycle(&mut self, path: &[Step], read: &Read) {
        let target = read.stage;
        let name = |stage: usize| self.experiment.stages[stage].name.as_str();
        let from = path.iter().position(|step| step.stage == target).unwrap_or_default();
        let names = path[from..].iter().map(|step| name(step.stage));
        let cycle: Vec<&str> = names.chain([name(target)]).collect();
        let message = format!("stages depend on each other: {}", cycle.join(" -> "));
        let hint = "each reads the next; take one of these edges out";
        self.errors.push(Diagnostic::at(read.origin, message).hint(hint));
    }

    /// The axes that a parameter's placeholders name; none where it has no placeholders.
    fn own_axes(&mut self, parameter: &Entry) -> Option<BTreeSet<usize>> {
        let mut texts = Vec::new();
        parameter.value.each_text(&mut |text, origin| {
            if text.contains("${") {
                texts.push((text, origin));
            }
        });
        let mut axes = (!texts.is_empty()).then(BTreeSet::new)?;
        for (text, origin) in texts {
            let pieces = match pieces(text) {
                Ok(pieces) => pieces,
                Err(message) => {
                    self.errors.push(Diagnostic::at(origin, message));
                    continue;
                }
            };
            for piece in pieces {
                let Piece::Hole { axis, .. } = piece else { continue };
                let known = || self.experiment.axes.iter().map(|a| a.name.as_str());
                if let Some(index) = known().position(|name| name == axis) {
                    axes.insert(index);
                } else {
                    let hint = suggest::hint(axis, "axes", known());
                    let hint = format!("{hint}; a plain `${{` is written `$${{`");
                    let message = format!("no axis is called `{axis}`");
                    self.errors.push(Diagnostic::at(origin, message).hint(hint));
                }
            }
        }
        Some(axes)
    }

    /// What the edges of a parameter may read, over all values of the axes in them, sorted by the stages' names.
    fn targets(&self, parameter: &Entry, axes: Option<&BTreeSet<usize>>) -> Vec<Read> {
        let mut found: BTreeMap<(String, BTreeSet<usize>), Origin> = BTreeMap::new();
        let index = |name: &str| self.experiment.axes.iter().position(|axis| axis.name == name);
        let mut note = |text: String, origin: Origin, over: Option<Over>| {
            let over = over.into_iter().flatten().filter_map(|(name, _)| index(&name)).collect();
            if let Some(stage) = stage_of(&text) {
                found.entry((stage.to_owned(), over)).or_insert(origin);
            }
        };
        match axes {
            None => each_edge(&parameter.value, &mut note),
            Some(axes) => {
                let axes: Vec<&Axis> =
                    axes.iter().map(|axis| &self.experiment.axes[*axis]).collect();
                if combinations(&axes) > MOST_NODES {
                    // Refused when the instances of the stage are counted.
                    return Vec::new();
                }
                for instance in 0..combinations(&axes) as usize {
                    if let Ok(filled) = fill(&parameter.value, &place(&axes, instance)) {
                        each_edge(&filled, &mut note);
                    }
                }
            }
        }
        let read = |((name, over), origin): ((String, BTreeSet<usize>), Origin)| {
            Some(Read { stage: *self.names.get(name.as_str())?, over, origin })
        };
        found.into_iter().filter_map(read).collect()
    }
}

/// The stage that an edge such as `@waves.history` names.
pub fn stage_of(edge: &str) -> Option<&str> {
    let name = edge.strip_prefix('@')?;
    Some(name.split_once('.').map_or(name, |(stage, _)| stage))
}

/// How many combinations of points there are on some axes; one where there are none.
pub fn combinations(axes: &[&Axis]) -> u128 {
    axes.iter().fold(1, |count, axis| count.saturating_mul(axis.points.len() as u128))
}

/// One of the combinations of points on some axes, counted with the last axis fastest.
pub fn place<'a>(axes: &[&'a Axis], mut instance: usize) -> Place<'a> {
    let mut place = Place::new();
    for axis in axes.iter().rev() {
        place.insert(axis.name.as_str(), &axis.points[instance % axis.points.len()]);
        instance /= axis.points.len();
    }
    place
}

#[cfg(test)]
mod tests {
    use crate::engine::toys::TOYS;
    use crate::plan::build;
    use crate::spec::experiment::read_text;
    use crate::spec::{Diagnostics, Sources};
    use crate::store::stamps::Stamps;

    #[test]
    fn a_chain_may_be_longer_than_the_stack_is_deep() {
        let last = 20_000;
        let mut text = "[experiment]\nname = 'x'\n".to_owned();
        // The last first, so that the search goes down the whole chain.
        for i in (1..=last).rev() {
            text += &format!("[stages.s{i}]\nkind = 'toy.half'\nof = '@s{}'\n", i - 1);
        }
        text += "[stages.s0]\nkind = 'toy.constant'\nvalue = 1\n";
        let (mut sources, mut errors) = (Sources::default(), Diagnostics::default());
        let experiment = read_text("x.toml".as_ref(), &text, &mut sources, &mut errors);
        let plan = build(experiment, &sources, TOYS, &mut Stamps::default(), &mut errors);
        assert_eq!(plan.map(|plan| plan.graph.len()), Some(last + 1));
    }
}
