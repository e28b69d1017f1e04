//! The test rig: what the flow, fault and judge tests stand on.
//!
//! This library depends on no other crate of the workspace. It starts servers and runs programs; what a bundle
//! must look like is the tests' business.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken rig should stop the test loudly, at the place where it broke"
)]

pub mod rig;
