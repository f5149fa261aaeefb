//! The API as a client sees it, over the real components with a fake back end and a store in memory.

mod access;
mod calls;
mod deploy;
mod document;
mod invoke;
mod login;
mod protect;
mod refusals;
mod topics;
mod triggers;
mod walk;
mod world;
