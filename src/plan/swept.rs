//! Mistakes of a sweep: the same one in several instances is told once, with the instances that have it.

use std::collections::{BTreeMap, BTreeSet};

use super::sweep::Sweep;
use crate::spec::{Diagnostic, Diagnostics, Origin};

/// What is wrong with the instances of a stage.
#[derive(Default)]
pub(super) struct Swept {
    /// The instances that have each mistake, by its place and words.
    found: BTreeMap<(Option<Origin>, String), (Diagnostic, Vec<usize>)>,
}

impl Swept {
    /// Notes what is wrong with an instance.
    pub(super) fn add(&mut self, instance: usize, mistakes: Diagnostics) {
        for mistake in mistakes.into_all() {
            let key = (mistake.origin, mistake.message.clone());
            self.found.entry(key).or_insert_with(|| (mistake, Vec::new())).1.push(instance);
        }
    }

    /// Reports everything that is wrong.
    pub(super) fn report(self, sweep: &Sweep<'_>, errors: &mut Diagnostics) {
        let all = sweep.instances() as usize;
        for (mut mistake, instances) in self.found.into_values() {
            if instances.len() < all {
                let (count, place) = (instances.len(), place(sweep, &instances));
                mistake.message += &format!(" (in {count} of {all} instances: {place})");
            }
            errors.push(mistake);
        }
    }
}

/// So many values of an axis are listed.
const MOST_LISTED: usize = 6;

/// Where some instances are: `where heads = 6`, if that tells them from the others; else one of them.
fn place(sweep: &Sweep<'_>, instances: &[usize]) -> String {
    let mut conditions = Vec::new();
    let mut held: Vec<(&str, BTreeSet<&str>)> = Vec::new();
    for axis in &sweep.axes {
        let name = axis.name.as_str();
        let label = |instance: usize| sweep.place(instance)[name].label.as_str();
        let labels: BTreeSet<&str> = instances.iter().map(|instance| label(*instance)).collect();
        if labels.len() == axis.points.len() {
            continue;
        }
        // In the order of the axis.
        let listed = axis.points.iter().map(|point| point.label.as_str());
        let listed: Vec<&str> = listed.filter(|label| labels.contains(label)).collect();
        let shown = match listed.split_at_checked(MOST_LISTED) {
            Some((some, rest)) if !rest.is_empty() => {
                format!("{} or {} more", some.join(", "), rest.len())
            }
            _ => listed.join(" or "),
        };
        conditions.push(format!("{name} = {shown}"));
        held.push((name, labels));
    }
    let holds = |instance: &usize| {
        let place = sweep.place(*instance);
        held.iter().all(|(axis, labels)| labels.contains(place[axis].label.as_str()))
    };
    let others = (0..sweep.instances() as usize).filter(holds).count();
    if others == instances.len() && !conditions.is_empty() {
        return format!("where {}", conditions.join(" and "));
    }
    let first = sweep.place(instances[0]);
    let names =
        sweep.axes.iter().map(|axis| format!("{}={}", axis.name, first[axis.name.as_str()].label));
    format!("such as [{}]", names.collect::<Vec<_>>().join(","))
}
