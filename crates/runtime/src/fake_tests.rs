use super::*;
use crate::conformance::plan;
use crate::conformance::{self, CollectedLog, Fixtures, Traits, call};

fn conforming() -> Script {
    let handler = |call: &Call| match call.target.path() {
        "/crash" => Does::Crashes,
        "/hang" => Does::Hangs,
        "/fail" => Does::Fails(Fault::new(ErrorCode::HandlerError, "it failed")),
        _ => Does::Echoes,
    };
    Script { handler: Arc::new(handler), ..Script::default() }
}

#[tokio::test(start_paused = true)]
async fn the_fake_conforms() {
    let fixtures = Fixtures {
        plan: plan("fake", |spec| spec.concurrency = 8),
        broken: None,
        never_ready: None,
        log: Arc::new(CollectedLog::default()),
        has: Traits::default(),
    };
    conformance::check(&FakeBackend::new(conforming()), &fixtures).await;
}

#[tokio::test(start_paused = true)]
async fn starts_and_calls_take_the_time_of_the_script() {
    let fake = FakeBackend::new(Script {
        start: Duration::from_secs(2),
        init: Duration::from_secs(3),
        call: Duration::from_secs(5),
        ..Script::default()
    });
    let began = tokio::time::Instant::now();
    let started = fake.start(plan("fake", |_| {}), InstanceId::new("a")).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 5);
    started.instance.call(call("/", Body::empty())).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn everything_is_counted() {
    let fake = FakeBackend::default();
    fake.change(|script| script.start_faults.push_back(Fault::new(ErrorCode::InitFailed, "once")));
    let plan = plan("fake", |_| {});
    assert!(fake.start(Arc::clone(&plan), InstanceId::new("a")).await.is_err());
    let started = fake.start(plan, InstanceId::new("b")).await.unwrap();
    let answers =
        futures_util::future::join_all((0..3).map(|_| started.instance.call(call("/", Body::full("x")))))
            .await;
    assert_eq!(fake.counts().running, 3, "an answer whose body is not read yet still runs");
    drop(answers);
    started.instance.stop(StopGrace(Duration::ZERO)).await;
    let expected = Counts {
        breeds: 0,
        zygotes: 0,
        starts: 2,
        starts_lost: 1,
        stops: 1,
        calls: 3,
        instances: 0,
        instances_max: 1,
        running: 0,
        running_max: 3,
        running_in_one_max: 3,
    };
    assert_eq!(fake.counts(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_killed_instance_ends_its_calls() {
    let fake = FakeBackend::default();
    fake.change(|script| script.handler = Arc::new(|_| Does::Hangs));
    let started = fake.start(plan("fake", |_| {}), InstanceId::new("a")).await.unwrap();
    let (ended, ()) = tokio::join!(started.instance.call(call("/", Body::empty())), async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(fake.kill(&InstanceId::new("a")));
    });
    assert_eq!(ended.unwrap_err().code, ErrorCode::FunctionCrashed);
    assert!(started.instance.is_gone());
    assert!(!fake.kill(&InstanceId::new("a")));
}
