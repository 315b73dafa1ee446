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
    known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(word, k), *k))
        .filter(|(distance, _)| *distance <= within && *distance < length)
        .min()
        .map(|(_, near)| near)
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
    }
}
