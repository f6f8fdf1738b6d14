//! Signals: the first SIGINT or SIGTERM asks for a clean stop, a second one kills, and
//! SIGUSR1 asks for the counters. The other signals that flanneld survives and that have a name
//! mean nothing here; real-time signals end the agent.

use rustix::process::Signal as Number;
use signal_hook::consts::{
    SIGALRM, SIGINT, SIGIO, SIGPROF, SIGTERM, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ,
};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that would end a process and mean nothing here. SIGPIPE is ignored since `main`; of
/// SIGHUP and SIGQUIT a process dies, as flanneld does.
const IGNORED: [i32; 8] = [
    SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGXCPU, SIGXFSZ, SIGPWR,
];

/// Of power supplies that fail.
const SIGPWR: i32 = Number::POWER.as_raw();

/// The handlers of one agent.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    user1: Signal,
}

impl Signals {
    /// Install the handlers.
    pub(super) fn install() -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        for number in [SIGINT, SIGTERM] {
            // Both act inside the handler, so that a second signal kills even if the agent
            // hangs and has not taken notice of the first. They act in this order: the first
            // signal finds the flag not yet set.
            let flag = || Arc::clone(&stopping);
            signal_hook::flag::register_conditional_default(number, flag())?;
            signal_hook::flag::register(number, flag())?;
        }
        for number in IGNORED {
            // A handler and not SIG_IGN, which iptables and others would inherit.
            signal_hook::flag::register(number, Arc::default())?;
        }
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            user1: signal(SignalKind::user_defined1())?,
        })
    }

    /// Wait for SIGINT or SIGTERM; its name.
    pub(super) async fn stop(&mut self) -> &'static str {
        loop {
            if let Request::Stop(name) = self.next().await {
                return name;
            }
        }
    }

    /// Wait for any signal that the running agent acts on.
    pub(super) async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.interrupt.recv() => Request::Stop("SIGINT"),
            _ = self.terminate.recv() => Request::Stop("SIGTERM"),
            _ = self.user1.recv() => Request::Counters,
        }
    }
}

/// What a signal asks the running agent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Stop; the signal's name.
    Stop(&'static str),
    /// Log the counters.
    Counters,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, Signal as Sent, kill_process};
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, ChildStderr, Command, Stdio};
    use std::time::Duration;

    const CHILD: &str = "WEFT_SIGNALS_TEST_CHILD";

    /// This test once more, in a process of its own.
    fn spawn(test: &str) -> (Child, Pid, BufReader<ChildStderr>) {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([
                &format!("agent::signals::tests::{test}"),
                "--exact",
                "--nocapture",
            ])
            .env(CHILD, "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&process);
        let stderr = BufReader::new(process.stderr.take().unwrap());
        (process, pid, stderr)
    }

    fn hang() -> ! {
        loop {
            std::thread::park();
        }
    }

    /// Say what was received, and after a stop hang.
    fn child(hangs_at_once: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut signals = Signals::install().unwrap();
            eprintln!("installed");
            if hangs_at_once {
                hang();
            }
            loop {
                let request = signals.next().await;
                eprintln!("{request:?}");
                if matches!(request, Request::Stop(_)) {
                    hang();
                }
            }
        });
    }

    #[test]
    fn the_first_signal_asks_and_the_second_kills() {
        if std::env::var_os(CHILD).is_some() {
            return child(false);
        }
        let (mut process, pid, stderr) = spawn("the_first_signal_asks_and_the_second_kills");
        let mut lines = stderr.lines();
        let mut expect = |line: &str| {
            let mut seen = lines.by_ref().map_while(Result::ok);
            assert!(seen.any(|seen| seen == line), "no line {line:?}");
        };
        expect("installed");
        kill_process(pid, Sent::USR1).unwrap();
        expect("Counters");
        // By its own number, too: the list must have it.
        for number in IGNORED.into_iter().chain([Sent::POWER.as_raw()]) {
            kill_process(pid, Sent::from_named_raw(number).unwrap()).unwrap();
        }
        kill_process(pid, Sent::PIPE).unwrap();
        kill_process(pid, Sent::USR1).unwrap();
        expect("Counters");
        kill_process(pid, Sent::INT).unwrap();
        expect("Stop(\"SIGINT\")");
        kill_process(pid, Sent::TERM).unwrap();
        assert_eq!(process.wait().unwrap().signal(), Some(SIGTERM));
    }

    #[test]
    fn the_second_signal_kills_an_agent_that_hangs() {
        if std::env::var_os(CHILD).is_some() {
            return child(true);
        }
        let (mut process, pid, stderr) = spawn("the_second_signal_kills_an_agent_that_hangs");
        let mut lines = stderr.lines().map_while(Result::ok);
        assert!(lines.any(|line| line == "installed"));
        kill_process(pid, Sent::TERM).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(process.try_wait().unwrap(), None, "the first only asks");
        kill_process(pid, Sent::TERM).unwrap();
        assert_eq!(process.wait().unwrap().signal(), Some(SIGTERM));
    }
}
