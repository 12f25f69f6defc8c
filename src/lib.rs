//! pm3: a process manager for PID 1. This page is the map of the source.

pub mod cli;
pub mod config;
pub mod control;
pub mod engine;
pub mod supervisor;
pub mod sys;
