//! Signals: the first SIGINT or SIGTERM asks for a clean stop, a second one kills, and
//! SIGUSR1 asks for the counters.

use signal_hook::consts::{SIGINT, SIGTERM};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The handlers of one agent.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    user1: Signal,
    stopping: Arc<AtomicBool>,
}

impl Signals {
    /// Install the handlers.
    pub(super) fn install() -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        for number in [SIGINT, SIGTERM] {
            // Acts inside the handler, so that a second signal kills even if the runtime
            // hangs while it stops.
            let condition = Arc::clone(&stopping);
            signal_hook::flag::register_conditional_default(number, condition)?;
        }
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            user1: signal(SignalKind::user_defined1())?,
            stopping,
        })
    }

    /// Wait for SIGINT or SIGTERM; its name. From then on a second one kills.
    pub(super) async fn stop(&mut self) -> &'static str {
        loop {
            if let Request::Stop(name) = self.next().await {
                return name;
            }
        }
    }

    /// Wait for any signal that the running agent acts on.
    pub(super) async fn next(&mut self) -> Request {
        let name = tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.user1.recv() => return Request::Counters,
        };
        self.stopping.store(true, Ordering::SeqCst);
        Request::Stop(name)
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
    use nix::sys::signal::{Signal as Number, kill};
    use nix::unistd::Pid;
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    const CHILD: &str = "WEFT_SIGNALS_TEST_CHILD";

    /// Say what was received, and after a stop hang.
    fn child() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut signals = Signals::install().unwrap();
            eprintln!("installed");
            loop {
                let request = signals.next().await;
                eprintln!("{request:?}");
                if matches!(request, Request::Stop(_)) {
                    loop {
                        std::thread::park();
                    }
                }
            }
        });
    }

    #[test]
    fn the_first_signal_asks_and_the_second_kills() {
        if std::env::var_os(CHILD).is_some() {
            return child();
        }
        let test = "agent::signals::tests::the_first_signal_asks_and_the_second_kills";
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(process.id().try_into().unwrap());
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut expect = |line: &str| {
            let mut seen = lines.by_ref().map_while(Result::ok);
            assert!(seen.any(|seen| seen == line), "no line {line:?}");
        };
        expect("installed");
        kill(pid, Number::SIGUSR1).unwrap();
        expect("Counters");
        kill(pid, Number::SIGINT).unwrap();
        expect("Stop(\"SIGINT\")");
        kill(pid, Number::SIGTERM).unwrap();
        assert_eq!(process.wait().unwrap().signal(), Some(SIGTERM));
    }
}
