//! Where a model is written: under a temporary name beside its own, until it is whole.

use crate::error::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// A file or a directory in the making. Dropping it removes what was written so far.
#[derive(Debug)]
pub struct Place {
    target: PathBuf,
    temporary: PathBuf,
}

impl Place {
    /// A place for `target`. What is there already is replaced if `force` says so, and if it is a file, or a directory
    /// with a model in it and no other directories.
    ///
    /// # Errors
    /// When something is there that is not to be replaced, or there is no directory to write in.
    pub fn new(target: &Path, force: bool) -> Result<Self> {
        let Some(name) = target.file_name() else {
            return Err(Error::Usage(format!("{:?} names no file or directory to write", target.display())));
        };
        if target.symlink_metadata().is_ok() {
            if !force {
                let problem = "exists already; choose another name, or --force to replace it";
                return Err(Error::Usage(format!("{}: {problem}", target.display())));
            }
            replaceable(target)?;
        }
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.partial", std::process::id()));
        let place = Place { target: target.to_owned(), temporary: target.with_file_name(hidden) };
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        match parent.is_dir() {
            true => Ok(place),
            false => Err(Error::file(parent, "there is no such directory to write in")),
        }
    }

    /// Where to write meanwhile.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Gives what was written its name.
    ///
    /// # Errors
    /// When the system refuses; what was there before is still there then.
    pub fn finish(self) -> Result<()> {
        let old = self.temporary.with_extension("old");
        // A file takes another's place at once. A directory cannot: what is there goes away first.
        let there = self.target.symlink_metadata();
        let aside = there.is_ok_and(|there| there.is_dir() || self.temporary.is_dir());
        if aside {
            fs::rename(&self.target, &old).map_err(|e| Error::io(&self.target, e))?;
        }
        if let Err(e) = fs::rename(&self.temporary, &self.target) {
            if aside {
                let _ = fs::rename(&old, &self.target);
            }
            return Err(Error::io(&self.target, e));
        }
        if aside {
            remove(&old);
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        remove(&self.temporary);
    }
}

fn remove(path: &Path) {
    // What cannot be removed stays, under a name that says what it is.
    let _ = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
}

/// Whether what is there may be removed: a wrong word after `-o` must not cost anybody more than a model.
fn replaceable(target: &Path) -> Result<()> {
    if !target.is_dir() {
        return Ok(());
    }
    let entries = fs::read_dir(target).map_err(|e| Error::io(target, e))?;
    let (mut any, mut model, mut others) = (false, false, false);
    for entry in entries {
        let entry = entry.map_err(|e| Error::io(target, e))?;
        any = true;
        model |= entry.file_name() == "config.json";
        others |= entry.file_type().map_err(|e| Error::io(target, e))?.is_dir();
    }
    match !any || model && !others {
        true => Ok(()),
        false => Err(Error::Usage(format!(
            "{}: is not replaced: expected a directory with a config.json and no directories in it",
            target.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_the_place_of_another_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("out.gguf");
        fs::write(&target, "old").unwrap();
        let place = Place::new(&target, true).unwrap();
        fs::write(place.path(), "new").unwrap();
        // What is there cannot be moved aside.
        let aside = place.path().with_extension("old");
        fs::create_dir(&aside).unwrap();
        place.finish().unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        assert!(aside.is_dir());
    }

    #[test]
    fn a_directory_takes_the_place_of_another_and_of_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("out");
        fs::write(&target, "a file").unwrap();
        for number in ["1", "2"] {
            let place = Place::new(&target, true).unwrap();
            fs::create_dir(place.path()).unwrap();
            fs::write(place.path().join("config.json"), number).unwrap();
            place.finish().unwrap();
            assert_eq!(fs::read_to_string(target.join("config.json")).unwrap(), number);
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        }
    }
}
