use super::*;
use serde_json::Value;
use std::sync::Arc;

const TEXT: Style = Style::Text {
    target: false,
    colours: false,
};

fn logged(style: Style, log: impl FnOnce()) -> String {
    let text = Arc::new(Mutex::new(String::new()));
    let writer = text.clone();
    let lines = Lines::new(style, move |line| writer.lock().unwrap().push_str(line));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), log);
    text.lock().unwrap().clone()
}

/// What follows the time, which is checked.
fn without_time(text: &str) -> &str {
    let (time, rest) = text.split_once(' ').unwrap();
    assert!(
        time.ends_with('Z') && time.len() == "2026-01-01T00:00:00.000000Z".len(),
        "{text}"
    );
    assert_eq!(time.as_bytes()[10], b'T');
    rest
}

fn object(text: &str) -> Value {
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_code_stands_between_level_and_message() {
    let text = logged(TEXT, || {
        tracing::warn!(code = "W0201", "a \"b\" \\ c \u{e9}")
    });
    assert_eq!(without_time(&text), " WARN W0201 a \"b\" \\ c \u{e9}\n");
    let text = logged(TEXT, || tracing::info!(peers = 3, name = "x", "news"));
    assert_eq!(without_time(&text), " INFO news name=x peers=3\n");
}

#[test]
fn modules_and_colours_are_shown_where_they_are_wanted() {
    let style = Style::Text {
        target: true,
        colours: true,
    };
    let text = logged(style, || tracing::error!(code = "W0908", "over"));
    let end = "\u{1b}[31mERROR\u{1b}[0m \u{1b}[2mweft::log::tests:\u{1b}[0m W0908 over\n";
    assert!(
        text.starts_with("\u{1b}[2m20") && text.ends_with(end),
        "{text:?}"
    );
}

#[test]
fn json_is_one_object_a_line() {
    let text = logged(Style::Json, || {
        tracing::warn!(code = "W0201", "etcd \"e\" unreachable")
    });
    let line = object(&text);
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["target"], "weft::log::tests");
    assert_eq!(line["code"], "W0201");
    assert_eq!(line["message"], "etcd \"e\" unreachable");
    assert!(
        line["time"]
            .as_str()
            .is_some_and(|time| time.ends_with('Z'))
    );
    assert_eq!(line.as_object().unwrap().len(), 5, "{text}");
    let line = object(&logged(Style::Json, || {
        tracing::info!(peers = 3, level = "mine", "news")
    }));
    assert_eq!(line["fields"]["peers"], "3");
    assert_eq!(
        (&line["fields"]["level"], &line["level"]),
        (&"mine".into(), &"INFO".into())
    );
    assert_eq!(line.get("code"), None);
}

#[test]
fn nothing_forges_a_line_or_hides_in_one() {
    let device = "we\u{1b}[2J\n ERROR \"it\" is over\u{202e}";
    let shown = r#"we\u{1b}[2J\n ERROR "it" is over\u{202e}"#;
    let text = logged(TEXT, || tracing::warn!(device, "{device} is gone"));
    assert_eq!(
        without_time(&text),
        format!(" WARN {shown} is gone device={shown}\n")
    );
    let text = logged(Style::Json, || {
        tracing::warn!(device, code = device, "{device} is gone")
    });
    assert!(!text.trim_end().contains(char::is_control), "{text:?}");
    let line = object(&text);
    assert_eq!(line["message"], format!("{shown} is gone"));
    assert_eq!(
        (&line["code"], &line["fields"]["device"]),
        (&shown.into(), &shown.into())
    );
}

#[test]
fn no_line_is_endless() {
    let long = "x".repeat(1 << 20);
    let text = logged(TEXT, || tracing::warn!("{long}"));
    assert!(text.len() < 5000, "{}", text.len());
    assert!(text.ends_with("x...\n"));
    let text = logged(Style::Json, || {
        tracing::warn!(long, "{}", "\u{1}".repeat(1 << 20))
    });
    assert!(text.len() < 100_000, "{}", text.len());
    object(&text);
}

/// What is written of events, each at the time that is set.
struct Clocked {
    lines: Lines<fn(&str)>,
    now: Mutex<Duration>,
    written: Mutex<Vec<String>>,
}

struct Layered(Arc<Clocked>);

impl<S: Subscriber> Layer<S> for Layered {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let text = self.0.lines.take(event, *self.0.now.lock().unwrap());
        let lines = text.lines().map(|line| without_time(line).to_owned());
        self.0.written.lock().unwrap().extend(lines);
    }
}

/// Run `log` with a way to set the seconds since the start; all lines.
fn clocked(log: impl FnOnce(&dyn Fn(u64))) -> Vec<String> {
    let clocked = Arc::new(Clocked {
        lines: Lines::new(TEXT, |_| {}),
        now: Mutex::default(),
        written: Mutex::default(),
    });
    let subscriber = tracing_subscriber::registry().with(Layered(clocked.clone()));
    let set = |seconds| *clocked.now.lock().unwrap() = Duration::from_secs(seconds);
    tracing::subscriber::with_default(subscriber, || log(&set));
    clocked.written.lock().unwrap().clone()
}

#[test]
fn a_storm_of_one_code_is_cut_and_counted_and_hides_nothing_else() {
    let lines = clocked(|set| {
        for _ in 0..77 {
            tracing::warn!(code = "W0201", "etcd unreachable");
        }
        tracing::warn!(code = "W0601", "no fast path");
        set(60);
        tracing::info!("ready");
    });
    assert_eq!(lines[..20], vec![" WARN W0201 etcd unreachable"; 20]);
    let rest = [
        " WARN W0601 no fast path",
        " WARN W0201 said 57 times more in the last 1m00s",
        " INFO ready",
    ];
    assert_eq!(lines[20..], rest);
}

#[test]
fn errors_and_news_are_never_left_out_and_libraries_share_a_limit() {
    let lines = clocked(|set| {
        for _ in 0..100 {
            tracing::error!(code = "W0908", "over");
            tracing::info!("ready");
            tracing::warn!(target: "h2", "odd");
        }
        set(61);
        tracing::info!("end");
    });
    let count = |line: &str| lines.iter().filter(|found| *found == line).count();
    assert_eq!(count("ERROR W0908 over"), 100);
    assert_eq!(count(" INFO ready"), 100);
    assert_eq!(count(" WARN odd"), 20);
    let told = " WARN warnings of libraries: said 80 times more in the last 1m01s";
    assert_eq!(count(told), 1, "{:?}", lines.last());
}
