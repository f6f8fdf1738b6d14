//! `weft leases`: who has which subnet, for operators.

mod args;
mod table;

use crate::words::print;
use args::{Action, Args};
use ipnet::IpNet;
use std::ffi::OsString;
use std::io::{BufRead, IsTerminal, Write};
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::process::ExitCode;
use weft_control::lease::SubnetKey;
use weft_control::subnets::etcd::admin::{Admin, Life, News, Record, Reserved};

/// Act on the words after `weft leases`.
pub(crate) fn run(words: &[OsString]) -> ExitCode {
    let args = match args::parse(words.iter().cloned()) {
        Ok(args) => args,
        Err(refusal) => return refusal.tell("weft leases"),
    };
    match act(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(complaint) => {
            eprintln!("weft leases: {complaint}");
            ExitCode::FAILURE
        }
    }
}

fn act(args: &Args) -> Result<(), String> {
    let admin = Admin::new(&args.etcd.options()).map_err(|error| error.to_string())?;
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
        print(&format!("{reason}\n"));
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

fn release(admin: &Admin, subnet: &str, yes: bool) -> Result<(), String> {
    let listing = admin.list().map_err(|error| error.to_string())?;
    let record = listing
        .records
        .iter()
        .find(|record| is_named(record, subnet));
    let record = record.ok_or_else(|| format!("there is no lease {subnet}"))?;
    let key = &record.key;
    let node = record
        .attrs
        .as_ref()
        .map(|attrs| attrs.identity().to_string());
    let node = node.unwrap_or("a node that cannot be read".to_owned());
    let live = record.life != Life::Reserved && record.subnets.is_some();
    if live && !yes {
        let question = format!(
            "{key} is the lease of {node}. If its node runs weft, that takes the subnet again \
             while it is free; flanneld ends."
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

/// Ask on the terminal; an error if there is none, or if the answer is not yes.
fn confirm(question: &str) -> Result<(), String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(format!("{question} Say --yes to release it"));
    }
    eprint!("{question}\nRelease it? [y/N] ");
    let mut answer = String::new();
    let _ = std::io::stderr().flush();
    let _ = stdin.lock().read_line(&mut answer);
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err("nothing was released".to_owned()),
    }
}

fn watch(admin: &Admin, json: bool) -> Result<(), String> {
    let tell = |news: News| {
        let now = jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string();
        let line = match json {
            true => table::news_json(&now, &news).to_string(),
            false => format!("{now} {}", table::news(&news)),
        };
        // Nobody reading any more is the other way to say that this is enough.
        match writeln!(std::io::stdout(), "{line}") {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    };
    admin.watch(tell).map_err(|error| error.to_string())
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

/// Whether `what` is the key, or one of the subnets, of a lease.
fn is_named(record: &Record, what: &str) -> bool {
    let net = what.parse::<IpNet>().ok();
    record.key == what || nets(record).any(|own| net == Some(own))
}

fn nets(record: &Record) -> impl Iterator<Item = IpNet> {
    let SubnetKey { v4, v6 } = record.subnets.unwrap_or(SubnetKey { v4: None, v6: None });
    v4.map(IpNet::V4).into_iter().chain(v6.map(IpNet::V6))
}
