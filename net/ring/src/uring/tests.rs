//! The driver against the real kernel: files, sockets, dropped futures, shutdown.

#![expect(
    clippy::disallowed_methods,
    reason = "the tests look at what the runtime did from outside it"
)]

use std::future::{Future, poll_fn};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::buffer::{Buffer, Pool, Slice};
use crate::channel::{bounded, oneshot};
use crate::executor::{Class, spawn, yield_now};
use crate::file::{Allocate, Durability, File, OpenOptions};
use crate::socket::{Shutdown, TcpListener, TcpStream};
use crate::thread::ThreadOptions;
use crate::timer::{sleep, timeout};
use crate::{clock, directory, random, thread};

/// Generous: only a hang is cut off by it.
const LONG: Duration = Duration::from_secs(60);

fn options(name: &str, cpu: Option<usize>) -> ThreadOptions {
    ThreadOptions {
        name: name.into(),
        cpu,
        memory_bytes: 64 << 20,
        ..ThreadOptions::default()
    }
}

/// Runs `main` on a ring thread and returns what it gave.
fn on_ring<F, Fut, T>(main: F) -> T
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let (give, given) = oneshot();
    let thread = thread::spawn(options("test", None), move || async move {
        let output = timeout(LONG, main()).await.expect("the test hangs");
        assert!(give.give(output).is_ok());
    });
    thread.expect("io_uring is needed for this test").join_blocking();
    given
        .wait_blocking()
        .expect("the thread gave its output before it ended")
}

/// A directory of one test, removed after it.
struct Scratch(PathBuf);

impl Scratch {
    /// Beside the test's binary: a real file system, where /tmp may be one that refuses O_DIRECT.
    fn new(name: &str) -> Scratch {
        let binary = std::env::current_exe().unwrap();
        let path = binary.with_file_name(format!("scratch-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn localhost() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

const READ_WRITE: OpenOptions = OpenOptions {
    read: true,
    write: true,
    create: true,
    create_new: false,
    truncate: false,
    direct: false,
};

async fn filled(pool: &Pool, bytes: usize, value: u8) -> Buffer {
    let mut buffer = pool.take(bytes).await.unwrap();
    buffer.fill(value);
    buffer
}

#[test]
fn direct_durable_writes_are_read_back() {
    let scratch = Scratch::new("direct");
    let path = scratch.0.clone();
    on_ring(move || async move {
        let block = directory::alignment(&path).await.unwrap().block_bytes;
        assert!(block.is_power_of_two() && (512..=65_536).contains(&block));
        let pool = Pool::new("test", 8 << 20).unwrap();
        let options = OpenOptions {
            direct: true,
            ..READ_WRITE
        };
        let file = File::open(&path.join("data"), options).await.unwrap();
        file.allocate(0..1 << 20, Allocate::Extend).await.unwrap();
        assert_eq!(file.len().await.unwrap(), 1 << 20);
        let unit = block.max(4096);
        let slices = vec![
            filled(&pool, unit, 1).await.freeze(0..unit),
            filled(&pool, 4 * unit, 2).await.freeze(0..4 * unit),
            filled(&pool, unit, 3).await.freeze(0..0),
        ];
        file.write_all_at(slices, unit as u64, Durability::Durable)
            .await
            .unwrap();
        file.write_all_at(
            vec![filled(&pool, unit, 9).await.freeze(0..unit)],
            0,
            Durability::Completed,
        )
        .await
        .unwrap();
        file.sync_data().await.unwrap();
        file.sync_all().await.unwrap();
        directory::sync(&path).await.unwrap();
        directory::sync_file_system(&path).await.unwrap();
        let (count, buffer) = file
            .read_exact_at(pool.take(7 * unit).await.unwrap(), 0..7 * unit, 0)
            .await;
        assert_eq!(count.unwrap(), 7 * unit);
        let expected = [9, 1, 2, 2, 2, 2, 0].map(|value| vec![value; unit]).concat();
        assert!(buffer[..7 * unit] == expected);
    });
}

#[test]
fn more_slices_than_one_call_takes_are_all_written() {
    let scratch = Scratch::new("slices");
    let path = scratch.0.join("data");
    let read = path.clone();
    on_ring(move || async move {
        let file = File::open(&path, READ_WRITE).await.unwrap();
        let slices: Vec<Slice> = (0..3000u32).map(|i| i.to_le_bytes().to_vec().into()).collect();
        file.write_all_at(slices, 5, Durability::Completed).await.unwrap();
    });
    let expected: Vec<u8> = ([0; 5].into_iter())
        .chain((0..3000u32).flat_map(u32::to_le_bytes))
        .collect();
    assert_eq!(std::fs::read(read).unwrap(), expected);
}

#[test]
fn reads_end_at_the_end_of_the_file() {
    let scratch = Scratch::new("short");
    let path = scratch.0.join("data");
    std::fs::write(&path, vec![7; 6000]).unwrap();
    on_ring(move || async move {
        let pool = Pool::new("test", 1 << 20).unwrap();
        for direct in [false, true] {
            let options = OpenOptions {
                read: true,
                direct,
                ..OpenOptions::default()
            };
            let file = File::open(&path, options).await.unwrap();
            let (count, buffer) = file
                .read_exact_at(pool.take(16384).await.unwrap(), 0..16384, 0)
                .await;
            assert_eq!(count.unwrap(), 6000);
            let (count, _) = file.read_at(buffer, 0..4096, 8192).await;
            assert_eq!(count.unwrap(), 0);
        }
    });
}

#[test]
fn names_and_sizes() {
    let scratch = Scratch::new("names");
    let path = scratch.0.clone();
    on_ring(move || async move {
        let deep = path.join("a/b");
        directory::create_all(&deep).await.unwrap();
        assert!(!directory::exists(&path.join("a/c")).await.unwrap());
        assert!(directory::exists(&path.join("a/b")).await.unwrap());
        assert!(directory::exists(Path::new("\0")).await.is_err());
        assert!(directory::exists(&path.join("a".repeat(300))).await.is_err());
        let file = File::open(&deep.join("one"), READ_WRITE).await.unwrap();
        file.set_len(1234).await.unwrap();
        directory::rename(&deep.join("one"), &path.join("two"))
            .await
            .unwrap();
        let entries = directory::list(&path).await.unwrap();
        let names: Vec<_> = entries
            .iter()
            .map(|entry| (entry.name.as_str(), entry.is_directory))
            .collect();
        assert_eq!(names, [("a", true), ("two", false)]);
        assert_eq!(entries[1].bytes, 1234);
        let create_new = OpenOptions {
            create_new: true,
            ..READ_WRITE
        };
        let exists = File::open(&path.join("two"), create_new)
            .await
            .map(drop)
            .unwrap_err();
        assert_eq!(exists.kind(), std::io::ErrorKind::AlreadyExists);
        let missing = File::open(&path.join("three"), OpenOptions::default())
            .await
            .map(drop)
            .unwrap_err();
        assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
        let nul = File::open(Path::new("a\0b"), OpenOptions::default())
            .await
            .map(drop)
            .unwrap_err();
        assert_eq!(nul.kind(), std::io::ErrorKind::InvalidInput);
        directory::remove_file(&path.join("two")).await.unwrap();
        directory::remove_all(&path.join("a")).await.unwrap();
        assert!(directory::list(&path).await.unwrap().is_empty());
    });
}

#[test]
fn a_lock_is_exclusive_and_free_once_its_file_is_dropped() {
    let scratch = Scratch::new("lock");
    let path = scratch.0.join("lock");
    on_ring(move || async move {
        let first = File::open(&path, READ_WRITE).await.unwrap();
        let second = File::open(&path, READ_WRITE).await.unwrap();
        assert!(first.try_lock().unwrap());
        assert!(!second.try_lock().unwrap());
        drop(first);
        assert!(second.try_lock().unwrap());
    });
}

async fn echo_server(listener: TcpListener, pool: Pool) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let pool = pool.clone();
        spawn(Class::Latency, async move {
            let mut buffer = pool.take(4096).await.unwrap();
            loop {
                let (count, filled) = stream.receive(buffer, 0..4096).await;
                let Ok(1..) = count else { return };
                let slice = filled.freeze(0..count.unwrap());
                if stream.send_all(vec![slice.clone()]).await.is_err() {
                    return;
                }
                buffer = slice.try_into_buffer().ok().expect("the send has ended");
            }
        })
        .detach();
    }
}

#[test]
fn thousands_of_connections_come_and_go() {
    on_ring(|| async {
        let pool = Pool::new("test", 16 << 20).unwrap();
        let listener = TcpListener::bind(localhost(), 1024).await.unwrap();
        let address = listener.local_address();
        let server = spawn(Class::Latency, echo_server(listener, pool.clone()));
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let clients: Vec<_> = (0..50u8)
            .map(|client| {
                let pool = pool.clone();
                spawn(Class::Throughput, async move {
                    for round in 0..60u8 {
                        let stream = TcpStream::connect(address).await.unwrap();
                        assert_eq!(stream.peer_address(), address);
                        let message = vec![client ^ round; 100 + usize::from(round)];
                        stream.send_all(vec![message.clone().into()]).await.unwrap();
                        let mut buffer = pool.take(4096).await.unwrap();
                        let mut got = 0;
                        while got < message.len() {
                            let (count, returned) = stream.receive(buffer, got..4096).await;
                            buffer = returned;
                            got += count.unwrap();
                        }
                        assert_eq!(buffer[..got], message);
                    }
                })
            })
            .collect();
        let most = descriptors();
        for client in clients {
            client.await;
        }
        drop(server);
        // Connections of the server end when its tasks see theirs end; none of 3,000 descriptors is left behind.
        while descriptors() > most + 100 {
            yield_now().await;
        }
    });
}

#[test]
fn large_vectored_sends_arrive_whole_and_in_order() {
    on_ring(|| async {
        let pool = Pool::new("test", 16 << 20).unwrap();
        let listener = TcpListener::bind(localhost(), 16).await.unwrap();
        let address = listener.local_address();
        let sender = spawn(Class::Latency, async move {
            let (stream, _) = listener.accept().await.unwrap();
            // 5,000 slices of 1,000 bytes: more than a call takes, more than the socket's buffer holds.
            let slices: Vec<Slice> = (0..5000usize).map(|i| vec![i as u8; 1000].into()).collect();
            stream.send_all(slices).await.unwrap();
            stream.shutdown(Shutdown::Write);
            stream
        });
        let stream = TcpStream::connect(address).await.unwrap();
        let mut buffer = pool.take(65536).await.unwrap();
        let mut total = 0;
        loop {
            let (count, returned) = stream.receive(buffer, 0..65536).await;
            buffer = returned;
            let count = count.unwrap();
            for (place, byte) in buffer[..count].iter().enumerate() {
                assert_eq!(*byte, ((total + place) / 1000) as u8);
            }
            total += count;
            if count == 0 {
                break;
            }
        }
        assert_eq!(total, 5_000_000);
        drop(sender.await);
    });
}

#[test]
fn connections_have_no_delay_and_close_on_exec() {
    on_ring(|| async {
        let listener = TcpListener::bind("[::1]:0".parse().unwrap(), 16).await;
        // A host without IPv6 is served over IPv4.
        let listener = match listener {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind(localhost(), 16).await.unwrap(),
        };
        let client = spawn(Class::Latency, TcpStream::connect(listener.local_address()));
        let (server, peer) = listener.accept().await.unwrap();
        let client = client.await.unwrap();
        assert_eq!(peer, client.local_address());
        assert_eq!(server.local_address(), client.peer_address());
        for stream in [&server, &client] {
            let fd = super::descriptor(stream.handle_for_test().id());
            // SAFETY: the descriptor is open: the stream lives.
            let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
            assert_ne!(flags & libc::FD_CLOEXEC, 0);
            use std::os::fd::FromRawFd;
            // SAFETY: as above, and it is not closed here.
            let tcp = std::mem::ManuallyDrop::new(unsafe { std::net::TcpStream::from_raw_fd(fd) });
            assert!(tcp.nodelay().unwrap());
        }
    });
}

/// Polls once, then drops.
async fn begin_and_drop<F: Future>(future: F) {
    let mut future = pin!(future);
    poll_fn(|context| {
        assert!(future.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
}

#[test]
fn a_dropped_receive_keeps_its_memory_until_the_kernel_is_done() {
    on_ring(|| async {
        let pool = Pool::new("test", 4096).unwrap();
        let listener = TcpListener::bind(localhost(), 16).await.unwrap();
        let client = spawn(Class::Latency, TcpStream::connect(listener.local_address()));
        let (server, _) = listener.accept().await.unwrap();
        let client = client.await.unwrap();
        for round in 0..200u8 {
            let buffer = pool.take(4096).await.unwrap();
            begin_and_drop(server.receive(buffer, 0..4096)).await;
            // The kernel still has the memory: the pool must not.
            assert_eq!(pool.bytes_left(), 0);
            client.send_all(vec![vec![round; 64].into()]).await.unwrap();
            // Now either the cancel or the bytes came first; both give the memory back.
            let mut buffer = pool.take(4096).await.unwrap();
            buffer.fill(0xee);
            sleep(Duration::from_micros(50)).await;
            assert!(
                buffer.iter().all(|byte| *byte == 0xee),
                "the kernel wrote into memory that was given back"
            );
        }
    });
}

#[test]
fn dropped_file_operations_end_by_themselves() {
    let scratch = Scratch::new("dropped");
    let path = scratch.0.clone();
    on_ring(move || async move {
        let pool = Pool::new("test", 1 << 20).unwrap();
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = descriptors();
        for round in 0..50 {
            let name = path.join(format!("{round}"));
            begin_and_drop(File::open(&name, READ_WRITE)).await;
            let file = File::open(&name, READ_WRITE).await.unwrap();
            let data = filled(&pool, 65536, 5).await.freeze(0..65536);
            begin_and_drop(file.write_all_at(vec![data], 0, Durability::Durable)).await;
            begin_and_drop(file.sync_all()).await;
            begin_and_drop(directory::list(&path)).await;
            begin_and_drop(file.read_at(pool.take(65536).await.unwrap(), 0..65536, 0)).await;
        }
        while pool.bytes_left() < pool.bytes() || descriptors() > before + 20 {
            sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn a_connection_that_a_dropped_accept_brings_is_closed() {
    on_ring(|| async {
        let listener = TcpListener::bind(localhost(), 16).await.unwrap();
        let pool = Pool::new("test", 4096).unwrap();
        for _ in 0..50 {
            begin_and_drop(listener.accept()).await;
            let client = TcpStream::connect(listener.local_address()).await.unwrap();
            // Either the accept was cancelled in time, then this one gets the connection; or it was not, then the
            // connection is closed, and the client sees its end.
            let accepted = timeout(Duration::from_millis(5), listener.accept()).await;
            if accepted.is_err() {
                let (count, _) = client.receive(pool.take(4096).await.unwrap(), 0..4096).await;
                assert!(matches!(count, Ok(0) | Err(_)));
            }
        }
    });
}

#[test]
fn an_ended_main_ends_everything_in_flight() {
    let scratch = Scratch::new("shutdown");
    let path = scratch.0.clone();
    let thread = thread::spawn(options("shutdown", None), move || async move {
        let pool = Pool::new("test", 8 << 20).unwrap();
        let listener = TcpListener::bind(localhost(), 16).await.unwrap();
        let address = listener.local_address();
        spawn(Class::Latency, echo_server(listener, pool.clone())).detach();
        for class in [Class::Latency, Class::Throughput, Class::Background] {
            for _ in 0..20 {
                let (pool, path) = (pool.clone(), path.join("data"));
                spawn(class, async move {
                    let stream = TcpStream::connect(address).await.unwrap();
                    let file = File::open(&path, READ_WRITE).await.unwrap();
                    let data = filled(&pool, 65536, 5).await.freeze(0..65536);
                    file.write_all_at(vec![data], 0, Durability::Durable)
                        .await
                        .unwrap();
                    stream
                        .receive(pool.take(4096).await.unwrap(), 0..4096)
                        .await
                        .0
                        .unwrap();
                    unreachable!("nobody sends");
                })
                .detach();
            }
        }
        sleep(Duration::from_millis(2)).await;
    });
    thread.unwrap().join_blocking();
}

#[test]
fn timers_fire_in_the_order_of_their_deadlines() {
    on_ring(|| async {
        let (sender, mut receiver) = bounded(8);
        let start = clock::now();
        for milliseconds in [30u64, 10, 20] {
            let sender = sender.clone();
            spawn(Class::Latency, async move {
                sleep(Duration::from_millis(milliseconds)).await;
                assert!(clock::now() - start >= Duration::from_millis(milliseconds));
                sender.send(milliseconds).await.unwrap();
            })
            .detach();
        }
        drop(sender);
        let mut order = Vec::new();
        while let Some(milliseconds) = receiver.receive().await {
            order.push(milliseconds);
        }
        assert_eq!(order, [10, 20, 30]);
        let never = timeout(Duration::from_millis(1), std::future::pending::<()>()).await;
        assert_eq!(never, Err(crate::timer::Elapsed));
        assert!(clock::wall_clock_ms() > 1_600_000_000_000);
        assert_ne!(random::next_u128(), random::next_u128());
    });
}

#[test]
fn a_queue_carries_messages_between_threads_in_order() {
    let (to, mut from) = bounded(4);
    let (done, finished) = oneshot();
    let receiver = thread::spawn(options("receiver", Some(0)), move || async move {
        let mut expected = 0u32;
        while let Some(message) = from.receive().await {
            assert_eq!(message, expected);
            expected += 1;
        }
        done.give(expected).unwrap();
    });
    let sender = thread::spawn(options("sender", None), move || async move {
        for message in 0..20_000u32 {
            to.send(message).await.unwrap();
        }
    });
    sender.unwrap().join_blocking();
    receiver.unwrap().join_blocking();
    assert_eq!(finished.wait_blocking(), Ok(20_000));
}

#[test]
fn a_ring_thread_starts_another_and_awaits_its_end() {
    on_ring(|| async {
        let (give, given) = oneshot();
        let thread = thread::spawn(options("inner", None), move || async move {
            sleep(Duration::from_millis(5)).await;
            give.give(7).unwrap();
        });
        thread.unwrap().ended().await;
        assert_eq!(given.await, Ok(7));
    });
}

#[test]
fn a_thread_that_is_to_have_its_memory_at_once_is_refused_what_no_system_has() {
    let with = |memory_bytes, prefault| ThreadOptions {
        memory_bytes,
        prefault,
        ..options("prefault", None)
    };
    let start = |options| thread::spawn(options, || async {}).map(thread::ThreadHandle::join_blocking);
    const TOO_MUCH: usize = 1 << 60;
    let error = start(with(TOO_MUCH, true))
        .expect_err("nobody has as much")
        .to_string();
    assert!(
        error.contains("thread prefault") && error.contains("1152921504606846976 bytes"),
        "{error}"
    );
    start(with(TOO_MUCH, false)).expect("what nobody takes is not missed");
    start(with(1 << 20, true)).unwrap();
    start(with(0, true)).unwrap();
}

#[test]
fn a_missing_cpu_is_an_error_that_names_it() {
    let refused = thread::spawn(options("nowhere", Some(1000)), || async {});
    let error = refused.err().expect("there is no CPU 1000").to_string();
    assert!(error.contains("CPU 1000"), "{error}");
}

#[test]
fn one_thread_carries_ten_thousand_sleeping_and_yielding_tasks() {
    on_ring(|| async {
        let tasks: Vec<_> = (0..10_000u64)
            .map(|i| {
                spawn(Class::Background, async move {
                    sleep(Duration::from_micros(i % 97)).await;
                    yield_now().await;
                    i
                })
            })
            .collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await;
        }
        assert_eq!(sum, 9_999 * 10_000 / 2);
    });
}

#[test]
fn a_thread_may_run_where_it_was_pinned_and_nowhere_else() {
    let mine = thread::allowed_cpus();
    let last = *mine.last().expect("this thread runs somewhere");
    let (give, given) = oneshot();
    let pinned = thread::spawn(options("pinned", Some(last)), move || async move {
        assert!(give.give(thread::allowed_cpus()).is_ok());
    });
    pinned.expect("io_uring is needed for this test").join_blocking();
    assert_eq!(given.wait_blocking().expect("it gave them"), vec![last]);
}

#[test]
fn a_disk_that_stands_still_stops_no_other() {
    let scratch = Scratch::new("disks");
    let (slow, quick) = (scratch.0.join("slow"), scratch.0.join("quick"));
    for directory in [&slow, &quick] {
        std::fs::create_dir_all(directory).unwrap();
    }
    let fifo = slow.join("fifo");
    let path = std::ffi::CString::new(fifo.to_str().unwrap()).unwrap();
    // SAFETY: the path ends with a zero.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    let options = ThreadOptions {
        disks: vec![slow.clone()],
        ..options("disks", None)
    };
    let (give, given) = oneshot();
    let thread = thread::spawn(options, move || async move {
        let create = OpenOptions {
            write: true,
            create: true,
            ..OpenOptions::default()
        };
        let slow_file = File::open(&slow.join("file"), create).await.unwrap();
        let quick_file = File::open(&quick.join("file"), create).await.unwrap();
        // Whoever opens a FIFO to read waits until somebody writes.
        let stands = spawn(Class::Latency, async move {
            directory::sync(&slow.join("fifo")).await
        });
        let behind = spawn(Class::Latency, async move { slow_file.set_len(1).await });
        for bytes in 1..100 {
            quick_file.set_len(bytes).await.unwrap();
            directory::sync(&quick).await.unwrap();
        }
        assert!(!stands.is_finished());
        assert!(!behind.is_finished(), "a file's calls wait for those of its disk");
        std::fs::OpenOptions::new().write(true).open(fifo).unwrap();
        assert!(stands.await.is_err(), "it is no directory");
        behind.await.unwrap();
        assert!(give.give(()).is_ok());
    });
    thread.unwrap().join_blocking();
    given.wait_blocking().expect("it came to its end");
}
