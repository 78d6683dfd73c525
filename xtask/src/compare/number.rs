//! Numbers as people read them, and the arithmetic of rounds.
//!
//! Owns medians and spreads. Knows no scenario.

/// The middle value, or the mean of the two in the middle; `None` of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(middle.checked_sub(1)?)?;
    Some(f64::midpoint(lower, upper))
}

/// Half the distance between the least and the most, in percent of the median; `None` of fewer
/// than two values or around 0.
pub(crate) fn spread_pct(values: &[f64]) -> Option<f64> {
    let middle = median(values)?;
    if values.len() < 2 || middle == 0.0 {
        return None;
    }
    Some((greatest(values)? - least(values)?) / 2.0 / middle.abs() * 100.0)
}

/// The least value; `None` of nothing.
pub(crate) fn least(values: &[f64]) -> Option<f64> {
    values.iter().copied().min_by(f64::total_cmp)
}

/// The greatest value; `None` of nothing.
pub(crate) fn greatest(values: &[f64]) -> Option<f64> {
    values.iter().copied().max_by(f64::total_cmp)
}

/// A figure: whole and grouped by thousands from 100 on, three digits below.
pub(crate) fn number(value: f64) -> String {
    if value.abs() >= 99.95 {
        return grouped(value);
    }
    let decimals = match value.abs() {
        0.0 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.9995 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// A multiple, with fewer digits the larger it is.
pub(crate) fn ratio(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.0995 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}×")
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    if value < 0.0 {
        text.push('-');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spreads() {
        let cases: &[(&[f64], Option<f64>, Option<f64>)] = &[
            (&[], None, None),
            (&[5.0], Some(5.0), None),
            (&[5.0, 3.0], Some(4.0), Some(25.0)),
            (&[9.0, 10.0, 12.0], Some(10.0), Some(15.0)),
            (&[3.0, 1.0, 2.0, 4.0], Some(2.5), Some(60.0)),
            (&[0.0, 0.0], Some(0.0), None),
            (&[-10.0, -8.0, -12.0], Some(-10.0), Some(20.0)),
        ];
        for (values, middle, spread) in cases {
            assert_eq!(median(values), *middle, "{values:?}");
            assert_eq!(spread_pct(values), *spread, "{values:?}");
        }
    }

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (0.0421, "0.042"),
            (1.0, "1.00"),
            (12.34, "12.3"),
            (99.96, "100"),
            (1_536.4, "1,536"),
            (1_234_567.0, "1,234,567"),
            (-1_000.0, "-1,000"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn ratios_are_short() {
        let cases = [
            (0.004, "0.004×"),
            (0.881, "0.88×"),
            (28.04, "28.0×"),
            (287.3, "287×"),
        ];
        for (value, text) in cases {
            assert_eq!(ratio(value), text);
        }
    }
}
