//! The lines spoken with the test: one JSON object a line, commands on stdin, events on stdout.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The first line on stdin: what this end is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    pub role: Role,
    pub transport: Transport,
    pub driver: Driver,
    /// What is done with each connection that the other end opens. A pipe accepts none.
    pub accept: Option<Script>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Listener,
    Pipe,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// Listen here, and take the first TCP connection that comes.
    Bind(SocketAddr),
    Connect(SocketAddr),
}

/// Who polls the connections.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// One task polls all of them, at each wake-up and at each tick: vt-muxer at its best.
    OneTask,
    /// A task per connection, as in vt-muxer's README: shows what it loses.
    TaskPerConnection,
}

/// What is done with one connection. All bytes sent follow [`crate::pattern::Pattern`].
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    pub order: Order,
    /// Bytes to send. Without meaning for an echo; for an acknowledgement, the bytes that it is for.
    #[serde(default)]
    pub send: u64,
    /// Bytes offered by one call of write.
    pub write_size: usize,
    /// Flush after each write.
    pub flush: bool,
    /// Do not sum up what is received: that costs more than receiving it.
    #[serde(default)]
    pub unsummed: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Send and shut down; meanwhile read to the end.
    Duplex,
    /// Send and shut down, then read to the end.
    WriteFirst,
    /// Read to the end, then send and shut down.
    ReadFirst,
    /// Send back all that is read; shut down at the end.
    Echo,
    /// Read to the end, in reads of write_size, and send a byte for each `send` bytes read.
    Acknowledge,
    /// Read one byte, send, flush, and drop the connection without shutting it down.
    Abandon,
}

/// Every later line on stdin. The end of stdin ends the process.
#[derive(Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    Open {
        addr: SocketAddr,
        script: Script,
    },
    /// Poll accept once more.
    Poke,
    /// Answered by [`Event::State`], also when every task hangs.
    State,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event<'a> {
    /// The address bound, or the one connected to.
    Ready {
        addr: SocketAddr,
    },
    /// The script of a connection has come to its end.
    Finished(&'a Conversation),
    /// Accept has failed: the transport is gone.
    Transport {
        error: String,
    },
    State(&'a State),
}

/// How far a connection has come.
#[derive(Serialize)]
pub struct Conversation {
    pub addr: SocketAddr,
    pub accepted: bool,
    /// How many connections of this address there were before this one.
    pub round: u64,
    pub phase: &'static str,
    pub sent: u64,
    pub received: u64,
    /// FNV-1a over the bytes received.
    pub sum: u64,
    pub error: Option<String>,
}

#[derive(Default, Serialize)]
pub struct State {
    /// Polls of accept that have returned: tells that a wake-up came, whether or not it led to anything.
    pub accept_polls: u64,
    pub conversations: Vec<Conversation>,
}

impl Event<'_> {
    pub fn print(&self) {
        println!(
            "{}",
            serde_json::to_string(self).expect("events are plain data")
        );
    }
}
