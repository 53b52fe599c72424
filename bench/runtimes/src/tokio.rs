//! tokio: its runtime of one thread, which is not pinned. It has no direct writes of its own, and its files are the
//! standard library's on threads for what blocks: so are these, with open(2)'s flag.

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::task::{spawn, spawn_blocking};

use crate::case::Place;
use crate::memory::Aligned;
use crate::serve::{self, Appending, Group, Window};

pub(crate) fn echo() -> io::Result<Infallible> {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        serve::listening_at(listener.local_addr()?)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            spawn(answer(stream));
        }
    })
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; serve::ECHO_BUFFER_BYTES];
    loop {
        let received = stream.read(&mut buffer).await?;
        if received == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..received]).await?;
    }
}

pub(crate) fn append(appending: Appending) -> io::Result<Infallible> {
    run(async move {
        let block = Arc::new(Aligned::new(appending.block_bytes));
        loop {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(appending.place == Place::New)
                .custom_flags(libc::O_DIRECT)
                .open(&appending.path)?;
            let file = Arc::new(file);
            let mut window = Window::open(&appending)?;
            while let Some(group) = window.next_group() {
                let group = Arc::new(group);
                let write = || write(file.clone(), block.clone(), group.clone());
                let writers: Vec<_> = (0..appending.in_flight).map(|_| spawn(write())).collect();
                for writer in writers {
                    writer.await??;
                }
                let file = file.clone();
                spawn_blocking(move || file.sync_data()).await??;
            }
            window.close()?;
        }
    })
}

async fn write(file: Arc<File>, block: Arc<Aligned>, group: Arc<Group>) -> io::Result<()> {
    while let Some(offset) = group.take() {
        let (file, block) = (file.clone(), block.clone());
        spawn_blocking(move || file.write_all_at(&block, offset)).await??;
    }
    Ok(())
}

fn run(main: impl Future<Output = io::Result<Infallible>>) -> io::Result<Infallible> {
    Builder::new_current_thread().enable_io().build()?.block_on(main)
}
