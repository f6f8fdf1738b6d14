//! Of what one agent leaves to the next: to another process, or with the service manager.

use super::{Code, Topic};

pub(super) const TOPIC: Topic = Topic {
    title: "Upgrades and the service manager",
    codes: &[
        Code {
            id: "W0901",
            lines: &["what the service manager kept is of no use: ..."],
            cause: "The line says what has changed since the last run; an ordinary start follows.",
            remedy: "Nothing; packets were lost for a moment.",
        },
        Code {
            id: "W0902",
            lines: &[
                "the service manager keeps nothing for the next start: ...; trying again each 10 seconds",
            ],
            cause: "`FileDescriptorStoreMax=` of the unit is too small, or the service manager does not read what it is told.",
            remedy: "Raise it; see [as a service](running.md#as-a-service).",
        },
        Code {
            id: "W0903",
            lines: &["cannot take over from process 4711, weft 0.1.0: ..."],
            cause: "What the agent that runs has does not fit the flags or the network config of this one; the line says what.",
            remedy: "Start with its flags, or stop it first.",
        },
        Code {
            id: "W0904",
            lines: &[
                "process 4711, weft 0.1.0 does not hand over: ...",
                "the agent that runs as <network> <file> does not hand over: ...",
            ],
            cause: "The line has it, in the words of the agent that runs: its flags are others, such as its `-state-dir`, it waits for its lease, or its version knows nothing of it. Or it hangs.",
            remedy: "Start with its flags to take over; or stop it first.",
        },
        Code {
            id: "W0905",
            lines: &["a process that wants to take over is refused: ..."],
            cause: "It cannot be seen from here, as from another PID namespace.",
            remedy: "Start the new agent in the same namespaces, or stop this one first.",
        },
        Code {
            id: "W0906",
            lines: &["process 5120, weft 0.2.0 does not take over: ...; this one goes on"],
            cause: "The line says why; nothing has changed.",
            remedy: "Remove the reason, and start the new agent again.",
        },
        Code {
            id: "W0907",
            lines: &["process 5120, weft 0.2.0 has not taken over: ...; this one goes on"],
            cause: "It ended or hung when it was its turn. Packets waited, and go on.",
            remedy: "Look at its log, and start it again.",
        },
        Code {
            id: "W0908",
            lines: &["process 5120, weft 0.2.0 does not end: packets may be lost until it does"],
            cause: "A process that did not take over still has the queues.",
            remedy: "End it by hand.",
        },
        Code {
            id: "W0909",
            lines: &["process 4711, weft 0.1.0 goes on, and this one ends: ..."],
            cause: "The agent that was to hand over did not hear that this one runs. The end, with status 1.",
            remedy: "Start again.",
        },
        Code {
            id: "W0910",
            lines: &[
                "what was handed over is of no use here: ...",
                "what it knew is of no use here: ...",
            ],
            cause: "Another process has given what this one cannot use. The end, with status 1, if nothing else is possible.",
            remedy: "Stop the other process, and start again.",
        },
    ],
    retired: &[],
};
