//! Running `iptables`, `nft` and their kin: with a time limit, bounded output, and errors of
//! one line.

use super::FirewallError;
use std::io;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

/// How long a program may wait for the lock of the iptables programs.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(20);

/// How long a program may take altogether.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// The most of a listing that is read: some 500,000 rules.
const MAX_OUTPUT: u64 = 64 << 20;

/// The most lines of a listing that are kept.
const MAX_LINES: usize = 4096;

/// The most of an error text that is read, in bytes, and shown, in characters.
const MAX_ERROR: (u64, usize) = (64 << 10, 300);

/// Run `program` with `input` on its standard input; those lines of its output that `keep`
/// accepts.
pub(super) async fn run(
    program: &str,
    args: &[&str],
    input: &str,
    keep: impl Fn(&str) -> bool,
) -> Result<Vec<String>, FirewallError> {
    let command = || format!("{program} {}", args.join(" "));
    match tokio::time::timeout(TIME_LIMIT, exchange(program, args, input, keep)).await {
        Ok(Ok(Ok(lines))) => Ok(lines),
        Ok(Ok(Err(reason))) => Err(FirewallError::Failed {
            command: command(),
            reason,
        }),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            Err(FirewallError::missing(program))
        }
        Ok(Err(error)) => Err(FirewallError::Failed {
            command: command(),
            reason: error.to_string(),
        }),
        Err(_) => Err(FirewallError::Failed {
            command: command(),
            reason: format!("no end after {} s", TIME_LIMIT.as_secs()),
        }),
    }
}

/// A program with pipes, in English, that is not told what is for the agent alone.
fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(args)
        .env("LC_ALL", "C")
        .env_remove("FLANNELD_ETCD_PASSWORD")
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// The kept lines, or what the program said when it failed.
async fn exchange(
    program: &str,
    args: &[&str],
    input: &str,
    keep: impl Fn(&str) -> bool,
) -> io::Result<Result<Vec<String>, String>> {
    let mut child = command(program, args).spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err(io::Error::other("its pipes are missing"));
    };
    let write = async move {
        // A program that does not read its input says why in its status.
        let _ = stdin.write_all(input.as_bytes()).await;
    };
    let mut message = String::new();
    let complain = async {
        let mut bytes = Vec::new();
        let read = stderr.take(MAX_ERROR.0).read_to_end(&mut bytes).await;
        message = String::from_utf8_lossy(&bytes).into_owned();
        read
    };
    let ((), lines, complained) = tokio::join!(write, kept_lines(stdout, keep), complain);
    complained?;
    let lines = lines?;
    let status = child.wait().await?;
    if status.success() {
        return Ok(Ok(lines));
    }
    Ok(Err(match one_line(&message) {
        message if message.is_empty() => status.to_string(),
        message => message,
    }))
}

async fn kept_lines(
    output: impl AsyncRead + Unpin,
    keep: impl Fn(&str) -> bool,
) -> io::Result<Vec<String>> {
    let mut reader = BufReader::new(output.take(MAX_OUTPUT));
    let mut lines = Vec::new();
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes).await? > 0 {
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim_end();
        if keep(line) {
            lines.push(line.to_owned());
        }
        bytes.clear();
        if lines.len() > MAX_LINES {
            return Err(io::Error::other("it lists too many rules"));
        }
    }
    if reader.get_ref().limit() == 0 {
        return Err(io::Error::other("it lists too much"));
    }
    Ok(lines)
}

/// An error text without warnings (`# ...`) and line breaks.
fn one_line(message: &str) -> String {
    let lines = message.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let joined = lines.collect::<Vec<_>>().join(" ");
    joined.chars().take(MAX_ERROR.1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, input: &str) -> Result<Vec<String>, FirewallError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let keep = |line: &str| !line.starts_with("no");
        runtime.block_on(run("sh", &["-c", script], input, keep))
    }

    #[test]
    fn input_goes_in_and_kept_lines_come_out() {
        let lines = sh("cat; echo done", "yes 1\nno 2\nyes 3\n").unwrap();
        assert_eq!(lines, ["yes 1", "yes 3", "done"]);
    }

    #[test]
    fn nothing_of_the_agents_own_is_passed_on() {
        let command = command("iptables", &[]);
        let envs: Vec<_> = command.as_std().get_envs().collect();
        for own in ["FLANNELD_ETCD_PASSWORD", "NOTIFY_SOCKET"] {
            assert!(envs.contains(&(own.as_ref(), None)), "{envs:?}");
        }
    }

    #[test]
    fn a_failure_is_one_line_without_warnings() {
        let script = "echo '# Warning: x' >&2; echo 'sh v1:' >&2; echo 'line 4: bad' >&2; exit 3";
        let error = sh(script, "").unwrap_err().to_string();
        assert!(error.ends_with(": sh v1: line 4: bad"), "{error}");
        let error = sh("exit 3", &"not read\n".repeat(100_000)).unwrap_err();
        assert!(error.to_string().ends_with("exit status: 3"), "{error}");
    }

    #[test]
    fn too_much_output_is_an_error() {
        let error = sh("yes", "").unwrap_err().to_string();
        assert!(error.ends_with("it lists too many rules"), "{error}");
    }
}
