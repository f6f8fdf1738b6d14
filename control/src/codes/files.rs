//! Of `subnet.env`.

use super::{Code, Topic};

pub(super) const TOPIC: Topic = Topic {
    title: "subnet.env",
    codes: &[
        Code {
            id: "W0801",
            lines: &["/run/flannel/subnet.env was changed or removed: writing it again"],
            cause: "Somebody else writes the file. With `times since this was last said` somebody does so again and again, such as another agent with the same `-subnet-file`. At most once an hour.",
            remedy: "Find out who did it, and give it a file of its own.",
        },
        Code {
            id: "W0802",
            lines: &["cannot write /run/flannel/subnet.env: ...; trying again"],
            cause: "The directory is full, read-only or missing. The node is not ready until it is written.",
            remedy: "Mend the directory, or choose another file with `-subnet-file`.",
        },
        Code {
            id: "W0803",
            lines: &[
                "cannot remove /run/flannel/subnet.env, which names another subnet than this node's: ...",
            ],
            cause: "The file is of an earlier lease, and cannot be removed. Container runtimes would give pods addresses of another node.",
            remedy: "Remove it by hand; the agent writes it anew.",
        },
        Code {
            id: "W0804",
            lines: &[
                "cannot read /run/flannel/subnet.env: ...",
                "/run/flannel/subnet.env: ...; the previous subnet is not used",
            ],
            cause: "What the last start has written cannot be read, or was changed by hand.",
            remedy: "Nothing: it is written anew. Without it the node may get another subnet than before.",
        },
    ],
    retired: &[],
};
