//! Ways to have a job computed: in a child process, or in a thread of this one.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::execute::{Job, Produced, execute};
use super::failure::{Failure, FailureKind};
use super::graph::NodeId;
use super::kind::Registry;
use super::message::{FromWorker, PROTOCOL, ToWorker, receive, send};
use crate::store::files;

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
}

/// Where reports go.
pub type Reports = Sender<(NodeId, Report)>;

/// A way to have jobs computed.
pub trait Executor: Send {
    /// Starts a job; exactly one [`Report::Ended`] follows.
    fn start(&self, id: NodeId, job: Job, reports: Reports) -> Box<dyn Running>;
}

/// A job under way.
pub trait Running: Send {
    /// Asks it to stop as soon as it can be done cleanly.
    fn cancel(&mut self);
}

/// Runs each job in a thread of this process: for toy kinds and tests.
pub struct InProcess(pub Registry);

impl Executor for InProcess {
    fn start(&self, id: NodeId, job: Job, reports: Reports) -> Box<dyn Running> {
        let cancel = Arc::new(AtomicBool::new(false));
        let (flag, registry) = (Arc::clone(&cancel), self.0);
        thread::spawn(move || {
            // A receiver that is gone has nothing left to hear.
            let tell = |report| drop(reports.send((id, report)));
            let sink = |fraction, note| tell(Report::Progress { fraction, note });
            tell(Report::Ended(execute(&job, registry, &sink, &flag)));
        });
        Box::new(Flag(cancel))
    }
}

struct Flag(Arc<AtomicBool>);
impl Running for Flag {
    fn cancel(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs each job in a child process of the same binary, whose threads are those of its slot.
pub struct Processes {
    program: PathBuf,
    environment: Vec<(String, String)>,
}

impl Processes {
    /// Workers of this very binary, even if the file at its path has been replaced since it started.
    pub fn of_this_program() -> Self {
        Self { program: PathBuf::from("/proc/self/exe"), environment: Vec::new() }
    }

    /// Sets a variable in the environment of every worker.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl Executor for Processes {
    fn start(&self, id: NodeId, job: Job, reports: Reports) -> Box<dyn Running> {
        let log = job.log.clone();
        match self.spawn(&job) {
            Ok((mut child, reader, writer)) => {
                let writer = Arc::new(Mutex::new(writer));
                let handle = Channel(Some(Arc::clone(&writer)));
                thread::spawn(move || {
                    let ended = converse(id, job, reader, &writer, &reports);
                    end_group(&child);
                    let status = child.wait();
                    let ended = ended.unwrap_or_else(|| Err(died(status, &log)));
                    drop(reports.send((id, Report::Ended(ended))));
                });
                Box::new(handle)
            }
            Err(error) => {
                let message = format!("cannot start a worker: {error}");
                let failure = Failure::new(FailureKind::Resource, message);
                drop(reports.send((id, Report::Ended(Err(failure)))));
                Box::new(Channel(None))
            }
        }
    }
}

impl Processes {
    /// Starts a worker; yields it, and both directions of the channel to it.
    fn spawn(&self, job: &Job) -> io::Result<(Child, UnixStream, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        let writer = ours.try_clone()?;
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
        Ok((child, ours, writer))
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

/// Sends the job and passes on what the worker says; `None` where it ends without a last word.
fn converse(
    id: NodeId,
    job: Job,
    mut reader: UnixStream,
    writer: &Mutex<UnixStream>,
    reports: &Reports,
) -> Option<Result<Produced, Failure>> {
    let log = job.log.clone();
    match receive(&mut reader) {
        Ok(Some(FromWorker::Hello { protocol: PROTOCOL, .. })) => (),
        Ok(Some(other)) => {
            let message = format!("the worker speaks another protocol: {other:?}");
            return Some(Err(Failure::new(FailureKind::Internal, message)));
        }
        Ok(None) | Err(_) => return None,
    }
    tell(writer, &ToWorker::Run(Box::new(job))).ok()?;
    loop {
        match receive(&mut reader).ok()?? {
            FromWorker::Progress { fraction, note } => {
                drop(reports.send((id, Report::Progress { fraction, note })));
            }
            FromWorker::Done(produced) => return Some(Ok(produced)),
            FromWorker::Failed(mut failure) => {
                failure.log_tail = tail(&log);
                return Some(Err(failure));
            }
            FromWorker::Hello { .. } => return None,
        }
    }
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
impl Running for Channel {
    fn cancel(&mut self) {
        if let Some(writer) = &self.0 {
            // A worker that is gone needs no word.
            drop(tell(writer, &ToWorker::Cancel));
        }
    }
}
