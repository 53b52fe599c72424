//! compio: one runtime on this thread, which is not pinned; direct writes with open(2)'s flag.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::rc::Rc;

use compio::BufResult;
use compio::buf::{IntoInner, IoBuf};
use compio::fs::{File, OpenOptions};
use compio::io::{AsyncRead, AsyncWriteAtExt, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::{Runtime, spawn};

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
            spawn(answer(stream)).detach();
        }
    })
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(serve::ECHO_BUFFER_BYTES);
    loop {
        let BufResult(received, filled) = stream.read(buffer).await;
        let received = received?;
        if received == 0 {
            return Ok(());
        }
        let BufResult(sent, slice) = stream.write_all(filled.slice(..received)).await;
        sent?;
        buffer = slice.into_inner();
        buffer.clear();
    }
}

pub(crate) fn append(appending: Appending) -> io::Result<Infallible> {
    run(async move {
        let block = Block(Rc::new(Aligned::new(appending.block_bytes)));
        loop {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(appending.place == Place::New)
                .custom_flags(libc::O_DIRECT)
                .open(&appending.path)
                .await?;
            let mut window = Window::open(&appending)?;
            while let Some(group) = window.next_group() {
                let group = Rc::new(group);
                let write = || write(file.clone(), block.clone(), group.clone());
                let writers: Vec<_> = (0..appending.in_flight).map(|_| spawn(write())).collect();
                for writer in writers {
                    writer.await??;
                }
                file.sync_data().await?;
            }
            window.close()?;
        }
    })
}

async fn write(mut file: File, block: Block, group: Rc<Group>) -> io::Result<()> {
    while let Some(offset) = group.take() {
        let BufResult(written, _) = file.write_all_at(block.clone(), offset).await;
        written?;
    }
    Ok(())
}

/// Shared memory, as compio writes it.
#[derive(Clone)]
struct Block(Rc<Aligned>);

impl IoBuf for Block {
    fn as_init(&self) -> &[u8] {
        &self.0
    }
}

fn run(main: impl Future<Output = io::Result<Infallible>>) -> io::Result<Infallible> {
    Runtime::new()?.block_on(main)
}
