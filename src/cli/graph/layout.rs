//! Where boxes and arrows go: in layers, each box in a later one than those it depends on.
//!
//! The layout crate chooses layers and places. Arrows pass the points that it gives them in each layer, and turn only
//! between layers, so that none crosses a box.

use std::collections::{BTreeMap, BTreeSet};

use dagre::graph::{Graph, GraphOptions};
use dagre::{EdgeLabel, LayoutOptions, NodeLabel, Ranker};

/// Two lengths in pixels: a place to the right and down, or a width and a height.
pub type Point = (f64, f64);

/// What is to be laid out.
pub struct Problem<'a> {
    /// The size of each box.
    pub sizes: &'a [Point],
    /// Boxes of one group stand in one layer.
    pub groups: &'a [usize],
    /// Arrows between boxes by their indices, without cycles.
    pub arrows: &'a [(usize, usize)],
}

/// Where everything is.
pub struct Layout {
    /// Width and height of all of it.
    pub size: Point,
    /// The center of each box.
    pub boxes: Vec<Point>,
    /// For each arrow the ends of its straight pieces, from border to border, two by two; curves join them.
    pub arrows: Vec<Vec<Point>>,
}

/// Which way the arrows run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Down,
    Right,
}

impl Direction {
    /// From one layer to the next: arrows to the right have farther to go aside.
    fn between_layers(self) -> f64 {
        match self {
            Self::Down => 46.0,
            Self::Right => 80.0,
        }
    }
}

/// Above this many boxes and arrows, layers are chosen by a rule that takes no search.
const SEARCHED: usize = 500;
/// From one arrow to the next where they leave or reach a box, at most.
const BETWEEN_ENDS: f64 = 14.0;

/// Lays out boxes and arrows.
pub fn layout(problem: &Problem<'_>, direction: Direction) -> Layout {
    let turn = |p: &Point| if direction == Direction::Down { *p } else { (p.1, p.0) };
    let turned: Vec<Point> = problem.sizes.iter().map(turn).collect();
    let down = downwards(&Problem { sizes: &turned, ..*problem }, direction.between_layers());
    Layout {
        size: turn(&down.size),
        boxes: down.boxes.iter().map(turn).collect(),
        arrows: down.arrows.iter().map(|points| points.iter().map(turn).collect()).collect(),
    }
}

fn downwards(problem: &Problem<'_>, between_layers: f64) -> Layout {
    let Problem { sizes, arrows, .. } = *problem;
    let placed = Placed::of(sizes, arrows, &steps(problem), between_layers);
    let bands = Bands::of(sizes, &placed.boxes);
    let middle = |arrow: usize| -> Vec<f64> {
        // Of the points, those in a layer of boxes; the first and the last are the ends.
        let points = &placed.arrows[arrow];
        let inner = points.get(1..points.len().saturating_sub(1)).unwrap_or_default();
        inner.iter().filter(|p| bands.at(p.1).is_some()).map(|p| p.0).collect()
    };
    let middles: Vec<Vec<f64>> = (0..arrows.len()).map(middle).collect();
    let ends = Ends::of(sizes, &placed.boxes, arrows, &middles);
    let route = |arrow: usize| {
        let (from, to) = arrows[arrow];
        let layer = |node: usize| bands.at(placed.boxes[node].1).unwrap_or_default();
        let bottom = |node: usize| placed.boxes[node].1 + sizes[node].1 / 2.0;
        let top = |node: usize| placed.boxes[node].1 - sizes[node].1 / 2.0;
        let (first, last) = (ends.leaving[arrow], ends.reaching[arrow]);
        let mut route = vec![(first, bottom(from)), (first, bands.0[layer(from)].1)];
        for (x, band) in middles[arrow].iter().zip(&bands.0[layer(from) + 1..]) {
            route.extend([(*x, band.0), (*x, band.1)]);
        }
        route.extend([(last, bands.0[layer(to)].0), (last, top(to))]);
        route
    };
    from_the_corner(sizes, placed.boxes.clone(), (0..arrows.len()).map(route).collect())
}

/// How many layers each arrow goes down at least, so that groups stay together: as many as between the groups.
fn steps(problem: &Problem<'_>) -> Vec<usize> {
    let Problem { sizes, groups, arrows } = *problem;
    let count = groups.iter().max().map_or(0, |most| most + 1);
    if count == sizes.len() {
        return vec![1; arrows.len()];
    }
    let between: BTreeSet<(usize, usize)> =
        arrows.iter().map(|(from, to)| (groups[*from], groups[*to])).collect();
    let between: Vec<(usize, usize)> = between.into_iter().collect();
    let placed = Placed::of(&vec![(1.0, 1.0); count], &between, &vec![1; between.len()], 1.0);
    let layers: BTreeSet<i32> = placed.layers.iter().copied().collect();
    let layers: BTreeMap<i32, usize> = layers.into_iter().zip(0..).collect();
    let layer = |node: &usize| layers[&placed.layers[groups[*node]]];
    arrows.iter().map(|(from, to)| layer(to).saturating_sub(layer(from)).max(1)).collect()
}

/// What the layout crate says.
struct Placed {
    boxes: Vec<Point>,
    layers: Vec<i32>,
    arrows: Vec<Vec<Point>>,
}

impl Placed {
    fn of(
        sizes: &[Point],
        arrows: &[(usize, usize)],
        steps: &[usize],
        between_layers: f64,
    ) -> Self {
        let options = GraphOptions { directed: true, multigraph: false, compound: false };
        let mut graph: Graph<NodeLabel, EdgeLabel> = Graph::with_options(options);
        for (i, (width, height)) in sizes.iter().enumerate() {
            let label = NodeLabel { width: *width, height: *height, ..NodeLabel::default() };
            graph.set_node(i.to_string(), Some(label));
        }
        for ((from, to), steps) in arrows.iter().zip(steps) {
            let label = EdgeLabel { minlen: *steps as i32, ..EdgeLabel::default() };
            graph.set_edge(from.to_string(), to.to_string(), Some(label), None);
        }
        let small = sizes.len() + arrows.len() <= SEARCHED;
        let options = LayoutOptions {
            nodesep: 24.0,
            edgesep: 12.0,
            ranksep: between_layers,
            ranker: if small { Ranker::NetworkSimplex } else { Ranker::LongestPath },
            ..LayoutOptions::default()
        };
        dagre::layout(&mut graph, Some(options));
        let label = |i: usize| graph.node(&i.to_string()).expect("it was added above");
        let points = |(from, to): &(usize, usize)| {
            let label = graph.edge(&from.to_string(), &to.to_string(), None);
            label.map_or_else(Vec::new, |l| l.points.iter().map(|p| (p.x, p.y)).collect())
        };
        let center = |l: &NodeLabel| (l.x.unwrap_or_default(), l.y.unwrap_or_default());
        Self {
            boxes: (0..sizes.len()).map(|i| center(label(i))).collect(),
            layers: (0..sizes.len()).map(|i| label(i).rank.unwrap_or_default()).collect(),
            arrows: arrows.iter().map(points).collect(),
        }
    }
}

/// The top and the bottom of each layer of boxes, from above.
struct Bands(Vec<(f64, f64)>);

impl Bands {
    fn of(sizes: &[Point], boxes: &[Point]) -> Self {
        // Boxes of a layer have their centers at one height.
        let mut heights: Vec<(f64, f64)> =
            boxes.iter().zip(sizes).map(|(b, s)| (b.1, s.1)).collect();
        heights.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut bands: Vec<(f64, f64)> = Vec::new();
        for (y, height) in heights {
            let (top, bottom) = (y - height / 2.0, y + height / 2.0);
            match bands.last_mut() {
                Some(last) if y <= last.1 => *last = (last.0.min(top), last.1.max(bottom)),
                _ => bands.push((top, bottom)),
            }
        }
        Self(bands)
    }

    /// The layer that a height lies in.
    fn at(&self, y: f64) -> Option<usize> {
        let after = self.0.partition_point(|band| band.1 < y);
        self.0.get(after).filter(|band| band.0 <= y).map(|_| after)
    }
}

/// Where along the borders of boxes each arrow leaves and ends.
struct Ends {
    leaving: Vec<f64>,
    reaching: Vec<f64>,
}

impl Ends {
    /// Spreads the arrows of a box along its border, in the order of where they come from or go to.
    fn of(
        sizes: &[Point],
        boxes: &[Point],
        arrows: &[(usize, usize)],
        middles: &[Vec<f64>],
    ) -> Self {
        let first =
            |arrow: usize| middles[arrow].first().copied().unwrap_or(boxes[arrows[arrow].1].0);
        let last =
            |arrow: usize| middles[arrow].last().copied().unwrap_or(boxes[arrows[arrow].0].0);
        let spread = |end: &dyn Fn(usize) -> usize, towards: &dyn Fn(usize) -> f64| {
            let mut by_box: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
            for arrow in 0..arrows.len() {
                by_box.entry(end(arrow)).or_default().push(arrow);
            }
            let mut places = vec![0.0; arrows.len()];
            for (node, mut arrows) in by_box {
                arrows.sort_by(|a, b| towards(*a).total_cmp(&towards(*b)));
                let step = (0.8 * sizes[node].0 / arrows.len() as f64).min(BETWEEN_ENDS);
                let begin = boxes[node].0 - step * (arrows.len() - 1) as f64 / 2.0;
                for (i, arrow) in arrows.into_iter().enumerate() {
                    places[arrow] = begin + step * i as f64;
                }
            }
            places
        };
        Self {
            leaving: spread(&|arrow| arrows[arrow].0, &first),
            reaching: spread(&|arrow| arrows[arrow].1, &last),
        }
    }
}

/// Moves everything so that it begins at 0, and measures it.
fn from_the_corner(sizes: &[Point], mut boxes: Vec<Point>, mut arrows: Vec<Vec<Point>>) -> Layout {
    let corners = boxes.iter().zip(sizes).flat_map(|((x, y), (width, height))| {
        [(x - width / 2.0, y - height / 2.0), (x + width / 2.0, y + height / 2.0)]
    });
    let all: Vec<Point> = corners.chain(arrows.iter().flatten().copied()).collect();
    let least = |f: fn(&Point) -> f64| all.iter().map(f).reduce(f64::min).unwrap_or(0.0);
    let most = |f: fn(&Point) -> f64| all.iter().map(f).reduce(f64::max).unwrap_or(0.0);
    let (left, top) = (least(|p| p.0), least(|p| p.1));
    let size = (most(|p| p.0) - left, most(|p| p.1) - top);
    for (x, y) in boxes.iter_mut().chain(arrows.iter_mut().flatten()) {
        *x -= left;
        *y -= top;
    }
    Layout { size, boxes, arrows }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of boxes that each take from all of the row before, and from the first box of all.
    fn rows(rows: usize, wide: usize) -> (Vec<Point>, Vec<usize>, Vec<(usize, usize)>) {
        let sizes =
            (0..wide * rows).map(|i| (80.0 + (i * 37 % 90) as f64, 50.0 + (i % 3) as f64 * 17.0));
        let mut arrows: Vec<(usize, usize)> = (wide..wide * rows)
            .flat_map(|to| (0..wide).map(move |i| ((to / wide - 1) * wide + i, to)))
            .chain((2 * wide..wide * rows).map(|to| (0, to)))
            .collect();
        arrows.sort_unstable();
        arrows.dedup();
        (sizes.collect(), (0..wide * rows).map(|i| i / wide).collect(), arrows)
    }

    #[test]
    fn boxes_stand_apart_and_arrows_pass_between_them() {
        for (count, wide, direction) in
            [(6, 3, Direction::Down), (6, 3, Direction::Right), (30, 5, Direction::Down)]
        {
            let (sizes, groups, arrows) = rows(count, wide);
            let problem = Problem { sizes: &sizes, groups: &groups, arrows: &arrows };
            let placed = layout(&problem, direction);
            let inside = |(x, y): Point, node: usize, slack: f64| {
                let ((cx, cy), (w, h)) = (placed.boxes[node], sizes[node]);
                (x - cx).abs() < w / 2.0 - slack && (y - cy).abs() < h / 2.0 - slack
            };
            for i in 0..sizes.len() {
                for j in (0..sizes.len()).filter(|j| *j != i) {
                    let ((x, y), (w, h)) = (placed.boxes[j], sizes[j]);
                    for (dx, dy) in [(-w, -h), (w, -h), (-w, h), (w, h), (0.0, 0.0)] {
                        assert!(!inside((x + dx / 2.0, y + dy / 2.0), i, 0.0), "{i} {j}");
                    }
                }
            }
            for points in &placed.arrows {
                for pair in points.chunks(2) {
                    let middle =
                        (f64::midpoint(pair[0].0, pair[1].0), f64::midpoint(pair[0].1, pair[1].1));
                    assert!((0..sizes.len()).all(|node| !inside(middle, node, 0.1)));
                }
                let along = |p: &Point| if direction == Direction::Down { p.1 } else { p.0 };
                assert!(points.is_sorted_by(|a, b| along(a) <= along(b) + 1e-9), "{points:?}");
            }
        }
    }

    #[test]
    fn a_group_stands_in_one_layer() {
        // The second sink of the group has a shorter way to it.
        let sizes = [(60.0, 40.0); 5];
        let (groups, arrows) = ([0, 1, 2, 3, 3], [(0, 1), (1, 2), (2, 3), (0, 4)]);
        let problem = Problem { sizes: &sizes, groups: &groups, arrows: &arrows };
        let placed = layout(&problem, Direction::Down);
        assert_eq!(placed.boxes[3].1, placed.boxes[4].1);
    }

    #[test]
    fn the_same_graph_is_laid_out_the_same() {
        for count in [5, 45] {
            let (sizes, groups, arrows) = rows(count, 3);
            let problem = Problem { sizes: &sizes, groups: &groups, arrows: &arrows };
            let first = layout(&problem, Direction::Down);
            let again = layout(&problem, Direction::Down);
            assert_eq!((first.size, first.boxes), (again.size, again.boxes));
            assert_eq!(first.arrows, again.arrows);
        }
    }

    #[test]
    fn nothing_and_a_single_box_have_a_layout_too() {
        let nothing = Problem { sizes: &[], groups: &[], arrows: &[] };
        assert_eq!(layout(&nothing, Direction::Down).size, (0.0, 0.0));
        let one =
            layout(&Problem { sizes: &[(90.0, 60.0)], groups: &[0], ..nothing }, Direction::Right);
        assert_eq!((one.size, one.boxes), ((90.0, 60.0), vec![(45.0, 30.0)]));
    }
}
