//! Schedules against a store in memory, with a clock that tests move.

mod operators;
mod slots;
mod trouble;
mod world;
