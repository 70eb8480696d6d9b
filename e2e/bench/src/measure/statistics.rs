//! Percentiles and medians.

/// The value that `share` of `values` (of 1) do not exceed: the nearest rank. Sorts them.
pub fn percentile(values: &mut [u32], share: f64) -> Option<u32> {
    values.sort_unstable();
    let rank = (share * values.len() as f64).ceil().max(1.0) as usize;
    values.get(rank - 1).copied()
}

/// The median: of an even number of values the mean of the two in the middle.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    let upper = values.len() / 2;
    let high = *values.get(upper)?;
    if values.len() % 2 == 1 {
        return Some(high);
    }
    Some(f64::midpoint(*values.get(upper - 1)?, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let mut values: Vec<u32> = (1..=100).rev().collect();
        for (share, wanted) in [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1), (0.001, 1)] {
            assert_eq!(percentile(&mut values, share), Some(wanted), "{share}");
        }
        assert_eq!(percentile(&mut [7], 0.99), Some(7));
        assert_eq!(percentile(&mut [], 0.5), None);
    }

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([]), None);
    }
}
