//! The component as a whole on the memory store, with the fake back end and builds in the bare launcher.

mod builds;
mod changes;
mod deploys;
mod packages;
mod world;
