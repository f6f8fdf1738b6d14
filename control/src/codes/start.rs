//! Of the start, the command line and what is beside the packets.

use super::{Code, Topic};

pub(super) const TOPIC: Topic = Topic {
    title: "Start and command line",
    codes: &[
        Code {
            id: "W0101",
            lines: &[
                "unknown flag ...",
                "invalid value \"...\" for flag ...: ...",
            ],
            cause: "The command line, or a variable `FLANNELD_...`, cannot be used. The agent ends with status 2.",
            remedy: "The line names the flag and the rule that it breaks, or the name that was meant; see [flags](running.md#flags).",
        },
        Code {
            id: "W0102",
            lines: &[
                "flag ... has no effect: ...",
                "... is ignored: must be ...; using the default ...",
            ],
            cause: "A flag of flanneld's that weft takes and does not need, or a variable whose value is none of its type.",
            remedy: "Leave it out, or give a value that the line allows.",
        },
        Code {
            id: "W0103",
            lines: &["cannot set up the process: ..."],
            cause: "The system refuses what every process needs: descriptors, signals, threads. The agent ends with status 1.",
            remedy: "Look at the limits of the unit or of the container, such as `LimitNOFILE=`.",
        },
        Code {
            id: "W0104",
            lines: &[
                "cannot serve /healthz on <address>: ...; choose another -healthz-ip or -healthz-port",
            ],
            cause: "Another process has the port, or the address is none of this host's.",
            remedy: "Choose another `-healthz-ip` or `-healthz-port`; `ss -ltnp` shows who has the port.",
        },
        Code {
            id: "W0105",
            lines: &[
                "another process on this host is the agent for <network> <file>, or removes what one has left: ...",
            ],
            cause: "`-remove` knows an agent by a name on this host, which another process has. It is tried again each 10 seconds.",
            remedy: "Stop the other agent, or give one of the two another `-subnet-file`.",
        },
        Code {
            id: "W0106",
            lines: &[
                "no local socket, so that weft status and weft fast-path cannot reach this agent: ...",
            ],
            cause: "The directory `/run/weft` cannot be written, or others than root may write to it.",
            remedy: "Mend the directory, or name another one with `-socket-dir`; an empty name asks for no socket.",
        },
        Code {
            id: "W0107",
            lines: &["cannot send ... to NOTIFY_SOCKET ...: ..."],
            cause: "The service manager cannot be told what the agent does, so that it may take it for not started.",
            remedy: "Let the agent reach the socket, or start it without the variable `NOTIFY_SOCKET`.",
        },
        Code {
            id: "W0108",
            lines: &["nothing was removed: ...; stop the agent first"],
            cause: "With `-remove`: an agent with the same network or file runs, or a process holds one of its devices.",
            remedy: "Stop it, and call `-remove` again.",
        },
        Code {
            id: "W0109",
            lines: &["not everything could be removed: ..."],
            cause: "With `-remove`: the line says what is left and why.",
            remedy: "Remove the reason and call `-remove` again, or remove what is left by hand.",
        },
        Code {
            id: "W0110",
            lines: &[
                "what flanneld has, too, stays, as ...: firewall rules, routes and subnet.env",
            ],
            cause: "With `-remove`: flanneld runs on this host, or has left its device, and uses the same rules, routes and file.",
            remedy: "Nothing if flanneld goes on. Else stop it, remove its device and call `-remove` again.",
        },
    ],
    retired: &[],
};
