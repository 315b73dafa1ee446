//! "Did you mean": the nearest known word.

/// Writes a hint that names the nearest of `known`, or lists them all where none is near.
pub fn hint<'a>(word: &str, what: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match nearest(word, &known) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("there are no {what} here"),
        None => format!("{what}: {}", known.join(", ")),
    }
}

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
