//! Small calls that never wait: clocks, random numbers, sockets, CPUs, and what a file system asks of O_DIRECT.

use std::fs::File;
use std::io;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::buffer::PAGE_SIZE;
use crate::directory::Volume;
use crate::socket::Shutdown;

/// The largest block of a file system or a device that is served.
const BLOCK_BYTES_MAX: usize = 65_536;

/// A clock of clock_gettime(2), in nanoseconds.
pub(super) fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: `time` may be written to.
    let result = unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) };
    assert_eq!(result, 0, "this clock exists on every Linux");
    // SAFETY: filled in, because the call succeeded.
    let time = unsafe { time.assume_init() };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// xoshiro256++ (Blackman and Vigna, 2019), seeded from the kernel. Not for secrets.
pub(super) struct Random {
    state: [u64; 4],
}

impl Random {
    pub(super) fn new() -> io::Result<Random> {
        let mut seed = [0u8; 32];
        // SAFETY: `seed` has 32 bytes. Up to 256 bytes come whole and without interruption (getrandom(2)).
        let count = unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), 0) };
        if count != 32 {
            return Err(io::Error::last_os_error());
        }
        let mut state = [1; 4];
        for (word, bytes) in state.iter_mut().zip(seed.as_chunks::<8>().0) {
            // All words zero would stay zero.
            *word = u64::from_le_bytes(*bytes) | 1;
        }
        Ok(Random { state })
    }

    pub(super) fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }
}

/// Pins the calling thread.
pub(super) fn pin(cpu: usize) -> io::Result<()> {
    if core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    Err(io::Error::new(
        error.kind(),
        format!(
            "cannot run on CPU {cpu} ({error}): it is missing, or outside this process's CPU set (`taskset -p`)"
        ),
    ))
}

/// The CPUs that the calling thread may run on, ascending.
pub(crate) fn allowed_cpus() -> Vec<usize> {
    let cpus = core_affinity::get_core_ids().unwrap_or_default();
    cpus.into_iter().map(|cpu| cpu.id).collect()
}

/// The set of one CPU.
pub(super) fn cpu_set(cpu: usize) -> libc::cpu_set_t {
    // SAFETY: a cpu_set_t is an array of integers.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if cpu < 8 * size_of::<libc::cpu_set_t>() {
        // SAFETY: within the set, checked above.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    set
}

/// As `uname -r` says it.
pub(super) fn kernel_version() -> String {
    #[expect(
        clippy::disallowed_methods,
        reason = "a few bytes of /proc, for an error's text"
    )]
    let version = std::fs::read("/proc/sys/kernel/osrelease").unwrap_or_default();
    String::from_utf8_lossy(version.trim_ascii()).into_owned()
}

/// A listening socket, and its address with the port that was taken. Its connections inherit TCP_NODELAY (tcp(7)).
pub(super) fn listen(address: SocketAddr, backlog: u32) -> io::Result<(OwnedFd, SocketAddr)> {
    // Sets SO_REUSEADDR and close-on-exec.
    let listener = TcpListener::bind(address)?;
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    // SAFETY: takes no pointers. A second listen(2) changes the backlog.
    if unsafe { libc::listen(listener.as_raw_fd(), backlog) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let address = listener.local_addr()?;
    let socket = OwnedFd::from(listener);
    set_no_delay(&socket)?;
    Ok((socket, address))
}

/// A socket to connect to `address`, with TCP_NODELAY.
pub(super) fn stream_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    set_no_delay(&socket)?;
    Ok(socket)
}

fn set_no_delay(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor is open, and stays so because the stream is never dropped.
    let stream = ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(socket.as_raw_fd()) });
    stream.set_nodelay(true)
}

/// getsockname(2).
pub(super) fn local_address(socket: &OwnedFd) -> io::Result<SocketAddr> {
    // SAFETY: the descriptor is open, and stays so because the stream is never dropped.
    let stream = ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(socket.as_raw_fd()) });
    stream.local_addr()
}

/// shutdown(2); what is down already stays so.
pub(super) fn shutdown(connection: RawFd, how: Shutdown) {
    let how = match how {
        Shutdown::Read => libc::SHUT_RD,
        Shutdown::Write => libc::SHUT_WR,
        Shutdown::Both => libc::SHUT_RDWR,
    };
    // SAFETY: takes no pointers.
    let _ = unsafe { libc::shutdown(connection, how) };
}

/// flock(2) without waiting.
pub(super) fn try_lock(file: RawFd) -> io::Result<bool> {
    // SAFETY: takes no pointers.
    if unsafe { libc::flock(file, libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::WouldBlock {
        Ok(false)
    } else {
        Err(error)
    }
}

/// Lets go of [`try_lock`]'s lock.
pub(super) fn unlock(file: RawFd) {
    // SAFETY: takes no pointers.
    let _ = unsafe { libc::flock(file, libc::LOCK_UN) };
}

/// fstat(2)'s size.
pub(super) fn file_length(file: RawFd) -> io::Result<u64> {
    // SAFETY: open, and stays so because the file is never dropped.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(file) });
    Ok(file.metadata()?.len())
}

/// A socket address as the kernel reads and writes it.
pub(super) struct SocketAddress {
    storage: libc::sockaddr_storage,
    length: libc::socklen_t,
}

impl SocketAddress {
    /// Room for any address.
    pub(super) fn empty() -> SocketAddress {
        SocketAddress {
            // SAFETY: a sockaddr_storage is integers; zero is AF_UNSPEC.
            storage: unsafe { std::mem::zeroed() },
            length: libc::socklen_t::try_from(size_of::<libc::sockaddr_storage>()).expect("128 bytes"),
        }
    }

    /// For the kernel; valid while this stays where it is.
    pub(super) fn parts(&mut self) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        ((&raw mut self.storage).cast(), &raw mut self.length)
    }

    /// The address.
    pub(super) fn decode(&self) -> io::Result<SocketAddr> {
        match i32::from(self.storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: the family says what it is, and the storage is large and aligned enough for all.
                let address = unsafe { &*(&raw const self.storage).cast::<libc::sockaddr_in>() };
                let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
                Ok(SocketAddrV4::new(ip, u16::from_be(address.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let address = unsafe { &*(&raw const self.storage).cast::<libc::sockaddr_in6>() };
                let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
                let port = u16::from_be(address.sin6_port);
                Ok(SocketAddrV6::new(ip, port, address.sin6_flowinfo, address.sin6_scope_id).into())
            }
            family => Err(io::Error::other(format!("an address of family {family}"))),
        }
    }
}

impl From<SocketAddr> for SocketAddress {
    fn from(address: SocketAddr) -> SocketAddress {
        let mut encoded = SocketAddress::empty();
        let storage = &raw mut encoded.storage;
        match address {
            SocketAddr::V4(address) => {
                let value = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr {
                        s_addr: u32::from(*address.ip()).to_be(),
                    },
                    sin_zero: [0; 8],
                };
                encoded.length = size_of_val(&value) as libc::socklen_t;
                // SAFETY: the storage is large and aligned enough for every kind of address.
                unsafe { storage.cast::<libc::sockaddr_in>().write(value) }
            }
            SocketAddr::V6(address) => {
                let value = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: address.flowinfo(),
                    sin6_addr: libc::in6_addr {
                        s6_addr: address.ip().octets(),
                    },
                    sin6_scope_id: address.scope_id(),
                };
                encoded.length = size_of_val(&value) as libc::socklen_t;
                // SAFETY: as above.
                unsafe { storage.cast::<libc::sockaddr_in6>().write(value) }
            }
        }
        encoded
    }
}

/// A message for sendmsg(2) of these parts.
pub(super) fn message(vectors: &mut [libc::iovec]) -> libc::msghdr {
    // SAFETY: a msghdr is integers and pointers, and null pointers mean "none".
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = vectors.len() as _;
    message
}

/// The block of O_DIRECT in a directory: see [`block_for`]. 4096 at least where the kernel (before 6.1) or the file system
/// does not say.
pub(super) fn direct_alignment(directory: &Path) -> io::Result<usize> {
    let device = std::fs::metadata(directory)?.st_dev();
    // Only regular files have direct-I/O alignments: ask a nameless one. Where there are none, the defaults must do.
    let mut options = File::options();
    options.read(true).write(true).custom_flags(libc::O_TMPFILE);
    let asked = options
        .open(directory)
        .ok()
        .and_then(|file| statx_alignment(&file));
    let known = asked.unwrap_or(4096);
    let block = file_system_block(directory).unwrap_or(4096);
    let physical = physical_block(device).unwrap_or(512);
    block_for(known, block, physical).ok_or_else(|| {
        io::Error::other(format!(
            "{}: blocks of {known} (direct I/O), {block} (file system), {physical} (device) bytes cannot be served: at \
             most {PAGE_SIZE}, {BLOCK_BYTES_MAX} and {BLOCK_BYTES_MAX} can. Put the directory on another disk",
            directory.display()
        ))
    })
}

/// The largest of what direct I/O must be aligned to, the file system's block and the device's, if it can be served:
/// what was read or written in part is carried on with at a page.
fn block_for(direct: usize, file_system: usize, device: usize) -> Option<usize> {
    let largest = direct.max(file_system).max(device);
    (largest.is_power_of_two() && largest <= BLOCK_BYTES_MAX && direct <= PAGE_SIZE).then_some(largest)
}

fn statx_alignment(file: &File) -> Option<usize> {
    let mut status = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is a C string, `status` may be written to.
    let result = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            status.as_mut_ptr(),
        )
    };
    // SAFETY: zero is a value of every field, and the call may have filled some in.
    let status = unsafe { status.assume_init() };
    let told = result == 0 && status.stx_mask & libc::STATX_DIOALIGN != 0;
    let largest = status.stx_dio_mem_align.max(status.stx_dio_offset_align);
    (told && largest > 0).then_some(largest as usize)
}

fn file_system_block(directory: &Path) -> Option<usize> {
    usize::try_from(file_system(directory).ok()?.f_frsize).ok()
}

/// The size of a directory's file system, and what of it is left for those who are not root.
pub(super) fn volume(directory: &Path) -> io::Result<Volume> {
    let status = file_system(directory)?;
    let bytes = |blocks: libc::fsblkcnt_t| blocks.saturating_mul(status.f_frsize);
    Ok(Volume {
        total_bytes: bytes(status.f_blocks),
        usable_bytes: bytes(status.f_bavail),
    })
}

fn file_system(directory: &Path) -> io::Result<libc::statvfs> {
    let options = libc::O_DIRECTORY;
    let directory = File::options().read(true).custom_flags(options).open(directory)?;
    let mut status = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `status` may be written to.
    let result = unsafe { libc::fstatvfs(directory.as_raw_fd(), status.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: filled in, because the call succeeded.
    Ok(unsafe { status.assume_init() })
}

fn physical_block(device: u64) -> Option<usize> {
    let (major, minor) = (libc::major(device), libc::minor(device));
    let block = format!("/sys/dev/block/{major}:{minor}");
    // A partition has no queue of its own: its disk, one level up, has.
    [format!("{block}/queue"), format!("{block}/../queue")]
        .iter()
        .find_map(|queue| std::fs::read_to_string(format!("{queue}/physical_block_size")).ok())
        .and_then(|text| text.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_cannot_be_served_are_refused() {
        for (direct, file_system, device, served) in [
            (512, 4096, 512, Some(4096)),
            (4096, 16_384, 4096, Some(16_384)),
            (512, 4096, 65_536, Some(65_536)),
            // A read that ended at a page could not be carried on with.
            (16_384, 16_384, 16_384, None),
            (512, 131_072, 512, None),
            (512, 4096, 520, Some(4096)),
            (512, 4608, 512, None),
        ] {
            assert_eq!(block_for(direct, file_system, device), served);
        }
    }
}
