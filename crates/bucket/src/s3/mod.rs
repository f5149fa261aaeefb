//! The S3-compatible endpoint: path-style requests with signatures of version 4, in headers or in the address.
//!
//! The crate `s3s` reads requests, checks signatures and writes answers; here is what it is told to do. `endpoint` names
//! every operation, and a module each does those on buckets, objects, listings and uploads. Everything else is answered
//! `NotImplemented`, and nothing is accepted that would be ignored (encryption with a customer's key, tags, locks).

mod answer;
mod checksum;
mod endpoint;
mod gate;
mod listings;
mod objects;
mod serve;
mod uploads;

pub use serve::{BoxError, Insider, Service, serve};

/// The region that everything lies in: the one that S3 clients take where none is said.
pub(crate) const REGION: &str = "us-east-1";
