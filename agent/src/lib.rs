//! The collector that runs on the suspect host: host -> capture -> bundle -> ship.

pub mod bundle;
pub mod capture;
pub mod cli;
pub mod host;
pub mod limits;
pub mod memory;
mod report;
pub mod run;
pub mod ship;
mod text;
