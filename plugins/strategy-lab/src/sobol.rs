//! Sobol's sequence: points that fill a space evenly, however many of them are taken.
//!
//! The numbers are `new-joe-kuo-6.21201` of S. Joe and F. Y. Kuo, Constructing Sobol sequences with better two-dimensional
//! projections, SIAM Journal on Scientific Computing 30 (2008), 2635-2654; the order of the points is the Gray code of
//! I. A. Antonov and V. M. Saleev (1979). The first point is the origin, so that the first 2^k points are balanced.
//!
//! Invariant: of the first 2^k points, each of the 2^k equal intervals of a coordinate has exactly one.

/// How many coordinates a point may have.
pub(crate) const MAX_DIMENSIONS: usize = DIRECTIONS.len() + 1;
/// Bits of a coordinate.
const BITS: usize = 32;

/// Of the second coordinate and those after it: the inner coefficients of the primitive polynomial as bits, and the first
/// numbers m, as many as its degree. The first coordinate is van der Corput's sequence.
const DIRECTIONS: [(u32, &[u32]); 9] = [
    (0, &[1]),
    (1, &[1, 3]),
    (1, &[1, 3, 1]),
    (2, &[1, 1, 1]),
    (1, &[1, 1, 3, 3]),
    (4, &[1, 3, 5, 13]),
    (2, &[1, 1, 5, 5, 17]),
    (4, &[1, 1, 5, 5, 5]),
    (7, &[1, 1, 7, 11, 19]),
];

/// The sequence. Coordinates are fractions of 2^32.
#[derive(Debug, Clone)]
pub(crate) struct Sobol {
    /// Direction numbers of each coordinate.
    directions: Vec<[u32; BITS]>,
    next: Option<Vec<u32>>,
    /// How many points were given.
    given: u32,
}

impl Sobol {
    /// `None` for more than [`MAX_DIMENSIONS`] coordinates.
    pub(crate) fn new(dimensions: usize) -> Option<Self> {
        if dimensions > MAX_DIMENSIONS {
            return None;
        }
        let first = std::iter::once(van_der_corput());
        let others = DIRECTIONS.iter().map(|(inner, m)| directions(*inner, m));
        Some(Self {
            directions: first.chain(others).take(dimensions).collect(),
            next: Some(vec![0; dimensions]),
            given: 0,
        })
    }
}

impl Iterator for Sobol {
    type Item = Vec<u32>;

    fn next(&mut self) -> Option<Vec<u32>> {
        let point = self.next.take()?;
        // The one bit in which the next number of the Gray code differs.
        let changed = usize::try_from(self.given.trailing_ones()).unwrap_or(BITS);
        let coordinates = point.iter().zip(&self.directions);
        self.next = coordinates
            .map(|(at, directions)| Some(at ^ directions.get(changed)?))
            .collect();
        self.given = self.given.saturating_add(1);
        Some(point)
    }
}

fn van_der_corput() -> [u32; BITS] {
    std::array::from_fn(|bit| (1 << 31) >> bit)
}

/// The direction numbers of a coordinate, by the recurrence of its polynomial.
fn directions(inner: u32, m: &[u32]) -> [u32; BITS] {
    let degree = m.len();
    let mut found = [0_u32; BITS];
    for bit in 0..BITS {
        let direction = match (m.get(bit), bit.checked_sub(degree)) {
            (Some(m), _) => m << (31 - bit),
            (None, Some(before)) => {
                let oldest = found.get(before).copied().unwrap_or_default();
                let mut direction = oldest ^ (oldest >> degree);
                for back in 1..degree {
                    if inner >> (degree - 1 - back) & 1 == 1 {
                        direction ^= found.get(bit - back).copied().unwrap_or_default();
                    }
                }
                direction
            }
            (None, None) => 0,
        };
        if let Some(place) = found.get_mut(bit) {
            *place = direction;
        }
    }
    found
}

/// The position among `count` equal parts in which a coordinate is.
pub(crate) fn part(coordinate: u32, count: usize) -> usize {
    let count = u64::try_from(count).unwrap_or(u64::MAX).min(1 << 32);
    usize::try_from((u64::from(coordinate) * count) >> 32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// From SciPy 1's `scipy.stats.qmc.Sobol(d=10, scramble=False, bits=32)`, which has the same table.
    #[test]
    fn the_points_are_those_of_another_implementation() {
        let points: Vec<Vec<u32>> = Sobol::new(10).unwrap().take(1024).collect();
        for (number, expected) in [
            (0, [0; 10]),
            (1, [1 << 31; 10]),
            (
                5,
                [
                    3758096384, 3758096384, 536870912, 1610612736, 3758096384, 2684354560,
                    3758096384, 1610612736, 1610612736, 536870912,
                ],
            ),
            (
                15,
                [
                    268435456, 4026531840, 2415919104, 1342177280, 2952790016, 805306368,
                    3489660928, 1342177280, 1342177280, 2952790016,
                ],
            ),
            (
                777,
                [
                    2973761536, 4022337536, 700448768, 1178599424, 2730491904, 1530920960,
                    817889280, 3275751424, 1497366528, 1388314624,
                ],
            ),
            (
                1000,
                [
                    943718400, 415236096, 2227175424, 2906652672, 1203765248, 3896508416,
                    197132288, 3862953984, 2151677952, 297795584,
                ],
            ),
        ] {
            assert_eq!(points[number], expected, "{number}");
        }
    }

    /// Sobol's property A, which Joe and Kuo's table has.
    #[test]
    fn every_corner_of_the_space_gets_one_of_the_first_points() {
        for dimensions in 1..=MAX_DIMENSIONS {
            let corners: BTreeSet<Vec<bool>> = Sobol::new(dimensions)
                .unwrap()
                .take(1 << dimensions)
                .map(|point| point.iter().map(|it| *it >= 1 << 31).collect())
                .collect();
            assert_eq!(corners.len(), 1 << dimensions);
        }
    }

    #[test]
    fn there_are_as_many_coordinates_as_asked_for() {
        assert!(Sobol::new(11).is_none());
        assert_eq!(Sobol::new(0).unwrap().take(3).count(), 3);
        assert_eq!(Sobol::new(3).unwrap().next(), Some(vec![0, 0, 0]));
    }

    #[test]
    fn a_coordinate_is_in_one_of_equal_parts() {
        assert_eq!((part(0, 3), part(u32::MAX, 3), part(1 << 31, 4)), (0, 2, 2));
        assert_eq!(part(u32::MAX, 0), 0);
    }

    proptest! {
        #[test]
        fn each_interval_of_a_coordinate_has_one_point(dimensions in 1usize..=MAX_DIMENSIONS, k in 0u32..9) {
            let points: Vec<Vec<u32>> = Sobol::new(dimensions).unwrap().take(1 << k).collect();
            for coordinate in 0..dimensions {
                let parts: BTreeSet<usize> = points.iter().map(|it| part(it[coordinate], 1 << k)).collect();
                prop_assert_eq!(parts.len(), 1 << k);
            }
        }

        #[test]
        fn a_part_is_one_of_them(coordinate: u32, count in 1usize..100_000) {
            prop_assert!(part(coordinate, count) < count);
        }
    }
}
