//! Why a key that had a result is none: what of the result is gone, and whether it was damaged.

use super::files;
use super::{FileRecord, Hash, Store};

/// What a result lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The record was found damaged, and put aside.
    DamagedRecord,
    /// These outputs, by name: each with what became of its files.
    Outputs(Vec<(String, Fate)>),
}

/// What became of a file that is not where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was removed.
    Removed,
    /// It was found damaged, and put aside.
    Damaged,
}

impl Store {
    /// Says what the result of a key lacks; `None` where there is no trace of one, or where nothing is lacking.
    pub fn lack(&self, key: &Hash) -> Option<Lack> {
        let Some(record) = self.record(key).ok()? else {
            let is_aside = self.is_aside(&format!("{}.json", key.to_hex()));
            return is_aside.then_some(Lack::DamagedRecord);
        };
        if record.dropped {
            return None;
        }
        let mut lacking = Vec::new();
        for (name, artifact) in &record.outputs {
            let gone = |file: &&FileRecord| !self.has(&file.hash, file.len);
            let gone: Vec<&FileRecord> = artifact.files.iter().filter(gone).collect();
            if !gone.is_empty() {
                let is_damaged = gone.iter().any(|file| self.is_aside(&file.hash.to_hex()));
                let fate = if is_damaged { Fate::Damaged } else { Fate::Removed };
                lacking.push((name.clone(), fate));
            }
        }
        (!lacking.is_empty()).then_some(Lack::Outputs(lacking))
    }

    /// Whether a file of that name was put aside.
    fn is_aside(&self, name: &str) -> bool {
        self.tiers().any(|tier| files::is_plain(&tier.root().join("quarantine").join(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::bench::{flip, key, put, store};
    use super::*;

    #[test]
    fn what_is_lacking_is_told_from_what_was_never_there() {
        let (_folder, store) = store();
        assert_eq!(store.lack(&key("a")), None);
        let record = put(&store, "a", &["one", "two"]);
        assert_eq!(store.lack(&key("a")), None);
        let of = |number: usize| record.outputs["main"].files[number].hash;
        let object = store.object(&of(0));
        files::remove(&object).unwrap();
        let lack = |fate| Some(Lack::Outputs(vec![("main".to_owned(), fate)]));
        assert_eq!(store.lack(&key("a")), lack(Fate::Removed));
        flip(&store.object(&of(1)));
        store.quarantine(&of(1));
        assert_eq!(store.lack(&key("a")), lack(Fate::Damaged));
        flip(&store.record_path(&key("a")));
        assert_eq!(store.lack(&key("a")), Some(Lack::DamagedRecord));
    }
}
