//! Values such as services send: lines of JSON that compress as those do.

use std::fmt::Write;

const KINDS: [&str; 6] = ["view", "click", "search", "basket", "order", "return"];
const PAGES: [&str; 8] = ["/", "/shop", "/shop/lamps", "/shop/books", "/account", "/help/contact", "/checkout", "/news/2025"];
const AGENTS: [&str; 4] = ["Firefox/133.0", "Chrome/131.0", "Safari/18.1", "okhttp/4.12"];

/// Makes value number `n`, of exactly so many bytes; the same number gives the same value.
pub(crate) fn value(n: u64, len: usize) -> Vec<u8> {
    let mut text = format!(r#"{{"id":{:09}"#, n % 1_000_000_000);
    let mut chance = Chance(n.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    while text.len() < len {
        let (kind, page, agent) = (chance.one_of(&KINDS), chance.one_of(&PAGES), chance.one_of(&AGENTS));
        let (user, ms) = (chance.below(100_000), chance.below(3000));
        write!(text, r#","user":"u{user:05}","kind":"{kind}","page":"{page}","ms":{ms},"agent":"{agent}""#)
            .expect("writing to a String cannot fail");
    }
    let mut value = text.into_bytes();
    value.truncate(len);
    if let Some(last) = value.last_mut() {
        *last = b'}';
    }
    value
}

/// A small generator, for what shall look like chance and be the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_exactly_its_length_and_depends_on_its_number_only() {
        for len in [16, 100, 1024] {
            assert_eq!(value(7, len).len(), len);
            assert_eq!(value(7, len), value(7, len));
            assert_ne!(value(7, len), value(8, len));
        }
        assert_eq!(value(1, 16), br#"{"id":000000001}"#);
    }
}
