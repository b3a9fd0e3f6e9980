//! The vt-muxer end of the interoperability tests. See ../../README.md.

mod converse;
mod driver;
mod ledger;
mod pattern;
mod protocol;

use std::future::poll_fn;
use std::io::{self, BufRead};
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use vt_muxer::{MuxListener, MuxPipe, thin_addr};

use converse::converse;
use driver::Spawner;
use ledger::Ledger;
use protocol::{Command, Event, Role, Script, Setup, Transport};

fn main() -> io::Result<()> {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    let setup: Setup = serde_json::from_str(&line)?;

    let ledger = Ledger::default();
    let (sender, commands) = unbounded_channel();
    std::thread::spawn({
        let ledger = ledger.clone();
        move || obey(&ledger, &sender)
    });

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, serve(setup, ledger, commands))
}

/// Reads commands. A thread of its own, so that State is answered, and the end of stdin obeyed,
/// whatever the tasks do.
fn obey(ledger: &Ledger, commands: &UnboundedSender<Command>) {
    for line in io::stdin().lock().lines() {
        let line = line.expect("stdin is readable");
        match serde_json::from_str(&line).expect("the line is a command") {
            Command::State => ledger.print(),
            command => drop(commands.send(command)),
        }
    }
    std::process::exit(0);
}

async fn serve(
    setup: Setup,
    ledger: Ledger,
    commands: UnboundedReceiver<Command>,
) -> io::Result<()> {
    let stream = establish(setup.transport).await?;
    // vt-muxer leaves this to its user, and else waits 40 ms for an acknowledgement at every turn.
    stream.set_nodelay(true)?;
    let spawner = Spawner::new(setup.driver);
    // A pipe never takes pokes, but must keep their channel open: the command loop ends with it.
    let (pokes, poked) = unbounded_channel();
    let pipe = match setup.role {
        Role::Pipe => MuxPipe::new(stream),
        Role::Listener => {
            let listener = MuxListener::new(stream);
            let pipe = listener.pipe().clone();
            let script = setup
                .accept
                .expect("a listener has a script for what it accepts");
            spawner.spawn(accept(
                listener,
                script,
                poked,
                spawner.clone(),
                ledger.clone(),
            ));
            pipe
        }
    };
    spawner.spawn(command(commands, pipe, pokes, spawner.clone(), ledger));
    spawner.run().await;
    Ok(())
}

async fn establish(transport: Transport) -> io::Result<TcpStream> {
    match transport {
        Transport::Bind(addr) => {
            let listener = TcpListener::bind(addr).await?;
            Event::Ready {
                addr: listener.local_addr()?,
            }
            .print();
            Ok(listener.accept().await?.0)
        }
        Transport::Connect(addr) => {
            let stream = TcpStream::connect(addr).await?;
            Event::Ready { addr }.print();
            Ok(stream)
        }
    }
}

/// Obeys until accept has failed, and then lets go of the transport, as a program would.
async fn command(
    mut commands: UnboundedReceiver<Command>,
    pipe: MuxPipe,
    pokes: UnboundedSender<()>,
    spawner: Spawner,
    ledger: Ledger,
) {
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            () = pokes.closed() => return,
        };
        match command {
            Some(Command::Open { addr, script }) => {
                spawner.spawn(open(pipe.clone(), addr, script, ledger.clone()));
            }
            Some(Command::Poke) => drop(pokes.send(())),
            Some(Command::State) => unreachable!("answered by the stdin thread"),
            None => return,
        }
    }
}

async fn open(pipe: MuxPipe, addr: SocketAddr, script: Script, ledger: Ledger) {
    let entry = ledger.enter(addr, false);
    match pipe
        .add_connection(thin_addr::SocketAddr::from_std(addr))
        .await
    {
        Ok(conn) => converse(conn, true, script, entry).await,
        Err(err) => entry.finish(Err(err)),
    }
}

/// Accepts until the transport fails.
async fn accept(
    listener: MuxListener,
    script: Script,
    mut poked: UnboundedReceiver<()>,
    spawner: Spawner,
    ledger: Ledger,
) {
    let mut failed = false;
    loop {
        let mut accepting = pin!(listener.accept());
        let accepted = poll_fn(|cx| {
            while let Poll::Ready(Some(())) = poked.poll_recv(cx) {}
            let accepted = accepting.as_mut().poll(cx);
            ledger.count_accept_poll();
            accepted
        });
        match accepted.await {
            Ok(conn) => {
                let entry = ledger.enter(conn.addr().to_std(), true);
                spawner.spawn(converse(conn, false, script, entry));
            }
            Err(err) => {
                // An error overtakes the connection that is still queued: the next call gives it.
                if failed {
                    return;
                }
                failed = true;
                Event::Transport {
                    error: err.to_string(),
                }
                .print();
            }
        }
    }
}
