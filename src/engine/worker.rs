//! The worker's side of the boundary: the same program, as a child process, with its standard input as the channel.
//!
//! SIGTERM means the same to it as the coordinator's word to stop, SIGUSR1 as that to save a checkpoint: a batch system
//! sends them to every process. Its standard output and error are the node's log. When the channel closes, the coordinator is gone, and the worker
//! ends at once: no orphan goes on computing for nobody.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::{Signal, kill_current_process_group};

use super::checkpoint::Asked;
use super::execute::{Job, execute};
use super::failure::Failure;
use super::kind::Registry;
use super::message::{FromWorker, PROTOCOL, ToWorker, receive, send};

/// Computes the one job that the coordinator sends. `asked` is raised by signals too.
pub fn serve(registry: Registry, asked: &Asked) -> io::Result<()> {
    let mut channel = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let program = env!("CARGO_PKG_VERSION").to_owned();
    send(&mut channel, &FromWorker::Hello { protocol: PROTOCOL, program })?;
    loop {
        match receive(&mut channel)? {
            Some(ToWorker::Run(job)) => return compute(&job, registry, channel, asked),
            // Asked to stop before there was anything to do.
            Some(ToWorker::Cancel) => {
                return send(&mut channel, &FromWorker::Failed(Failure::interrupted()));
            }
            Some(ToWorker::Checkpoint) => asked.checkpoint.store(true, Ordering::Relaxed),
            None => return Ok(()),
        }
    }
}

fn compute(job: &Job, registry: Registry, channel: UnixStream, asked: &Asked) -> io::Result<()> {
    let finished = AtomicBool::new(false);
    let mut reader = channel.try_clone()?;
    let writer = Mutex::new(channel);
    let tell = |message: &FromWorker| {
        let mut stream = writer.lock().expect("no holder of the channel panics");
        send(&mut *stream, message)
    };
    // The coordinator may be gone; then the reader below ends this process.
    let sink = |fraction, note| drop(tell(&FromWorker::Progress { fraction, note }));
    thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                match receive(&mut reader) {
                    Ok(Some(ToWorker::Cancel)) => asked.cancel.store(true, Ordering::Relaxed),
                    Ok(Some(ToWorker::Checkpoint)) => {
                        asked.checkpoint.store(true, Ordering::Relaxed);
                    }
                    Ok(Some(ToWorker::Run(_)) | None) | Err(_) => break,
                }
            }
            if !finished.load(Ordering::SeqCst) {
                tracing::error!("the coordinator is gone; ending");
                // With all that this worker has started: it leads a process group of its own.
                let _ = kill_current_process_group(Signal::KILL);
                process::abort();
            }
        });
        let outcome = match execute(job, registry, &sink, asked) {
            Ok(produced) => FromWorker::Done(produced),
            Err(failure) => FromWorker::Failed(failure),
        };
        let sent = tell(&outcome);
        finished.store(true, Ordering::SeqCst);
        let stream = writer.lock().expect("no holder of the channel panics");
        // Ends the reader's wait, so that the scope can end.
        let closed = stream.shutdown(std::net::Shutdown::Both);
        sent.and(closed)
    })
}
