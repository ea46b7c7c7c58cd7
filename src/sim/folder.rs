//! A folder for what a simulated world writes: key files, certificates, a configuration, a store.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// A folder that nobody else can read and that is deleted when this is dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes a folder below the one for temporary files, with this name and a random end.
    ///
    /// # Errors
    /// The folder for temporary files cannot be written.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let end = fastrand::u64(..);
        let path = std::env::temp_dir().join(format!("ece-expiry-{name}-{end:016x}"));
        // A folder that is there already belongs to somebody else.
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file that nobody else can read, as a whole: who reads it at the same time sees the old text or the new.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.0.join(name);
        replace(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Leaves the folder behind, for somebody to look into, and says where it is.
    pub fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            // What is left behind in the folder for temporary files harms nobody.
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(beside, path)
}
