//! `exec`: any program as a stage.

use std::collections::BTreeMap;
use std::iter;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::artifacts::{file, table, tensors};
use crate::engine::context::{Context, is_output_name, output_folder};
use crate::engine::failure::{Failure, FailureKind};
use crate::engine::inputs::Inputs;
use crate::engine::machine::SLOT_VARIABLES;
use crate::engine::parameter::NamedPath;
use crate::engine::stage::{
    AnyArtifact, Artifact, Determinism, Files, Outputs, Part, Stage, Violation, each,
};
use crate::stages::shared::word::Word;
use crate::store::files;

/// Runs a program as a stage: what no built-in kind does is never a dead end.
///
/// The program runs in an empty folder that holds the `files`, under the paths at which they were written. In the
/// command, `{inputs.NAME}` is the path of an input (its only file, or the folder of its files; for several edges a
/// folder, in which `index.json` lists the `files` of each and, where it was gathered, its values `at` the axes) and
/// `{outputs.NAME}` the path at which an output is to be written: Parquet for a `table`, or CSV if it is declared as
/// `csv`, safetensors for `tensors`, anything for a `file`. It sees no environment but `PATH`, `HOME`, `LANG`, what `environment` names, and what it may
/// use: its threads (`OMP_NUM_THREADS`, `RAYON_NUM_THREADS`) and the GPUs that `resources` asks for
/// (`CUDA_VISIBLE_DEVICES`). The exit status 0 is success; a program that fails is run again only if the stage says how
/// often, as `retries = 2`. A single output is the stage's main one.
///
/// Source: none; the program brings its own.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// The program and its arguments.
    command: Vec<Word>,
    /// What the program reads, by name: an edge, or several.
    #[serde(default)]
    inputs: BTreeMap<String, Inputs<AnyArtifact>>,
    /// Scripts and other files or folders that the program needs. Their content is part of the stage's identity, and so are
    /// their paths as written, which the program sees. What a Python script imports from beside it comes along.
    #[serde(default)]
    files: Vec<NamedPath>,
    /// What the program writes, by name: its type.
    outputs: BTreeMap<String, OutputType>,
    /// Environment variables to set.
    #[serde(default)]
    environment: BTreeMap<String, Word>,
}

/// The type of an output.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OutputType {
    /// A table as a Parquet file.
    Table,
    /// A table as CSV with a line of names, which is kept as Parquet.
    Csv,
    /// A safetensors file.
    Tensors,
    /// Any file.
    File,
}

impl OutputType {
    fn name(self) -> &'static str {
        match self {
            Self::Table | Self::Csv => "table",
            Self::Tensors => "tensors",
            Self::File => "file",
        }
    }

    /// What the file is called inside the artifact.
    fn file(self) -> &'static str {
        match self {
            Self::Table => table::FILE,
            Self::Csv => "table.csv",
            Self::Tensors => tensors::FILE,
            Self::File => file::FILE,
        }
    }
}

impl Stage for Exec {
    const KIND: &'static str = "exec";
    const VERSION: u32 = 1;
    const DETERMINISM: Determinism = Determinism::External;
    const SMALL: bool = true;
    const EXAMPLE: &'static str = r#"
        [stages.embedding]
        kind = "exec"
        command = ["python3", "embed.py", "{inputs.features}", "{outputs.points}"]
        files = ["embed.py"]
        inputs = { features = "@features" }
        outputs = { points = "table" }
    "#;

    fn check(&self) -> Vec<Violation> {
        let mut broken = Vec::new();
        if self.command.first().is_none_or(|word| word.0.is_empty()) {
            broken.push(Violation::new("command", "must name a program"));
        }
        if self.outputs.is_empty() {
            broken.push(Violation::new("outputs", "must name at least one output"));
        }
        for (field, names) in [
            ("inputs", self.inputs.keys().collect::<Vec<_>>()),
            ("outputs", self.outputs.keys().collect()),
        ] {
            for name in names.into_iter().filter(|name| !is_output_name(name)) {
                let rule = format!("must have names of letters, digits, `_` and `-`, not `{name}`");
                broken.push(Violation::new(field, rule).at(Part::Key(name.clone())));
            }
        }
        for (index, Word(word)) in self.command.iter().enumerate() {
            if let Err(rule) = fill(word, &|hole| self.knows(hole).then(PathBuf::new)) {
                broken.push(Violation::new("command", rule).at(Part::Item(index)));
            }
        }
        let no_nul = "cannot hold the character NUL";
        broken.extend(each("command", &self.command, |word| !word.0.contains('\0'), no_nul));
        for (name, _) in self.environment.iter().filter(|(_, word)| word.0.contains('\0')) {
            broken.push(Violation::new("environment", no_nul).at(Part::Value(name.clone())));
        }
        for name in self.environment.keys().filter(|name| !is_variable(name)) {
            let rule = format!("must name variables, without `=` and not empty: `{name}`");
            broken.push(Violation::new("environment", rule).at(Part::Key(name.clone())));
        }
        for (index, file) in self.files.iter().enumerate() {
            let path = Path::new(file.written());
            if path.is_absolute() || path.components().any(|c| c.as_os_str() == "..") {
                let rule = format!("must lie below the experiment file: {}", file.written());
                broken.push(Violation::new("files", rule).at(Part::Item(index)));
            }
        }
        broken
    }

    fn outputs(&self) -> Outputs {
        let types = self.outputs.iter().map(|(name, kind)| (name.clone(), kind.name().to_owned()));
        let main = if self.outputs.len() == 1 { self.outputs.keys().next().cloned() } else { None };
        Outputs { main, types: types.collect() }
    }

    fn run(&self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        let folder = cx.scratch();
        for file in self.files.iter().flat_map(|file| iter::once(file).chain(file.imports())) {
            let copy = folder.join(file.written());
            files::copy(file.path(), &copy)?;
            anyhow::ensure!(file.is_planned(&copy), Failure::edited(file.written()));
        }
        let (mut paths, mut laid_out) = (BTreeMap::new(), Clearing::default());
        for (name, input) in &self.inputs {
            // Beside the folder in which the program runs, as the outputs are.
            let place = output_folder(cx.scratch(), &format!("in.{name}"));
            laid_out.push(&place);
            let path = match input {
                Inputs::One(input) => lay_out(&cx.load(input)?, &place)?,
                several => lay_out_all(&cx.load_all(several)?, &place)?,
            };
            paths.insert(format!("inputs.{name}"), path);
        }
        for (name, kind) in &self.outputs {
            let path = cx.output_folder(name)?.join(kind.file());
            paths.insert(format!("outputs.{name}"), path);
        }
        let fill_word = |Word(word): &Word| fill(word, &|hole| paths.get(hole).cloned());
        let words: Vec<String> =
            self.command.iter().map(fill_word).collect::<Result<_, _>>().map_err(Failure::user)?;
        let status = self.execute(cx, &words, folder)?;
        anyhow::ensure!(status.success(), ended(&words, status));
        for (name, kind) in &self.outputs {
            let path = &paths[&format!("outputs.{name}")];
            anyhow::ensure!(
                files::is_plain(path),
                Failure::data(format!(
                    "the program ended well but wrote no plain file as output `{name}`"
                ))
                .hint(format!("it is to write {{outputs.{name}}}, a path given in the command"))
            );
            check_written(path, *kind).with_context(|| format!("output `{name}`"))?;
            cx.declare_saved(name, kind.name());
        }
        Ok(())
    }
}

impl Exec {
    fn knows(&self, hole: &str) -> bool {
        match hole.split_once('.') {
            Some(("inputs", name)) => self.inputs.contains_key(name),
            Some(("outputs", name)) => self.outputs.contains_key(name),
            _ => false,
        }
    }

    /// Runs the program; what it prints goes to the log.
    fn execute(
        &self,
        cx: &Context<'_>,
        words: &[String],
        folder: &Path,
    ) -> anyhow::Result<ExitStatus> {
        tracing::info!("running {}", words.join(" "));
        // By its path, where it is found: only then is it started without a copy of this process being made.
        let mut command =
            Command::new(found_in_path(&words[0]).as_deref().unwrap_or(words[0].as_ref()));
        command.args(&words[1..]).current_dir(folder).stdin(Stdio::null()).env_clear();
        for name in ["PATH", "HOME", "LANG"].into_iter().chain(SLOT_VARIABLES) {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.environment.iter().map(|(name, Word(value))| (name, value)));
        let mut child = command.spawn().map_err(|error| {
            Failure::user(format!("cannot run `{}`: {error}", words[0]))
                .hint("a program is looked for in PATH; a script of your own is listed in `files`")
        })?;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if cx.cancel().load(Ordering::Relaxed) {
                child.kill()?;
                child.wait()?;
                anyhow::bail!(Failure::interrupted());
            }
            doze(&child);
        }
    }
}

/// Whether a text may name a variable of the environment.
fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

/// The failure of a program: its own, unless somebody else ended it.
fn ended(words: &[String], status: ExitStatus) -> Failure {
    let message = format!("`{}` ended with {status}", words.join(" "));
    match status.signal().map(Failure::ended_by).filter(|failure| failure.transient) {
        Some(failure) => Failure { message, ..failure },
        None => Failure::new(FailureKind::Program, message),
    }
}

/// Sleeps until a program ends, or long enough to notice an interrupt.
fn doze(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let ended = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let glance = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    match ended {
        // Interrupted by a signal, it only wakes up early.
        Some(ended) => drop(poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&glance))),
        // Systems without such descriptors.
        None => thread::sleep(Duration::from_millis(5)),
    }
}

/// Replaces `{inputs.x}` and `{outputs.x}` in a word; other braces stay.
fn fill(word: &str, path: &dyn Fn(&str) -> Option<PathBuf>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        let inside = &rest[at + 1..];
        let hole = inside.find('}').map(|end| &inside[..end]);
        match hole.filter(|h| h.starts_with("inputs.") || h.starts_with("outputs.")) {
            Some(hole) => {
                let path = path(hole);
                let path =
                    path.ok_or_else(|| format!("names `{{{hole}}}`, which is not declared"))?;
                out.push_str(&path.to_string_lossy());
                rest = &inside[hole.len() + 1..];
            }
            None => {
                out.push('{');
                rest = inside;
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Folders that go when this is dropped.
#[derive(Default)]
struct Clearing(Vec<PathBuf>);

impl Clearing {
    fn push(&mut self, folder: &Path) {
        self.0.push(folder.to_path_buf());
    }
}

impl Drop for Clearing {
    fn drop(&mut self) {
        // What cannot be removed now goes with the working folder of the run.
        let there = self.0.iter().filter(|folder| folder.is_dir());
        there.for_each(|folder| drop(files::remove_folder(folder)));
    }
}

/// Finds a program as the system does: one without a slash is looked for in the folders of `PATH`.
#[expect(clippy::disallowed_methods, reason = "where a program is found is no part of its result")]
fn found_in_path(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return None;
    }
    let path = std::env::var("PATH").ok()?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|p| files::is_program(p))
}

/// Puts an input's files where the program can read them; a single file is given by its own path.
///
/// They are not copied, for they may be large. The store's files are read-only; should a program change one all the same,
/// its hash tells before anything else reads it.
fn lay_out(artifact: &AnyArtifact, folder: &Path) -> anyhow::Result<PathBuf> {
    let listed = &artifact.files.0;
    let only = if listed.len() == 1 { listed.first_key_value() } else { None };
    // What a file is called matters where that says what is in it.
    if let Some((name, path)) = only
        && Path::new(name).extension().is_none()
    {
        return Ok(path.clone());
    }
    for (name, path) in listed {
        files::point(path, &folder.join(name))?;
    }
    Ok(only.map_or_else(|| folder.to_path_buf(), |(name, _)| folder.join(name)))
}

/// Puts several inputs where the program can read them: a folder for each, and `index.json`, which says what each is.
fn lay_out_all(
    artifacts: &[(&BTreeMap<String, Json>, AnyArtifact)],
    folder: &Path,
) -> anyhow::Result<PathBuf> {
    let mut index = Vec::new();
    for (number, (at, artifact)) in artifacts.iter().enumerate() {
        let number = number.to_string();
        for (name, path) in &artifact.files.0 {
            files::point(path, &folder.join(&number).join(name))?;
        }
        let names = artifact.files.0.keys();
        let files: Vec<String> = names.map(|name| format!("{number}/{name}")).collect();
        index.push(json!({ "at": at, "type": artifact.kind, "files": files }));
    }
    let text = serde_json::to_string_pretty(&index).expect("an index is plain data");
    files::write(&folder.join("index.json"), (text + "\n").as_bytes())?;
    Ok(folder.to_path_buf())
}

/// Reads what a program wrote, so that a wrong format is its own failure and not that of a later stage.
fn check_written(path: &Path, kind: OutputType) -> anyhow::Result<()> {
    let written = Files(BTreeMap::from([(kind.file().to_owned(), path.to_path_buf())]));
    match kind {
        OutputType::Table => table::Table::load(&written).map(drop),
        OutputType::Csv => {
            let hint =
                "CSV has a line of names, then as many values in each line, with commas between";
            let table = table::Table::of_csv(files::read(path)?)
                .map_err(|error| Failure::data(format!("it is no CSV: {error}")).hint(hint))?;
            table.save(path.parent().expect("an output has a folder"))?;
            Ok(files::remove(path)?)
        }
        OutputType::Tensors => tensors::Tensors::load(&written).map(drop),
        OutputType::File => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::file::PlainFile;
    use crate::artifacts::table::Table;
    use crate::stages::shared::bench::Bench;

    #[test]
    fn a_program_reads_inputs_and_writes_outputs() {
        let bench = Bench::new().put("words", &PlainFile(b"one two".to_vec()));
        let text = "command = ['sh', '-c', 'tr a-z A-Z < \"$1\" > \"$2\"; echo $GREETING >> \"$2\"', \
                    'sh', '{inputs.words}', '{outputs.loud}']\n\
                    inputs = { words = '@words' }\noutputs = { loud = 'file' }\n\
                    environment = { GREETING = 'hello' }";
        let results = bench.run::<Exec>(text).unwrap();
        assert_eq!(results.output::<PlainFile>("loud").0, b"ONE TWOhello\n");
    }

    #[test]
    fn a_program_that_ends_badly_is_told_from_one_that_was_ended() {
        let check = |script: &str, kind, transient| {
            let text = format!("command = ['sh', '-c', '{script}']\noutputs = {{ o = 'file' }}");
            let failure = Failure::from_error(Bench::new().run::<Exec>(&text).unwrap_err());
            assert_eq!((failure.kind, failure.transient), (kind, transient), "{failure:?}");
            assert!(failure.message.contains("sh -c"), "{failure}");
        };
        check("exit 3", FailureKind::Program, false);
        check("kill -SEGV $$", FailureKind::Program, false);
        check("kill -9 $$", FailureKind::Killed, true);
        check("kill -TERM $$", FailureKind::Killed, true);
    }

    #[test]
    fn tables_pass_and_failures_are_explained() {
        let table = Table::new().floats("x", [1.0, 2.0]);
        let bench = Bench::new().put("table", &table);
        let copy = "command = ['cp', '{inputs.t}', '{outputs.o}']\ninputs = { t = '@table' }\n";
        let results = bench.run::<Exec>(&format!("{copy}outputs = {{ o = 'table' }}")).unwrap();
        assert_eq!(results.output::<Table>("o"), table);
        let check = |text: &str, expected: &str| {
            let error = format!("{:#}", bench.run::<Exec>(text).unwrap_err());
            assert!(error.contains(expected), "{error}");
        };
        check("command = ['false']\noutputs = { o = 'file' }", "exit status: 1");
        check("command = ['true']\noutputs = { o = 'file' }", "no plain file as output `o`");
        check(
            "command = ['ln', '-s', '/bin/sh', '{outputs.o}']\noutputs = { o = 'file' }",
            "no plain file as output `o`",
        );
        for name in ["../..", "/home/me/results", "", ".", "a/b"] {
            let text = format!("command = ['true']\noutputs = {{ '{name}' = 'file' }}");
            check(&text, "must have names of letters");
            let inputs = format!("command = ['true']\ninputs = {{ '{name}' = '@table' }}\n");
            check(&(inputs + "outputs = { o = 'file' }"), "must have names of letters");
        }
        check(
            "command = ['no-such-program']\noutputs = { o = 'file' }",
            "cannot run `no-such-program`",
        );
        check("command = ['cp', '{inputs.x}']\noutputs = { o = 'file' }", "is not declared");
        check("command = ['touch', '{outputs.o}']\noutputs = { o = 'table' }", "output `o`");
        check("command = ['touch', '{outputs.o}']\noutputs = { o = 'csv' }", "it is no CSV");
        let csv = "command = ['sh', '-c', 'printf \"x,n,word\\n1.5,2,a\\n2,3,b\\n\" > $1', 'sh', '{outputs.o}']\n\
                   outputs = { o = 'csv' }";
        let frame = bench.run::<Exec>(csv).unwrap().output::<Table>("o").frame().unwrap();
        let types: Vec<String> = frame.dtypes().iter().map(ToString::to_string).collect();
        assert_eq!((frame.height(), types), (2, vec!["f64".into(), "i64".into(), "str".into()]));
        check("command = []\noutputs = {}", "must name a program");
    }
}
