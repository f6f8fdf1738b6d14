//! Rendered configurations, kept from ADD to DEL: one file for each attachment, which is an
//! interface of a container in a network.
//!
//! They are `DIR/.networks/NETWORK/CONTAINER:INTERFACE`; no name of a container begins with a
//! dot, and none has a colon. flannel's plugin has one file `DIR/CONTAINER` for a container,
//! whatever its networks and interfaces. Its files are found, too, and the first attachment
//! of a container has a link of that name, so that flannel's plugin finds it in turn.

use crate::error::{Code, Error};
use crate::invocation::Invocation;
use crate::netconf::{NetConf, Object};
use serde_json::Value;
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

/// Holds a directory for each network.
const NETWORKS: &str = ".networks";

/// An interface of a container in a network. All three are plain names that were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The network's name.
    pub network: String,
    /// The container's id.
    pub container_id: String,
    /// The interface's name in the container.
    pub ifname: String,
}

/// What is kept for an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The file.
    path: PathBuf,
    /// The link to it under the name of flannel's plugin, if it has one.
    link: Option<PathBuf>,
    /// The configuration as the delegate got it.
    pub text: Vec<u8>,
}

impl Attachment {
    /// What a call is about.
    pub(crate) fn of(call: &Invocation, conf: &NetConf) -> Attachment {
        Attachment {
            network: conf.name.clone(),
            container_id: call.container_id.clone(),
            ifname: call.ifname.clone(),
        }
    }

    /// Path of the file below the data directory.
    fn file(&self) -> PathBuf {
        let name = format!("{}:{}", self.container_id, self.ifname);
        Path::new(NETWORKS).join(&self.network).join(name)
    }

    /// Keep `conf` in `dir`. Directories are made with mode 0700, the file has 0600 and is on
    /// the disk, whole, when this returns.
    pub fn save(&self, dir: &Path, conf: &[u8]) -> Result<(), Error> {
        let path = dir.join(self.file());
        let network = dir.join(NETWORKS).join(&self.network);
        let written = || -> io::Result<()> {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700).create(&network)?;
            // Without a colon it is no attachment's.
            let mut file = tempfile::Builder::new()
                .prefix(".tmp-")
                .tempfile_in(&network)?;
            file.write_all(conf)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        written().map_err(|e| failed("write", &path, &e))?;
        // Another attachment of the container may have it already, and only flannel's plugin
        // needs it.
        let _ = symlink(self.file(), dir.join(&self.container_id));
        Ok(())
    }

    /// What is kept in `dir`, by this plugin or by flannel's.
    pub fn load(&self, dir: &Path) -> Result<Option<Kept>, Error> {
        let (path, plain) = (dir.join(self.file()), dir.join(&self.container_id));
        if let Some(text) = read(&path)? {
            let linked = fs::read_link(&plain).is_ok_and(|target| target == self.file());
            let link = linked.then_some(plain);
            return Ok(Some(Kept { path, link, text }));
        }
        Ok(flannels(plain)?.filter(|kept| match kept.conf() {
            Some(conf) => conf.get("name").and_then(Value::as_str) == Some(&self.network),
            // Nobody can tell whose it was, and nobody can use it.
            None => true,
        }))
    }
}

impl Kept {
    /// The configuration as an object that names its plugin; none if the file is damaged.
    pub fn conf(&self) -> Option<Object> {
        let conf: Option<Object> = serde_json::from_slice(&self.text).ok();
        conf.filter(|conf| conf.get("type").is_some_and(Value::is_string))
    }

    /// Where it is kept.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Forget it. Fine if it is forgotten already.
    pub fn remove(&self) -> Result<(), Error> {
        // The link goes first: it never leads nowhere.
        for path in self.link.iter().chain([&self.path]) {
            match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(failed("remove", path, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// All attachments of a network that something is kept for in `dir`, sorted. Those that
/// flannel's plugin kept have an empty `ifname`: it does not say.
pub fn attachments(dir: &Path, network: &str) -> Result<Vec<Attachment>, Error> {
    let attachment = |container_id: &str, ifname: &str| Attachment {
        network: network.to_owned(),
        container_id: container_id.to_owned(),
        ifname: ifname.to_owned(),
    };
    let own = names(&dir.join(NETWORKS).join(network))?;
    let own = own.iter().filter_map(|name| name.split_once(':'));
    let mut all: Vec<_> = own.map(|(id, ifname)| attachment(id, ifname)).collect();
    for id in names(dir)? {
        let kept = flannels(dir.join(&id)).ok().flatten();
        let conf = kept.and_then(|kept| kept.conf()).unwrap_or_default();
        if conf.get("name").and_then(Value::as_str) == Some(network) {
            all.push(attachment(&id, ""));
        }
    }
    Ok(all)
}

/// The file of flannel's plugin at `path`. A link there is to a file of this plugin's, and
/// is left to the attachment it leads to.
fn flannels(path: PathBuf) -> Result<Option<Kept>, Error> {
    match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", &path, &error)),
    }
    let text = read(&path)?;
    Ok(text.map(|text| Kept {
        path,
        link: None,
        text,
    }))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path, &error)),
    }
}

/// Names of the entries of a directory, sorted, without the hidden ones. None if it is not
/// there.
fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", dir, &error)),
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    Ok(names)
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    let path = path.display();
    Error::new(Code::Io, format!("cannot {what} {path}: {error}"))
}

#[cfg(test)]
mod tests;
