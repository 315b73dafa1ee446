//! The entries of a figure's legend, collected while its series are made.

use crate::report::{
    domains::{Colors, Domains, called, literal, words},
    figures::{FigureSpec, Layer, Spread},
    plot::chart::{LegendEntry, LegendGroup},
    series::Drawn,
};

/// The legend as it grows.
#[derive(Default)]
pub(crate) struct Legend {
    pub(crate) groups: Vec<LegendGroup>,
}

impl Legend {
    /// Adds the name of a series, unless it is there, alone, or on the color bar.
    pub(crate) fn add(
        &mut self,
        spec: &FigureSpec,
        layer: &Layer<'_>,
        drawn: &Drawn,
        domains: &Domains,
        layers: usize,
    ) {
        let colors = domains.colors_of(layer);
        let (title, label, rank) = match (colors, drawn.color) {
            (Some(Colors { ramp: Some(_), .. }), _) => return,
            (Some(colors), Some(index)) => {
                let title = layer.label.map_or_else(|| called(spec, &colors.column), str::to_owned);
                (Some(title), literal(&colors.values.list[index].to_string()), index)
            }
            _ if layers == 1 && layer.label.is_none() => return,
            _ => (None, layer.label.map_or_else(|| literal(&words(layer.from)), str::to_owned), 0),
        };
        let known = self.groups.iter().position(|group| group.title == title);
        let group = known.unwrap_or(self.groups.len());
        if known.is_none() {
            self.groups.push(LegendGroup { title, entries: Vec::new() });
        }
        let entries = &mut self.groups[group].entries;
        let points = drawn.series.points.len();
        if let Some(entry) = entries.iter_mut().find(|entry| entry.label == label) {
            entry.points = entry.points.max(points);
            return;
        }
        let spread = layer.error != Spread::None;
        // A later panel may show a color that an earlier one lacks: entries keep the order of the values.
        let at = match colors {
            Some(colors) => {
                let names: Vec<String> =
                    colors.values.list.iter().map(|value| literal(&value.to_string())).collect();
                let before = |entry: &LegendEntry| names[..rank].contains(&entry.label);
                entries.iter().rposition(before).map_or(0, |index| index + 1)
            }
            None => entries.len(),
        };
        entries.insert(
            at,
            LegendEntry { label, mark: layer.mark, style: drawn.series.style, spread, points },
        );
    }
}
