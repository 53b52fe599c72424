//! Ours: `net/ring`, one thread that is not pinned.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::mpsc;

use ring::buffer::{Buffer, Pool, Slice};
use ring::executor::{self, Class};
use ring::file::{Durability, File, OpenOptions};
use ring::socket::{TcpListener, TcpStream};
use ring::thread::{self, ThreadOptions};

use crate::case::Place;
use crate::memory;
use crate::serve::{self, Appending, Group, Window};

const MEMORY_BYTES: usize = 16 << 20;

pub(crate) fn echo() -> io::Result<Infallible> {
    run(|| async {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), serve::BACKLOG).await?;
        let buffers = Pool::new("echo", MEMORY_BYTES).map_err(io::Error::other)?;
        serve::listening_at(listener.local_address())?;
        loop {
            let (stream, _) = listener.accept().await?;
            let buffer = buffers
                .take(serve::ECHO_BUFFER_BYTES)
                .await
                .map_err(io::Error::other)?;
            executor::spawn(Class::Latency, answer(stream, buffer)).detach();
        }
    })
}

async fn answer(stream: TcpStream, mut buffer: Buffer) -> io::Result<()> {
    loop {
        let (received, filled) = stream.receive(buffer, 0..serve::ECHO_BUFFER_BYTES).await;
        let received = received?;
        if received == 0 {
            return Ok(());
        }
        let bytes = filled.freeze(0..received);
        stream.send_all(vec![bytes.clone()]).await?;
        let Ok(free) = bytes.try_into_buffer() else {
            unreachable!("a send that has ended holds nothing");
        };
        buffer = free;
    }
}

pub(crate) fn append(appending: Appending) -> io::Result<Infallible> {
    run(|| async move {
        let pool = Pool::new("block", MEMORY_BYTES).map_err(io::Error::other)?;
        let mut buffer = pool.try_take(appending.block_bytes).map_err(io::Error::other)?;
        memory::fill(&mut buffer);
        let block = buffer.freeze(0..appending.block_bytes);
        loop {
            let options = OpenOptions {
                write: true,
                create: true,
                truncate: appending.place == Place::New,
                direct: true,
                ..OpenOptions::default()
            };
            let file = File::open(&appending.path, options).await?;
            let mut window = Window::open(&appending)?;
            while let Some(group) = window.next_group() {
                let group = Rc::new(group);
                let write = || write(file.clone(), block.clone(), group.clone());
                let writers: Vec<_> = (0..appending.in_flight)
                    .map(|_| executor::spawn(Class::Latency, write()))
                    .collect();
                for writer in writers {
                    writer.await?;
                }
                file.sync_data().await?;
            }
            window.close()?;
        }
    })
}

async fn write(file: File, block: Slice, group: Rc<Group>) -> io::Result<()> {
    while let Some(offset) = group.take() {
        let slices = vec![block.clone()];
        file.write_all_at(slices, offset, Durability::Completed).await?;
    }
    Ok(())
}

fn run<F, Fut>(main: F) -> io::Result<Infallible>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = io::Result<Infallible>>,
{
    let options = ThreadOptions {
        name: "ours".into(),
        memory_bytes: MEMORY_BYTES,
        ..ThreadOptions::default()
    };
    let (ended, end) = mpsc::channel();
    let thread = thread::spawn(options, || async move {
        // It is waited for below.
        let _ = ended.send(main().await);
    })?;
    thread.join_blocking();
    end.recv().map_err(io::Error::other)?
}
