//! `weft tune`: what of this host slows weft down, and changing it in a way that can be undone.

mod report;

use crate::words::{self, Refusal, print};
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use weft_control::text::line;
use weft_dataplane::worker::cores_by_default;
use weft_tuning::{
    Done, Facts, Host, Journal, Knob, Outcome, Plan, ProfileError, Store, Wishes, Workers,
    default_device,
};

/// How often a plan is made again, since what has been changed may bring queues with it.
const ROUNDS: usize = 3;

/// What it ends with and when, a line each, as the page has it too.
const ENDS: &str = "\
Ends with:
  0  done, or nothing to do; `apply` also where some knobs could not be changed, which is told in a line each
  1  nothing of what was asked for could be done, or `rollback` has left something
  2  the command line is wrong
  3  `status` alone: a value is not what it was given";

/// Inspect this host, and set it up for weft
#[derive(Clone, Debug, Parser)]
#[command(name = "weft tune", disable_version_flag = true, disable_help_subcommand = true, arg_required_else_help = false, after_help = ENDS)]
struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, Subcommand)]
enum Action {
    /// Print what the host is like, and the value of every knob
    Inspect {
        #[command(flatten)]
        about: About,
    },
    /// Print each change with its reason, and change nothing
    Plan {
        #[command(flatten)]
        about: About,
        #[command(flatten)]
        goal: Goal,
        #[command(flatten)]
        kept: Kept,
    },
    /// Make the changes, and write the old values down before
    Apply {
        #[command(flatten)]
        about: About,
        #[command(flatten)]
        goal: Goal,
        #[command(flatten)]
        kept: Kept,
        /// Only print what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Give all that has been changed its old value again
    Rollback {
        #[command(flatten)]
        kept: Kept,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Only print what would be done
        #[arg(long)]
        dry_run: bool,
        /// Also what somebody else has changed since
        #[arg(long)]
        force: bool,
    },
    /// Print what has been changed, and whether it is still so
    Status {
        #[command(flatten)]
        kept: Kept,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args, Clone, Debug)]
struct About {
    /// The underlay's interface; by default that of the default route
    #[arg(long, value_name = "NAME")]
    iface: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Clone, Debug)]
struct Goal {
    /// throughput, latency, small-host, or a file that ends in .toml
    #[arg(long, value_name = "NAME", default_value = "throughput")]
    profile: String,
}

#[derive(clap::Args, Clone, Debug)]
struct Kept {
    /// Where old values are kept
    #[arg(long, value_name = "FILE", default_value = "/var/lib/weft/tune.json")]
    state: PathBuf,
}

/// What to print, and whether all is well.
struct Answer {
    text: String,
    /// Lines for whoever has to know, one each.
    complaints: Vec<String>,
    status: u8,
}

impl Answer {
    fn good(text: String) -> Answer {
        Answer {
            text,
            complaints: Vec::new(),
            status: 0,
        }
    }
}

/// Why nothing has been done: the command line (2), or anything else (1).
struct Failure {
    status: u8,
    complaint: String,
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        let complaint = error.to_string();
        Failure {
            status: 1,
            complaint,
        }
    }
}

/// Act on the words after `weft tune`.
pub(crate) fn run(words: &[OsString]) -> ExitCode {
    let args: Result<Args, Refusal> = words::parse("weft tune", words.iter().cloned());
    let args = match args {
        Ok(args) => args,
        Err(refusal) => return refusal.tell("weft tune"),
    };
    match act(&Host::this(), args.action) {
        Ok(answer) => {
            print(&answer.text);
            for complaint in answer.complaints {
                eprintln!("weft tune: {}", line(&complaint));
            }
            ExitCode::from(answer.status)
        }
        Err(Failure { status, complaint }) => {
            eprintln!("weft tune: {}", line(&complaint));
            ExitCode::from(status)
        }
    }
}

fn act(host: &Host, action: Action) -> Result<Answer, Failure> {
    match action {
        Action::Inspect { about } => {
            let facts = look(host, &about)?;
            Ok(Answer::good(match about.json {
                true => report::json(&facts)?,
                false => report::facts(&facts),
            }))
        }
        Action::Plan { about, goal, kept } => planned(host, &about, &goal, &kept),
        Action::Apply {
            about,
            goal,
            kept,
            dry_run: true,
        } => planned(host, &about, &goal, &kept),
        Action::Apply {
            about, goal, kept, ..
        } => apply(host, &about, &goal, &kept),
        Action::Rollback {
            kept,
            json,
            dry_run,
            force,
        } => rollback(host, &kept, json, dry_run, force),
        Action::Status { kept, json } => status(host, &kept, json),
    }
}

/// The host as it is.
fn look(host: &Host, about: &About) -> Result<Facts, Failure> {
    let device = match &about.iface {
        Some(name) => name.clone(),
        None => default_device(host)?,
    };
    let (queues, cpus) = cores_by_default(&device);
    let cpus = cpus.numbers().iter();
    let workers = Workers {
        queues,
        cpus: cpus.filter_map(|&cpu| u32::try_from(cpu).ok()).collect(),
        running: false,
    };
    Ok(Facts::of(host, &device, workers)?)
}

fn store(host: &Host, kept: &Kept) -> Store {
    Store::at(&kept.state, &host.boot_id())
}

/// What is wanted of the host, and how it is now.
struct Outlook {
    wishes: Wishes,
    facts: Facts,
    journal: Journal,
    plan: Plan,
}

impl Outlook {
    fn of(host: &Host, about: &About, goal: &Goal, store: &Store) -> Result<Outlook, Failure> {
        let wishes = Wishes::of(&goal.profile).map_err(|error| Failure {
            status: match error {
                ProfileError::Name(_) => 2,
                ProfileError::Unreadable(..) | ProfileError::Wrong(..) => 1,
            },
            complaint: error.to_string(),
        })?;
        let journal = store.load()?;
        let facts = look(host, about)?;
        let plan = weft_tuning::plan(&facts.before(journal.old()), &wishes);
        Ok(Outlook {
            wishes,
            facts,
            journal,
            plan,
        })
    }

    /// Whether something of the plan is so already.
    fn has_some(&self) -> bool {
        let mut changes = self.plan.changes.iter();
        changes.any(|change| self.facts.now(&change.knob) == Some(&*change.to))
    }
}

fn planned(host: &Host, about: &About, goal: &Goal, kept: &Kept) -> Result<Answer, Failure> {
    let outlook = Outlook::of(host, about, goal, &store(host, kept))?;
    let text = match about.json {
        true => report::plan_json(&outlook)?,
        false => report::plan(&outlook),
    };
    let complaints = outlook.plan.problems;
    Ok(Answer {
        text,
        status: u8::from(!complaints.is_empty()),
        complaints,
    })
}

fn apply(host: &Host, about: &About, goal: &Goal, kept: &Kept) -> Result<Answer, Failure> {
    let store = store(host, kept);
    let _lock = store.lock()?;
    let mut all: Vec<Done> = Vec::new();
    let mut advice = Vec::new();
    let mut has_some = false;
    for _ in 0..ROUNDS {
        let outlook = Outlook::of(host, about, goal, &store)?;
        if !outlook.plan.problems.is_empty() {
            let mut answer = match all.is_empty() {
                true => Answer::good(String::new()),
                false => told(&all, about.json)?,
            };
            answer.complaints.extend(outlook.plan.problems);
            answer.status = 1;
            return Ok(answer);
        }
        has_some |= outlook.has_some();
        let changes = outlook.plan.changes.into_iter();
        let wanted: Vec<(Knob, String)> = changes.map(|change| (change.knob, change.to)).collect();
        let done = weft_tuning::apply(host, &store, &goal.profile, &wanted)?;
        let has_changed = done.iter().any(|done| done.outcome == Outcome::Made);
        let new = done.into_iter().filter(|done| !all.contains(done));
        all.extend(new.collect::<Vec<_>>());
        advice = outlook.plan.advice;
        if !has_changed {
            break;
        }
    }
    let mut answer = told(&all, about.json)?;
    if !about.json {
        answer.text.push_str(&report::advice(&advice));
    }
    answer.status = u8::from(is_in_vain(&all, has_some));
    Ok(answer)
}

/// Whether knobs have refused, and no other has been changed, be it now or by an earlier run.
fn is_in_vain(done: &[Done], has_some: bool) -> bool {
    let is_change = |done: &Done| matches!(done.outcome, Outcome::Made | Outcome::Restored);
    let is_refusal = |done: &Done| matches!(done.outcome, Outcome::Refused(_));
    !has_some && done.iter().any(is_refusal) && !done.iter().any(is_change)
}

fn rollback(
    host: &Host,
    kept: &Kept,
    json: bool,
    dry_run: bool,
    force: bool,
) -> Result<Answer, Failure> {
    let store = store(host, kept);
    if dry_run {
        let journal = store.load()?;
        let states = weft_tuning::states(host, &journal);
        return Ok(Answer::good(match json {
            true => report::json(&states)?,
            false => report::would_restore(&states, &journal, force),
        }));
    }
    let _lock = store.lock()?;
    let done = weft_tuning::rollback(host, &store, force)?;
    told(&done, json)
}

/// What has been done; what has not is a complaint each.
fn told(done: &[Done], json: bool) -> Result<Answer, Failure> {
    let complaints: Vec<String> = done.iter().filter_map(report::complaint).collect();
    Ok(Answer {
        text: match json {
            true => report::json(&done)?,
            false => report::done(done),
        },
        status: u8::from(!complaints.is_empty()),
        complaints,
    })
}

fn status(host: &Host, kept: &Kept, json: bool) -> Result<Answer, Failure> {
    let journal = store(host, kept).load()?;
    let states = weft_tuning::states(host, &journal);
    let has_drifted = states.iter().any(weft_tuning::State::has_drifted);
    Ok(Answer {
        text: match json {
            true => report::states_json(&journal, &states)?,
            false => report::states(&journal, &states),
        },
        complaints: Vec::new(),
        status: if has_drifted { 3 } else { 0 },
    })
}
