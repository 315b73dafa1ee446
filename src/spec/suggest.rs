//! "Did you mean": the nearest known word.

/// Writes a hint that names the nearest of `known`, or lists them all where none is near.
pub fn hint<'a>(word: &str, what: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match nearest(word, &known) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("there are no {what} here"),
        None if known.len() > MOST_LISTED => {
            let (first, rest) = known.split_at(MOST_LISTED);
            format!("{what}: {} and {} more", first.join(", "), rest.len())
        }
        None => format!("{what}: {}", known.join(", ")),
    }
}

/// More words than this are not listed: nobody reads a thousand names.
const MOST_LISTED: usize = 40;

/// Finds the known word within a third of the letters of `word`.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let longest_tried = 200; // Distances cost the product of both lengths.
    if word.len() > longest_tried {
        return None;
    }
    let length = word.chars().count();
    let within = (length / 3).max(1);
    let letters = Letters::of(word);
    known
        .iter()
        .filter(|k| letters.least_distance(k) <= within)
        .map(|k| (strsim::damerau_levenshtein(word, k), *k))
        .filter(|(distance, _)| *distance <= within && *distance < length)
        .min()
        .map(|(_, near)| near)
}

/// How often each letter is in a word. Most words are told apart by that alone, which costs far less than their
/// distance: a generated experiment may have thousands of wrong names, and each is compared with all that are right.
struct Letters {
    counts: [u8; 128],
    len: usize,
    /// Whether a letter is a byte.
    ascii: bool,
}

impl Letters {
    fn of(word: &str) -> Self {
        let mut counts = [0_u8; 128];
        for byte in word.bytes().filter(u8::is_ascii) {
            counts[usize::from(byte)] = counts[usize::from(byte)].saturating_add(1);
        }
        Self { counts, len: word.len(), ascii: word.is_ascii() }
    }

    /// A bound of the distance to another word: each edit brings in or takes away one letter at most.
    fn least_distance(&self, other: &str) -> usize {
        if !self.ascii || !other.is_ascii() {
            return 0;
        }
        let mut left = self.counts;
        let mut lacking = 0;
        for byte in other.bytes() {
            match &mut left[usize::from(byte)] {
                0 => lacking += 1,
                count => *count -= 1,
            }
        }
        let taken = other.len() - lacking;
        lacking.max(self.len - taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_nearest_or_lists_all() {
        let known = ["epochs", "batch_frames", "seed"];
        assert_eq!(hint("epocs", "parameters", known), "did you mean `epochs`?");
        assert_eq!(hint("x", "parameters", known), "parameters: epochs, batch_frames, seed");
        assert_eq!(hint(&"e".repeat(10_000), "parameters", []), "there are no parameters here");
        assert_eq!(hint("naive", "words", ["x", "naïve"]), "did you mean `naïve`?");
    }

    #[test]
    fn letters_never_claim_more_than_the_distance() {
        let words =
            ["", "a", "ab", "ba", "abc", "acb", "epochs", "epocs", "speech", "n1_20", "n2_10", "ä"];
        for (a, b) in words.iter().flat_map(|a| words.map(|b| (*a, b))) {
            let bound = Letters::of(a).least_distance(b);
            assert!(bound <= strsim::damerau_levenshtein(a, b), "{a} {b} {bound}");
        }
    }
}
