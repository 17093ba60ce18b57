//! Quantities of Kubernetes (`1.5Gi`, `100M`, `1e3`), to be compared.

const SUFFIXES: [(&str, u128); 16] = [
    ("", 1_000_000_000),
    ("n", 1),
    ("u", 1_000),
    ("m", 1_000_000),
    ("k", 1_000_000_000_000),
    ("M", 1_000_000_000 * 1_000_000),
    ("G", 1_000_000_000 * 1_000_000_000),
    ("T", 1_000_000_000 * 1_000_000_000_000),
    ("P", 1_000_000_000 * 1_000_000_000_000_000),
    ("E", 1_000_000_000 * 1_000_000_000_000_000_000),
    ("Ki", 1_000_000_000 << 10),
    ("Mi", 1_000_000_000 << 20),
    ("Gi", 1_000_000_000 << 30),
    ("Ti", 1_000_000_000 << 40),
    ("Pi", 1_000_000_000 << 50),
    ("Ei", 1_000_000_000 << 60),
];

/// In billionths, the smallest part that a quantity can have. None for what is no quantity, negative, or beyond
/// all volumes.
pub(super) fn nanos(text: &str) -> Option<u128> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits: u128 = format!("{whole}{part}").parse().ok()?;
    let places = u32::try_from(part.len()).ok()?;
    let scaled = digits.checked_mul(unit(suffix)?)?;
    Some(scaled / 10_u128.checked_pow(places)?)
}

fn unit(suffix: &str) -> Option<u128> {
    if let Some((_, unit)) = SUFFIXES.iter().find(|(known, _)| *known == suffix) {
        return Some(*unit);
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    10_u128.checked_pow(u32::try_from(exponent.checked_add(9)?).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_has_one_value_whatever_way_it_is_written() {
        for (left, right) in [
            ("1Gi", "1073741824"),
            ("1.5Gi", "1536Mi"),
            ("1G", "1000M"),
            ("1e3", "1k"),
            ("2E3", "2000"),
            (".5k", "500"),
            ("1", "1000m"),
            ("1500000u", "1.5"),
            ("+1Ki", "1024"),
            ("10Ti", "10240Gi"),
        ] {
            assert!(nanos(left).is_some() && nanos(left) == nanos(right), "{left} {right}");
        }
        assert!(nanos("1Gi") > nanos("1G"));
    }

    #[test]
    fn what_is_no_quantity_has_no_value() {
        for text in [
            "",
            "Gi",
            "1 Gi",
            "1gi",
            "-1",
            "1.2.3",
            "1e",
            "1e99",
            "1e2147483647",
            "99999999999999999999999Ei",
        ] {
            assert_eq!(nanos(text), None, "{text}");
        }
    }
}
