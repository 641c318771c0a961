//! Shamir's sharing of secrets, in the form that SOPS has from Vault: a part is the values of one polynomial a byte at a
//! place, and that place behind them; arithmetic in GF(2^8) with AES' polynomial.

use zeroize::Zeroizing;

/// The secret of which these are parts. `None`: they cannot be parts of one.
pub(crate) fn combine(parts: &[Zeroizing<Vec<u8>>]) -> Option<Zeroizing<Vec<u8>>> {
    let length = parts.first()?.len();
    let places: Vec<u8> = parts.iter().filter_map(|part| part.last().copied()).collect();
    let is_distinct = places.iter().enumerate().all(|(i, place)| *place != 0 && !places[..i].contains(place));
    if parts.len() < 2 || length < 2 || parts.iter().any(|part| part.len() != length) || !is_distinct {
        return None;
    }
    // The value at 0 of the polynomial through all points, by Lagrange.
    let weights: Vec<u8> = places
        .iter()
        .enumerate()
        .map(|(i, own)| {
            let others = places.iter().enumerate().filter(|(j, _)| *j != i);
            others.fold(1, |weight, (_, other)| multiply(weight, divide(*other, *other ^ *own)))
        })
        .collect();
    let secret = (0..length - 1).map(|byte| {
        parts.iter().zip(&weights).fold(0, |sum, (part, weight)| sum ^ multiply(part[byte], *weight))
    });
    Some(Zeroizing::new(secret.collect()))
}

/// Parts of a secret, of which `threshold` give it: one for each of `places`, which are distinct and not 0. `random` draws bytes.
pub(crate) fn split(
    secret: &[u8],
    places: &[u8],
    threshold: usize,
    random: &mut dyn FnMut() -> u8,
) -> Vec<Zeroizing<Vec<u8>>> {
    let mut parts: Vec<Vec<u8>> = places.iter().map(|_| Vec::new()).collect();
    for byte in secret {
        let polynomial: Vec<u8> = std::iter::once(*byte).chain((1..threshold).map(|_| random())).collect();
        for (part, place) in parts.iter_mut().zip(places) {
            part.push(polynomial.iter().rev().fold(0, |value, factor| multiply(value, *place) ^ factor));
        }
    }
    parts.iter_mut().zip(places).for_each(|(part, place)| part.push(*place));
    parts.into_iter().map(Zeroizing::new).collect()
}

/// Takes the same time for all factors.
fn multiply(a: u8, b: u8) -> u8 {
    let (mut a, mut product) = (a, 0);
    for bit in 0..8 {
        product ^= a & 0u8.wrapping_sub((b >> bit) & 1);
        a = (a << 1) ^ (0x1b & 0u8.wrapping_sub(a >> 7));
    }
    product
}

/// `b` is not 0: its inverse is its power of 254.
fn divide(a: u8, b: u8) -> u8 {
    let squares = (1..8).scan(b, |power, _| {
        *power = multiply(*power, *power);
        Some(*power)
    });
    multiply(a, squares.fold(1, multiply))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_parts_as_the_threshold_give_the_secret_and_fewer_do_not() {
        let secret: Vec<u8> = (0..=255).collect();
        let mut state = 7u8;
        let mut random = || {
            state = state.wrapping_mul(13).wrapping_add(101);
            state
        };
        let parts = split(&secret, &[5, 200, 17], 2, &mut random);
        for pair in [[0, 1], [1, 2], [2, 0]] {
            let some: Vec<_> = pair.iter().map(|i| parts[*i].clone()).collect();
            assert_eq!(*combine(&some).unwrap(), secret);
        }
        assert_eq!(*combine(&parts).unwrap(), secret);
        assert_eq!(combine(&parts[..1]), None);
        let twice = [parts[0].clone(), parts[0].clone()];
        assert_eq!(combine(&twice), None);
        let three = split(&secret, &[1, 2, 3], 3, &mut random);
        assert_ne!(*combine(&three[..2]).unwrap(), secret);
    }

    #[test]
    fn arithmetic_is_that_of_aes() {
        assert_eq!(multiply(0x57, 0x83), 0xc1);
        for a in 0..=255 {
            for b in 1..=255 {
                assert_eq!(multiply(divide(a, b), b), a);
            }
        }
    }
}
