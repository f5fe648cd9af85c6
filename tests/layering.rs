//! Who may name whom: the table of the layers, checked against the source.
//!
//! The check reads tokens, so comments, strings and tests do not count, `use a::{b, c::d}` is taken apart, and `self::` and `super::`
//! are resolved. It knows no types: what it cannot see is a name that came by way of a third module.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What a part of the source must not name, and why. A name is a word, or a path of which all words must follow each other.
struct Layer {
    /// Files and folders below `src`; an empty text is all of it.
    parts: &'static [&'static str],
    except: &'static [&'static str],
    must_not_name: &'static [&'static str],
    why: &'static str,
}

const LAYERS: &[Layer] = &[
    Layer {
        parts: &[""],
        except: &["wire"],
        must_not_name: &["kafka_protocol"],
        why: "only wire knows the generated types: they come and go with versions of the protocol",
    },
    Layer {
        parts: &["model.rs", "record.rs", "error.rs"],
        except: &[],
        must_not_name: &[
            "crate::assignor",
            "crate::connect",
            "crate::consumer",
            "crate::net",
            "crate::offsets",
            "crate::proto",
            "crate::records",
            "crate::wire",
            "tokio",
            "std::net",
            "std::thread",
        ],
        why: "the public vocabulary outlives every implementation",
    },
    Layer {
        parts: &["assignor"],
        except: &[],
        must_not_name: &[
            "crate::consumer",
            "crate::error",
            "crate::net",
            "crate::proto",
            "crate::record",
            "crate::records",
            "crate::wire",
            "tokio",
            "std::env",
            "std::fs",
            "std::net",
            "std::thread",
            "Instant",
            "SystemTime",
            "HashMap",
            "HashSet",
            "RandomState",
            "async",
        ],
        why: "the same members and topics must give the same assignment on every member",
    },
    Layer {
        parts: &["records"],
        except: &[],
        must_not_name: &["crate::proto", "crate::net", "crate::connect", "crate::consumer", "crate::offsets", "tokio"],
        why: "bytes in, values out: that is what is fuzzed",
    },
    Layer {
        parts: &["wire"],
        except: &[],
        must_not_name: &["crate::proto", "crate::net", "crate::connect", "crate::consumer", "crate::offsets", "tokio"],
        why: "a codec decides nothing",
    },
    Layer {
        parts: &["proto"],
        except: &[],
        must_not_name: &[
            "crate::net",
            "crate::connect",
            "crate::consumer",
            "crate::offsets",
            "tokio",
            "std::net",
            "std::thread",
            "std::sync::Mutex",
            "std::sync::RwLock",
            "crate::sync",
            "HashMap",
            "HashSet",
            "RandomState",
            "Instant::now",
            "SystemTime",
            "async",
            "await",
        ],
        why: "the same seed and inputs must give the same outputs: no sockets, clocks, tasks, locks or chance",
    },
    Layer {
        parts: &["proto/cluster"],
        except: &[],
        must_not_name: &["crate::proto::group", "crate::proto::offsets", "crate::proto::fetch", "crate::proto::consumer"],
        why: "the machines meet only in the aggregate",
    },
    Layer {
        parts: &["proto/group"],
        except: &[],
        must_not_name: &["crate::proto::cluster", "crate::proto::offsets", "crate::proto::fetch", "crate::proto::consumer"],
        why: "the machines meet only in the aggregate",
    },
    Layer {
        parts: &["proto/offsets"],
        except: &[],
        must_not_name: &[
            "crate::proto::cluster",
            "crate::proto::group",
            "crate::proto::fetch",
            "crate::proto::consumer",
            "crate::proto::onlooker",
        ],
        why: "the machines meet only in the aggregate",
    },
    Layer {
        parts: &["proto/fetch"],
        except: &[],
        must_not_name: &["crate::proto::cluster", "crate::proto::group", "crate::proto::offsets", "crate::proto::consumer"],
        why: "the machines meet only in the aggregate",
    },
    Layer {
        parts: &["proto/offsets/lookup"],
        except: &[],
        must_not_name: &["crate::proto::PartitionHandle", "crate::proto::Membership"],
        why: "who only looks on is in no group",
    },
    Layer {
        parts: &["connect"],
        except: &[],
        must_not_name: &["crate::consumer", "crate::offsets", "crate::records"],
        why: "what every client says of its cluster knows none of them",
    },
    Layer {
        parts: &["net"],
        except: &[],
        must_not_name: &["crate::connect", "crate::consumer", "crate::offsets", "crate::records"],
        why: "it moves frames and understands none",
    },
    Layer {
        parts: &["connect", "consumer", "offsets"],
        except: &[],
        must_not_name: &["std::net::TcpStream", "tokio::net", "TcpStream"],
        why: "users' code stays off the wire",
    },
];

/// The same for the embedded cluster.
const MOCK_LAYERS: &[Layer] = &[
    Layer {
        parts: &[""],
        except: &[],
        must_not_name: &["ottla"],
        why: "it is an independent reading of the protocol: a mistake that both make must not cancel out",
    },
    Layer {
        parts: &["kafka"],
        except: &[],
        must_not_name: &[
            "crate::serve",
            "crate::cluster",
            "tokio",
            "std::net",
            "std::thread",
            "HashMap",
            "HashSet",
            "RandomState",
            "Instant::now",
            "SystemTime",
            "async",
            "await",
        ],
        why: "the same seed and inputs must give the same outputs",
    },
];

#[test]
fn every_module_names_only_what_its_layer_may_name() {
    let mut found = check_all("src", LAYERS);
    found.extend(check_all("mock/src", MOCK_LAYERS));
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

fn check_all(source: &str, layers: &[Layer]) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let files = rust_files(&folder);
    assert!(files.len() > 10, "the source was not found");
    let read = |file: &PathBuf| {
        (file.strip_prefix(&folder).expect("found below it").to_owned(), fs::read_to_string(file).expect("readable"))
    };
    files.iter().map(read).flat_map(|(path, text)| breaches(source, layers, &path, &text)).collect()
}

/// Compares what one file names with the layers it belongs to.
fn breaches(source: &str, layers: &[Layer], path: &Path, text: &str) -> Vec<String> {
    let lies_in = |part: &&str| part.is_empty() || path.starts_with(part);
    let layers = layers.iter().filter(|layer| layer.parts.iter().any(lies_in) && !layer.except.iter().any(lies_in));
    let named = names(path, text);
    let mut found = Vec::new();
    for layer in layers {
        for forbidden in layer.must_not_name {
            let words: Vec<_> = forbidden.split("::").collect();
            for name in named.iter().filter(|name| name.path.windows(words.len()).any(|part| part == words)) {
                let (file, line, named) = (path.display(), name.line, name.path.join("::"));
                found.push(format!("{source}/{file}:{line} names {named}, but must not name {forbidden}: {}", layer.why));
            }
        }
    }
    found
}

/// A path, or a single word, with `self`, `super` and groups resolved.
struct Name {
    path: Vec<String>,
    line: usize,
}

struct Token {
    text: String,
    line: usize,
}

/// Lists what the code of a file names, its tests left out.
fn names(path: &Path, text: &str) -> Vec<Name> {
    let tokens = without_tests(tokens(text));
    let here = module_of(path);
    let (mut names, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        let next = at + path_at(&tokens[at..], &here, &[], &mut names);
        at = next.max(at + 1);
    }
    names
}

/// Reads the path at the beginning of `tokens`, groups in braces and all, and returns how many tokens it took; 0 if there is none.
fn path_at(tokens: &[Token], here: &[String], before: &[String], names: &mut Vec<Name>) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let is_word = |at: usize| text(at).starts_with(|first: char| first.is_alphabetic() || first == '_');
    let (mut path, mut at) = (before.to_vec(), 0);
    loop {
        if text(at) == "{" && at > 0 {
            at += 1;
            while !["}", ""].contains(&text(at)) {
                at += path_at(&tokens[at..], here, &path, names).max(1);
            }
            return at + 1;
        }
        if !is_word(at) {
            // `*`, generic arguments, or no path at all.
            break;
        }
        match text(at) {
            "self" if path.is_empty() && text(at + 1) == "::" => path = here.to_vec(),
            "self" => {}
            "super" if path.is_empty() => path = here[..here.len().saturating_sub(1)].to_vec(),
            "super" => drop(path.pop()),
            word => path.push(word.to_owned()),
        }
        at += 1;
        if text(at) != "::" {
            break;
        }
        at += 1;
    }
    if at > 0 {
        names.push(Name { path, line: tokens[0].line });
    }
    at
}

/// Names a file's module: `proto/cluster/mod.rs` is `crate::proto::cluster`.
fn module_of(path: &Path) -> Vec<String> {
    let words = path.with_extension("");
    let words = words.iter().map(|word| word.to_string_lossy().into_owned()).filter(|word| word != "mod" && word != "lib");
    std::iter::once("crate".to_owned()).chain(words).collect()
}

/// Leaves out what stands under `#[cfg(test)]`: up to its semicolon, or its closing brace.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut rest = tokens.into_iter().peekable();
    let mut seen = 0;
    while let Some(token) = rest.next() {
        seen = if token.text == MARK[seen] { seen + 1 } else { usize::from(token.text == MARK[0]) };
        kept.push(token);
        if seen == MARK.len() {
            seen = 0;
            kept.truncate(kept.len() - MARK.len());
            let mut depth = 0;
            for token in rest.by_ref() {
                match token.text.as_str() {
                    "{" => depth += 1,
                    "}" => depth -= 1,
                    _ => {}
                }
                if depth == 0 && (token.text == "}" || token.text == ";") {
                    break;
                }
            }
        }
    }
    kept
}

/// Splits source into words and signs; comments, strings, characters and lifetimes are passed over.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while at < chars.len() {
        let rest = &chars[at..];
        let length = match rest {
            ['/', '/', ..] => rest.iter().take_while(|&&c| c != '\n').count(),
            ['/', '*', ..] => block_comment(rest),
            ['"', ..] => string(rest),
            ['\'', ..] => character_or_lifetime(rest),
            ['r' | 'b' | 'c', ..] if raw_string(rest) > 0 => raw_string(rest),
            [first, ..] if is_word(*first) => {
                let word: String = rest.iter().take_while(|&&c| is_word(c)).collect();
                let length = word.chars().count();
                tokens.push(Token { text: word, line });
                length
            }
            [first, second, ..] if [*first, *second] == [':', ':'] => {
                tokens.push(Token { text: "::".into(), line });
                2
            }
            [first, ..] => {
                if !first.is_whitespace() {
                    tokens.push(Token { text: first.to_string(), line });
                }
                1
            }
            [] => unreachable!("the loop has ended"),
        };
        let length = length.min(rest.len());
        line += rest[..length].iter().filter(|&&c| c == '\n').count();
        at += length;
    }
    tokens
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// Measures `r#"…"#` and its relatives; 0 when it is a word after all.
fn raw_string(rest: &[char]) -> usize {
    let letters = rest.iter().take_while(|c| "rbc".contains(**c)).count().min(2);
    let hashes = rest[letters..].iter().take_while(|&&c| c == '#').count();
    let start = letters + hashes + 1;
    if rest.get(start - 1) != Some(&'"') || (hashes > 0 && !rest[..letters].contains(&'r')) {
        return 0;
    }
    if !rest[..letters].contains(&'r') {
        return letters + string(&rest[letters..]);
    }
    let is_end = |at: usize| rest[at] == '"' && rest[at + 1..].iter().take_while(|&&c| c == '#').count() >= hashes;
    (start..rest.len()).find(|&at| is_end(at)).map_or(rest.len(), |at| at + 1 + hashes)
}

fn character_or_lifetime(rest: &[char]) -> usize {
    match rest {
        ['\'', '\\', _, rest @ ..] => 3 + rest.iter().take_while(|&&c| c != '\'').count() + 1,
        ['\'', _, '\'', ..] => 3,
        _ => 1 + rest[1..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count(),
    }
}

/// Finds all files of Rust but those that hold nothing but tests.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let is_only_tests = ["tests", "simulation"].iter().any(|name| path.file_name() == Some(name.as_ref()));
        if path.is_dir() && !is_only_tests {
            found.extend(rust_files(&path));
        } else if path.extension() == Some("rs".as_ref())
            && !["tests.rs", "planted.rs", "tester.rs"].iter().any(|name| path.file_name() == Some(name.as_ref()))
        {
            found.push(path);
        }
    }
    found.sort();
    found
}

// ---- the check itself is checked ----

/// Each of them must be found, however it is written.
#[test]
fn a_planted_breach_is_found() {
    for (path, text) in [
        ("proto/mod.rs", "use tokio::time::sleep;"),
        ("proto/mod.rs", "let now = std::time::Instant::now();"),
        ("proto/group/mod.rs", "use std::{collections::{BTreeMap, HashMap}, fmt};"),
        ("proto/group/classic.rs", "pub(crate) async fn join() {}"),
        ("proto/group/classic.rs", "use crate::{model::Offset, net::{Driver, connection}};"),
        ("proto/group/classic.rs", "use super::super::fetch::Cursor;"),
        ("proto/group/mod.rs", "use super::fetch::Cursor;"),
        ("proto/group/mod.rs", "use super::{Ask, fetch::Cursor};"),
        ("proto/offsets/mod.rs", "fn f(view: &crate::proto::group::Member) {}"),
        ("proto/cluster/mod.rs", "use std::sync::{Arc, Mutex as Lock};"),
        ("proto/fetch/mod.rs", "use std::collections::HashSet as Set;"),
        ("connect/mod.rs", "use crate::consumer::Isolation;"),
        ("offsets/mod.rs", "use tokio::net::TcpStream;"),
        ("proto/offsets/lookup/mod.rs", "use crate::proto::{Ask, Membership};"),
        ("consumer/mod.rs", "use kafka_protocol::messages::FetchRequest;"),
        ("lib.rs", "pub use kafka_protocol as raw;"),
        ("net/mod.rs", "use crate::records::Batch;"),
        ("wire/mod.rs", "use crate::proto::Ask;"),
        ("records/mod.rs", "use super::proto::Ask;"),
        ("assignor/range.rs", "use crate::wire::Api;"),
        ("model.rs", "use crate::wire::ErrorCode;"),
        ("proto/mod.rs", "const Q: char = '\"'; use tokio::spawn; const R: char = '\"';"),
        ("proto/mod.rs", "#[cfg(test)]\nmod tests { fn f() { {} } }\nuse tokio::spawn;"),
        ("proto/mod.rs", "fn f<'a>(x: &'a str) {} use tokio::spawn;"),
    ] {
        assert_eq!(breaches("src", LAYERS, Path::new(path), text).len().min(1), 1, "not found in {path}: {text}");
    }
}

#[test]
fn a_planted_breach_of_the_embedded_cluster_is_found() {
    for (path, text) in [
        ("cluster.rs", "use ottla::Consumer;"),
        ("kafka/group/mod.rs", "let now = std::time::Instant::now();"),
        ("kafka/mod.rs", "use crate::serve::Shared;"),
    ] {
        assert_eq!(breaches("mock/src", MOCK_LAYERS, Path::new(path), text).len().min(1), 1, "not found in {path}: {text}");
    }
}

/// None of them is one.
#[test]
fn what_is_allowed_is_not_a_breach() {
    for (path, text) in [
        ("wire/request.rs", "use kafka_protocol::messages::FetchRequest;"),
        (
            "proto/mod.rs",
            "// tokio::spawn\n/* async /* await */ HashMap */ //! SystemTime\nconst TEXT: &str = \"tokio \\\" async\";",
        ),
        ("proto/mod.rs", "const RAW: &str = r#\"tokio \" async\"#; const BYTES: &[u8] = b\"tokio\";"),
        ("proto/mod.rs", "#[cfg(test)]\nmod tests { use std::collections::HashMap; fn f() { tokio::spawn(async {}) } }"),
        ("proto/mod.rs", "#[cfg(test)]\nuse std::collections::HashMap;"),
        ("proto/mod.rs", "pub(crate) mod group; use std::time::Instant; fn f(net: u8, consumer: u8) {}"),
        ("proto/group/mod.rs", "use super::{Ask, ClusterView}; use crate::{model::Offset, wire::Api}; let fetch = 1;"),
        ("proto/group/mod.rs", "mod fetch; use self::fetch::X;"),
        ("net/driver.rs", "use tokio::{net::TcpStream, time::Instant}; let x = Instant::now();"),
    ] {
        assert_eq!(breaches("src", LAYERS, Path::new(path), text), [""; 0], "{path}: {text}");
    }
}

#[test]
fn a_breach_is_told_with_its_place_and_reason() {
    let found = breaches("src", LAYERS, Path::new("proto/fetch/session.rs"), "use std::fmt;\n\nuse crate::proto::group::Member;");
    let expected = "src/proto/fetch/session.rs:3 names crate::proto::group::Member, but must not name crate::proto::group: \
                    the machines meet only in the aggregate";
    assert_eq!(found, [expected]);
}
