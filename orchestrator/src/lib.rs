//! The responder's program: trigger -> collect -> verify -> seal, recorded in the journal of a case.
//!
//! `case` decides and remembers without I/O but its own file; `aws` asks and acts; the folders between them are the stages
//! of the work, and `run` drives them.

mod aws;
pub mod case;
pub mod cli;
mod clock;
mod collect;
mod config;
mod copy;
mod custody;
mod export;
mod failure;
mod fetch;
mod preflight;
mod run;
mod seal;
mod snapshot;
mod verify;
