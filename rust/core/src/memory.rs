//! Checks that memory is available before it is allocated, because an allocation that fails ends the process.

use std::hint::black_box;

use crate::error::{Error, Result};

/// From this number of bytes on, the free memory of the machine is checked too. Fewer bytes are taken to be
/// available.
const CHECKED_BYTES: usize = 1 << 28;

/// Returns [`Error::Memory`] if a task needs more bytes than the process may have, or than the machine has
/// left.
pub fn check(task: &str, bytes: usize) -> Result<()> {
    if fits(bytes) {
        return Ok(());
    }
    Err(Error::Memory(format!(
        "{task} needs about {} MB of memory, more than is available",
        bytes.div_ceil(1 << 20)
    )))
}

/// Whether this number of bytes can be allocated now.
pub(crate) fn fits(bytes: usize) -> bool {
    // An allocation that is never written to tests the limits of the process and of the system.
    let mut probe = Vec::<u8>::new();
    let is_given = probe.try_reserve_exact(bytes).is_ok();
    // Otherwise the compiler may remove the allocation and assume that it succeeds.
    black_box(probe.as_ptr());
    is_given && (bytes < CHECKED_BYTES || available().is_none_or(|left| bytes <= left))
}

/// Free memory of the machine in bytes, including swap; `None` if the system does not report it.
fn available() -> Option<usize> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kilobytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<usize>().ok()
    };
    let left = kilobytes("MemAvailable:")? + kilobytes("SwapFree:").unwrap_or(0);
    // A container may have less than its machine.
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = limit.and_then(|limit| limit.trim().parse().ok());
    Some((left << 10).min(limit.unwrap_or(usize::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_fits_and_too_much_does_not() {
        assert!(check("nothing", 0).is_ok());
        assert!(check("a little", 1000).is_ok());
        for bytes in [usize::MAX, isize::MAX as usize, 1 << 50] {
            let error = check("all of it", bytes).unwrap_err();
            assert!(matches!(error, Error::Memory(_)));
            assert!(error.to_string().starts_with("all of it needs about "));
        }
    }
}
