//! What was heard, in words that are the same every time.

use std::{collections::BTreeMap, fmt::Debug};

use ottla_mock::ResponseError;

/// What says nothing about behaviour (addresses, racks), or may be worded freely (messages); and what is there for extensions. Kafka
/// tells all settings of a topic that it creates; the mock only those that were asked for.
const LEFT_OUT: &[&str] =
    &["throttle_time_ms", "unknown_tagged_fields", "error_message", "host", "port", "rack", "cluster_id", "configs"];
/// Generated ids are at least as long as a UUID in base 64; those that a script makes up are shorter.
const GENERATED_ID_LEN: usize = 22;

/// Timestamps that scripts make up are older.
const NEWEST_WRITTEN_MS: i64 = 1_750_000_000_000;

/// Names for what is never the same twice, in order of appearance.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: BTreeMap<String, String>,
    counts: BTreeMap<&'static str, usize>,
}

impl Names {
    /// Gives something a name of the script's own.
    pub(crate) fn set(&mut self, what: impl ToString, name: impl Into<String>) {
        self.known.insert(what.to_string(), name.into());
    }

    fn of(&mut self, kind: &'static str, what: &str) -> String {
        let count = &mut self.counts;
        let name = || {
            let count = count.entry(kind).or_default();
            *count += 1;
            format!("{kind}-{count}")
        };
        self.known.entry(what.to_owned()).or_insert_with(name).clone()
    }

    /// Renders an answer: defaults are left out, the error comes first, and lists are sorted where Kafka's order is that of a hash map.
    pub(crate) fn render(&mut self, answer: &impl Debug) -> String {
        let text = format!("{answer:?}");
        let mut parser = Parser { rest: &text };
        let shown = parser.value();
        assert_eq!(parser.rest, "", "read to the end: {text}");
        self.shown("", &shown).unwrap_or_else(|| "NONE".into())
    }

    /// Renders a value; `None` if it is a default.
    fn shown(&mut self, field: &str, value: &Shown) -> Option<String> {
        match value {
            Shown::Atom(atom) => self.atom(field, atom),
            Shown::Text(text) if text.is_empty() => None,
            Shown::Text(text) if matches!(field, "member_id" | "leader") && text.len() >= GENERATED_ID_LEN => {
                Some(self.of("member", text))
            }
            Shown::Text(text) => Some(text.clone()),
            Shown::Struct(fields) => {
                let mut error = None;
                let mut parts = Vec::new();
                for (name, value) in fields {
                    if LEFT_OUT.contains(&name.as_str()) {
                        continue;
                    }
                    let Some(shown) = self.shown(name, value) else { continue };
                    match name.ends_with("error_code") {
                        true => error = Some(shown),
                        false => parts.push(format!("{name} {shown}")),
                    }
                }
                let fields = (!parts.is_empty()).then(|| format!("{{{}}}", parts.join(", ")));
                match (error, fields) {
                    (Some(error), Some(fields)) => Some(format!("{error} {fields}")),
                    (one, other) => one.or(other),
                }
            }
            Shown::List(items) => {
                let mut shown: Vec<_> = items.iter().map(|item| self.shown(field, item).unwrap_or_else(|| "0".into())).collect();
                // The order of replicas means something.
                if !field.contains("nodes") {
                    shown.sort();
                }
                (!shown.is_empty()).then(|| format!("[{}]", shown.join(", ")))
            }
        }
    }

    fn atom(&mut self, field: &str, atom: &str) -> Option<String> {
        let is_default = matches!(atom, "0" | "None" | "false" | "b\"\"" | "00000000-0000-0000-0000-000000000000");
        if is_default && field != "producer_id" && (!field.ends_with("offset") || atom != "0") {
            return None;
        }
        Some(match field {
            _ if field.ends_with("error_code") => {
                let code = atom.parse().expect("a number");
                ResponseError::try_from_code(code).map_or_else(|| atom.to_owned(), |error| format!("{error:?}"))
            }
            "producer_id" if !atom.starts_with('-') => self.of("producer", atom),
            "timestamp" if atom.parse().is_ok_and(|timestamp: i64| timestamp > NEWEST_WRITTEN_MS) => "now".into(),
            "session_id" => self.of("session", atom),
            "topic_id" => self.of("topic", atom),
            _ => atom.to_owned(),
        })
    }
}

/// What `{:?}` of an answer says, taken apart.
enum Shown {
    Atom(String),
    Text(String),
    Struct(Vec<(String, Shown)>),
    List(Vec<Shown>),
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn value(&mut self) -> Shown {
        self.skip_space();
        if self.take("\"") {
            return Shown::Text(self.quoted());
        }
        if self.take("b\"") {
            return Shown::Atom(format!("b\"{}\"", self.quoted()));
        }
        if self.take("[") {
            return Shown::List(self.items("]"));
        }
        if self.take("{") {
            self.items("}");
            return Shown::Atom("0".into());
        }
        let end = self.rest.find([' ', ',', '(', ')', '{', '}', '[', ']', ':']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        if self.take("(") {
            let mut items = self.items(")");
            return if items.len() == 1 { items.remove(0) } else { Shown::List(items) };
        }
        if self.take(" {") {
            return Shown::Struct(self.fields());
        }
        Shown::Atom(word.to_owned())
    }

    fn items(&mut self, end: &str) -> Vec<Shown> {
        let mut items = Vec::new();
        loop {
            self.skip_space();
            if self.take(end) {
                return items;
            }
            items.push(self.value());
            let _ = self.take(",") || self.take(":");
        }
    }

    fn fields(&mut self) -> Vec<(String, Shown)> {
        let mut fields = Vec::new();
        loop {
            self.skip_space();
            if self.take("}") {
                return fields;
            }
            let (name, rest) = self.rest.split_once(':').expect("a field has a name");
            self.rest = rest;
            fields.push((name.to_owned(), self.value()));
            self.take(",");
        }
    }

    fn quoted(&mut self) -> String {
        let mut text = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, char)) = chars.next() {
            match char {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return text;
                }
                '\\' => text.extend(['\\'].into_iter().chain(chars.next().map(|(_, escaped)| escaped))),
                _ => text.push(char),
            }
        }
        panic!("a text ends: {}", self.rest)
    }

    fn take(&mut self, prefix: &str) -> bool {
        let rest = self.rest.strip_prefix(prefix);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }
}

/// Shows where two transcripts differ, line by line.
pub(crate) fn difference(expected: &str, heard: &str) -> String {
    let (expected, heard): (Vec<_>, Vec<_>) = (expected.lines().collect(), heard.lines().collect());
    let same = expected.iter().zip(&heard).take_while(|(one, other)| one == other).count();
    let mut text: Vec<_> = expected[same.saturating_sub(4)..same].iter().map(|line| format!("  {line}")).collect();
    for at in same..expected.len().max(heard.len()) {
        match (expected.get(at), heard.get(at)) {
            (Some(one), Some(other)) if one == other => text.push(format!("  {one}")),
            (one, other) => {
                text.extend(one.map(|line| format!("- {line}")));
                text.extend(other.map(|line| format!("+ {line}")));
            }
        }
    }
    text.join("\n")
}
