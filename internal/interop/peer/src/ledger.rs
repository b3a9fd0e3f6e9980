//! What is known of every connection, kept where the stdin thread can read it while all tasks hang.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::pattern::Sum;
use crate::protocol::{Conversation, Event, State};

#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<State>>);

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("a panic ends the process")
    }

    pub fn count_accept_poll(&self) {
        self.lock().accept_polls += 1;
    }

    pub fn print(&self) {
        Event::State(&self.lock()).print();
    }

    /// Begins the entry of a new connection.
    pub fn enter(&self, addr: SocketAddr, accepted: bool) -> Entry {
        let mut state = self.lock();
        let round = state
            .conversations
            .iter()
            .filter(|c| c.addr == addr)
            .count() as u64;
        state.conversations.push(Conversation {
            addr,
            accepted,
            round,
            phase: "new",
            sent: 0,
            received: 0,
            sum: Sum::default().0,
            error: None,
        });
        Entry {
            ledger: self.clone(),
            index: state.conversations.len() - 1,
            round,
        }
    }
}

/// The place of one connection in the ledger.
pub struct Entry {
    ledger: Ledger,
    index: usize,
    pub round: u64,
}

impl Entry {
    fn update(&self, change: impl FnOnce(&mut Conversation)) {
        change(&mut self.ledger.lock().conversations[self.index]);
    }

    pub fn phase(&self, phase: &'static str) {
        self.update(|c| c.phase = phase);
    }

    pub fn sent(&self, bytes: usize) {
        self.update(|c| c.sent += bytes as u64);
    }

    pub fn received(&self, bytes: &[u8]) {
        self.update(|c| {
            c.received += bytes.len() as u64;
            let mut sum = Sum(c.sum);
            sum.add(bytes);
            c.sum = sum.0;
        });
    }

    /// Counts bytes that are not summed up.
    pub fn counted(&self, bytes: usize) {
        self.update(|c| c.received += bytes as u64);
    }

    pub fn finish(&self, result: std::io::Result<()>) {
        self.update(|c| {
            c.phase = "finished";
            c.error = result.err().map(|err| err.to_string());
            Event::Finished(c).print();
        });
    }
}
