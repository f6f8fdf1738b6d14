//! What to do about errors of delegates that do not say it themselves.

use crate::error::Error;
use crate::netconf::Object;
use serde_json::Value;

/// How `bridge` complains that its bridge has been given another subnet's gateway.
const OTHER_SUBNET: &str = "already has an IP address different from";

/// The error of a delegate's ADD with what can be done about it.
pub(crate) fn add(error: Error, rendered: &Object) -> Error {
    if !error.msg.contains(OTHER_SUBNET) {
        return error;
    }
    let bridge = rendered.get("bridge").and_then(Value::as_str);
    let bridge = bridge.filter(|name| !name.is_empty()).unwrap_or("cni0");
    error.with_details(format!(
        "if this node has got another subnet, run \"ip link delete {bridge}\" and restart the \
         pods that have addresses of the old one; if another network uses {bridge:?}, set a \
         \"bridge\" of its own in this network's \"delegate\""
    ))
}
