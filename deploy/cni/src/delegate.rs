//! Running another plugin.

use crate::error::{Code, Error};
use serde_json::Value;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Variables that the delegate gets with other values than this process has.
pub type Vars<'a> = &'a [(&'a str, &'a str)];

/// Run the plugin called `kind`, found in the directories of `path` (`CNI_PATH`), with this
/// process's environment, changed by `vars`, and `conf` on its standard input. Its result, or
/// its own error.
pub fn run(kind: &str, path: &str, vars: Vars<'_>, conf: &[u8]) -> Result<Vec<u8>, Error> {
    let plugin = find(kind, path)?;
    let output = communicate(&plugin, vars, conf)
        .map_err(|e| internal(format!("cannot run {}: {e}", plugin.display())))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(complaint(kind, &output))
}

/// Have a plugin detach a container, as [`run`] does.
///
/// A failure may have been half of the work, so it is asked once more. `bridge` removes the
/// interface and then fails on a chain of iptables that it has for all interfaces of a
/// container in a network, or that a failed ADD never made; the second time nothing is left
/// to fail on.
pub fn detach(kind: &str, path: &str, vars: Vars<'_>, conf: &[u8]) -> Result<(), Error> {
    run(kind, path, vars, conf)
        .or_else(|_| run(kind, path, vars, conf))
        .map(drop)
}

/// Whether a plugin speaks this version of the spec, as far as it tells.
pub fn speaks(kind: &str, path: &str, version: &str) -> Result<bool, Error> {
    let conf = format!("{{\"cniVersion\":\"{version}\"}}");
    let told = run(kind, path, &[("CNI_COMMAND", "VERSION")], conf.as_bytes())?;
    let told: Value = serde_json::from_slice(&told).unwrap_or_default();
    let versions = told.get("supportedVersions").and_then(Value::as_array);
    Ok(versions.is_none_or(|all| all.contains(&version.into())))
}

fn find(kind: &str, path: &str) -> Result<PathBuf, Error> {
    if kind.is_empty() || kind.contains('/') {
        return Err(Error::new(
            Code::InvalidConfig,
            format!("{kind:?} is not the name of a plugin"),
        ));
    }
    let mut candidates = std::env::split_paths(path).map(|dir| dir.join(kind));
    candidates
        .find(|file| file.is_file())
        .ok_or_else(|| internal(format!("failed to find plugin {kind:?} in path [{path}]")))
}

fn communicate(plugin: &Path, vars: Vars<'_>, conf: &[u8]) -> std::io::Result<Output> {
    let mut child = Command::new(plugin)
        .envs(vars.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // Its complaints go where ours would.
        .stderr(Stdio::inherit())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(conf) {
            // It had its reasons; its output tells.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
            _ => {}
        }
    }
    child.wait_with_output()
}

/// A failed plugin's own error, if it printed one.
fn complaint(kind: &str, output: &Output) -> Error {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        let said = String::from_utf8_lossy(&output.stdout);
        let said: Vec<_> = said.split_whitespace().collect();
        internal(format!("plugin {kind:?} failed ({})", output.status)).with_details(said.join(" "))
    })
}

fn internal(msg: String) -> Error {
    Error::new(Code::Internal, msg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A directory with a plugin `fake` that runs this shell script.
    fn fake(script: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        weft_lab::script(dir.path().join("fake"), script).unwrap();
        dir
    }

    fn run_fake(script: &str) -> Result<Vec<u8>, Error> {
        let dir = fake(script);
        run("fake", dir.path().to_str().unwrap(), &[], b"{\"a\":1}")
    }

    #[test]
    fn the_conf_goes_in_and_the_result_comes_out() {
        assert_eq!(run_fake("cat"), Ok(b"{\"a\":1}".to_vec()));
        assert_eq!(run_fake("exit 0"), Ok(vec![]), "even if nobody reads");
    }

    #[test]
    fn the_first_directory_with_the_plugin_counts() {
        let (one, two) = (fake("echo one"), fake("echo two"));
        let (one, two) = (one.path().display(), two.path().display());
        let path = format!("/nonexistent:{one}:{two}");
        assert_eq!(run("fake", &path, &[], b""), Ok(b"one\n".to_vec()));
    }

    #[test]
    fn a_plugins_own_error_is_passed_on() {
        let error =
            run_fake("echo '{\"code\": 11, \"msg\": \"busy\", \"details\": \"d\"}'; exit 1");
        let error = error.unwrap_err();
        assert_eq!((error.code, error.to_string()), (11, "busy; d".to_owned()));
    }

    #[test]
    fn detaching_is_tried_twice() {
        let dir = fake("echo >>$0.calls; [ $(wc -l <$0.calls) -ge $TIMES ]");
        let path = dir.path().to_str().unwrap();
        let detach = |times| {
            let _ = fs::remove_file(dir.path().join("fake.calls"));
            detach("fake", path, &[("TIMES", times)], b"")
        };
        assert_eq!((detach("1"), detach("2")), (Ok(()), Ok(())));
        assert_eq!(detach("3").unwrap_err().code, 999);
        let calls = fs::read_to_string(dir.path().join("fake.calls")).unwrap();
        assert_eq!(calls.lines().count(), 2);
    }

    #[test]
    fn plugins_tell_their_versions() {
        let told = r#"[ $CNI_COMMAND = VERSION ] && echo '{"supportedVersions":["1.0.0"]}'"#;
        let dir = fake(told);
        let speaks = |version| speaks("fake", dir.path().to_str().unwrap(), version);
        assert_eq!((speaks("1.0.0"), speaks("1.1.0")), (Ok(true), Ok(false)));
        weft_lab::script(dir.path().join("fake"), "echo hello").unwrap();
        assert_eq!(speaks("1.1.0"), Ok(true), "who does not tell is asked");
    }

    #[test]
    fn failures_without_an_error_are_described() {
        let error = run_fake("echo oh; echo dear; exit 3").unwrap_err();
        assert_eq!(error.code, 999);
        assert!(error.msg.contains("\"fake\"") && error.msg.contains('3'));
        assert_eq!(error.details, "oh dear");
    }

    #[test]
    fn plugins_are_found_by_plain_name_only() {
        for kind in ["", "../fake", "/bin/sh"] {
            let error = run(kind, "/tmp", &[], b"").unwrap_err();
            assert_eq!(error.code, Code::InvalidConfig as u32, "{kind}");
        }
        let error = run("absent", "/a:/b", &[], b"").unwrap_err();
        assert_eq!(
            error.msg,
            "failed to find plugin \"absent\" in path [/a:/b]"
        );
    }
}
