//! `weft leases`: who has which subnet, for operators.

mod args;
mod etcd;
mod named;
mod table;

use crate::words::print;
use args::{Action, Args};
use ipnet::IpNet;
use std::ffi::OsString;
use std::io::{BufRead, IsTerminal, Write};
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::process::ExitCode;
use weft_control::subnets::etcd::admin::{Admin, LeaseChange, Life, Record, Reserved};
use weft_control::text::{line, shown};

/// Act on the words after `weft leases`.
pub(crate) fn run(words: &[OsString]) -> ExitCode {
    let args = match args::parse(words.iter().cloned()) {
        Ok(args) => args,
        Err(refusal) => return refusal.tell("weft leases"),
    };
    match act(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(complaint) => {
            eprintln!("weft leases: {}", line(&complaint));
            ExitCode::FAILURE
        }
    }
}

fn act(args: &Args) -> Result<(), String> {
    let admin = Admin::new(args.etcd.options()).map_err(|error| error.to_string())?;
    match &args.action {
        Action::List { json } => list(&admin, *json),
        Action::Show { what, json } => show(&admin, what, *json),
        Action::Reserve(wanted) => reserve(&admin, wanted),
        Action::Release { subnet, yes } => release(&admin, subnet, *yes),
        Action::Watch { json } => watch(&admin, *json),
    }
}

fn list(admin: &Admin, json: bool) -> Result<(), String> {
    let mut listing = admin.list().map_err(|error| error.to_string())?;
    let asked = admin.ask_ends(&mut listing.records);
    asked.map_err(|error| error.to_string())?;
    if json {
        return print_json(&listing.records);
    }
    print(&table::list(&listing.records));
    if let Err(reason) = listing.config {
        print(&format!("{}\n", line(&reason)));
    }
    Ok(())
}

fn show(admin: &Admin, what: &str, json: bool) -> Result<(), String> {
    let listing = admin.list().map_err(|error| error.to_string())?;
    let mut found: Vec<Record> = find(&listing.records, what).into_iter().cloned().collect();
    if found.is_empty() {
        return Err(format!("no lease has the key, subnet or address {what}"));
    }
    let asked = admin.ask_ends(&mut found);
    asked.map_err(|error| error.to_string())?;
    if json {
        return print_json(&found);
    }
    let texts: Vec<String> = found.iter().map(table::details).collect();
    print(&texts.join("\n"));
    Ok(())
}

fn print_json(records: &[Record]) -> Result<(), String> {
    let values: Vec<_> = records.iter().map(Record::to_json).collect();
    let text = serde_json::to_string_pretty(&values).map_err(|error| error.to_string())?;
    print(&(text + "\n"));
    Ok(())
}

fn reserve(admin: &Admin, wanted: &args::Wanted) -> Result<(), String> {
    let wanted = wanted.reservation()?;
    let key = wanted.subnets;
    let outcome = admin.reserve(&wanted).map_err(|error| error.to_string())?;
    print(&match outcome {
        Reserved::New => format!("{key} is reserved; its node takes it when it starts\n"),
        Reserved::Kept => {
            format!("{key} is reserved: it stays its node's and is no longer renewed\n")
        }
        Reserved::Already => format!("{key} has been reserved for this node before\n"),
    });
    Ok(())
}

fn release(admin: &Admin, what: &str, yes: bool) -> Result<(), String> {
    let listing = admin.list().map_err(|error| error.to_string())?;
    let record = the_one(&listing.records, what)?;
    let key = shown(&record.key);
    let node = record
        .attrs
        .as_ref()
        .map(|attrs| attrs.identity().to_string());
    let node = node.unwrap_or("a node that cannot be read".to_owned());
    let live = record.life != Life::Reserved && record.subnets.is_some();
    if live && !yes {
        let question = format!(
            "{key} is the lease of {node}. If its agent runs, weft takes the subnet again at \
             once, and ends only if another node has it by then; flanneld ends. To take the node \
             out, stop its agent first."
        );
        confirm(&question)?;
    }
    match admin.release(record).map_err(|error| error.to_string())? {
        true if live => print(&format!(
            "{key} is released; weft on {node}, if it runs, takes it again while it is free\n"
        )),
        true => print(&format!("{key} is released\n")),
        false => return Err(format!("{key} has changed meanwhile: look again")),
    }
    Ok(())
}

/// The lease that is named, if it is exactly one.
fn the_one<'a>(records: &'a [Record], what: &str) -> Result<&'a Record, String> {
    let named: Vec<&Record> = records.iter().filter(|r| is_named(r, what)).collect();
    let exact = named.iter().find(|record| record.key == what);
    match (exact, &named[..]) {
        (Some(record), _) | (None, [record]) => Ok(record),
        (None, []) => Err(match named::read(what) {
            Ok(_) => format!("there is no lease {what}"),
            Err(reason) => format!("there is no lease {what}: {reason}"),
        }),
        (None, several) => {
            let keys: Vec<String> = several.iter().map(|record| shown(&record.key)).collect();
            let keys = keys.join(" and ");
            Err(format!("{what} is in {keys}: name one by its key"))
        }
    }
}

/// Ask on the terminal; an error if there is none, or if the answer is not yes.
fn confirm(question: &str) -> Result<(), String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(format!("{question} Say --yes to release it all the same"));
    }
    eprint!("{question}\nRelease it? [y/N] ");
    let mut answer = String::new();
    let _ = std::io::stderr().flush();
    if !matches!(stdin.lock().read_line(&mut answer), Ok(1..)) {
        // Nobody has ended the line.
        eprintln!();
    }
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err("nothing was released".to_owned()),
    }
}

fn watch(admin: &Admin, json: bool) -> Result<(), String> {
    let report = |change: LeaseChange| {
        let now = jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string();
        let line = match json {
            true => table::change_json(&now, &change).to_string(),
            false => format!("{now} {}", table::change(&change)),
        };
        // Nobody reading any more is the other way to say that this is enough.
        match writeln!(std::io::stdout(), "{line}") {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    };
    admin.watch(report).map_err(|error| error.to_string())
}

/// Leases that a key, a subnet or an address means: a node's address, or one in its subnet.
fn find<'a>(records: &'a [Record], what: &str) -> Vec<&'a Record> {
    let all = |is: &dyn Fn(&Record) -> bool| -> Vec<&'a Record> {
        records.iter().filter(|&record| is(record)).collect()
    };
    let named = all(&|record| is_named(record, what));
    let Ok(address) = what.parse::<IpAddr>() else {
        return named;
    };
    let nodes = all(&|record| {
        let attrs = record.attrs.as_ref().ok();
        attrs.is_some_and(|attrs| {
            address == attrs.public_ip || attrs.public_ipv6.is_some_and(|v6| address == v6)
        })
    });
    match nodes.is_empty() {
        false => nodes,
        true => all(&|record| nets(record).any(|net| net.contains(&address))),
    }
}

/// Whether `what` is the key, or names subnets, of a lease.
fn is_named(record: &Record, what: &str) -> bool {
    let has = |net| nets(record).any(|own| own == net);
    record.key == what || named::read(what).is_ok_and(|subnets| named::nets(subnets).all(has))
}

fn nets(record: &Record) -> impl Iterator<Item = IpNet> {
    record.subnets.into_iter().flat_map(named::nets)
}
