//! Pixels of one frame: averaged over blocks, turned.

/// A turn of a frame, clockwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Not at all.
    None,
    /// By a right angle.
    Quarter,
    /// Upside down.
    Half,
    /// By three right angles.
    ThreeQuarters,
}

/// The values of a frame, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Pixels {
    /// Number of rows.
    pub height: usize,
    /// Number of columns.
    pub width: usize,
    /// Values, row by row.
    pub values: Vec<f32>,
}

impl Pixels {
    /// Averages blocks of `side` x `side` pixels; none unless rows and columns are multiples of it.
    #[must_use]
    pub fn averaged(&self, side: usize) -> Option<Self> {
        let (height, width) = (self.height / side, self.width / side);
        if height * side != self.height || width * side != self.width || self.values.is_empty() {
            return None;
        }
        let mut sums = vec![0.0f64; height * width];
        for (y, row) in self.values.chunks_exact(self.width).enumerate() {
            let sums = &mut sums[y / side * width..][..width];
            for (sum, block) in sums.iter_mut().zip(row.chunks_exact(side)) {
                *sum += block.iter().map(|value| f64::from(*value)).sum::<f64>();
            }
        }
        let area = (side * side) as f64;
        let values = sums.into_iter().map(|sum| (sum / area) as f32).collect();
        Some(Self { height, width, values })
    }

    /// Turns the frame clockwise.
    #[must_use]
    pub fn turned(self, turn: Turn) -> Self {
        let Self { height, width, ref values } = self;
        let (rows, columns) = match turn {
            Turn::None => return self,
            Turn::Half => (height, width),
            Turn::Quarter | Turn::ThreeQuarters => (width, height),
        };
        let source = |at: usize| {
            let (y, x) = (at / columns, at % columns);
            let (from_y, from_x) = match turn {
                Turn::None => (y, x),
                Turn::Quarter => (height - 1 - x, y),
                Turn::Half => (height - 1 - y, width - 1 - x),
                Turn::ThreeQuarters => (x, width - 1 - y),
            };
            values[from_y * width + from_x]
        };
        Self { height: rows, width: columns, values: (0..rows * columns).map(source).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(height: usize, width: usize) -> Pixels {
        Pixels { height, width, values: (0..height * width).map(|v| v as f32).collect() }
    }

    #[test]
    fn blocks_become_their_means() {
        // 0 1 2 3 / 4 5 6 7
        let small = frame(2, 4).averaged(2).unwrap();
        assert_eq!(small, Pixels { height: 1, width: 2, values: vec![2.5, 4.5] });
        assert_eq!(frame(2, 4).averaged(1).unwrap(), frame(2, 4));
        assert_eq!(frame(3, 4).averaged(2), None);
        // Large numbers do not lose their last digits.
        let bright = Pixels { height: 4, width: 4, values: vec![65_535.0; 16] };
        assert_eq!(bright.averaged(4).unwrap().values, [65_535.0]);
    }

    #[test]
    fn four_quarters_are_a_whole_turn() {
        // 0 1 2 / 3 4 5 clockwise: 3 0 / 4 1 / 5 2
        let turned = frame(2, 3).turned(Turn::Quarter);
        assert_eq!(turned, Pixels { height: 3, width: 2, values: vec![3., 0., 4., 1., 5., 2.] });
        let quarters = |n: usize| (0..n).fold(frame(2, 3), |frame, _| frame.turned(Turn::Quarter));
        assert_eq!(frame(2, 3).turned(Turn::Half), quarters(2));
        assert_eq!(frame(2, 3).turned(Turn::ThreeQuarters), quarters(3));
        assert_eq!(quarters(4), frame(2, 3).turned(Turn::None));
    }
}
