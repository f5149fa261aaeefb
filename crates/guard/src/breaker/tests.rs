//! Breakers over a clock and a dice of the test's own.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alula_model::{
    BreakerSpec, Clock, ErrorCode, FunctionSpec, Name, Phases, Qualifier, Switch, Timestamp, VersionKey,
};
use proptest::prelude::*;
use tokio::time::Instant;

use super::machine::{Machine, Sample, Verdict};
use super::*;
use crate::Ended;

#[derive(Debug, Default)]
struct StoppedClock(AtomicI64);

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

#[derive(Debug, Default)]
struct Heard {
    events: Mutex<Vec<BreakerEvent>>,
    gone: Mutex<Vec<Scope>>,
}

impl BreakerWatch for Heard {
    fn changed(&self, event: &BreakerEvent) {
        self.events.lock().unwrap().push(event.clone());
    }

    fn gone(&self, _namespace: &Name, _function: &Name, _version: u64, scope: &Scope) {
        self.gone.lock().unwrap().push(scope.clone());
    }
}

/// One function with breakers, and a moment that the test moves.
struct World {
    breakers: Breakers,
    heard: Arc<Heard>,
    key: VersionKey,
    spec: FunctionSpec,
    now: Instant,
}

/// Dice that always say the least: whatever may be refused is.
fn least() -> u64 {
    0
}

impl World {
    fn new() -> Self {
        let heard = Arc::new(Heard::default());
        let parts = BreakerParts {
            clock: Arc::new(StoppedClock::default()),
            random: least,
            watch: Arc::clone(&heard) as Arc<dyn BreakerWatch>,
        };
        let function = Name::new("f").unwrap();
        let key = VersionKey { namespace: Name::default_namespace(), function, version: 1 };
        Self {
            breakers: Breakers::new(parts),
            heard,
            key,
            spec: FunctionSpec::new("exec"),
            now: Instant::now(),
        }
    }

    fn later(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    fn call_as(&self, qualifier: &Qualifier, ended: &Ended) -> Result<(), Refused> {
        let called = Called { key: &self.key, qualifier, spec: &self.spec };
        let passed = self.breakers.admit(&called, self.now)?;
        self.breakers.ended(&called, passed, Some(ended), self.now);
        Ok(())
    }

    fn call(&self, ended: &Ended) -> Result<(), Refused> {
        self.call_as(&Qualifier::Latest, ended)
    }

    fn fail(&self, code: ErrorCode) -> Result<(), Refused> {
        self.call(&self.ended(Some(code), None, 0))
    }

    fn answer(&self, status: u16) -> Result<(), Refused> {
        self.call(&self.ended(None, Some(status), 0))
    }

    fn ended(&self, error: Option<ErrorCode>, http_status: Option<u16>, run_ms: u64) -> Ended {
        let phases = Phases { run_us: run_ms * 1_000, ..Phases::default() };
        Ended { error, http_status, phases, now: self.now }
    }

    fn states(&self) -> Vec<State> {
        let views = self.breakers.views(None, None, self.now);
        views.iter().map(|view| view.state).collect()
    }

    fn changes(&self) -> Vec<(State, State, Why)> {
        let events = self.heard.events.lock().unwrap();
        events.iter().map(|event| (event.from, event.to, event.why)).collect()
    }
}

#[test]
fn a_function_that_begins_to_fail_is_throttled_then_open_and_closed_by_probes() {
    let mut world = World::new();
    (0..19).for_each(|_| world.fail(ErrorCode::HandlerError).unwrap());
    assert_eq!(world.states(), [State::Closed]);
    world.fail(ErrorCode::FunctionCrashed).unwrap();
    assert_eq!(world.states(), [State::Throttled]);
    // The dice refuse whatever they may, so one call a second is left.
    let refused = world.fail(ErrorCode::HandlerError).unwrap_err();
    assert_eq!(refused.fault.code, ErrorCode::CircuitOpen);
    for _ in 0..5 {
        world.later(1_000);
        world.fail(ErrorCode::HandlerError).unwrap();
        world.fail(ErrorCode::HandlerError).unwrap_err();
    }
    assert_eq!(world.states(), [State::Open]);
    world.later(4_999);
    assert_eq!(world.answer(200).unwrap_err().retry_after_ms, Some(1));
    world.later(1);
    // 1, 2, 4 and 8 probes.
    (0..15).for_each(|_| world.answer(200).unwrap());
    assert_eq!(world.states(), [State::Closed]);
    use State::{Closed, HalfOpen, Open, Throttled};
    assert_eq!(
        world.changes(),
        [
            (Closed, Throttled, Why::Failing),
            (Throttled, Open, Why::StillFailing),
            (Open, HalfOpen, Why::Waited),
            (HalfOpen, Closed, Why::ProbesPassed)
        ]
    );
    let told = world.heard.events.lock().unwrap()[0].to_string();
    assert!(told.contains("closed to throttled: too many calls failed (0 good, 20 failed"), "{told}");
}

#[test]
fn probes_that_fail_double_the_wait_up_to_its_bound() {
    let mut world = World::new();
    open(&mut world);
    for wait_ms in [5_000, 10_000, 20_000, 30_000, 30_000] {
        world.later(wait_ms - 1);
        world.answer(200).unwrap_err();
        world.later(1);
        world.fail(ErrorCode::FunctionTimeout).unwrap();
        assert_eq!(world.states(), [State::Open], "after {wait_ms} ms");
    }
}

fn open(world: &mut World) {
    (0..20).for_each(|_| world.fail(ErrorCode::HandlerError).unwrap());
    for _ in 0..5 {
        world.later(1_000);
        world.fail(ErrorCode::HandlerError).unwrap();
    }
    assert_eq!(world.states(), [State::Open]);
}

#[test]
fn what_is_not_the_functions_fault_is_counted_and_changes_nothing() {
    let world = World::new();
    for _ in 0..1_000 {
        world.fail(ErrorCode::SandboxFailed).unwrap();
        world.fail(ErrorCode::ConcurrencyExceeded).unwrap();
        world.fail(ErrorCode::CallerGone).unwrap();
        world.fail(ErrorCode::LoopDetected).unwrap();
    }
    let views = world.breakers.views(None, None, world.now);
    assert_eq!(views[0].state, State::Closed);
    assert_eq!(views[0].counts, Counts { platform: 1_000, ..Counts::default() });
}

#[test]
fn a_healthy_function_has_no_breaker_and_a_rare_failure_opens_none() {
    let mut world = World::new();
    (0..100).for_each(|_| world.answer(200).unwrap());
    assert_eq!(world.states(), []);
    for _ in 0..200 {
        world.answer(500).unwrap();
        world.answer(200).unwrap();
        world.answer(404).unwrap();
        world.later(100);
    }
    assert_eq!(world.states(), [State::Closed]);
    world.later(20_000);
    world.breakers.forget_idle(world.now);
    assert_eq!(world.states(), []);
    assert_eq!(*world.heard.gone.lock().unwrap(), [Scope::Version(1)]);
}

#[test]
fn slow_calls_count_where_it_is_stated_what_is_slow() {
    let slow_calls = |spec: BreakerSpec| {
        let mut world = World::new();
        world.spec.breaker = Switch::On(spec);
        for _ in 0..10 {
            world.call(&world.ended(None, Some(200), 25_000)).unwrap();
            world.call(&world.ended(Some(ErrorCode::CallerGone), None, 25_000)).unwrap();
        }
        world.states()
    };
    assert_eq!(slow_calls(BreakerSpec::default()), []);
    let share = BreakerSpec { slow_timeout_percent: Some(80), ..BreakerSpec::default() };
    assert_eq!(slow_calls(share.clone()), [State::Throttled]);
    assert_eq!(slow_calls(BreakerSpec { slow_ms: Some(25_001), ..share }), []);
}

#[test]
fn the_callers_of_an_alias_that_fails_do_not_cost_the_others() {
    let world = World::new();
    let test = Qualifier::Alias(Name::new("test").unwrap());
    let failed = world.ended(Some(ErrorCode::HandlerError), None, 0);
    for _ in 0..500 {
        drop(world.call_as(&test, &failed));
        world.answer(200).unwrap();
    }
    let views = world.breakers.views(None, None, world.now);
    let states: Vec<_> = views.iter().map(|view| (view.scope.to_string(), view.state)).collect();
    assert_eq!(states, [("1".to_owned(), State::Closed), ("test".to_owned(), State::Throttled)]);
}

#[test]
fn a_hand_holds_open_or_closed_and_the_narrowest_counts() {
    let world = World::new();
    let hold = |of: &[(Scope, Held)]| {
        let hand = |held| Hand { held, by: "anna".to_owned(), at: Timestamp(0), reason: String::new() };
        let VersionKey { namespace, function, .. } = &world.key;
        let key = |scope| HandKey { namespace: namespace.clone(), function: function.clone(), scope };
        let hands = of.iter().map(|(scope, held)| (key(scope.clone()), hand(*held)));
        world.breakers.hold(hands.collect());
    };
    hold(&[(Scope::All, Held::Open)]);
    assert_eq!(world.answer(200).unwrap_err().held, Some(Held::Open));
    hold(&[(Scope::All, Held::Open), (Scope::Version(1), Held::Closed)]);
    (0..100).for_each(|_| world.fail(ErrorCode::HandlerError).unwrap());
    hold(&[(Scope::All, Held::Degraded)]);
    assert_eq!(world.answer(200).unwrap_err().held, Some(Held::Degraded));
    hold(&[]);
    // What was counted meanwhile counts.
    assert_eq!(world.states(), [State::Throttled]);
}

#[test]
fn a_breaker_that_is_off_does_nothing() {
    let mut world = World::new();
    world.spec.breaker = Switch::Off;
    (0..100).for_each(|_| world.fail(ErrorCode::HandlerError).unwrap());
    assert_eq!(world.states(), []);
}

#[test]
fn what_is_kept_is_bounded() {
    let mut world = World::new();
    let failed = world.ended(Some(ErrorCode::HandlerError), None, 0);
    for version in 1..=12_000 {
        world.key.version = version;
        world.call(&failed).unwrap();
    }
    let kept = world.states().len();
    assert!((9_000..=10_048).contains(&kept), "{kept}");
    world.key.version = 1;
    for alias in 0..1_000 {
        drop(world.call_as(&Qualifier::Alias(Name::new(&format!("a{alias}")).unwrap()), &failed));
    }
    assert_eq!(world.states().len(), kept + 16);
}

#[test]
fn the_refused_share_grows_while_it_does_not_get_better() {
    let (spec, start) = (BreakerSpec::default(), Instant::now());
    let mut machine = Machine::new(&spec, start);
    let (mut shares, mut dice) = (Vec::new(), 0.0);
    for step in 0..4_000_u64 {
        let now = start + Duration::from_millis(step * 10);
        // Two of three fail; dice that go round give every number the same chance.
        dice = (dice + 0.618_033_988_749_895) % 1.0;
        if let (Verdict::Pass(ticket), _) = machine.admit(&spec, now, dice) {
            let sample = if step % 3 == 0 { Sample::Good } else { Sample::Failed };
            machine.ended(&spec, now, ticket, sample);
        }
        if step % 1_000 == 999 {
            shares.push(machine.refused_share(&spec, now));
        }
    }
    assert_eq!(machine.state(), State::Throttled);
    assert!(shares[0] > 0.1 && shares.is_sorted() && shares[3] > 0.5, "{shares:?}");
}

/// What a caller does in a random life of a breaker.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Call(Sample),
    /// A call that is let through and never ends.
    Hang,
    Wait(u64),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let sample = prop_oneof![
        Just(Sample::Good),
        Just(Sample::Failed),
        Just(Sample::Failed),
        Just(Sample::Slow),
        Just(Sample::Platform),
        Just(Sample::Nothing)
    ];
    let deed = prop_oneof![
        8 => sample.prop_map(Deed::Call),
        1 => Just(Deed::Hang),
        2 => (0..8_000_u64).prop_map(Deed::Wait)
    ];
    proptest::collection::vec(deed, 0..400)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happened before, and although the dice refuse whatever they may: who keeps on asking gets through within the
    /// longest wait, again and again, and a function that is well from then on is closed in the end.
    #[test]
    fn the_last_chance_is_never_taken_away(deeds in deeds()) {
        let spec = BreakerSpec { min_calls: 3, ..BreakerSpec::default() };
        let mut now = Instant::now();
        let mut machine = Machine::new(&spec, now);
        for deed in deeds {
            match deed {
                Deed::Call(sample) => {
                    if let (Verdict::Pass(ticket), _) = machine.admit(&spec, now, 0.0) {
                        machine.ended(&spec, now, ticket, sample);
                    }
                }
                Deed::Hang => drop(machine.admit(&spec, now, 0.0)),
                Deed::Wait(millis) => now += Duration::from_millis(millis),
            }
        }
        let longest = Duration::from_millis(spec.open_ms_max) + LAST_CHANCE;
        for _ in 0..30 {
            let asked_from = now;
            let ticket = loop {
                match machine.admit(&spec, now, 0.0).0 {
                    Verdict::Pass(ticket) => break ticket,
                    Verdict::Refuse(_) => now += Duration::from_millis(100),
                }
                prop_assert!(now - asked_from <= longest, "{machine:?}");
            };
            machine.ended(&spec, now, ticket, Sample::Good);
            now += Duration::from_secs(1);
        }
        prop_assert_eq!(machine.state(), State::Closed);
    }
}
