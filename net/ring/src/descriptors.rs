//! How many files and sockets the process may have open.

use std::io;
use std::mem::MaybeUninit;

/// Raises the process's soft limit of open files and sockets to its hard limit (setrlimit(2), RLIMIT_NOFILE), and gives
/// it. Distributions keep the soft limit at 1,024 for the sake of programs that use select(2), which we do not.
///
/// # Errors
/// If the limit cannot be read, or not be raised.
pub fn raise_limit() -> io::Result<u64> {
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: `limit` may be written to.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, limit.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: filled in, because the call succeeded.
    let mut limit = unsafe { limit.assume_init() };
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is whole and is only read.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_once_and_stays() {
        let limit = raise_limit().unwrap();
        assert!(limit > 0);
        assert_eq!(raise_limit().unwrap(), limit);
    }
}
