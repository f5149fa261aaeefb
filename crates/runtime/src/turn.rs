//! Waiting for one turn behind the tasks that are due.
//!
//! Tokio's own way to yield also looks at every socket before the task goes on, which is one system call more than
//! the path of a short call can afford.

use std::future::poll_fn;
use std::task::Poll;

/// Completes when the tasks that are due now have had their turn.
pub async fn next_turn() {
    let mut has_waited = false;
    poll_fn(|cx| match std::mem::replace(&mut has_waited, true) {
        true => Poll::Ready(()),
        false => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn those_that_were_due_run_first() {
        let local = tokio::task::LocalSet::new();
        let order = Rc::new(RefCell::new(Vec::new()));
        let say = |what: &'static str| order.borrow_mut().push(what);
        local
            .run_until(async {
                let other = tokio::task::spawn_local({
                    let order = Rc::clone(&order);
                    async move { order.borrow_mut().push("other") }
                });
                let polite = tokio::task::spawn_local({
                    let order = Rc::clone(&order);
                    async move {
                        order.borrow_mut().push("before");
                        next_turn().await;
                        order.borrow_mut().push("after");
                    }
                });
                let last = tokio::task::spawn_local({
                    let order = Rc::clone(&order);
                    async move { order.borrow_mut().push("last") }
                });
                let _ = tokio::join!(other, polite, last);
            })
            .await;
        say("end");
        assert_eq!(*order.borrow(), ["other", "before", "last", "after", "end"]);
    }
}
