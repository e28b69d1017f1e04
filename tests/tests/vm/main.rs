//! Physical memory, on whole machines: what the agent reads is compared with what the guest's own kernel says.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests say what went wrong by failing"
)]

mod ends;
mod factory;
mod image;
mod lab;
mod refusals;
mod rig;
mod rootkit;
mod ways;
