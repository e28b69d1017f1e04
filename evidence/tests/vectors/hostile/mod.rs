//! Collections with one flaw each; all else in them is consistent, so that nothing but the flaw can be found.

mod chain;
mod frames;
mod inventory;
mod manifest;
mod memory;
mod objects;
mod seal;
mod statement;
mod tar;

use crate::build::Vector;

pub fn all() -> Vec<Vector> {
    [
        objects::all(),
        chain::all(),
        manifest::all(),
        frames::all(),
        memory::all(),
        tar::all(),
        inventory::all(),
        seal::all(),
        statement::all(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
