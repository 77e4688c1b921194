//! Writes files atomically, completely or not at all.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use crate::errors::InputError;

/// Writes pieces to a file: readers see either the old file or the complete new one, whatever happens.
/// Without `mode`, the file gets the permissions of any new file.
#[pyfunction]
pub(crate) fn write_atomically(path: PathBuf, chunks: &Bound<'_, PyAny>, mode: Option<u32>) -> PyResult<()> {
    let write = |file: &mut File| {
        for chunk in chunks.try_iter()? {
            file.write_all(chunk?.extract::<&[u8]>().map_err(PyErr::from)?)?;
        }
        set_mode(file, mode)
    };
    replace(&path, write).map_err(|error| os_error(error, &path))
}

#[cfg(unix)]
fn set_mode(file: &File, mode: Option<u32>) -> io::Result<()> {
    mode.map_or(Ok(()), |mode| file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode)))
}

#[cfg(not(unix))]
fn set_mode(_: &File, _: Option<u32>) -> io::Result<()> {
    Ok(())
}

/// Writes to a temporary file in the target's folder, flushes it to the disk and renames it to the target.
/// Never in place of a pipe or a device, such as /dev/null, or of a link to one, such as /dev/stdout.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::other(InputError::new_err(format!(
            "path: {} is a pipe or a device; give the path of a file",
            path.display()
        ))));
    }
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    clean_once(folder);
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    if let Some(mut file) = nameless(folder) {
        lock(&file);
        write(&mut file)?;
        file.sync_all()?;
        return link(&file, folder, &prefix)?.persist(path).map_err(|error| error.error);
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(SUFFIX);
    #[cfg(unix)] // Permissions of any new file; the umask applies to them.
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    lock(file.as_file());
    write(file.as_file_mut())?;
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

/// Ending of the names of temporary files, which no other program uses.
const SUFFIX: &str = ".boresight-tmp";
/// An empty temporary file younger than this is kept, because the process that made it may not have locked it
/// yet.
const LOCK_GRACE: Duration = Duration::from_secs(10);

/// Locks a temporary file while it is written. The lock ends with the process, whatever ends it. A file
/// system without locks leaves the file unlocked.
fn lock(file: &File) {
    #[cfg(unix)] // On other systems, a locked file cannot be renamed.
    let _ = file.try_lock();
    #[cfg(not(unix))]
    let _ = file;
}

/// Whether no process writes to a temporary file any more; always false without locks.
fn is_abandoned(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let is_new = file.metadata().is_ok_and(|data| {
        data.len() == 0 && data.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age < LOCK_GRACE))
    });
    cfg!(unix) && !is_new && file.try_lock().is_ok()
}

/// Removes the temporary files of killed processes from a folder, before the first file that this process
/// writes to it.
fn clean_once(folder: &Path) {
    /// Folders that were cleaned, and the process that cleaned them: a forked process starts with none.
    static CLEANED: Mutex<(u32, Option<HashSet<PathBuf>>)> = Mutex::new((0, None));
    let Ok(folder) = folder.canonicalize() else { return };
    let is_first = {
        let mut cleaned = CLEANED.lock().unwrap_or_else(PoisonError::into_inner);
        if cleaned.0 != std::process::id() {
            *cleaned = (std::process::id(), None);
        }
        cleaned.1.get_or_insert_default().insert(folder.clone())
    };
    if is_first {
        remove_temporaries(folder);
    }
}

/// Opens a file that has no name before it is complete, so that a killed process leaves nothing behind.
/// `None` if the file system has no such files, or if they could not be given a name.
#[cfg(target_os = "linux")]
fn nameless(folder: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags, open};

    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = File::from(open(folder, flags, Mode::from_raw_mode(0o666)).ok()?);
    Path::new(&opened(&file)).exists().then_some(file)
}

/// Gives a nameless file a temporary name, as a first step: a link never replaces a file.
#[cfg(target_os = "linux")]
fn link(file: &File, folder: &Path, prefix: &std::ffi::OsStr) -> io::Result<tempfile::TempPath> {
    use rustix::fs::{AtFlags, CWD, linkat};

    let link = |name: &Path| Ok(linkat(CWD, opened(file), CWD, name, AtFlags::SYMLINK_FOLLOW)?);
    let link = tempfile::Builder::new().prefix(prefix).suffix(SUFFIX).make_in(folder, link)?;
    Ok(link.into_temp_path())
}

#[cfg(target_os = "linux")]
fn opened(file: &File) -> String {
    use std::os::fd::AsRawFd;

    format!("/proc/self/fd/{}", file.as_raw_fd())
}

#[cfg(not(target_os = "linux"))]
fn nameless(_: &Path) -> Option<File> {
    None
}

#[cfg(not(target_os = "linux"))]
fn link(_: &File, _: &Path, _: &std::ffi::OsStr) -> io::Result<tempfile::TempPath> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The `OSError` of the right class (`FileNotFoundError`, `IsADirectoryError`, ...) that names the file.
pub(crate) fn os_error(error: io::Error, path: &Path) -> PyErr {
    if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<PyErr>) {
        return error.into();
    }
    // POSIX error numbers, for errors that do not come from the system itself.
    let code = match error.kind() {
        io::ErrorKind::NotFound => Some(2),
        io::ErrorKind::PermissionDenied => Some(13),
        io::ErrorKind::IsADirectory => Some(21),
        io::ErrorKind::InvalidInput => Some(22),
        io::ErrorKind::StorageFull => Some(28),
        io::ErrorKind::ReadOnlyFilesystem => Some(30),
        _ => None,
    };
    // Error number of a library's error about a temporary file, whose name would not help the user.
    let within = error.get_ref().and_then(std::error::Error::source);
    let within = within.and_then(|source| source.downcast_ref::<io::Error>()?.raw_os_error());
    match error.raw_os_error().or(within).or(code) {
        Some(code) => {
            let text = io::Error::from_raw_os_error(code).to_string();
            let text = text.split(" (os error").next().unwrap_or_default().to_owned();
            PyOSError::new_err((code, text, path.display().to_string()))
        }
        None => PyOSError::new_err(format!("{error}: {}", path.display())),
    }
}

/// Removes the temporary files that killed processes left in a folder.
#[pyfunction]
pub(crate) fn remove_temporaries(folder: PathBuf) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        if name.starts_with('.') && name.ends_with(SUFFIX) && is_abandoned(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
