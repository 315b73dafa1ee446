//! The terms on which the nodes of a stage run: what they occupy, how often they are tried, how long they may take.
//!
//! None of it is part of a node's identity, so each is one value for all instances of a stage: a node that several
//! places of a sweep share could not run on the terms of each.

use std::time::Duration;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::quantity::{self, Misread};
use super::source::Origin;
use super::suggest;
use super::value::{Value, ValueKind};

/// How the nodes of a stage are run; never part of their identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What a node occupies while it runs.
    pub resources: Resources,
    /// How often a node that failed is tried again; absent where the file leaves that to the program.
    pub retries: Option<u32>,
    /// How long a node may run.
    pub timeout: Option<Duration>,
    /// Whether the outputs are worth keeping once all that takes them is computed.
    pub keep: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self { resources: Resources::default(), retries: None, timeout: None, keep: true }
    }
}

/// What a node occupies while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Where they were written.
    pub origin: Option<Origin>,
    /// CPU threads; as many as are free where absent.
    pub cpu: Option<usize>,
    /// Bytes of memory; as much as earlier runs took where absent.
    pub memory: Option<u64>,
    /// Thousandths of a GPU: 500 are half of one device, 2000 are two devices, 0 is none.
    pub gpu: u32,
    /// About how long a node runs.
    pub time: Option<Duration>,
}

/// The keys of a stage that are its terms.
pub const KEYS: [&str; 4] = ["resources", "retries", "timeout", "keep"];

/// Reads the terms of a stage's table; what is wrong with them goes to `errors`, and the rest comes back.
pub fn read(stage: &Value, errors: &mut Diagnostics) -> Terms {
    let mut terms = Terms::default();
    for entry in stage.entries() {
        let value = &entry.value;
        match entry.key.as_str() {
            "resources" => terms.resources = resources(value, errors),
            "retries" => terms.retries = taken(retries(value), errors),
            "timeout" => terms.timeout = taken(duration("timeout", value), errors),
            "keep" => terms.keep = taken(flag("keep", value), errors).unwrap_or(true),
            _ => (),
        }
    }
    terms
}

fn taken<T>(read: Result<T, Diagnostic>, errors: &mut Diagnostics) -> Option<T> {
    read.map_err(|mistake| errors.push(mistake)).ok()
}

fn resources(value: &Value, errors: &mut Diagnostics) -> Resources {
    let mut resources = Resources { origin: Some(value.origin), ..Resources::default() };
    let ValueKind::Table(entries) = &value.kind else {
        let hint = "write `resources = { cpu = 2, memory = \"4 GiB\" }`";
        errors.push(wrong("resources", "a table", value).hint(hint));
        return resources;
    };
    for entry in entries {
        let value = &entry.value;
        match entry.key.as_str() {
            "cpu" => resources.cpu = taken(cpu(value), errors),
            "memory" => resources.memory = taken(memory(value), errors),
            "gpu" => resources.gpu = taken(gpu(value), errors).unwrap_or(0),
            "time" => resources.time = taken(duration("time", value), errors),
            other => {
                let hint = suggest::hint(other, "resources", ["cpu", "memory", "gpu", "time"]);
                let message = format!("no resource is called `{other}`");
                errors.push(Diagnostic::at(entry.key_origin, message).hint(hint));
            }
        }
    }
    resources
}

fn cpu(value: &Value) -> Result<usize, Diagnostic> {
    let expected = "a whole number of threads";
    match value.kind {
        ValueKind::Int(0) => {
            Err(Diagnostic::at(value.origin, "a stage runs on at least 1 thread: `cpu` is 0"))
        }
        ValueKind::Int(number) => {
            usize::try_from(number).map_err(|_| wrong("cpu", expected, value))
        }
        _ => Err(wrong("cpu", expected, value)),
    }
}

fn memory(value: &Value) -> Result<u64, Diagnostic> {
    match &value.kind {
        ValueKind::Text(text) if !has_placeholder(text) => {
            quantity::size(text).map_err(|misread| misread.at("memory", value.origin))
        }
        _ => Err(wrong("memory", "a size with its unit", value)
            .or_hint("write it as text, such as \"4 GiB\"")),
    }
}

fn gpu(value: &Value) -> Result<u32, Diagnostic> {
    const MOST: f64 = 1_000_000.0;
    let expected = "a number of GPUs, or the fraction of one";
    let number = match value.kind {
        ValueKind::Int(number) => number as f64,
        ValueKind::Float(number) => number,
        _ => return Err(wrong("gpu", expected, value)),
    };
    let thousandths = (number * 1000.0).round();
    let hint = "whole numbers are whole devices; a number between 0 and 1 is a share of one device";
    if !(0.0..=MOST).contains(&number) || number > 1.0 && number.fract() != 0.0 {
        return Err(Diagnostic::at(value.origin, format!("`gpu` cannot be {number}")).hint(hint));
    }
    if number > 0.0 && thousandths < 1.0 {
        let message = format!("the smallest share of a GPU is 0.001: `gpu` is {number}");
        return Err(Diagnostic::at(value.origin, message).hint(hint));
    }
    Ok(thousandths as u32)
}

fn retries(value: &Value) -> Result<u32, Diagnostic> {
    let expected = "a whole number of at least 0";
    match value.kind {
        ValueKind::Int(number) => {
            u32::try_from(number).map_err(|_| wrong("retries", expected, value))
        }
        _ => Err(wrong("retries", expected, value)),
    }
}

fn duration(name: &str, value: &Value) -> Result<Duration, Diagnostic> {
    match &value.kind {
        ValueKind::Text(text) if !has_placeholder(text) => {
            quantity::duration(text).map_err(|misread| misread.at(name, value.origin))
        }
        _ => Err(wrong(name, "a duration with its units", value)
            .or_hint("write it as text, such as \"90s\", \"30 min\" or \"1h30m\"")),
    }
}

fn flag(name: &str, value: &Value) -> Result<bool, Diagnostic> {
    match value.kind {
        ValueKind::Bool(flag) => Ok(flag),
        _ => Err(wrong(name, "`true` or `false`", value)),
    }
}

fn has_placeholder(text: &str) -> bool {
    text.contains("${")
}

/// Says that a value is not what its key takes; a placeholder is told why it cannot stand there.
fn wrong(name: &str, expected: &str, value: &Value) -> Diagnostic {
    let found = match &value.kind {
        ValueKind::Text(text) if has_placeholder(text) => {
            let message = format!("`{name}` takes no `${{…}}`: it is the same for all instances");
            let hint = "write the value itself; a profile or `--set` may change it for a run";
            return Diagnostic::at(value.origin, message).hint(hint);
        }
        ValueKind::Int(number) => number.to_string(),
        ValueKind::Float(number) => number.to_string(),
        _ => value.type_name().to_owned(),
    };
    Diagnostic::at(value.origin, format!("`{name}` is {expected}, not {found}"))
}

impl Diagnostic {
    /// Adds what to do about it, unless that is said already.
    fn or_hint(self, hint: &str) -> Self {
        if self.hint.is_none() { self.hint(hint) } else { self }
    }
}

impl Misread {
    /// What is wrong with the value of a key.
    fn at(self, name: &str, origin: Origin) -> Diagnostic {
        Diagnostic::at(origin, format!("`{name}`: {}", self.message)).hint(self.hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Sources;
    use crate::spec::value::parse;

    /// Reads a stage's table, and what is said of it.
    fn read_text(text: &str) -> (Terms, String) {
        let (mut sources, mut errors) = (Sources::default(), Diagnostics::default());
        let source = sources.add("x.toml", text);
        let stage = parse(&mut sources, source, text, &mut errors);
        let terms = read(&stage, &mut errors);
        (terms, errors.render(&sources, false))
    }

    #[test]
    fn terms_are_read() {
        let (terms, errors) = read_text(
            "kind = 'k'\nresources = { cpu = 2, memory = '4 GiB', gpu = 0.5, time = '4h' }\n\
             retries = 3\ntimeout = '1h30m'\nkeep = false",
        );
        assert!(errors.contains("0 errors"), "{errors}");
        assert!(terms.resources.origin.is_some());
        let expected = Resources {
            origin: terms.resources.origin,
            cpu: Some(2),
            memory: Some(4 << 30),
            gpu: 500,
            time: Some(Duration::from_hours(4)),
        };
        let timeout = Some(Duration::from_mins(90));
        let expected = Terms { resources: expected, retries: Some(3), timeout, keep: false };
        assert_eq!(terms, expected);
        assert_eq!(read_text("kind = 'k'").0, Terms::default());
        for (written, thousandths) in [("1", 1000), ("2.0", 2000), ("0", 0), ("0.3333", 333)] {
            let (terms, errors) = read_text(&format!("resources.gpu = {written}"));
            assert_eq!(terms.resources.gpu, thousandths, "{errors}");
        }
    }

    #[test]
    fn every_mistake_has_its_message() {
        let check = |text: &str, expected: &[&str]| {
            let (_, errors) = read_text(text);
            for part in expected {
                assert!(errors.contains(part), "`{part}` is not in:\n{errors}");
            }
        };
        check("resources = 4", &["`resources` is a table, not 4", "cpu = 2", "1 error"]);
        check("resources = { cpus = 4 }", &["`cpus`", "did you mean `cpu`?"]);
        check("resources = { disk = 4 }", &["`disk`", "resources: cpu, memory, gpu, time"]);
        check("resources = { cpu = 0 }", &["at least 1 thread: `cpu` is 0"]);
        check("resources = { cpu = -1 }", &["a whole number of threads, not -1"]);
        check("resources = { cpu = 1.5 }", &["a whole number of threads, not 1.5"]);
        check("resources = { memory = 4 }", &["a size with its unit, not 4", "\"4 GiB\""]);
        check("resources = { memory = '4 Gb!' }", &["`memory`: `4 Gb!`", "no unit `Gb!`"]);
        check("resources = { gpu = 'one' }", &["the fraction of one, not a string"]);
        check("resources = { gpu = 1.5 }", &["`gpu` cannot be 1.5", "whole devices"]);
        check("resources = { gpu = -1 }", &["`gpu` cannot be -1"]);
        check("resources = { gpu = 1e-9 }", &["the smallest share of a GPU is 0.001"]);
        check("resources = { time = 4 }", &["a duration with its units, not 4", "30 min"]);
        check("timeout = '2 hours'", &["no unit `hours`", "units: d, h"]);
        check("timeout = '0s'", &["no time at all"]);
        check("retries = -1", &["`retries` is a whole number of at least 0, not -1"]);
        check("retries = 'often'", &["not a string"]);
        check("keep = 'no'", &["`keep` is `true` or `false`, not a string"]);
        for key in ["cpu", "memory", "gpu", "time"] {
            let text = format!("resources = {{ {key} = '${{n}}' }}");
            check(&text, &[&format!("`{key}` takes no `${{…}}`"), "write the value itself"]);
        }
        for key in KEYS {
            check(&format!("{key} = '${{n}}'"), &[&format!("`{key}` takes no `${{…}}`")]);
        }
        check("retries = -1\nkeep = 0\nresources = { cpu = 0, gpu = 1.5 }", &["4 errors"]);
    }
}
