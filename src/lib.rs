//! pm3.

pub mod supervisor;
