//! Zigzag varints, as they stand in records.

/// Reads a varint at `at` and steps over it; `None` when the bytes end first, or it has more than 64 bits.
#[inline(always)]
pub(super) fn varint(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let first = *bytes.get(*at)?;
    if first < 0x80 {
        *at += 1;
        return Some(unzigzag(u64::from(first)));
    }
    let second = *bytes.get(*at + 1)?;
    if second < 0x80 {
        *at += 2;
        return Some(unzigzag(u64::from(first & 0x7f) | u64::from(second) << 7));
    }
    varint_long(bytes, at)
}

#[inline(never)]
fn varint_long(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if shift == 63 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(unzigzag(value));
        }
    }
    None
}

#[inline(always)]
fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::records::encode::put_varint;

    fn check(value: i64) {
        let mut bytes = vec![0xaa];
        put_varint(&mut bytes, value);
        let mut at = 1;
        assert_eq!(varint(&bytes, &mut at), Some(value));
        assert_eq!(at, bytes.len());
        for end in 1..bytes.len() {
            assert_eq!(varint(&bytes[..end], &mut 1), None, "cut at {end}");
        }
    }

    #[test]
    fn round_trip_at_the_edges_of_each_length() {
        for bits in 0..64 {
            for near in [-1, 0, 1] {
                let value = (1i64 << bits).wrapping_add(near);
                check(value);
                check(value.wrapping_neg());
            }
        }
    }

    #[test]
    fn more_than_64_bits_are_refused() {
        let mut bytes = [0xff; 10];
        bytes[9] = 0x02;
        assert_eq!(varint(&bytes, &mut 0), None);
        assert_eq!(varint(&[0xff; 11], &mut 0), None);
    }

    proptest! {
        #[test]
        fn round_trip(value: i64) {
            check(value);
        }
    }
}
