//! The program driven as a user would: files in a temporary folder, commands, what they print and leave.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests end where something is not as it should be, and make the files that they need"
)]

mod bench;

mod cache;
mod caching;
mod checkpoints;
mod commands;
mod corpus;
mod crashes;
mod diff;
mod disks;
mod encoders;
mod explain;
mod graph;
mod kills;
mod layers;
mod manual;
mod mistakes;
mod places;
mod planning;
mod recordings;
mod reports;
mod science;
mod sharing;
mod shipped;
mod slots;
mod starting;
mod sweeps;
mod trust;
