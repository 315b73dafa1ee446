//! Ways to have a job computed: in a child process, or in a thread of this one.

use std::fs::File;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::checkpoint::Asked;
use super::execute::{Job, Produced, execute};
use super::failure::{Failure, FailureKind};
use super::graph::NodeId;
use super::kind::Registry;
use super::message::{FromWorker, PROTOCOL, ToWorker, receive, send};
use crate::store::files::{self, FileError};

/// What comes back from a running job.
#[derive(Debug)]
pub enum Report {
    /// How far it is.
    Progress {
        /// In [0, 1].
        fraction: f64,
        /// A few words.
        note: String,
    },
    /// It ended.
    Ended(Result<Produced, Failure>),
    /// Its record is written; or it is not: because its lease was lost (`false`), or could not be.
    Committed {
        /// What came of it.
        outcome: Result<bool, Failure>,
        /// How long the node took.
        seconds: f64,
        /// Its scalar results.
        metrics: Vec<(String, f64)>,
    },
}

/// Where reports go.
pub type Reports = Sender<(NodeId, Report)>;

/// A way to have jobs computed.
pub trait Executor: Send {
    /// Starts a job; exactly one [`Report::Ended`] follows.
    fn start(&self, id: NodeId, job: Job, reports: Reports) -> Box<dyn Handle>;
}

/// A job under way.
pub trait Handle: Send {
    /// Asks it to stop as soon as it can be done cleanly.
    fn cancel(&mut self);
    /// Asks it to save a checkpoint soon, and to go on.
    fn checkpoint(&mut self);
    /// Ends it at once; what runs in this very process can only be asked.
    fn kill(&mut self);
}

/// Runs jobs in threads of this process: for toy kinds and tests.
pub struct InProcess {
    registry: Registry,
    /// Threads that have computed a job and wait for another.
    idle: Arc<Mutex<Vec<Sender<InThread>>>>,
}

/// A job for a thread of this process.
type InThread = (Task, Asked);

impl InProcess {
    /// Runs kinds of a registry.
    pub fn of(registry: Registry) -> Self {
        Self { registry, idle: Arc::default() }
    }
}

impl Executor for InProcess {
    fn start(&self, id: NodeId, job: Job, reports: Reports) -> Box<dyn Handle> {
        let asked = Asked::default();
        let work = (Task { id, job, reports }, asked.clone());
        let waiting = self.idle.lock().expect("no holder of this lock panics").pop();
        match waiting {
            Some(thread) => thread.send(work).expect("an idle thread listens"),
            None => {
                let (registry, idle) = (self.registry, Arc::clone(&self.idle));
                thread::spawn(move || compute(registry, work, &idle));
            }
        }
        Box::new(asked)
    }
}

/// Computes one job after the other, as long as there are any.
fn compute(registry: Registry, first: InThread, idle: &Mutex<Vec<Sender<InThread>>>) {
    let mut work = Some(first);
    while let Some((Task { id, job, reports }, asked)) = work {
        // A receiver that is gone has nothing left to hear.
        let tell = |report| drop(reports.send((id, report)));
        let sink = |fraction, note| tell(Report::Progress { fraction, note });
        let outcome = execute(&job, registry, &sink, &asked);
        let (sender, inbox) = mpsc::channel();
        // Before the end is told: then the next job finds it.
        idle.lock().expect("no holder of this lock panics").push(sender);
        tell(Report::Ended(outcome));
        drop(reports);
        work = inbox.recv().ok();
    }
}

impl Handle for Asked {
    fn cancel(&mut self) {
        self.cancel.store(true, Ordering::Relaxed);
    }
    fn checkpoint(&mut self) {
        self.checkpoint.store(true, Ordering::Relaxed);
    }
    fn kill(&mut self) {
        self.cancel();
    }
}

/// Runs jobs in child processes of the same binary, whose threads are those of their slots.
///
/// A worker that has computed a small job and left nothing behind waits for another in such a slot.
pub struct Processes {
    program: PathBuf,
    environment: Vec<(String, String)>,
    idle: Arc<Mutex<Vec<Idle>>>,
}

/// A child process, and both directions of the channel to it. A thread of its own attends to it.
struct Worker {
    child: Child,
    reader: UnixStream,
    writer: Arc<Mutex<UnixStream>>,
    /// What its slot added to its environment.
    slot: Vec<(String, String)>,
}

/// A job for a worker.
struct Task {
    id: NodeId,
    job: Job,
    reports: Reports,
}

/// A worker that waits. When this is dropped it ends.
struct Idle {
    process: u32,
    slot: Vec<(String, String)>,
    writer: Arc<Mutex<UnixStream>>,
    /// To the thread that attends to it.
    tasks: Sender<Task>,
}

impl Processes {
    /// Workers of this very binary, even if the file at its path has been replaced since it started.
    pub fn of_this_program() -> Self {
        let program = PathBuf::from("/proc/self/exe");
        Self { program, environment: Vec::new(), idle: Arc::default() }
    }

    /// Sets a variable in the environment of every worker.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl Executor for Processes {
    fn start(&self, id: NodeId, job: Job, reports: Reports) -> Box<dyn Handle> {
        let waiting = if job.small { take_idle(&self.idle, &job.environment) } else { None };
        let task = Task { id, job, reports };
        if let Some(Idle { writer, tasks, .. }) = waiting {
            tasks.send(task).expect("whoever attends to an idle worker listens");
            return Box::new(Channel(Some(writer)));
        }
        match self.spawn(&task.job) {
            Ok(worker) => {
                let handle = Channel(Some(Arc::clone(&worker.writer)));
                let idle = Arc::clone(&self.idle);
                thread::spawn(move || attend(worker, task, &idle));
                Box::new(handle)
            }
            Err(error) => {
                let Task { id, reports, .. } = task;
                drop(reports.send((id, Report::Ended(Err(not_started(&error))))));
                Box::new(Channel(None))
            }
        }
    }
}

fn not_started(error: &io::Error) -> Failure {
    let failure = Failure::new(FailureKind::Resource, format!("cannot start a worker: {error}"));
    let of_file = error.get_ref().and_then(|inner| inner.downcast_ref::<FileError>());
    let too_many = files::are_too_many_open(error).then_some(files::TOO_MANY_OPEN);
    match of_file.and_then(FileError::hint).or(too_many) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Finds a worker that waits with that environment and is alive.
fn take_idle(idle: &Mutex<Vec<Idle>>, slot: &[(String, String)]) -> Option<Idle> {
    let mut idle = idle.lock().expect("no holder of this lock panics");
    loop {
        let at = idle.iter().position(|worker| worker.slot == slot)?;
        let worker = idle.swap_remove(at);
        if !has_ended(worker.process) {
            return Some(worker);
        }
    }
}

/// Whether a child process has ended, without taking note of it.
fn has_ended(process: u32) -> bool {
    let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) else { return true };
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::Pid(pid), ended), Ok(None))
}

impl Processes {
    /// Starts a worker; it has not said a word yet.
    fn spawn(&self, job: &Job) -> io::Result<Worker> {
        let (ours, theirs) = UnixStream::pair()?;
        let writer = Arc::new(Mutex::new(ours.try_clone()?));
        let log: File = files::create(&job.log).map_err(io::Error::other)?;
        let child = Command::new(&self.program)
            .arg("worker")
            .envs(job.environment.iter().map(|(name, value)| (name, value)))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .process_group(0)
            .stdin(OwnedFd::from(theirs))
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Worker { child, reader: ours, writer, slot: job.environment.clone() })
    }
}

/// Hears who is speaking.
fn greet(reader: &mut UnixStream) -> io::Result<()> {
    match receive(reader)? {
        Some(FromWorker::Hello { protocol: PROTOCOL, .. }) => Ok(()),
        Some(other) => Err(io::Error::other(format!("it speaks another protocol: {other:?}"))),
        None => Err(io::Error::other("it ended before it said a word")),
    }
}

/// Has a worker compute one job after the other, as long as it takes any.
fn attend(mut worker: Worker, first: Task, idle: &Mutex<Vec<Idle>>) {
    let greeted = greet(&mut worker.reader);
    let mut task = first;
    loop {
        let Task { id, job, reports } = task;
        let said = match &greeted {
            Ok(()) => converse(id, &job, &mut worker, &reports),
            Err(error) => Some((Err(not_started(error)), false)),
        };
        let Some((ended, true)) = said else {
            // One that waits for more ends when the channel is closed. It may be already.
            drop(worker.reader.shutdown(Shutdown::Both));
            end_group(&worker.child);
            let status = worker.child.wait();
            let ended = said.map_or_else(|| Err(died(status, &job.log)), |(ended, _)| ended);
            drop(reports.send((id, Report::Ended(ended))));
            return;
        };
        let (tasks, inbox) = mpsc::channel();
        let (slot, writer) = (worker.slot.clone(), Arc::clone(&worker.writer));
        let waiting = Idle { process: worker.child.id(), slot, writer, tasks };
        // Before the end is told: then the next job finds it.
        idle.lock().expect("no holder of this lock panics").push(waiting);
        drop(reports.send((id, Report::Ended(ended))));
        drop(reports);
        match inbox.recv() {
            Ok(next) => task = next,
            // Nobody wants it any more: it ends when the channel closes, or has ended already.
            Err(_) => {
                drop(worker.child.try_wait());
                return;
            }
        }
    }
}

/// Waits for a worker to end, and ends what it has started and left behind. The worker leads its own process group.
fn end_group(child: &Child) {
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return };
    // Not reaped yet, so that the number still belongs to it while its group is ended.
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    if waitid(WaitId::Pid(pid), ended).is_ok() {
        // Fails where nobody is left, as it should be.
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

/// Sends the job and passes on what the worker says, and whether it takes another; `None` where it ends without a last
/// word.
fn converse(
    id: NodeId,
    job: &Job,
    worker: &mut Worker,
    reports: &Reports,
) -> Option<(Result<Produced, Failure>, bool)> {
    match tell(&worker.writer, &ToWorker::Run(Box::new(job.clone()))) {
        Ok(()) => (),
        // It has ended, and how says more than this.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return None,
        Err(error) => {
            let message = format!("the job cannot be sent to its worker: {error}");
            return Some((Err(Failure::new(FailureKind::Internal, message)), false));
        }
    }
    let ended = loop {
        match receive(&mut worker.reader).ok()?? {
            FromWorker::Progress { fraction, note } => {
                drop(reports.send((id, Report::Progress { fraction, note })));
            }
            FromWorker::Done(produced) => break Ok(produced),
            FromWorker::Failed(mut failure) => {
                failure.log_tail = tail(&job.log);
                break Err(failure);
            }
            FromWorker::Hello { .. } | FromWorker::Idle => return None,
        }
    };
    let again = job.small && matches!(receive(&mut worker.reader), Ok(Some(FromWorker::Idle)));
    Some((ended, again))
}

/// Sends a frame whole: the run may ask a worker to stop while its job is being sent.
fn tell(writer: &Mutex<UnixStream>, message: &ToWorker) -> io::Result<()> {
    send(&mut *writer.lock().expect("no holder of the channel panics"), message)
}

/// Explains a worker that ended without a word.
fn died(status: io::Result<std::process::ExitStatus>, log: &Path) -> Failure {
    let signal = status.as_ref().ok().and_then(ExitStatusExt::signal);
    let mut failure = match (signal, status) {
        (Some(signal), _) => Failure::ended_by(signal),
        (None, Ok(status)) => {
            Failure::new(FailureKind::Killed, format!("the worker ended with {status}"))
        }
        (None, Err(error)) => {
            let message = format!("the worker could not be waited for: {error}");
            Failure::new(FailureKind::Killed, message)
        }
    };
    failure.log_tail = tail(log);
    failure
}

/// The last lines of a log.
fn tail(log: &Path) -> Vec<String> {
    const LINES: usize = 10;
    let text = files::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let text = text.unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].iter().map(|l| (*l).to_owned()).collect()
}

struct Channel(Option<Arc<Mutex<UnixStream>>>);

impl Channel {
    fn say(&self, message: &ToWorker) {
        if let Some(writer) = &self.0 {
            // A worker that is gone needs no word.
            drop(tell(writer, message));
        }
    }
}

impl Handle for Channel {
    fn cancel(&mut self) {
        self.say(&ToWorker::Cancel);
    }
    fn checkpoint(&mut self) {
        self.say(&ToWorker::Checkpoint);
    }
    fn kill(&mut self) {
        self.say(&ToWorker::End);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_job_that_cannot_be_sent_fails_and_its_worker_ends() {
        let folder = tempfile::tempdir().unwrap();
        // A worker that greets as one does, and waits for its job.
        let hello = FromWorker::Hello { protocol: PROTOCOL, program: "0".to_owned() };
        let mut frame = Vec::new();
        send(&mut frame, &hello).unwrap();
        files::write(&folder.path().join("hello"), &frame).unwrap();
        let program = folder.path().join("worker");
        let script = format!(
            "#!/bin/sh\ncat {0}/hello >&0\ncat > {0}/heard\ntouch {0}/ended\n",
            folder.path().display()
        );
        files::write(&program, script.as_bytes()).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let executor = Processes { program, environment: Vec::new(), idle: Arc::default() };
        let path = |name: &str| folder.path().join(name);
        let job = Job {
            node: "a".to_owned(),
            kind: "toy.constant".to_owned(),
            version: 1,
            parameters: serde_json::Value::Null,
            inputs: BTreeMap::new(),
            objects: Vec::new(),
            // JSON holds text only.
            cache: folder.path().join(OsStr::from_bytes(b"\xff")),
            scratch: path("scratch"),
            checkpoint: path("checkpoint"),
            checkpoint_every: 1.0,
            deadline: None,
            environment: Vec::new(),
            small: true,
            log: path("log"),
        };
        let (reports, inbox) = mpsc::channel();
        drop(executor.start(NodeId::new(0), job, reports));
        let (_, report) = inbox.recv_timeout(Duration::from_secs(20)).unwrap();
        let Report::Ended(Err(failure)) = report else { panic!("{report:?}") };
        assert!(failure.message.contains("cannot be sent"), "{failure:?}");
        assert!(path("ended").exists() && files::read(&path("heard")).unwrap().is_empty());
    }
}
