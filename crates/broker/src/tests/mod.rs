//! What every kind of broker must do, once over the fake and once over each real server.

mod fake;
mod page;
mod server;
mod servers;
mod suite;
mod world;
