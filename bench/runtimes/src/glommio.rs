//! glommio: one executor on this thread, which is not pinned; direct writes as its `DmaFile` does them.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::rc::Rc;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::io::{DmaBuffer, DmaFile, OpenOptions};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement, spawn_local};

use crate::case::Place;
use crate::memory;
use crate::serve::{self, Appending, Group, Window};

pub(crate) fn echo() -> io::Result<Infallible> {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        serve::listening_at(listener.local_addr()?)?;
        loop {
            let stream = listener.accept().await?;
            stream.set_nodelay(true)?;
            spawn_local(answer(stream)).detach();
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
        loop {
            // For writing only: one for reading and writing that is empty fails its first reads.
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(appending.place == Place::New)
                .dma_open(&appending.path)
                .await?;
            let mut buffer = file.alloc_dma_buffer(appending.block_bytes);
            memory::fill(buffer.as_bytes_mut());
            let (file, block) = (Rc::new(file), Rc::new(buffer));
            let mut window = Window::open(&appending)?;
            while let Some(group) = window.next_group() {
                let group = Rc::new(group);
                let write = || write(file.clone(), block.clone(), group.clone());
                let writers: Vec<_> = (0..appending.in_flight).map(|_| spawn_local(write())).collect();
                for writer in writers {
                    writer.await?;
                }
                file.fdatasync().await?;
            }
            window.close()?;
            file.close_rc().await?;
        }
    })
}

async fn write(file: Rc<DmaFile>, block: Rc<DmaBuffer>, group: Rc<Group>) -> io::Result<()> {
    while let Some(offset) = group.take() {
        let written = file.write_rc_at(block.clone(), offset).await?;
        if written != block.len() {
            return Err(io::Error::other(format!(
                "{written} bytes of {} written",
                block.len()
            )));
        }
    }
    Ok(())
}

fn run(main: impl Future<Output = io::Result<Infallible>>) -> io::Result<Infallible> {
    LocalExecutorBuilder::new(Placement::Unbound).make()?.run(main)
}
