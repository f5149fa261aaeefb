//! Arrivals as they are replayed: who was called how often in which minute.
//!
//! Read from CSV files of the shape of the public Azure Functions traces of 2019 (`csv`), or made by `generate`. Kept
//! by minute, so that a replay touches only functions that are called, and packed: a day of a million functions takes some
//! hundred megabytes.

/// Seconds of one column of a trace.
pub(crate) const MINUTE_MS: u64 = 60_000;

/// Functions in one trace: ten times what the largest published trace has.
pub(crate) const FUNCTIONS_MAX: usize = 5_000_000;
/// Pairs of a function and a minute in one trace: a byte or two each.
pub(crate) const CALLED_MINUTES_MAX: usize = 1_000_000_000;
/// Functions of a part of a trace. Parts are replayed by themselves, several at a time, so a replay needs memory for as
/// many parts as there are cores. Each learns what its functions have in common for itself, as each of several nodes
/// would; a quarter of a million are more than enough for that.
pub(crate) const PART_FUNCTIONS: usize = 250_000;
/// Longest trace: what the scale of idle times spans, and the moments of a replay fit into 32 bits.
pub(crate) const MINUTES_MAX: usize = 30 * 24 * 60;

/// Memory of a function that no file tells: the median of the published trace.
pub(crate) const MEMORY_MB_DEFAULT: f32 = 170.0;
/// Duration of a call that no file tells: the median of the published trace.
pub(crate) const DURATION_MS_DEFAULT: f32 = 600.0;

/// What is known of a function besides its calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Traits {
    /// Memory of an instance, in megabytes.
    pub memory_mb: f32,
    /// How long a call takes, in milliseconds.
    pub duration_ms: f32,
}

impl Default for Traits {
    fn default() -> Self {
        Self { memory_mb: MEMORY_MB_DEFAULT, duration_ms: DURATION_MS_DEFAULT }
    }
}

/// A function was called in a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Called {
    pub(crate) function: u32,
    pub(crate) times: u32,
}

/// Arrivals of many functions over some time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trace {
    parts: Vec<Part>,
    minutes: usize,
}

/// Some functions of a trace.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Part {
    pub(crate) functions: Vec<Traits>,
    /// For every minute who was called, up to the last one in which somebody was.
    pub(crate) minutes: Vec<Minute>,
}

/// Who was called in one minute, packed: most functions are called once, and the next one is not far.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Minute {
    bytes: Vec<u8>,
    last: u32,
}

impl Minute {
    fn push(&mut self, Called { function, times }: Called) {
        let step = i64::from(function) - i64::from(self.last);
        let zigzag = ((step << 1) ^ (step >> 63)).cast_unsigned();
        self.number(zigzag << 1 | u64::from(times != 1));
        if times != 1 {
            self.number(times.into());
        }
        self.last = function;
    }

    /// Seven bits a byte, the lowest first; all but the last byte have the highest bit set.
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    /// The functions in the order in which they were added.
    pub(crate) fn called(&self) -> impl Iterator<Item = Called> {
        let mut bytes = self.bytes.iter();
        let mut function = 0_i64;
        std::iter::from_fn(move || {
            let packed = unpacked(&mut bytes)?;
            let zigzag = packed >> 1;
            function += (zigzag >> 1).cast_signed() ^ -((zigzag & 1).cast_signed());
            let times = if packed & 1 == 1 { unpacked(&mut bytes)? as u32 } else { 1 };
            Some(Called { function: function as u32, times })
        })
    }
}

fn unpacked(bytes: &mut std::slice::Iter<'_, u8>) -> Option<u64> {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = *bytes.next()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
        shift += 7;
    }
}

impl Trace {
    /// A trace of nothing that is so long.
    pub(crate) fn new(minutes: usize) -> Self {
        Self { parts: Vec::new(), minutes }
    }

    /// Functions in it, called or not.
    #[must_use]
    pub fn functions(&self) -> usize {
        self.parts.iter().map(|part| part.functions.len()).sum()
    }

    /// Its length in minutes.
    #[must_use]
    pub fn minutes(&self) -> usize {
        self.minutes
    }

    /// Calls in it.
    #[must_use]
    pub fn calls(&self) -> u64 {
        let minutes = self.parts.iter().flat_map(|part| &part.minutes);
        minutes.flat_map(Minute::called).map(|called| u64::from(called.times)).sum()
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Every so-manyth function of it.
    pub(crate) fn sample(&self, every: usize) -> Self {
        let mut sample = Self::new(self.minutes);
        let step = u32::try_from(every.max(1)).unwrap_or(u32::MAX);
        for part in &self.parts {
            let first = sample.functions();
            for traits in part.functions.iter().step_by(every.max(1)) {
                sample.push(*traits);
            }
            for (minute, called) in part.minutes.iter().enumerate() {
                for called in called.called().filter(|called| called.function.is_multiple_of(step)) {
                    sample.add(minute, first + (called.function / step) as usize, called.times);
                }
            }
        }
        sample
    }

    /// Adds a function; says which one it is.
    pub(crate) fn push(&mut self, traits: Traits) -> usize {
        let index = self.functions();
        if self.parts.last().is_none_or(|part| part.functions.len() >= PART_FUNCTIONS) {
            self.parts.push(Part::default());
        }
        if let Some(part) = self.parts.last_mut() {
            part.functions.push(traits);
        }
        index
    }

    /// What is known of a function.
    pub(crate) fn traits_mut(&mut self, function: usize) -> Option<&mut Traits> {
        self.parts.get_mut(function / PART_FUNCTIONS)?.functions.get_mut(function % PART_FUNCTIONS)
    }

    /// The trace goes on for so many minutes.
    pub(crate) fn lengthen(&mut self, minutes: usize) {
        self.minutes += minutes;
    }

    /// Adds calls of a function that is there; who is called how often is told in any order.
    pub(crate) fn add(&mut self, minute: usize, function: usize, times: u32) {
        let Some(part) = self.parts.get_mut(function / PART_FUNCTIONS) else { return };
        if times == 0 {
            return;
        }
        if minute >= part.minutes.len() {
            part.minutes.resize_with(minute + 1, Minute::default);
        }
        self.minutes = self.minutes.max(minute + 1);
        let function = u32::try_from(function % PART_FUNCTIONS).unwrap_or(u32::MAX);
        part.minutes[minute].push(Called { function, times });
    }

    /// Gives back memory that was held for growing.
    pub(crate) fn shrink(&mut self) {
        let minutes = self.parts.iter_mut().flat_map(|part| &mut part.minutes);
        minutes.for_each(|minute| minute.bytes.shrink_to_fit());
    }

    /// Who was called in a minute, by the places of functions in the whole trace.
    #[cfg(test)]
    pub(crate) fn called(&self, minute: usize) -> impl Iterator<Item = Called> {
        self.parts.iter().enumerate().flat_map(move |(index, part)| {
            let first = u32::try_from(index * PART_FUNCTIONS).unwrap_or(u32::MAX);
            let called = part.minutes.get(minute).into_iter().flat_map(Minute::called);
            called.map(move |called| Called { function: first + called.function, ..called })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_again_in_any_order() {
        let mut minute = Minute::default();
        let called = [(0, 1), (1, 1), (249_999, u32::MAX), (7, 1), (8, 600), (8, 2)]
            .map(|(function, times)| Called { function, times });
        called.into_iter().for_each(|called| minute.push(called));
        assert_eq!(minute.called().collect::<Vec<_>>(), called);
    }

    #[test]
    fn functions_beyond_a_part_are_in_the_next_one_and_in_the_sample() {
        let mut trace = Trace::new(2);
        for _ in 0..PART_FUNCTIONS + 3 {
            trace.push(Traits::default());
        }
        trace.add(1, PART_FUNCTIONS, 5);
        trace.add(1, 2, 3);
        assert_eq!(trace.parts().len(), 2);
        let called: Vec<_> = trace.called(1).map(|called| (called.function as usize, called.times)).collect();
        assert_eq!(called, [(2, 3), (PART_FUNCTIONS, 5)]);
        let sample = trace.sample(2);
        assert_eq!((sample.functions(), sample.minutes(), sample.calls()), (PART_FUNCTIONS / 2 + 2, 2, 8));
    }
}
