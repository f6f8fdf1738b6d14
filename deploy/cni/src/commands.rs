//! The commands of the CNI spec.

use crate::error::{Code, Error};
use crate::invocation::{Command, Invocation};
use crate::netconf::{NetConf, Object};
use crate::subnet_env::SubnetEnv;
use crate::{VERSIONS, delegate, render, state};
use serde_json::{Value, json};
use std::io::Read;

/// Longest configuration that is read, in bytes.
const CONF_MAX: u64 = 16 << 20;

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
        Command::Gc => gc(call, conf).map(|()| Vec::new()),
        Command::Status => status(call, conf).map(|()| Vec::new()),
        // flannel's plugin checks nothing either.
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
    let rendered = render_for(conf)?;
    let text = text(&rendered);
    state::save(&conf.data_dir, &call.container_id, &text)?;
    delegate::run(render::delegate_type(&rendered["type"])?, &call.path, &text)
}

/// Let the delegate detach the container, with the configuration that attached it.
fn del(call: &Invocation, conf: &NetConf) -> Result<(), Error> {
    let Some(text) = state::load(&conf.data_dir, &call.container_id)? else {
        return Ok(());
    };
    match serde_json::from_slice::<Object>(&text) {
        Ok(kept) if kept.contains_key("type") => {
            let kind = render::delegate_type(&kept["type"])?;
            delegate::run(kind, &call.path, &text)?;
        }
        // Nobody can make sense of it any more, and DEL must not fail for ever.
        _ => {
            let (id, dir) = (&call.container_id, conf.data_dir.display());
            eprintln!("flannel: what {dir} holds for container {id} is not readable; dropped");
        }
    }
    state::remove(&conf.data_dir, &call.container_id)
}

/// Let the delegate forget what is not in the configuration's list, then do the same. Files
/// of other networks in the same directory stay.
fn gc(call: &Invocation, conf: &NetConf) -> Result<(), Error> {
    let Some(valid) = &conf.valid_attachments else {
        return Err(Error::new(
            Code::InvalidConfig,
            "GC without cni.dev/valid-attachments",
        ));
    };
    let mut rendered = render_for(conf)?;
    rendered.insert("cni.dev/valid-attachments".into(), json!(valid));
    let kind = render::delegate_type(&rendered["type"])?.to_owned();
    delegate::run(&kind, &call.path, &text(&rendered))?;

    let wanted = |id: &str| {
        valid
            .iter()
            .any(|a| a.get("containerID") == Some(&json!(id)))
    };
    for id in state::container_ids(&conf.data_dir)? {
        let kept = state::load(&conf.data_dir, &id)?.unwrap_or_default();
        let kept: Object = serde_json::from_slice(&kept).unwrap_or_default();
        let ours = kept.get("name").and_then(Value::as_str) == Some(&conf.name);
        if ours && !wanted(&id) {
            state::remove(&conf.data_dir, &id)?;
        }
    }
    Ok(())
}

/// Ready once the agent has written `subnet.env` and the delegate is ready.
fn status(call: &Invocation, conf: &NetConf) -> Result<(), Error> {
    let rendered = render_for(conf).map_err(|error| Error {
        code: Code::NotAvailable as u32,
        ..error
    })?;
    let kind = render::delegate_type(&rendered["type"])?.to_owned();
    delegate::run(&kind, &call.path, &text(&rendered)).map(drop)
}

fn render_for(conf: &NetConf) -> Result<Object, Error> {
    let env = SubnetEnv::load(&conf.subnet_file)?;
    render::delegate_conf(conf, &env)
}

fn text(conf: &Object) -> Vec<u8> {
    // A map of JSON values always serialises.
    serde_json::to_vec(conf).unwrap_or_default()
}
