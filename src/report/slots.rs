//! Which bars and points stand side by side.

use crate::report::{
    domains::Domains,
    figures::{Layer, Mark},
};

/// The places that bars and points take beside each other over one category.
pub(crate) struct Slots {
    /// For each layer its first place and the number of places; none where it stands in the middle.
    pub(crate) of: Vec<Option<(usize, usize)>>,
}

impl Slots {
    /// Numbers the places over all layers of bars; points over bars of the same colors stand on them.
    pub(crate) fn of(layers: &[Layer<'_>], domains: &Domains) -> Self {
        let width = |layer: &Layer<'_>| domains.colors_of(layer).map_or(1, |c| c.values.list.len());
        let is_bar = |layer: &&Layer<'_>| layer.mark == Mark::Bar;
        let bars: usize = layers.iter().filter(is_bar).map(width).sum();
        let before = |index: usize| layers[..index].iter().filter(is_bar).map(width).sum();
        let slot = |(index, layer): (usize, &Layer<'_>)| match layer.mark {
            Mark::Bar => Some((before(index), bars)),
            Mark::Scatter if domains.x.is_some() && !domains.has_lines => {
                let same = |l: &Layer<'_>| l.mark == Mark::Bar && l.color == layer.color;
                Some(match layers.iter().position(same) {
                    Some(bar) => (before(bar), bars),
                    None => (0, width(layer)),
                })
            }
            // Lines, the points on them, and tiles.
            Mark::Scatter | Mark::Line | Mark::Ecdf | Mark::Arrow | Mark::Tile => None,
        };
        Self { of: layers.iter().enumerate().map(slot).collect() }
    }
}
