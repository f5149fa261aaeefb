//! Circuit breakers: who fails again and again is asked less, and asked again in time.
