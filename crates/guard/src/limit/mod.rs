//! Limits by rate and by requests in flight, and what operators block.
