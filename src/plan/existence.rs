//! Which instances of a stage there are: the combinations of its axes' points, less those that are excluded, with those
//! that are included, where its `when` holds and where everything that it reads exists.

use std::collections::BTreeSet;

use super::build::{Kinds, MOST_NODES, Names};
use super::parameters::each_edge;
use super::placeholder::fill;
use super::sweep::{Sweeps, combinations, place, stage_of};
use crate::spec::axes::Axis;
use crate::spec::combinations::Rule;
use crate::spec::{Diagnostic, Diagnostics, Experiment, Value};

/// What is known of all stages.
type Known<'a, 'b> = (&'a Experiment, &'b [Value], &'b Names<'a>, &'b Kinds);

/// Finds the instances of every stage; `order` holds each after all that it depends on.
pub(super) fn choose(
    sweeps: &mut Sweeps<'_>,
    order: &[usize],
    known: Known<'_, '_>,
    errors: &mut Diagnostics,
) {
    let (before, mut partial) = (errors.len(), false);
    for &stage in order {
        let chosen = Chooser { sweeps, known, stage, partial }.choose();
        partial |= chosen.is_some();
        if chosen.as_ref().is_some_and(Vec::is_empty) && errors.len() == before {
            let entry = &known.0.stages[stage];
            let message = format!("stage `{}` exists for no combination of its axes", entry.name);
            let hint = "see its `when`, those of what it reads, and `exclude`";
            errors.push(Diagnostic::at(entry.origin, message).hint(hint));
        }
        sweeps[stage].chosen = chosen;
    }
}

struct Chooser<'a, 'b> {
    sweeps: &'b Sweeps<'a>,
    known: Known<'a, 'b>,
    stage: usize,
    /// Whether there is a stage that does not exist everywhere.
    partial: bool,
}

impl Chooser<'_, '_> {
    /// The combinations for which the stage exists; none where that is all of them.
    fn choose(&self) -> Option<Vec<usize>> {
        let (experiment, axes) = (self.known.0, &self.sweeps[self.stage].axes);
        let when = self.own(&experiment.stages[self.stage].when, axes);
        let read = self.partial_inputs();
        let rules = &experiment.combinations;
        let exclude: Vec<OwnRule<'_>> =
            rules.exclude.iter().filter_map(|rule| self.whole(rule, axes)).collect();
        let unlisted = axes.iter().any(|axis| axis.listed < axis.points.len());
        let added = rules.include.iter().any(|rule| !self.own(rule, axes).is_empty());
        if when.is_empty() && read.is_empty() && exclude.is_empty() && !unlisted && !added {
            return None;
        }
        // Refused when instances are counted.
        if combinations(axes) > MOST_NODES {
            return None;
        }
        let mut chosen: BTreeSet<usize> = BTreeSet::new();
        let all = 0..combinations(axes) as usize;
        let listed = |combination: &usize| {
            coordinates(axes, *combination).iter().zip(axes).all(|(at, axis)| *at < axis.listed)
        };
        let is_excluded = |combination: usize, free: &dyn Fn(usize) -> bool| {
            let at = coordinates(axes, combination);
            exclude.iter().any(|rule| {
                rule.iter().all(|(axis, points)| free(*axis) && points.contains(&at[*axis]))
            })
        };
        chosen.extend(all.clone().filter(listed).filter(|c| !is_excluded(*c, &|_| true)));
        for rule in &rules.include {
            let fixed = self.own(rule, axes);
            if fixed.is_empty() {
                continue;
            }
            let is_free = |axis: usize| fixed.iter().all(|(other, _)| *other != axis);
            let fits = |combination: &usize| {
                let at = coordinates(axes, *combination);
                at.iter().enumerate().all(|(axis, point)| {
                    match fixed.iter().find(|(other, _)| *other == axis) {
                        Some((_, points)) => points.contains(point),
                        None => *point < axes[axis].listed,
                    }
                })
            };
            chosen.extend(all.clone().filter(fits).filter(|c| !is_excluded(*c, &is_free)));
        }
        let holds = |combination: &usize| {
            let at = coordinates(axes, *combination);
            when.iter().all(|(axis, points)| points.contains(&at[*axis]))
        };
        chosen.retain(holds);
        chosen.retain(|combination| self.inputs_exist(&read, *combination));
        Some(chosen.into_iter().collect())
    }

    /// What a rule says of the stage's axes, by their place among these.
    fn own<'r>(&self, rule: &'r Rule, axes: &[&Axis]) -> OwnRule<'r> {
        let place = |name: &str| axes.iter().position(|axis| axis.name == name);
        let name = |axis: usize| self.known.0.axes[axis].name.as_str();
        rule.iter().filter_map(|(axis, points)| Some((place(name(*axis))?, points))).collect()
    }

    /// A rule, if it is about axes that the stage has, all of them.
    fn whole<'r>(&self, rule: &'r Rule, axes: &[&Axis]) -> Option<OwnRule<'r>> {
        let own = self.own(rule, axes);
        (own.len() == rule.len() && !own.is_empty()).then_some(own)
    }

    /// The inputs of the stage that some stage may fill that does not exist everywhere.
    fn partial_inputs(&self) -> Vec<&Value> {
        let (_, parameters, names, kinds) = self.known;
        let Some(kind) = &kinds[self.stage] else { return Vec::new() };
        if !self.partial {
            return Vec::new();
        }
        let entries = parameters[self.stage].entries().iter();
        let inputs =
            entries.filter(|entry| kind.fields.iter().any(|f| f.name == entry.key && f.is_input()));
        let may_lack = |value: &&Value| {
            let mut lacks = false;
            each_edge(value, &mut |text, _, _| {
                let stage = stage_of(&text).map(|name| names.get(name));
                lacks |= stage.is_some_and(|stage| {
                    stage.is_none_or(|stage| self.sweeps[*stage].chosen.is_some())
                });
            });
            lacks
        };
        inputs.map(|entry| &entry.value).filter(may_lack).collect()
    }

    /// Whether everything that these inputs name exists where a combination does.
    fn inputs_exist(&self, inputs: &[&Value], combination: usize) -> bool {
        let axes = &self.sweeps[self.stage].axes;
        let here = place(axes, combination);
        inputs.iter().all(|input| {
            // What cannot be filled is reported with the instance.
            let Ok(filled) = fill(input, &here) else { return true };
            let mut all = true;
            each_edge(&filled, &mut |text, _, over| {
                let target = stage_of(&text).and_then(|name| self.known.2.get(name));
                let Some(target) = target.map(|stage| &self.sweeps[*stage]) else { return };
                let over = over.unwrap_or_default();
                let over: Vec<&str> = over.iter().map(|(axis, _)| axis.as_str()).collect();
                let there = self.sweeps[self.stage].gather(combination, &over, target);
                all &= there.is_none_or(|there| !there.is_empty());
            });
            all
        })
    }
}

/// What a rule says of the axes of a stage: their places among these, and the points that are meant.
type OwnRule<'r> = Vec<(usize, &'r Vec<usize>)>;

/// The point of each axis in a combination.
fn coordinates(axes: &[&Axis], mut combination: usize) -> Vec<usize> {
    let mut at = vec![0; axes.len()];
    for (place, axis) in at.iter_mut().zip(axes).rev() {
        *place = combination % axis.points.len();
        combination /= axis.points.len();
    }
    at
}
