//! Physical memory.

pub mod symbols;
