//! A watershed of masks over time: waves that touch are parted where they are narrow.

use std::collections::VecDeque;

/// Labels the voxels of a block of masks (frames, height, width) by a watershed on how deep they lie.
///
/// Voxels lie as deep as they are far from the nearest silent one, in the chamfer distance of weights 3, 4 and 5 for
/// steps to a side, an edge and a corner (Borgefors 1986), a frame being as long as a pixel; what lies beyond the movie
/// is not silent. Hollows that are not `least` pixels deeper than the pass to a deeper one belong to it (h-maxima,
/// Soille 1999). The rest is flooded from the deepest level up (Vincent & Soille 1991) over all 26 neighbors; where two
/// floods meet stands a dam, which belongs to none. Labels count from 1 in the order of their deepest voxels; silent
/// voxels and dams have 0. Takes some 20 bytes a voxel.
pub fn flood(mask: &[u8], height: usize, width: usize, least: f64) -> Vec<u32> {
    let block = Block { frames: mask.len() / (height * width), height, width };
    let depths = block.depths(mask);
    let least = (3.0 * least).round().clamp(0.0, f64::from(u16::MAX)) as u16;
    let levels = block.without_hollows(&depths, least);
    block.labels(mask, &levels)
}

struct Block {
    frames: usize,
    height: usize,
    width: usize,
}

const DAM: u32 = 0;
/// Not looked at.
const DRY: u32 = u32::MAX;
/// At the level that is flooded now.
const LOW: u32 = u32::MAX - 1;
/// On the way to be flooded.
const QUEUED: u32 = u32::MAX - 2;

impl Block {
    /// Calls with the neighbors of a voxel, and the weight of the step there.
    fn near(&self, at: usize, mut visit: impl FnMut(usize, u16)) {
        let (area, width) = (self.height * self.width, self.width);
        let (t, y, x) = (at / area, at % area / width, at % width);
        let around = |i: usize, n: usize| i.saturating_sub(1)..(i + 2).min(n);
        for v in around(t, self.frames) {
            for u in around(y, self.height) {
                for w in around(x, width) {
                    let axes = usize::from(v != t) + usize::from(u != y) + usize::from(w != x);
                    if axes > 0 {
                        visit((v * self.height + u) * width + w, [0, 3, 4, 5][axes]);
                    }
                }
            }
        }
    }

    /// The chamfer distance of each voxel to the nearest silent one; 0 where silent.
    fn depths(&self, mask: &[u8]) -> Vec<u16> {
        let start = |active: &u8| if *active == 0 { 0 } else { u16::MAX };
        let mut depths: Vec<u16> = mask.iter().map(start).collect();
        let lower = |depths: &mut Vec<u16>, at: usize, earlier: bool| {
            let mut depth = depths[at];
            self.near(at, |other, step| {
                if (other < at) == earlier {
                    depth = depth.min(depths[other].saturating_add(step));
                }
            });
            depths[at] = depth;
        };
        (0..mask.len()).filter(|at| mask[*at] != 0).for_each(|at| lower(&mut depths, at, true));
        (0..mask.len()).rev().filter(|at| mask[*at] != 0).for_each(|at| {
            lower(&mut depths, at, false);
        });
        depths
    }

    /// Levels off hollows that are less than `least` deep: reconstruction by dilation of the depths less `least` under
    /// the depths, from the deepest level up.
    fn without_hollows(&self, depths: &[u16], least: u16) -> Vec<u16> {
        let mut levels: Vec<u16> = depths.iter().map(|depth| depth.saturating_sub(least)).collect();
        if least == 0 {
            return levels;
        }
        let mut open = buckets(&levels, |at| depths[at] > 0);
        for level in (0..open.len()).rev() {
            let level = level as u16;
            while let Some(at) = open[usize::from(level)].pop() {
                if levels[at as usize] != level {
                    continue;
                }
                self.near(at as usize, |other, _| {
                    let raised = level.min(depths[other]);
                    if raised > levels[other] {
                        levels[other] = raised;
                        open[usize::from(raised)].push(other as u32);
                    }
                });
            }
        }
        levels
    }

    fn labels(&self, mask: &[u8], levels: &[u16]) -> Vec<u32> {
        let mut labels = vec![DRY; mask.len()];
        let (mut queue, mut count) = (VecDeque::new(), 0);
        for voxels in buckets(levels, |at| mask[at] != 0).iter().rev() {
            for at in voxels {
                labels[*at as usize] = LOW;
            }
            for &at in voxels {
                let mut beside = false;
                self.near(at as usize, |other, _| beside |= labels[other] < QUEUED);
                if beside {
                    labels[at as usize] = QUEUED;
                    queue.push_back(at);
                }
            }
            while let Some(at) = queue.pop_front() {
                self.spread(at, &mut labels, &mut queue);
            }
            // What no flood has reached is a hollow of its own.
            for &at in voxels {
                if labels[at as usize] == LOW {
                    count += 1;
                    labels[at as usize] = count;
                    queue.push_back(at);
                    self.fill(count, &mut labels, &mut queue);
                }
            }
        }
        labels.iter_mut().filter(|label| **label >= QUEUED).for_each(|label| *label = DAM);
        labels
    }

    /// Gives a voxel the label of the floods beside it, or makes it a dam where there are two.
    fn spread(&self, at: u32, labels: &mut [u32], queue: &mut VecDeque<u32>) {
        let (mut one, mut several) = (DAM, false);
        self.near(at as usize, |other, _| match labels[other] {
            DAM | QUEUED | DRY => (),
            LOW => {
                labels[other] = QUEUED;
                queue.push_back(other as u32);
            }
            label => {
                several |= one != DAM && one != label;
                one = label;
            }
        });
        labels[at as usize] = if several { DAM } else { one };
    }

    /// Gives a new label to all voxels of one level that hang together.
    fn fill(&self, label: u32, labels: &mut [u32], queue: &mut VecDeque<u32>) {
        while let Some(at) = queue.pop_front() {
            self.near(at as usize, |other, _| {
                if labels[other] == LOW {
                    labels[other] = label;
                    queue.push_back(other as u32);
                }
            });
        }
    }
}

/// The voxels of each level, in order, of those that count.
fn buckets(levels: &[u16], counts: impl Fn(usize) -> bool) -> Vec<Vec<u32>> {
    let most = levels.iter().max().copied().unwrap_or(0);
    let mut buckets = vec![Vec::new(); usize::from(most) + 1];
    for (at, level) in levels.iter().enumerate().filter(|(at, _)| counts(*at)) {
        buckets[usize::from(*level)].push(at as u32);
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 24;

    /// A cube of `SIDE` voxels a side, active where a point of (t, y, x) is inside.
    fn block(inside: impl Fn([f64; 3]) -> bool) -> Vec<u8> {
        let coordinates = |at: usize| [at / (SIDE * SIDE), at / SIDE % SIDE, at % SIDE];
        let active = |at| u8::from(inside(coordinates(at).map(|i| i as f64)));
        (0..SIDE.pow(3)).map(active).collect()
    }

    fn ball(center: [f64; 3], radius: f64) -> impl Fn([f64; 3]) -> bool {
        move |p| p.iter().zip(center).map(|(a, b)| (a - b).powi(2)).sum::<f64>() <= radius * radius
    }

    /// How many voxels each label has.
    fn sizes(mask: &[u8], least: f64) -> Vec<usize> {
        let labels = flood(mask, SIDE, SIDE, least);
        assert!(labels.iter().zip(mask).all(|(label, active)| *active != 0 || *label == 0));
        let most = labels.iter().max().copied().unwrap_or(0);
        (1..=most).map(|n| labels.iter().filter(|label| **label == n).count()).collect()
    }

    #[test]
    fn one_ball_is_one_and_two_that_touch_are_two() {
        let one = block(ball([12.0; 3], 7.0));
        let all = one.iter().map(|v| usize::from(*v)).sum::<usize>();
        assert_eq!(sizes(&one, 1.0), [all]);
        for (a, b) in [
            ([12.0, 12.0, 7.0], [12.0, 12.0, 17.0]),
            ([7.0, 12.0, 12.0], [17.0, 12.0, 12.0]),
            ([8.0, 8.0, 8.0], [15.0, 15.0, 15.0]),
        ] {
            let (a, b) = (ball(a, 6.2), ball(b, 6.2));
            let both = block(|p| a(p) || b(p));
            let found = sizes(&both, 1.0);
            assert_eq!(found.len(), 2, "{found:?}");
            // The halves are mirror images, but for a dam that may stand a voxel aside.
            let all = both.iter().map(|v| usize::from(*v)).sum::<usize>();
            assert!(found.iter().all(|size| size.abs_diff(all / 2) < all / 12), "{found:?} {all}");
        }
    }

    #[test]
    fn a_blob_that_moves_is_one() {
        for (vy, vx) in [(0.0, 0.5), (0.3, 0.55), (0.6, -0.2)] {
            let moving = block(|[t, y, x]| {
                let (cy, cx) = (6.0 + vy * t, 12.0 + vx * (t - 11.5));
                (1.0..23.0).contains(&t) && (y - cy).powi(2) + (x - cx).powi(2) <= 16.0
            });
            assert_eq!(sizes(&moving, 1.0).len(), 1, "{vy} {vx}");
        }
    }

    #[test]
    fn balls_apart_are_two_whatever_the_depth_and_nothing_is_none() {
        let (a, b) = (ball([5.0; 3], 3.0), ball([17.0; 3], 4.5));
        let both = block(|p| a(p) || b(p));
        for least in [0.0, 1.0, 100.0] {
            assert!(sizes(&both, least).len() >= 2);
        }
        assert_eq!(sizes(&both, 100.0).len(), 2);
        assert!(sizes(&block(|_| false), 1.0).is_empty());
        assert_eq!(sizes(&block(|_| true), 1.0), [SIDE.pow(3)]);
    }

    #[test]
    fn depths_are_the_least_over_all_ways() {
        let silent = [[3, 4, 5], [20, 2, 17], [11, 22, 9]];
        let mask = block(|p| !silent.contains(&p.map(|v| v as i64)));
        let depths = Block { frames: SIDE, height: SIDE, width: SIDE }.depths(&mask);
        for (at, depth) in depths.iter().enumerate() {
            let place = [at / (SIDE * SIDE), at / SIDE % SIDE, at % SIDE].map(|i| i as i64);
            // The chamfer distance in closed form: as many steps to a corner as fit, then to an edge, then to a side.
            let to = |other: &[i64; 3]| {
                let mut d = [0, 1, 2].map(|i| (place[i] - other[i]).abs());
                d.sort_unstable();
                5 * d[0] + 4 * (d[1] - d[0]) + 3 * (d[2] - d[1])
            };
            assert_eq!(i64::from(*depth), silent.iter().map(to).min().unwrap());
        }
    }

    #[test]
    fn leveled_hollows_are_those_of_the_definition() {
        // A row of depths: peaks of 9, 6 and 8 with passes of 5 and 4 between.
        let depths: Vec<u16> = vec![1, 9, 5, 6, 4, 8, 2];
        let row = Block { frames: 1, height: 1, width: 7 };
        assert_eq!(row.without_hollows(&depths, 2), [1, 7, 5, 5, 4, 6, 2]);
        assert_eq!(row.without_hollows(&depths, 4), [1, 5, 5, 5, 4, 4, 2]);
        assert_eq!(row.without_hollows(&depths, 0), depths);
    }
}
