//! The scripts: what is said on one connection.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use vt_muxer::MuxConnection;

use crate::ledger::Entry;
use crate::pattern::Pattern;
use crate::protocol::{Order, Script};

type Reader = ReadHalf<MuxConnection>;
type Writer = WriteHalf<MuxConnection>;

pub async fn converse(conn: MuxConnection, opened: bool, script: Script, entry: Entry) {
    let pattern = Pattern::new(conn.addr().to_std(), opened, entry.round);
    let (mut reader, mut writer) = tokio::io::split(conn);
    let (reader, writer) = (&mut reader, &mut writer);
    entry.phase("talking");
    let result = match script.order {
        Order::Duplex => {
            // Not try_join!, which would cancel a shutdown and so leave half a frame on the wire.
            let (sent, received) = tokio::join!(
                send_and_end(writer, pattern, script, &entry),
                receive(reader, &entry),
            );
            sent.and(received)
        }
        Order::WriteFirst => match send_and_end(writer, pattern, script, &entry).await {
            Ok(()) => {
                entry.phase("ended, reading");
                receive(reader, &entry).await
            }
            err => err,
        },
        Order::ReadFirst => match receive(reader, &entry).await {
            Ok(()) => {
                entry.phase("read to the end, sending");
                send_and_end(writer, pattern, script, &entry).await
            }
            err => err,
        },
        Order::Echo => echo(reader, writer, script, &entry).await,
        Order::Acknowledge => acknowledge(reader, writer, script, &entry).await,
        Order::Abandon => match receive_one(reader, &entry).await {
            Ok(()) => send(writer, pattern, script, &entry).await,
            err => err,
        },
    };
    entry.finish(result);
}

async fn send(
    writer: &mut Writer,
    pattern: Pattern,
    script: Script,
    entry: &Entry,
) -> io::Result<()> {
    let mut buf = vec![0; script.write_size];
    let mut offset = 0;
    while offset < script.send {
        let n = (script.send - offset).min(buf.len() as u64) as usize;
        pattern.fill(offset, &mut buf[..n]);
        writer.write_all(&buf[..n]).await?;
        if script.flush {
            writer.flush().await?;
        }
        offset += n as u64;
        entry.sent(n);
    }
    Ok(())
}

async fn send_and_end(
    writer: &mut Writer,
    pattern: Pattern,
    script: Script,
    entry: &Entry,
) -> io::Result<()> {
    send(writer, pattern, script, entry).await?;
    writer.shutdown().await
}

async fn receive(reader: &mut Reader, entry: &Entry) -> io::Result<()> {
    let mut buf = vec![0; 64 << 10];
    loop {
        match reader.read(&mut buf).await? {
            0 => return Ok(()),
            n => entry.received(&buf[..n]),
        }
    }
}

async fn receive_one(reader: &mut Reader, entry: &Entry) -> io::Result<()> {
    let byte = reader.read_u8().await?;
    entry.received(&[byte]);
    Ok(())
}

async fn echo(
    reader: &mut Reader,
    writer: &mut Writer,
    script: Script,
    entry: &Entry,
) -> io::Result<()> {
    let mut buf = vec![0; script.write_size];
    loop {
        match reader.read(&mut buf).await? {
            0 => return writer.shutdown().await,
            n => {
                if script.unsummed {
                    entry.counted(n);
                } else {
                    entry.received(&buf[..n]);
                }
                writer.write_all(&buf[..n]).await?;
                if script.flush {
                    writer.flush().await?;
                }
                entry.sent(n);
            }
        }
    }
}

async fn acknowledge(
    reader: &mut Reader,
    writer: &mut Writer,
    script: Script,
    entry: &Entry,
) -> io::Result<()> {
    let mut buf = vec![0; script.write_size];
    let mut due = 0;
    loop {
        let n = reader.read(&mut buf).await?;
        if n == 0 {
            return writer.shutdown().await;
        }
        entry.counted(n);
        due += n as u64;
        while due >= script.send {
            due -= script.send;
            writer.write_all(b"a").await?;
            writer.flush().await?;
            entry.sent(1);
        }
    }
}
