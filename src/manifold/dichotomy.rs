//! Which of a layer's manifolds a readout is to tell from which.

use thiserror::Error;

use crate::rng::Streams;

/// A family of dichotomies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dichotomies {
    /// Half of the manifolds, rounded down, drawn at random, against the rest.
    Balanced,
    /// One manifold, drawn at random, against the rest.
    OneVersusRest,
    /// These in turn: for each manifold, whether it is on the positive side.
    Fixed(Vec<Vec<bool>>),
}

/// Why there is no dichotomy.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum DichotomyError {
    /// None is given.
    #[error("no dichotomy is given")]
    None,
    /// One speaks of other manifolds.
    #[error("dichotomy {dichotomy} is of {given} manifolds, and there are {manifolds}")]
    Manifolds {
        /// Its position.
        dichotomy: usize,
        /// Manifolds that it speaks of.
        given: usize,
        /// Manifolds that there are.
        manifolds: usize,
    },
    /// One has nothing to tell apart.
    #[error("dichotomy {0} has all manifolds on one side")]
    OneSided(usize),
}

impl Dichotomies {
    /// Checks that given dichotomies are of as many manifolds, some on each side.
    pub fn check(&self, manifolds: usize) -> Result<(), DichotomyError> {
        let Self::Fixed(all) = self else { return Ok(()) };
        if all.is_empty() {
            return Err(DichotomyError::None);
        }
        for (dichotomy, sides) in all.iter().enumerate() {
            let given = sides.len();
            if given != manifolds {
                return Err(DichotomyError::Manifolds { dichotomy, given, manifolds });
            }
            if sides.iter().all(|side| *side == sides[0]) {
                return Err(DichotomyError::OneSided(dichotomy));
            }
        }
        Ok(())
    }

    /// Returns the signs of the manifolds in dichotomy `draw`.
    pub fn signs(&self, draw: usize, manifolds: usize, streams: &Streams) -> Vec<f64> {
        let mut stream = streams.indexed("dichotomies", draw as u64);
        let mut signs = vec![-1.0; manifolds];
        match self {
            Self::Balanced => {
                let order = stream.permutation(manifolds);
                order[..manifolds / 2].iter().for_each(|&i| signs[i] = 1.0);
            }
            Self::OneVersusRest => signs[stream.below(manifolds as u64) as usize] = 1.0,
            Self::Fixed(all) => {
                let sides = all[draw % all.len()].iter();
                signs = sides.map(|side| if *side { 1.0 } else { -1.0 }).collect();
            }
        }
        signs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_has_its_number_of_positives() {
        let streams = Streams::new(1, "test");
        let positives = |family: &Dichotomies, manifolds: usize| -> Vec<usize> {
            let count =
                |draw| family.signs(draw, manifolds, &streams).iter().filter(|s| **s > 0.0).count();
            (0..20).map(count).collect()
        };
        assert_eq!(positives(&Dichotomies::Balanced, 7), [3; 20]);
        assert_eq!(positives(&Dichotomies::OneVersusRest, 7), [1; 20]);
        let fixed = Dichotomies::Fixed(vec![vec![true, false, false], vec![true, true, false]]);
        assert_eq!(positives(&fixed, 3), [[1, 2]; 10].concat());
        // Each is a dichotomy of its own.
        let first = |draw| Dichotomies::Balanced.signs(draw, 30, &streams);
        assert!(first(0) == first(0) && first(0) != first(1));
    }

    #[test]
    fn dichotomies_that_tell_nothing_apart_are_refused() {
        let check = |all: &[&[bool]]| {
            let fixed = Dichotomies::Fixed(all.iter().map(|sides| sides.to_vec()).collect());
            fixed.check(3).map_err(|error| error.to_string())
        };
        assert_eq!(check(&[&[true, false, false]]), Ok(()));
        assert_eq!(check(&[]), Err("no dichotomy is given".to_owned()));
        let one_sided = Err("dichotomy 1 has all manifolds on one side".to_owned());
        assert_eq!(check(&[&[true, false, false], &[true; 3]]), one_sided);
        let other = Err("dichotomy 0 is of 2 manifolds, and there are 3".to_owned());
        assert_eq!(check(&[&[true, false]]), other);
        assert_eq!(Dichotomies::Balanced.check(2), Ok(()));
    }
}
