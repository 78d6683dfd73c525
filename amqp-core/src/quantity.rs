//! Sizes and fractions as operators write them: in files, and on the command line.

/// One, in the unit that fractions are kept in.
pub const WHOLE: u64 = 1_000_000;

/// Bytes: a whole number with one of RabbitMQ's units, or with none. `k`, `Ki`, `KiB` and their
/// like are powers of 1,024; `kB` and its like are powers of 1,000; capitals do not matter. `None`
/// for anything else, and for what 64 bits do not hold.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.to_ascii_lowercase();
    let bytes: u64 = match unit.as_str() {
        "" => 1,
        "k" | "ki" | "kib" => 1 << 10,
        "m" | "mi" | "mib" => 1 << 20,
        "g" | "gi" | "gib" => 1 << 30,
        "t" | "ti" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(bytes)
}

/// A number with or without a decimal point, in millionths ([`WHOLE`] is one). `None` for anything
/// else, and above a million.
#[must_use]
pub fn parse_fraction(text: &str) -> Option<u64> {
    let plain = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    if !text.bytes().all(plain) {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    // Rounded, not cut: 0.57 is no sum of halves.
    (number <= 1e6).then(|| (number * WHOLE as f64).round() as u64)
}

/// So many millionths of a number of bytes.
#[must_use]
pub fn part(millionths: u64, bytes: u64) -> u64 {
    let part = u128::from(millionths) * u128::from(bytes) / u128::from(WHOLE);
    u64::try_from(part).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_rabbitmqs_units() {
        let table = [
            ("0", Some(0)),
            ("50000000", Some(50_000_000)),
            ("1k", Some(1_024)),
            ("1kB", Some(1_000)),
            ("2KiB", Some(2_048)),
            ("512MiB", Some(512 << 20)),
            ("50MB", Some(50_000_000)),
            ("1GB", Some(1_000_000_000)),
            ("4G", Some(4 << 30)),
            ("1gib", Some(1 << 30)),
            ("3Ti", Some(3 << 40)),
            ("2TB", Some(2_000_000_000_000)),
            ("", None),
            ("MB", None),
            ("1.5GB", None),
            ("-1", None),
            ("1 GB", None),
            ("1b", None),
            ("99999999999999999999", None),
            ("18446744073709551615k", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_size(text), expected, "{text}");
        }
    }

    #[test]
    fn fractions_are_millionths() {
        let table = [
            ("0", Some(0)),
            ("0.0", Some(0)),
            ("0.6", Some(600_000)),
            ("0.57", Some(570_000)),
            ("1", Some(WHOLE)),
            ("2.5", Some(2_500_000)),
            ("1000001", None),
            ("", None),
            (".", None),
            ("-0.1", None),
            ("1e3", None),
            ("inf", None),
            ("0.4x", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_fraction(text), expected, "{text}");
        }
        assert_eq!(part(600_000, 1_000), 600);
        assert_eq!(part(0, u64::MAX), 0);
        assert_eq!(part(2 * WHOLE, u64::MAX), u64::MAX);
    }
}
