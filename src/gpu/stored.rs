//! Compiled pipelines on disk, for drivers that hand them out and take them back.

use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Longest file that is read.
const MOST_BYTES: u64 = 256 << 20;

/// What a pipeline takes, at least.
const LEAST_BYTES: usize = 1024;

/// Bytes of a digest, with which a file begins.
const DIGEST: usize = 32;

/// The pipelines of a device.
pub struct Stored {
    cache: wgpu::PipelineCache,
    path: PathBuf,
    /// Bytes of what is in the file.
    bytes: usize,
}

impl Stored {
    /// What `directory` has for an adapter and its driver, or nothing yet. None where the driver keeps pipelines to itself.
    pub fn open(device: &wgpu::Device, info: &wgpu::AdapterInfo, directory: &Path) -> Option<Self> {
        let path = directory.join(wgpu::util::pipeline_cache_key(info)?);
        let data = read(&path);
        let descriptor = wgpu::PipelineCacheDescriptor { label: None, data: data.as_deref(), fallback: true };
        // SAFETY: the bytes are those that `save` got from a cache, which their digest says; whether they are of this device
        // and driver, their own header says, and with `fallback` others count as none.
        let cache = unsafe { device.create_pipeline_cache(&descriptor) };
        Some(Stored { cache, path, bytes: data.map_or(0, |data| data.len()) })
    }

    /// What pipelines are compiled with.
    pub fn cache(&self) -> &wgpu::PipelineCache {
        &self.cache
    }

    /// Writes all pipelines compiled so far. Where that fails, they are compiled again the next time, and no more.
    pub fn save(&mut self) {
        let Some(data) = self.cache.get_data() else { return };
        // Drivers that keep pipelines elsewhere, or not at all, hand out little but a header.
        if data.len() < self.bytes + LEAST_BYTES {
            return;
        }
        self.bytes = data.len();
        let written = || -> std::io::Result<()> {
            if let Some(directory) = self.path.parent() {
                std::fs::create_dir_all(directory)?;
            }
            // Whole or not at all: another process may read it.
            let temporary = self.path.with_extension(format!("{}.partial", std::process::id()));
            std::fs::write(&temporary, [Sha256::digest(&data).as_slice(), &data].concat())?;
            std::fs::rename(&temporary, &self.path)
        };
        let _ = written();
    }
}

/// The data of a file whose digest is right.
fn read(path: &Path) -> Option<Vec<u8>> {
    let found = std::fs::metadata(path).ok()?;
    if !found.is_file() || found.len() > MOST_BYTES {
        return None;
    }
    let bytes = std::fs::read(path).ok()?;
    let (digest, data) = bytes.split_at_checked(DIGEST)?;
    (Sha256::digest(data).as_slice() == digest).then(|| data.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_whole_counts_as_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("device");
        assert_eq!(read(&path), None);
        assert_eq!(read(directory.path()), None);
        let data = b"what a driver made";
        let whole = [Sha256::digest(data).as_slice(), data].concat();
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(read(&path).as_deref(), Some(&data[..]));
        for wrong in [&whole[..whole.len() - 1], &whole[..5], b"", &[0; 64]] {
            std::fs::write(&path, wrong).unwrap();
            assert_eq!(read(&path), None);
        }
    }
}
