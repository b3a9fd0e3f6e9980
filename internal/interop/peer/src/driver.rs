//! Who polls the connections.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Interval;

use crate::protocol::Driver;

type Member = Pin<Box<dyn Future<Output = ()>>>;

/// Starts futures, in the manner that the driver asks for.
#[derive(Clone)]
pub enum Spawner {
    OneTask(Rc<RefCell<Vec<Member>>>),
    TaskPerConnection,
}

impl Spawner {
    pub fn new(driver: Driver) -> Self {
        match driver {
            Driver::OneTask => Self::OneTask(Rc::default()),
            Driver::TaskPerConnection => Self::TaskPerConnection,
        }
    }

    pub fn spawn(&self, member: impl Future<Output = ()> + 'static) {
        match self {
            Self::OneTask(joining) => joining.borrow_mut().push(Box::pin(member)),
            Self::TaskPerConnection => drop(tokio::task::spawn_local(member)),
        }
    }

    /// Drives what was spawned, for as long as the process lives.
    pub async fn run(self) {
        match self {
            Self::OneTask(joining) => Crowd::new(joining).await,
            Self::TaskPerConnection => std::future::pending().await,
        }
    }
}

/// Polls all its members with its own waker, and at every tick.
///
/// vt-muxer demultiplexes only inside the poll of a reader or of accept, and remembers one waker,
/// that of the last to poll. If that one is done, nobody is woken for the others: hence one waker
/// for all, which FuturesUnordered would not give. And a poll that ends inside a frame header
/// registers no waker at all: hence the tick, which a timer wakes.
struct Crowd {
    members: Vec<Member>,
    joining: Rc<RefCell<Vec<Member>>>,
    tick: Interval,
}

impl Crowd {
    const TICK: Duration = Duration::from_millis(2);

    fn new(joining: Rc<RefCell<Vec<Member>>>) -> Self {
        Self {
            members: Vec::new(),
            joining,
            tick: tokio::time::interval(Self::TICK),
        }
    }
}

impl Future for Crowd {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        while this.tick.poll_tick(cx).is_ready() {}
        this.members
            .retain_mut(|member| member.as_mut().poll(cx).is_pending());
        // Members bring in new ones, and these again.
        loop {
            let joined = std::mem::take(&mut *this.joining.borrow_mut());
            if joined.is_empty() {
                return Poll::Pending;
            }
            for mut member in joined {
                if member.as_mut().poll(cx).is_pending() {
                    this.members.push(member);
                }
            }
        }
    }
}
