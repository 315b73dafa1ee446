//! The colors of continuous quantities, the same in figures and in exported movies.

/// Ten equally spaced colors of viridis (Smith and van der Walt, 2015).
const VIRIDIS: [[u8; 3]; 10] = [
    [0x44, 0x01, 0x54],
    [0x48, 0x28, 0x78],
    [0x3E, 0x49, 0x89],
    [0x31, 0x68, 0x8E],
    [0x26, 0x82, 0x8E],
    [0x1F, 0x9E, 0x89],
    [0x35, 0xB7, 0x79],
    [0x6E, 0xCE, 0x58],
    [0xB5, 0xDE, 0x2B],
    [0xFD, 0xE7, 0x25],
];

/// Number of colors of a [`palette`], so that a byte has a value left for what has none.
pub const LEVELS: usize = 255;

/// Interpolates viridis, for a place from 0 to 1, up to its yellow, which is faint on white.
pub fn viridis(place: f64) -> [u8; 3] {
    const USED: f64 = 0.93;
    let position = place.clamp(0.0, 1.0) * USED * (VIRIDIS.len() - 1) as f64;
    let index = (position as usize).min(VIRIDIS.len() - 2);
    let (from, to, t) = (VIRIDIS[index], VIRIDIS[index + 1], position - index as f64);
    let mix =
        |from: u8, to: u8| (f64::from(from) + t * (f64::from(to) - f64::from(from))).round() as u8;
    [mix(from[0], to[0]), mix(from[1], to[1]), mix(from[2], to[2])]
}

/// Every color that a [`level`] stands for, red, green and blue one after the other.
pub fn palette() -> Vec<u8> {
    (0..LEVELS).flat_map(|level| viridis(level as f64 / (LEVELS - 1) as f64)).collect()
}

/// Returns the color in a [`palette`] that is nearest to a place from 0 to 1.
pub fn level(place: f64) -> u8 {
    (place.clamp(0.0, 1.0) * (LEVELS - 1) as f64).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ramp_runs_through_viridis() {
        assert_eq!(viridis(0.0), VIRIDIS[0]);
        // The second color stands at 1/9 of viridis, of which 0.93 is used.
        assert_eq!(viridis(1.0 / 9.0 / 0.93), VIRIDIS[1]);
        assert_eq!(viridis(7.0), viridis(1.0));
    }

    #[test]
    fn levels_are_the_colors_of_their_places() {
        let palette = palette();
        assert_eq!(palette.len(), 3 * LEVELS);
        for place in [0.0, 0.25, 0.5, 1.0, 3.0] {
            let color = &palette[3 * usize::from(level(place))..][..3];
            // A level is 1/254 wide, in which no channel of viridis moves by more than 3.
            let off = viridis(place).iter().zip(color).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(off <= Some(3), "{place}");
        }
    }
}
