//! Alarms as a whole, on paused time: what is measured goes in, messages come out.

mod delivery;
mod lifecycle;
mod world;
