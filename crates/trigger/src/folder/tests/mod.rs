//! Watched folders: real files, the kernel's own notices, a store in memory.

mod files;
mod trouble;
mod world;
