//! Frames between coordinator and worker: a length of four bytes, then JSON.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::execute::{Job, Produced};
use super::failure::Failure;

/// The version of these frames.
pub const PROTOCOL: u32 = 4;

/// What a worker says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromWorker {
    /// The first frame: who is speaking.
    Hello {
        /// The version of the frames.
        protocol: u32,
        /// The version of the program.
        program: String,
    },
    /// How far the node is.
    Progress {
        /// In [0, 1].
        fraction: f64,
        /// A few words, such as a loss.
        note: String,
    },
    /// The node is computed and its outputs are in the store.
    Done(Produced),
    /// The node failed.
    Failed(Failure),
    /// After one of the last two: the worker has left nothing behind and takes another job.
    Idle,
}

/// What a worker is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToWorker {
    /// Compute this.
    Run(Box<Job>),
    /// Stop as soon as it can be done cleanly.
    Cancel,
    /// Save a checkpoint soon, and go on.
    Checkpoint,
    /// End at once, with everything that was started.
    End,
}

/// No frame is larger: a length beyond it means that the stream is not ours.
const LARGEST: u32 = 64 << 20;

/// Writes one frame.
pub fn send(stream: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend_from_slice(&text);
    stream.write_all(&frame)
}

/// Reads one frame; `None` where the stream ends between frames.
pub fn receive<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    if stream.read(&mut length[..1])? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[1..])?;
    let length = u32::from_le_bytes(length);
    if length > LARGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a frame"));
    }
    let mut text = vec![0; length as usize];
    stream.read_exact(&mut text)?;
    Ok(Some(serde_json::from_slice(&text)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_in_order_and_a_cut_one_is_an_error() {
        let mut stream = Vec::new();
        send(&mut stream, &"one").unwrap();
        send(&mut stream, &"two").unwrap();
        let mut reader = stream.as_slice();
        assert_eq!(receive::<String>(&mut reader).unwrap().as_deref(), Some("one"));
        assert_eq!(receive::<String>(&mut reader).unwrap().as_deref(), Some("two"));
        assert_eq!(receive::<String>(&mut reader).unwrap(), None);
        assert!(receive::<String>(&mut &stream[..6]).is_err());
        assert!(receive::<String>(&mut &[255u8; 9][..]).is_err());
    }
}
