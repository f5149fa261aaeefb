//! The scale of idle times: narrow bins for seconds, wide ones for days, so that a few dozen bytes cover both.
//!
//! The first bins are four seconds wide; from sixteen seconds on every doubling has four bins, so a bin is never
//! wider than a quarter of its start.

use std::time::Duration;

/// Bins of the scale. The last one ends after twelve days and takes in everything longer.
pub(crate) const BINS: usize = 68;

/// Width of the narrowest bins, in seconds: shorter pauses are not worth a decision of their own.
const UNIT_S: u32 = 4;

/// Where each bin starts, in seconds, and after the last one where the scale ends.
pub(crate) const STARTS_S: [u32; BINS + 1] = starts();

const fn starts() -> [u32; BINS + 1] {
    let mut starts = [0; BINS + 1];
    let mut bin = 0;
    while bin <= BINS {
        starts[bin] = if bin < 4 {
            bin as u32 * UNIT_S
        } else {
            let (octave, quarter) = ((bin - 4) / 4, (bin - 4) % 4);
            ((4 + quarter as u32) << octave) * UNIT_S
        };
        bin += 1;
    }
    starts
}

/// The bin of an idle time.
pub(crate) fn bin_of(idle: Duration) -> usize {
    let units = idle.as_secs() / u64::from(UNIT_S);
    if units < 4 {
        return usize::try_from(units).unwrap_or(0);
    }
    let octave = units.ilog2() - 2;
    let quarter = (units >> octave) & 3;
    let bin = u64::from(octave) * 4 + 4 + quarter;
    usize::try_from(bin).map_or(BINS - 1, |bin| bin.min(BINS - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_start_is_in_its_own_bin_and_the_moment_before_is_not() {
        for (bin, start_s) in STARTS_S[..BINS].iter().enumerate() {
            let start = Duration::from_secs((*start_s).into());
            assert_eq!(bin_of(start), bin);
            if bin > 0 {
                assert_eq!(bin_of(start - Duration::from_millis(1)), bin - 1);
            }
        }
    }

    #[test]
    fn what_is_longer_than_the_scale_is_in_the_last_bin() {
        assert_eq!(bin_of(Duration::from_secs(STARTS_S[BINS].into())), BINS - 1);
        assert_eq!(bin_of(Duration::MAX), BINS - 1);
        assert_eq!(STARTS_S[BINS] / 86_400, 12);
    }
}
