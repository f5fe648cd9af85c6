//! Sets of offsets, as ranges: what a log holds lies together, so a partition of millions costs a handful.

use std::{collections::BTreeMap, ops::Range};

/// Disjoint ranges that do not touch: start to end, the end excluded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ranges(BTreeMap<i64, i64>);

impl Ranges {
    /// Says whether the offset was new.
    pub(crate) fn insert(&mut self, offset: i64) -> bool {
        if self.contains(offset) {
            return false;
        }
        self.insert_all(offset..offset + 1);
        true
    }

    pub(crate) fn insert_all(&mut self, mut range: Range<i64>) {
        if range.is_empty() {
            return;
        }
        // Whatever begins before the end, or at it, and ends after the start, or at it, becomes one with the new range.
        while let Some((&start, &end)) = self.0.range(..=range.end).next_back() {
            if end < range.start {
                break;
            }
            self.0.remove(&start);
            range = start.min(range.start)..end.max(range.end);
        }
        self.0.insert(range.start, range.end);
    }

    pub(crate) fn remove_all(&mut self, range: Range<i64>) {
        if range.is_empty() {
            return;
        }
        while let Some((&start, &end)) = self.0.range(..range.end).next_back() {
            if end <= range.start {
                break;
            }
            self.0.remove(&start);
            if end > range.end {
                self.0.insert(range.end, end);
            }
            if start < range.start {
                self.0.insert(start, range.start);
            }
        }
    }

    pub(crate) fn contains(&self, offset: i64) -> bool {
        self.end_of(offset).is_some()
    }

    /// The end of the range that holds `offset`.
    fn end_of(&self, offset: i64) -> Option<i64> {
        self.0.range(..=offset).next_back().map(|(_, &end)| end).filter(|&end| offset < end)
    }

    /// The lowest offset of the set within `range`.
    pub(crate) fn first_in(&self, range: Range<i64>) -> Option<i64> {
        if range.is_empty() {
            return None;
        }
        if self.contains(range.start) { Some(range.start) } else { self.0.range(range).next().map(|(&start, _)| start) }
    }

    /// The lowest offset of the set within `range` that is in none of the `others`.
    pub(crate) fn first_beyond(&self, mut range: Range<i64>, others: &[&Self]) -> Option<i64> {
        while let Some(found) = self.first_in(range.clone()) {
            match others.iter().find_map(|other| other.end_of(found)) {
                Some(end) => range.start = end,
                None => return Some(found),
            }
        }
        None
    }

    /// The highest offset.
    pub(crate) fn last(&self) -> Option<i64> {
        self.0.last_key_value().map(|(_, &end)| end - 1)
    }

    /// The highest offset below `end`.
    pub(crate) fn last_below(&self, end: i64) -> Option<i64> {
        self.0.range(..end).next_back().map(|(_, &last)| last.min(end) - 1)
    }

    /// What of `range` is not in the set.
    pub(crate) fn gaps(&self, range: Range<i64>) -> impl Iterator<Item = Range<i64>> {
        let mut at = range.start;
        std::iter::from_fn(move || {
            at = self.end_of(at).unwrap_or(at);
            let until = self.0.range(at..range.end.max(at)).next().map_or(range.end, |(&start, _)| start);
            let gap = at..until;
            at = until;
            (!gap.is_empty()).then_some(gap)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Against a set of single offsets, with numbers from a small generator.
    #[test]
    fn ranges_are_the_set_that_a_set_would_be() {
        let mut state = 1_u64;
        let mut next = |limit: i64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 33) % limit as u64) as i64
        };
        let (mut ranges, mut others, mut set, mut other_set) =
            (Ranges::default(), Ranges::default(), BTreeSet::new(), BTreeSet::new());
        for _ in 0..20_000 {
            let (from, to) = (next(60), next(60));
            match next(8) {
                0 => {
                    ranges.insert_all(from..to);
                    set.extend(from..to);
                }
                1 => {
                    ranges.remove_all(from..to);
                    set.retain(|offset| !(from..to).contains(offset));
                }
                2 => assert_eq!(ranges.insert(from), set.insert(from)),
                3 => assert_eq!(others.insert(from), other_set.insert(from)),
                4 => {
                    others.remove_all(from..from + 9);
                    other_set.retain(|offset| !(from..from + 9).contains(offset));
                }
                _ => {}
            }
            assert_eq!(ranges.contains(from), set.contains(&from));
            assert_eq!(ranges.first_in(from..to), (from..to).find(|offset| set.contains(offset)));
            assert_eq!(ranges.last(), set.last().copied());
            assert_eq!(ranges.last_below(from), set.range(..from).next_back().copied());
            let beyond = (from..to).find(|offset| set.contains(offset) && !other_set.contains(offset));
            assert_eq!(ranges.first_beyond(from..to, &[&others]), beyond);
            let gaps: Vec<_> = ranges.gaps(from..to).flatten().collect();
            assert_eq!(gaps, (from..to).filter(|offset| !set.contains(offset)).collect::<Vec<_>>());
            let ends: Vec<_> = ranges.0.iter().collect();
            assert!(ends.windows(2).all(|pair| pair[0].1 < pair[1].0), "{ends:?} touch");
        }
    }
}
