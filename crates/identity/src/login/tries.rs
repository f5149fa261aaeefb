//! Who has tried in vain to log in, and when they may try again: pauses that grow with every failure.
//!
//! It is counted for a person from one address, for an address, and for a person from everywhere. The last is short at most,
//! since otherwise anybody could shut anybody out by trying. Memory only: a restart forgets, and each node counts by itself.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Failures after which the pauses begin, and the longest pause.
const OF_BOTH: (u32, Duration) = (5, Duration::from_secs(900));
const OF_ADDRESS: (u32, Duration) = (20, Duration::from_secs(900));
const OF_PERSON: (u32, Duration) = (50, Duration::from_secs(30));
/// The first pause; each is twice the one before.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// After so long without a failure all is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(3_600);
/// Counts that are kept; when there are more, those go that make nobody pause.
const COUNTS_MAX: usize = 50_000;
/// Longest name that is counted: no person has a longer one.
const NAME_BYTES_MAX: usize = 64;

/// Everybody who has tried in vain.
#[derive(Debug, Default)]
pub(crate) struct Tries(Mutex<HashMap<Who, Count>>);

/// Who tried.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    Both(String, Option<IpAddr>),
    Address(Option<IpAddr>),
    Person(String),
}

#[derive(Debug, Clone, Copy)]
struct Count {
    failures: u32,
    failed_at: Instant,
    next_at: Instant,
}

impl Who {
    fn all(name: &str, from: Option<IpAddr>) -> [Self; 3] {
        let name: String = name.chars().take(NAME_BYTES_MAX).collect();
        let from = from.map(network);
        [Self::Both(name.clone(), from), Self::Address(from), Self::Person(name)]
    }

    const fn rule(&self) -> (u32, Duration) {
        match self {
            Self::Both(..) => OF_BOTH,
            Self::Address(_) => OF_ADDRESS,
            Self::Person(_) => OF_PERSON,
        }
    }
}

impl Tries {
    /// For how long `name` may not try from there; `None` where nothing keeps them from it.
    pub(crate) fn pause(&self, name: &str, from: Option<IpAddr>) -> Option<Duration> {
        let now = Instant::now();
        let counts = self.counts();
        let next = Who::all(name, from).iter().filter_map(|who| Some(counts.get(who)?.next_at)).max()?;
        Some(next.saturating_duration_since(now)).filter(|pause| !pause.is_zero())
    }

    /// A try was in vain.
    pub(crate) fn failed(&self, name: &str, from: Option<IpAddr>) {
        let now = Instant::now();
        let mut counts = self.counts();
        for who in Who::all(name, from) {
            if !counts.contains_key(&who) {
                make_room(&mut counts, now);
            }
            let (free, longest) = who.rule();
            let count = counts.entry(who).or_insert(Count { failures: 0, failed_at: now, next_at: now });
            if now.duration_since(count.failed_at) > FORGET_AFTER {
                count.failures = 0;
            }
            count.failures = count.failures.saturating_add(1);
            count.failed_at = now;
            if let Some(beyond) = count.failures.checked_sub(free) {
                let pause = PAUSE_FIRST.saturating_mul(1 << beyond.min(16));
                count.next_at = now + pause.min(longest);
            }
        }
    }

    /// A try was right: what this person failed from there is forgotten, what the address failed for others is not.
    pub(crate) fn succeeded(&self, name: &str, from: Option<IpAddr>) {
        let [both, _, person] = Who::all(name, from);
        let mut counts = self.counts();
        counts.remove(&both);
        counts.remove(&person);
    }

    /// Who must pause somewhere, and for how long at the most.
    pub(crate) fn paused(&self) -> HashMap<String, Duration> {
        let now = Instant::now();
        let mut paused: HashMap<String, Duration> = HashMap::new();
        for (who, count) in self.counts().iter().filter(|(_, count)| count.next_at > now) {
            if let Who::Both(name, _) | Who::Person(name) = who {
                let longest = paused.entry(name.clone()).or_default();
                *longest = (*longest).max(count.next_at - now);
            }
        }
        paused
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Who, Count>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_room(counts: &mut HashMap<Who, Count>, now: Instant) {
    if counts.len() < COUNTS_MAX {
        return;
    }
    // Who must pause is remembered for longest: a flood of invented names makes nobody's pause end.
    counts.retain(|_, count| count.next_at > now);
    if counts.len() >= COUNTS_MAX {
        counts.clear();
    }
}

/// What stands for one customer of a network: of an IPv6 address the first half.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => std::net::Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_end() {
        let (tries, here) = (Tries::default(), address("192.0.2.1"));
        for _ in 0..4 {
            tries.failed("anna", here);
            assert_eq!(tries.pause("anna", here), None);
        }
        for seconds in [1, 2, 4, 8] {
            tries.failed("anna", here);
            assert_eq!(tries.pause("anna", here), Some(Duration::from_secs(seconds)));
            tokio::time::advance(Duration::from_secs(seconds)).await;
            assert_eq!(tries.pause("anna", here), None);
        }
        for _ in 0..100 {
            tries.failed("anna", here);
        }
        assert_eq!(tries.pause("anna", here), Some(OF_BOTH.1), "and not without end");
        tokio::time::advance(FORGET_AFTER + Duration::from_secs(1)).await;
        tries.failed("anna", here);
        assert_eq!(tries.pause("anna", here), None, "forgotten after an hour");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_shut_out_for_long_by_somebody_elsewhere() {
        let tries = Tries::default();
        for number in 0..200 {
            tries.failed("anna", address(&format!("198.51.100.{number}")));
        }
        assert_eq!(tries.pause("anna", address("192.0.2.1")), Some(OF_PERSON.1));
        assert_eq!(tries.paused(), HashMap::from([("anna".to_owned(), OF_PERSON.1)]));
        assert_eq!(tries.pause("bob", address("192.0.2.1")), None);
        tries.succeeded("anna", address("192.0.2.1"));
        assert_eq!(tries.pause("anna", address("192.0.2.1")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_tries_everybody_is_paused_whatever_name_it_takes() {
        let tries = Tries::default();
        for number in 0..20 {
            tries.failed(&format!("user-{number}"), address(&format!("2001:db8::{number}")));
        }
        assert!(tries.pause("anna", address("2001:db8::ffff")).is_some());
        assert_eq!(tries.pause("anna", address("2001:db8:0:1::1")), None);
        tries.succeeded("anna", address("2001:db8::1"));
        assert!(tries.pause("bob", address("2001:db8::1")).is_some(), "one right password opens no others");
    }

    #[tokio::test(start_paused = true)]
    async fn invented_names_do_not_use_up_memory() {
        let tries = Tries::default();
        for number in 0..COUNTS_MAX {
            tries.failed(&format!("{number}{}", "x".repeat(500)), None);
        }
        assert!(tries.counts().len() <= COUNTS_MAX);
        assert!(tries.counts().keys().all(|who| !matches!(who, Who::Person(name) if name.len() > 64)));
    }
}
