//! The worker's side of the boundary: the same program, as a child process, with its standard input as the channel.
//!
//! SIGTERM means the same to it as the coordinator's word to stop, SIGUSR1 as that to save a checkpoint: a batch system
//! sends them to every process. Its standard output and error are the node's log. When the channel closes, the
//! coordinator is gone, and the worker ends at once: no orphan goes on computing for nobody.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use rustix::io::Errno;
use rustix::process::{
    Signal, WaitId, WaitIdOptions, getpid, kill_current_process_group, set_child_subreaper, waitid,
};

use super::checkpoint::Asked;
use super::execute::{Job, execute, forget_peak_memory};
use super::failure::Failure;
use super::kind::Registry;
use super::message::{FromWorker, PROTOCOL, ToWorker, receive, send};
use crate::store::files;

/// Computes the jobs that the coordinator sends, one after the other, as long as they are small and leave nothing behind.
/// `asked` is raised by signals too.
pub fn serve(registry: Registry, asked: &Asked) -> io::Result<()> {
    let mut channel = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let program = env!("CARGO_PKG_VERSION").to_owned();
    send(&mut channel, &FromWorker::Hello { protocol: PROTOCOL, program })?;
    // What a program leaves running becomes a child of this process, so that it is noticed.
    set_child_subreaper(Some(getpid()))?;
    let busy = Arc::new(AtomicBool::new(false));
    let (to_do, jobs) = mpsc::channel();
    let (mut reader, theirs) = (channel.try_clone()?, (asked.clone(), Arc::clone(&busy)));
    thread::spawn(move || listen(&mut reader, &theirs.0, &theirs.1, &to_do));
    let channel = Mutex::new(channel);
    let tell = |message: &FromWorker| {
        send(&mut *channel.lock().expect("no holder of the channel panics"), message)
    };
    // Ends when the channel is closed between two jobs.
    for job in jobs {
        let job: Box<Job> = job;
        take_log(&job)?;
        // The coordinator may be gone; then the other thread ends this process.
        let sink = |fraction, note| drop(tell(&FromWorker::Progress { fraction, note }));
        let outcome = if asked.is_cancelled() {
            // Asked to stop before there was anything to do.
            Err(Failure::interrupted())
        } else {
            forget_peak_memory();
            execute(&job, registry, &sink, asked)
        };
        busy.store(false, Ordering::SeqCst);
        tell(&outcome.map_or_else(FromWorker::Failed, FromWorker::Done))?;
        if !job.small || has_children() {
            break;
        }
        tell(&FromWorker::Idle)?;
    }
    Ok(())
}

/// Hears what the coordinator says.
fn listen(
    reader: &mut UnixStream,
    asked: &Asked,
    busy: &AtomicBool,
    to_do: &mpsc::Sender<Box<Job>>,
) {
    while let Ok(Some(message)) = receive(reader) {
        match message {
            ToWorker::Run(job) => {
                busy.store(true, Ordering::SeqCst);
                // Nobody listens where the worker is about to end.
                drop(to_do.send(job));
            }
            ToWorker::Cancel => asked.cancel.store(true, Ordering::Relaxed),
            ToWorker::Checkpoint => asked.checkpoint.store(true, Ordering::Relaxed),
            // As if the coordinator were gone.
            ToWorker::End => break,
        }
    }
    if busy.load(Ordering::SeqCst) {
        tracing::error!("the coordinator is gone; ending");
        // With all that this worker has started: it leads a process group of its own.
        let _ = kill_current_process_group(Signal::KILL);
        process::abort();
    }
}

/// Has everything that is printed go to the log of a job.
fn take_log(job: &Job) -> io::Result<()> {
    let log = files::open_log(&job.log).map_err(io::Error::other)?;
    rustix::stdio::dup2_stdout(&log)?;
    rustix::stdio::dup2_stderr(&log)?;
    Ok(())
}

/// Whether a process that the last job started is still there.
fn has_children() -> bool {
    let any = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::All, any), Err(Errno::CHILD))
}
