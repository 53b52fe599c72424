//! The io_uring driver.

use std::io;

use crate::driver::ThreadMain;
use crate::thread::{ThreadHandle, ThreadOptions};

pub(crate) fn spawn_thread(options: ThreadOptions, main: ThreadMain) -> io::Result<ThreadHandle> {
    let _ = (options, main);
    todo!()
}
