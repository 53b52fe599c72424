//! One program, on the real kernel and in the simulator: both must answer alike, success and error.

#![expect(clippy::disallowed_methods, reason = "the real side needs a real directory")]

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::buffer::{PAGE_SIZE, Pool, Slice};
use crate::file::{Allocate, Durability, File, OpenOptions};
use crate::simulator::Simulator;
use crate::socket::{Shutdown, TcpListener, TcpStream};
use crate::thread::{self, ThreadOptions};
use crate::{channel, directory};

const MEMORY: usize = 8 << 20;

const OPEN: OpenOptions = OpenOptions {
    read: true,
    write: true,
    create: false,
    create_new: false,
    truncate: false,
    direct: false,
};
const CREATE: OpenOptions = OpenOptions { create: true, ..OPEN };
const DIRECT: OpenOptions = OpenOptions {
    direct: true,
    ..CREATE
};

/// What was asked, and the answer.
#[derive(Default)]
struct Answers(Vec<String>);

impl Answers {
    fn note<T: Debug>(&mut self, question: &str, answer: io::Result<T>) {
        let answer = match answer {
            Ok(value) => format!("{value:?}"),
            Err(error) => match error.raw_os_error() {
                Some(errno) => format!("errno {errno}"),
                None => format!("{:?}", error.kind()),
            },
        };
        self.0.push(format!("{question}: {answer}"));
    }
}

async fn ask_about_names(root: PathBuf) -> Vec<String> {
    let mut answers = Answers::default();
    let at = |name: &str| root.join(name);
    answers.note("create nested", directory::create_all(&at("a/b/c")).await);
    answers.note("create again", directory::create_all(&at("a/b/c")).await);
    drop(File::open(&at("a/file"), CREATE).await.unwrap());
    answers.note("create over a file", directory::create_all(&at("a/file")).await);
    answers.note(
        "create below a file",
        directory::create_all(&at("a/file/x")).await,
    );
    answers.note("list", directory::list(&at("a/b")).await.map(|names| names.len()));
    answers.note(
        "first",
        directory::first(&at("a/b"), 1).await.map(|names| names.len()),
    );
    answers.note("list missing", directory::list(&at("missing")).await);
    answers.note("list a file", directory::list(&at("a/file")).await);
    let sane =
        |volume: directory::Volume| 0 < volume.usable_bytes && volume.usable_bytes <= volume.total_bytes;
    answers.note("volume", directory::volume(&at("a")).await.map(sane));
    answers.note(
        "volume missing",
        directory::volume(&at("missing")).await.map(sane),
    );
    answers.note(
        "volume of a file",
        directory::volume(&at("a/file")).await.map(sane),
    );
    answers.note("exists", directory::exists(&at("a/b")).await);
    answers.note("exists not", directory::exists(&at("a/x")).await);
    answers.note("exists below a file", directory::exists(&at("a/file/x")).await);
    for (question, path, options) in [
        ("open missing", "x", OPEN),
        ("open below missing", "x/y", CREATE),
        ("open below a file", "a/file/y", CREATE),
        ("open a directory", "a/b", OPEN),
        ("create a directory's name", "a/b", CREATE),
        (
            "create new, taken",
            "a/file",
            OpenOptions {
                create_new: true,
                ..OPEN
            },
        ),
        (
            "create new, free",
            "a/new",
            OpenOptions {
                create_new: true,
                ..OPEN
            },
        ),
    ] {
        answers.note(question, File::open(&at(path), options).await.map(drop));
    }
    for (question, from, to) in [
        ("rename missing", "x", "y"),
        ("rename into missing", "a/new", "x/y"),
        ("rename onto itself", "a/new", "a/new"),
        ("rename onto a file", "a/new", "a/file"),
        ("rename a file onto a directory", "a/file", "a/b"),
        ("rename a directory onto a file", "a/b", "a/file"),
        ("rename a directory into itself", "a", "a/b/d"),
        ("rename a directory", "a/b", "a/d"),
        ("rename onto a full directory", "a/d", "a"),
    ] {
        answers.note(question, directory::rename(&at(from), &at(to)).await);
    }
    answers.note(
        "list after",
        directory::list(&at("a")).await.map(|names| {
            names
                .into_iter()
                .map(|entry| (entry.name, entry.is_directory))
                .collect::<Vec<_>>()
        }),
    );
    answers.note("remove missing", directory::remove_file(&at("x")).await);
    answers.note(
        "remove a directory as a file",
        directory::remove_file(&at("a/d")).await,
    );
    answers.note("sync a directory", directory::sync(&at("a")).await);
    answers.note("sync a missing directory", directory::sync(&at("x")).await);
    answers.note("sync everything", directory::sync_file_system(&at("a")).await);
    answers.note("remove a file", directory::remove_file(&at("a/file")).await);
    answers.note("remove all", directory::remove_all(&at("a")).await);
    answers.note("remove all of nothing", directory::remove_all(&at("a")).await);
    answers.0
}

async fn ask_about_files(root: PathBuf) -> Vec<String> {
    let mut answers = Answers::default();
    let pool = Pool::new("pages", 4 << 20).unwrap();
    let buffered = File::open(&root.join("f"), CREATE).await.unwrap();
    let bytes = |count: usize| vec![Slice::from(vec![1; count])];
    let page = |byte: u8| {
        let mut buffer = pool.try_take(PAGE_SIZE).unwrap();
        buffer.fill(byte);
        vec![buffer.freeze(0..PAGE_SIZE)]
    };
    let write = |file: &File, slices, offset| {
        let file = file.clone();
        async move { file.write_all_at(slices, offset, Durability::Durable).await }
    };
    let read = |file: &File, length: usize, offset| {
        let (file, buffer) = (file.clone(), pool.try_take(length).unwrap());
        async move {
            let (result, buffer) = file.read_exact_at(buffer, 0..length, offset).await;
            result.map(|count| {
                (
                    count,
                    buffer[..count].iter().map(|&byte| u64::from(byte)).sum::<u64>(),
                )
            })
        }
    };
    answers.note("write over a gap", write(&buffered, bytes(10), 5000).await);
    answers.note("length", buffered.len().await);
    answers.note("read over the gap", read(&buffered, 8192, 0).await);
    answers.note("read past the end", read(&buffered, 100, 9000).await);
    answers.note("write nothing", write(&buffered, Vec::new(), 1 << 30).await);
    answers.note("shrink", buffered.set_len(5005).await);
    answers.note("grow", buffered.set_len(9000).await);
    answers.note("read what grew", read(&buffered, 8192, 4096).await);
    answers.note(
        "allocate beside the size",
        buffered.allocate(0..20000, Allocate::KeepSize).await,
    );
    answers.note("length", buffered.len().await);
    answers.note(
        "allocate with the size",
        buffered.allocate(4096..20000, Allocate::Extend).await,
    );
    answers.note("length", buffered.len().await);
    answers.note(
        "allocate nothing",
        buffered.allocate(5..5, Allocate::Extend).await,
    );
    answers.note("sync data", buffered.sync_data().await);
    answers.note("sync all", buffered.sync_all().await);

    let reader = File::open(&root.join("f"), OpenOptions { write: false, ..OPEN })
        .await
        .unwrap();
    answers.note("write by a reader", write(&reader, bytes(1), 0).await);
    answers.note(
        "allocate by a reader",
        reader.allocate(0..10, Allocate::KeepSize).await,
    );
    answers.note("resize by a reader", reader.set_len(0).await);
    answers.note("sync by a reader", reader.sync_all().await);
    let writer = File::open(
        &root.join("f"),
        OpenOptions {
            read: false,
            truncate: true,
            ..OPEN
        },
    )
    .await
    .unwrap();
    answers.note("read by a writer", read(&writer, 10, 0).await);
    answers.note("length after truncation", writer.len().await);

    let direct = File::open(&root.join("d"), DIRECT).await.unwrap();
    answers.note(
        "direct write of an odd length",
        write(&direct, bytes(100), 0).await,
    );
    answers.note(
        "direct write at an odd offset",
        write(&direct, page(1), 100).await,
    );
    answers.note("direct write", write(&direct, page(2), 4096).await);
    answers.note("direct read at an odd offset", read(&direct, 4096, 100).await);
    answers.note("direct read of an odd length", read(&direct, 100, 4096).await);
    answers.note("direct read", read(&direct, 8192, 0).await);
    for ends_at in [4097, 4608, 5000] {
        answers.note("cut", direct.set_len(ends_at).await);
        answers.note("direct read to an odd end", read(&direct, 8192, 0).await);
        answers.note("buffered read to an odd end", {
            let file = File::open(&root.join("d"), OPEN).await.unwrap();
            read(&file, 8192, 0).await
        });
        answers.note("direct write", write(&direct, page(2), 4096).await);
    }
    answers.note("lock", direct.try_lock());
    answers.note("lock again", direct.clone().try_lock());
    answers.note(
        "lock by another",
        File::open(&root.join("d"), OPEN).await.unwrap().try_lock(),
    );
    drop(direct);
    answers.note(
        "lock when free",
        File::open(&root.join("d"), OPEN).await.unwrap().try_lock(),
    );

    let removed = File::open(&root.join("d"), OPEN).await.unwrap();
    answers.note("remove while open", directory::remove_file(&root.join("d")).await);
    answers.note("read what was removed", read(&removed, 8192, 0).await);
    answers.0
}

async fn ask_about_sockets(_: PathBuf) -> Vec<String> {
    let mut answers = Answers::default();
    let pool = Pool::new("receive", 1 << 20).unwrap();
    let receive = |stream: &TcpStream| {
        let (stream, buffer) = (stream.clone(), pool.try_take(4096).unwrap());
        async move { stream.receive(buffer, 0..4096).await.0 }
    };
    let send = |stream: &TcpStream| {
        let stream = stream.clone();
        async move { stream.send_all(vec![Slice::from(vec![1; 10])]).await }
    };
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 16)
        .await
        .unwrap();
    let address = listener.local_address();
    answers.note("bind twice", TcpListener::bind(address, 1).await.map(drop));
    answers.note(
        "bind elsewhere",
        TcpListener::bind(SocketAddr::from(([192, 0, 2, 1], 0)), 1)
            .await
            .map(drop),
    );
    let pair = || async {
        let client = TcpStream::connect(address).await.unwrap();
        let (server, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, client.local_address());
        assert_eq!(server.peer_address(), peer);
        assert_eq!(
            (server.local_address(), client.peer_address()),
            (address, address)
        );
        (client, server)
    };
    let (client, server) = pair().await;
    answers.note("send", send(&client).await);
    let mut received = 0;
    while received < 10 {
        received += receive(&server).await.unwrap();
    }
    client.shutdown(Shutdown::Write);
    answers.note("send after shutdown", send(&client).await);
    answers.note("receive the end", receive(&server).await);
    answers.note("receive the end again", receive(&server).await);
    answers.note("send to one that only receives", send(&server).await);
    drop(server);
    let mut received = 0;
    while received < 10 {
        received += receive(&client).await.unwrap();
    }
    answers.note("receive the other end", receive(&client).await);

    let (client, server) = pair().await;
    client.shutdown(Shutdown::Read);
    answers.note("receive after shutdown", receive(&client).await);
    drop((client, server));

    let (client, server) = pair().await;
    answers.note("send unread bytes", send(&client).await);
    // The bytes have arrived when the end has: the server closes with them unread.
    crate::timer::sleep(Duration::from_millis(50)).await;
    drop(server);
    answers.note("receive after a reset", receive(&client).await);
    drop(client);

    drop(listener);
    // A close may take effect a little later.
    crate::timer::sleep(Duration::from_millis(50)).await;
    answers.note("connect to nobody", TcpStream::connect(address).await.map(drop));
    answers.0
}

fn in_both<Fut>(name: &str, ask: fn(PathBuf) -> Fut)
where
    Fut: Future<Output = Vec<String>> + 'static,
{
    let root = std::env::current_exe()
        .unwrap()
        .with_file_name(format!("agreement-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&root);
    std::fs::create_dir_all(&root).unwrap();
    let (answer, awaited) = channel::oneshot();
    let options = ThreadOptions {
        name: "real".to_owned(),
        cpu: None,
        memory_bytes: MEMORY,
        ..ThreadOptions::default()
    };
    let real_root = root.clone();
    let real = thread::spawn(options, move || async move {
        let _ = answer.give(ask(real_root).await);
    });
    real.expect("io_uring is needed for this test").join_blocking();
    let real = awaited.wait_blocking().expect("the questions were answered");
    std::fs::remove_dir_all(&root).unwrap();

    for seed in 0..5 {
        let mut simulator = Simulator::new(seed);
        let host = simulator.host(1 << 30);
        let simulated = simulator.run(host, MEMORY, Duration::from_secs(600), move || async move {
            directory::create_all(Path::new("/root")).await.unwrap();
            ask(PathBuf::from("/root")).await
        });
        assert_eq!(
            simulated.expect("the questions were answered"),
            real,
            "left: simulated, right: real"
        );
    }
}

#[test]
fn names_are_answered_alike() {
    in_both("names", ask_about_names);
}

#[test]
fn files_are_answered_alike() {
    in_both("files", ask_about_files);
}

#[test]
fn sockets_are_answered_alike() {
    in_both("sockets", ask_about_sockets);
}
