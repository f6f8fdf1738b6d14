//! The commands of the CNI spec.

use crate::error::{Code, Error};
use crate::invocation::{Command, Invocation};
use crate::netconf::NetConf;
use crate::state::Attachment;
use crate::subnet_env::SubnetEnv;
use crate::{VERSIONS, check, delegate, gc, remedy, render};
use serde_json::json;
use std::io::Read;

/// Longest configuration that is read, in bytes.
const CONF_MAX: u64 = 16 << 20;

/// Position in [`VERSIONS`] of 0.4.0, the first version with CHECK.
const FIRST_WITH_CHECK: usize = 4;

/// What goes to standard output in answer to a call.
pub(crate) fn answer(
    env: impl Fn(&str) -> Option<String>,
    stdin: impl Read,
) -> Result<Vec<u8>, Error> {
    let call = Invocation::from_env(env)?;
    if call.command == Command::Version {
        return Ok(version());
    }
    let mut json = Vec::new();
    stdin
        .take(CONF_MAX)
        .read_to_end(&mut json)
        .map_err(|e| Error::new(Code::Io, format!("cannot read standard input: {e}")))?;
    let conf = NetConf::parse(&json)?;
    dispatch(&call, &conf).map_err(|error| error.answering(&conf.cni_version))
}

fn dispatch(call: &Invocation, conf: &NetConf) -> Result<Vec<u8>, Error> {
    let version = conf.version()?;
    match call.command {
        Command::Add => add(call, conf),
        Command::Del => del(call, conf).map(|()| Vec::new()),
        Command::Gc | Command::Status if VERSIONS[version] != "1.1.0" => Err(Error::new(
            Code::IncompatibleVersion,
            "GC and STATUS need a config of version 1.1.0 or later",
        )),
        Command::Gc => gc::collect(call, conf).map(|()| Vec::new()),
        Command::Status => status(call, conf).map(|()| Vec::new()),
        Command::Check if version >= FIRST_WITH_CHECK => {
            check::check(call, conf).map(|()| Vec::new())
        }
        // The delegate has no CHECK in these.
        Command::Check | Command::Version => Ok(Vec::new()),
    }
}

fn version() -> Vec<u8> {
    let newest = VERSIONS[VERSIONS.len() - 1];
    let answer = json!({ "cniVersion": newest, "supportedVersions": VERSIONS });
    format!("{answer}\n").into_bytes()
}

/// Keep the rendered configuration, then let the delegate attach the container. It is kept
/// when that fails, too: the runtime sends a DEL to tidy up.
fn add(call: &Invocation, conf: &NetConf) -> Result<Vec<u8>, Error> {
    let rendered = render::for_today(conf)?;
    let text = render::text(&rendered);
    Attachment::of(call, conf).save(&conf.data_dir, &text)?;
    let kind = render::delegate_type(&rendered["type"])?;
    delegate::run(kind, &call.path, &[], &text).map_err(|error| remedy::add(error, &rendered))
}

/// Let the delegate detach the container, with the configuration that attached it.
fn del(call: &Invocation, conf: &NetConf) -> Result<(), Error> {
    let Some(kept) = Attachment::of(call, conf).load(&conf.data_dir)? else {
        release(call, conf);
        return Ok(());
    };
    match kept.conf() {
        Some(rendered) => {
            let kind = render::delegate_type(&rendered["type"])?;
            delegate::detach(kind, &call.path, &[], &kept.text)?;
        }
        // Nobody can make sense of it any more, and DEL must not fail for ever.
        None => {
            eprintln!(
                "flannel: {} is not readable; dropped",
                kept.path().display()
            );
            release(call, conf);
        }
    }
    kept.remove()
}

/// Nothing is kept: this DEL is a second one, or what was kept is lost, as on a reboot with
/// the data directory in memory. The delegate gives back what it may hold on the host for
/// the attachment, above all its address. The container's namespace is none of its business:
/// an interface of that name may be another network's by now. Whatever fails, DEL has nothing
/// to try again.
fn release(call: &Invocation, conf: &NetConf) {
    let released = || -> Result<(), Error> {
        let env = SubnetEnv::load(&conf.subnet_file).unwrap_or_else(|_| SubnetEnv::stand_in());
        let rendered = render::delegate_conf(conf, &env)?;
        let kind = render::delegate_type(&rendered["type"])?;
        delegate::detach(
            kind,
            &call.path,
            &[("CNI_NETNS", "")],
            &render::text(&rendered),
        )
    };
    if let Err(error) = released() {
        let Invocation {
            container_id,
            ifname,
            ..
        } = call;
        eprintln!("flannel: nothing is kept for {ifname} of container {container_id}: {error}");
    }
}

/// Ready once the agent has written `subnet.env` and the delegate is ready.
fn status(call: &Invocation, conf: &NetConf) -> Result<(), Error> {
    let unavailable = |error: Error| Error {
        code: Code::NotAvailable as u32,
        ..error
    };
    let rendered = render::for_today(conf).map_err(unavailable)?;
    let kind = render::delegate_type(&rendered["type"])?;
    let version = &conf.cni_version;
    if !delegate::speaks(kind, &call.path, version).map_err(unavailable)? {
        let msg = format!(
            "plugin {kind:?} does not speak CNI {version}: install a newer one, or lower the \
             config's \"cniVersion\""
        );
        return Err(Error::new(Code::NotAvailable, msg));
    }
    delegate::run(kind, &call.path, &[], &render::text(&rendered)).map(drop)
}
