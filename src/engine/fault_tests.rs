//! The engine on disks that fail: whatever happens, nothing wrong is read, and the same run goes on afterwards.

use std::collections::BTreeMap;
use std::path::Path;

use super::event::Event;
use super::failure::FailureKind;
use super::run::Options;
use super::run_tests::{CHAIN, options, plan, run_graph};
use super::status::{Status, survey};
use crate::store::files::{self, faults};
use crate::store::{FileRecord, Hash, Store, hash};

/// The content of every node's main output, by name; all of them must be in the store, and sound.
fn contents(folder: &Path, store: &Store) -> BTreeMap<String, Hash> {
    let plan = plan(folder, CHAIN).unwrap();
    let statuses = survey(&plan.graph, store).unwrap();
    let content = |id: super::graph::NodeId| {
        let Status::Cached(result) = &statuses[id.index()] else { panic!("it has no result") };
        assert!(result.files().all(|file| is_sound(store, file)));
        (plan.graph.node(id).name.clone(), result.outputs["main"].hash)
    };
    plan.graph.ids().map(content).collect()
}

fn is_sound(store: &Store, file: &FileRecord) -> bool {
    hash::is(&store.object(&file.hash), &file.hash)
}

fn whole() -> BTreeMap<String, Hash> {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("cache")).unwrap();
    let plan = plan(folder.path(), CHAIN).unwrap();
    let (results, _) = run_graph(&plan.graph, &store, &options(&store, 2, false));
    assert_eq!(results.computed, 4);
    contents(folder.path(), &store)
}

/// The disk is full from the first write on, from the second, and so on, until a run needs no more than there is.
#[test]
fn a_disk_that_fills_up_at_any_write_costs_nothing_that_was_finished() {
    let expected = whole();
    for writes in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache");
        let graph = plan(folder.path(), CHAIN).unwrap().graph;
        let store = Store::open(&cache).unwrap();
        let options = options(&store, 2, true);
        faults::fill_after(&cache, writes);
        let (results, _) = run_graph(&graph, &store, &options);
        faults::fill_after(&cache, u64::MAX);
        let failed = !results.failures.is_empty();
        for (id, failure) in &results.failures {
            assert_eq!(failure.kind, FailureKind::Resource, "{writes}: {failure:?}");
            assert!(failure.hint.as_ref().is_some_and(|h| h.contains("free some space")));
            assert!(results.records[id.index()].is_none());
        }
        // What is recorded is whole, and what was said to be computed is recorded.
        let fresh = Store::open(&cache).unwrap();
        let there = survey(&graph, &fresh).unwrap();
        let cached = there.iter().filter_map(Status::record).count();
        assert!(cached >= results.computed, "{writes}: {cached} < {}", results.computed);
        for result in there.iter().filter_map(Status::record) {
            assert!(result.files().all(|file| is_sound(&fresh, file)), "{writes}");
        }
        let (again, _) = run_graph(&graph, &fresh, &options);
        assert!(again.failures.is_empty(), "{writes}: {:?}", again.failures);
        assert_eq!((again.cached, again.computed), (cached, 4 - cached), "{writes}");
        assert_eq!(contents(folder.path(), &fresh), expected, "{writes}");
        if !failed {
            assert!(writes > 20, "the whole run writes more than {writes} times");
            return;
        }
    }
}

type Damage<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;

/// Damages the result of `half` after a first run in every way that a file can be, then has `sum` computed anew.
#[test]
fn a_damaged_input_is_put_aside_and_computed_again() {
    let expected = whole();
    let cut = |bytes: &[u8]| bytes[..bytes.len() - 1].to_vec();
    let flip = |bytes: &[u8]| bytes.iter().map(|b| b ^ 1).collect::<Vec<u8>>();
    let damages: [(&str, Damage); 4] = [
        ("cut", &cut),
        ("emptied", &|_| Vec::new()),
        ("flipped", &flip),
        ("longer", &|bytes| [bytes, b"1"].concat()),
    ];
    for (what, damage) in damages {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("cache")).unwrap();
        let graph = plan(folder.path(), CHAIN).unwrap().graph;
        run_graph(&graph, &store, &options(&store, 2, false));
        let statuses = survey(&graph, &store).unwrap();
        let place = |name: &str| graph.find(name).unwrap().index();
        let half = statuses[place("half")].record().unwrap();
        let object = store.object(&half.outputs["main"].files[0].hash);
        let bytes = files::read(&object).unwrap();
        files::remove(&object).unwrap();
        files::write(&object, &damage(&bytes)).unwrap();
        // The sum's record is gone too: it has to be computed, and to read what is damaged.
        let hex = statuses[place("sum")].record().unwrap().key.to_hex();
        let record = store.root().join(format!("nodes/{}/{hex}.json", &hex[..2]));
        files::remove(&record).unwrap();
        let fresh = Store::open(store.cache()).unwrap();
        let second = Options { run: "second".into(), ..options(&fresh, 2, false) };
        let (results, events) = run_graph(&graph, &fresh, &second);
        assert!(results.failures.is_empty(), "{what}: {:?}", results.failures);
        assert_eq!((results.computed, results.cached), (2, 2), "{what}");
        if what == "flipped" {
            let told = |e: &Event| matches!(e, Event::Notice(words) if words.contains("damaged"));
            assert!(events.iter().any(told), "{events:?}");
            let aside = files::list(&fresh.root().join("quarantine")).unwrap();
            assert_eq!(aside.len(), 1);
        }
        assert_eq!(contents(folder.path(), &fresh), expected, "{what}");
    }
}

/// Every bit and every length of a record: it is read right or not at all, and the node computed again.
#[test]
fn a_damaged_record_is_computed_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("cache")).unwrap();
    let graph = plan(folder.path(), CHAIN).unwrap().graph;
    run_graph(&graph, &store, &options(&store, 2, false));
    let statuses = survey(&graph, &store).unwrap();
    let key = statuses[graph.find("sum").unwrap().index()].record().unwrap().key;
    let hex = key.to_hex();
    let path = store.root().join(format!("nodes/{}/{hex}.json", &hex[..2]));
    let whole = files::read(&path).unwrap();
    // The index would answer for the record, which it says nothing wrong of.
    let look = |bytes: &[u8]| {
        files::remove(&store.root().join("index")).unwrap();
        files::write(&path, bytes).unwrap();
        Store::open(store.cache()).unwrap().find(&key)
    };
    for len in (0..whole.len()).step_by(7) {
        assert!(matches!(look(&whole[..len]), Ok(None)), "cut to {len}");
    }
    for bit in (0..whole.len() * 8).step_by(11) {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        // A flipped digit of the format may make it a later one, which is refused.
        assert!(!matches!(look(&bytes), Ok(Some(_))), "bit {bit}");
    }
    assert!(look(&whole).unwrap().is_some());
    let newer = String::from_utf8(whole).unwrap().replacen("\"format\": 2", "\"format\": 3", 1);
    let refused = look(newer.as_bytes()).unwrap_err().to_string();
    assert!(refused.contains("later version") && refused.contains("format 3"), "{refused}");
    let fresh = Store::open(store.cache()).unwrap();
    let (results, _) = run_graph(&graph, &fresh, &options(&fresh, 2, false));
    assert_eq!((results.failures.len(), results.cached), (1, 3));
    assert!(results.failures[0].1.message.contains("later version"));
    assert_eq!(files::read_text(&path).unwrap(), newer, "it is not replaced");
}
