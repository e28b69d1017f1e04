//! Flows of the orchestrator: from an alert to a sealed case, against a cloud that really runs what is sent to it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests say what went wrong by failing"
)]

mod bad_input;
mod bench;
mod credentials;
mod custody;
mod doctor;
mod export;
mod fleet;
mod json;
mod kill;
mod preflight;
mod region;
mod signers;
mod snapshot;
mod three;
mod timestamp;

pub use bench::{BUCKET, Bench, EVIDENCE, SUSPECTS};
