//! Waves: active pixels joined over space and time, found while the frames come in.

/// Which pixels belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbors {
    /// Those that share a side in one frame, and in the frame before the pixel itself and those that share a side with
    /// it (Lansdell et al. 2014, their `wavecounts`).
    Sides,
    /// All that touch at a corner, in one frame and the frame before: 26 neighbors in the volume.
    Corners,
}

/// A wave: active pixels that hang together in space and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wave {
    /// Its first frame.
    pub start: usize,
    /// Its active pixels in each of its frames.
    pub areas: Vec<u32>,
    /// Each pixel that it reaches, and the frame in which it does first; by pixel.
    pub arrivals: Vec<(u32, u32)>,
    /// Whether it was under way in the first or last frame of the movie, so that its true length is not known.
    pub censored: bool,
}

impl Wave {
    /// Number of its frames.
    pub fn frames(&self) -> usize {
        self.areas.len()
    }

    /// Pixels that it reaches.
    pub fn area(&self) -> usize {
        self.arrivals.len()
    }

    /// Active pixels in all its frames together.
    pub fn volume(&self) -> u64 {
        self.areas.iter().map(|area| u64::from(*area)).sum()
    }

    /// Takes in a wave that it has met.
    fn absorb(&mut self, mut other: Self) {
        if other.start < self.start {
            std::mem::swap(self, &mut other);
        }
        let shift = other.start - self.start;
        self.areas.resize(self.areas.len().max(shift + other.areas.len()), 0);
        for (sum, area) in self.areas[shift..].iter_mut().zip(&other.areas) {
            *sum += area;
        }
        if other.arrivals.len() > self.arrivals.len() {
            std::mem::swap(&mut self.arrivals, &mut other.arrivals);
        }
        self.arrivals.append(&mut other.arrivals);
        self.censored |= other.censored;
    }
}

/// No wave.
const NONE: u32 = u32::MAX;

/// Finds waves in masks that come one after the other; holds no more than the waves that are under way.
#[derive(Clone, Debug)]
pub struct Tracker {
    width: usize,
    neighbors: Neighbors,
    frame: usize,
    /// The wave under way that each pixel of the last frame belongs to.
    before: Vec<u32>,
    now: Vec<u32>,
    /// The pixels that are active now.
    active: Vec<u32>,
    /// The wave under way that reached each pixel last.
    reached: Vec<u32>,
    waves: Vec<Wave>,
    /// A forest over the waves; those that have met have one root.
    parents: Vec<u32>,
    counts: Vec<u32>,
}

impl Tracker {
    /// Begins before the first frame.
    pub fn new(height: usize, width: usize, neighbors: Neighbors) -> Self {
        let none = vec![NONE; height * width];
        Self {
            width,
            neighbors,
            frame: 0,
            before: none.clone(),
            now: none.clone(),
            active: Vec::new(),
            reached: none,
            waves: Vec::new(),
            parents: Vec::new(),
            counts: Vec::new(),
        }
    }

    /// Takes the next frame, 1 where a pixel is active and 0 where not; hands over the waves that have ended before it.
    pub fn push(&mut self, mask: &[u8], ended: &mut impl FnMut(Wave)) {
        self.look(mask);
        if self.waves.is_empty() && self.active.is_empty() {
            self.frame += 1;
            return;
        }
        self.parents.clear();
        self.parents.extend(0..self.waves.len() as u32);
        self.now.fill(NONE);
        for index in 0..self.active.len() {
            self.join(self.active[index] as usize);
        }
        self.count();
        self.part(ended);
        std::mem::swap(&mut self.before, &mut self.now);
        self.frame += 1;
    }

    /// Ends the movie: hands over the waves that are under way.
    pub fn finish(mut self, ended: &mut impl FnMut(Wave)) {
        for mut wave in std::mem::take(&mut self.waves) {
            wave.censored = true;
            ended(complete(wave));
        }
    }

    /// Lists the active pixels; most are silent, and eight at a time are seen to be so.
    fn look(&mut self, mask: &[u8]) {
        self.active.clear();
        for (block, eight) in mask.chunks(8).enumerate() {
            if eight != &[0; 8][..eight.len()] {
                let active = eight.iter().enumerate().filter(|(_, active)| **active != 0);
                self.active.extend(active.map(|(at, _)| (8 * block + at) as u32));
            }
        }
    }

    /// Joins an active pixel with those of its neighbors that were looked at already.
    fn join(&mut self, at: usize) {
        let (width, area) = (self.width, self.now.len());
        let (left, right) = (!at.is_multiple_of(width), !(at + 1).is_multiple_of(width));
        let corners = self.neighbors == Neighbors::Corners;
        let mut wave = NONE;
        if left {
            wave = self.meet(wave, self.now[at - 1]);
        }
        if at >= width {
            wave = self.meet(wave, self.now[at - width]);
            if corners && left {
                wave = self.meet(wave, self.now[at - width - 1]);
            }
            if corners && right {
                wave = self.meet(wave, self.now[at - width + 1]);
            }
        }
        for row in [at.checked_sub(width), Some(at), Some(at + width)].into_iter().flatten() {
            if row >= area {
                continue;
            }
            wave = self.meet(wave, self.before[row]);
            if (corners || row == at) && left {
                wave = self.meet(wave, self.before[row - 1]);
            }
            if (corners || row == at) && right {
                wave = self.meet(wave, self.before[row + 1]);
            }
        }
        if wave == NONE {
            wave = self.waves.len() as u32;
            self.parents.push(wave);
            let (areas, arrivals) = (Vec::new(), Vec::new());
            let censored = self.frame == 0;
            self.waves.push(Wave { start: self.frame, areas, arrivals, censored });
        }
        self.now[at] = wave;
    }

    /// Lets two waves meet, either of which may be none; yields the one that they are now.
    fn meet(&mut self, one: u32, other: u32) -> u32 {
        if other == NONE || one == other {
            return one;
        }
        let other = self.root(other);
        if one == NONE || one == other {
            return other;
        }
        let (low, high) = (one.min(other), one.max(other));
        self.parents[high as usize] = low;
        let gone = Wave { start: 0, areas: vec![], arrivals: vec![], censored: false };
        let gone = std::mem::replace(&mut self.waves[high as usize], gone);
        self.waves[low as usize].absorb(gone);
        low
    }

    fn root(&mut self, mut wave: u32) -> u32 {
        while self.parents[wave as usize] != wave {
            let above = self.parents[self.parents[wave as usize] as usize];
            self.parents[wave as usize] = above;
            wave = above;
        }
        wave
    }

    /// Gives each active pixel its wave's root, and each wave what it has in this frame.
    fn count(&mut self) {
        self.counts.clear();
        self.counts.resize(self.waves.len(), 0);
        for index in 0..self.active.len() {
            let at = self.active[index] as usize;
            let wave = self.root(self.now[at]);
            self.now[at] = wave;
            self.counts[wave as usize] += 1;
            let last = self.reached[at];
            if last == NONE || self.root(last) != wave {
                self.waves[wave as usize].arrivals.push((at as u32, self.frame as u32));
            }
            self.reached[at] = wave;
        }
        for (wave, count) in self.waves.iter_mut().zip(&self.counts).filter(|(_, n)| **n > 0) {
            wave.areas.push(*count);
        }
    }

    /// Hands over the waves without a pixel in this frame, and numbers the others anew.
    fn part(&mut self, ended: &mut impl FnMut(Wave)) {
        let mut names = vec![NONE; self.waves.len()];
        let mut kept = 0;
        for (at, name) in names.iter_mut().enumerate() {
            if self.counts[at] > 0 {
                *name = kept as u32;
                self.waves.swap(kept, at);
                kept += 1;
            }
        }
        if kept == self.waves.len() {
            return;
        }
        // Those that met others left nothing behind; swapping moved the rest behind those that go on.
        let mut gone = self.waves.split_off(kept);
        gone.retain(|wave| !wave.areas.is_empty());
        gone.sort_by_key(|wave| (wave.start, wave.arrivals.first().copied()));
        for wave in gone {
            ended(complete(wave));
        }
        for at in &self.active {
            let wave = &mut self.now[*at as usize];
            *wave = names[*wave as usize];
        }
        for at in 0..self.reached.len() {
            if self.reached[at] != NONE {
                let root = self.root(self.reached[at]);
                self.reached[at] = names[root as usize];
            }
        }
    }
}

/// Sorts the arrivals; a pixel that a wave came to again counts once.
fn complete(mut wave: Wave) -> Wave {
    wave.arrivals.sort_unstable();
    wave.arrivals.dedup_by_key(|(pixel, _)| *pixel);
    wave
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::rng::Streams;

    /// The waves of frames drawn with `#`, each frame rows with `/` between.
    fn waves(neighbors: Neighbors, frames: &[&str]) -> Vec<Wave> {
        let rows: Vec<&str> = frames[0].split('/').collect();
        let mut tracker = Tracker::new(rows.len(), rows[0].len(), neighbors);
        let mut found = Vec::new();
        for frame in frames {
            let mask: Vec<u8> =
                frame.bytes().filter(|b| *b != b'/').map(|b| u8::from(b == b'#')).collect();
            tracker.push(&mask, &mut |wave| found.push(wave));
        }
        tracker.finish(&mut |wave| found.push(wave));
        found.sort_by_key(|wave| (wave.start, wave.arrivals[0]));
        found
    }

    #[test]
    fn a_wave_that_moves_is_one_and_knows_when_it_came() {
        let found = waves(Neighbors::Sides, &["...", "#..", "##.", ".##", "...", "..#"]);
        assert_eq!(found.len(), 2);
        let first = &found[0];
        assert_eq!((first.start, &first.areas[..], first.censored), (1, &[1, 2, 2][..], false));
        assert_eq!(first.arrivals, [(0, 1), (1, 2), (2, 3)]);
        assert_eq!((first.frames(), first.area(), first.volume()), (3, 3, 5));
        assert!(found[1].censored && found[1].start == 5);
    }

    #[test]
    fn waves_that_meet_become_one() {
        let found = waves(Neighbors::Sides, &[".....", "#....", "##..#", "#####", "....."]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].start, &found[0].areas[..]), (1, &[1, 3, 5][..]));
        assert_eq!(found[0].arrivals, [(0, 1), (1, 2), (2, 3), (3, 3), (4, 2)]);
    }

    #[test]
    fn corners_join_only_where_they_should() {
        let diagonal = ["#./.#"];
        assert_eq!(waves(Neighbors::Sides, &diagonal).len(), 2);
        assert_eq!(waves(Neighbors::Corners, &diagonal).len(), 1);
        let step = ["#./..", "../.#"];
        assert_eq!(waves(Neighbors::Sides, &step).len(), 2);
        assert_eq!(waves(Neighbors::Corners, &step).len(), 1);
        // A step aside of one pixel between frames is one wave, as in the authors' code.
        assert_eq!(waves(Neighbors::Sides, &["#./..", ".#/.."]).len(), 1);
        // The end of a row and the beginning of the next are no neighbors.
        for neighbors in [Neighbors::Sides, Neighbors::Corners] {
            assert_eq!(waves(neighbors, &["..#/.../...", ".../#../..."]).len(), 2);
            assert_eq!(waves(neighbors, &["..#/#../..."]).len(), 2);
        }
    }

    #[test]
    fn a_pixel_reached_twice_came_once() {
        // The wave on the right lives on and comes back to the left, where another has been meanwhile.
        let found = waves(
            Neighbors::Sides,
            &["....", "####", "...#", "#..#", "...#", "..##", "####", "...."],
        );
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].arrivals, [(0, 1), (1, 1), (2, 1), (3, 1)]);
        assert_eq!((found[1].start, found[1].arrivals[0]), (3, (0, 3)));
    }

    /// The sets of active voxels that hang together, by brute force.
    fn components(
        neighbors: Neighbors,
        volume: &[Vec<u8>],
        width: usize,
    ) -> BTreeSet<(usize, u64, usize)> {
        let near = |a: (usize, usize), b: (usize, usize)| {
            let side = |at: usize| ((at / width) as i64, (at % width) as i64);
            let ((y, x), (v, u)) = (side(a.1), side(b.1));
            let (dt, dy, dx) = (a.0.abs_diff(b.0), (y - v).unsigned_abs(), (x - u).unsigned_abs());
            let space = match neighbors {
                Neighbors::Sides => dy + dx <= 1,
                Neighbors::Corners => dy <= 1 && dx <= 1,
            };
            dt <= 1 && space
        };
        let mut left: BTreeSet<(usize, usize)> = volume
            .iter()
            .enumerate()
            .flat_map(|(t, mask)| (0..mask.len()).filter(|p| mask[*p] != 0).map(move |p| (t, p)))
            .collect();
        let mut found = BTreeSet::new();
        while let Some(first) = left.pop_first() {
            let (mut members, mut open) = (vec![first], vec![first]);
            while let Some(at) = open.pop() {
                let more: Vec<_> = left.iter().copied().filter(|b| near(at, *b)).collect();
                for one in more {
                    left.remove(&one);
                    members.push(one);
                    open.push(one);
                }
            }
            let pixels: BTreeSet<usize> = members.iter().map(|m| m.1).collect();
            let id = members.iter().map(|m| m.0 * 100 + m.1).min().unwrap_or(0);
            found.insert((id, members.len() as u64, pixels.len()));
        }
        found
    }

    #[test]
    fn random_masks_fall_apart_as_by_brute_force() {
        for seed in 0..12 {
            let mut stream = Streams::new(seed, "test").stream("masks");
            let density = 0.1 + 0.03 * seed as f64;
            let mut frame = || (0..30).map(|_| u8::from(stream.uniform() < density)).collect();
            let volume: Vec<Vec<u8>> = (0..20).map(|_| frame()).collect();
            for neighbors in [Neighbors::Sides, Neighbors::Corners] {
                let mut tracker = Tracker::new(5, 6, neighbors);
                let mut found = BTreeSet::new();
                let mut take = |wave: Wave| {
                    let first = wave.arrivals.iter().map(|(p, t)| t * 100 + p).min().unwrap();
                    found.insert((first as usize, wave.volume(), wave.area()));
                };
                for mask in &volume {
                    tracker.push(mask, &mut take);
                }
                tracker.finish(&mut take);
                assert_eq!(found, components(neighbors, &volume, 6), "{seed} {neighbors:?}");
            }
        }
    }
}
