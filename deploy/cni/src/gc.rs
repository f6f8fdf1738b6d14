//! GC: forget attachments that the runtime no longer knows.

use crate::error::{Code, Error};
use crate::invocation::Invocation;
use crate::netconf::{NetConf, Object};
use crate::state::{self, Attachment};
use crate::subnet_env::SubnetEnv;
use crate::{delegate, render};
use serde_json::{Value, json};

/// Key of the attachments that are still there.
const VALID: &str = "cni.dev/valid-attachments";

/// What an interface is called where flannel's plugin did not say: Kubernetes has no other.
const USUAL_IFNAME: &str = "eth0";

/// Detach what is kept and not in the configuration's list, then let the delegate do the same
/// with what it holds. Each is tried whatever becomes of the others; what fails is kept for
/// the next time, and told at the end. Other networks are not touched.
pub(crate) fn collect(call: &Invocation, conf: &NetConf) -> Result<(), Error> {
    let Some(valid) = &conf.valid_attachments else {
        let msg = format!("GC without {VALID}");
        return Err(Error::new(Code::InvalidConfig, msg));
    };
    let mut errors = Vec::new();
    match state::attachments(&conf.data_dir, &conf.name) {
        Ok(kept) => {
            let gone = kept.iter().filter(|one| !is_valid(one, valid));
            errors.extend(gone.filter_map(|one| forget(one, call, conf).err()));
        }
        Err(error) => errors.push(error),
    }
    errors.extend(delegated(call, conf, valid).err());
    Error::all(errors)
}

/// Whether the list has the container, and with this interface if both say which.
fn is_valid(attachment: &Attachment, valid: &[Object]) -> bool {
    let Attachment {
        container_id,
        ifname,
        ..
    } = attachment;
    valid.iter().any(|listed| {
        let listed = |key| listed.get(key).and_then(Value::as_str);
        let same = listed("ifname").is_none_or(|listed| ifname.is_empty() || listed == ifname);
        same && listed("containerID") == Some(container_id)
    })
}

/// Detach one as DEL would. Its namespace is gone, or nobody tells where it is.
fn forget(attachment: &Attachment, call: &Invocation, conf: &NetConf) -> Result<(), Error> {
    let Some(kept) = attachment.load(&conf.data_dir)? else {
        return Ok(());
    };
    if let Some(rendered) = kept.conf() {
        let kind = render::delegate_type(&rendered["type"])?;
        let ifname = match attachment.ifname.as_str() {
            "" => USUAL_IFNAME,
            ifname => ifname,
        };
        let vars = [
            ("CNI_COMMAND", "DEL"),
            ("CNI_CONTAINERID", attachment.container_id.as_str()),
            ("CNI_IFNAME", ifname),
            ("CNI_NETNS", ""),
        ];
        delegate::detach(kind, &call.path, &vars, &kept.text)?;
    }
    kept.remove()
}

/// The delegate's own GC, if it has one. It does not depend on the node's subnet; that this is
/// not known is told nevertheless, since something is wrong with the node.
fn delegated(call: &Invocation, conf: &NetConf, valid: &[Object]) -> Result<(), Error> {
    let (env, unknown) = match SubnetEnv::load(&conf.subnet_file) {
        Ok(env) => (env, None),
        Err(error) => (SubnetEnv::stand_in(), Some(error)),
    };
    let collected = delegated_with(&env, call, conf, valid);
    Error::all(unknown.into_iter().chain(collected.err()).collect())
}

fn delegated_with(
    env: &SubnetEnv,
    call: &Invocation,
    conf: &NetConf,
    valid: &[Object],
) -> Result<(), Error> {
    let mut rendered = render::delegate_conf(conf, env)?;
    rendered.insert(VALID.into(), json!(valid));
    let kind = render::delegate_type(&rendered["type"])?;
    if !delegate::speaks(kind, &call.path, &conf.cni_version)? {
        return Ok(());
    }
    delegate::run(kind, &call.path, &[], &render::text(&rendered)).map(drop)
}
