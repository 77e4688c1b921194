//! Memory is asked for before it is taken: an allocation that fails ends the process.

use std::hint::black_box;

use crate::error::{Error, Result};

/// From so many bytes on, the memory of the machine is looked at too: less is there, or comes from what others can spare.
const MUCH: usize = 1 << 28;

/// [`Error::Memory`] where a task needs more bytes than the process may have, or than the machine has left.
pub fn check(task: &str, bytes: usize) -> Result<()> {
    if fits(bytes) {
        return Ok(());
    }
    Err(Error::Memory(format!(
        "{task} needs about {} MB of memory, more than there is",
        bytes.div_ceil(1 << 20)
    )))
}

/// Whether so many bytes can be had now.
pub(crate) fn fits(bytes: usize) -> bool {
    // The process's own limit and what the system never gives show in an allocation that is not touched.
    let mut probe = Vec::<u8>::new();
    let is_given = probe.try_reserve_exact(bytes).is_ok();
    // Else the compiler may leave out the allocation, and take it for given.
    black_box(probe.as_ptr());
    is_given && (bytes < MUCH || available().is_none_or(|left| bytes <= left))
}

/// Bytes that the machine has left, swap included; none where it does not tell.
fn available() -> Option<usize> {
    let told = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kilobytes = |name: &str| {
        let line = told.lines().find_map(|line| line.strip_prefix(name))?;
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
