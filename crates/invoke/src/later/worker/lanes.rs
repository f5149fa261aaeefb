//! What is known of every lane that has work: since when, and why it does not run now.

use std::collections::{BTreeSet, HashMap};

use alula_model::{Name, Timestamp};

use super::fair::{Chooser, Weights};
use crate::later::{Lane, LaneClass};

/// The lanes that have, or will have, something to claim.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    states: HashMap<Lane, State>,
    /// Lanes that wait for a moment.
    due: BTreeSet<(Timestamp, Lane)>,
    /// Lanes that wait for something of their function to end.
    full: HashMap<(Name, Name), Vec<Lane>>,
    chooser: Chooser,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its first message is not claimable, or its rate not there, before this moment.
    Until(Timestamp),
    /// It is in line.
    Ready,
    /// Something of its function must end first.
    Full,
    /// A claim is being made. What was heard meanwhile is kept.
    Claiming { heard: Option<Timestamp> },
}

impl Lanes {
    /// A message of `lane` may be claimed from `at` on.
    pub(super) fn heard(&mut self, lane: &Lane, at: Timestamp, now: Timestamp) {
        match self.states.get_mut(lane) {
            Some(State::Claiming { heard }) => *heard = Some(heard.map_or(at, |earlier| earlier.min(at))),
            Some(State::Ready | State::Full) => {}
            Some(State::Until(until)) if *until <= at => {}
            _ => self.wait_or_enter(lane, at, now),
        }
    }

    fn wait_or_enter(&mut self, lane: &Lane, at: Timestamp, now: Timestamp) {
        self.unset(lane);
        if at <= now {
            self.states.insert(lane.clone(), State::Ready);
            self.chooser.enter(lane);
        } else {
            self.states.insert(lane.clone(), State::Until(at));
            self.due.insert((at, lane.clone()));
        }
    }

    fn unset(&mut self, lane: &Lane) {
        match self.states.remove(lane) {
            Some(State::Until(at)) => drop(self.due.remove(&(at, lane.clone()))),
            Some(State::Ready) => self.chooser.leave(lane),
            Some(State::Full | State::Claiming { .. }) | None => {}
        }
    }

    /// Lets lanes in line whose moment has come.
    pub(super) fn tick(&mut self, now: Timestamp) {
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, lane)) = self.due.pop_first() {
                self.states.insert(lane.clone(), State::Ready);
                self.chooser.enter(&lane);
            }
        }
    }

    /// When the next lane's moment comes.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The lane whose turn it is.
    pub(super) fn next(&self, may: impl Fn(LaneClass) -> bool) -> Option<Lane> {
        self.chooser.next(may)
    }

    /// Takes a lane out of the line until something of its function has ended.
    pub(super) fn set_full(&mut self, lane: &Lane) {
        self.unset(lane);
        self.states.insert(lane.clone(), State::Full);
        let function = (lane.namespace.clone(), lane.function.clone());
        self.full.entry(function).or_default().push(lane.clone());
    }

    /// Takes a lane out of the line until `at`.
    pub(super) fn set_until(&mut self, lane: &Lane, at: Timestamp, now: Timestamp) {
        self.wait_or_enter(lane, at.max(now.plus_millis(1)), now);
    }

    /// Something of this function has ended.
    pub(super) fn ended(&mut self, lane: &Lane) {
        let function = (lane.namespace.clone(), lane.function.clone());
        for lane in self.full.remove(&function).unwrap_or_default() {
            if self.states.get(&lane) == Some(&State::Full) {
                self.states.insert(lane.clone(), State::Ready);
                self.chooser.enter(&lane);
            }
        }
    }

    /// A claim of `count` messages is being made.
    pub(super) fn claiming(&mut self, lane: &Lane, count: usize, weights: Weights) {
        self.chooser.charge(lane, count as u64, weights);
        self.unset(lane);
        self.states.insert(lane.clone(), State::Claiming { heard: None });
    }

    /// A claim was made; the next message may be claimed at `next`, if there is one.
    pub(super) fn claimed(&mut self, lane: &Lane, next: Option<Timestamp>, now: Timestamp) {
        let Some(State::Claiming { heard }) = self.states.remove(lane) else { return };
        if let Some(at) = [next, heard].into_iter().flatten().min() {
            self.wait_or_enter(lane, at, now);
        }
    }

    /// Forgets a lane: nothing of it is to run.
    pub(super) fn forget(&mut self, lane: &Lane) {
        self.unset(lane);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVEN: Weights = Weights { namespace: 1, function: 1 };

    fn lane() -> Lane {
        Lane::parse("a/f/general").unwrap()
    }

    fn next(lanes: &Lanes) -> Option<Lane> {
        lanes.next(|_| true)
    }

    #[test]
    fn a_lane_is_in_line_from_its_moment_on() {
        let mut lanes = Lanes::default();
        lanes.heard(&lane(), Timestamp(50), Timestamp(0));
        assert_eq!((next(&lanes), lanes.next_due()), (None, Some(Timestamp(50))));
        lanes.heard(&lane(), Timestamp(20), Timestamp(0));
        lanes.heard(&lane(), Timestamp(70), Timestamp(0));
        assert_eq!(lanes.next_due(), Some(Timestamp(20)));
        lanes.tick(Timestamp(20));
        assert_eq!((next(&lanes), lanes.next_due()), (Some(lane()), None));
    }

    #[test]
    fn what_is_heard_during_a_claim_is_not_lost() {
        let mut lanes = Lanes::default();
        lanes.heard(&lane(), Timestamp(0), Timestamp(0));
        lanes.claiming(&lane(), 1, EVEN);
        assert_eq!(next(&lanes), None);
        lanes.heard(&lane(), Timestamp(5), Timestamp(5));
        lanes.claimed(&lane(), None, Timestamp(6));
        assert_eq!(next(&lanes), Some(lane()));
        lanes.claiming(&lane(), 1, EVEN);
        lanes.claimed(&lane(), None, Timestamp(7));
        assert_eq!((next(&lanes), lanes.next_due()), (None, None));
    }

    #[test]
    fn a_full_function_comes_back_when_something_of_it_ends() {
        let mut lanes = Lanes::default();
        lanes.heard(&lane(), Timestamp(0), Timestamp(0));
        lanes.set_full(&lane());
        lanes.heard(&lane(), Timestamp(1), Timestamp(1));
        assert_eq!(next(&lanes), None);
        lanes.ended(&lane());
        assert_eq!(next(&lanes), Some(lane()));
    }
}
