//! Files read through memory maps: a file that is truncated while it is open gives an error.
//!
//! Reading a page of a map beyond the end of its file raises the signal SIGBUS, which ends the process. The
//! handler in this module instead maps a page of zeros there and marks the map as damaged, as display servers
//! do with the memory that clients share with them. After reading from a map, its state must be checked.
//! Signals that do not come from these maps are passed to the previous handler.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use memmap2::Mmap;

/// A file mapped into memory.
pub(crate) struct MappedFile {
    map: Mmap,
    file: File,
    path: PathBuf,
    /// Time of the last change of the file whose content is known to be valid.
    modified: AtomicU64,
    guard: guard::Guard,
}

/// State of a file since it was mapped.
pub(crate) enum State {
    Intact,
    /// The file has its old length, but was written to or touched at this time.
    Changed(u64),
    /// The file was truncated or extended, or a page of it was missing when it was read.
    Lost,
}

impl MappedFile {
    /// Maps a file that is not empty.
    pub(crate) fn new(file: File, path: &Path) -> io::Result<Self> {
        // SAFETY: Rust requires that the bytes of a map do not change. Database files are only replaced by
        // renaming, which leaves the mapped file as it is. If a user overwrites a file in place while it is
        // open, stars may be wrong for a moment, as from any damaged file: every index read from the file is
        // checked before use.
        let map = unsafe { Mmap::map(&file)? };
        let modified = AtomicU64::new(modified(&file.metadata()?));
        let guard = guard::Guard::new(&map);
        Ok(Self { map, file, path: path.to_path_buf(), modified, guard })
    }

    /// State of the file: whether it is the one that was opened, and all data read through the map came from
    /// it.
    pub(crate) fn state(&self) -> State {
        match self.file.metadata() {
            Ok(data) if data.len() == self.map.len() as u64 && !self.guard.is_damaged() => {
                let modified = modified(&data);
                if modified == self.modified.load(Ordering::Acquire) {
                    State::Intact
                } else {
                    State::Changed(modified)
                }
            }
            _ => State::Lost,
        }
    }

    /// Accepts the file with this time of change, because its content is valid.
    pub(crate) fn accept(&self, modified: u64) {
        self.modified.store(modified, Ordering::Release);
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Time of the last change, nanoseconds since 1970.
fn modified(metadata: &Metadata) -> u64 {
    let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |time| time.as_nanos() as u64)
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

#[cfg(unix)]
mod guard {
    use std::mem;
    use std::ptr;
    use std::sync::Once;
    use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

    /// A range of addresses, available to a new map unless it is `used`. Ranges are never deallocated,
    /// because the handler may read them at any time.
    #[derive(Default)]
    struct Range {
        start: AtomicUsize,
        length: AtomicUsize,
        damaged: AtomicBool,
        used: AtomicBool,
        next: AtomicPtr<Range>,
    }

    static RANGES: AtomicPtr<Range> = AtomicPtr::new(ptr::null_mut());
    static INSTALLED: Once = Once::new();
    static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());
    static PAGE: AtomicUsize = AtomicUsize::new(0);

    /// Protects the readers of a map as long as the guard exists.
    pub(super) struct Guard(&'static Range);

    impl Guard {
        pub(super) fn new(bytes: &[u8]) -> Self {
            INSTALLED.call_once(install);
            let free = |range: &&'static Range| !range.used.swap(true, Ordering::AcqRel);
            let range = ranges().find(free).unwrap_or_else(add);
            range.damaged.store(false, Ordering::Relaxed);
            range.length.store(bytes.len(), Ordering::Relaxed);
            range.start.store(bytes.as_ptr().addr(), Ordering::Release);
            Self(range)
        }

        pub(super) fn is_damaged(&self) -> bool {
            self.0.damaged.load(Ordering::Acquire)
        }
    }

    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.start.store(0, Ordering::Release);
            self.0.length.store(0, Ordering::Release);
            self.0.used.store(false, Ordering::Release);
        }
    }

    fn ranges() -> impl Iterator<Item = &'static Range> {
        // SAFETY: ranges come from `Box::leak`.
        let follow = |range: *mut Range| unsafe { range.as_ref() };
        std::iter::successors(follow(RANGES.load(Ordering::Acquire)), move |range| {
            follow(range.next.load(Ordering::Acquire))
        })
    }

    fn add() -> &'static Range {
        let range = Box::leak(Box::<Range>::default());
        range.used.store(true, Ordering::Relaxed);
        let mut first = RANGES.load(Ordering::Acquire);
        loop {
            range.next.store(first, Ordering::Relaxed);
            match RANGES.compare_exchange(first, ptr::from_mut(range), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return range,
                Err(other) => first = other,
            }
        }
    }

    fn install() {
        // SAFETY: system calls with valid pointers; the handler uses only operations that are allowed in a
        // handler.
        unsafe {
            PAGE.store(libc::sysconf(libc::_SC_PAGESIZE) as usize, Ordering::Relaxed);
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = on_bus_error as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
            libc::sigemptyset(&raw mut action.sa_mask);
            let previous = Box::leak(Box::new(mem::zeroed::<libc::sigaction>()));
            libc::sigaction(libc::SIGBUS, ptr::null(), previous);
            PREVIOUS.store(previous, Ordering::Release);
            libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut());
        }
    }

    extern "C" fn on_bus_error(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the system gives a valid `info`.
        let address = unsafe { (*info).si_addr() }.addr();
        let inside = |range: &&Range| {
            let start = range.start.load(Ordering::Acquire);
            start != 0 && (start..start + range.length.load(Ordering::Acquire)).contains(&address)
        };
        if let Some(range) = ranges().find(inside) {
            range.damaged.store(true, Ordering::Release);
            let page = PAGE.load(Ordering::Relaxed);
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            let start = ptr::without_provenance_mut(address & !(page - 1));
            // SAFETY: the page belongs to one of these maps, which is not unmapped while it is read.
            if unsafe { libc::mmap(start, page, libc::PROT_READ, flags, -1, 0) } != libc::MAP_FAILED {
                return;
            }
        }
        pass_on(signal, info, context);
    }

    /// Passes the signal to the previous handler.
    fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: set before the handler was installed, and never freed.
        let previous = unsafe { PREVIOUS.load(Ordering::Acquire).as_ref() };
        match previous {
            Some(action) if action.sa_sigaction != libc::SIG_DFL && action.sa_sigaction != libc::SIG_IGN => {
                // SAFETY: calls the registered function with the signature that its flags specify.
                unsafe {
                    if action.sa_flags & libc::SA_SIGINFO == 0 {
                        let handler: extern "C" fn(libc::c_int) = mem::transmute(action.sa_sigaction);
                        handler(signal);
                    } else {
                        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                            mem::transmute(action.sa_sigaction);
                        handler(signal, info, context);
                    }
                }
            }
            // With the default action, the instruction is repeated and the signal ends the process.
            // SAFETY: a system call with valid arguments.
            _ => unsafe {
                libc::signal(signal, libc::SIG_DFL);
            },
        }
    }
}

/// Other systems do not truncate a mapped file.
#[cfg(not(unix))]
mod guard {
    pub(super) struct Guard;

    impl Guard {
        pub(super) fn new(_: &[u8]) -> Self {
            Self
        }

        pub(super) fn is_damaged(&self) -> bool {
            false
        }
    }
}
